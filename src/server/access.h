/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Directives that allow something to nobody, everybody, or those on this machine.
 */
#ifndef HF_SERVER_ACCESS_H
#define HF_SERVER_ACCESS_H

#include "command/call.h"
#include "server/config.h"

/* Whether the setting (enum allow) lets this client. */
bool access_allowed(const struct call *c, int allow);

#endif
