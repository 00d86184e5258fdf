/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Names of the program's functions, static ones too, for a crash report: from the symbol table of
 * its own file, which is mapped when the process starts, so that it is there whatever happens to
 * the file's name. A program that was stripped has none.
 */
#ifndef HF_OS_CRASH_SYMBOLS_H
#define HF_OS_CRASH_SYMBOLS_H

#include <stdint.h>

/* Once, from the main thread. */
void crash_symbols_open(void);

/* The name of the function that the address lies in, and how far in; NULL: none is known. Safe in a
 * signal's handler. */
const char *crash_symbols_find(const void *address, uint64_t *offset);

#endif
