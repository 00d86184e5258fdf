/* SPDX-License-Identifier: BSD-3-Clause
 *
 * MODULE, as a server answers it that has no modules and loads none.
 */
#include "base/log.h"
#include "command/help.h"
#include "handlers.h"
#include "server/access.h"
#include "server/client.h"
#include "server/config.h"

static bool allowed(struct call *c)
{
    if (access_allowed(c, c->server->config->enable_module_command))
        return true;
    reply_error(c->reply,
                "ERR MODULE command not allowed. If the enable-module-command option is set to "
                "\"local\", you can run it from a local connection, otherwise you need to set this "
                "option in the configuration file, and then restart the server.");
    return false;
}

static void refuse_to_load(struct call *c)
{
    if (!allowed(c))
        return;
    log_warning("Module %.*s failed to load: this server loads no modules.",
                c->argv[2].size < 1000 ? (int)c->argv[2].size : 1000, c->argv[2].data);
    reply_error(c->reply, "ERR Error loading the extension. Please check the server logs.");
}

void cmd_module_load(struct call *c)
{
    refuse_to_load(c);
}

void cmd_module_loadex(struct call *c)
{
    refuse_to_load(c);
}

void cmd_module_unload(struct call *c)
{
    if (allowed(c))
        reply_error(c->reply, "ERR Error unloading module: no such module with that name");
}

void cmd_module_list(struct call *c)
{
    reply_array(c->reply, 0);
}

void cmd_module_help(struct call *c)
{
    static const char *const lines[] = {
        "LIST",
        "    The modules that are loaded: none, ever.",
        "LOAD <path> [<arg> ...]",
        "    Refused: this server loads no modules.",
        "LOADEX <path> [CONFIG <name> <value> ...] [ARGS <arg> ...]",
        "    Refused as well.",
        "UNLOAD <name>",
        "    Refused, as there is none.",
    };
    reply_help(c, "MODULE", lines, sizeof(lines) / sizeof(lines[0]));
}
