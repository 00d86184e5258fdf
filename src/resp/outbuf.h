/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A client's pending output: a queue of blocks that replies are appended to and that the connection
 * writes out with writev and consumes. Pure bytes.
 */
#ifndef HF_RESP_OUTBUF_H
#define HF_RESP_OUTBUF_H

#include <stddef.h>
#include <stdint.h>

struct outbuf;

/* A place in the output where something is to be put in later. */
struct outbuf_mark {
    void *block;
    size_t offset;
};

#endif
