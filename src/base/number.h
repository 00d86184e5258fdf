/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Numbers as text, exactly as Redis 7.0 takes and gives them.
 */
#ifndef HF_BASE_NUMBER_H
#define HF_BASE_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

/* Strict: an optional '-', no '+', no blanks, no leading zeros, within range. */
bool number_parse_int64(struct slice s, int64_t *out);
bool number_parse_uint64(struct slice s, uint64_t *out);
/* As strtod takes it, the whole slice, no leading blank, not NaN, inf allowed ("inf", "-inf",
 * "+infinity" in any case), hexadecimal allowed; a result out of range is refused. */
bool number_parse_double(struct slice s, double *out);
bool number_parse_long_double(struct slice s, long double *out);

/* Decimal, without a NUL; returns the length. 20 bytes and a sign at most. */
#define NUMBER_INT64_SIZE 21
size_t number_format_int64(char out[NUMBER_INT64_SIZE], int64_t v);
/* How scores are replied: "inf", "-inf", "nan", whole numbers as such, otherwise %.17g. */
#define NUMBER_DOUBLE_SIZE 40
size_t number_format_double(char out[NUMBER_DOUBLE_SIZE], double v);
/* How INCRBYFLOAT replies: %.17Lf without trailing zeros. */
#define NUMBER_LONG_DOUBLE_SIZE 5120
size_t number_format_long_double(char out[NUMBER_LONG_DOUBLE_SIZE], long double v);

#endif
