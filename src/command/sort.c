/* SPDX-License-Identifier: BSD-3-Clause
 *
 * SORT and SORT_RO.
 *
 * The elements, and what they are to be sorted by, are copied into one run of bytes first, so that
 * they stay what they are whatever STORE replaces. Where BY names no key (no '*' in it) nothing is
 * sorted, and of lists and sorted sets only the elements within LIMIT are looked at.
 *
 * The order of what compares equal is that in which it was found.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "command/call.h"
#include "command/string_common.h"
#include "handlers.h"
#include "type/hash.h"
#include "type/list.h"
#include "type/set.h"
#include "type/zset.h"

struct sort_args {
    const struct slice *by;    /* NULL: by the elements themselves */
    const struct slice *store; /* NULL: reply them */
    bool unsorted, alpha, descending;
    int64_t limit_start, limit_count;
    int get_count;
};

/* An element, or a weight, by its place in the bytes. */
struct sort_text {
    size_t at, size;
};

struct sort_item {
    struct sort_text element, weight;
    bool has_weight;
    double score;
    size_t index;
};

struct sorter {
    struct call *c;
    struct sort_args args;
    struct sort_item *items;
    size_t count, room;
    char *bytes;
    size_t size, bytes_room;
};

/* ---- arguments ---- */

/* The GET patterns stand where they were given: this goes from one to the next. */
static const struct slice *next_get(const struct call *c, int *i)
{
    for (; *i < c->argc; ++*i) {
        struct slice word = c->argv[*i];
        if (slice_is(word, "get")) {
            *i += 2;
            return &c->argv[*i - 1];
        }
        if (slice_is(word, "limit"))
            *i += 2;
        else if (slice_is(word, "by") || slice_is(word, "store"))
            *i += 1;
    }
    return NULL;
}

static bool parse_sort_args(struct call *c, bool read_only, struct sort_args *args)
{
    *args = (struct sort_args){.limit_count = -1};
    for (int i = 2; i < c->argc; i++) {
        int left = c->argc - i - 1;
        struct slice word = c->argv[i];
        if (slice_is(word, "asc")) {
            args->descending = false;
        } else if (slice_is(word, "desc")) {
            args->descending = true;
        } else if (slice_is(word, "alpha")) {
            args->alpha = true;
        } else if (slice_is(word, "limit") && left >= 2) {
            if (!call_int64(c, c->argv[i + 1], &args->limit_start, NULL) ||
                !call_int64(c, c->argv[i + 2], &args->limit_count, NULL))
                return false;
            i += 2;
        } else if (slice_is(word, "store") && left >= 1 && !read_only) {
            args->store = &c->argv[++i];
        } else if (slice_is(word, "by") && left >= 1) {
            args->by = &c->argv[++i];
            args->unsorted = memchr(args->by->data, '*', args->by->size) == NULL;
        } else if (slice_is(word, "get") && left >= 1) {
            args->get_count++;
            i++;
        } else {
            reply_syntax_error(c->reply);
            return false;
        }
    }
    return true;
}

/* ---- elements ---- */

static struct slice text_of(const struct sorter *s, struct sort_text text)
{
    return slice_of(s->bytes + text.at, text.size);
}

static char *text_room(struct sorter *s, size_t size)
{
    if (s->size + size > s->bytes_room) {
        s->bytes_room = 2 * (s->size + size) + 256;
        s->bytes = mem_realloc(s->bytes, s->bytes_room);
    }
    s->size += size;
    return s->bytes + s->size - size;
}

static struct sort_text keep_text(struct sorter *s, struct slice bytes)
{
    char *p = text_room(s, bytes.size);
    if (bytes.size)
        memcpy(p, bytes.data, bytes.size);
    return (struct sort_text){s->size - bytes.size, bytes.size};
}

static void keep_item(void *ctx, struct slice element)
{
    struct sorter *s = ctx;
    if (s->count == s->room) {
        s->room = s->room ? 2 * s->room : 16;
        s->items = mem_realloc(s->items, s->room * sizeof(*s->items));
    }
    struct sort_item *item = &s->items[s->count];
    *item = (struct sort_item){.element = keep_text(s, element), .index = s->count};
    s->count++;
}

/* What LIMIT leaves of `count` elements. */
static void apply_limit(const struct sort_args *args, uint64_t count, uint64_t *first,
                        uint64_t *left)
{
    *first = args->limit_start < 0 ? 0 : (uint64_t)args->limit_start;
    if (*first > count)
        *first = count;
    *left = count - *first;
    if (args->limit_count >= 0 && (uint64_t)args->limit_count < *left)
        *left = (uint64_t)args->limit_count;
}

static void keep_list(struct sorter *s, const struct entry *e, uint64_t first, uint64_t count,
                      bool reverse)
{
    uint64_t size = list_count(e);
    struct list_iter it;
    struct slice item;
    if (count == 0)
        return;
    list_iter_init(&it, e, reverse ? size - 1 - first : first, reverse);
    while (count-- > 0 && list_iter_next(&it, &item))
        keep_item(s, item);
}

