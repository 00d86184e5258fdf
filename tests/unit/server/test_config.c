/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"

static struct config config;
static struct config_error failure;

static int setup(void **state)
{
    (void)state;
    config_init(&config);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    config_deinit(&config);
    return 0;
}

static bool load(const char *text)
{
    return config_load_text(&config, "test.conf", slice_cstr(text), &failure);
}

struct got {
    int count;
    char name[64], value[256];
};

static void note(void *ctx, struct slice name, struct slice value)
{
    struct got *got = ctx;
    got->count++;
    snprintf(got->name, sizeof(got->name), "%.*s", (int)name.size, name.data);
    snprintf(got->value, sizeof(got->value), "%.*s", (int)value.size, value.data);
}

static const char *value_of(const char *name)
{
    static struct got got;
    got = (struct got){0};
    struct slice pattern = slice_cstr(name);
    config_get(&config, &pattern, 1, note, &got);
    assert_int_equal(got.count, 1);
    assert_string_equal(got.name, name);
    return got.value;
}

static bool set(const char *name, const char *value, struct error *err)
{
    struct slice pair[2] = {slice_cstr(name), slice_cstr(value)};
    *err = (struct error){0};
    return config_set(&config, pair, 2, false, err);
}

/* Blank lines, comments, quotes, units, any case of names and enum words, aliases. */
static void test_load(void **state)
{
    (void)state;
    assert_true(load("# comment\n\n  PORT 7000\t\r\n"
                     "maxmemory 2gb\nhash-max-listpack-value 3k\n"
                     "requirepass \"a b\\x41\\n\"\n"
                     "unixsocketperm 700\n"
                     "loglevel WARNING\n"
                     "slave-priority 7\n"
                     "maxmemory-clients 5%\n"
                     "bind 127.0.0.1 -::1\n"
                     "appendonly yes"));
    assert_int_equal(config.port, 7000);
    assert_int_equal(config.maxmemory, 2LL << 30);
    assert_int_equal(config.hash_max_listpack_value, 3000);
    assert_string_equal(config.requirepass, "a bA\n");
    assert_int_equal(config.unixsocketperm, 0700);
    assert_string_equal(value_of("loglevel"), "warning");
    assert_int_equal(config.replica_priority, 7);
    assert_string_equal(value_of("slave-priority"), "7");
    assert_string_equal(value_of("maxmemory-clients"), "5%");
    assert_int_equal(config.bind_count, 2);
    assert_string_equal(config.bind[1], "-::1");
    assert_true(config.appendonly);
}

