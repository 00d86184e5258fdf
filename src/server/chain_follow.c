/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/chain_follow.h"

#include "base/log.h"

void chain_follow_init(struct chain_follow *f, struct keyspace *ks, const char *rdb_path,
                       bool wanted)
{
    *f = (struct chain_follow){.ks = ks, .mark = -1};
    chain_read_tip(&f->tip, rdb_path);
    const struct rdb_load_stats *s = &f->tip.stats;
    if (!wanted)
        f->why = "snapshot-chain-max was 0";
    else if (f->tip.broken.code != ERROR_NONE &&
             (f->tip.broken.code != ERROR_NOT_FOUND || f->tip.chain.count > 0))
        f->why = "the chain that there was is broken";
    else if (f->tip.chain.count == 0)
        f->why = "there is no full snapshot yet that it could follow";
    else if (s->log_id[0] == '\0' || !s->log_exact || s->log_beyond)
        f->why = "the last snapshot does not say that it is of one place in the log";
}

/* All before the tip's place has been replayed, and nothing behind it. */
static void arrive(struct chain_follow *f)
{
    if (!f->matches)
        f->why = "the last snapshot is of another history than the log";
    else if (f->lsn != f->tip.stats.log_lsn)
        f->why = "the last snapshot is of a place in the log where no command ends";
    else
        f->mark = changes_begin(f->ks);
}

static bool is_open(const struct chain_follow *f)
{
    return !f->why && f->mark < 0;
}

void chain_follow_file(struct chain_follow *f, const char *history, uint64_t lsn)
{
    if (!is_open(f))
        return;
    uint64_t tip = f->tip.stats.log_lsn;
    if (!f->begun && lsn >= tip) {
        f->why = "the log was rewritten after the last snapshot";
        return;
    }
    /* Where histories meet the place is one of both. */
    if (f->begun && f->matches && f->lsn == tip) {
        arrive(f);
        return;
    }
    f->begun = true;
    f->lsn = lsn;
    f->matches = strcmp(history, f->tip.stats.log_id) == 0;
    if (f->matches && lsn == tip)
        arrive(f);
}

size_t chain_follow_step(struct chain_follow *f, const struct log_batch *b, size_t from,
                         size_t count)
{
    if (!f->begun || !is_open(f) || from == count)
        return count;
    uint64_t tip = f->tip.stats.log_lsn;
    size_t to = count;
    if (b->commands[count - 1].lsn > tip)
        for (to = from; b->commands[to].lsn <= tip;)
            to++;
    if (to == from) {
        arrive(f);
        return count;
    }
    f->lsn = b->commands[to - 1].lsn;
    return to;
}

void chain_follow_end(struct chain_follow *f, struct chain_keeper *keeper, const char *rdb_path,
                      const char *against)
{
    if (is_open(f))
        arrive(f);
    if (against && f->mark >= 0) {
        changes_end(f->ks, f->mark);
        f->mark = -1;
        f->why = against;
    }
    if (f->mark >= 0) {
        log_notice("The chain of snapshots goes on: %zu links, of which the last is of LSN %llu",
                   f->tip.chain.count, (unsigned long long)f->tip.stats.log_lsn);
        chain_keeper_continued(keeper, &f->tip.chain, rdb_path, f->mark);
        f->mark = -1;
        return;
    }
    if (f->tip.chain.count > 0 || f->tip.broken.code == ERROR_CORRUPT)
        log_notice("The chain of snapshots does not go on: %s%s%s", f->why,
                   f->tip.broken.code != ERROR_NONE ? ": " : "", f->tip.broken.message);
    chain_keeper_not_continued(keeper, f->why);
}

void chain_follow_deinit(struct chain_follow *f)
{
    if (f->mark >= 0)
        changes_end(f->ks, f->mark);
    f->mark = -1;
    chain_free(&f->tip.chain);
}
