/* SPDX-License-Identifier: BSD-3-Clause
 *
 * holdfast-server --check-system: looks at the machine and the data directory with the
 * configuration in hand, and says what would hurt and what to do. Changes nothing; it writes and
 * removes one small file in the data directory to measure fdatasync.
 */
#ifndef HF_SERVER_CHECK_SYSTEM_H
#define HF_SERVER_CHECK_SYSTEM_H

#include <stdbool.h>

#include "base/text.h"
#include "server/config.h"

/* Appends one line ("ok", "WARN", "skip") for each check, with what to do below. True: no WARN. */
bool check_system(const struct config *config, struct text *out);

#endif
