/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What /metrics and the /health pages say. All counters count since the start or CONFIG RESETSTAT.
 */
#ifndef HF_SERVER_METRICS_H
#define HF_SERVER_METRICS_H

#include "server/server.h"

struct text;

/* Appends all metrics in Prometheus's text format (base/exposition.h). */
void metrics_append(struct server *s, struct text *out);

/* True: the server takes writes. Else `why` gets the reason. */
bool metrics_is_ready(const struct server *s, struct text *why);

#endif
