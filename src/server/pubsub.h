/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Publish and subscribe: channels, patterns and shard channels, keyspace events, and MONITOR.
 *
 * A topic (kind and name) is there as long as somebody subscribes to it; it stands in one hash
 * table, the topics of patterns also in a list, as every message has to be matched with each of
 * them. A subscription is in two lists: its topic's, in the order of subscribing, which is the
 * order of delivery, and its client's; and in a second hash table by (client, topic).
 *
 * A message is encoded once for each protocol and appended to the subscribers' output. The client
 * whose command is being executed gets its messages behind the command's reply, never inside it.
 *
 * Owned by the executor.
 */
#ifndef HF_SERVER_PUBSUB_H
#define HF_SERVER_PUBSUB_H

#include "server/client.h"

enum topic_kind { TOPIC_CHANNEL, TOPIC_PATTERN, TOPIC_SHARD, TOPIC_KINDS };

struct pubsub;

struct pubsub *pubsub_new(void);
void pubsub_free(struct pubsub *p); /* nobody may be subscribed any more */

/* Deliver a message to those who subscribe to the channel, or to a pattern that matches it; of a
 * shard channel to its subscribers alone. Returns how many got it. */
uint64_t pubsub_publish(struct server *s, enum topic_kind kind, struct slice channel,
                        struct slice message);
/* The server's own message, which tells of no write and so waits for no log. */
void pubsub_announce(struct server *s, struct slice channel, struct slice message);
/* Names with somebody subscribed. */
size_t pubsub_topics(const struct pubsub *p, enum topic_kind kind);

/* How much a client subscribes to. */
size_t pubsub_client_count(const struct client *c, enum topic_kind kind);
size_t pubsub_client_memory(const struct client *c);
/* The client goes, or RESETs. */
void pubsub_forget(struct client *c);

/* A keyspace event, if notify-keyspace-events wants it: `class` is one notify_bit. */
void pubsub_notify(struct server *s, int class, const char *event, struct slice key, int db);

/* MONITOR: tell those who watch of a command that was executed. `source` replaces the client's
 * address ("lua"); NULL: the address. */
void monitor_feed(struct client *c, const struct command *command, const struct slice *argv,
                  int argc, const char *source);
void monitor_end(struct client *c);

#endif
