/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the process asks the system about itself and its place: working directory, standard input,
 * names that a pattern matches, CPU time, going to the background.
 */
#ifndef HF_OS_PROCESS_H
#define HF_OS_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"

bool os_change_dir(const char *path, struct error *err);
bool os_current_dir(char *path, size_t size);
/* `path` as an absolute one, made so with the current directory. Freed by mem_free. */
char *os_absolute_path(const char *path);

/* Appends standard input, to its end, to `out`. TOO_LARGE beyond `max`. */
bool os_read_stdin(size_t max, struct text *out, struct error *err);

/* Calls fn for each path that a shell pattern matches, sorted, until it returns false. A pattern
 * without special characters is its own match, whether there is such a file or not. Returns false
 * when fn did. */
bool os_glob(const char *pattern, bool (*fn)(void *ctx, const char *path), void *ctx);

struct os_cpu_times {
    double user, system;                   /* seconds, of all threads */
    double user_children, system_children; /* of child processes that have ended */
    double user_thread, system_thread;     /* of the calling thread */
};
void os_cpu_times(struct os_cpu_times *times);

/* "Linux 6.1.0 x86_64" */
void os_system_name(char *out, size_t size);
uint64_t os_total_memory(void);
int os_processor_count(void); /* that this process may run on; at least 1 */
int os_process_id(void);
/* The path of the running program; "" when it cannot be told. */
void os_program_path(char *out, size_t size);

/* Go on in the background, in a session of its own, with /dev/null as standard streams. To be
 * called before any thread is started. */
bool os_daemonize(struct error *err);

/* From now on memory is made of huge pages only where that is asked for (base/mem.h,
 * mem_huge_alloc), whatever the system's setting is; on kernels before 6.18, which know no such
 * difference, nowhere, if the system's setting is `always`. False: the kernel refuses. */
bool os_huge_pages_by_advice_only(void);

/* Whether the descriptor (2: standard error) is a terminal. */
bool os_is_terminal(int fd);

void os_sleep_us(int64_t us);

#endif
