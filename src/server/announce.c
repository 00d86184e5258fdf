/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/announce.h"

#include "base/text.h"
#include "server/pubsub.h"
#include "server/replication.h"

/* Bytes that are no ASCII stand as they are where they are UTF-8: names of files and messages of
 * the system. Others become U+FFFD. */
static size_t utf8_size(const char *s)
{
    const unsigned char *p = (const unsigned char *)s;
    size_t n = p[0] >= 0xf0 && p[0] < 0xf5   ? 4
               : p[0] >= 0xe0 && p[0] < 0xf0 ? 3
               : p[0] >= 0xc2 && p[0] < 0xe0 ? 2
                                             : 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    /* Overlong ones, surrogates, and what is beyond the last character. */
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] >= 0xa0) ||
        (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] >= 0x90))
        return 0;
    return n;
}

static void append_string(struct text *t, const char *name, const char *value)
{
    text_appendf(t, ",\"%s\":", name);
    if (value == NULL) {
        text_append_cstr(t, "null");
        return;
    }
    text_append_cstr(t, "\"");
    while (*value != '\0') {
        unsigned char c = (unsigned char)*value;
        size_t n = 1;
        if (c == '"' || c == '\\')
            text_appendf(t, "\\%c", c);
        else if (c < 0x20)
            text_appendf(t, "\\u%04x", c);
        else if (c < 0x80)
            text_append(t, value, 1);
        else if ((n = utf8_size(value)) > 0)
            text_append(t, value, n);
        else
            text_append_cstr(t, "\\ufffd");
        value += n > 0 ? n : 1;
    }
    text_append_cstr(t, "\"");
}

void announce_snapshot(struct server *s, const struct snapshot_event *e)
{
    struct text t = {0};
    text_appendf(&t, "{\"event\":\"%s\",\"version\":%llu,\"kind\":\"%s\"",
                 e->ok ? "finished" : "failed", (unsigned long long)e->version,
                 e->incremental ? "incremental" : "full");
    append_string(&t, "file", e->file);
    append_string(&t, "reason", e->reason);
    text_appendf(&t,
                 ",\"keys\":%llu,\"deleted\":%llu,\"bytes\":%llu,\"seconds\":%.3f,\"verified\":%s",
                 (unsigned long long)e->keys, (unsigned long long)e->deleted,
                 (unsigned long long)e->bytes, (double)e->us / 1e6, e->verified ? "true" : "false");
    append_string(&t, "error", e->error);
    text_append_cstr(&t, "}");
    pubsub_announce(s, SLICE(ANNOUNCE_SNAPSHOT), text_slice(&t));
    text_free(&t);
}

void announce_log(struct server *s, const char *event, const char *error)
{
    struct text t = {0};
    text_appendf(&t, "{\"event\":\"%s\"", event);
    append_string(&t, "error", error);
    text_append_cstr(&t, "}");
    pubsub_announce(s, SLICE(ANNOUNCE_LOG), text_slice(&t));
    text_free(&t);
}

void announce_replication(struct server *s, const char *event, const char *detail)
{
    struct text t = {0};
    if (s->stopping)
        return;
    text_appendf(&t, "{\"event\":\"%s\",\"lsn\":%llu", event,
                 (unsigned long long)replication_lsn(s));
    append_string(&t, "detail", detail);
    text_append_cstr(&t, "}");
    pubsub_announce(s, SLICE(ANNOUNCE_REPLICATION), text_slice(&t));
    text_free(&t);
}
