/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The access clock of entries: 24 bits, used in one of two ways, as in Redis.
 *
 *     LRU:  | seconds modulo 2^24 of the last access                  |
 *     LFU:  | minutes modulo 2^16 of the last decay | counter, 8 bits |
 *
 * The LFU counter grows by chance, the less likely the higher it is, and loses one for every
 * lfu_decay_minutes that pass. A new key begins at LFU_START so that it is not the first to go.
 */
#include "keyspace/keyspace.h"

#define CLOCK_MASK 0xffffffU
#define LFU_START 5U
#define LFU_MAX 255U

static uint32_t lfu_minutes(const struct keyspace *ks)
{
    return (uint32_t)(ks->now_ms / 60000) & 0xffff;
}

static uint32_t lfu_word(uint32_t minutes, uint32_t counter)
{
    return minutes << 8 | counter;
}

uint32_t entry_fresh_clock(const struct keyspace *ks)
{
    return ks->lfu ? lfu_word(lfu_minutes(ks), LFU_START) : ks->lru_clock & CLOCK_MASK;
}

uint32_t entry_frequency(const struct keyspace *ks, const struct entry *e)
{
    uint32_t clock = entry_clock(e);
    uint32_t counter = clock & 0xff;
    if (ks->lfu_decay_minutes <= 0)
        return counter;
    uint32_t passed = (lfu_minutes(ks) - (clock >> 8)) & 0xffff;
    uint32_t periods = passed / (uint32_t)ks->lfu_decay_minutes;
    return periods > counter ? 0 : counter - periods;
}

uint32_t entry_idle_seconds(const struct keyspace *ks, const struct entry *e)
{
    return (ks->lru_clock - entry_clock(e)) & CLOCK_MASK;
}

void entry_set_idle_seconds(const struct keyspace *ks, struct entry *e, uint32_t seconds)
{
    if (!ks->lfu)
        entry_set_clock(e, (ks->lru_clock - seconds) & CLOCK_MASK);
}

void entry_set_frequency(const struct keyspace *ks, struct entry *e, uint32_t frequency)
{
    if (ks->lfu)
        entry_set_clock(e, lfu_word(lfu_minutes(ks), frequency & 0xff));
}

static void touch_lfu(struct keyspace *ks, struct entry *e)
{
    uint32_t counter = entry_frequency(ks, e);
    if (counter < LFU_MAX) {
        /* Grows with probability 1 / (above * factor + 1). */
        uint32_t above = counter > LFU_START ? counter - LFU_START : 0;
        uint64_t odds = (uint64_t)above * (uint64_t)(uint32_t)ks->lfu_log_factor + 1;
        if (keyspace_random_below(ks, odds) == 0)
            counter++;
    }
    entry_set_clock(e, lfu_word(lfu_minutes(ks), counter));
}

void entry_touch(struct keyspace *ks, struct entry *e)
{
    if (ks->lfu) {
        touch_lfu(ks, e);
        return;
    }
    /* Most accesses fall in the same second: then the line is not made dirty. */
    uint32_t now = ks->lru_clock & CLOCK_MASK;
    if (entry_clock(e) != now)
        entry_set_clock(e, now);
}
