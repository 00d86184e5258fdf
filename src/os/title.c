/* SPDX-License-Identifier: BSD-3-Clause */
#include "os/title.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

static char *begin; /* of the arguments; NULL: title_init was not called */
static size_t room; /* of arguments and environment */
static bool moved;  /* the environment */
static char *program;

void title_init(int argc, char **argv)
{
    char *end = argv[0];
    for (int i = 0; i < argc && argv[i] == end; i++)
        end += strlen(end) + 1;
    for (char **e = environ; e != NULL && *e == end; e++)
        end += strlen(end) + 1;
    begin = argv[0];
    room = (size_t)(end - begin);
    program = mem_dup(begin, strlen(begin));
}

const char *title_program(void)
{
    return program != NULL ? program : "";
}

/* The process's for good: others may keep what getenv has given them. */
static void move_environment(void)
{
    size_t count = 0;
    while (environ != NULL && environ[count] != NULL)
        count++;
    char **copy = mem_alloc((count + 1) * sizeof(*copy));
    for (size_t i = 0; i < count; i++)
        copy[i] = mem_dup(environ[i], strlen(environ[i]));
    copy[count] = NULL;
    environ = copy;
    moved = true;
}

void title_set(const char *title)
{
    if (begin == NULL)
        return;
    if (!moved)
        move_environment();
    size_t size = strlen(title);
    if (size >= room)
        size = room - 1;
    memcpy(begin, title, size);
    memset(begin + size, 0, room - size);
}