static void keep_zset(struct sorter *s, const struct entry *e, uint64_t first, uint64_t count,
                      bool reverse)
{
    uint64_t size = zset_count(e);
    struct zset_iter it;
    struct zset_item item;
    if (count == 0)
        return;
    zset_iter_init(&it, e, reverse ? size - 1 - first : first, reverse);
    while (count-- > 0 && zset_iter_next(&it, &item))
        keep_item(s, item.member);
}

static void keep_set(struct sorter *s, const struct entry *e)
{
    struct member_iter it;
    struct dict_item item;
    member_iter_init(&it, e);
    while (member_iter_next(&it, &item))
        keep_item(s, item.key);
}

/* Collect the elements. Returns the range of them that is the result, once they are sorted. */
static void collect(struct sorter *s, const struct entry *e, uint64_t *first, uint64_t *left)
{
    *first = *left = 0;
    if (e == NULL)
        return;
    const struct sort_args *args = &s->args;
    if (entry_type(e) == ENTRY_SET) {
        keep_set(s, e);
        apply_limit(args, s->count, first, left);
        return;
    }
    bool is_list = entry_type(e) == ENTRY_LIST;
    uint64_t size = is_list ? list_count(e) : zset_count(e);
    apply_limit(args, size, first, left);
    if (!args->unsorted) {
        (is_list ? keep_list : keep_zset)(s, e, 0, size, false);
        return;
    }
    (is_list ? keep_list : keep_zset)(s, e, *first, *left, args->descending);
    *first = 0;
}

/* ---- patterns ---- */

/* The value that a BY or GET pattern names for an element: '*' stands for the element, and behind
 * "->" stands the field of a hash. The value is appended to the bytes. False: there is none. */
static bool look_up(struct sorter *s, struct slice pattern, struct sort_text element,
                    struct sort_text *value)
{
    if (slice_equal(pattern, SLICE("#"))) {
        *value = element;
        return true;
    }
    const char *star = pattern.size ? memchr(pattern.data, '*', pattern.size) : NULL;
    if (star == NULL)
        return false;
    struct slice prefix = slice_of(pattern.data, (size_t)(star - pattern.data));
    struct slice suffix = slice_of(star + 1, pattern.size - prefix.size - 1);
    struct slice field = {NULL, 0};
    const char *arrow = memmem(suffix.data, suffix.size, "->", 2);
    if (arrow && arrow + 2 < suffix.data + suffix.size) {
        field = slice_of(arrow + 2, (size_t)(suffix.data + suffix.size - (arrow + 2)));
        suffix.size = (size_t)(arrow - suffix.data);
    }

    size_t key_size = prefix.size + element.size + suffix.size;
    char *key = text_room(s, key_size);
    memcpy(key, prefix.data, prefix.size);
    memcpy(key + prefix.size, s->bytes + element.at, element.size);
    memcpy(key + prefix.size + element.size, suffix.data, suffix.size);
    const struct entry *e = call_find_any(s->c, slice_of(key, key_size));
    s->size -= key_size;
    if (e == NULL || entry_type(e) != (field.data ? ENTRY_HASH : ENTRY_STRING))
        return false;

    char number[LISTPACK_NUMBER_SIZE], *heap = NULL;
    struct slice bytes;
    if (field.data) {
        if (!hash_get(e, s->c->now_ms, field, &bytes, number))
            return false;
    } else {
        bytes = string_flat(e, number, &heap);
    }
    *value = keep_text(s, bytes);
    mem_free(heap);
    return true;
}

/* ---- sorting ---- */

/* As strtod reads it, up to a NUL, all of it: blanks in front are allowed, nothing at all is 0. */
static bool parse_score(struct sorter *s, struct sort_text text, double *score)
{
    char *p = text_room(s, text.size + 1);
    memcpy(p, s->bytes + text.at, text.size);
    p[text.size] = '\0';
    char *end;
    errno = 0;
    *score = strtod(p, &end);
    bool ok = *end == '\0' && errno != ERANGE && !isnan(*score);
    s->size -= text.size + 1;
    return ok;
}

/* Find out what each element is to be sorted by. False: some are no numbers. */
static bool weigh(struct sorter *s)
{
    bool ok = true;
    for (size_t i = 0; i < s->count; i++) {
        struct sort_item *item = &s->items[i];
        item->has_weight = true;
        item->weight = item->element;
        if (s->args.by)
            item->has_weight = look_up(s, *s->args.by, item->element, &item->weight);
        if (!s->args.alpha && item->has_weight)
            ok &= parse_score(s, item->weight, &item->score);
    }
    return ok;
}

