/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What acl.c (users and rules), acl_check.c (what they may do), acl_clients.c (who clients are,
 * files) and acl_commands.c (ACL, the log) share.
 */
#ifndef HF_SERVER_ACL_PRIVATE_H
#define HF_SERVER_ACL_PRIVATE_H

#include "server/acl.h"

#define ACL_HASH_HEX 64
#define ACL_READ_KEY 1U
#define ACL_WRITE_KEY 2U

struct acl_pattern {
    struct acl_pattern *next;
    unsigned permissions; /* of a key pattern */
    uint16_t command;     /* of a first argument: the command's id */
    size_t size;
    char text[];
};

struct acl_selector {
    struct acl_selector *next;
    struct acl_pattern *keys, *channels, *first_arguments;
    struct text rules; /* about commands, in order */
    bool all_commands, all_keys, all_channels;
    uint64_t bits[]; /* by command->id */
};

struct acl_password {
    char hex[ACL_HASH_HEX];
};

struct acl_user {
    struct acl_user *next; /* by name */
    char *name;
    size_t name_size;
    bool on, no_password, sanitize, skip_sanitize;
    uint8_t level; /* durability: 1 + the level (server/hold.h); 0: not set */
    struct acl_password *passwords;
    size_t password_count;
    struct acl_selector *selectors; /* one at least: the user's own rules */
};

struct acl_log_entry;

struct acl {
    struct acl_user *users;
    bool default_loaded; /* a file has said what the default user may do */
    struct acl_log_entry *log; /* the newest first */
    size_t log_count;
    uint64_t log_next_id;
};

struct acl_user *acl_user_new(struct slice name, bool all_channels);
struct acl_user *acl_user_copy(const struct acl_user *u);
void acl_user_swap(struct acl_user *a, struct acl_user *b); /* but for their places in the list */
void acl_user_free(struct acl_user *u);
void acl_add(struct acl *a, struct acl_user *u);
bool acl_user_may_all(const struct acl_user *u);
/* Also of zero bytes: no name and no pattern has any. */
bool acl_has_blank(struct slice s);
void acl_hash(struct slice password, char out[ACL_HASH_HEX + 1]);
void acl_describe_keys(const struct acl_selector *s, struct text *out);
void acl_describe_channels(const struct acl_selector *s, struct text *out);
void acl_log_clear(struct acl *a);
/* Users were changed: look again at what each client may do. */
void acl_refresh_clients(struct server *s);

#endif
