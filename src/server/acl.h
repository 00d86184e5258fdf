/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Access control lists: users, what they may call, and on which keys and channels.
 *
 * A user has passwords (SHA-256, never the text) and one selector or more; a request is allowed
 * when one selector allows the whole of it. A selector has a bit for each command and subcommand
 * (by command->id), key patterns with what may be done to keys that match (read, write), and
 * channel patterns. The rules about commands are also kept as text, in order and without those that
 * later ones undo, as ACL LIST shows them.
 *
 * A client points to its user. For one who may do everything (as the default user may unless told
 * otherwise) nothing is checked: dispatch looks at the rules only for clients with
 * CLIENT_RESTRICTED.
 *
 * Owned by the executor. Files are read at the start and by ACL LOAD, and written by ACL SAVE,
 * which replaces the file as a whole (os_file_replace).
 */
#ifndef HF_SERVER_ACL_H
#define HF_SERVER_ACL_H

#include "base/error.h"
#include "base/text.h"
#include "server/client.h"

struct acl;
struct acl_user;

/* One user, "default", who may do everything without a password. */
struct acl *acl_new(void);
void acl_free(struct acl *a);

struct acl_user *acl_default_user(const struct acl *a);
struct acl_user *acl_find(const struct acl *a, struct slice name); /* NULL: none */
const char *acl_user_name(const struct acl_user *u);
/* Whether a client becomes this user without AUTH: it is on and takes any password. */
bool acl_user_is_open(const struct acl_user *u);
bool acl_user_is_on(const struct acl_user *u);

/* One rule ("on", ">secret", "~key:*", "+get", "(+@read ~x*)") for a user. False: *reason says why,
 * in Redis's words. */
bool acl_user_apply(struct acl_user *u, struct slice rule, bool all_channels,
                    const char **reason);

/* A line of the configuration or of an ACL file: the words behind "user". */
bool acl_load_user(struct acl *a, const struct slice *words, int count, bool all_channels,
                   struct error *err);
/* Lines of `user NAME RULE...`; `name` stands before the number of a wrong line. */
bool acl_load_text(struct acl *a, const char *name, struct slice text, bool all_channels,
                   struct error *err);
/* At the start: the users of the configuration, or of aclfile. */
bool acl_start(struct server *s, struct error *err);
/* The whole file. Nothing is changed unless all of it is in order; err names the lines. */
bool acl_load_file(struct server *s, const char *path, struct error *err);
bool acl_save_file(const struct acl *a, const char *path, struct error *err);
/* `user NAME rules...` of each user by name, one a line, as ACL LIST and CONFIG REWRITE give
 * them. */
void acl_describe(const struct acl *a, struct text *out);
void acl_describe_user(const struct acl_user *u, struct text *out);
/* requirepass: the one password of the default user; empty: none is needed. */
void acl_set_password(struct acl *a, struct slice password);

/* How sure what is told to the user's clients has to be (server/hold.h), or HOLD_AUTO; a bit for
 * each level that some user has. */
int acl_user_level(const struct acl_user *u);
uint32_t acl_levels(const struct acl *a);

enum acl_denial {
    ACL_ALLOWED,
    ACL_DENIED_COMMAND,
    ACL_DENIED_KEY,
    ACL_DENIED_AUTH,
    ACL_DENIED_CHANNEL
};
/* Whether the user may run this; *at is the argument that he may not touch. */
enum acl_denial acl_check(const struct acl_user *u, const struct command *command,
                          const struct slice *argv, int argc, int *at);
/* SORT with BY or GET reads keys that none of its arguments names: for who may not read all keys
 * the error, otherwise NULL. */
const char *acl_check_sort(const struct acl_user *u, const struct command *command,
                           const struct slice *argv, int argc);
/* The error of a denial: "NOPERM this user has ...". */
void acl_denial_text(enum acl_denial denial, const struct command *command, struct text *out);
/* Into the log of denials. */
void acl_log(struct client *c, enum acl_denial denial, const char *context, struct slice object,
             struct slice user);

/* The client is this user from now on; NULL: nobody, it has to authenticate. */
void acl_become(struct client *c, struct acl_user *u);
/* Checks name and password and becomes the user; a failure is logged as one of `command`. */
bool acl_authenticate(struct client *c, struct slice command, struct slice name,
                      struct slice password);
/* As after accepting. */
void acl_become_default(struct client *c);

#endif
