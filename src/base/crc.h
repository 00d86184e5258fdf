/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Checksums.
 *
 * CRC64: the polynomial of David T. Jones (0xad93d23594c935a9, bits reflected, initial value and
 * final xor 0), as RDB files and DUMP payloads end with. CRC32C: Castagnoli's (RFC 3720). Each has
 * a table form and a faster one that is chosen at run time where the processor has the instructions
 * (PCLMULQDQ; SSE4.2); all give the same numbers.
 *
 * crc64_combine gives the checksum of two runs of bytes from their checksums, so that parts of a
 * file can be summed by several threads.
 */
#ifndef HF_BASE_CRC_H
#define HF_BASE_CRC_H

#include <stddef.h>
#include <stdint.h>

/* Continue `crc` (0 at the start) over more bytes. */
uint64_t crc64(uint64_t crc, const void *data, size_t size);
/* The checksum of A then B, from those of A and of B (each begun at 0) and B's size. */
uint64_t crc64_combine(uint64_t a, uint64_t b, uint64_t size_b);
uint32_t crc32c(uint32_t crc, const void *data, size_t size);

/* The single implementations, for tests and measurements. The fast ones need the processor's
 * support: crc_has_pclmul, crc_has_sse42. */
uint64_t crc64_table(uint64_t crc, const void *data, size_t size);
uint64_t crc64_pclmul(uint64_t crc, const void *data, size_t size);
uint32_t crc32c_table(uint32_t crc, const void *data, size_t size);
uint32_t crc32c_sse42(uint32_t crc, const void *data, size_t size);
int crc_has_pclmul(void);
int crc_has_sse42(void);

#endif
