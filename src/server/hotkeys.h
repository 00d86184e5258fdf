/* SPDX-License-Identifier: BSD-3-Clause
 *
 * HOTKEYS: which keys take most of the processor's time and of the network, from START to STOP.
 * Each metric has a sketch: sets of eight counters, a key's hash says which set. A key that finds
 * no counter of its own takes away from the least one of its set, and has its place when nothing is
 * left of it: so a key with much weight keeps its counter, and is counted too low at most by what
 * was taken away.
 *
 * Dispatch is not asked anything more: while keys are tracked every command is one that is looked
 * at closely (slowlog.h, `slow_cycles`).
 */
#ifndef HF_SERVER_HOTKEYS_H
#define HF_SERVER_HOTKEYS_H

#include "server/client.h"

struct hotkeys;

void hotkeys_free(struct hotkeys *h);
bool hotkeys_is_on(const struct hotkeys *h);
/* A command was executed: it took so many cycles, and its request and reply so many bytes. */
void hotkeys_note(struct server *s, const struct call *call, const struct command *command,
                  uint64_t cycles, uint64_t bytes);

#endif
