/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The log of the process: one line for an event, in Redis's levels. Any thread may write; a line is
 * written by one call of the sink. Formats: Redis's own ("PID:M 01 Jan 2026 10:00:00.000 * text"),
 * logfmt, and JSON lines. Where the lines go is a sink's matter (os/log_file.h has one for files);
 * without one they go to standard output.
 */
#ifndef HF_BASE_LOG_H
#define HF_BASE_LOG_H

#include <stddef.h>

enum log_level {
    LOG_LEVEL_DEBUG,
    LOG_LEVEL_VERBOSE,
    LOG_LEVEL_NOTICE,
    LOG_LEVEL_WARNING,
    LOG_LEVEL_NOTHING
};
enum log_format { LOG_FORMAT_LEGACY, LOG_FORMAT_LOGFMT, LOG_FORMAT_JSON };
enum log_time { LOG_TIME_LEGACY, LOG_TIME_ISO8601, LOG_TIME_MILLISECONDS };

void log_set_level(enum log_level level);
enum log_level log_get_level(void);
void log_set_format(enum log_format format, enum log_time time);
/* The letter behind the process id: M primary, S replica, C child or start, X sentinel. */
void log_set_role(char role);
/* `line` ends in a newline and is not terminated by a NUL. NULL: standard output. */
void log_set_sink(void (*sink)(void *ctx, const char *line, size_t size), void *ctx);
/* Besides: gets each line's text alone, without time or process (os/service.h has one for syslog).
 * NULL: none. */
void log_set_second_sink(void (*sink)(enum log_level level, const char *text));

void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_verbose(...) log_write(LOG_LEVEL_VERBOSE, __VA_ARGS__)
#define log_notice(...) log_write(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)

#endif
