/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The two clocks. Durations are measured by the monotonic one; expiry and log lines use the wall
 * clock. Only the outermost loops read them: everything below takes the time as an argument, so
 * that tests can replay.
 */
#ifndef HF_BASE_CLOCK_H
#define HF_BASE_CLOCK_H

#include <stdint.h>

int64_t clock_monotonic_us(void);
int64_t clock_monotonic_ns(void);
int64_t clock_wall_us(void); /* since 1970 */
int64_t clock_wall_ms(void);

#endif
