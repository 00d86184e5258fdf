/* SPDX-License-Identifier: BSD-3-Clause
 *
 * SETBIT, GETBIT, BITCOUNT, BITPOS, BITOP. For BITFIELD see bitfield.c.
 */
#include "base/mem.h"
#include "command/bitmap_args.h"
#include "command/string_common.h"
#include "handlers.h"
#include "type/bitmap.h"

bool bitmap_parse_offset(struct call *c, struct slice s, unsigned width, uint64_t *offset)
{
    int64_t v;
    bool counted = width > 0 && s.size > 0 && s.data[0] == '#';
    if (counted)
        s = slice_of(s.data + 1, s.size - 1);
    if (!number_parse_int64(s, &v) || v < 0 ||
        (counted && __builtin_mul_overflow(v, (int64_t)width, &v)) ||
        (uint64_t)v >> 3 >= c->ks->string_size_max) {
        reply_error(c->reply, "ERR bit offset is not an integer or out of range");
        return false;
    }
    *offset = (uint64_t)v;
    return true;
}

void cmd_setbit(struct call *c)
{
    uint64_t offset;
    int64_t bit;
    const char *error = "ERR bit is not an integer or out of range";
    if (!bitmap_parse_offset(c, c->argv[2], 0, &offset) ||
        !call_int64_range(c, c->argv[3], 0, 1, &bit, error))
        return;
    struct keyref ref;
    if (!call_find_write(c, c->argv[1], ENTRY_STRING, &ref))
        return;
    bool is_new = ref.entry == NULL, old;
    if (bitmap_set(&ref, offset, bit == 1, &old))
        string_changed(c, ref.key, is_new, "setbit");
    reply_int(c->reply, old);
}

void cmd_getbit(struct call *c)
{
    uint64_t offset;
    struct entry *e;
    if (!bitmap_parse_offset(c, c->argv[2], 0, &offset) ||
        !call_find(c, c->argv[1], ENTRY_STRING, &e))
        return;
    reply_int(c->reply, bitmap_get(e, offset));
}

/* ---- ranges ---- */

/* A range of bits, [first, end). */
struct bit_range {
    uint64_t first, end;
    bool end_given;
};

static bool parse_unit(struct call *c, struct slice word, bool *bits)
{
    *bits = slice_is(word, "bit");
    if (*bits || slice_is(word, "byte"))
        return true;
    reply_syntax_error(c->reply);
    return false;
}

static int64_t from_end(int64_t index, int64_t size)
{
    if (index < 0)
        index += size;
    return index < 0 ? 0 : index;
}

/* Of both ends, as given, what is within the string; empty when they are crossed. */
static void set_range(struct bit_range *range, int64_t start, int64_t end, uint64_t size, bool bits)
{
    int64_t length = (int64_t)(bits ? size * 8 : size);
    start = from_end(start, length);
    end = from_end(end, length);
    if (end >= length)
        end = length - 1;
    *range = (struct bit_range){0, 0, range->end_given};
    if (start > end)
        return;
    unsigned shift = bits ? 0 : 3;
    range->first = (uint64_t)start << shift;
    range->end = (uint64_t)(end + 1) << shift;
}

void cmd_bitcount(struct call *c)
{
    struct entry *e;
    if (!call_find(c, c->argv[1], ENTRY_STRING, &e))
        return;
    if (e == NULL) {
        reply_int(c->reply, 0);
        return;
    }
    struct bit_range range = {0, UINT64_MAX, false};
    if (c->argc == 4 || c->argc == 5) {
        int64_t start, end;
        bool bits = false;
        if (!call_int64(c, c->argv[2], &start, NULL) || !call_int64(c, c->argv[3], &end, NULL))
            return;
        if (start < 0 && end < 0 && start > end) {
            reply_int(c->reply, 0);
            return;
        }
        if (c->argc == 5 && !parse_unit(c, c->argv[4], &bits))
            return;
        set_range(&range, start, end, string_size(e), bits);
    } else if (c->argc != 2) {
        reply_syntax_error(c->reply);
        return;
    }
    reply_int(c->reply, (int64_t)bitmap_count(e, range.first, range.end));
}

