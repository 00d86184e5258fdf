/* SPDX-License-Identifier: BSD-3-Clause */
#include "command/string_common.h"

#include "base/mem.h"
#include "base/xxh3.h"

void reply_string(struct reply *r, const struct entry *e)
{
    if (e == NULL) {
        reply_null(r);
        return;
    }
    switch (entry_encoding(e)) {
    case ENTRY_BYTES:
        reply_bulk(r, entry_bytes(e));
        return;
    case ENTRY_INT:
        reply_bulk_int(r, entry_int(e));
        return;
    default:
        break;
    }
    char buf[NUMBER_INT64_SIZE];
    uint64_t size = string_size(e);
    reply_bulk_begin(r, size);
    for (uint64_t at = 0; at < size;) {
        struct slice run = string_run(e, at, size - at, buf);
        reply_append(r, run);
        at += run.size;
    }
    reply_bulk_end(r);
}

void string_changed(struct call *c, struct slice key, bool is_new, const char *event)
{
    if (is_new)
        call_changed(c, c->db, key, EVENT_NEW_KEY, "new", 0);
    call_changed(c, c->db, key, EVENT_STRING, event, 1);
}

void string_set_and_tell(struct call *c, struct keyref *ref, struct slice value, int64_t due)
{
    bool is_new = ref->entry == NULL;
    string_set(ref, value, due);
    string_changed(c, ref->key, is_new, "set");
}

bool condition_take(struct condition *condition, const struct slice *argv, int argc, int *i)
{
    static const struct {
        const char *word;
        enum condition_kind kind;
    } words[] = {{"ifeq", CONDITION_IFEQ},
                 {"ifne", CONDITION_IFNE},
                 {"ifdeq", CONDITION_IFDEQ},
                 {"ifdne", CONDITION_IFDNE}};
    for (size_t w = 0; w < sizeof(words) / sizeof(words[0]); w++) {
        if (!slice_is(argv[*i], words[w].word))
            continue;
        if (*i + 1 >= argc)
            return false;
        *condition = (struct condition){words[w].kind, argv[++*i]};
        return true;
    }
    return false;
}

void string_digest(const struct entry *e, char out[STRING_DIGEST_SIZE])
{
    static const char hex[] = "0123456789abcdef";
    char buf[NUMBER_INT64_SIZE], *heap;
    struct slice s = string_flat(e, buf, &heap);
    uint64_t digest = xxh3_64(s.data, s.size);
    mem_free(heap);
    for (int i = 0; i < STRING_DIGEST_SIZE; i++)
        out[i] = hex[digest >> (60 - 4 * i) & 15];
}

static bool digest_equal(const struct entry *e, struct slice operand)
{
    char digest[STRING_DIGEST_SIZE], given[STRING_DIGEST_SIZE];
    string_digest(e, digest);
    for (int i = 0; i < STRING_DIGEST_SIZE; i++) {
        char ch = operand.data[i];
        given[i] = ch >= 'A' && ch <= 'F' ? (char)(ch + ('a' - 'A')) : ch;
    }
    return memcmp(digest, given, sizeof(digest)) == 0;
}

static bool is_digest(struct slice s)
{
    for (size_t i = 0; i < s.size; i++) {
        char ch = s.data[i];
        if (!((ch >= '0' && ch <= '9') || (ch >= 'a' && ch <= 'f') || (ch >= 'A' && ch <= 'F')))
            return false;
    }
    return s.size == STRING_DIGEST_SIZE;
}

bool condition_check(struct call *c, const struct condition *condition, const struct entry *e,
                     bool *holds)
{
    enum condition_kind kind = condition->kind;
    if (kind <= CONDITION_XX) {
        *holds = kind == CONDITION_NONE || (kind == CONDITION_XX) == (e != NULL);
        return true;
    }
    bool by_digest = kind == CONDITION_IFDEQ || kind == CONDITION_IFDNE;
    if (by_digest && !is_digest(condition->operand)) {
        reply_error(c->reply, "ERR digest must be exactly 16 hexadecimal characters");
        return false;
    }
    bool differs_wanted = kind == CONDITION_IFNE || kind == CONDITION_IFDNE;
    if (e == NULL) {
        *holds = differs_wanted;
        return true;
    }
    if (entry_type(e) != ENTRY_STRING) {
        reply_wrong_type(c->reply);
        return false;
    }
    bool equal =
        by_digest ? digest_equal(e, condition->operand) : string_equal(e, condition->operand);
    *holds = equal != differs_wanted;
    return true;
}
