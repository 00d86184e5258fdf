/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Inside of config: the table of directives, and how one is read, set and compared.
 */
#ifndef HF_SERVER_CONFIG_TABLE_H
#define HF_SERVER_CONFIG_TABLE_H

#include "server/config.h"

enum directive_flag {
    DIRECTIVE_FIXED = 0,
    DIRECTIVE_LIVE = 1,
    DIRECTIVE_HIDDEN = 2,
    DIRECTIVE_SENSITIVE = 4,
    DIRECTIVE_PROTECTED = 8,
    DIRECTIVE_MULTI = 16,
    DIRECTIVE_INERT = 32,
    DIRECTIVE_FILE_NAME = 64
};

enum directive_type {
    DIRECTIVE_BOOL,
    DIRECTIVE_INT,
    DIRECTIVE_MEMORY,
    DIRECTIVE_PERCENT,
    DIRECTIVE_OCTAL,
    DIRECTIVE_STRING,
    DIRECTIVE_ENUM,
    DIRECTIVE_BITS,
    DIRECTIVE_SPECIAL,
    DIRECTIVE_IGNORED
};

/* Values come as the words behind the name. `loading`: from a file or the command line, where some
 * directives add to what earlier lines said. */
struct directive_special {
    bool (*set)(struct config *c, const struct slice *argv, int argc, bool loading,
                struct error *err);
    void (*get)(struct config *c, struct text *out);
};

struct directive {
    const char *name, *alias; /* alias: NULL when there is none */
    enum directive_type type;
    unsigned flags;
    size_t offset; /* of the field in struct config */
    int64_t value; /* the default; for strings see text */
    int64_t low, high;
    const char *text; /* the default of a string, the words of ENUM and BITS */
    const struct directive_special *special;
};

extern const struct directive config_directives[];
extern const int config_directive_count;

/* By name or alias, in any case. */
const struct directive *directive_find(struct slice name);
/* Several values in one string, as CONFIG SET and CONFIG GET have them, when it is MULTI. */
bool directive_set(struct config *c, const struct directive *d, const struct slice *argv, int argc,
                   bool loading, struct error *err);
bool directive_set_string(struct config *c, const struct directive *d, struct slice value,
                          bool loading, struct error *err);
/* Appends the value as CONFIG GET gives it. */
void directive_get(struct config *c, const struct directive *d, struct text *out);
/* To a fresh config. */
void directive_set_default(struct config *c, const struct directive *d);

/* "1gb" to bytes. */
bool config_parse_memory(struct slice s, int64_t *bytes);

/* Replaces a string field. */
void config_replace_string(char **field, struct slice value);

/* In config_special.c. */
extern const struct directive_special directive_bind, directive_output_limits, directive_dir,
    directive_percentiles, directive_notify, directive_oom_values, directive_replicaof,
    directive_save, directive_save_cron, directive_durability, directive_quorum_nodes;
void config_special_init(struct config *c);
void config_special_deinit(struct config *c);

/* Notes that an INERT directive was given. */
void config_warn_inert(struct config *c, const struct directive *d, const char *source, int line);

#endif
