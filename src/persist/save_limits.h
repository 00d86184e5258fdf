/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Limits of whatever reads a snapshot to write it somewhere, or reads its file again: they may be
 * changed while it runs. Atomic; the owner keeps them until the last of these has ended.
 */
#ifndef HF_PERSIST_SAVE_LIMITS_H
#define HF_PERSIST_SAVE_LIMITS_H

#include <stdint.h>

struct save_limits {
    uint64_t rate;   /* bytes per second; 0: none */
    uint64_t memory; /* bytes held for the snapshot: half of it hurries, beyond it the job is given
                        up; 0: none */
};

#endif
