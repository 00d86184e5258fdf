/* SPDX-License-Identifier: BSD-3-Clause
 *
 * When fields of hashes expire: HEXPIRE and its relatives, HTTL and its relatives, HPERSIST, and
 * the commands that get or set fields and their expiry at once. As Redis 7.4 and 8.0 have them.
 *
 * Effects have absolute times: HPEXPIREAT, HPERSIST, HSETEX with PXAT; a time that is past removes
 * the fields, and is HDEL.
 */
#include "base/mem.h"
#include "command/expire_args.h"
#include "command/hash_common.h"

/* Redis keeps 46 bits of milliseconds: no later time is taken. */
#define FIELD_DUE_MAX ((INT64_C(1) << 46) - 1)

static const char *const no_fields =
    "ERR Mandatory argument FIELDS is missing or not at the right position";
static const char *const wrong_count =
    "ERR The `numfields` parameter must match the number of arguments";
static const char *const no_count = "ERR Number of fields must be a positive integer";

/* FIELDS numfields field ..., from argv[at] to the end. *first: of the fields. */
static bool parse_fields(struct call *c, int at, const char *bad_count, int *first)
{
    int64_t count;
    if (at >= c->argc || !slice_is(c->argv[at], "fields")) {
        reply_error(c->reply, no_fields);
        return false;
    }
    if (at + 1 >= c->argc) {
        reply_error(c->reply, wrong_count);
        return false;
    }
    if (!call_int64_range(c, c->argv[at + 1], 1, INT64_MAX, &count, bad_count))
        return false;
    *first = at + 2;
    if (count != c->argc - *first) {
        reply_error(c->reply, wrong_count);
        return false;
    }
    return true;
}

/* The moment when fields are due, from the time as it was given. */
static bool parse_due(struct call *c, struct slice time, bool seconds, int64_t base, int64_t *due)
{
    int64_t value;
    if (!call_int64(c, time, &value, NULL))
        return false;
    if (value < 0) {
        reply_error(c->reply, "ERR invalid expire time, must be >= 0");
        return false;
    }
    int64_t unit = seconds ? 1000 : 1;
    if (value > FIELD_DUE_MAX / unit || value * unit > FIELD_DUE_MAX - base) {
        reply_errorf(c->reply, "ERR invalid expire time in '%s' command", c->command->full_name);
        return false;
    }
    *due = value * unit + base;
    return true;
}

static bool args_due(struct call *c, const struct expire_args *args, int64_t *due)
{
    bool seconds = args->option & (EXPIRE_EX | EXPIRE_EXAT);
    int64_t base = args->option & (EXPIRE_EX | EXPIRE_PX) ? c->now_ms : 0;
    return parse_due(c, args->time, seconds, base, due);
}

/* HPEXPIREAT of so many fields; HDEL of them. */
static void effect_due(struct call *c, const struct keyref *ref, int64_t due,
                       const struct slice *fields, uint64_t n)
{
    if (c->stream == NULL)
        return;
    char time[NUMBER_INT64_SIZE], count[NUMBER_INT64_SIZE];
    call_effect_begin(c, c->db, n + 5);
    call_effect_argument(c, SLICE("HPEXPIREAT"));
    call_effect_argument(c, ref->key);
    call_effect_argument(c, slice_of(time, number_format_int64(time, due)));
    call_effect_argument(c, SLICE("FIELDS"));
    call_effect_argument(c, slice_of(count, number_format_int64(count, (int64_t)n)));
    for (uint64_t i = 0; i < n; i++)
        call_effect_argument(c, fields[i]);
}

static void effect_removed(struct call *c, const struct keyref *ref, const struct slice *fields,
                           uint64_t n)
{
    if (c->stream == NULL)
        return;
    call_effect_begin(c, c->db, n + 2);
    call_effect_argument(c, SLICE("HDEL"));
    call_effect_argument(c, ref->key);
    for (uint64_t i = 0; i < n; i++)
        call_effect_argument(c, fields[i]);
}

/* ---- the EXPIRE family ---- */

enum field_condition { FIELD_ANY, FIELD_NX, FIELD_XX, FIELD_GT, FIELD_LT };

static enum field_condition parse_condition(struct slice s)
{
    return slice_is(s, "nx")   ? FIELD_NX
           : slice_is(s, "xx") ? FIELD_XX
           : slice_is(s, "gt") ? FIELD_GT
           : slice_is(s, "lt") ? FIELD_LT
                               : FIELD_ANY;
}

