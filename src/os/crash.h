/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A report of what the process was doing when it crashed: SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT.
 * The handler writes it to the log's descriptor and then lets the signal do what it did before (end
 * the process, leave a core, or a sanitizer's own report).
 *
 * Everything here and in the function that tells more is async-signal-safe: no allocation, no
 * locks, no stdio; what it reads may be half changed.
 */
#ifndef HF_OS_CRASH_H
#define HF_OS_CRASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Text to the report. */
void crash_put(int fd, const char *text);
void crash_put_bytes(int fd, const char *data, size_t size); /* unprintable ones as '?' */
void crash_put_number(int fd, uint64_t number);

/* From now on crashes are reported. `version` must stay valid. tell (may be NULL) is called in the
 * handler to add to the report. Once, from the main thread. */
void crash_install(const char *version, void (*tell)(int fd));
void crash_set_enabled(bool enabled);
/* Whether the process exits with status 1 when it ends itself (SIGABRT), instead of by the
 * signal. */
void crash_set_exit(bool exit);

#endif
