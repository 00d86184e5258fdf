/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The command logs: the last commands that took long (SLOWLOG, COMMANDLOG ... slow), and those with
 * large requests and large replies (COMMANDLOG ... large-request, large-reply). Each is a ring of
 * the newest entries, as many as its directive says; an entry is one block with trimmed copies of
 * the arguments.
 *
 * Dispatch compares one number for each command: `slow_cycles`, the least of what any of the logs
 * and the latency monitor want to know of (while HOTKEYS tracks keys: 0); only what is beyond is
 * looked at closely.
 */
#ifndef HF_SERVER_SLOWLOG_H
#define HF_SERVER_SLOWLOG_H

#include "server/client.h"

enum command_log_kind { COMMAND_LOG_SLOW, COMMAND_LOG_REQUEST, COMMAND_LOG_REPLY, COMMAND_LOGS };

struct command_log;

struct command_log *command_log_new(void);
void command_log_free(struct command_log *logs);

/* A command was executed; `value` is microseconds, or bytes. Logged if the directive of this kind
 * says so. */
void command_log_note(struct client *c, const struct command *command, enum command_log_kind kind,
                      const struct slice *argv, int argc, uint64_t value);
/* Recompute server.slow_cycles: after a change of the configuration, and now and then as the rate
 * of the processor's clock becomes known better. */
void slowlog_update(struct server *s);

/* The latency monitor: events ("command", "fast-command", "expire-cycle", ...) that took at least
 * latency-monitor-threshold milliseconds. */
struct latency_monitor;
struct latency_monitor *latency_monitor_new(void);
void latency_monitor_free(struct latency_monitor *m);
void latency_note(struct server *s, const char *event, int64_t us);

#endif
