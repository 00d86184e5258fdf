/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The directives whose value is more than a number, a word or a string.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/number.h"
#include "os/process.h"
#include "persist/schedule/cron.h"
#include "server/config_table.h"
#include "server/hold.h"

static bool is_single_empty(const struct slice *argv, int argc)
{
    return argc == 1 && argv[0].size == 0;
}

/* Whether it stands for itself in a line of the file: no blanks, quotes, escapes. */
static bool is_plain(struct slice s)
{
    for (size_t i = 0; i < s.size; i++)
        if (s.data[i] <= ' ' || s.data[i] >= 0x7f || strchr("\"'\\", s.data[i]))
            return false;
    return s.size > 0;
}

/* --- save --- */

static void save_add(struct config *c, int64_t seconds, int64_t changes)
{
    c->save = mem_realloc(c->save, (size_t)(c->save_count + 1) * sizeof(*c->save));
    c->save[c->save_count++] = (struct save_point){seconds, changes};
}

static bool save_set(struct config *c, const struct slice *argv, int argc, bool loading,
                     struct error *err)
{
    if (is_single_empty(argv, argc))
        argc = 0;
    for (int i = 0; i < argc; i++) {
        int64_t v;
        if (argc % 2 || !number_parse_int64(argv[i], &v) || v < (i % 2 ? 0 : 1))
            return error_set(err, ERROR_INVALID, "Invalid save parameters");
    }
    /* In a file each line adds a point; the first takes the place of the defaults, and an empty one
     * of all before it. */
    if (!loading || !c->save_given || argc == 0)
        c->save_count = 0;
    c->save_given |= loading;
    for (int i = 0; i < argc; i += 2) {
        int64_t seconds = 0, changes = 0;
        number_parse_int64(argv[i], &seconds);
        number_parse_int64(argv[i + 1], &changes);
        save_add(c, seconds, changes);
    }
    return true;
}

static void save_get(struct config *c, struct text *out)
{
    for (int i = 0; i < c->save_count; i++)
        text_appendf(out, "%s%lld %lld", i ? " " : "", (long long)c->save[i].seconds,
                     (long long)c->save[i].changes);
}

const struct directive_special directive_save = {save_set, save_get};

/* --- save-cron --- */

static bool save_cron_set(struct config *c, const struct slice *argv, int argc, bool loading,
                          struct error *err)
{
    struct text all = {0};
    struct cron_list list;
    size_t own = 0;
    for (int i = 0; i < argc; i++) {
        text_appendf(&all, "%s", i > 0 ? " " : "");
        text_append(&all, argv[i].data, argv[i].size);
    }
    bool ok = !memchr(text_cstr(&all), '\0', all.size) || /* it would end the string */
              error_set(err, ERROR_INVALID, "argument must not contain a zero byte");
    ok = ok && cron_parse(&list, text_slice(&all), err);
    /* In a file each line adds to those before it, and an empty one takes them back. */
    if (ok && loading && list.count > 0 && c->save_cron[0] != '\0') {
        own = all.size;
        text_appendf(&all, "; %s", c->save_cron);
        ok = cron_parse(&list, text_slice(&all), err);
    }
    if (ok && own > 0) {
        struct text joined = {0};
        text_appendf(&joined, "%s; %.*s", c->save_cron, (int)own, all.data);
        config_replace_string(&c->save_cron, text_slice(&joined));
        text_free(&joined);
    } else if (ok) {
        config_replace_string(&c->save_cron, list.count > 0 ? text_slice(&all) : SLICE(""));
    }
    text_free(&all);
    return ok;
}

static void save_cron_get(struct config *c, struct text *out)
{
    text_append_cstr(out, c->save_cron);
}

const struct directive_special directive_save_cron = {save_cron_set, save_cron_get};

/* --- client-output-buffer-limit --- */

/* Replicas are written as Redis 7.0 writes them. */
static const char *const output_class_names[] = {"normal", "slave", "pubsub"};

static int output_class_of(struct slice s)
{
    if (slice_is(s, "replica"))
        return CONFIG_OUTPUT_REPLICA;
    for (int i = 0; i < CONFIG_OUTPUT_CLASSES; i++)
        if (slice_is(s, output_class_names[i]))
            return i;
    return -1;
}

