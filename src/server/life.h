/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The life of the process as its surroundings see it: the service manager is told when it is ready,
 * gets on and ends; the kernel how willingly to kill it when memory runs out; and a crash leaves a
 * report.
 *
 * With systemd (supervised systemd, or auto and NOTIFY_SOCKET): READY=1 when the data is loaded and
 * the sockets listen; while it loads STATUS= and EXTEND_TIMEOUT_USEC= each second, so that a large
 * load is not taken for a hang; WATCHDOG=1 from the event loop, at half of WATCHDOG_USEC;
 * STOPPING=1. With upstart the process stops itself once when it is ready.
 */
#ifndef HF_SERVER_LIFE_H
#define HF_SERVER_LIFE_H

#include "base/error.h"
#include "server/config.h"
#include "server/server.h"

/* As early as the configuration is known: crash reports, the log's way to syslog. */
void life_begin(const struct config *config);
/* The supervisor by the configuration; a timer tells it how the server gets on. */
void life_supervise(struct server *s);
/* Loaded, and listening. */
void life_ready(struct server *s);
void life_stopping(struct server *s, const char *status);
/* Before the server is freed. */
void life_end(void);

/* "no", "systemd", "upstart", as found by life_supervise. */
const char *life_supervisor(void);

/* oom-score-adj and its values. What the process was started with is kept, and set again by
 * `no`. */
bool life_apply_oom_score(const struct config *config, struct error *err);

/* set-proc-title and proc-title-template: what ps shows of the process. False: the template has an
 * unknown variable, or a brace without the other. */
bool life_apply_title(const struct config *config, struct error *err);
/* disable-thp: of the memory of keys nothing becomes huge pages by itself. */
void life_apply_huge_pages(const struct config *config);

#endif
