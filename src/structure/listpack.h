/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Listpack: a small list of strings and integers in one run of bytes, in the layout that RDB files
 * use (Salvatore Sanfilippo, "Listpack specification", 2017): total bytes (4), count (2, 65535 =
 * unknown), entries, 0xFF. Each entry: encoding and data, then its length backwards for walking
 * from the end.
 *
 * The bytes belong to the caller (they stand inside an entry). Operations that grow one need the
 * room to be there: the caller asks listpack_entry_size first and resizes the entry. Nothing here
 * allocates but listpack_distinct. Offsets are from the start of the listpack; 0 means none.
 *
 * listpack_check is for bytes from outside: it proves every bound, after which the other functions
 * may be used on them.
 */
#ifndef HF_STRUCTURE_LISTPACK_H
#define HF_STRUCTURE_LISTPACK_H

#include "base/slice.h"

#include <stdint.h>

#define LISTPACK_EMPTY_SIZE 7

/* An element: a string, or an integer when data is NULL. */
struct listpack_value {
    const char *data;
    uint32_t size;
    int64_t number;
};

#define LISTPACK_NUMBER_SIZE 21 /* room for any integer in decimal */

void listpack_init(char *lp); /* writes LISTPACK_EMPTY_SIZE bytes */
uint32_t listpack_size(const char *lp);
uint32_t listpack_count(const char *lp);

/* The bytes that an entry for this string takes (strings that are integers are stored as such). */
uint32_t listpack_entry_size(struct slice s);

uint32_t listpack_first(const char *lp);
uint32_t listpack_last(const char *lp);
uint32_t listpack_next(const char *lp, uint32_t at);
uint32_t listpack_prev(const char *lp, uint32_t at);
uint32_t listpack_seek(const char *lp, int64_t index); /* negative: from the end */
struct listpack_value listpack_get(const char *lp, uint32_t at);
/* The element as bytes; an integer is written into buf. */
struct slice listpack_get_slice(const char *lp, uint32_t at, char buf[LISTPACK_NUMBER_SIZE]);
bool listpack_equal(const char *lp, uint32_t at, struct slice s);

/* Find s among the elements from `at` on, looking at every (skip + 1)-th. 0 when it is not
 * there. */
uint32_t listpack_find(const char *lp, uint32_t at, struct slice s, uint32_t skip);

/* Insert before `at` (0: at the end). The buffer must have room for listpack_entry_size(s) more
 * bytes. s must not point into lp. Returns the new element's offset. */
uint32_t listpack_insert(char *lp, uint32_t at, struct slice s);
/* The same for a number: at most LISTPACK_NUMBER_BYTES more. */
#define LISTPACK_NUMBER_BYTES 10
uint32_t listpack_insert_number(char *lp, uint32_t at, int64_t number);
/* Put a number in an element's place. The buffer must have room for it to grow. */
void listpack_replace_number(char *lp, uint32_t at, int64_t number);
/* How many bytes more (or less) replacing takes, and the replacing. */
int64_t listpack_replace_growth(const char *lp, uint32_t at, struct slice s);
void listpack_replace(char *lp, uint32_t at, struct slice s);
/* Remove `count` elements from `at` on. Returns the offset of the one behind, 0 if none. */
uint32_t listpack_remove(char *lp, uint32_t at, uint32_t count);

/* Whether `size` bytes are one well-formed listpack (deep: every entry). */
bool listpack_check(const void *bytes, size_t size);

/* Whether no two elements are equal, looking at every (skip + 1)-th. Allocates where there are
 * many. */
bool listpack_distinct(const char *lp, uint32_t skip);

#endif
