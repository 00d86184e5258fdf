/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Threads: started with all signals blocked (the main thread takes them), a name that top shows, the
 * memory accounting begun, and a niceness, by which helpers yield to the executor.
 */
#ifndef HF_OS_THREAD_H
#define HF_OS_THREAD_H

#include <pthread.h>
#include <stdbool.h>

#include "base/error.h"

/* name: at most 15 characters. nice: 0 as the executor, up to 19. */
bool os_thread_start(pthread_t *thread, const char *name, int nice, void (*run)(void *arg),
                     void *arg, struct error *err);

#endif
