/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The offline tool `holdfast`: what can be done with files while no server runs over them.
 *
 * Each subcommand is a file of its own with one function, which takes the arguments behind the
 * subcommand's name and returns the exit status; the table in tool.c names them all, and is what
 * --help shows. A new subcommand is: its file, its declaration here, its row there.
 */
#ifndef HF_TOOL_TOOL_H
#define HF_TOOL_TOOL_H

/* What a subcommand returns, and the tool exits with. */
enum tool_status {
    TOOL_OK = 0,
    TOOL_FAILED = 1, /* a file is damaged or cannot be read; of diff: the files differ */
    TOOL_USAGE = 2   /* the arguments are wrong; of diff: trouble of any kind */
};

/* Runs the tool over main's arguments; returns the exit status. */
int tool_run(int argc, char **argv);

/* Complain about the arguments on standard error: "holdfast SUBCOMMAND: ...", where to read more.
 * Returns TOOL_USAGE. */
int tool_usage_error(const char *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Options of a subcommand, as getopt_long takes them; they may stand before or behind the files.
 * Returns the option's `val`, '?' for what is wrong, -1 at the end; the value is in optarg. */
struct option;
int tool_next_option(int argc, char **argv, const struct option *options);
/* Complain about the option for which tool_next_option has just returned '?': it is unknown, stands
 * for several, has no value, or has one and takes none. Returns TOOL_USAGE. */
int tool_option_error(const char *command, char **argv);
/* After the last option: the arguments that are none. */
int tool_argument_count(int argc);
const char *tool_argument(char **argv, int index);

/* Flush standard output; returns `status`, or TOOL_FAILED with a complaint when not all of it could
 * be written (a full disk must not look like a short result). */
int tool_finish_output(const char *command, int status);

/* The subcommands. argv[0] is the first argument behind the name, argv[-1] the name. */
int tool_check(int argc, char **argv);
int tool_info(int argc, char **argv);
int tool_report(int argc, char **argv);
int tool_export(int argc, char **argv);
int tool_diff(int argc, char **argv);
int tool_restore(int argc, char **argv);
int tool_repair(int argc, char **argv);
int tool_log(int argc, char **argv);

#endif