static int compare_weights(const struct sorter *s, const struct sort_item *a,
                           const struct sort_item *b)
{
    if (!s->args.alpha) {
        if (a->score != b->score)
            return a->score < b->score ? -1 : 1;
        return slice_compare(text_of(s, a->element), text_of(s, b->element));
    }
    if (a->has_weight && b->has_weight)
        return slice_compare(text_of(s, a->weight), text_of(s, b->weight));
    return (int)a->has_weight - (int)b->has_weight;
}

static int compare_items(const void *x, const void *y, void *ctx)
{
    const struct sorter *s = ctx;
    const struct sort_item *a = x, *b = y;
    int order = compare_weights(s, a, b);
    if (order != 0)
        return s->args.descending ? -order : order;
    return a->index < b->index ? -1 : a->index > b->index;
}

/* ---- results ---- */

typedef void result_fn(struct sorter *s, void *ctx, bool found, struct slice value);

static void each_result(struct sorter *s, uint64_t first, uint64_t count, result_fn *fn, void *ctx)
{
    for (uint64_t i = first; i < first + count; i++) {
        struct sort_text element = s->items[i].element, value;
        if (s->args.get_count == 0) {
            fn(s, ctx, true, text_of(s, element));
            continue;
        }
        int at = 2;
        const struct slice *pattern;
        while ((pattern = next_get(s->c, &at)) != NULL) {
            size_t size = s->size;
            bool found = look_up(s, *pattern, element, &value);
            fn(s, ctx, found, found ? text_of(s, value) : slice_of("", 0));
            s->size = size;
        }
    }
}

static void reply_result(struct sorter *s, void *ctx, bool found, struct slice value)
{
    (void)ctx;
    if (found)
        reply_bulk(s->c->reply, value);
    else
        reply_null(s->c->reply);
}

static void store_result(struct sorter *s, void *ctx, bool found, struct slice value)
{
    (void)s;
    (void)found; /* an empty element stands for what is not there */
    list_builder_add(ctx, value);
}

static void store(struct sorter *s, uint64_t first, uint64_t count)
{
    struct call *c = s->c;
    struct list_builder builder;
    list_builder_init(&builder, &c->ks->epoch);
    each_result(s, first, count, store_result, &builder);
    uint64_t stored = list_builder_count(&builder);

    struct keyref ref;
    call_find_write_any(c, *s->args.store, &ref);
    bool was_there = ref.entry != NULL;
    if (was_there)
        keyref_delete(&ref);
    struct entry *list = list_builder_finish(&builder, ref.key, ENTRY_NO_EXPIRY);
    if (list) {
        entry_set_clock(list, entry_fresh_clock(c->ks));
        keyref_give(&ref, list);
        if (!was_there)
            call_changed(c, c->db, ref.key, EVENT_NEW_KEY, "new", 0);
        call_changed(c, c->db, ref.key, EVENT_LIST, "sortstore", stored);
        /* Elements of the same weight as text stand in the order in which they were found: in a set
         * that is another one after a restart, and redis-server has one of its own for any of them.
         */
        if (s->args.by != NULL && s->args.alpha)
            call_effect_restore(c, c->db, ref.key, ref.entry);
    } else if (was_there) {
        call_changed(c, c->db, ref.key, EVENT_GENERIC, "del", 1);
    }
    reply_int(c->reply, (int64_t)stored);
}

static void sort_elements(struct sorter *s, const struct entry *e)
{
    struct sort_args *args = &s->args;
    /* A set has no order of its own: what is stored of it must not depend on how it is kept. */
    if (args->unsorted && args->store && e && entry_type(e) == ENTRY_SET) {
        args->unsorted = false;
        args->alpha = true;
        args->by = NULL;
    }
    uint64_t first, count;
    collect(s, e, &first, &count);
    if (!args->unsorted) {
        if (!weigh(s)) {
            reply_error(s->c->reply, "ERR One or more scores can't be converted into double");
            return;
        }
        if (s->count > 1)
            qsort_r(s->items, s->count, sizeof(*s->items), compare_items, s);
    }
    if (args->store) {
        store(s, first, count);
        return;
    }
    reply_array(s->c->reply, count * (args->get_count ? (size_t)args->get_count : 1));
    each_result(s, first, count, reply_result, NULL);
}

static void sort_key(struct call *c, bool read_only)
{
    struct sorter s = {.c = c};
    if (!parse_sort_args(c, read_only, &s.args))
        return;
    const struct entry *e = call_find_any(c, c->argv[1]);
    if (e && entry_type(e) != ENTRY_LIST && entry_type(e) != ENTRY_SET &&
        entry_type(e) != ENTRY_ZSET) {
        reply_wrong_type(c->reply);
        return;
    }
    sort_elements(&s, e);
    mem_free(s.items);
    mem_free(s.bytes);
}

void cmd_sort(struct call *c)
{
    sort_key(c, false);
}

void cmd_sort_ro(struct call *c)
{
    sort_key(c, true);
}