static bool output_limits_set(struct config *c, const struct slice *argv, int argc, bool loading,
                              struct error *err)
{
    (void)loading;
    if (is_single_empty(argv, argc))
        argc = 0;
    if (argc % 4)
        return error_set(err, ERROR_INVALID,
                         "Wrong number of arguments in buffer limit configuration.");
    struct config_output_limit limits[CONFIG_OUTPUT_CLASSES];
    memcpy(limits, c->output_limits, sizeof(limits));
    for (int i = 0; i < argc; i += 4) {
        int class = output_class_of(argv[i]);
        if (class < 0)
            return error_set(err, ERROR_INVALID,
                             "Invalid client class specified in buffer limit configuration.");
        struct config_output_limit *l = &limits[class];
        if (!config_parse_memory(argv[i + 1], &l->hard_bytes) ||
            !config_parse_memory(argv[i + 2], &l->soft_bytes) ||
            !number_parse_int64(argv[i + 3], &l->soft_seconds) || l->soft_seconds < 0)
            return error_set(
                err, ERROR_INVALID,
                "Error in hard, soft or soft_seconds setting in buffer limit configuration.");
    }
    memcpy(c->output_limits, limits, sizeof(limits));
    return true;
}

static void output_limits_get(struct config *c, struct text *out)
{
    for (int i = 0; i < CONFIG_OUTPUT_CLASSES; i++)
        text_appendf(out, "%s%s %lld %lld %lld", i ? " " : "", output_class_names[i],
                     (long long)c->output_limits[i].hard_bytes,
                     (long long)c->output_limits[i].soft_bytes,
                     (long long)c->output_limits[i].soft_seconds);
}

const struct directive_special directive_output_limits = {output_limits_set, output_limits_get};

/* --- bind --- */

static bool bind_set(struct config *c, const struct slice *argv, int argc, bool loading,
                     struct error *err)
{
    (void)loading;
    if (is_single_empty(argv, argc))
        argc = 0;
    if (argc > CONFIG_BIND_MAX)
        return error_set(err, ERROR_INVALID, "Too many bind addresses specified.");
    for (int i = 0; i < argc; i++)
        if (!is_plain(argv[i]))
            return error_set(err, ERROR_INVALID, "Invalid bind address");
    for (int i = 0; i < c->bind_count; i++)
        mem_free(c->bind[i]);
    for (int i = 0; i < argc; i++)
        c->bind[i] = mem_dup(argv[i].data, argv[i].size);
    c->bind_count = argc;
    return true;
}

static void bind_get(struct config *c, struct text *out)
{
    for (int i = 0; i < c->bind_count; i++)
        text_appendf(out, "%s%s", i ? " " : "", c->bind[i]);
}

const struct directive_special directive_bind = {bind_set, bind_get};

/* --- dir --- */

/* Takes effect at once, also while loading: later relative paths are relative to it. */
static bool dir_set(struct config *c, const struct slice *argv, int argc, bool loading,
                    struct error *err)
{
    (void)argc;
    (void)loading;
    if (memchr(argv[0].data, '\0', argv[0].size))
        return error_set(err, ERROR_INVALID, "argument must not contain a zero byte");
    char *path = mem_dup(argv[0].data, argv[0].size);
    if (!os_change_dir(path, err)) {
        mem_free(path);
        return false;
    }
    mem_free(c->dir);
    c->dir = path;
    return true;
}

static void dir_get(struct config *c, struct text *out)
{
    char path[4096];
    if (os_current_dir(path, sizeof(path)))
        text_append_cstr(out, path);
    else
        text_append_cstr(out, c->dir);
}

const struct directive_special directive_dir = {dir_set, dir_get};

/* --- latency-tracking-info-percentiles --- */

#define PERCENTILE_MAX ((int)(sizeof(((struct config *)0)->percentiles) / sizeof(double)))

