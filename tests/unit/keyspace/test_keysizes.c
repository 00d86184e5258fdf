/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The counts of keys by size, against a walk over all keys, under random writes with live
 * snapshots.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/number.h"
#include "keyspace/keyspace.h"
#include "type/hash.h"
#include "type/list.h"
#include "type/set.h"
#include "type/string.h"
#include "unit/random.h"

#define DBS 2
#define KEYS 12

/* Every number has the bin of its decimal form, at the powers of ten above all. */
static void test_numbers(void **state)
{
    (void)state;
    random_begin();
    for (int i = 0; i < 20000; i++) {
        int64_t v = (int64_t)(random_bits() >> random_below(64));
        if (i < 400) {
            uint64_t power = 1;
            for (int k = 0; k < i / 20; k++)
                power *= 10;
            v = (int64_t)(power + random_below(3) - 1);
        }
        v = random_below(2) ? (int64_t)(0 - (uint64_t)v) : v;
        char text[NUMBER_INT64_SIZE];
        unsigned bin = keysizes_bin(number_format_int64(text, v));
        if (keysizes_bin_of_int(v) != bin)
            fail_msg("%" PRId64 " is in bin %u, not %u", v, keysizes_bin_of_int(v), bin);
    }
    assert_int_equal(keysizes_bin_of_int(INT64_MIN), keysizes_bin(20));
    for (uint64_t a = 0; a < 70; a++) {
        for (uint64_t b = 0; b < 70; b++)
            assert_int_equal(keysizes_alike(a, b), keysizes_bin(a) == keysizes_bin(b));
    }
}

static uint64_t length(const struct entry *e)
{
    switch (entry_type(e)) {
    case ENTRY_STRING:
        return string_size(e);
    case ENTRY_LIST:
        return list_count(e);
    case ENTRY_SET:
        return set_count(e);
    default:
        return hash_count(e);
    }
}

static bool count_item(void *ctx, void *item)
{
    struct keysizes *sizes = ctx;
    sizes->counts[entry_type(item)][keysizes_bin(length(item))]++;
    return true;
}

static void check(struct keyspace *ks)
{
    for (int i = 0; i < DBS; i++) {
        struct keysizes found = {0};
        bool done = false;
        for (uint64_t at = 0; !done;)
            at = table_walk(&ks->dbs[i].table, at, UINT64_MAX, 64, count_item, &found, &done);
        assert_memory_equal(&found, db_keysizes(&ks->dbs[i]), sizeof(found));
    }
}

static void find(struct keyref *ref, struct keyspace *ks, char key[16])
{
    snprintf(key, 16, "k%u", (unsigned)random_below(KEYS));
    struct slice name = slice_of(key, strlen(key));
    keyref_find(ref, &ks->dbs[random_below(DBS)], name, key_hash(name));
}

static bool has(const struct keyref *ref, enum entry_type type)
{
    return ref->entry != NULL && entry_type(ref->entry) == type;
}

