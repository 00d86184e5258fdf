/* SPDX-License-Identifier: BSD-3-Clause
 *
 * For tests: wait until a writer has all that is published on the disk.
 */
#ifndef HF_TEST_FLUSH_H
#define HF_TEST_FLUSH_H

#include <unistd.h>

#include "base/clock.h"
#include "persist/log/writer.h"

/* Whatever the policy. False: it is not possible, or takes longer. */
static inline bool flush_writer(struct writer *w, const struct stream *stream, int64_t timeout_ms)
{
    uint64_t lsn = stream_published(stream);
    int64_t until = clock_monotonic_us() + timeout_ms * 1000;
    writer_sync_to(w, lsn);
    while (writer_durable_lsn(w) < lsn && clock_monotonic_us() < until) {
        enum writer_state state = writer_state(w);
        if (state == WRITER_FAILED || state == WRITER_IDLE)
            break;
        usleep(20);
    }
    return writer_durable_lsn(w) >= lsn;
}

#endif
