/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the server knows of its snapshots, whoever asked for them: their version, what was changed
 * since the last one, how long one takes and how long a start would take; and the schedule
 * (persist/schedule/schedule.h), which is looked at ten times a second and begins some.
 *
 * Versions count up, over restarts as well: each file holds its own (LINK_AUX_VERSION). A snapshot
 * that fails uses up its number.
 *
 * persistence.c takes the snapshots and tells when one begins and ends. Owned by the executor.
 */
#ifndef HF_SERVER_SNAPSHOTS_H
#define HF_SERVER_SNAPSHOTS_H

#include "persist/save_job.h"
#include "persist/schedule/schedule.h"
#include "server/server.h"

enum snapshot_kind { SNAPSHOT_FULL, SNAPSHOT_INCREMENTAL, SNAPSHOT_KINDS };

/* One that is being taken. */
struct snapshot_run {
    bool running;
    uint64_t version;
    uint64_t bytes;          /* snapshots.bytes when it began */
    int64_t first_change_ms; /* of those that it does not have; 0: none */
    int64_t begun_us;
    char reason[160], file[256];
    bool verify;
};

struct snapshots {
    struct schedule schedule;
    struct schedule_decision decision; /* the last one */
    char *cron_text;                   /* that `cron` was made from */
    struct cron_list cron;
    bool full_next;                    /* the last incremental one has failed */
    char reason[160];                  /* of the next to begin; "": somebody asked for it */
    char last_reason[160];             /* of the last that the schedule began */

    uint64_t version;      /* the last number given out */
    uint64_t done_version; /* of the last that succeeded */
    struct snapshot_run runs[SNAPSHOT_KINDS];

    uint64_t bytes, saved_bytes;   /* written: in all; before the last snapshot */
    uint64_t stream_end, estimate; /* as of the last look */
    bool had_stream;
    uint64_t changes, dirty;       /* in all; the keyspace's, as of the last look */
    int64_t first_change_ms, last_change_ms;
    double bytes_s, changes_s;     /* the pace of the last seconds */
    uint64_t pace_bytes, pace_changes;
    int64_t pace_us;

    /* The last full snapshot that was written or loaded; size 0: none. */
    uint64_t full_size, full_keys;
    size_t full_memory;            /* that its data took */
    int64_t full_us, full_sync_us; /* 0: not measured */
    int64_t incremental_us;        /* the last one; 0: none */
    int64_t incremental_busy_us;   /* spent in all of them */
    struct schedule_speed speed;

    uint64_t log_bytes;      /* behind the log's base */
    uint64_t log_base_bytes; /* the base */
    int64_t log_looked_us;
    bool log_failed, log_full; /* that has been announced */
    bool warned_loss, warned_recovery;
    int64_t rewrite_next_us; /* the schedule asks for no rewrite before then */
};

void snapshots_init(struct server *s);
void snapshots_deinit(struct server *s);

/* After loading: go on with the version that stands in the files. */
void snapshots_loaded(struct server *s);
/* An RDB file was loaded, or this much of the log replayed. What was too little to tell says
 * nothing of the speed. */
void snapshots_note_load(struct server *s, uint64_t bytes, uint64_t keys, int64_t us);
void snapshots_note_replay(struct server *s, uint64_t bytes, int64_t us);
/* The rules or anything else of the configuration was changed. */
void snapshots_config_changed(struct server *s, const char *directive);
/* Whether the schedule has any rule, so that data is to be saved without being asked. */
bool snapshots_are_scheduled(const struct server *s);

/* One begins: its options get the version. */
void snapshots_note_begin(struct server *s, enum snapshot_kind kind, struct save_options *options);
/* It has ended: *done when error is NULL. Announced. */
struct snapshot_done {
    uint64_t keys, deleted, bytes;
    int64_t sync_us;
    const char *file; /* NULL: that of the options */
};
void snapshots_note_end(struct server *s, enum snapshot_kind kind, const struct snapshot_done *done,
                        const char *error);

/* Count, look at the schedule, and begin what it says. */
void snapshots_look(struct server *s);

/* What a full snapshot would be now: the size of its file, and how long it would take. */
struct snapshot_estimate {
    uint64_t keys, bytes;
    size_t memory;  /* that the data takes */
    int64_t ms;
    bool measured;  /* by one that was taken */
};
void snapshots_estimate(const struct server *s, struct snapshot_estimate *e);
/* How long a start would take. */
double snapshots_recovery_seconds(const struct server *s);

/* The fields of INFO persistence about all this. */
struct text;
void snapshots_info(struct server *s, struct text *out);

#endif