/* A field that does not expire counts as one that does at the end of time. */
static bool condition_holds(enum field_condition condition, int64_t current, int64_t due)
{
    switch (condition) {
    case FIELD_NX:
        return current == ENTRY_NO_EXPIRY;
    case FIELD_XX:
        return current != ENTRY_NO_EXPIRY;
    case FIELD_GT:
        return current != ENTRY_NO_EXPIRY && due > current;
    case FIELD_LT:
        return due < current;
    default:
        return true;
    }
}

enum field_reply {
    FIELD_MISSING = -2,
    FIELD_NOT_TIMED = -1,
    FIELD_REFUSED = 0,
    FIELD_SET = 1,
    FIELD_REMOVED = 2
};

static void expire_fields(struct call *c, bool seconds, int64_t base)
{
    struct keyref ref;
    int64_t due;
    int first;
    if (!call_find_write(c, c->argv[1], ENTRY_HASH, &ref) ||
        !parse_due(c, c->argv[2], seconds, base, &due))
        return;
    enum field_condition condition = parse_condition(c->argv[3]);
    if (!parse_fields(c, condition == FIELD_ANY ? 3 : 4,
                      "ERR Parameter `numFields` should be greater than 0", &first))
        return;
    hash_drop_expired(c, &ref, first, c->argc, 1);
    /* Those that met the condition are the effect, which has none. */
    struct slice *met = mem_alloc((size_t)(c->argc - first) * sizeof(*met));
    uint64_t count = 0;
    bool removes = due <= c->now_ms;
    reply_array(c->reply, (size_t)(c->argc - first));
    for (int i = first; i < c->argc; i++) {
        int64_t current;
        if (ref.entry == NULL || !hash_due(ref.entry, INT64_MIN, c->argv[i], &current)) {
            reply_int(c->reply, FIELD_MISSING);
            continue;
        }
        if (!condition_holds(condition, current, due)) {
            reply_int(c->reply, FIELD_REFUSED);
            continue;
        }
        met[count++] = c->argv[i];
        if (removes)
            hash_delete(&ref, c->argv[i]);
        else
            hash_set_due(&ref, c->argv[i], due);
        reply_int(c->reply, removes ? FIELD_REMOVED : FIELD_SET);
    }
    if (count > 0 && removes) {
        hash_fields_removed(c, &ref, count);
        effect_removed(c, &ref, met, count);
    } else if (count > 0) {
        hash_changed(c, &ref, false, "hexpire", count);
        effect_due(c, &ref, due, met, count);
    }
    mem_free(met);
}

void cmd_hexpire(struct call *c)
{
    expire_fields(c, true, c->now_ms);
}

void cmd_hpexpire(struct call *c)
{
    expire_fields(c, false, c->now_ms);
}

void cmd_hexpireat(struct call *c)
{
    expire_fields(c, true, 0);
}

void cmd_hpexpireat(struct call *c)
{
    expire_fields(c, false, 0);
}

void cmd_hpersist(struct call *c)
{
    struct keyref ref;
    int first;
    if (!call_find_write(c, c->argv[1], ENTRY_HASH, &ref) || !parse_fields(c, 2, no_count, &first))
        return;
    hash_drop_expired(c, &ref, first, c->argc, 1);
    uint64_t count = 0;
    reply_array(c->reply, (size_t)(c->argc - first));
    for (int i = first; i < c->argc; i++) {
        int64_t current;
        bool found = ref.entry && hash_due(ref.entry, INT64_MIN, c->argv[i], &current);
        bool expires = found && current != ENTRY_NO_EXPIRY;
        if (expires) {
            hash_set_due(&ref, c->argv[i], ENTRY_NO_EXPIRY);
            count++;
        }
        reply_int(c->reply, !found ? FIELD_MISSING : expires ? FIELD_SET : FIELD_NOT_TIMED);
    }
    if (count > 0)
        hash_changed(c, &ref, false, "hpersist", count);
}

/* ---- the TTL family ---- */

/* Seconds are rounded up. */
static void reply_due(struct call *c, bool seconds, int64_t base)
{
    struct entry *e;
    int first;
    if (!call_find(c, c->argv[1], ENTRY_HASH, &e) || !parse_fields(c, 2, no_count, &first))
        return;
    reply_array(c->reply, (size_t)(c->argc - first));
    for (int i = first; i < c->argc; i++) {
        int64_t due;
        if (e == NULL || !hash_due(e, c->now_ms, c->argv[i], &due))
            reply_int(c->reply, FIELD_MISSING);
        else if (due == ENTRY_NO_EXPIRY)
            reply_int(c->reply, FIELD_NOT_TIMED);
        else
            reply_int(c->reply, seconds ? (due - base + 999) / 1000 : due - base);
    }
}

