/* SPDX-License-Identifier: BSD-3-Clause
 *
 * XXH3, 64 bits, without a seed (Yann Collet, "xxHash fast digest algorithm", specification 0.2.0):
 * the digest of a string value that DIGEST replies and that SET IFDEQ and DELEX compare with. Not
 * keyed: the tables use base/hash.h.
 */
#ifndef HF_BASE_XXH3_H
#define HF_BASE_XXH3_H

#include <stddef.h>
#include <stdint.h>

uint64_t xxh3_64(const void *data, size_t size);

#endif
