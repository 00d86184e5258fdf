/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The offline tool `holdfast`: what can be done with files while no server runs over them.
 *
 *     holdfast check FILE...   validate RDB files whole
 *     holdfast info FILE       what an RDB file holds: keys by database and type
 *
 * A file is loaded into memory to be looked at, as the server would load it: what this tool accepts
 * the server loads, and the other way round.
 */
#ifndef HF_TOOL_TOOL_H
#define HF_TOOL_TOOL_H

/* Runs the tool; returns the exit status: 0 all is well, 1 a file is damaged or cannot be read, 2 the
 * arguments are wrong. */
int tool_run(int argc, char **argv);

#endif