void cmd_bitpos(struct call *c)
{
    int64_t bit;
    if (!call_int64(c, c->argv[2], &bit, NULL))
        return;
    if (bit != 0 && bit != 1) {
        reply_error(c->reply, "ERR The bit argument must be 1 or 0.");
        return;
    }
    struct entry *e;
    if (!call_find(c, c->argv[1], ENTRY_STRING, &e))
        return;
    if (e == NULL) {
        reply_int(c->reply, bit ? -1 : 0);
        return;
    }
    struct bit_range range = {.end_given = c->argc > 4};
    int64_t start = 0, end = -1;
    bool bits = false;
    if (c->argc > 6) {
        reply_syntax_error(c->reply);
        return;
    }
    if ((c->argc > 3 && !call_int64(c, c->argv[3], &start, NULL)) ||
        (c->argc > 5 && !parse_unit(c, c->argv[5], &bits)) ||
        (c->argc > 4 && !call_int64(c, c->argv[4], &end, NULL)))
        return;
    set_range(&range, start, end, string_size(e), bits);
    uint64_t at = bitmap_find(e, bit == 1, range.first, range.end);
    /* Without an end of its own the string goes on with zeros. */
    bool found = at < range.end || (bit == 0 && !range.end_given && range.first < range.end);
    reply_int(c->reply, found ? (int64_t)at : -1);
}

/* ---- BITOP ---- */

static bool parse_operation(struct call *c, enum bitmap_operation *op)
{
    static const struct {
        const char *word, *name;
        enum bitmap_operation op;
        int least, most; /* sources */
    } operations[] = {
        {"and", "AND", BITMAP_AND, 1, INT32_MAX},
        {"or", "OR", BITMAP_OR, 1, INT32_MAX},
        {"xor", "XOR", BITMAP_XOR, 1, INT32_MAX},
        {"not", "NOT", BITMAP_NOT, 1, 1},
        {"diff", "DIFF", BITMAP_DIFF, 2, INT32_MAX},
        {"diff1", "DIFF1", BITMAP_DIFF1, 2, INT32_MAX},
        {"andor", "ANDOR", BITMAP_ANDOR, 2, INT32_MAX},
        {"one", "ONE", BITMAP_ONE, 1, INT32_MAX},
    };
    for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
        if (!slice_is(c->argv[1], operations[i].word))
            continue;
        *op = operations[i].op;
        int count = c->argc - 3;
        if (count >= operations[i].least && count <= operations[i].most)
            return true;
        if (count > operations[i].most)
            reply_error(c->reply, "ERR BITOP NOT must be called with a single source key.");
        else
            reply_errorf(c->reply, "ERR BITOP %s must be called with at least two source keys.",
                         operations[i].name);
        return false;
    }
    reply_syntax_error(c->reply);
    return false;
}

void cmd_bitop(struct call *c)
{
    enum bitmap_operation op;
    if (!parse_operation(c, &op))
        return;
    size_t count = (size_t)c->argc - 3;
    const struct entry **sources = mem_alloc(count * sizeof(*sources));
    bool strings = true;
    for (size_t i = 0; i < count && strings; i++) {
        struct entry *e;
        strings = call_find(c, c->argv[3 + i], ENTRY_STRING, &e);
        sources[i] = e;
    }
    if (strings) {
        struct rope result;
        struct keyref ref;
        bitmap_combine(&result, &c->ks->epoch, op, sources, count);
        uint64_t size = result.size;
        call_find_write_any(c, c->argv[2], &ref);
        bool is_new = ref.entry == NULL;
        if (size > 0) {
            string_take_rope(&ref, &result);
            string_changed(c, ref.key, is_new, "set");
        } else if (!is_new) {
            keyref_delete(&ref);
            call_changed(c, c->db, ref.key, EVENT_GENERIC, "del", 1);
        }
        reply_int(c->reply, (int64_t)size);
    }
    mem_free(sources);
}