/* A mistake stops the loading and is reported with file, line, the line itself and the reason. */
static void test_errors(void **state)
{
    (void)state;
    static const struct {
        const char *text, *reason;
        int line;
    } cases[] = {
        {"port 1\n\nno-such-thing 5\n", "'no-such-thing' is not a directive", 3},
        {"port 70000\n", "between 0 and 65535", 1},
        {"port 1 2\n", "wrong number of arguments", 1},
        {"port\n", "wrong number of arguments", 1},
        {"\nhz \"1\n", "quotes", 2},
        {"appendonly maybe\n", "'yes' or 'no'", 1},
        {"maxmemory 1x\n", "memory value", 1},
        {"maxmemory 99999999999gb\n", "memory value", 1},
        {"unixsocketperm 800\n", "octal", 1},
        {"maxmemory-policy none\n", "must be one of the following: volatile-lru", 1},
        {"save 5\n", "Invalid save parameters", 1},
        {"save 0 5\n", "Invalid save parameters", 1},
        {"dir /no/such/place\n", "/no/such/place", 1},
        {"dbfilename a/b\n", "can't be a path", 1},
        {"rename-command GET\n", "wrong number of arguments", 1},
        {"rename-command nothing x\n", "No such command", 1},
        {"rename-command get set\n", "already exists", 1},
        {"include /no/such/file\n", "/no/such/file", 1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_false(load(cases[i].text));
        assert_string_equal(failure.source, "test.conf");
        assert_int_equal(failure.line, cases[i].line);
        if (!strstr(failure.reason, cases[i].reason))
            fail_msg("'%s': '%s' does not contain '%s'", cases[i].text, failure.reason,
                     cases[i].reason);
    }
}

/* The first save of a file replaces the defaults, further ones add, an empty one clears. */
static void test_save(void **state)
{
    (void)state;
    assert_string_equal(value_of("save"), "3600 1 300 100 60 10000");
    assert_true(load("save 900 1\nsave 300 10 60 5\n"));
    assert_string_equal(value_of("save"), "900 1 300 10 60 5");
    assert_true(load("save \"\"\n"));
    assert_string_equal(value_of("save"), "");
    struct error err;
    assert_true(set("save", "1 2 3 4", &err));
    assert_string_equal(value_of("save"), "1 2 3 4");
    assert_true(set("save", "5 6", &err));
    assert_string_equal(value_of("save"), "5 6");
    assert_false(set("save", "5  6", &err));
    assert_string_equal(value_of("save"), "5 6");
}

/* Files are included by name and by pattern; what comes later wins; loops end. */
static void test_include(void **state)
{
    (void)state;
    char dir[] = "/tmp/hf-config-XXXXXX", path[128], text[256];
    assert_non_null(mkdtemp(dir));
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "%s/%d.conf", dir, i);
        FILE *f = fopen(path, "w");
        fprintf(f, "port %d\ntimeout %d\n", 100 + i, i);
        fclose(f);
    }
    snprintf(text, sizeof(text), "timeout 50\ninclude %s/*.conf\nport 200\n", dir);
    assert_true(load(text));
    assert_int_equal(config.port, 200);
    assert_int_equal(config.timeout, 1);
    snprintf(text, sizeof(text), "include %s/none*.conf\n", dir);
    assert_true(load(text));

    FILE *f = fopen(path, "w");
    fprintf(f, "\ninclude %s\n", path);
    fclose(f);
    snprintf(text, sizeof(text), "include %s\n", path);
    assert_false(load(text));
    assert_string_equal(failure.source, path);
    assert_int_equal(failure.line, 2);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "%s/%d.conf", dir, i);
        unlink(path);
    }
    rmdir(dir);
}

static bool load_args(int argc, const char *const *argv)
{
    char *copy[16];
    for (int i = 0; i < argc; i++)
        copy[i] = strdup(argv[i]);
    bool ok = config_load_args(&config, argc, copy, &failure);
    for (int i = 0; i < argc; i++)
        free(copy[i]);
    return ok;
}

#define LOAD_ARGS(...)                                                            \
    load_args((int)(sizeof((const char *[]){"x", __VA_ARGS__}) / sizeof(char *)), \
              (const char *[]){"x", __VA_ARGS__})

/* The command line: values of several words, options and values in one argument, negative numbers,
 * values that look like options, --save without one. */
static void test_args(void **state)
{
    (void)state;
    assert_true(LOAD_ARGS("--port", "7000", "--save", "900", "1", "--list-max-listpack-size", "-3",
                          "--timeout 5", "--requirepass", "--x y\"z"));
    assert_int_equal(config.port, 7000);
    /* Who has no file keeps a log, unless told otherwise. */
    assert_true(config.appendonly);
    assert_string_equal(value_of("save"), "900 1");
    assert_int_equal(config.list_max_listpack_size, -3);
    assert_int_equal(config.timeout, 5);
    assert_string_equal(config.requirepass, "--x y\"z");
    assert_true(LOAD_ARGS("--save", "--port", "7001"));
    assert_string_equal(value_of("save"), "");
    assert_int_equal(config.port, 7001);
    assert_true(LOAD_ARGS("--save"));
    assert_true(LOAD_ARGS("--appendonly", "no"));
    assert_false(config.appendonly);
    assert_false(LOAD_ARGS("--port"));
    assert_string_equal(failure.source, "command line");
    assert_string_equal(failure.reason, "wrong number of arguments");
    assert_false(LOAD_ARGS("/no/such/file.conf"));
    assert_non_null(strstr(failure.reason, "/no/such/file.conf"));
    assert_null(strstr(failure.reason, "directive"));
}

