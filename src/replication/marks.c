/* SPDX-License-Identifier: BSD-3-Clause */
#include "replication/marks.h"

#include <string.h>

/* Of its age: so far apart may a mark be from the next. */
#define SHARE 128

/* Each one stays that is needed for the distances: about the logarithm of the whole time, times
 * SHARE. */
static void thin(struct marks *m, int64_t now_us)
{
    size_t kept = 1;
    for (size_t i = 1; i < m->count; i++) {
        bool last = i + 1 == m->count;
        if (last || m->all[i + 1].us - m->all[kept - 1].us > (now_us - m->all[i].us) / SHARE)
            m->all[kept++] = m->all[i];
    }
    /* Many that are of the same time, say: half of them go. */
    if (kept > MARKS_MOST / 4 * 3) {
        size_t all = kept;
        kept = 1;
        for (size_t i = 2; i < all; i += 2)
            m->all[kept++] = m->all[i];
    }
    m->count = kept;
}

void marks_begin(struct marks *m, uint64_t lsn, uint64_t effects)
{
    m->count = 0;
    m->lsn = lsn;
    m->effects = effects;
}

void marks_note(struct marks *m, uint64_t lsn, uint64_t effects, int64_t now_us)
{
    if (lsn < m->lsn)
        marks_begin(m, lsn, effects);
    if (lsn == m->lsn)
        return;
    if (m->count == MARKS_MOST)
        thin(m, now_us);
    m->all[m->count++] = (struct mark){m->lsn, m->effects, now_us};
    m->lsn = lsn;
    m->effects = effects;
}

bool marks_behind(const struct marks *m, uint64_t lsn, int64_t now_us, struct marks_behind *out)
{
    *out = (struct marks_behind){0};
    if (lsn >= m->lsn)
        return true;
    out->bytes = m->lsn - lsn;
    size_t low = 0, high = m->count;
    /* The last one that is not behind it. */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (m->all[middle].lsn <= lsn)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return false;
    const struct mark *k = &m->all[low - 1];
    out->effects = m->effects - k->effects;
    out->us = now_us > k->us ? now_us - k->us : 0;
    return true;
}
