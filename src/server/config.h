/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Configuration: redis.conf, the command line, CONFIG GET/SET/REWRITE.
 *
 * struct config has one typed field for each directive ("tcp-backlog" is config->tcp_backlog), made
 * from the rows of config_directives.h. Whoever needs a setting reads the field. The executor
 * thread owns it; others are handed the values they need.
 *
 * Loading takes files and the command line exactly as redis-server does: config_load_args; but
 * without a file `appendonly` is yes unless the command line says no. What it
 * does not know stops it, with file, line and text in struct config_error. What is known but has no
 * effect in this build (INERT rows) is accepted; the warnings are collected and logged by
 * config_log_warnings when logging is up.
 *
 * Changing: config_set changes several directives or, when one of them is refused, none. When all
 * values are in place each changed directive is offered to the `apply` function, through which the
 * server opens ports, changes the log level and so on; it may refuse, and all is rolled back.
 */
#ifndef HF_SERVER_CONFIG_H
#define HF_SERVER_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"
#include "base/text.h"
#include "persist/schedule/schedule.h"

/* The values of ENUM directives: the order of the words in config_directives.h. */
enum maxmemory_policy {
    POLICY_VOLATILE_LRU,
    POLICY_VOLATILE_LFU,
    POLICY_VOLATILE_RANDOM,
    POLICY_VOLATILE_TTL,
    POLICY_ALLKEYS_LRU,
    POLICY_ALLKEYS_LFU,
    POLICY_ALLKEYS_RANDOM,
    POLICY_NOEVICTION,
    POLICY_VOLATILE_LRM,
    POLICY_ALLKEYS_LRM
};
enum fsync_policy { FSYNC_EVERYSEC, FSYNC_ALWAYS, FSYNC_NO };
enum diskless_load { DISKLESS_LOAD_DISABLED, DISKLESS_LOAD_ON_EMPTY_DB, DISKLESS_LOAD_SWAPDB };
enum recovery_fallback { FALLBACK_REFUSE, FALLBACK_SNAPSHOT };
enum supervised { SUPERVISED_UPSTART, SUPERVISED_SYSTEMD, SUPERVISED_AUTO, SUPERVISED_NO };
enum oom_score { OOM_SCORE_NO, OOM_SCORE_YES, OOM_SCORE_RELATIVE, OOM_SCORE_ABSOLUTE };
enum allow { ALLOW_NO, ALLOW_YES, ALLOW_LOCAL }; /* LOCAL: from this machine only */
/* BITS of shutdown-on-sigterm and -sigint; 0: the default. */
enum shutdown_bits {
    SHUTDOWN_BIT_SAVE = 1,
    SHUTDOWN_BIT_NOSAVE = 2,
    SHUTDOWN_BIT_NOW = 4,
    SHUTDOWN_BIT_FORCE = 8
};

/* The values are the same as of enum client_class in server.h. */
struct config_output_limit {
    int64_t hard_bytes, soft_bytes, soft_seconds; /* 0: no limit */
};
enum config_output_class {
    CONFIG_OUTPUT_NORMAL,
    CONFIG_OUTPUT_REPLICA,
    CONFIG_OUTPUT_PUBSUB,
    CONFIG_OUTPUT_CLASSES
};

/* Bits of notify-keyspace-events, in the order of Redis's characters. */
enum notify_bit {
    NOTIFY_GENERIC = 1 << 0,    /* g */
    NOTIFY_STRING = 1 << 1,     /* $ */
    NOTIFY_LIST = 1 << 2,       /* l */
    NOTIFY_SET = 1 << 3,        /* s */
    NOTIFY_HASH = 1 << 4,       /* h */
    NOTIFY_ZSET = 1 << 5,       /* z */
    NOTIFY_EXPIRED = 1 << 6,    /* x */
    NOTIFY_EVICTED = 1 << 7,    /* e */
    NOTIFY_STREAM = 1 << 8,     /* t */
    NOTIFY_MODULE = 1 << 9,     /* d */
    NOTIFY_ALL = (1 << 10) - 1, /* A */
    NOTIFY_NEW = 1 << 10,       /* n */
    NOTIFY_KEYSPACE = 1 << 11,  /* K */
    NOTIFY_KEYEVENT = 1 << 12,  /* E */
    NOTIFY_KEY_MISS = 1 << 13   /* m */
};

