/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/himport.h"

#include <stdlib.h>

#include "base/mem.h"
#include "handlers.h"
#include "server/client.h"
#include "type/hash.h"

struct fieldset {
    struct fieldset *next;
    size_t size; /* of the allocation */
    int count;
    struct slice name;
    struct slice fields[]; /* behind them the bytes of all */
};

size_t fieldsets_free(struct fieldset **first)
{
    size_t count = 0;
    for (struct fieldset *f = *first, *next; f != NULL; f = next, count++) {
        next = f->next;
        mem_free(f);
    }
    *first = NULL;
    return count;
}

size_t fieldsets_memory(const struct fieldset *first)
{
    size_t size = 0;
    for (const struct fieldset *f = first; f != NULL; f = f->next)
        size += f->size;
    return size;
}

static struct fieldset **own_sets(struct call *c)
{
    return c->in_script ? &c->server->script_fieldsets : &c->client->fieldsets;
}

/* Where the pointer to the one with this name is, or the NULL at the end. */
static struct fieldset **find(struct fieldset **at, struct slice name)
{
    while (*at != NULL && !slice_equal((*at)->name, name))
        at = &(*at)->next;
    return at;
}

static bool remove_named(struct fieldset **first, struct slice name)
{
    struct fieldset **at = find(first, name), *f = *at;
    if (f == NULL)
        return false;
    *at = f->next;
    mem_free(f);
    return true;
}

static struct slice keep(char **to, struct slice s)
{
    struct slice kept = slice_of(*to, s.size);
    if (s.size != 0)
        memcpy(*to, s.data, s.size);
    *to += s.size;
    return kept;
}

static struct fieldset *make(struct slice name, const struct slice *fields, int count)
{
    size_t size = sizeof(struct fieldset) + (size_t)count * sizeof(*fields) + name.size;
    for (int i = 0; i < count; i++)
        size += fields[i].size;
    struct fieldset *f = mem_alloc(size);
    char *to = (char *)(f->fields + count);
    *f = (struct fieldset){.size = size, .count = count, .name = keep(&to, name)};
    for (int i = 0; i < count; i++)
        f->fields[i] = keep(&to, fields[i]);
    return f;
}

static int by_bytes(const void *a, const void *b)
{
    const struct slice *x = a, *y = b;
    if (x->size != y->size)
        return x->size < y->size ? -1 : 1;
    return x->size == 0 ? 0 : memcmp(x->data, y->data, x->size);
}

static bool has_twice(const struct slice *fields, int count)
{
    size_t size = (size_t)count * sizeof(*fields);
    struct slice *sorted = mem_alloc(size);
    memcpy(sorted, fields, size);
    qsort(sorted, (size_t)count, sizeof(*sorted), by_bytes);
    bool twice = false;
    for (int i = 1; i < count; i++)
        twice |= slice_equal(sorted[i - 1], sorted[i]);
    mem_free(sorted);
    return twice;
}

void cmd_himport_prepare(struct call *c)
{
    const struct slice *fields = c->argv + 3;
    int count = c->argc - 3;
    if (has_twice(fields, count)) {
        reply_error(c->reply, "ERR duplicate field name in fieldset");
        return;
    }
    struct fieldset **first = own_sets(c);
    remove_named(first, c->argv[2]);
    struct fieldset *f = make(c->argv[2], fields, count);
    f->next = *first;
    *first = f;
    reply_ok(c->reply);
}

static void put_effect(struct call *c, const struct fieldset *f, bool was_there)
{
    if (c->stream == NULL)
        return;
    if (was_there) {
        call_effect_group(c);
        call_effect_delete(c, c->db, c->argv[2]);
    }
    call_effect_begin(c, c->db, 2 * (uint64_t)f->count + 2);
    call_effect_argument(c, SLICE("HSET"));
    call_effect_argument(c, c->argv[2]);
    for (int i = 0; i < f->count; i++) {
        call_effect_argument(c, f->fields[i]);
        call_effect_argument(c, c->argv[4 + i]);
    }
}

void cmd_himport_set(struct call *c)
{
    const struct fieldset *f = *find(own_sets(c), c->argv[3]);
    if (f == NULL) {
        reply_error(c->reply, "ERR no such fieldset");
        return;
    }
    if (c->argc - 4 != f->count) {
        reply_error(c->reply, "ERR value count does not match the fieldset's number of fields");
        return;
    }
    struct keyref ref;
    call_find_write_any(c, c->argv[2], &ref);
    bool was_there = ref.entry != NULL;
    if (was_there)
        keyref_delete(&ref);
    hash_begin(&ref, (uint64_t)f->count);
    for (int i = 0; i < f->count; i++)
        hash_set(&ref, f->fields[i], c->argv[4 + i]);
    put_effect(c, f, was_there);
    if (!was_there)
        call_changed(c, c->db, ref.key, EVENT_NEW_KEY, "new", 0);
    call_changed(c, c->db, ref.key, EVENT_HASH, "hset", (uint64_t)f->count);
    reply_ok(c->reply);
}

void cmd_himport_discard(struct call *c)
{
    reply_int(c->reply, remove_named(own_sets(c), c->argv[2]));
}

void cmd_himport_discardall(struct call *c)
{
    reply_int(c->reply, (int64_t)fieldsets_free(own_sets(c)));
}
