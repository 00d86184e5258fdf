/* SPDX-License-Identifier: BSD-3-Clause
 *
 * holdfast log: the commands of a log, one on a line:
 *
 *     LSN  time  database  COMMAND ARGUMENTS...
 *
 * The LSN is the one behind the command. Lines of a transaction stand between MULTI and EXEC. What
 * is only in the base is not listed: that is a snapshot, not commands.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "base/glob.h"
#include "base/number.h"
#include "persist/log/recovery.h"
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

static bool is_one_of(struct slice name, const char *const *words)
{
    for (; *words != NULL; words++) {
        if (slice_is(name, *words))
            return true;
    }
    return false;
}

/* Which arguments are keys: [1, *end), each *step-th. It is enough to know those commands that have
 * others than the first. */
static void key_range(struct slice name, size_t argc, size_t *end, size_t *step)
{
    static const char *const all[] = {"del",        "unlink",      "pfmerge",    "sinterstore",
                                      "sdiffstore", "sunionstore", "sintercard", NULL};
    static const char *const pairs[] = {"mset", "msetnx", NULL};
    static const char *const two[] = {"rename",    "renamenx", "copy",       "smove",
                                      "rpoplpush", "lmove",    "brpoplpush", "zrangestore", NULL};
    static const char *const counted[] = {"zunionstore", "zinterstore", "zdiffstore", NULL};
    static const char *const none[] = {"flushall", "flushdb", "swapdb", "select", NULL};
    *step = slice_is(name, "mset") || is_one_of(name, pairs) ? 2 : 1;
    if (is_one_of(name, all) || is_one_of(name, pairs) || is_one_of(name, counted))
        *end = argc;
    else if (is_one_of(name, two))
        *end = 3;
    else
        *end = is_one_of(name, none) ? 0 : 2;
    if (*end > argc)
        *end = argc;
}

static bool has_key(const struct listing *l, const struct slice *argv, size_t argc)
{
    size_t end, step;
    key_range(argv[0], argc, &end, &step);
    for (size_t i = 1; i < end; i += step) {
        if (glob_match(l->pattern, argv[i], false))
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
    struct log_status s;
    uint64_t offset = 0;
    bool ok = !base || skip_preamble(path, &offset, &err);
    enum log_read end = LOG_READ_FAILED;
    if (ok)
        end = log_dir_read(path, offset, at, list_batch, l, &s, &err);
    if (end == LOG_READ_FAILED) {
        fprintf(stderr, "holdfast log: %s: %s\n", path, err.message);
        return false;
    }
    *at = (struct log_position){.lsn = s.lsn, .crc = s.crc, .ms = s.ms, .known = !base};
    if (end == LOG_READ_END || l->past_end)
        return true;
    fprintf(stderr, "holdfast log: %s: offset %" PRIu64 ": %s\n", path, s.bad_offset, s.reason);
    return false;
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
    bool ok = true;
    const struct manifest_file *f;
    for (size_t i = 0; ok && !l->past_end && (f = log_dir_file(&d, i)) != NULL; i++) {
        char file[512];
        size_t n = strlen(f->name);
        bool base = f->type == MANIFEST_BASE;
        if (base && n > 4 && strcmp(f->name + n - 4, ".rdb") == 0)
            continue;
        ok = log_dir_path(&d, f, file, &err) && list_file(l, file, base, &at);
    }
    log_dir_close(&d);
    return ok ? TOOL_OK : TOOL_FAILED;
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
