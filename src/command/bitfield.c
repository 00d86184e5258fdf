/* SPDX-License-Identifier: BSD-3-Clause
 *
 * BITFIELD and BITFIELD_RO: numbers of any width at any offset of a string. All arguments are
 * looked at before anything is changed.
 */
#include "base/mem.h"
#include "command/bitmap_args.h"
#include "command/string_common.h"
#include "handlers.h"
#include "type/bitmap.h"

enum field_verb { FIELD_GET, FIELD_SET, FIELD_ADD };
enum field_overflow { OVERFLOW_WRAP, OVERFLOW_SATURATE, OVERFLOW_FAIL };

struct field_operation {
    enum field_verb verb;
    enum field_overflow overflow;
    bool is_signed;
    unsigned width;
    uint64_t offset;
    int64_t operand; /* of SET and INCRBY */
};

struct field_request {
    struct field_operation *operations;
    size_t count;
    bool writes;
    uint64_t bytes; /* how long the string must be for all writes */
};

/* ---- arguments ---- */

static bool parse_type(struct call *c, struct slice s, struct field_operation *o)
{
    int64_t width;
    if (s.size > 1 && (s.data[0] == 'i' || s.data[0] == 'u') &&
        number_parse_int64(slice_of(s.data + 1, s.size - 1), &width) && width >= 1 &&
        width <= (s.data[0] == 'i' ? 64 : 63)) {
        o->is_signed = s.data[0] == 'i';
        o->width = (unsigned)width;
        return true;
    }
    reply_error(c->reply, "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is "
                          "not supported but i64 is.");
    return false;
}

static bool parse_overflow(struct call *c, struct slice word, enum field_overflow *out)
{
    if (slice_is(word, "wrap")) {
        *out = OVERFLOW_WRAP;
    } else if (slice_is(word, "sat")) {
        *out = OVERFLOW_SATURATE;
    } else if (slice_is(word, "fail")) {
        *out = OVERFLOW_FAIL;
    } else {
        reply_error(c->reply, "ERR Invalid OVERFLOW type specified");
        return false;
    }
    return true;
}

static bool parse_operations(struct call *c, struct field_request *r)
{
    enum field_overflow overflow = OVERFLOW_WRAP;
    for (int i = 2; i < c->argc;) {
        struct slice word = c->argv[i];
        int left = c->argc - i - 1;
        struct field_operation o = {.overflow = overflow};
        if (slice_is(word, "overflow") && left >= 1) {
            if (!parse_overflow(c, c->argv[i + 1], &overflow))
                return false;
            i += 2;
            continue;
        }
        if (slice_is(word, "get") && left >= 2) {
            o.verb = FIELD_GET;
        } else if (slice_is(word, "set") && left >= 3) {
            o.verb = FIELD_SET;
        } else if (slice_is(word, "incrby") && left >= 3) {
            o.verb = FIELD_ADD;
        } else {
            reply_syntax_error(c->reply);
            return false;
        }
        if (!parse_type(c, c->argv[i + 1], &o) ||
            !bitmap_parse_offset(c, c->argv[i + 2], o.width, &o.offset))
            return false;
        if (o.verb != FIELD_GET) {
            if (!call_int64(c, c->argv[i + 3], &o.operand, NULL))
                return false;
            uint64_t bytes = (o.offset + o.width + 7) >> 3;
            r->bytes = bytes > r->bytes ? bytes : r->bytes;
            r->writes = true;
        }
        r->operations[r->count++] = o;
        i += o.verb == FIELD_GET ? 3 : 4;
    }
    return true;
}

/* ---- arithmetic ---- */

__extension__ typedef __int128 wide_sum;

static int64_t extend_sign(uint64_t v, unsigned width)
{
    unsigned unused = 64 - width;
    return (int64_t)(v << unused) >> unused;
}

/* What is to be stored for value + addend; *overflowed when that is not the sum. What SET gives is
 * a sum with 0. */
static uint64_t add_unsigned(const struct field_operation *o, uint64_t value, int64_t addend,
                             bool *overflowed)
{
    uint64_t max = UINT64_MAX >> (64 - o->width);
    wide_sum sum = (wide_sum)value + addend;
    *overflowed = sum < 0 || sum > max;
    if (*overflowed && o->overflow == OVERFLOW_SATURATE)
        return sum < 0 ? 0 : max;
    return (uint64_t)sum & max;
}

