/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/log/lineage.h"

#include <stdio.h>
#include <string.h>

#include "base/number.h"

static void drop(struct lineage *l, int index)
{
    l->count--;
    memmove(l->pasts + index, l->pasts + index + 1,
            (size_t)(l->count - index) * sizeof(l->pasts[0]));
}

/* In which nothing was done: a server that was started again and again leaves many of these. */
static int find_empty(const struct lineage *l)
{
    for (int i = l->count - 2; i >= 0; i--) {
        if (l->pasts[i].lsn == l->pasts[i + 1].lsn)
            return i;
    }
    return -1;
}

void lineage_push(struct lineage *l, const char *id, uint64_t lsn, bool promoted)
{
    lineage_cut(l, id);
    if (l->count == LINEAGE_MOST) {
        int empty = find_empty(l);
        drop(l, empty >= 0 ? empty : l->count - 1);
    }
    memmove(l->pasts + 1, l->pasts, (size_t)l->count * sizeof(l->pasts[0]));
    l->count++;
    l->pasts[0] = (struct lineage_past){.lsn = lsn, .promoted = promoted};
    snprintf(l->pasts[0].id, sizeof(l->pasts[0].id), "%s", id);
}

void lineage_cut(struct lineage *l, const char *id)
{
    const struct lineage_past *found = lineage_find(l, slice_cstr(id));
    int gone = found != NULL ? (int)(found - l->pasts) + 1 : 0;
    l->count -= gone;
    memmove(l->pasts, l->pasts + gone, (size_t)l->count * sizeof(l->pasts[0]));
}

void lineage_cut_at(struct lineage *l, uint64_t lsn)
{
    while (l->count > 0 && l->pasts[0].lsn > lsn)
        drop(l, 0);
}

const struct lineage_past *lineage_find(const struct lineage *l, struct slice id)
{
    for (int i = 0; i < l->count; i++) {
        if (slice_equal(id, slice_cstr(l->pasts[i].id)))
            return &l->pasts[i];
    }
    return NULL;
}

void lineage_format(const struct lineage_past *past, char text[LINEAGE_TEXT])
{
    snprintf(text, LINEAGE_TEXT, "%.40s %llu %c", past->id, (unsigned long long)past->lsn,
             past->promoted ? 'p' : 'c');
}

bool lineage_parse(struct slice text, struct lineage_past *past)
{
    *past = (struct lineage_past){0};
    if (text.size < LINEAGE_ID + 4 || text.size >= LINEAGE_TEXT || text.data[LINEAGE_ID] != ' ' ||
        text.data[text.size - 2] != ' ')
        return false;
    for (size_t i = 0; i < LINEAGE_ID; i++) {
        char c = text.data[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
    }
    memcpy(past->id, text.data, LINEAGE_ID);
    char how = text.data[text.size - 1];
    past->promoted = how == 'p';
    return (how == 'p' || how == 'c') &&
           number_parse_uint64(slice_of(text.data + LINEAGE_ID + 1, text.size - LINEAGE_ID - 3),
                               &past->lsn);
}

bool lineage_put(struct lineage *l, int64_t index, const struct lineage_past *past)
{
    if (index != l->count || index >= LINEAGE_MOST)
        return false;
    l->pasts[l->count++] = *past;
    return true;
}
