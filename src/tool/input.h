/* SPDX-License-Identifier: BSD-3-Clause
 *
 * An RDB file that is being read through: the open file, its records, the means to decode values,
 * and the progress on the terminal. Memory: the reader's buffer of a megabyte and the value that is
 * being looked at, however large the file is.
 *
 * Or a chain of snapshots, read as if it were one RDB file of what there is at its end: of each key
 * the record that counts, in no order of databases; fields of the full and the last snapshot. That
 * takes the memory that tool/chain_merge.h tells.
 */
#ifndef HF_TOOL_INPUT_H
#define HF_TOOL_INPUT_H

#include "os/file.h"
#include "persist/rdb/record.h"
#include "tool/chain_merge.h"
#include "tool/progress.h"

struct input {
    const char *path;
    struct os_file file;
    uint64_t size, position; /* of the file; where it is read next */
    struct rdb_reader reader;
    struct rdb_records records;
    struct keyspace *ks; /* whose epoch and encoding limits the values are built with */
    struct rdb_loader *loader;
    struct progress progress;
    const char *label;
    bool is_chain;
    struct chain_merge merge; /* of a chain */
    size_t link;              /* of the chain, whose file is open */
    bool merging;             /* it has been found out which records count */
    uint64_t before;          /* read of other files of the chain */
    uint64_t total_size;      /* of the file, or of all of the chain */
    char opened[600];         /* the file that is open */
    struct error err; /* of the call that has failed, without the path */
};

/* Of the set of a chain's keys, or diff's table, unless the user says otherwise; and what he says,
 * in MiB. */
#define INPUT_CHAIN_MEMORY ((size_t)256 << 20)
bool input_parse_memory(const char *mib, size_t *memory);

/* Open a file and read its header. `label` is what the progress is called; NULL: it is not shown.
 * On failure err is set and there is nothing to be closed. */
bool input_open(struct input *in, const char *path, const char *label);
/* Likewise a file, the manifest of a chain, or a directory with either; `memory` is for the set of
 * a chain's keys. */
bool input_open_any(struct input *in, const char *path, const char *label, size_t memory);
void input_close(struct input *in);
/* Say on standard error what a user should know of how the file was chosen, if there is such. */
void input_mention(const struct input *in);

/* As rdb_records_next. */
bool input_next(struct input *in, struct rdb_record *record);
/* The value of the key that was given last, as an entry, which input_drop frees; NULL for an empty
 * collection, which old versions could write and no server keeps. */
bool input_load(struct input *in, const struct rdb_record *record, struct entry **e);
void input_drop(struct input *in, struct entry *e);
bool input_skip(struct input *in, const struct rdb_record *record);
/* Bytes read so far: behind a value, where it ends. */
uint64_t input_offset(const struct input *in);

/* Begin again with the first record. */
bool input_rewind(struct input *in, const char *label);
/* Where a key's record is, for input_seek: 62 bits. */
uint64_t input_place(const struct input *in, const struct rdb_record *record);
/* Stand before the record at a place that an earlier pass has found, in database `db`; that is the
 * record that input_next_as_it_is gives next. False: a file of a chain cannot be opened. */
bool input_seek(struct input *in, uint64_t place, int db);
bool input_next_as_it_is(struct input *in, struct rdb_record *record);

/* "PATH: what is wrong" on standard error, the progress being wiped away. */
void input_complain(struct input *in);

#endif
