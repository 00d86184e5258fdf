/* SPDX-License-Identifier: BSD-3-Clause */
#include "type/digest.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "type/hash.h"
#include "type/list.h"
#include "type/set.h"
#include "type/string.h"
#include "type/zset.h"

static struct keyspace *ks;

static void find(struct keyref *ref, int db, const char *key)
{
    struct slice k = slice_cstr(key);
    keyref_find(ref, &ks->dbs[db], k, key_hash(k));
}

static void fill(void)
{
    struct keyref ref;
    find(&ref, 0, "foo");
    string_set(&ref, SLICE("bar"), ENTRY_NO_EXPIRY);
    find(&ref, 0, "n");
    string_set(&ref, SLICE("5"), ENTRY_NO_EXPIRY);
    find(&ref, 0, "e");
    string_set(&ref, SLICE("x"), 33177117420000);
    find(&ref, 3, "o");
    string_set(&ref, SLICE("p"), ENTRY_NO_EXPIRY);
    struct slice items[] = {SLICE("a"), SLICE("b"), SLICE("10")};
    find(&ref, 0, "l");
    list_push(&ref, LIST_TAIL, items, 3);
    find(&ref, 0, "s");
    set_add(&ref, SLICE("1"));
    set_add(&ref, SLICE("2"));
    set_add(&ref, SLICE("x"));
    find(&ref, 0, "z");
    double score;
    zset_add(&ref, SLICE("a"), 1, 0, &score);
    zset_add(&ref, SLICE("b"), 2.5, 0, &score);
    zset_add(&ref, SLICE("c"), -HUGE_VAL, 0, &score);
    zset_add(&ref, SLICE("d"), 3, 0, &score);
    find(&ref, 0, "h");
    hash_set(&ref, SLICE("f"), SLICE("v"));
    hash_set(&ref, SLICE("1"), SLICE("2"));
}

static void assert_value(const char *key, const char *want)
{
    struct digest d = {{0}};
    char hex[2 * DIGEST_SIZE + 1];
    struct slice k = slice_cstr(key);
    const struct entry *e = db_find(&ks->dbs[0], k, key_hash(k));
    assert_non_null(e);
    digest_value(&d, e);
    digest_to_hex(&d, hex);
    assert_string_equal(hex, want);
}

/* The digests that redis-server 7.0.15 gave for the same values. */
static void test_values(void **state)
{
    (void)state;
    assert_value("foo", "68467c70ae30376e7ce005bcc8827f5ba7fd67dc");
    assert_value("n", "f8c2498ca74cdde7d02de23246736a661485b50e");
    assert_value("l", "fc505d38f0c81be3be0de6ee5a7e33ff54bba1f2");
    assert_value("s", "4c6eef6b7853d1b76391c849d71b0d35d3faf18f");
    assert_value("z", "b0c1e7e8629966fb2d7119013000ef819bbbb7a7");
    assert_value("h", "78186da816517abac4ec4b92f608dd6059a76ae9");
    assert_value("e", "0745672cb1bf060476eedeb8a28f5ffe1ff5a2be");
}

/* The same for all databases, of which two hold keys. */
static void test_keyspace(void **state)
{
    (void)state;
    struct digest d = {{0}};
    char hex[2 * DIGEST_SIZE + 1];
    digest_keyspace(&d, ks);
    digest_to_hex(&d, hex);
    assert_string_equal(hex, "48e9b22e5805cbd0bb02d9be6d06c40acf82d26f");
    keyspace_flush(ks);
    d = (struct digest){{0}};
    digest_keyspace(&d, ks);
    digest_to_hex(&d, hex);
    assert_string_equal(hex, "0000000000000000000000000000000000000000");
}

int main(void)
{
    ks = keyspace_new(16, false);
    ks->now_ms = 1;
    ks->string_size_max = 512 << 20;
    fill();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_keyspace),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    keyspace_free(ks);
    return failed;
}
