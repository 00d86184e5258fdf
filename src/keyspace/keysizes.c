/* SPDX-License-Identifier: BSD-3-Clause */
#include "keyspace/keysizes.h"

#include <stddef.h>
#include <string.h>

#define LOW(bits) ((1ULL << (bits)) - 1)

/* Bit-fields and the fields of listpacks and intsets as a little-endian machine has them. Numbers
 * and embedded bytes are not watched. */
const struct length_form length_forms[] = {
    [ENTRY_ROPE] = {LOW(56), sizeof(void *), 0},
    /* Bytes 4 and 5: the eight that end there, as an empty one has less than eight. */
    [ENTRY_LISTPACK] = {LOW(16) << 48, -2, 48},
    [ENTRY_INTSET] = {LOW(32) << 32, 0, 32},
    [ENTRY_DICT] = {LOW(56), sizeof(trie_word), 0},
    [ENTRY_BTREE] = {LOW(55), sizeof(void *), 0},
    [ENTRY_ZTREE] = {LOW(55), sizeof(void *), 0},
    [ENTRY_STREAM_TREES] = {UINT64_MAX, offsetof(struct stream_root, length), 0},
    [ENTRY_TIMED_DICT] = {LOW(56), sizeof(trie_word), 0},
};

static uint64_t length_of(uint8_t type_encoding, uint64_t word)
{
    enum entry_type type = (enum entry_type)(type_encoding >> 4);
    enum entry_encoding encoding = (enum entry_encoding)(type_encoding & 15);
    bool pairs = encoding == ENTRY_LISTPACK && (type == ENTRY_HASH || type == ENTRY_ZSET);
    return word >> length_forms[encoding].shift >> pairs;
}

static unsigned bin_of(const struct entry *e)
{
    enum entry_encoding encoding = entry_encoding(e);
    if (encoding == ENTRY_INT || encoding == ENTRY_BYTES)
        return keysizes_bin_of_short(e);
    const struct length_form *form = &length_forms[encoding];
    uint64_t word;
    memcpy(&word, (const char *)entry_value(e) + form->offset, sizeof(word));
    return keysizes_bin(length_of(e->type_encoding, word & form->mask));
}

uint64_t *keysizes_count_of(struct keysizes *sizes, const struct entry *e)
{
    return &sizes->counts[entry_type(e)][bin_of(e)];
}

void keysizes_add(struct keysizes *sizes, const struct keysizes *others)
{
    for (int type = 0; type < ENTRY_TYPE_COUNT; type++) {
        for (int bin = 0; bin < KEYSIZES_BINS; bin++)
            sizes->counts[type][bin] += others->counts[type][bin];
    }
}

/* It is counted no more where it was. */
static void uncount(const struct size_watch *w)
{
    if (w->type_encoding != SIZE_WATCH_UNCOUNTED)
        w->sizes
            ->counts[w->type_encoding >> 4][keysizes_bin(length_of(w->type_encoding, w->word))]--;
}

void size_watch_recount(struct size_watch *w)
{
    uncount(w);
    ++*keysizes_count_of(w->sizes, w->entry);
}

void size_watch_remove(struct size_watch *w, struct keysizes *sizes, const struct entry *e)
{
    if (w->entry == e) {
        uncount(w);
        w->entry = NULL;
    } else {
        --*keysizes_count_of(sizes, e);
    }
}

void size_watch_drop(struct size_watch *w, struct keysizes *sizes)
{
    if (w->sizes == sizes)
        w->entry = NULL;
    memset(sizes, 0, sizeof(*sizes));
}
