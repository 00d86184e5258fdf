/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the commands on bitmaps share.
 */
#ifndef HF_COMMAND_BITMAP_ARGS_H
#define HF_COMMAND_BITMAP_ARGS_H

#include "command/call.h"

/* A bit's offset, within what a string may hold. `width` > 0: `#7` is taken as well, and means so
 * many times that. False: an error was replied. */
bool bitmap_parse_offset(struct call *c, struct slice s, unsigned width, uint64_t *offset);

#endif
