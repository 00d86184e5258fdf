/* SPDX-License-Identifier: BSD-3-Clause
 *
 * holdfast log: the commands of a log, one on a line:
 *
 *     LSN  time  database  COMMAND ARGUMENTS...
 *
 * The LSN is the one behind the command. Lines of a transaction stand between MULTI and EXEC. What
 * is only in the base is not listed: that is a snapshot, not commands. The files of the history,
 * which a start does not read, come first: damage in them is told, and what is behind it listed.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "base/glob.h"
#include "base/mem.h"
#include "base/number.h"
#include "persist/log/history.h"
#include "persist/log/recovery.h"
#include "persist/log/recovery_files.h"
#include "tool/format.h"
#include "tool/input.h"
#include "os/file.h"
#include "tool/log_dir.h"
#include "tool/tool.h"

#define ARGUMENT_SHOWN 200

struct listing {
    struct slice pattern;
    bool with_pattern, past_end;
    struct recovery_until from, to;
    int64_t db;
    struct text line;
};

/* Which arguments of a command are keys: those from the first to the last, each step-th. Here are
 * the commands of a log that have others than their first argument alone. */
#define TO_END UINT8_MAX
static const struct key_rule {
    const char *name;
    uint8_t first, last, step;
    uint8_t counted; /* so many keys as this argument says follow it, besides; 0: none */
} key_rules[] = {
    {"bitop", 2, TO_END, 1, 0},
    {"blmove", 1, 2, 1, 0},
    {"blmpop", 1, 0, 1, 2},
    {"brpoplpush", 1, 2, 1, 0},
    {"bzmpop", 1, 0, 1, 2},
    {"copy", 1, 2, 1, 0},
    {"del", 1, TO_END, 1, 0},
    {"flushall", 1, 0, 1, 0},
    {"flushdb", 1, 0, 1, 0},
    {"function", 1, 0, 1, 0},
    {"geosearchstore", 1, 2, 1, 0},
    {"himport", 2, 2, 1, 0},
    {"lmove", 1, 2, 1, 0},
    {"lmovem", 1, 2, 1, 0},
    {"lmpop", 1, 0, 1, 1},
    {"mset", 1, TO_END, 2, 0},
    {"msetex", 1, 0, 2, 1},
    {"msetnx", 1, TO_END, 2, 0},
    {"pfdebug", 2, 2, 1, 0},
    {"pfmerge", 1, TO_END, 1, 0},
    {"rename", 1, 2, 1, 0},
    {"renamenx", 1, 2, 1, 0},
    {"rpoplpush", 1, 2, 1, 0},
    {"sdiffstore", 1, TO_END, 1, 0},
    {"select", 1, 0, 1, 0},
    {"sinterstore", 1, TO_END, 1, 0},
    {"smove", 1, 2, 1, 0},
    {"sunionstore", 1, TO_END, 1, 0},
    {"swapdb", 1, 0, 1, 0},
    {"unlink", 1, TO_END, 1, 0},
    {"xgroup", 2, 2, 1, 0},
    {"zdiffstore", 1, 1, 1, 2},
    {"zinterstore", 1, 1, 1, 2},
    {"zmpop", 1, 0, 1, 1},
    {"zrangestore", 1, 2, 1, 0},
    {"zunionstore", 1, 1, 1, 2},
};

static struct key_rule find_rule(struct slice name)
{
    for (size_t i = 0; i < sizeof(key_rules) / sizeof(key_rules[0]); i++) {
        if (slice_is(name, key_rules[i].name))
            return key_rules[i];
    }
    return (struct key_rule){"", 1, 1, 1, 0};
}

static bool any_matches(const struct listing *l, const struct slice *argv, size_t argc,
                        size_t first, size_t last, size_t step)
{
    for (size_t i = first; i <= last && i < argc; i += step) {
        if (glob_match(l->pattern, argv[i], false))
            return true;
    }
    return false;
}

