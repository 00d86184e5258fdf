/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The dict: a trie (structure/trie.h) whose leaves hold the items themselves, packed: large hashes
 * (field -> value), large sets (member) and the member index of sorted sets (hash -> score). An
 * item of 20 bytes costs about 28 with all that belongs to it, where an allocation and a slot for
 * each would cost 44.
 *
 * A leaf is one block of at most 1 KiB, grown in steps of the allocator's classes:
 *
 *     +--------------------+---------------+-------------------+------+-------------------------+
 *     | header (trie_leaf) | tags, 1 byte  | offsets, 2 bytes  | free | items, from the end down|
 *     +--------------------+---------------+-------------------+------+-------------------------+
 *
 *     item:  key size (1 byte), key; in a map also value size (1 byte), value
 *
 * The tags are bits of the hash, compared with SIMD; items are in no order. A leaf that is full
 * splits by the next bit of the hash, which is computed anew from the key; two small neighbours
 * merge. A key or value of more than DICT_INLINE_MAX bytes lives in a block of its own with a
 * birth, which the item points to; it is immutable. The items of an index are all of 16 bytes, so
 * that it has neither sizes nor offsets.
 *
 * A map's item may expire: then 8 bytes of when, and one that says so, stand before its value, and
 * leaves and pages know a lower bound of what is below them, so that dict_expire descends only
 * where something is due. The dict itself hides nothing.
 *
 * Equal keys may be added more than once (dict_add does not look), which the member index uses for
 * equal hashes; sets and hashes look first.
 *
 * Copy-on-write: leaves are copied whole, which is a bounded copy.
 */
#ifndef HF_STRUCTURE_DICT_H
#define HF_STRUCTURE_DICT_H

#include "base/slice.h"
#include "structure/epoch.h"
#include "structure/trie.h"

#define DICT_INLINE_MAX 192

/* The root: embedded in the entry, copied by value with it. Zeroed memory with `kind` set is an
 * empty dict. */
struct dict {
    trie_word root;
    uint64_t count : 56;
    uint64_t kind : 8; /* enum dict_kind */
};

enum dict_kind {
    DICT_SET,   /* keys alone */
    DICT_MAP,   /* key -> value */
    DICT_INDEX, /* the key is the 8 bytes of a hash, in memory order: the trie uses it as it is;
                 * the value is 8 bytes too */
};

void dict_init(struct dict *d, enum dict_kind kind);

/* hash_bytes(key) for sets and maps, the key's own 8 bytes for an index. */
uint64_t dict_hash(const struct dict *d, struct slice key);

/* Hints, to be given for a batch of hashes before the finds: first the leaf, then the likely
 * item. */
void dict_prefetch(const struct dict *d, uint64_t hash);
void dict_prefetch_item(const struct dict *d, uint64_t hash);

/* An item, as slices into the leaf (or into the block of a large one): valid until the dict is next
 * changed; in a frozen dict until its snapshot is released. */
struct dict_item {
    struct slice key, value;
    int64_t due; /* when it expires, in the caller's unit; INT64_MAX: it does not */
};

/* Where an item was found. */
struct dict_place {
    uint64_t hash;
    uint32_t index;
};

/* Find the first item with this key. item and place may be NULL. */
bool dict_find(const struct dict *d, uint64_t hash, struct slice key, struct dict_item *item,
               struct dict_place *place);
/* The next item with the same key behind `place` (for DICT_INDEX). */
bool dict_find_next(const struct dict *d, struct slice key, struct dict_item *item,
                    struct dict_place *place);
/* The first item whose key has this hash, whatever the key is; and the next behind `place`. */
bool dict_find_hash(const struct dict *d, uint64_t hash, struct dict_item *item,
                    struct dict_place *place);
bool dict_find_hash_next(const struct dict *d, struct dict_item *item, struct dict_place *place);

/* Add, without looking for an equal key. The slices are copied. They must not point into this
 * dict. */
void dict_add(struct dict *d, struct epoch *e, uint64_t hash, struct slice key,
              struct slice value);
/* Replace the value of the item at `place`, which no longer expires then. Afterwards `place` is no
 * longer valid. `value` must not point into this dict. */
void dict_set_value(struct dict *d, struct epoch *e, const struct dict_place *place,
                    struct slice value);

/* The same, in a map, of items that expire; INT64_MAX: that do not. */
void dict_add_due(struct dict *d, struct epoch *e, uint64_t hash, struct slice key,
                  struct slice value, int64_t due);
void dict_set_value_due(struct dict *d, struct epoch *e, const struct dict_place *place,
                        struct slice value, int64_t due);
/* Set when the item at `place` of a map expires. Afterwards `place` is no longer valid. */
void dict_set_due(struct dict *d, struct epoch *e, const struct dict_place *place, int64_t due);
/* A lower bound of when the first item expires. */
static inline int64_t dict_due_bound(const struct dict *d)
{
    return d->root ? trie_word_due(d->root) : INT64_MAX;
}
/* Remove up to `want` items that are due before that time, and return how many. fn is told of the
 * keys, some at a time, before they go. When less than `want` were removed there are no more. */
typedef void dict_expire_fn(void *ctx, const struct slice *keys, size_t count);
size_t dict_expire(struct dict *d, struct epoch *e, int64_t before, size_t want, dict_expire_fn *fn,
                   void *ctx);
/* Remove the item at `place`. Afterwards `place` is no longer valid. */
void dict_remove(struct dict *d, struct epoch *e, const struct dict_place *place);

/* SCAN: gives whole leaves (of some tens of items) from `cursor` on until at least `want` items
 * were given (or many empty leaves passed); returns the next cursor, 0 at the end. Guarantees as
 * table_scan's. Any number may be given as a cursor. */
uint64_t dict_scan(const struct dict *d, uint64_t cursor, size_t want,
                   void (*fn)(void *ctx, const struct dict_item *item), void *ctx);

/* Iteration over all items in hash order. The dict must not change meanwhile. */
struct dict_iter {
    const struct dict *dict;
    uint64_t next_hash;
    trie_word leaf;
    uint32_t index;
    bool ended;
};
void dict_iter_init(struct dict_iter *it, const struct dict *d);
bool dict_iter_next(struct dict_iter *it, struct dict_item *item);

/* A random item, near enough uniform: a leaf by random hash, accepted in proportion to its filling,
 * then one of its items. False when empty. `rand` gives fresh random numbers, all 64 bits of which
 * are used. */
bool dict_random(const struct dict *d, uint64_t (*rand)(void *ctx), void *ctx,
                 struct dict_item *item);

/* Moves (base/mem_move.h) what should: the leaf that `from` belongs to, with its large items and
 * the pages that begin with it. Returns where to go on, 0 at the end. Any number may be given, so
 * that a walk may be put down and the dict be changed: what it then passes over stays where it is.
 * No snapshot may be live. */
struct mem_mover;
uint64_t dict_move(struct dict *d, struct mem_mover *m, uint64_t from);

/* Retire everything (in constant time or by the reclaimer); the dict is empty afterwards. */
void dict_clear(struct dict *d, struct epoch *e);
/* For the deep free of an entry: see table_type.free_below. */
void dict_free_below(struct epoch_reclaim *ctx, const struct dict *d, uint64_t seen);
void dict_register(void); /* EPOCH_DICT */

size_t dict_bytes(const struct dict *d); /* all nodes; walks them: for MEMORY USAGE */
void dict_check(const struct dict *d, const struct epoch *e);

#endif
