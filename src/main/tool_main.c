/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/hash.h"
#include "tool/tool.h"

int main(int argc, char **argv)
{
    hash_key_init(NULL);
    return tool_run(argc, argv);
}
