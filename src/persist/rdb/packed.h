/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The packed encodings that values have in RDB files, read element by element with every bound
 * checked: listpack, intset, and those that Redis wrote before version 7: ziplist and zipmap.
 *
 *     ziplist:  total bytes (4, LE), offset of the last entry (4), count (2; 65535: unknown),
 *               entries, 0xFF
 *       entry:  size of the entry before (1 byte, or 0xFE + 4), encoding and data:
 *               00pppppp str <= 63 | 01pppppp+1 str <= 16383 (BE) | 10......+4 str (BE)
 *               C0 int16 | D0 int32 | E0 int64 | F0 int24 | FE int8 | F1..FD the numbers 0..12
 *     zipmap:   count (1; 254 or more: unknown), then pairs of key: length, bytes; value: length,
 *               free (1), bytes, that many unused bytes; 0xFF. A length is 1 byte or 0xFE + 4 (LE).
 */
#ifndef HF_PERSIST_RDB_PACKED_H
#define HF_PERSIST_RDB_PACKED_H

#include <stdbool.h>

#include "base/slice.h"

/* Called for each element, with bytes that are valid during the call. False stops. */
typedef bool packed_fn(void *ctx, struct slice element);

/* Each returns false when the bytes are not well formed or fn stopped; *stopped tells which. What
 * was given before damage was found has been given. */
bool packed_each_listpack(struct slice bytes, packed_fn *fn, void *ctx, bool *stopped);
bool packed_each_ziplist(struct slice bytes, packed_fn *fn, void *ctx, bool *stopped);
bool packed_each_zipmap(struct slice bytes, packed_fn *fn, void *ctx, bool *stopped);
bool packed_each_intset(struct slice bytes, packed_fn *fn, void *ctx, bool *stopped);

#endif