static bool has_key(const struct listing *l, const struct slice *argv, size_t argc)
{
    struct key_rule rule = find_rule(argv[0]);
    int64_t count;
    size_t last = rule.last == TO_END ? argc : rule.last;
    if (any_matches(l, argv, argc, rule.first, last, rule.step))
        return true;
    if (rule.counted != 0 && rule.counted < argc &&
        number_parse_int64(argv[rule.counted], &count) && count > 0 && (uint64_t)count < argc &&
        any_matches(l, argv, argc, rule.counted + 1u, rule.counted + (size_t)count * rule.step,
                    rule.step))
        return true;
    /* SORT and GEORADIUS name where the result goes behind a word. */
    if (!slice_is(argv[0], "sort") && !slice_is(argv[0], "georadius") &&
        !slice_is(argv[0], "georadiusbymember"))
        return false;
    for (size_t i = 2; i + 1 < argc; i++) {
        if ((slice_is(argv[i], "store") || slice_is(argv[i], "storedist")) &&
            glob_match(l->pattern, argv[i + 1], false))
            return true;
    }
    return false;
}

static bool is_before(const struct recovery_until *u, uint64_t lsn, int64_t ms)
{
    return (u->kind == UNTIL_LSN && lsn < u->lsn) || (u->kind == UNTIL_MS && ms < u->ms);
}

static bool is_behind(const struct recovery_until *u, uint64_t lsn, int64_t ms)
{
    return (u->kind == UNTIL_LSN && lsn > u->lsn) || (u->kind == UNTIL_MS && ms > u->ms);
}

static void format_ms(char out[FORMAT_SIZE], int64_t ms)
{
    struct tm t;
    time_t seconds = (time_t)(ms / 1000);
    if (ms == 0 || gmtime_r(&seconds, &t) == NULL) {
        snprintf(out, FORMAT_SIZE, "-");
        return;
    }
    size_t n = strftime(out, FORMAT_SIZE, "%Y-%m-%dT%H:%M:%S", &t);
    snprintf(out + n, FORMAT_SIZE - n, ".%03dZ", (int)(ms % 1000));
}

static void list_command(struct listing *l, const struct log_command *c, const struct slice *argv,
                         int64_t ms)
{
    char time[FORMAT_SIZE];
    if (c->argc == 2 && slice_is(argv[0], "select") && number_parse_int64(argv[1], &l->db))
        return;
    l->past_end = l->past_end || is_behind(&l->to, c->lsn, ms);
    if (l->past_end || is_before(&l->from, c->lsn, ms) ||
        (l->with_pattern && !has_key(l, argv, c->argc)))
        return;
    format_ms(time, ms);
    text_clear(&l->line);
    text_appendf(&l->line, "%" PRIu64 " %s db%" PRId64, c->lsn, time, l->db);
    for (size_t i = 0; i < c->argc; i++) {
        text_append_cstr(&l->line, " ");
        text_append_printable(&l->line, argv[i], ARGUMENT_SHOWN);
    }
    text_append_cstr(&l->line, "\n");
    fwrite(l->line.data, 1, l->line.size, stdout);
}

static void list_batch(void *ctx, const struct log_batch *b)
{
    struct listing *l = ctx;
    for (size_t g = 0; g < b->group_count && !l->past_end; g++) {
        const struct log_group *group = &b->groups[g];
        for (size_t i = 0; i < group->command_count; i++) {
            const struct log_command *c = &b->commands[group->first_command + i];
            list_command(l, c, b->args + c->first_arg, group->ms);
        }
    }
}

/* Where the commands of a file begin, behind a preamble. */
static bool skip_preamble(const char *path, uint64_t *offset, struct error *err)
{
    bool rdb;
    struct input in;
    struct rdb_record record;
    *offset = 0;
    if (!recovery_is_rdb(path, &rdb, err) || !rdb)
        return err->code == ERROR_NONE;
    if (!input_open(&in, path, NULL)) {
        *err = in.err;
        return false;
    }
    bool ok;
    while ((ok = input_next(&in, &record)) && record.kind != RDB_RECORD_END) {
        if (record.kind == RDB_RECORD_KEY && !(ok = input_skip(&in, &record)))
            break;
    }
    *offset = input_offset(&in);
    *err = in.err;
    input_close(&in);
    return ok;
}

