/* SPDX-License-Identifier: BSD-3-Clause */
#include "tool/tool.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *arguments;
    const char *summary; /* lines of at most 60 characters */
};

static const struct command commands[] = {
    {"check", tool_check, "FILE|DIR... [--memory MIB]",
     "validate RDB files, chains of snapshots, and whole logs (a data\n"
     "directory or its appendonlydir): every length, structure and\n"
     "checksum. A chain is named by its manifest or one of its deltas.\n"
     "Names the offset and the reason of the first damage"},
    {"repair", tool_repair, "DIR [--yes]",
     "say how a damaged log could be made to start again, and what\n"
     "is lost by it; with --yes do it. What is cut off is kept"},
    {"log", tool_log, "DIR|FILE [--key PATTERN] [--from LSN|TIME] [--to LSN|TIME]",
     "the commands of a log, each with its LSN and time; first those\n"
     "of the history, which a start does not read"},
    {"info", tool_info, "FILE|CHAIN [--json]",
     "what an RDB file holds: header, fields, databases, counts, sizes;\n"
     "or the links of a chain"},
    {"report", tool_report,
     "FILE|CHAIN [--json] [--html OUT] [--top N] [--depth N]\n         [--separator C] [--memory "
     "MIB]",
     "memory by type, database, prefix, expiry and size, and the\n"
     "biggest keys; as text, JSON or a page with charts. CHAIN: the\n"
     "manifest of a chain of snapshots, or a directory with one"},
    {"export", tool_export,
     "FILE|CHAIN --format jsonl|resp|csv [--key PATTERN] [--db N] [--type T]\n         [--memory "
     "MIB]",
     "the keys as JSON lines, as commands for redis-cli --pipe, or\nas CSV, to standard output"},
    {"restore", tool_restore, "CHAIN --to FILE [--until N]",
     "one RDB file out of a full snapshot and the incremental ones\nafter it, each of them proven "
     "first"},
    {"diff", tool_diff, "OLD NEW [--json] [--values] [--memory MIB]",
     "keys added, removed and changed from one file, or chain, to\nanother. --memory (256): for "
     "the old one's keys; of a chain, in\n"
     "all three commands, for those that were changed in it.\n"
     "Exit status 0: none; 1: some; 2: trouble"},
};

#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

/* A command's line of --help, the lines of its summary indented. */
static void print_summary(FILE *out, const struct command *c)
{
    fprintf(out, "  %s %s\n", c->name, c->arguments);
    for (const char *line = c->summary; line;) {
        const char *end = strchr(line, '\n');
        size_t size = end ? (size_t)(end - line) : strlen(line);
        fprintf(out, "        %.*s\n", (int)size, line);
        line = end ? end + 1 : NULL;
    }
}

static void print_usage(FILE *out)
{
    fputs("usage: holdfast COMMAND ARGUMENTS...\n\n", out);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        print_summary(out, &commands[i]);
    fputs("  --version, --help\n\n"
          "Exit status: 0 all is well, 1 a file is damaged or cannot be read, 2 wrong arguments.\n"
          "All of it: man holdfast\n",
          out);
}

int tool_usage_error(const char *command, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "holdfast %s: ", command);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        const struct command *c = &commands[i];
        if (strcmp(c->name, command) == 0)
            fprintf(stderr, "usage: holdfast %s %s\n", c->name, c->arguments);
    }
    return TOOL_USAGE;
}

/* What tool_next_option found wrong last. */
static const char problem_no_value[] = "needs a value";
static const char problem_unknown[] = "is unknown, or takes no value";
static const char *option_problem = problem_unknown;

/* getopt wants the program's name before the arguments, where the subcommand's name is. */
int tool_next_option(int argc, char **argv, const struct option *options)
{
    opterr = 0;
    int option = getopt_long(argc + 1, argv - 1, ":", options, NULL);
    option_problem = option == ':' ? problem_no_value : problem_unknown;
    return option == ':' ? '?' : option;
}

int tool_option_error(const char *command, char **argv)
{
    const char *last = argv[optind - 2];
    /* Of a short option getopt gives the character; it may not have left its argument yet. */
    if (option_problem == problem_unknown && optopt != 0 && strchr(last, '=') == NULL)
        return tool_usage_error(command, "the option -%c is unknown", optopt);
    return tool_usage_error(command, "the option %s %s", last, option_problem);
}

int tool_argument_count(int argc)
{
    return argc + 1 - optind;
}

const char *tool_argument(char **argv, int index)
{
    return argv[optind - 1 + index];
}

int tool_finish_output(const char *command, int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    fprintf(stderr, "holdfast %s: the output could not be written: %s\n", command, strerror(errno));
    return TOOL_FAILED;
}

int tool_run(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_usage(stdout);
        return TOOL_OK;
    }
    if (strcmp(name, "--version") == 0 || strcmp(name, "-v") == 0) {
        printf("holdfast %s\n", HF_VERSION);
        return TOOL_OK;
    }
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(commands[i].name, name) != 0)
            continue;
        if (argc == 3 && (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0)) {
            print_summary(stdout, &commands[i]);
            return TOOL_OK;
        }
        return commands[i].run(argc - 2, argv + 2);
    }
    if (name[0] != '\0') {
        fprintf(stderr, "holdfast: '%s' is no command. They are:", name);
        for (size_t i = 0; i < COMMAND_COUNT; i++)
            fprintf(stderr, " %s", commands[i].name);
        fputs(". holdfast --help says more\n", stderr);
        return TOOL_USAGE;
    }
    print_usage(stderr);
    return TOOL_USAGE;
}
