/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the generated table_data.c gives to table.c: the top-level commands sorted by name, and a
 * hash table over their names. Nobody else looks at it.
 */
#ifndef HF_COMMAND_TABLE_DATA_H
#define HF_COMMAND_TABLE_DATA_H

#include "command/docs.h"
#include "command/table.h"

/* One place of the hash table. The name's bytes stand in two words, lower case, as name_load puts
 * them there; they are the whole name where it has 16 bytes at most. size 0: free. */
struct command_slot {
    uint64_t low, high;
    uint16_t size;
    uint16_t index;
};

extern const struct command command_table[];
extern const int command_table_size;
extern const uint32_t command_slot_mask;
extern const struct command_slot command_slots[];

#endif
