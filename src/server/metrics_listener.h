/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The HTTP listener of metrics-port and metrics-bind:
 *
 *     GET /metrics        server/metrics.h
 *     GET /health/live    200 whenever the event loop turns
 *     GET /health/ready   200, or 503 and the reason while it loads or refuses writes
 *
 * A request's head has at most 8 KiB; each connection is answered once and closed, or closed when
 * it has not sent its request and taken the answer within ten seconds. At most 16 at a time: the
 * oldest goes.
 */
#ifndef HF_SERVER_METRICS_LISTENER_H
#define HF_SERVER_METRICS_LISTENER_H

#include "server/server.h"

struct metrics_listener;

struct metrics_listener *metrics_listener_new(struct server *s);
void metrics_listener_free(struct metrics_listener *m);

/* Listen as the configuration says now; what listened before is closed. */
bool metrics_listen(struct server *s, char error[SOCKET_ERROR_SIZE]);

#endif
