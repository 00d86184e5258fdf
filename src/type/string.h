/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Strings. A value stands in one of three ways:
 *
 *     ENTRY_INT    the canonical decimal form of an int64 (no sign but '-', no leading zeros)
 *     ENTRY_BYTES  up to ENTRY_EMBED_MAX bytes in the entry itself
 *     ENTRY_ROPE   more than that: a tree of chunks
 *
 * ENTRY_GROWN on a string says that it was changed in part (APPEND, SETRANGE, SETBIT), after which
 * Redis keeps it as `raw` however short it is.
 *
 * Readers take the entry, writers a keyref. Bytes that are handed in must not point into the value
 * that is written. No limit on sizes is checked here: the commands do.
 */
#ifndef HF_TYPE_STRING_H
#define HF_TYPE_STRING_H

#include "base/number.h"
#include "keyspace/keyspace.h"

/* The longest value that Redis keeps as embstr. */
#define STRING_EMBSTR_MAX 44

uint64_t string_size(const struct entry *e);

/* The longest run at `offset` that lies together, at most `size` bytes; empty at the end. An
 * integer is written into buf. Valid until the key is next written, and as long as buf. */
struct slice string_run(const struct entry *e, uint64_t offset, uint64_t size,
                        char buf[NUMBER_INT64_SIZE]);
/* How many bytes from `offset` on are zeros that take no memory: see rope_hole. */
uint64_t string_hole(const struct entry *e, uint64_t offset);
/* Copy out; offset + size must be within the value. */
void string_read(const struct entry *e, uint64_t offset, void *out, size_t size);
/* The value as one run: pointing into the entry or buf, or, when it is a rope, into *heap, which
 * the caller frees with mem_free (NULL otherwise). */
struct slice string_flat(const struct entry *e, char buf[NUMBER_INT64_SIZE], char **heap);
bool string_equal(const struct entry *e, struct slice s);

/* As a number; false when it is none. */
bool string_get_int64(const struct entry *e, int64_t *out);
bool string_get_long_double(const struct entry *e, long double *out);

/* "int", "embstr" or "raw", as OBJECT ENCODING replies. */
const char *string_encoding_name(const struct entry *e);

/* Give the key a string, whatever it had before. `due` as keyref_put takes it. */
void string_set(struct keyref *ref, struct slice value, int64_t due);
void string_set_int64(struct keyref *ref, int64_t value, int64_t due);
/* The same for a value of more than ENTRY_EMBED_MAX bytes in blocks, which are taken: see
 * rope_adopt. */
void string_set_blocks(struct keyref *ref, char **blocks, uint64_t size, int64_t due);
/* The same, but kept as bytes even if it is a number (the results of INCRBYFLOAT). */
void string_set_bytes(struct keyref *ref, struct slice value, int64_t due);

/* Write bytes at `offset`, extending the string (a gap reads as zeros) or creating the key. The
 * string is `raw` from then on. Returns the new size. */
uint64_t string_write(struct keyref *ref, uint64_t offset, struct slice bytes);
/* At the end; a key that was not there gets the bytes as by string_set. */
uint64_t string_append(struct keyref *ref, struct slice bytes);

/* Other bytes in place of those that the string has, or as a new key's; `raw`. The expiry stays. */
void string_replace(struct keyref *ref, struct slice bytes);
/* The same with a rope that was built aside, which is taken; the expiry goes. */
void string_take_rope(struct keyref *ref, struct rope *rope);

enum string_incr_result { STRING_INCR_OK, STRING_INCR_NOT_INTEGER, STRING_INCR_OVERFLOW };
/* Add to the number that the string is (0 when the key is not there). The expiry stays. */
enum string_incr_result string_incr(struct keyref *ref, int64_t delta, int64_t *result);

#endif