/* May add to the value, whatever there was of another type goes. */
static void grow(struct keyref *ref)
{
    enum { TYPES = 4 };
    static const enum entry_type types[TYPES] = {ENTRY_STRING, ENTRY_LIST, ENTRY_SET, ENTRY_HASH};
    static char bytes[10000];
    enum entry_type type = types[random_below(TYPES)];
    char text[32];
    snprintf(text, sizeof(text), random_below(2) ? "%u" : "m%u", (unsigned)random_below(300));
    struct slice item = slice_of(text, strlen(text));
    if (type != ENTRY_STRING && ref->entry != NULL && !has(ref, type))
        keyref_delete(ref);
    uint64_t many = random_below(4) ? 1 : random_below(200);
    int64_t result;
    switch (type) {
    case ENTRY_STRING:
        if (random_below(2) == 0)
            string_set_int64(ref, (int64_t)(random_bits() >> random_below(64)), ENTRY_NO_EXPIRY);
        else if (random_below(2) || (ref->entry != NULL && !has(ref, type)))
            string_set(ref, slice_of(bytes, random_below(random_below(8) ? 60 : sizeof(bytes))),
                       random_below(2) ? ENTRY_NO_EXPIRY : 1000000);
        else if (random_below(2))
            string_write(ref, random_below(100), item);
        else
            string_incr(ref, (int64_t)(random_bits() >> random_below(64)), &result);
        break;
    case ENTRY_LIST:
        for (; many > 0; many--)
            list_push(ref, LIST_TAIL, &item, 1);
        break;
    case ENTRY_SET:
        for (; many > 0; many--) {
            snprintf(text, sizeof(text), "%u", (unsigned)random_below(1000));
            set_add(ref, slice_of(text, strlen(text)));
        }
        set_add(ref, item);
        break;
    default:
        for (; many > 0; many--) {
            snprintf(text, sizeof(text), "f%u", (unsigned)random_below(1000));
            hash_set(ref, slice_of(text, strlen(text)), item);
        }
        break;
    }
}

static void ignore(void *ctx, struct slice item)
{
    (void)ctx;
    (void)item;
}

static void ignore_member(void *ctx, const struct dict_item *item)
{
    (void)ctx;
    (void)item;
}

static void shrink(struct keyref *ref)
{
    if (has(ref, ENTRY_LIST)) {
        uint64_t left = list_count(ref->entry);
        list_pop(ref, LIST_HEAD, 1 + random_below(left), ignore, NULL);
    } else if (has(ref, ENTRY_SET)) {
        set_pop(ref, 1 + random_below(set_count(ref->entry)), ignore_member, NULL);
    } else if (has(ref, ENTRY_HASH)) {
        char text[16];
        for (int i = 0; i < 50 && ref->entry != NULL; i++) {
            snprintf(text, sizeof(text), "f%u", (unsigned)random_below(1000));
            hash_delete(ref, slice_of(text, strlen(text)));
        }
    } else if (ref->entry != NULL) {
        keyref_delete(ref);
    }
}

static void one_step(struct keyspace *ks)
{
    struct keyref ref, other;
    char key[16], second[16];
    find(&ref, ks, key);
    switch (random_below(12)) {
    case 0:
        shrink(&ref);
        break;
    case 1:
        find(&other, ks, second);
        if (ref.entry != NULL && other.entry == NULL) {
            struct entry *e = keyref_take(&ref);
            keyref_give(&other, e);
        }
        break;
    case 2:
        find(&other, ks, second);
        if (ref.entry != NULL && other.entry != ref.entry)
            keyref_copy_from(&other, ref.entry, ENTRY_NO_EXPIRY);
        break;
    case 3:
        if (ref.entry != NULL)
            keyref_set_due(&ref, random_below(2) ? 1000000 : ENTRY_NO_EXPIRY);
        break;
    case 4:
        if (random_below(20) == 0)
            keyspace_swap(ks, 0, 1);
        if (random_below(50) == 0)
            db_flush(&ks->dbs[random_below(DBS)]);
        break;
    default:
        grow(&ref);
        break;
    }
}

/* Random writes to strings, lists, sets and hashes of two databases; snapshots come and go. */
static void test_random(void **state)
{
    (void)state;
    random_begin();
    struct keyspace *ks = keyspace_new(DBS, false);
    struct snapshot *snapshot = NULL;
    for (int i = 0; i < 20000; i++) {
        one_step(ks);
        if (i % 7 == 0)
            check(ks);
        if (random_below(50) == 0) {
            if (snapshot != NULL)
                snapshot_end(ks, snapshot);
            snapshot = snapshot == NULL ? snapshot_begin(ks) : NULL;
        }
    }
    if (snapshot != NULL)
        snapshot_end(ks, snapshot);
    check(ks);
    keyspace_flush(ks);
    check(ks);
    keyspace_free(ks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
