/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/memory_limit.h"

#include "base/log.h"
#include "base/mem.h"
#include "keyspace/evict.h"
#include "persist/log/stream.h"
#include "server/client.h"
#include "server/config.h"
#include "server/pubsub.h"
#include "server/slowlog.h"
#include "server/transaction.h"

/* One slice of eviction, and the pause before the next while it goes on; the tenacity of 10, the
 * default, is one slice. */
#define SLICE_US 250
#define PAUSE_MS 1
/* Keys between two looks at the memory and the clock. */
#define RUN 8

size_t memory_limit_not_counted(const struct server *s)
{
    size_t stream = s->stream != NULL ? stream_memory(s->stream) : 0;
    return epoch_held_bytes(&s->ks->epoch) + stream;
}

size_t memory_limit_used(const struct server *s)
{
    size_t used = mem_used(), other = memory_limit_not_counted(s);
    return used > other ? used - other : 0;
}

static void on_evict(void *ctx, struct db *db, struct slice key)
{
    struct server *s = ctx;
    s->stats.evicted_keys++;
    s->ks->dirty++;
    if (s->watches->count != 0)
        watch_touch(s, db, key, key_hash(key));
    server_key_gone(s, db, key, NOTIFY_EVICTED, "evicted");
}

static enum evict_order order_of(enum maxmemory_policy policy)
{
    switch (policy) {
    case POLICY_VOLATILE_LRU:
    case POLICY_ALLKEYS_LRU:
    case POLICY_VOLATILE_LRM:
    case POLICY_ALLKEYS_LRM:
        return EVICT_LRU;
    case POLICY_VOLATILE_LFU:
    case POLICY_ALLKEYS_LFU:
        return EVICT_LFU;
    case POLICY_VOLATILE_TTL:
        return EVICT_TTL;
    case POLICY_VOLATILE_RANDOM:
    case POLICY_ALLKEYS_RANDOM:
    case POLICY_NOEVICTION:
        break;
    }
    return EVICT_RANDOM;
}

static int64_t slice_us(const struct config *c)
{
    int64_t tenacity = c->maxmemory_eviction_tenacity;
    if (tenacity >= 100)
        return INT64_MAX / 2;
    return tenacity <= 10 ? SLICE_US * tenacity / 10 : SLICE_US * (tenacity - 9);
}

static int64_t on_timer(void *ctx)
{
    struct server *s = ctx;
    s->evict_timer_set = false;
    memory_limit_check(s);
    return 0;
}

/* Not all could be done in one slice: go on soon, whether commands come or not. */
static void go_on_later(struct server *s)
{
    if (!s->evict_timer_set)
        loop_add_timer(s->loop, PAUSE_MS, on_timer, s);
    s->evict_timer_set = true;
}

static void set_out_of_memory(struct server *s, bool out)
{
    if (s->out_of_memory == out)
        return;
    s->out_of_memory = out;
    server_update_attention(s);
}

/* Returns false when there is nothing to evict. */
static bool evict_slice(struct server *s, uint64_t max)
{
    const struct config *c = s->config;
    enum maxmemory_policy policy = (enum maxmemory_policy)c->maxmemory_policy;
    bool expiring = policy <= POLICY_VOLATILE_TTL || policy == POLICY_VOLATILE_LRM;
    int64_t begun = clock_monotonic_us(), end = begun + slice_us(c), now = begun;
    bool found = true;
    size_t pending = epoch_reclaiming_count(&s->ks->epoch);
    for (;;) {
        for (int i = 0; i < RUN && found; i++)
            found = evictor_evict(s->evictor, s->ks, order_of(policy), expiring,
                                  (size_t)c->maxmemory_samples, on_evict, s);
        now = clock_monotonic_us();
        if (!found || memory_limit_used(s) <= max)
            break;
        /* A large value is freed by the reclaimer, which takes its time. */
        if (now >= end || epoch_reclaiming_count(&s->ks->epoch) > pending) {
            go_on_later(s);
            break;
        }
    }
    latency_note(s, "eviction-cycle", now - begun);
    return found;
}

void memory_limit_check(struct server *s)
{
    uint64_t max = (uint64_t)s->config->maxmemory;
    if (max == 0 || s->loading || (s->is_replica && s->config->replica_ignore_maxmemory) ||
        memory_limit_used(s) <= max) {
        set_out_of_memory(s, false);
        return;
    }
    if (s->ks->importing) {
        set_out_of_memory(s, false);
        return;
    }
    bool found = s->config->maxmemory_policy != POLICY_NOEVICTION && !server_is_paused(s) &&
                 evict_slice(s, max);
    /* What the reclaimer is freeing will do, if eviction is to make room at all. */
    bool freeing = s->config->maxmemory_policy != POLICY_NOEVICTION &&
                   epoch_reclaiming_count(&s->ks->epoch) > 0;
    set_out_of_memory(s, !found && !freeing && memory_limit_used(s) > max);
}

/* --- maxmemory-clients --- */

static uint64_t clients_max(const struct config *c)
{
    /* A share of maxmemory is kept as a negative number of percents. */
    if (c->maxmemory_clients >= 0)
        return (uint64_t)c->maxmemory_clients;
    return (uint64_t)c->maxmemory / 100 * (uint64_t)-c->maxmemory_clients;
}

void memory_limit_clients(struct server *s)
{
    uint64_t max = clients_max(s->config), sum = 0;
    if (max == 0)
        return;
    for (struct client *c = s->clients.first; c != NULL; c = c->next) {
        if (!(c->flags & (CLIENT_NO_EVICT | CLIENT_CLOSING)))
            sum += client_memory(c);
    }
    while (sum > max) {
        struct client *largest = NULL;
        size_t most = 0;
        for (struct client *c = s->clients.first; c != NULL; c = c->next) {
            size_t size = client_memory(c);
            if (!(c->flags & (CLIENT_NO_EVICT | CLIENT_CLOSING)) && size >= most) {
                largest = c;
                most = size;
            }
        }
        if (largest == NULL)
            break;
        log_notice("Evicting client: id=%llu addr=%s tot-mem=%zu",
                   (unsigned long long)largest->id, client_peer(largest), most);
        s->stats.evicted_clients++;
        sum -= most;
        client_close(largest);
    }
}
