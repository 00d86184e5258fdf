/* SPDX-License-Identifier: BSD-3-Clause */
#include "os/crash.h"

#include <execinfo.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "os/crash_symbols.h"
#include "os/log_file.h"

#define FRAMES_MAX 64

static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
static const char *const signal_names[] = {"SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT"};
#define SIGNAL_COUNT (sizeof(signals) / sizeof(signals[0]))

static struct sigaction before[SIGNAL_COUNT];
static const char *program_version;
static void (*tell_more)(int fd);
static volatile sig_atomic_t is_enabled = 1, exits;
static long reporting; /* the thread that writes the report; 0: none */
/* A stack that has overflowed has no room for the handler. */
static char handler_stack[64 * 1024];

void crash_put_bytes(int fd, const char *data, size_t size)
{
    char line[256];
    size_t n = 0;
    for (size_t i = 0; i < size; i++) {
        line[n++] = data[i] == '\n' || (data[i] >= ' ' && data[i] < 0x7f) ? data[i] : '?';
        if (n == sizeof(line) || i + 1 == size) {
            ssize_t ignored = write(fd, line, n);
            (void)ignored;
            n = 0;
        }
    }
}

void crash_put(int fd, const char *text)
{
    ssize_t ignored = write(fd, text, strlen(text));
    (void)ignored;
}

void crash_put_number(int fd, uint64_t number)
{
    char digits[24];
    size_t at = sizeof(digits);
    do
        digits[--at] = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    crash_put_bytes(fd, digits + at, sizeof(digits) - at);
}

/* The same frames once more, with the names of static functions: these are not in the table that
 * the loader has, and this one is not read before what is certain stands in the log. */
static void put_functions(int fd, void *const *frames, int count)
{
    crash_put(fd, "--- functions ---\n");
    for (int i = 0; i < count; i++) {
        /* A frame is where its call returns to, which may be behind the end of the function. */
        uint64_t offset;
        const char *name = crash_symbols_find((const char *)frames[i] - (i > 0), &offset);
        if (name == NULL)
            continue;
        crash_put_number(fd, (uint64_t)i);
        crash_put(fd, " ");
        crash_put(fd, name);
        crash_put(fd, "+");
        crash_put_number(fd, offset + (i > 0));
        crash_put(fd, "\n");
    }
}

static void report(int fd, const char *name, const siginfo_t *info)
{
    void *frames[FRAMES_MAX];
    char thread[17] = "";
    prctl(PR_GET_NAME, thread);
    crash_put(fd, "\n=== CRASH REPORT: start. Please send it with your bug report ===\n");
    crash_put(fd, "Holdfast ");
    crash_put(fd, program_version);
    crash_put(fd, " crashed by signal ");
    crash_put(fd, name);
    crash_put(fd, ", process ");
    crash_put_number(fd, (uint64_t)getpid());
    crash_put(fd, ", thread ");
    crash_put_number(fd, (uint64_t)reporting);
    crash_put(fd, " (");
    crash_put(fd, thread);
    crash_put(fd, "), at ");
    crash_put_number(fd, (uint64_t)time(NULL));
    crash_put(fd, " seconds since 1970\n");
    /* A code of 0 or less: somebody has sent the signal. */
    if (info->si_code <= 0) {
        crash_put(fd, "Sent by process ");
        crash_put_number(fd, (uint64_t)info->si_pid);
        crash_put(fd, " of user ");
        crash_put_number(fd, (uint64_t)info->si_uid);
        crash_put(fd, "\n");
    }
    crash_put(fd, "--- stack trace ---\n");
    int count = backtrace(frames, FRAMES_MAX);
    backtrace_symbols_fd(frames, count, fd);
    if (tell_more != NULL)
        tell_more(fd);
    put_functions(fd, frames, count);
    crash_put(fd, "=== CRASH REPORT: end ===\n");
}

static void on_crash(int number, siginfo_t *info, void *context)
{
    (void)context;
    size_t which = 0;
    while (which + 1 < SIGNAL_COUNT && signals[which] != number)
        which++;
    long self = syscall(SYS_gettid), nobody = 0;
    if (__atomic_compare_exchange_n(&reporting, &nobody, self, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE)) {
        if (is_enabled)
            report(log_file_descriptor(), signal_names[which], info);
    } else if (nobody != self) {
        /* Another thread has crashed, too: its report is enough, and ends the process. */
        for (;;)
            pause();
    }
    /* Blocked until the handler returns. */
    sigaction(number, &before[which], NULL);
    if (exits && number == SIGABRT)
        _exit(1);
    raise(number);
}

void crash_set_exit(bool exit)
{
    exits = exit;
}

void crash_set_enabled(bool enabled)
{
    is_enabled = enabled;
}

void crash_install(const char *version, void (*tell)(int fd))
{
    program_version = version;
    tell_more = tell;
    /* The first call loads a library, which allocates: not to be done in the handler. */
    void *frame;
    backtrace(&frame, 1);
    crash_symbols_open();
    stack_t stack;
    if (sigaltstack(NULL, &stack) == 0 && stack.ss_flags & SS_DISABLE) {
        stack = (stack_t){.ss_sp = handler_stack, .ss_size = sizeof(handler_stack)};
        sigaltstack(&stack, NULL);
    }
    struct sigaction action = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < SIGNAL_COUNT; i++)
        sigaction(signals[i], &action, &before[i]);
}
