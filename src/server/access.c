/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/access.h"

#include "server/client.h"

/* Connected through the Unix socket or a loopback address. */
static bool is_local(struct client *client)
{
    if (client->flags & CLIENT_UNIX)
        return true;
    const char *peer = client_peer(client);
    return strncmp(peer, "127.", 4) == 0 || strncmp(peer, "[::1]:", 6) == 0 ||
           strncmp(peer, "::1:", 4) == 0 || strncmp(peer, "[::ffff:127.", 12) == 0;
}

bool access_allowed(const struct call *c, int allow)
{
    return allow == ALLOW_YES || (allow == ALLOW_LOCAL && is_local(c->client));
}