static uint64_t add_signed(const struct field_operation *o, int64_t value, int64_t addend,
                           bool *overflowed)
{
    int64_t max = INT64_MAX >> (64 - o->width), min = -max - 1;
    wide_sum sum = (wide_sum)value + addend;
    *overflowed = sum < min || sum > max;
    if (!*overflowed || o->overflow != OVERFLOW_SATURATE)
        return (uint64_t)sum;
    /* Redis takes what is so far below that its distance to the highest is no int64 for too high:
     * who replays a log of ours must come to the same. */
    bool wraps = o->width < 64 && (wide_sum)max - value > INT64_MAX;
    return (uint64_t)(sum < min && !wraps ? min : max);
}

static void reply_field(struct call *c, const struct field_operation *o, uint64_t v)
{
    reply_int(c->reply, o->is_signed ? extend_sign(v, o->width) : (int64_t)v);
}

/* Returns whether it was written; *changed is set if the field has another value afterwards. */
static bool write_field(struct call *c, struct keyref *ref, const struct field_operation *o,
                        bool *changed)
{
    uint64_t mask = UINT64_MAX >> (64 - o->width);
    uint64_t old = bitmap_get_field(ref->entry, o->offset, o->width), fresh;
    bool set = o->verb == FIELD_SET, overflowed;
    int64_t addend = set ? 0 : o->operand;
    if (o->is_signed)
        fresh = add_signed(o, set ? o->operand : extend_sign(old, o->width), addend, &overflowed);
    else
        fresh = add_unsigned(o, set ? (uint64_t)o->operand : old, addend, &overflowed);
    if (overflowed && o->overflow == OVERFLOW_FAIL) {
        reply_null(c->reply);
        return false;
    }
    fresh &= mask;
    if (fresh != old) {
        bitmap_set_field(ref, o->offset, o->width, fresh);
        *changed = true;
    }
    reply_field(c, o, set ? old : fresh);
    return true;
}

/* ---- the commands ---- */

static void read_fields(struct call *c, const struct field_request *r)
{
    struct entry *e;
    if (!call_find(c, c->argv[1], ENTRY_STRING, &e))
        return;
    reply_array(c->reply, r->count);
    for (size_t i = 0; i < r->count; i++) {
        const struct field_operation *o = &r->operations[i];
        reply_field(c, o, bitmap_get_field(e, o->offset, o->width));
    }
}

static void write_fields(struct call *c, const struct field_request *r)
{
    struct keyref ref;
    if (!call_find_write(c, c->argv[1], ENTRY_STRING, &ref))
        return;
    bool is_new = ref.entry == NULL;
    bool grown = bitmap_grow(&ref, r->bytes), changed = false, written = false;
    reply_array(c->reply, r->count);
    for (size_t i = 0; i < r->count; i++) {
        const struct field_operation *o = &r->operations[i];
        if (o->verb == FIELD_GET)
            reply_field(c, o, bitmap_get_field(ref.entry, o->offset, o->width));
        else
            written |= write_field(c, &ref, o, &changed);
    }
    if (!changed && !grown)
        return;
    if (written) {
        string_changed(c, ref.key, is_new, "setbit");
        return;
    }
    /* Every write has failed, but the string has become longer: of which Redis tells nobody, nor
     * those who watch the key. */
    if (is_new)
        call_changed_aside(c, c->db, ref.key, EVENT_NEW_KEY, "new", 0);
    call_changed_aside(c, c->db, ref.key, EVENT_STRING, NULL, 1);
}

static void run(struct call *c, bool read_only)
{
    struct field_request r = {
        .operations = mem_alloc((size_t)c->argc * sizeof(struct field_operation))};
    if (parse_operations(c, &r)) {
        if (!r.writes)
            read_fields(c, &r);
        else if (read_only)
            reply_error(c->reply, "ERR BITFIELD_RO only supports the GET subcommand");
        else
            write_fields(c, &r);
    }
    mem_free(r.operations);
}

void cmd_bitfield(struct call *c)
{
    run(c, false);
}

void cmd_bitfield_ro(struct call *c)
{
    run(c, true);
}
