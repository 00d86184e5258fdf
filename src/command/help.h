/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The reply of "<CONTAINER> HELP": one simple string for each line.
 */
#ifndef HF_COMMAND_HELP_H
#define HF_COMMAND_HELP_H

#include <stddef.h>

#include "command/call.h"

/* `lines` name each subcommand and, indented by four blanks, say what it does; the head and the
 * entry of HELP itself are added. `container` in upper case. */
void reply_help(struct call *c, const char *container, const char *const *lines, size_t count);

#endif
