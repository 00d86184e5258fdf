/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Prometheus's text format for metrics, version 0.0.4: for each metric a HELP and a TYPE line, then
 * its samples, one a line, all together. The caller gives each metric once.
 *
 *     # HELP name What it counts.
 *     # TYPE name counter
 *     name{label="value"} 12
 */
#ifndef HF_BASE_EXPOSITION_H
#define HF_BASE_EXPOSITION_H

#include <stdint.h>

#include "base/text.h"

/* type: "counter", "gauge", "summary", ... */
void exposition_begin(struct text *out, const char *name, const char *type, const char *help);

/* A sample of it. suffix: "" or, of a summary, "_sum" and "_count". labels: name and value in turn,
 * up to a NULL; NULL for none. Values are escaped. */
void exposition_value(struct text *out, const char *name, const char *suffix,
                      const char *const *labels, double value);
/* Without rounding. */
void exposition_count(struct text *out, const char *name, const char *suffix,
                      const char *const *labels, uint64_t value);

/* A metric of one sample without labels. */
void exposition_gauge(struct text *out, const char *name, const char *help, double value);
void exposition_counter(struct text *out, const char *name, const char *help, uint64_t value);

#endif
