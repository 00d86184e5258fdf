/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool error_set(struct error *err, enum error_code code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    err->code = code;
    err->os_errno = 0;
    vsnprintf(err->message, sizeof(err->message), format, args);
    va_end(args);
    return false;
}

static enum error_code code_of_errno(int os_errno)
{
    switch (os_errno) {
    case ENOSPC:
    case EDQUOT:
        return ERROR_NO_SPACE;
    case ENOENT:
        return ERROR_NOT_FOUND;
    case EEXIST:
        return ERROR_EXISTS;
    default:
        return ERROR_SYSTEM;
    }
}

bool error_set_errno(struct error *err, int os_errno, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(err->message, sizeof(err->message), format, args);
    va_end(args);
    err->code = code_of_errno(os_errno);
    err->os_errno = os_errno;
    if (n >= 0 && (size_t)n < sizeof(err->message))
        snprintf(err->message + n, sizeof(err->message) - (size_t)n, ": %s", strerror(os_errno));
    return false;
}

bool error_prefix(struct error *err, const char *format, ...)
{
    char old[sizeof(err->message)];
    memcpy(old, err->message, sizeof(old));
    va_list args;
    va_start(args, format);
    int n = vsnprintf(err->message, sizeof(err->message), format, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof(err->message))
        snprintf(err->message + n, sizeof(err->message) - (size_t)n, ": %s", old);
    return false;
}