void cmd_httl(struct call *c)
{
    reply_due(c, true, c->now_ms);
}

void cmd_hpttl(struct call *c)
{
    reply_due(c, false, c->now_ms);
}

void cmd_hexpiretime(struct call *c)
{
    reply_due(c, true, 0);
}

void cmd_hpexpiretime(struct call *c)
{
    reply_due(c, false, 0);
}

/* ---- getting and setting ---- */

void cmd_hgetdel(struct call *c)
{
    struct keyref ref;
    int first;
    if (!call_find_write(c, c->argv[1], ENTRY_HASH, &ref) || !parse_fields(c, 2, no_count, &first))
        return;
    hash_drop_expired(c, &ref, first, c->argc, 1);
    reply_array(c->reply, (size_t)(c->argc - first));
    uint64_t deleted = 0;
    for (int i = first; i < c->argc; i++) {
        hash_reply_value(c, ref.entry, c->argv[i]);
        deleted += ref.entry && hash_delete(&ref, c->argv[i]);
    }
    if (deleted == 0)
        return;
    hash_fields_removed(c, &ref, deleted);
    effect_removed(c, &ref, c->argv + first, (uint64_t)(c->argc - first));
}

void cmd_hgetex(struct call *c)
{
    struct keyref ref;
    if (!call_find_write(c, c->argv[1], ENTRY_HASH, &ref))
        return;
    struct expire_args args = {.option = EXPIRE_UNSET};
    int i = 2, first;
    int64_t due = ENTRY_NO_EXPIRY;
    enum expire_args_result taken =
        expire_args_take(&args, EXPIRE_TIMES | EXPIRE_PERSIST, c->argv, c->argc, &i);
    if (taken == EXPIRE_ARGS_TAKEN)
        i++;
    if (!parse_fields(c, i, no_count, &first) ||
        (args.option & EXPIRE_TIMES && !args_due(c, &args, &due)))
        return;
    hash_drop_expired(c, &ref, first, c->argc, 1);
    uint64_t changes = 0;
    bool removes = due <= c->now_ms;
    reply_array(c->reply, (size_t)(c->argc - first));
    for (i = first; i < c->argc; i++) {
        int64_t current;
        hash_reply_value(c, ref.entry, c->argv[i]);
        if (args.option == EXPIRE_UNSET || ref.entry == NULL ||
            !hash_due(ref.entry, INT64_MIN, c->argv[i], &current) ||
            (args.option == EXPIRE_PERSIST && current == ENTRY_NO_EXPIRY))
            continue;
        if (removes)
            hash_delete(&ref, c->argv[i]);
        else
            hash_set_due(&ref, c->argv[i], due);
        changes++;
    }
    if (changes == 0)
        return;
    const struct slice *fields = c->argv + first;
    uint64_t count = (uint64_t)(c->argc - first);
    if (removes) {
        hash_fields_removed(c, &ref, changes);
        effect_removed(c, &ref, fields, count);
    } else if (args.option == EXPIRE_PERSIST) {
        hash_changed(c, &ref, false, "hpersist", changes);
        hash_effect(c, &ref, SLICE("HPERSIST"), first - 2);
    } else {
        hash_changed(c, &ref, false, "hexpire", changes);
        effect_due(c, &ref, due, fields, count);
    }
}

struct setex {
    struct expire_args expire;
    bool only_new, only_there;
    int first, last; /* field, value, ... */
};

static bool take_setex_fields(struct call *c, struct setex *s, int *i)
{
    int64_t count;
    if (s->first > 0) {
        reply_error(c->reply, "ERR FIELDS keyword specified multiple times");
        return false;
    }
    if (*i + 1 >= c->argc) {
        reply_error(c->reply, no_fields);
        return false;
    }
    if (!call_int64_range(c, c->argv[*i + 1], 1, INT32_MAX, &count, "ERR invalid number of fields"))
        return false;
    s->first = *i + 2;
    if (count > (c->argc - s->first) / 2) {
        reply_errorf(c->reply, "ERR wrong number of arguments for '%s' command",
                     c->command->full_name);
        return false;
    }
    s->last = s->first + (int)count * 2;
    *i = s->last - 1;
    return true;
}

