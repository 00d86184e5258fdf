/* SPDX-License-Identifier: BSD-3-Clause
 *
 * LCS: the longest common subsequence of two strings, by the textbook's dynamic programme. The
 * table holds for each pair of prefixes the length of their longest common subsequence; walking it
 * back from the end gives the subsequence itself and the ranges where it stands.
 *
 * Which of several equally long ones is found, and the order of the ranges (from the end), are
 * Redis's: on a tie the second string's last byte is given up.
 */
#include "base/mem.h"
#include "command/string_common.h"
#include "handlers.h"

struct lcs {
    struct slice a, b;
    uint32_t *lengths; /* (a.size + 1) rows of b.size + 1 */
    bool idx, len_only, with_match_len;
    int64_t min_match_len;
};

/* A run that both strings have in common, by its first positions. */
struct lcs_range {
    size_t a, b, size;
};

static uint32_t length_at(const struct lcs *l, size_t i, size_t j)
{
    return l->lengths[i * (l->b.size + 1) + j];
}

static void fill_lengths(struct lcs *l)
{
    size_t width = l->b.size + 1;
    memset(l->lengths, 0, width * sizeof(*l->lengths));
    for (size_t i = 1; i <= l->a.size; i++) {
        uint32_t *row = l->lengths + i * width;
        const uint32_t *above = row - width;
        row[0] = 0;
        for (size_t j = 1; j < width; j++) {
            if (l->a.data[i - 1] == l->b.data[j - 1])
                row[j] = above[j - 1] + 1;
            else
                row[j] = above[j] > row[j - 1] ? above[j] : row[j - 1];
        }
    }
}

static bool parse_lcs_args(struct call *c, struct lcs *l)
{
    for (int i = 3; i < c->argc; i++) {
        if (slice_is(c->argv[i], "idx")) {
            l->idx = true;
        } else if (slice_is(c->argv[i], "len")) {
            l->len_only = true;
        } else if (slice_is(c->argv[i], "withmatchlen")) {
            l->with_match_len = true;
        } else if (slice_is(c->argv[i], "minmatchlen") && i + 1 < c->argc) {
            if (!call_int64(c, c->argv[++i], &l->min_match_len, NULL))
                return false;
        } else {
            reply_syntax_error(c->reply);
            return false;
        }
    }
    if (l->idx && l->len_only) {
        reply_error(c->reply, "ERR If you want both the length and indexes, please just use IDX.");
        return false;
    }
    return true;
}

static bool alloc_lengths(struct call *c, struct lcs *l)
{
    if (l->a.size >= UINT32_MAX - 1 || l->b.size >= UINT32_MAX - 1) {
        reply_error(c->reply, "ERR String too long for LCS");
        return false;
    }
    size_t size;
    bool overflow =
        __builtin_mul_overflow((l->a.size + 1) * sizeof(*l->lengths), l->b.size + 1, &size);
    if (!overflow && size > c->ks->string_size_max) {
        reply_error(c->reply, "ERR Insufficient memory, transient memory for LCS exceeds "
                              "proto-max-bulk-len");
        return false;
    }
    l->lengths = overflow ? NULL : mem_try_alloc(size);
    if (l->lengths == NULL) {
        reply_error(c->reply,
                    "ERR Insufficient memory, failed allocating transient memory for LCS");
        return false;
    }
    return true;
}

static bool reply_range(struct call *c, const struct lcs *l, const struct lcs_range *range)
{
    if (range->size == 0 || (l->min_match_len > 0 && (int64_t)range->size < l->min_match_len))
        return false;
    reply_array(c->reply, l->with_match_len ? 3 : 2);
    reply_array(c->reply, 2);
    reply_int(c->reply, (int64_t)range->a);
    reply_int(c->reply, (int64_t)(range->a + range->size - 1));
    reply_array(c->reply, 2);
    reply_int(c->reply, (int64_t)range->b);
    reply_int(c->reply, (int64_t)(range->b + range->size - 1));
    if (l->with_match_len)
        reply_int(c->reply, (int64_t)range->size);
    return true;
}

/* Walk back from the ends. Writes the subsequence to `out` (of its length) unless that is NULL, and
 * replies the ranges if they are wanted; returns how many. */
static size_t walk_back(struct call *c, const struct lcs *l, char *out)
{
    size_t i = l->a.size, j = l->b.size, count = 0;
    uint32_t at = length_at(l, i, j);
    struct lcs_range range = {0, 0, 0};
    while (i > 0 && j > 0) {
        if (l->a.data[i - 1] == l->b.data[j - 1]) {
            i--;
            j--;
            at--;
            if (out)
                out[at] = l->a.data[i];
            range = (struct lcs_range){i, j, range.size + 1};
            continue;
        }
        if (l->idx)
            count += reply_range(c, l, &range);
        range.size = 0;
        if (length_at(l, i - 1, j) > length_at(l, i, j - 1))
            i--;
        else
            j--;
    }
    if (l->idx)
        count += reply_range(c, l, &range);
    return count;
}

static void reply_lcs(struct call *c, const struct lcs *l)
{
    uint32_t length = length_at(l, l->a.size, l->b.size);
    if (l->idx) {
        reply_map(c->reply, 2);
        reply_bulk_cstr(c->reply, "matches");
        struct reply_mark mark = reply_deferred_begin(c->reply);
        reply_deferred_array(c->reply, mark, walk_back(c, l, NULL));
        reply_bulk_cstr(c->reply, "len");
        reply_int(c->reply, length);
    } else if (l->len_only) {
        reply_int(c->reply, length);
    } else {
        char *out = mem_alloc(length);
        walk_back(c, l, out);
        reply_bulk(c->reply, slice_of(out, length));
        mem_free(out);
    }
}

void cmd_lcs(struct call *c)
{
    const struct entry *a = call_find_any(c, c->argv[1]);
    const struct entry *b = call_find_any(c, c->argv[2]);
    if ((a && entry_type(a) != ENTRY_STRING) || (b && entry_type(b) != ENTRY_STRING)) {
        reply_error(c->reply, "ERR The specified keys must contain string values");
        return;
    }
    struct lcs l = {.a = {"", 0}, .b = {"", 0}};
    if (!parse_lcs_args(c, &l))
        return;
    char buf_a[NUMBER_INT64_SIZE], buf_b[NUMBER_INT64_SIZE], *heap_a = NULL, *heap_b = NULL;
    if (a)
        l.a = string_flat(a, buf_a, &heap_a);
    if (b)
        l.b = string_flat(b, buf_b, &heap_b);
    if (alloc_lengths(c, &l)) {
        fill_lengths(&l);
        reply_lcs(c, &l);
        mem_free(l.lengths);
    }
    mem_free(heap_a);
    mem_free(heap_b);
}
