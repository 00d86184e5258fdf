/* SPDX-License-Identifier: BSD-3-Clause */
#include "os/thread.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"

struct start {
    const char *name;
    int nice;
    void (*run)(void *arg);
    void *arg;
};

static void *begin(void *arg)
{
    struct start start = *(struct start *)arg;
    mem_thread_begin();
    mem_free(arg);
    pthread_setname_np(pthread_self(), start.name);
    /* On Linux niceness is the thread's own. It is a wish: failing to get it changes nothing. */
    if (start.nice != 0)
        setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), start.nice);
    start.run(start.arg);
    mem_thread_end();
    return NULL;
}

bool os_thread_start(pthread_t *thread, const char *name, int nice, void (*run)(void *arg),
                     void *arg, struct error *err)
{
    struct start *start = mem_alloc(sizeof(*start));
    *start = (struct start){name, nice, run, arg};
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int result = pthread_create(thread, NULL, begin, start);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (result != 0) {
        mem_free(start);
        return error_set_errno(err, result, "cannot start the thread %s", name);
    }
    return true;
}
