/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The log's sink for a file (base/log.h). The file is opened anew when it was renamed or removed,
 * so that it can be rotated without telling the server.
 */
#ifndef HF_OS_LOG_FILE_H
#define HF_OS_LOG_FILE_H

#include <stdbool.h>

#include "base/error.h"

/* Send log lines to `path`; an empty path: to standard output. */
bool log_file_open(const char *path, struct error *err);
/* Where the lines go: what a signal handler may write to. */
int log_file_descriptor(void);

#endif