/* CONFIG GET: patterns, several of them, aliases, and hidden ones by their full name only. */
static void test_get(void **state)
{
    (void)state;
    struct got got = {0};
    struct slice patterns[] = {SLICE("*-PRIORITY"), SLICE("replica-prio*"), SLICE("nothing")};
    config_get(&config, patterns, 3, note, &got);
    assert_int_equal(got.count, 2);
    got.count = 0;
    patterns[0] = SLICE("watchdog*");
    config_get(&config, patterns, 1, note, &got);
    assert_int_equal(got.count, 0);
    assert_string_equal(value_of("watchdog-period"), "0");
    assert_string_equal(value_of("TimeOut"), "0"); /* the name as it was asked for */
    assert_string_equal(value_of("client-output-buffer-limit"),
                        "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60");
    assert_string_equal(value_of("latency-tracking-info-percentiles"), "50 99 99.9");
    assert_string_equal(value_of("shutdown-on-sigterm"), "default");
}

/* CONFIG SET in Redis's words. */
static void test_set_errors(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value, *message;
    } cases[] = {
        {"foo", "1", "Unknown option or number of arguments for CONFIG SET - 'foo'"},
        {"include", "1", "Unknown option or number of arguments for CONFIG SET - 'include'"},
        {"databases", "1",
         "CONFIG SET failed (possibly related to argument 'databases') - can't "
         "set immutable config"},
        {"dir", "/",
         "CONFIG SET failed (possibly related to argument 'dir') - can't set protected "
         "config"},
        {"hz", "x",
         "CONFIG SET failed (possibly related to argument 'hz') - argument couldn't be "
         "parsed into an integer"},
        {"shutdown-on-sigint", "save nosave",
         "CONFIG SET failed (possibly related to argument 'shutdown-on-sigint') - shutdown options "
         "SAVE and NOSAVE can't be used simultaneously"},
        {"loglevel", "x",
         "CONFIG SET failed (possibly related to argument 'loglevel') - "
         "argument(s) must be one of the following: debug, verbose, notice, "
         "warning"},
        {"notify-keyspace-events", "Q",
         "CONFIG SET failed (possibly related to argument 'notify-keyspace-events') - Invalid "
         "event "
         "class character. Use 'Ag$lshzxeKEtmdn'."},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error err;
        assert_false(set(cases[i].name, cases[i].value, &err));
        assert_string_equal(err.message, cases[i].message);
    }
    struct error err;
    assert_true(set("notify-keyspace-events", "KEA", &err));
    assert_string_equal(value_of("notify-keyspace-events"), "AKE");
    assert_true(set("shutdown-on-sigterm", "nosave force", &err));
    assert_string_equal(value_of("shutdown-on-sigterm"), "nosave force");
    assert_true(set("shutdown-on-sigterm", "default now", &err));
    assert_string_equal(value_of("shutdown-on-sigterm"), "now");
    assert_true(set("hz", "0", &err));
    assert_string_equal(value_of("hz"), "1");
}

struct applied {
    const char *refuse;
    char log[256];
};

static bool apply(void *ctx, const struct config *c, const char *name, struct error *err)
{
    struct applied *a = ctx;
    if (a->refuse && strcmp(name, a->refuse) == 0 && c->port != 6379)
        return error_set(err, ERROR_SYSTEM, "cannot");
    strcat(a->log, name);
    strcat(a->log, ",");
    return true;
}

/* Several directives are set together or not at all: whether a value is refused, or applying it. */
static void test_set_atomic(void **state)
{
    (void)state;
    struct applied applied = {0};
    config.apply = apply;
    config.apply_ctx = &applied;
    struct error err = {0};
    struct slice bad[] = {SLICE("timeout"), SLICE("5"),  SLICE("save"),
                          SLICE("1 1"),     SLICE("hz"), SLICE("x")};
    assert_false(config_set(&config, bad, 6, false, &err));
    assert_int_equal(config.timeout, 0);
    assert_string_equal(value_of("save"), "3600 1 300 100 60 10000");
    assert_string_equal(applied.log, "");

    struct slice good[] = {SLICE("timeout"), SLICE("5"), SLICE("SAVE"),          SLICE("1 1"),
                           SLICE("port"),    SLICE("1"), SLICE("tcp-keepalive"), SLICE("300")};
    applied.refuse = "port";
    assert_false(config_set(&config, good, 8, false, &err));
    assert_string_equal(err.message,
                        "CONFIG SET failed (possibly related to argument 'port') - cannot");
    assert_int_equal(config.timeout, 0);
    assert_int_equal(config.port, 6379);
    assert_string_equal(value_of("save"), "3600 1 300 100 60 10000");
    assert_string_equal(applied.log, "timeout,save,port,save,timeout,");

    applied = (struct applied){0};
    assert_true(config_set(&config, good, 8, false, &err));
    assert_int_equal(config.timeout, 5);
    assert_string_equal(applied.log, "timeout,save,port,"); /* keepalive has not changed */

    struct slice twice[] = {SLICE("slave-priority"), SLICE("5"), SLICE("replica-priority"),
                            SLICE("6")};
    assert_false(config_set(&config, twice, 4, false, &err));
    assert_non_null(strstr(err.message, "duplicate parameter"));
}

