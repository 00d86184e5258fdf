/* SPDX-License-Identifier: BSD-3-Clause
 *
 * MurmurHash64A, Austin Appleby's hash of 2008 (public domain). Not keyed by chance, so not for
 * tables: HyperLogLogs need a hash that is the same everywhere.
 */
#ifndef HF_BASE_MURMUR_H
#define HF_BASE_MURMUR_H

#include <stddef.h>
#include <stdint.h>

uint64_t murmur_hash64a(const void *data, size_t size, uint64_t seed);

#endif
