/* SPDX-License-Identifier: BSD-3-Clause
 *
 * PFADD, PFCOUNT, PFMERGE, PFDEBUG, PFSELFTEST.
 *
 * PFCOUNT keeps the cardinality that it has computed in the value, as Redis does. It is no command
 * that writes all the same; its effect is the SETRANGE of those eight bytes. While changes are held
 * back (CLIENT PAUSE, on a replica) it computes without keeping. redis-server sends it to replicas
 * as it is when it has kept something, so that they have to keep it too.
 */
#include <math.h>

#include "base/mem.h"
#include "base/text.h"
#include "command/string_common.h"
#include "handlers.h"
#include "type/hyperloglog.h"

/* Whether a string that was found is an HLL; NULL passes. */
static bool check(struct call *c, const struct entry *e)
{
    if (e == NULL || hll_check(e))
        return true;
    reply_error(c->reply, "WRONGTYPE Key is not a valid HyperLogLog string value.");
    return false;
}

static void reply_damaged(struct call *c)
{
    reply_error(c->reply, "INVALIDOBJ Corrupted HLL object detected");
}

void cmd_pfadd(struct call *c)
{
    struct keyref ref;
    if (!call_find_write(c, c->argv[1], ENTRY_STRING, &ref) || !check(c, ref.entry))
        return;
    bool is_new = ref.entry == NULL, changed;
    if (is_new)
        hll_create(&ref);
    else if (!(ref.entry->flags & ENTRY_GROWN))
        /* To Redis it is changed in part even where nothing of it changes. */
        keyref_own(&ref)->flags |= ENTRY_GROWN;
    enum hll_result result = hll_add(&ref, c->argv + 2, (size_t)c->argc - 2, &changed);
    /* What was changed before damage was met stays, and so is an effect. */
    if (changed || is_new) {
        hll_void_cache(&ref);
        string_changed(c, ref.key, is_new, "pfadd");
    }
    if (result == HLL_DAMAGED)
        reply_damaged(c);
    else
        reply_int(c->reply, changed || is_new);
}

/* ---- PFCOUNT, PFMERGE ---- */

static void keep_cardinality(struct call *c, uint64_t cardinality)
{
    struct keyref ref;
    keyref_find(&ref, c->db, c->argv[1], call_hash(c, c->argv[1]));
    if (ref.entry == NULL)
        return;
    hll_set_cached(&ref, cardinality);
    call_changed(c, c->db, ref.key, EVENT_STRING, NULL, 1);
    char bytes[8];
    string_read(ref.entry, 8, bytes, sizeof(bytes));
    CALL_EFFECT(c, c->db, SLICE("SETRANGE"), ref.key, SLICE("8"), slice_of(bytes, sizeof(bytes)));
}

static void count_one(struct call *c)
{
    struct entry *e;
    uint64_t cardinality = 0;
    if (!call_find(c, c->argv[1], ENTRY_STRING, &e) || !check(c, e))
        return;
    if (e != NULL && !hll_cached(e, &cardinality)) {
        if (!hll_count(e, &cardinality)) {
            reply_damaged(c);
            return;
        }
        if (c->replays || !c->ks->lazy_expire_paused)
            keep_cardinality(c, cardinality);
    }
    reply_int(c->reply, (int64_t)cardinality);
}

/* Merge the keys from argv[1] on; *dense (may be NULL): whether one of them is. False: an error was
 * replied. */
static bool merge_keys(struct call *c, uint8_t registers[HLL_REGISTERS], bool *dense)
{
    memset(registers, 0, HLL_REGISTERS);
    for (int i = 1; i < c->argc; i++) {
        struct entry *e;
        if (!call_find(c, c->argv[i], ENTRY_STRING, &e) || !check(c, e))
            return false;
        if (e == NULL)
            continue;
        if (dense != NULL)
            *dense |= hll_is_dense(e);
        if (!hll_merge_into(registers, e)) {
            reply_damaged(c);
            return false;
        }
    }
    return true;
}

void cmd_pfcount(struct call *c)
{
    uint8_t registers[HLL_REGISTERS];
    if (c->argc == 2)
        count_one(c);
    else if (merge_keys(c, registers, NULL))
        reply_int(c->reply, (int64_t)hll_estimate(registers));
}

void cmd_pfmerge(struct call *c)
{
    uint8_t registers[HLL_REGISTERS];
    bool dense = false;
    struct keyref ref;
    if (!merge_keys(c, registers, &dense) ||
        !call_find_write(c, c->argv[1], ENTRY_STRING, &ref))
        return;
    bool is_new = ref.entry == NULL;
    if (is_new)
        hll_create(&ref);
    /* The key itself was merged above, so that it is not damaged. */
    if (hll_raise(&ref, registers, dense) == HLL_DAMAGED) {
        reply_damaged(c);
        return;
    }
    string_changed(c, ref.key, is_new, "pfadd");
    reply_ok(c->reply);
}