struct config;

/* Called by config_set for each directive (by its main name) that has changed. May refuse. When a
 * change is rolled back it is called again, with the old values, for those that it had accepted and
 * for the one that it refused. */
typedef bool config_apply(void *ctx, const struct config *config, const char *name,
                          struct error *err);

#define CONFIG_NODES_MAX 9
#define CONFIG_NODE_NAME 32
#define CONFIG_BIND_MAX 16

struct config {
#define BOOL(field, name, alias, value, flags) bool field;
#define INT(field, name, alias, value, low, high, flags) int64_t field;
#define MEMORY(field, name, alias, value, low, high, flags) int64_t field;
#define PERCENT(field, name, alias, value, flags) int64_t field;
#define OCTAL(field, name, alias, value, low, high, flags) int64_t field;
#define STRING(field, name, alias, value, flags) char *field; /* never NULL */
#define ENUM(field, name, alias, words, value, flags) int field;
#define BITS(field, name, alias, words, value, flags) int field;
#define SPECIAL(name, alias, kind, flags)
#define IGNORED(name)
#include "server/config_directives.h"
    struct save_point *save;
    int save_count;
    char *save_cron; /* "": none; else expressions that are valid */
    char *bind[CONFIG_BIND_MAX]; /* a leading '-': may be missing on this machine */
    int bind_count;
    struct config_output_limit output_limits[CONFIG_OUTPUT_CLASSES];
    char *dir; /* as given; the process is in it */
    double percentiles[16];
    int percentile_count;
    int notify; /* notify_bit */
    struct text users; /* lines of `user NAME RULE...`, as in the file; then as they are now */
    int oom_values[3];
    int durability; /* an enum hold_level, or HOLD_AUTO */
    struct config_node {
        char name[CONFIG_NODE_NAME], host[256];
        int port;
    } quorum_nodes[CONFIG_NODES_MAX]; /* this one among them */
    int quorum_node_count;
    char *replicaof_host; /* "": none */
    int64_t replicaof_port;

    /* Not directives. */
    char *file;          /* absolute path of the configuration file; NULL: there is none */
    bool save_given;     /* while loading: the default save points are gone */
    config_apply *apply; /* may be NULL */
    void *apply_ctx;
    struct text warnings; /* lines */
    struct text inert_defaults;
};

struct config_error {
    char source[256]; /* the file's name, "standard input" or "command line" */
    int line;         /* 0: of no line */
    char text[256];   /* the line */
    char reason[256];
};

void config_init(struct config *c); /* the defaults */
void config_deinit(struct config *c);

/* As redis-server takes its arguments (argv[0] is the program): [FILE] [--name value ...] [-].
 * Without a FILE or - appendonly is yes unless an argument says otherwise. */
bool config_load_args(struct config *c, int argc, char **argv, struct config_error *err);
/* A whole configuration as text. `source` is for messages. */
bool config_load_text(struct config *c, const char *source, struct slice text,
                      struct config_error *err);
/* Print it in the manner of Redis's "FATAL CONFIG FILE ERROR" to standard error. */
void config_print_error(const struct config_error *err);
/* To the log: what was given but has no effect. Empties the list. */
void config_log_warnings(struct config *c);

/* CONFIG SET of count/2 directives and values in turn. False: nothing has changed and err->message
 * is the reply's error. `protected_allowed`: PROTECTED ones may be changed. */
bool config_set(struct config *c, const struct slice *pairs, int count, bool protected_allowed,
                struct error *err);

/* CONFIG GET: calls fn for each directive (and alias) that one of the patterns matches, each once.
 */
void config_get(struct config *c, const struct slice *patterns, int count,
                void (*fn)(void *ctx, struct slice name, struct slice value), void *ctx);

/* Appends the value of one directive. False: there is none of this name. */
bool config_get_value(struct config *c, struct slice name, struct text *out);

/* CONFIG REWRITE: brings the file up to date with what is set, keeping its comments and order. On
 * success it is durable. INVALID when there is no file. */
bool config_rewrite(struct config *c, struct error *err);
/* The text that it would write, given the old text. */
void config_rewrite_text(struct config *c, struct slice old, struct text *out);

#endif
