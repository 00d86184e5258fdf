/* SPDX-License-Identifier: BSD-3-Clause
 *
 * When to take a snapshot or rewrite the log without being asked: the rules of the configuration,
 * looked at together. Pure: times and counters come in, a decision with its reason comes out.
 *
 *     save <s> <n>           n changes since the last snapshot, and more than s seconds
 *     save-bytes             so many bytes written since
 *     save-idle              no write for so long, but changes since
 *     save-cron              at these times, if there are changes
 *     data-loss-target       so that, without a log, no change is older than that when the snapshot
 *                            that holds it is done: the oldest change's age + a snapshot's duration
 *     recovery-time-target   so that a start takes no longer: when loading what is on disk and
 *                            replaying what follows would, a new full snapshot, or with a log a
 *                            rewrite
 *
 * Any of them suffices for a snapshot; a rewrite is decided apart. After a failure nothing is
 * decided for a while that doubles with each failure: 5 seconds at first, 5 minutes at most.
 */
#ifndef HF_PERSIST_SCHEDULE_SCHEDULE_H
#define HF_PERSIST_SCHEDULE_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include "persist/schedule/cron.h"

struct save_point {
    int64_t seconds, changes;
};

/* 0, or none: the rule is not there. */
struct schedule_rules {
    const struct save_point *points;
    int point_count;
    uint64_t bytes;
    int64_t idle_s;
    int64_t loss_s, recovery_s;
    struct cron_list cron;
};

/* How fast a start is. Where nothing was measured: what a slow machine does. */
struct schedule_speed {
    double load_bytes_s, load_keys_s; /* snapshots */
    double replay_bytes_s;            /* the log */
};
#define SCHEDULE_SPEED_UNKNOWN                                                                     \
    {                                                                                              \
        .load_bytes_s = 50e6, .load_keys_s = 300e3, .replay_bytes_s = 20e6                         \
    }

/* Milliseconds are of the wall clock. */
struct schedule_counters {
    int64_t now_ms;
    int64_t last_save_ms;    /* when the last snapshot ended, or the server started */
    int64_t first_change_ms; /* of those not in a snapshot; 0: there are none */
    int64_t last_change_ms;
    uint64_t changes, bytes; /* since the last snapshot began */
    int64_t save_ms;         /* that a snapshot would take now */
    bool log;                /* there is a log: a start loads that and no snapshot */
    /* What a start would have to load: of snapshots or bases (with deltas), and the log behind. */
    uint64_t base_bytes, base_keys, log_bytes;
    double log_bytes_s;      /* the pace at which the log grows */
    uint64_t full_bytes;     /* that a full snapshot would have now */
    uint64_t full_keys;
    struct schedule_speed speed;
};

/* What is kept from one decision to the next; zeroed at the beginning. */
struct schedule {
    int failures;        /* in a row */
    int64_t retry_ms;    /* not before; 0: at any time */
    int64_t cron_ms;     /* the next time; 0: to be worked out; INT64_MAX: never */
    int64_t cron_from_ms; /* when that was worked out */
    bool cron_due;       /* a time has come, and no snapshot has succeeded since */
};

enum schedule_action { SCHEDULE_NOTHING, SCHEDULE_SNAPSHOT, SCHEDULE_FULL };

struct schedule_decision {
    enum schedule_action action; /* FULL: a delta would not do */
    char reason[160];
    bool rewrite; /* the log */
    char rewrite_reason[160];
    /* When nothing is to be done: when something will be if nothing changes, and what; -1: only
     * further changes decide. */
    int64_t next_ms;
    char next[160];
    bool loss_too_short, recovery_too_short; /* these targets cannot be met */
};

/* How long a start would take now. */
double schedule_recovery_seconds(const struct schedule_counters *c);
/* Looks at everything; changes only what is kept of cron. */
void schedule_decide(struct schedule *s, const struct schedule_rules *r,
                     const struct schedule_counters *c, struct schedule_decision *d);
/* The rules were changed: times are worked out anew, and nothing waits because of failures. */
void schedule_changed(struct schedule *s);
/* A snapshot, by the schedule or not, has ended or could not be begun. */
void schedule_note_result(struct schedule *s, bool ok, int64_t now_ms);

#endif