/* ---- PFDEBUG, PFSELFTEST ---- */

static void add_run(void *ctx, enum hll_run kind, unsigned value, unsigned length)
{
    struct text *t = ctx;
    const char *blank = t->size ? " " : "";
    if (kind == HLL_RUN_VALUE)
        text_appendf(t, "%sv:%u,%u", blank, value, length);
    else
        text_appendf(t, "%s%c:%u", blank, kind == HLL_RUN_ZERO ? 'z' : 'Z', length);
}

static void debug_decode(struct call *c, const struct entry *e)
{
    if (hll_is_dense(e)) {
        reply_error(c->reply, "ERR HLL encoding is not sparse");
        return;
    }
    struct text t = {0};
    if (hll_visit_runs(e, add_run, &t))
        reply_bulk(c->reply, slice_of(text_cstr(&t), t.size));
    else
        reply_damaged(c);
    text_free(&t);
}

/* Returns false when an error was replied. */
static bool debug_make_dense(struct call *c, struct keyref *ref, bool *was_sparse)
{
    enum hll_result result = hll_make_dense(ref);
    *was_sparse = result == HLL_CHANGED;
    if (result == HLL_DAMAGED)
        reply_damaged(c);
    else if (*was_sparse)
        call_changed_aside(c, c->db, ref->key, EVENT_STRING, NULL, 1);
    return result != HLL_DAMAGED;
}

static void debug_registers(struct call *c, struct keyref *ref)
{
    uint8_t registers[HLL_REGISTERS] = {0};
    bool was_sparse;
    if (!debug_make_dense(c, ref, &was_sparse) || !hll_merge_into(registers, ref->entry))
        return;
    reply_array(c->reply, HLL_REGISTERS);
    for (unsigned i = 0; i < HLL_REGISTERS; i++)
        reply_int(c->reply, registers[i]);
}

void cmd_pfdebug(struct call *c)
{
    struct keyref ref;
    struct slice what = c->argv[1];
    call_find_write_any(c, c->argv[2], &ref);
    if (ref.entry == NULL) {
        reply_error(c->reply, "ERR The specified key does not exist");
        return;
    }
    if (entry_type(ref.entry) != ENTRY_STRING) {
        reply_wrong_type(c->reply);
        return;
    }
    if (!check(c, ref.entry))
        return;
    /* Redis takes it as changed in part, as PFADD does, whatever comes of it. */
    if (!(ref.entry->flags & ENTRY_GROWN))
        keyref_own(&ref)->flags |= ENTRY_GROWN;
    bool was_sparse;
    if (slice_is(what, "getreg")) {
        debug_registers(c, &ref);
    } else if (slice_is(what, "decode")) {
        debug_decode(c, ref.entry);
    } else if (slice_is(what, "encoding")) {
        reply_simple(c->reply, hll_is_dense(ref.entry) ? "dense" : "sparse");
    } else if (slice_is(what, "todense")) {
        if (debug_make_dense(c, &ref, &was_sparse))
            reply_int(c->reply, was_sparse);
    } else {
        reply_errorf(c->reply, "ERR Unknown PFDEBUG subcommand '%.*s'", (int)what.size, what.data);
    }
}

/* As many different elements as it takes to see that the estimates are where they should be: within
 * four and a half standard errors (1.04 / sqrt(16384)), which one in 100,000 is not. The elements
 * are always the same, so the outcome is, too. */
#define SELF_TEST_ELEMENTS 100000

void cmd_pfselftest(struct call *c)
{
    uint8_t registers[HLL_REGISTERS] = {0}, value;
    for (uint64_t i = 1, next = 1; i <= SELF_TEST_ELEMENTS; i++) {
        unsigned at = hll_register_of(slice_of(&i, sizeof(i)), &value);
        registers[at] = registers[at] > value ? registers[at] : value;
        if (i != next)
            continue;
        next *= 10;
        double error = fabs((double)hll_estimate(registers) - (double)i);
        double allowed = 4.5 * 1.04 / sqrt(HLL_REGISTERS) * (double)i;
        if (error > (allowed < 1 ? 0 : allowed)) {
            reply_errorf(c->reply, "ERR TESTFAILED %llu elements are estimated wrong by %.0f",
                         (unsigned long long)i, error);
            return;
        }
    }
    reply_ok(c->reply);
}
