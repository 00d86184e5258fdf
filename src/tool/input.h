/* SPDX-License-Identifier: BSD-3-Clause
 *
 * An RDB file that is being read through: the open file, its records, the means to decode values,
 * and the progress on the terminal. Memory: the reader's buffer of a megabyte and the value that is
 * being looked at, however large the file is.
 */
#ifndef HF_TOOL_INPUT_H
#define HF_TOOL_INPUT_H

#include "os/file.h"
#include "persist/rdb/record.h"
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
    struct error err; /* of the call that has failed, without the path */
};

/* Open a file and read its header. `label` is what the progress is called; NULL: it is not shown.
 * On failure err is set and there is nothing to be closed. */
bool input_open(struct input *in, const char *path, const char *label);
void input_close(struct input *in);

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
/* Stand before the record at `offset`, which an earlier pass has found, in database `db`. */
void input_seek(struct input *in, uint64_t offset, int db);

/* "PATH: what is wrong" on standard error, the progress being wiped away. */
void input_complain(struct input *in);

#endif