static bool list_file(struct listing *l, const char *path, bool base, struct log_position *at)
{
    struct error err = {0};
    struct log_status s = {0};
    struct annotation a;
    uint64_t offset = 0;
    bool ours = false;
    bool ok = !base || (skip_preamble(path, &offset, &err) &&
                        (offset > 0 || recovery_first_line(path, &ours, &a, &err)));
    if (ok && ours && a.kind == ANNOTATION_BASE)
        return true;
    enum log_read end = LOG_READ_FAILED;
    if (ok)
        end = log_dir_read(path, offset, at, list_batch, l, &s, &err);
    *at = (struct log_position){.lsn = s.lsn, .crc = s.crc, .ms = s.ms};
    if (end == LOG_READ_FAILED) {
        fprintf(stderr, "holdfast log: %s: %s\n", path, err.message);
        return false;
    }
    at->known = !base && end == LOG_READ_END;
    if (end == LOG_READ_END || l->past_end)
        return true;
    fprintf(stderr, "holdfast log: %s: offset %" PRIu64 ": %s\n", path, s.bad_offset, s.reason);
    return false;
}

/* What began anew does not go on from the one before, whose LSNs may have been greater. */
static void note_beginning(struct listing *l, const struct log_dir *d,
                           const struct manifest_file *f, struct log_position *at)
{
    uint64_t lsn;
    bool anew = false;
    if (!history_head(d->directory, f->name, &lsn, &anew) || !anew)
        return;
    at->known = false;
    l->past_end = false;
}

static bool list_history(struct listing *l, const struct log_dir *d, struct log_position *at)
{
    size_t count;
    const struct manifest_file **files = log_dir_history(d, &count);
    bool ok = true;
    for (size_t i = 0; i < count && manifest_is_incremental(files[i]); i++) {
        char path[512];
        struct error err;
        note_beginning(l, d, files[i], at);
        if (l->past_end)
            continue;
        if (!log_dir_path(d, files[i], path, &err)) {
            fprintf(stderr, "holdfast log: %s\n", err.message);
            ok = false;
        } else if (!os_path_exists(path)) {
            at->known = false;
        } else if (!list_file(l, path, false, at)) {
            ok = false;
        }
    }
    mem_free(files);
    return ok;
}

static int list(struct listing *l, const char *path)
{
    struct log_dir d;
    struct error err = {0};
    struct log_position at = {0};
    /* A divergence journal, or any other file of commands. */
    if (os_path_exists(path) && !os_path_is_dir(path))
        return list_file(l, path, false, &at) ? TOOL_OK : TOOL_FAILED;
    if (!log_dir_open(&d, path, &err)) {
        fprintf(stderr, "holdfast log: %s\n", err.message);
        return TOOL_FAILED;
    }
    bool past = list_history(l, &d, &at), ok = true;
    const struct manifest_file *f;
    for (size_t i = 0; ok && (f = log_dir_file(&d, i)) != NULL; i++) {
        char file[512];
        size_t n = strlen(f->name);
        bool base = f->type == MANIFEST_BASE;
        if (base && n > 4 && strcmp(f->name + n - 4, ".rdb") == 0)
            continue;
        note_beginning(l, &d, f, &at);
        if (!l->past_end)
            ok = log_dir_path(&d, f, file, &err) && list_file(l, file, base, &at);
    }
    log_dir_close(&d);
    return ok && past ? TOOL_OK : TOOL_FAILED;
}

int tool_log(int argc, char **argv)
{
    static const struct option known[] = {{"key", required_argument, NULL, 'k'},
                                          {"from", required_argument, NULL, 'f'},
                                          {"to", required_argument, NULL, 't'},
                                          {0}};
    struct listing l = {0};
    int option;
    while ((option = tool_next_option(argc, argv, known)) != -1) {
        if (option == '?')
            return tool_option_error("log", argv);
        if (option == 'k') {
            l.pattern = slice_cstr(optarg);
            l.with_pattern = true;
        } else if (!recovery_parse_until(slice_cstr(optarg), option == 'f' ? &l.from : &l.to)) {
            return tool_usage_error("log", "'%s' is no LSN, milliseconds or date", optarg);
        }
    }
    if (tool_argument_count(argc) != 1)
        return tool_usage_error("log", "which directory, or which file of a log?");
    int status = list(&l, tool_argument(argv, 0));
    text_free(&l.line);
    return tool_finish_output("log", status);
}
