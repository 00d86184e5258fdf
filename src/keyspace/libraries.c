/* SPDX-License-Identifier: BSD-3-Clause */
#include "keyspace/libraries.h"

#include "base/mem.h"

struct libraries *libraries_new(const struct slice *codes, size_t count)
{
    if (count == 0)
        return NULL;
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += codes[i].size;
    struct libraries *l = mem_alloc(sizeof(*l) + count * sizeof(l->codes[0]) + bytes);
    *l = (struct libraries){.references = 1, .count = count, .bytes = bytes};
    char *to = (char *)&l->codes[count];
    for (size_t i = 0; i < count; i++) {
        if (codes[i].size != 0)
            memcpy(to, codes[i].data, codes[i].size);
        l->codes[i] = slice_of(to, codes[i].size);
        to += codes[i].size;
    }
    return l;
}

struct libraries *libraries_ref(struct libraries *l)
{
    if (l)
        l->references++;
    return l;
}

void libraries_unref(struct libraries *l)
{
    if (l && --l->references == 0)
        mem_free(l);
}

void libraries_replace(struct libraries **l, struct libraries *by)
{
    struct libraries *old = *l;
    *l = by;
    libraries_unref(old);
}

void libraries_append(struct libraries **l, struct slice code)
{
    size_t count = *l ? (*l)->count : 0;
    struct slice *codes = mem_alloc((count + 1) * sizeof(*codes));
    for (size_t i = 0; i < count; i++)
        codes[i] = (*l)->codes[i];
    codes[count] = code;
    libraries_replace(l, libraries_new(codes, count + 1));
    mem_free(codes);
}
