/* SPDX-License-Identifier: BSD-3-Clause
 *
 * How the snapshots stand to the log: which of the two goes on where the other ends.
 */
#include <assert.h>
#include <stdio.h>

#include "persist/log/stream.h"
#include "server/durability.h"
#include "server/persistence.h"

/* Changes that no snapshot has yet may be ones that no log has either. */
static void note_beyond(struct durability *d)
{
    if (!durability_has_log(d) && d->covered.id[0] != '\0' && d->server->ks->dirty > 0)
        d->covered.beyond = true;
}

uint64_t durability_position(struct server *s)
{
    struct durability *d = s->durability;
    note_beyond(d);
    return s->stream != NULL ? stream_end(s->stream) : d->covered.lsn + d->covered.beyond;
}

static void add_aux(struct save_options *options, const char *name, const char *value)
{
    assert(options->aux_count < SAVE_AUX_MAX);
    struct save_aux *aux = &options->aux[options->aux_count++];
    snprintf(aux->name, sizeof(aux->name), "%s", name);
    snprintf(aux->value, sizeof(aux->value), "%s", value);
}

void durability_mark_snapshot(struct server *s, struct save_options *options)
{
    struct durability *d = s->durability;
    bool log = durability_has_log(d);
    char lsn[24];
    if (!log && d->covered.id[0] == '\0')
        return;
    note_beyond(d);
    snprintf(lsn, sizeof(lsn), "%llu",
             (unsigned long long)(log ? stream_end(s->stream) : d->covered.lsn));
    add_aux(options, "hf-log-id", log ? d->history : d->covered.id);
    add_aux(options, "hf-log-lsn", lsn);
    add_aux(options, "hf-log-beyond", !log && d->covered.beyond ? "1" : "0");
    if (d->state == DURABILITY_ON && !d->unlogged && !stream_in_group(s->stream))
        add_aux(options, "hf-log-exact", "1");
}

void durability_note_unlogged(struct server *s)
{
    s->durability->unlogged = true;
}

void durability_note_loaded(struct server *s, const struct rdb_load_stats *stats)
{
    struct durability *d = s->durability;
    memcpy(d->covered.id, stats->log_id, sizeof(d->covered.id));
    d->covered.lsn = stats->log_lsn;
    d->covered.beyond = stats->log_beyond;
}
