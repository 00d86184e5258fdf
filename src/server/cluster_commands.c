/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The commands of a cluster, as a server answers them that is no part of one: clients probe for a
 * cluster by these. READONLY and READWRITE mean something to those who said CLIENT CAPA redirect.
 */
#include "command/call.h"
#include "handlers.h"
#include "server/client.h"

static void refuse(struct call *c)
{
    reply_error(c->reply, "ERR This instance has cluster support disabled");
}

#define REFUSED(name)               \
    void cmd_##name(struct call *c) \
    {                               \
        refuse(c);                  \
    }

REFUSED(cluster_addslots)
REFUSED(cluster_addslotsrange)
REFUSED(cluster_bumpepoch)
REFUSED(cluster_count_failure_reports)
REFUSED(cluster_countkeysinslot)
REFUSED(cluster_delslots)
REFUSED(cluster_delslotsrange)
REFUSED(cluster_failover)
REFUSED(cluster_flushslots)
REFUSED(cluster_forget)
REFUSED(cluster_getkeysinslot)
REFUSED(cluster_help)
REFUSED(cluster_info)
REFUSED(cluster_keyslot)
REFUSED(cluster_links)
REFUSED(cluster_meet)
REFUSED(cluster_myid)
REFUSED(cluster_nodes)
REFUSED(cluster_replicas)
REFUSED(cluster_replicate)
REFUSED(cluster_reset)
REFUSED(cluster_saveconfig)
REFUSED(cluster_set_config_epoch)
REFUSED(cluster_setslot)
REFUSED(cluster_shards)
REFUSED(cluster_slaves)
REFUSED(cluster_slots)
REFUSED(asking)

/* Clients that cannot be redirected read from a replica anyway. */
static void read_here(struct call *c, bool here)
{
    if (!(c->client->flags & CLIENT_REDIRECTS)) {
        refuse(c);
        return;
    }
    if (here)
        c->client->flags |= CLIENT_READS_HERE;
    else
        c->client->flags &= ~(uint32_t)CLIENT_READS_HERE;
    reply_ok(c->reply);
}

void cmd_readonly(struct call *c)
{
    read_here(c, true);
}

void cmd_readwrite(struct call *c)
{
    read_here(c, false);
}
