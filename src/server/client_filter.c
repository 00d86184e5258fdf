/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/client_filter.h"

#include <string.h>

#include "base/mem.h"
#include "base/number.h"
#include "server/acl.h"

enum test_kind {
    TEST_ID,
    TEST_TYPE,
    TEST_ADDR,
    TEST_LADDR,
    TEST_USER,
    TEST_NAME,
    TEST_LIB_NAME,
    TEST_LIB_VERSION,
    TEST_FLAGS,
    TEST_CAPABILITIES,
    TEST_DB,
    TEST_IP,
    TEST_AGE,
    TEST_IDLE
};

static const struct {
    const char *word;
    enum test_kind kind;
    bool may_be_negated;
} tests[] = {{"id", TEST_ID, true},
             {"type", TEST_TYPE, true},
             {"addr", TEST_ADDR, true},
             {"laddr", TEST_LADDR, true},
             {"user", TEST_USER, true},
             {"name", TEST_NAME, true},
             {"lib-name", TEST_LIB_NAME, true},
             {"lib-ver", TEST_LIB_VERSION, true},
             {"flags", TEST_FLAGS, true},
             {"capa", TEST_CAPABILITIES, true},
             {"db", TEST_DB, true},
             {"ip", TEST_IP, true},
             {"maxage", TEST_AGE, false},
             {"idle", TEST_IDLE, false}};

struct client_test {
    enum test_kind kind;
    bool negated;
    bool master;             /* TEST_TYPE: of the primary's connection, which is of no class */
    enum client_class class; /* TEST_TYPE */
    const struct acl_user *user;
    struct slice text;
    int64_t number;
    const struct slice *ids; /* in argv: all of them are numbers */
    int id_count;
};

static bool find_word(struct slice word, struct client_test *t)
{
    t->negated = word.size > 4 && slice_is(slice_of(word.data, 4), "not-");
    if (t->negated)
        word = slice_of(word.data + 4, word.size - 4);
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        if (slice_is(word, tests[i].word) && (!t->negated || tests[i].may_be_negated)) {
            t->kind = tests[i].kind;
            return true;
        }
    }
    return false;
}

static bool is_filter(struct slice word)
{
    struct client_test t;
    return slice_is(word, "skipme") || find_word(word, &t);
}

/* All ids up to the next filter; with CLIENT KILL up to what is no number. */
static bool parse_ids(struct call *c, int *i, struct client_test *t, bool kill)
{
    int64_t id;
    t->ids = c->argv + *i;
    t->id_count = 0;
    do {
        if (!call_int64_range(c, c->argv[*i], 1, INT64_MAX, &id,
                              kill ? "ERR client-id should be greater than 0"
                                   : "ERR Invalid client ID"))
            return false;
        t->id_count++;
    } while (++*i < c->argc &&
             (kill ? number_parse_int64(c->argv[*i], &id) : !is_filter(c->argv[*i])));
    --*i;
    return true;
}

static bool parse_type(struct call *c, struct client_test *t)
{
    t->class = CLIENT_CLASS_NORMAL;
    if (slice_is(t->text, "slave") || slice_is(t->text, "replica")) {
        t->class = CLIENT_CLASS_REPLICA;
    } else if (slice_is(t->text, "pubsub")) {
        t->class = CLIENT_CLASS_PUBSUB;
    } else if (slice_is(t->text, "master") || slice_is(t->text, "primary")) {
        t->master = true;
    } else if (!slice_is(t->text, "normal")) {
        reply_errorf(c->reply, "ERR Unknown client type '%.*s'", (int)t->text.size, t->text.data);
        return false;
    }
    return true;
}

static bool parse_age(struct call *c, struct client_test *t)
{
    bool age = t->kind == TEST_AGE;
    if (!call_int64(c, t->text, &t->number,
                    age ? "ERR maxage is not an integer or out of range"
                        : "ERR idle is not an integer or out of range"))
        return false;
    if (t->number > 0)
        return true;
    reply_error(c->reply, age ? "ERR maxage should be greater than 0"
                              : "ERR idle should be greater than 0");
    return false;
}

/* The value of a test, from argv[*i] on; *i is left on the last argument taken. */
static bool parse_value(struct call *c, int *i, struct client_test *t, bool kill)
{
    t->text = c->argv[*i];
    switch (t->kind) {
    case TEST_ID:
        return parse_ids(c, i, t, kill);
    case TEST_TYPE:
        return parse_type(c, t);
    case TEST_AGE:
    case TEST_IDLE:
        return parse_age(c, t);
    case TEST_DB:
        return call_int64_range(c, t->text, 0, c->ks->db_count - 1, &t->number,
                                "ERR DB index is out of range");
    case TEST_USER:
        t->user = acl_find(c->server->acl, t->text);
        if (t->user == NULL)
            reply_errorf(c->reply, "ERR No such user '%.*s'", (int)t->text.size, t->text.data);
        return t->user != NULL;
    default:
        return true;
    }
}

