/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What is known of a command beyond what dispatch needs: key specifications and tips (COMMAND
 * INFO), summary and arguments (COMMAND DOCS). All of it is constant data, generated from
 * src/command/table.
 */
#ifndef HF_COMMAND_DOCS_H
#define HF_COMMAND_DOCS_H

#include <stdbool.h>
#include <stdint.h>

/* In the order in which COMMAND INFO names them. */
enum key_spec_flag {
    KEY_SPEC_RO = 1U << 0,
    KEY_SPEC_RW = 1U << 1,
    KEY_SPEC_OW = 1U << 2,
    KEY_SPEC_RM = 1U << 3,
    KEY_SPEC_ACCESS = 1U << 4,
    KEY_SPEC_UPDATE = 1U << 5,
    KEY_SPEC_INSERT = 1U << 6,
    KEY_SPEC_DELETE = 1U << 7,
    KEY_SPEC_NOT_KEY = 1U << 8, /* looks like a key and counts for cluster routing only */
    KEY_SPEC_INCOMPLETE = 1U << 9,
    KEY_SPEC_VARIABLE_FLAGS = 1U << 10
};

/* Where keys begin: at a fixed position, behind a keyword (looked for from a position, backwards
 * from the end when that is negative), or somewhere. */
enum key_begin { KEY_BEGIN_INDEX, KEY_BEGIN_KEYWORD, KEY_BEGIN_UNKNOWN };
/* Which they are from there on: a range, or as many as a number among the arguments says. */
enum key_find { KEY_FIND_RANGE, KEY_FIND_KEYNUM, KEY_FIND_UNKNOWN };

struct key_spec {
    uint16_t flags;
    uint8_t begin;
    int16_t begin_index; /* the index, or where the search for the keyword starts */
    const char *keyword;
    uint8_t find;
    /* Range: last key relative to the first (negative: from the end of the arguments; with a limit
     * only the first 1/limit-th of what is left), step, limit. Keynum: positions of the number and
     * of the first key relative to the beginning, step. */
    int16_t find_a, find_b, find_c;
    const char *notes; /* or NULL */
};

enum command_arg_type {
    ARG_STRING,
    ARG_INTEGER,
    ARG_DOUBLE,
    ARG_KEY,
    ARG_PATTERN,
    ARG_UNIX_TIME,
    ARG_PURE_TOKEN,
    ARG_ONEOF,
    ARG_BLOCK
};

enum command_arg_flag { ARG_OPTIONAL = 1, ARG_MULTIPLE = 2, ARG_MULTIPLE_TOKEN = 4 };

struct command_arg {
    const char *name;
    enum command_arg_type type;
    int key_spec_index;                   /* -1: none */
    const char *token;                    /* NULL: none; may be empty */
    const char *since, *deprecated_since; /* or NULL */
    unsigned flags;
    const struct command_arg *args; /* of ONEOF and BLOCK */
    int arg_count;
};

/* How keys are found where the key specifications do not say all of it: the first one alone, or by
 * the options of the command. */
enum command_getkeys {
    GETKEYS_SPECS,
    GETKEYS_FIRST,
    GETKEYS_SORT,
    GETKEYS_SET,
    GETKEYS_BITFIELD,
    GETKEYS_MIGRATE,
    GETKEYS_GEORADIUS,
    GETKEYS_EVAL
};

struct command_doc {
    const char *summary, *since, *group, *complexity; /* complexity may be NULL */
    bool syscmd;                                      /* for the server's own use */
    const char *deprecated_since, *replaced_by;       /* or NULL */
    const char *const *tips;
    int tip_count;
    const struct key_spec *key_specs;
    int key_spec_count;
    const struct command_arg *args;
    int arg_count;
    enum command_getkeys getkeys;
};

/* The names of flags as Redis writes them; NULL behind the last. Index = bit number. */
const char *command_flag_name(unsigned bit);
const char *command_acl_name(unsigned bit); /* without the '@' */
const char *key_spec_flag_name(unsigned bit);
const char *command_arg_type_name(enum command_arg_type type);

#endif