/* Rewriting keeps comments, order, foreign lines and those that say what is so, changes values in
 * place, drops repeated lines, adds what is new at the end; sizes have units, rules lines of their
 * own; and what it writes loads to the same settings. */
static void test_rewrite(void **state)
{
    (void)state;
    static const char old[] = "# my server\n"
                              "port 7000\n"
                              "\n"
                              "   # indented\n"
                              "save 900 1\n"
                              "slave-priority 5\n"
                              "appendfilename   \"a.aof\"\n"
                              "client-output-buffer-limit replica 256mb 64mb 60\n"
                              "client-output-buffer-limit slave 1000 64mb 60\n"
                              "save 300 10\n"
                              "include /tmp/none*.conf\n"
                              "user joe on\n"
                              "timeout 3";
    assert_true(load(old));
    struct error err;
    assert_true(set("timeout", "9", &err));
    assert_true(set("requirepass", "two words\n", &err));
    assert_true(set("maxmemory", "1mb", &err));
    struct text out = {0}, again = {0};
    config_rewrite_text(&config, slice_cstr(old), &out);
    char dir[256], want[1024];
    assert_non_null(getcwd(dir, sizeof(dir)));
    snprintf(want, sizeof(want),
             "# my server\n"
             "port 7000\n"
             "\n"
             "   # indented\n"
             "save 900 1\n"
             "save 300 10\n"
             "replica-priority 5\n"
             "appendfilename   \"a.aof\"\n"
             "client-output-buffer-limit normal 0 0 0\n"
             "client-output-buffer-limit replica 1000 64mb 60\n"
             "client-output-buffer-limit pubsub 32mb 8mb 60\n"
             "include /tmp/none*.conf\n"
             "user joe on\n"
             "timeout 9\n"
             "\n"
             "# Generated by CONFIG REWRITE\n"
             "maxmemory 1mb\n"
             "requirepass \"two words\\n\"\n"
             "dir %s\n",
             dir);
    assert_string_equal(text_cstr(&out), want);

    config_deinit(&config);
    config_init(&config);
    assert_true(load(text_cstr(&out)));
    assert_string_equal(config.requirepass, "two words\n");
    config_rewrite_text(&config, text_slice(&out), &again);
    assert_string_equal(text_cstr(&again), want);
    text_free(&out);
    text_free(&again);
}

/* The file itself: replaced as a whole, and an error when there is none. */
static void test_rewrite_file(void **state)
{
    (void)state;
    struct error err = {0};
    assert_false(config_rewrite(&config, &err));
    assert_string_equal(err.message, "The server is running without a config file");
    char path[] = "/tmp/hf-config-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_true(LOAD_ARGS(path, "--port", "7777"));
    assert_string_equal(config.file, path);
    assert_true(config_rewrite(&config, &err));
    config_deinit(&config);
    config_init(&config);
    assert_true(LOAD_ARGS(path));
    assert_int_equal(config.port, 7777);
    unlink(path);
}

/* What has no effect yet is accepted and noted; what is not set to anything special in one line. */
static void test_inert(void **state)
{
    (void)state;
    assert_true(load(
        "port 1\ncluster-link-sendbuf-limit 2mb\ncluster-node-timeout 15000\nloadmodule x.so\n"));
    assert_string_equal(
        text_cstr(&config.warnings),
        "test.conf, line 2: 'cluster-link-sendbuf-limit' is known but has no effect yet\n"
        "test.conf, line 4: 'loadmodule' is known but has no effect yet\n");
    assert_string_equal(text_cstr(&config.inert_defaults), "cluster-node-timeout");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_load),    TEST(test_errors),       TEST(test_save),       TEST(test_include),
        TEST(test_args),    TEST(test_get),          TEST(test_set_errors), TEST(test_set_atomic),
        TEST(test_rewrite), TEST(test_rewrite_file), TEST(test_inert),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
