/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Errors that are reported to somebody: a code, and a sentence that gains context on its way up
 * ("base file: record 812 at offset 40960: checksum mismatch"). A function that can fail takes a
 * struct error * (never NULL) and returns false when it has filled it in.
 */
#ifndef HF_BASE_ERROR_H
#define HF_BASE_ERROR_H

#include <stdbool.h>

enum error_code {
    ERROR_NONE,
    ERROR_SYSTEM, /* the operating system refused */
    ERROR_NO_SPACE,
    ERROR_NOT_FOUND,
    ERROR_EXISTS,
    ERROR_TRUNCATED, /* ends too early */
    ERROR_CORRUPT,
    ERROR_UNSUPPORTED,
    ERROR_INVALID,
    ERROR_TOO_LARGE,
    ERROR_CANCELLED
};

struct error {
    enum error_code code;
    int os_errno; /* for SYSTEM, NO_SPACE, NOT_FOUND, EXISTS that came from a system call; else 0 */
    char message[256];
};

/* Fill in; always returns false, so that `return error_set(...)` reads well. */
bool error_set(struct error *err, enum error_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* From errno: the code follows from it, its text is appended to the message. */
bool error_set_errno(struct error *err, int os_errno, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Put context before the message. Returns false. */
bool error_prefix(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
