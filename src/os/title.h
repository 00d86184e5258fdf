/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What ps and top show of the process, instead of its arguments. The kernel shows the memory in
 * which it has put arguments and environment: a title is written there, and the environment is
 * copied to elsewhere before.
 */
#ifndef HF_OS_TITLE_H
#define HF_OS_TITLE_H

/* Before any other thread. From the first title on argv's strings are not to be used. */
void title_init(int argc, char **argv);
/* As the program was called. */
const char *title_program(void);
/* What does not fit is cut off. */
void title_set(const char *title);

#endif
