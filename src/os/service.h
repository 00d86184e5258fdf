/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What ties the process to the system that supervises it: a service manager that waits to be told
 * that the service is ready (systemd's NOTIFY_SOCKET, upstart's SIGSTOP), the system's log, and the
 * kernel's choice of whom to kill when memory runs out.
 */
#ifndef HF_OS_SERVICE_H
#define HF_OS_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* Whether NOTIFY_SOCKET names a socket. */
bool service_systemd_present(void);
/* One datagram of lines as sd_notify(3) describes them ("READY=1\nSTATUS=..."). False: it could not
 * be sent; nobody may be listening. Never waits. */
bool service_systemd_notify(const char *lines);
/* How often a WATCHDOG=1 is due, in microseconds: half of what the manager waits for; 0: never. */
int64_t service_watchdog_interval_us(void);
/* Started by upstart, which waits for the process to stop itself. */
bool service_upstart_present(void);
void service_upstart_ready(void);

/* From now on each line of the log goes to syslog as well. `facility` is "user", "local0", ...;
 * `identity` must stay valid. */
void service_syslog_open(const char *identity, const char *facility);

/* /proc/self/oom_score_adj. */
bool service_oom_score_get(int *score, struct error *err);
bool service_oom_score_set(int score, struct error *err);

#endif