static bool parse_setex(struct call *c, struct setex *s)
{
    *s = (struct setex){.expire = {.option = EXPIRE_UNSET}};
    for (int i = 2; i < c->argc; i++) {
        struct slice word = c->argv[i];
        if (slice_is(word, "fields")) {
            if (!take_setex_fields(c, s, &i))
                return false;
            continue;
        }
        if (slice_is(word, "fnx") || slice_is(word, "fxx")) {
            if (s->only_new || s->only_there) {
                reply_error(c->reply, "ERR Only one of FXX or FNX arguments can be specified");
                return false;
            }
            s->only_new = slice_is(word, "fnx");
            s->only_there = !s->only_new;
            continue;
        }
        bool given = s->expire.option != EXPIRE_UNSET;
        switch (expire_args_take(&s->expire, EXPIRE_TIMES | EXPIRE_KEEPTTL, c->argv, c->argc, &i)) {
        case EXPIRE_ARGS_TAKEN:
            if (!given)
                continue;
            break;
        case EXPIRE_ARGS_OTHER:
            reply_errorf(c->reply, "ERR unknown argument: %.*s", (int)word.size, word.data);
            return false;
        case EXPIRE_ARGS_SYNTAX:
            if (given)
                break;
            reply_error(c->reply, "ERR missing expire time");
            return false;
        }
        reply_error(c->reply,
                    "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified");
        return false;
    }
    if (s->first == 0)
        reply_error(c->reply, no_fields);
    return s->first > 0;
}

static void effect_setex(struct call *c, const struct keyref *ref, const struct setex *s,
                         int64_t due)
{
    if (c->stream == NULL)
        return;
    bool plain = s->expire.option == EXPIRE_UNSET, keep = s->expire.option == EXPIRE_KEEPTTL;
    uint64_t n = (uint64_t)(s->last - s->first);
    char time[NUMBER_INT64_SIZE], count[NUMBER_INT64_SIZE];
    call_effect_begin(c, c->db, n + (plain ? 2U : keep ? 5U : 6U));
    call_effect_argument(c, plain ? SLICE("HSET") : SLICE("HSETEX"));
    call_effect_argument(c, ref->key);
    if (!plain) {
        call_effect_argument(c, keep ? SLICE("KEEPTTL") : SLICE("PXAT"));
        if (!keep)
            call_effect_argument(c, slice_of(time, number_format_int64(time, due)));
        call_effect_argument(c, SLICE("FIELDS"));
        call_effect_argument(c, slice_of(count, number_format_int64(count, (int64_t)(n / 2))));
    }
    for (int i = s->first; i < s->last; i++)
        call_effect_argument(c, c->argv[i]);
}

/* The time is past: the fields are gone at once. */
static void setex_past(struct call *c, struct keyref *ref, const struct setex *s)
{
    uint64_t removed = 0, n = 0;
    struct slice *fields = mem_alloc((size_t)(s->last - s->first) / 2 * sizeof(*fields));
    for (int i = s->first; i < s->last && ref->entry; i += 2) {
        removed += hash_delete(ref, c->argv[i]);
        fields[n++] = c->argv[i];
    }
    if (removed > 0) {
        hash_fields_removed(c, ref, removed);
        effect_removed(c, ref, fields, n);
    }
    mem_free(fields);
}

void cmd_hsetex(struct call *c)
{
    struct setex s;
    struct keyref ref;
    int64_t due = ENTRY_NO_EXPIRY;
    if (!parse_setex(c, &s) || (s.expire.option & EXPIRE_TIMES && !args_due(c, &s.expire, &due)) ||
        !call_find_write(c, c->argv[1], ENTRY_HASH, &ref))
        return;
    hash_drop_expired(c, &ref, s.first, s.last, 2);
    for (int i = s.first; i < s.last && (s.only_new || s.only_there); i += 2) {
        bool there = ref.entry && hash_has(ref.entry, INT64_MIN, c->argv[i]);
        if (there != s.only_there) {
            reply_int(c->reply, 0);
            return;
        }
    }
    reply_int(c->reply, 1);
    if (due <= c->now_ms) {
        setex_past(c, &ref, &s);
        return;
    }
    bool is_new = ref.entry == NULL, expires = due != ENTRY_NO_EXPIRY;
    if (s.expire.option == EXPIRE_KEEPTTL)
        due = HASH_KEEP_DUE;
    for (int i = s.first; i < s.last; i += 2)
        hash_set_timed(&ref, c->argv[i], c->argv[i + 1], due);
    hash_changed(c, &ref, is_new, "hset", (uint64_t)(s.last - s.first) / 2);
    if (expires)
        hash_changed(c, &ref, false, "hexpire", 0);
    effect_setex(c, &ref, &s, due);
}
