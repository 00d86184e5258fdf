/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What stands in an annotated file behind its last good group: is there anything that was committed
 * after it? If not, the rest is the end of an append that did not come to its end.
 *
 * The bytes there may be anything: what is left of groups, zeros, and users' values, which may hold
 * lines like ours: a value may be a piece of a log, of this very one, too. So a line counts only
 * when it is in its place in the chain:
 *
 *     ... 5d0c11ab\r\n                          its crc may not be provable any more; what the
 *     #HF1 group 150\r\n                        next goes on from are the eight digits before it
 *     *3\r\n ...
 *     #HF1 commit 177 1790000000000 100 <crc>   valid: the crc fits
 *
 *   - its crc goes on from the digits directly before the group (or, where these were changed, from
 *     the crc of all bytes since the last good line);
 *   - the commands between the two lines are whole, and as long as their LSNs say;
 *   - the LSN is greater than that of the last good group, but not by more than the file has bytes
 *     in between: an earlier piece of the same file and pieces of others do not fit.
 *
 * A line in its place may be left without what it goes on from. If it says that more was durable
 * than is good, something durable is gone (`claims`). This is believed only of lines that do not
 * stand inside of a command's argument, as far as the file can be parsed; and of one that is the
 * last thing in the file, as a tear just behind a user's line is much rarer than a file that ends
 * as it was written.
 *
 * Somebody who knows the LSN of the moment can write a value that holds two groups of such a form.
 * If just this write is torn, it looks like damage, and the start is refused: of the two mistakes
 * the one that loses nothing.
 *
 * The work is bounded by a multiple of the bytes; what goes beyond is taken for `claims`, too.
 */
#ifndef HF_PERSIST_LOG_TAIL_H
#define HF_PERSIST_LOG_TAIL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "os/file.h"

/* Behind the last good line. */
struct log_tail_start {
    uint64_t offset, size; /* of that place; of the file */
    uint64_t lsn;
    uint32_t crc;
    uint64_t framed; /* up to this offset the commands are whole, or cut off by the file's end */
};

struct log_tail {
    /* valid lines; where the first one's group begins; the last LSN */
    uint64_t groups, offset, lsn;
    int64_t first_ms, ms;
    uint64_t durable; /* the greatest that they say; UINT64_MAX: one does not say */
    bool claims;
};

/* False: the file cannot be read. */
bool log_tail_scan(struct os_file *file, const struct log_tail_start *start, struct log_tail *tail,
                   struct error *err);

#endif