static bool percentiles_set(struct config *c, const struct slice *argv, int argc, bool loading,
                            struct error *err)
{
    (void)loading;
    double values[16];
    if (is_single_empty(argv, argc))
        argc = 0;
    if (argc > PERCENTILE_MAX)
        return error_set(err, ERROR_INVALID,
                         "Invalid latency-tracking-info-percentiles parameters");
    for (int i = 0; i < argc; i++) {
        if (!number_parse_double(argv[i], &values[i]))
            return error_set(err, ERROR_INVALID,
                             "Invalid latency-tracking-info-percentiles parameters");
        if (values[i] < 0 || values[i] > 100)
            return error_set(
                err, ERROR_INVALID,
                "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]");
    }
    memcpy(c->percentiles, values, (size_t)argc * sizeof(values[0]));
    c->percentile_count = argc;
    return true;
}

static void percentiles_get(struct config *c, struct text *out)
{
    for (int i = 0; i < c->percentile_count; i++)
        text_appendf(out, "%s%.10g", i ? " " : "", c->percentiles[i]);
}

const struct directive_special directive_percentiles = {percentiles_set, percentiles_get};

/* --- notify-keyspace-events --- */

/* Bit i is character i. */
static const char notify_chars[] = "g$lshzxetdnKEm";

static bool notify_set(struct config *c, const struct slice *argv, int argc, bool loading,
                       struct error *err)
{
    (void)argc;
    (void)loading;
    int bits = 0;
    for (size_t i = 0; i < argv[0].size; i++) {
        char ch = argv[0].data[i];
        const char *at = ch ? strchr(notify_chars, ch) : NULL;
        if (ch == 'A')
            bits |= NOTIFY_ALL;
        else if (at)
            bits |= 1 << (at - notify_chars);
        else
            return error_set(err, ERROR_INVALID,
                             "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.");
    }
    c->notify = bits;
    return true;
}

static void notify_get(struct config *c, struct text *out)
{
    bool all = (c->notify & NOTIFY_ALL) == NOTIFY_ALL;
    if (all)
        text_append_cstr(out, "A");
    /* As in Redis the 'n' is not shown behind an 'A'. */
    for (int i = 0; notify_chars[i]; i++)
        if (c->notify & 1 << i && !(all && 1 << i & (NOTIFY_ALL | NOTIFY_NEW)))
            text_append(out, &notify_chars[i], 1);
}

const struct directive_special directive_notify = {notify_set, notify_get};

/* --- oom-score-adj-values --- */

static bool oom_values_set(struct config *c, const struct slice *argv, int argc, bool loading,
                           struct error *err)
{
    (void)loading;
    if (argc != 3)
        return error_set(err, ERROR_INVALID, "wrong number of arguments");
    int values[3];
    for (int i = 0; i < 3; i++) {
        int64_t v;
        if (!number_parse_int64(argv[i], &v) || v < -2000 || v > 2000)
            return error_set(
                err, ERROR_INVALID,
                "Invalid oom-score-adj-values, elements must be between -2000 and 2000.");
        values[i] = (int)v;
    }
    memcpy(c->oom_values, values, sizeof(values));
    return true;
}

static void oom_values_get(struct config *c, struct text *out)
{
    text_appendf(out, "%d %d %d", c->oom_values[0], c->oom_values[1], c->oom_values[2]);
}

const struct directive_special directive_oom_values = {oom_values_set, oom_values_get};

/* --- durability --- */

static bool durability_set(struct config *c, const struct slice *argv, int argc, bool loading,
                           struct error *err)
{
    (void)loading;
    if (!hold_parse_level(argv, argc, &c->durability))
        return error_set(
            err, ERROR_INVALID,
            "argument must be auto, memory, local, quorum, or replica and a number from 1 to %d",
            HOLD_REPLICAS_MOST);
    return true;
}

static void durability_get(struct config *c, struct text *out)
{
    char level[HOLD_LEVEL_TEXT];
    hold_level_text(c->durability, level);
    text_append_cstr(out, level);
}

const struct directive_special directive_durability = {durability_set, durability_get};

/* --- quorum-nodes --- */

/* name=host:port */
static bool parse_node(struct slice word, struct config_node *node)
{
    int64_t port;
    const char *end = word.data + word.size;
    const char *equal = memchr(word.data, '=', word.size);
    const char *colon = memrchr(word.data, ':', word.size);
    if (equal == NULL || colon == NULL || colon < equal || !is_plain(word))
        return false;
    size_t name = (size_t)(equal - word.data), host = (size_t)(colon - equal) - 1;
    if (name == 0 || name >= sizeof(node->name) || host == 0 || host >= sizeof(node->host) ||
        !number_parse_int64(slice_of(colon + 1, (size_t)(end - colon) - 1), &port) || port < 1 ||
        port > 65535)
        return false;
    memcpy(node->name, word.data, name);
    node->name[name] = '\0';
    memcpy(node->host, equal + 1, host);
    node->host[host] = '\0';
    node->port = (int)port;
    return true;
}

