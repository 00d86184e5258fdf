/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Faults for tests: what can go wrong between the program and its disk, on demand.
 *
 * Three mechanisms, which may be used together:
 *
 * 1. Plans. A plan says what happens to the n-th call of an operation (or of any): it fails with an
 *    errno, or, for a write, is cut short first. os_fault_calls counts the calls, so that a test
 *    can run once to count and then fail each call in turn.
 *
 * 2. Power loss. While recording is on, the layer knows for each file in one directory what has
 *    been synced and what has not, and for the directory which names are durable.
 *    os_fault_power_loss then rewrites the directory to a state that the disk could be in after the
 *    power went:
 *    - a file's unsynced writes are kept, dropped, or torn, each on its own, at random (writes may
 *      thus be reordered); what was synced stays;
 *    - of the unsynced changes of names (create, rename, unlink) the first so many are kept;
 *    - a name that survives without its file's data being synced has the file with what was kept.
 *    From os_fault_cut on every call that changes the disk fails, as nothing runs without power.
 *
 * 3. A slow disk: calls of an operation are held up.
 *
 * For one process and one recorded directory (without its subdirectories) at a time. Not active
 * unless a test calls it; the cost otherwise is one relaxed load for each call.
 */
#ifndef HF_OS_FAULT_H
#define HF_OS_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum os_op {
    OS_OP_OPEN, /* for writing */
    OS_OP_WRITE,
    OS_OP_READ,
    OS_OP_SYNC,
    OS_OP_TRUNCATE,
    OS_OP_RENAME,
    OS_OP_UNLINK,
    OS_OP_DIR_SYNC,
    OS_OP_CLOSE,
    OS_OP_COUNT,
    OS_OP_ANY = OS_OP_COUNT /* in plans: any that changes the disk (all but READ and CLOSE) */
};

struct os_fault_plan {
    enum os_op op;
    uint64_t nth;    /* counted from 1, since os_fault_set */
    int os_errno;    /* what the call fails with */
    bool sticky;     /* all later calls of the operation fail too */
    bool cut_power;  /* the power goes before this call is carried out */
    bool shorten;    /* a write carries out half of its bytes before it fails */
    bool garble;     /* a write succeeds, but one bit of what reaches the disk is wrong */
};

void os_fault_set(const struct os_fault_plan *plan); /* copies it; NULL: none. Resets the counts. */
/* From now on each call of the operation is held up for so long first; 0: none is. */
void os_fault_hold(enum os_op op, int64_t us);
/* OS_OP_ANY: those that a plan of ANY counts */
uint64_t os_fault_calls(enum os_op op);

void os_fault_record(const char *directory); /* begin: all that is there counts as durable */
void os_fault_cut(void);
bool os_fault_is_cut(void);
/* Rewrite the directory as `seed` decides, and stop recording. No file in it may be open. */
void os_fault_power_loss(uint64_t seed);
/* Stop recording without a loss. */
void os_fault_forget(void);

/* For the layer itself. */

extern int os_fault_active;
/* A write is to write something else: see os_fault_before. */
#define OS_FAULT_GARBLE (-1)
/* Called before an operation while active. Returns 0 to go on, OS_FAULT_GARBLE, or the errno to
 * fail with; *allowed (may be NULL) is lowered for a write that is carried out in part. */
int os_fault_before(enum os_op op, size_t *allowed);
/* Told after success, while active. */
void os_fault_note_open(int fd, const char *path, bool created, bool truncated);
void os_fault_note_write(int fd, uint64_t offset, const void *data, size_t size);
void os_fault_note_truncate(int fd, uint64_t size);
void os_fault_note_sync(int fd);
void os_fault_note_close(int fd);
void os_fault_note_rename(const char *from, const char *to);
void os_fault_note_unlink(const char *path);
void os_fault_note_dir_sync(const char *path);

#endif
