/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Fuzzes the configuration: no text makes loading crash; and what was loaded is written by CONFIG
 * REWRITE such that it loads again, to the same settings, and is then written in the same way.
 * Texts that name other files or directories are passed over.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "command/table.h"
#include "server/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool names_files(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (strncasecmp(text + i, "include", 7) == 0 || strncasecmp(text + i, "dir", 3) == 0)
            return true;
    return false;
}

static void add_value(void *ctx, struct slice name, struct slice value)
{
    struct text *all = ctx;
    text_append(all, name.data, name.size);
    text_append_quoted(all, value);
}

static void all_values(struct config *c, struct text *out)
{
    struct slice any = SLICE("*");
    config_get(c, &any, 1, add_value, out);
}

static void check_rewrite(struct config *first, struct slice text)
{
    struct config second;
    struct config_error err;
    struct text written = {0}, again = {0}, values = {0}, values_again = {0};
    config_rewrite_text(first, text, &written);
    command_rename_undo();
    config_init(&second);
    if (!config_load_text(&second, "rewritten", text_slice(&written), &err))
        abort();
    all_values(first, &values);
    all_values(&second, &values_again);
    config_rewrite_text(&second, text_slice(&written), &again);
    if (!slice_equal(text_slice(&values), text_slice(&values_again)) ||
        !slice_equal(text_slice(&written), text_slice(&again)))
        abort();
    text_free(&written);
    text_free(&again);
    text_free(&values);
    text_free(&values_again);
    config_deinit(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = mem_dup(data, size); /* with a NUL, which ends the search for words */
    if (!names_files(text, size)) {
        struct config c;
        struct config_error err;
        config_init(&c);
        if (config_load_text(&c, "fuzz", slice_of(text, size), &err))
            check_rewrite(&c, slice_of(text, size));
        command_rename_undo();
        config_deinit(&c);
    }
    mem_free(text);
    return 0;
}