static bool quorum_nodes_set(struct config *c, const struct slice *argv, int argc, bool loading,
                             struct error *err)
{
    struct config_node nodes[CONFIG_NODES_MAX];
    (void)loading;
    if (is_single_empty(argv, argc))
        argc = 0;
    if (argc > CONFIG_NODES_MAX)
        return error_set(err, ERROR_INVALID, "there may be %d nodes", CONFIG_NODES_MAX);
    for (int i = 0; i < argc; i++) {
        if (!parse_node(argv[i], &nodes[i]))
            return error_set(err, ERROR_INVALID, "each node is given as name=host:port");
        for (int k = 0; k < i; k++) {
            if (strcmp(nodes[k].name, nodes[i].name) == 0)
                return error_set(err, ERROR_INVALID, "two nodes have the name '%s'", nodes[i].name);
        }
    }
    memcpy(c->quorum_nodes, nodes, (size_t)argc * sizeof(nodes[0]));
    c->quorum_node_count = argc;
    return true;
}

static void quorum_nodes_get(struct config *c, struct text *out)
{
    for (int i = 0; i < c->quorum_node_count; i++)
        text_appendf(out, "%s%s=%s:%d", i > 0 ? " " : "", c->quorum_nodes[i].name,
                     c->quorum_nodes[i].host, c->quorum_nodes[i].port);
}

const struct directive_special directive_quorum_nodes = {quorum_nodes_set, quorum_nodes_get};

/* --- replicaof --- */

static bool replicaof_set(struct config *c, const struct slice *argv, int argc, bool loading,
                          struct error *err)
{
    (void)loading;
    if (is_single_empty(argv, argc) ||
        (argc == 2 && slice_is(argv[0], "no") && slice_is(argv[1], "one"))) {
        config_replace_string(&c->replicaof_host, SLICE(""));
        return true;
    }
    if (argc != 2)
        return error_set(err, ERROR_INVALID, "wrong number of arguments");
    int64_t port;
    if (!is_plain(argv[0]))
        return error_set(err, ERROR_INVALID, "Invalid master host");
    if (!number_parse_int64(argv[1], &port) || port < 0 || port > 65535)
        return error_set(err, ERROR_INVALID, "Invalid master port");
    config_replace_string(&c->replicaof_host, argv[0]);
    c->replicaof_port = port;
    return true;
}

static void replicaof_get(struct config *c, struct text *out)
{
    if (c->replicaof_host[0])
        text_appendf(out, "%s %lld", c->replicaof_host, (long long)c->replicaof_port);
}

const struct directive_special directive_replicaof = {replicaof_set, replicaof_get};

void config_special_init(struct config *c)
{
    save_add(c, 3600, 1);
    save_add(c, 300, 100);
    save_add(c, 60, 10000);
    c->save_cron = mem_dup("", 0);
    c->output_limits[CONFIG_OUTPUT_REPLICA] = (struct config_output_limit){256 << 20, 64 << 20, 60};
    c->output_limits[CONFIG_OUTPUT_PUBSUB] = (struct config_output_limit){32 << 20, 8 << 20, 60};
    c->bind[0] = mem_dup("*", 1);
    c->bind[1] = mem_dup("-::*", 4);
    c->bind_count = 2;
    c->dir = mem_dup("./", 2);
    c->percentiles[0] = 50;
    c->percentiles[1] = 99;
    c->percentiles[2] = 99.9;
    c->percentile_count = 3;
    c->oom_values[1] = 200;
    c->oom_values[2] = 800;
    c->replicaof_host = mem_dup("", 0);
    c->durability = HOLD_AUTO;
}

void config_special_deinit(struct config *c)
{
    mem_free(c->save);
    mem_free(c->save_cron);
    for (int i = 0; i < c->bind_count; i++)
        mem_free(c->bind[i]);
    mem_free(c->dir);
    mem_free(c->replicaof_host);
}
