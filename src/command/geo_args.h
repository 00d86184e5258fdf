/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the commands on places share. On false an error was replied.
 */
#ifndef HF_COMMAND_GEO_ARGS_H
#define HF_COMMAND_GEO_ARGS_H

#include "command/call.h"
#include "type/geo.h"

/* argv: longitude and latitude. */
bool geo_parse_place(struct call *c, const struct slice *argv, struct geo_point *p);
/* m, km, ft or mi, in meters. */
bool geo_parse_unit(struct call *c, struct slice s, double *meters);
/* A distance with four decimals; a coordinate with all that it has. */
void geo_reply_distance(struct call *c, double distance);
void geo_reply_place(struct call *c, struct geo_point p);

#endif