static bool parse_skip_me(struct call *c, struct slice word, struct client_filter *f)
{
    f->skip_me = slice_is(word, "yes");
    if (f->skip_me || slice_is(word, "no"))
        return true;
    reply_syntax_error(c->reply);
    return false;
}

/* One that is given again takes the place of the one before. */
static void add(struct client_filter *f, const struct client_test *t)
{
    int at = 0;
    while (at < f->count && (f->tests[at].kind != t->kind || f->tests[at].negated != t->negated))
        at++;
    f->tests[at] = *t;
    if (at == f->count)
        f->count++;
}

bool client_filter_parse(struct call *c, struct client_filter *f, bool kill)
{
    f->skip_me = kill;
    f->tests = mem_alloc((size_t)c->argc * sizeof(*f->tests));
    f->count = 0;
    for (int i = 2; i < c->argc; i++) {
        struct client_test t = {0};
        bool skip_me = slice_is(c->argv[i], "skipme"), ok;
        if ((!skip_me && !find_word(c->argv[i], &t)) || i + 1 == c->argc) {
            reply_syntax_error(c->reply);
            ok = false;
        } else if (skip_me) {
            ok = parse_skip_me(c, c->argv[++i], f);
        } else {
            i++;
            ok = parse_value(c, &i, &t, kill);
            if (ok)
                add(f, &t);
        }
        if (!ok) {
            client_filter_deinit(f);
            return false;
        }
    }
    return true;
}

void client_filter_deinit(struct client_filter *f)
{
    mem_free(f->tests);
    f->tests = NULL;
}

bool client_filter_is_ids(const struct client_filter *f, int *count)
{
    if (f->count != 1 || f->tests[0].kind != TEST_ID || f->tests[0].negated || f->skip_me)
        return false;
    *count = f->tests[0].id_count;
    return true;
}

/* ---- testing ---- */

static bool text_is(struct slice wanted, const char *text)
{
    return slice_equal(wanted, text != NULL ? slice_cstr(text) : slice_of("", 0));
}

/* Every letter that is wanted is there. */
static bool has_letters(struct slice wanted, const char *letters)
{
    for (size_t i = 0; i < wanted.size; i++) {
        if (wanted.data[i] == '\0' || strchr(letters, wanted.data[i]) == NULL)
            return false;
    }
    return true;
}

static bool has_ip(struct slice wanted, const char *peer)
{
    const char *colon = strrchr(peer, ':');
    return colon != NULL && slice_equal(wanted, slice_of(peer, (size_t)(colon - peer)));
}

static bool has_id(const struct client_test *t, uint64_t id)
{
    for (int i = 0; i < t->id_count; i++) {
        int64_t wanted;
        if (number_parse_int64(t->ids[i], &wanted) && (uint64_t)wanted == id)
            return true;
    }
    return false;
}

static bool holds(const struct client_test *t, struct client *client)
{
    int64_t now = client->server->now_us;
    bool is_master = client->flags & CLIENT_MASTER;
    char flags[CLIENT_FLAGS_SIZE];
    switch (t->kind) {
    case TEST_ID:
        return has_id(t, client->id);
    case TEST_TYPE:
        return t->master == is_master && (is_master || client_class(client) == t->class);
    case TEST_ADDR:
        return text_is(t->text, client_peer(client));
    case TEST_LADDR:
        return text_is(t->text, client_local(client));
    case TEST_USER:
        return client->user == t->user;
    case TEST_NAME:
        return text_is(t->text, client->name);
    case TEST_LIB_NAME:
        return text_is(t->text, client->lib_name);
    case TEST_LIB_VERSION:
        return text_is(t->text, client->lib_version);
    case TEST_FLAGS:
        client_describe_flags(client, flags);
        return has_letters(t->text, flags);
    case TEST_CAPABILITIES:
        return has_letters(t->text, client->flags & CLIENT_REDIRECTS ? "r" : "");
    case TEST_DB:
        return client->db->id == t->number;
    case TEST_IP:
        return has_ip(t->text, client_peer(client));
    case TEST_AGE:
        return (now - client->created_us) / 1000000 >= t->number;
    case TEST_IDLE:
        return (now - client->active_us) / 1000000 >= t->number;
    }
    return false;
}

bool client_filter_passes(const struct client_filter *f, struct client *client,
                          const struct client *self)
{
    for (int i = 0; i < f->count; i++) {
        if (holds(&f->tests[i], client) == f->tests[i].negated)
            return false;
    }
    return !(f->skip_me && client == self);
}
