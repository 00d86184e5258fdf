/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Patterns as KEYS, SCAN, PSUBSCRIBE and CONFIG GET take them: * ? [a-z] [^a-z] and \ before a
 * character that is meant as such. Matching takes at most the product of the two sizes in steps,
 * whatever the pattern.
 */
#ifndef HF_BASE_GLOB_H
#define HF_BASE_GLOB_H

#include "base/slice.h"

/* As in Redis an empty string is matched by an empty pattern only, and a class without its closing
 * bracket ends with the pattern. */
bool glob_match(struct slice pattern, struct slice s, bool ignore_case);

#endif
