/* SPDX-License-Identifier: BSD-3-Clause */
#include "command/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/text.h"
#include "command/docs.h"

/* Every command is found by its name in any case, and nothing else is. */
static void test_find(void **state)
{
    (void)state;
    int count = 0;
    for (const struct command *cmd; (cmd = command_at(count)); count++) {
        char name[64];
        size_t size = strlen(cmd->name);
        assert_ptr_equal(command_find(slice_of(cmd->name, size)), cmd);
        for (size_t i = 0; i <= size; i++)
            name[i] = (char)(i % 2 && cmd->name[i] >= 'a' ? cmd->name[i] - 32 : cmd->name[i]);
        assert_ptr_equal(command_find(slice_of(name, size)), cmd);
        name[size - 1] = (char)(name[size - 1] ^ 0x80);
        assert_null(command_find(slice_of(name, size)));
        assert_true(command_find(slice_of(cmd->name, size - 1)) != cmd);
        /* '_' and '@' differ in the bit that makes the case of letters. */
        for (size_t i = 0; i < size; i++) {
            memcpy(name, cmd->name, size + 1);
            if (name[i] < 'a' || name[i] > 'z') {
                name[i] = (char)(name[i] ^ 0x20);
                assert_null(command_find(slice_of(name, size)));
            }
        }
    }
    assert_true(count > 20);
    assert_null(command_find(SLICE("")));
    assert_null(command_find(SLICE("g")));
    assert_null(command_find(SLICE("getget")));
    assert_null(command_find(SLICE("config|get")));
}

static void check_command(const struct command *cmd, int id)
{
    assert_int_equal(cmd->id, id);
    assert_true(cmd->handler || cmd->subcommand_count);
    assert_non_null(cmd->doc->summary);
    /* As Redis has it: a command is either fast or slow. */
    assert_int_not_equal(!(cmd->acl_categories & ACL_FAST), !(cmd->acl_categories & ACL_SLOW));
    assert_int_equal(!!(cmd->flags & COMMAND_FAST), !!(cmd->acl_categories & ACL_FAST));
    assert_int_equal(!!(cmd->flags & COMMAND_WRITE), !!(cmd->acl_categories & ACL_WRITE));
}

/* Subcommands, ids that are given once, and what each row must have. */
static void test_rows(void **state)
{
    (void)state;
    const struct command *config = command_find(SLICE("config"));
    assert_non_null(config);
    assert_null(config->handler);
    const struct command *get = command_find_sub(config, SLICE("GeT"));
    assert_non_null(get);
    assert_string_equal(get->full_name, "config|get");
    assert_null(command_find_sub(config, SLICE("nothing")));

    int ids = 0;
    for (int i = 0; command_at(i) != NULL; i++) {
        check_command(command_at(i), ids++);
        for (int j = 0; j < command_at(i)->subcommand_count; j++)
            check_command(&command_at(i)->subcommands[j], ids++);
    }
    assert_int_equal(ids, command_count);
}

/* A renamed command is found by its new name only, in any case, whatever its length; one that was
 * renamed to nothing is not found. */
static void test_rename(void **state)
{
    (void)state;
    const struct command *get = command_find(SLICE("get")), *del = command_find(SLICE("del"));
    assert_int_equal(command_rename(SLICE("nothing"), SLICE("x")), COMMAND_RENAME_UNKNOWN);
    assert_int_equal(command_rename(SLICE("get"), SLICE("SET")), COMMAND_RENAME_TAKEN);
    assert_int_equal(command_rename(SLICE("get"), SLICE("A-very-long-name-for-Get")),
                     COMMAND_RENAMED);
    assert_int_equal(command_rename(SLICE("DEL"), SLICE("")), COMMAND_RENAMED);
    assert_null(command_find(SLICE("get")));
    assert_null(command_find(SLICE("del")));
    assert_ptr_equal(command_find(SLICE("a-very-long-name-for-get")), get);
    assert_null(command_find(SLICE("a-very-lonG_name-for-get")));
    assert_non_null(command_find(SLICE("set")));
    assert_int_equal(command_rename(SLICE("a-very-long-name-for-get"), SLICE("del")),
                     COMMAND_RENAMED);
    assert_ptr_equal(command_find(SLICE("DEL")), get);
    command_rename_undo();
    assert_ptr_equal(command_find(SLICE("get")), get);
    assert_ptr_equal(command_find(SLICE("del")), del);
}

/* The keys of a command line, as "position:flags" separated by blanks. */
static const char *keys_of(const char *line)
{
    static char out[512];
    struct words w;
    assert_true(text_split(&w, slice_cstr(line)));
    const struct command *cmd = command_find(w.items[0]);
    if (cmd && cmd->subcommand_count)
        cmd = command_find_sub(cmd, w.items[1]);
    assert_non_null(cmd);
    struct command_key keys[16];
    int positions[16];
    int count = command_keys_flags(cmd, w.items, w.count, keys, 16);
    /* The two ways to ask agree. */
    assert_int_equal(command_keys(cmd, w.items, w.count, positions, 16), count);
    int n = snprintf(out, sizeof(out), count < 0 ? "invalid" : "");
    for (int i = 0; i < count; i++) {
        assert_int_equal(positions[i], keys[i].position);
        n += snprintf(out + n, sizeof(out) - (size_t)n, "%s%d", i ? " " : "", keys[i].position);
        for (unsigned bit = 0; key_spec_flag_name(bit); bit++)
            if (keys[i].flags >> bit & 1)
                n += snprintf(out + n, sizeof(out) - (size_t)n, ",%s", key_spec_flag_name(bit));
    }
    words_free(&w);
    return out;
}

/* Fixed positions, ranges, numbers of keys, keywords and options, as COMMAND GETKEYSANDFLAGS of
 * redis-server 7.0.15 gives them. */
static void test_keys(void **state)
{
    (void)state;
    static const struct {
        const char *line, *keys;
    } cases[] = {
        {"get a", "1,RO,access"},
        {"ping", ""},
        {"config get a", ""},
        {"mset a 1 b 2", "1,OW,update 3,OW,update"},
        {"mget a b c", "1,RO,access 2,RO,access 3,RO,access"},
        {"del a b", "1,RM,delete 2,RM,delete"},
        {"rename a b", "1,RW,access,delete 2,OW,update"},
        {"object encoding a", "2,RO"},
        {"memory usage a", "2,RO"},
        {"set a b", "1,OW,update"},
        {"set a b ex 5 GET", "1,RW,access,update"},
        {"zunion 2 a b weights 1 2", "2,RO,access 3,RO,access"},
        {"zunion 0 a", "invalid"},
        {"zunion 3 a b", "invalid"},
        {"zunion x a", "invalid"},
        {"zunion -1 a", "invalid"},
        {"zunion 9223372036854775807 a", "invalid"},
        {"zunionstore d 2 a b", "1,OW,update 3,RO,access 4,RO,access"},
        {"sintercard 1 a limit 5", "2,RO,access"},
        {"lmpop 1 a left", "2,RW,access,delete"},
        {"lmove a b left right", "1,RW,access,delete 2,RW,insert"},
        {"sort a by x get y limit 1 store store c", "1,RO,access 10,OW,update"},
        {"sort a store b store c", "1,RO,access 5,OW,update"},
        {"sort a limit store b desc", "1,RO,access"},
        {"sort_ro a get store", "1,RO,access"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (strcmp(keys_of(cases[i].line), cases[i].keys) != 0)
            fail_msg("%s: '%s' instead of '%s'", cases[i].line, keys_of(cases[i].line),
                     cases[i].keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_rename),
        cmocka_unit_test(test_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
