/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What OBJECT ENCODING, OBJECT REFCOUNT and DEBUG OBJECT say of a value, whatever its type.
 */
#ifndef HF_TYPE_ENCODING_H
#define HF_TYPE_ENCODING_H

#include "keyspace/keyspace.h"

/* Redis's name for how the value would be kept there. */
const char *type_encoding_name(const struct entry *e, const struct encoding_limits *limits);
/* Redis shares the objects of small integers, and reports INT32_MAX for them; 1 for all else. */
int64_t type_reference_count(const struct entry *e);

#endif
