/* SPDX-License-Identifier: BSD-3-Clause
 *
 * HIMPORT: a connection names a list of fields once (PREPARE), and then makes hashes of it by
 * giving the values only (SET). The lists are the connection's own, and end with it or by RESET;
 * those of a script end with the script. What it makes are hashes like any others.
 */
#ifndef HF_SERVER_HIMPORT_H
#define HF_SERVER_HIMPORT_H

#include <stddef.h>

/* One list of fields, and the next one of the same owner. */
struct fieldset;

/* Free all of them; returns how many. */
size_t fieldsets_free(struct fieldset **first);
size_t fieldsets_memory(const struct fieldset *first);

#endif
