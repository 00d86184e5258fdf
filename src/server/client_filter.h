/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Which clients CLIENT LIST and CLIENT KILL mean: filters as Redis 7.4 and Valkey 9 have them, of
 * which a client must pass all. Each but IDLE, MAXAGE and SKIPME may be turned round by "NOT-".
 */
#ifndef HF_SERVER_CLIENT_FILTER_H
#define HF_SERVER_CLIENT_FILTER_H

#include "server/client.h"

struct client_test;

struct client_filter {
    struct client_test *tests;
    int count;
    bool skip_me;
};

/* Parse argv[2] and what follows, of CLIENT KILL, which leaves out who asks unless told otherwise,
 * or of CLIENT LIST; the filter is to be deinitialised. The slices of argv are kept. False: an
 * error was replied, and nothing is to be freed. */
bool client_filter_parse(struct call *c, struct client_filter *f, bool kill);
void client_filter_deinit(struct client_filter *f);
bool client_filter_passes(const struct client_filter *f, struct client *client,
                          const struct client *self);

/* A filter of nothing but ids: they are argv[3] to argv[3 + *count - 1]. */
bool client_filter_is_ids(const struct client_filter *f, int *count);

#endif
