/* SPDX-License-Identifier: BSD-3-Clause */

/* SHA1() looks its algorithm up each time, which takes longer than to hash a key; the older calls
 * do not, but are marked as deprecated. */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "type/digest.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <openssl/sha.h>
#include <stdio.h>

#include "base/mem.h"
#include "type/list.h"
#include "type/member.h"
#include "type/stream.h"
#include "type/string.h"
#include "type/zset.h"

static void sha1(const void *data, size_t size, unsigned char out[DIGEST_SIZE])
{
    SHA_CTX ctx;
    SHA1_Init(&ctx);
    SHA1_Update(&ctx, data, size);
    SHA1_Final(out, &ctx);
}

static void digest_xor(struct digest *d, const void *data, size_t size)
{
    unsigned char hash[DIGEST_SIZE];
    sha1(data, size, hash);
    for (int i = 0; i < DIGEST_SIZE; i++)
        d->bytes[i] ^= hash[i];
}

static void digest_mix(struct digest *d, const void *data, size_t size)
{
    struct digest sum = *d;
    digest_xor(&sum, data, size);
    sha1(sum.bytes, DIGEST_SIZE, d->bytes);
}

static void mix_number(struct digest *d, uint32_t number)
{
    uint32_t big_endian = htonl(number);
    digest_mix(d, &big_endian, sizeof(big_endian));
}

static void digest_string(struct digest *d, const struct entry *e)
{
    char buf[NUMBER_INT64_SIZE], *heap = NULL;
    struct slice s = string_flat(e, buf, &heap);
    digest_mix(d, s.data, s.size);
    mem_free(heap);
}

static void digest_list(struct digest *d, const struct entry *e)
{
    struct list_iter it;
    struct slice item;
    list_iter_init(&it, e, 0, false);
    while (list_iter_next(&it, &item))
        digest_mix(d, item.data, item.size);
}

static void digest_zset(struct digest *d, const struct entry *e)
{
    struct zset_iter it;
    struct zset_item item;
    zset_iter_init(&it, e, 0, false);
    while (zset_iter_next(&it, &item)) {
        struct digest one = {{0}};
        char score[64];
        int n = snprintf(score, sizeof(score), "%.17g", item.score);
        digest_mix(&one, item.member.data, item.member.size);
        digest_mix(&one, score, (size_t)n);
        digest_xor(d, one.bytes, DIGEST_SIZE);
    }
}

/* A set or a hash. */
static void digest_members(struct digest *d, const struct entry *e)
{
    struct member_iter it;
    struct dict_item item;
    member_iter_init(&it, e);
    while (member_iter_next(&it, &item)) {
        if (entry_type(e) == ENTRY_SET) {
            digest_xor(d, item.key.data, item.key.size);
            continue;
        }
        struct digest one = {{0}};
        digest_mix(&one, item.key.data, item.key.size);
        digest_mix(&one, item.value.data, item.value.size);
        if (item.due != ENTRY_NO_EXPIRY)
            digest_mix(&one, &item.due, sizeof(item.due));
        digest_xor(d, one.bytes, DIGEST_SIZE);
    }
}

static void digest_stream(struct digest *d, const struct entry *e)
{
    struct stream_iter it;
    struct stream_item item;
    struct stream_pair pair;
    stream_iter_init(&it, stream_root_of(e), STREAM_ID_MIN, STREAM_ID_MAX, false);
    while (stream_iter_next(&it, &item)) {
        char id[64];
        int n = snprintf(id, sizeof(id), "%" PRIu64 ".%" PRIu64, item.id.ms, item.id.seq);
        digest_mix(d, id, (size_t)n);
        for (uint64_t i = 0; i < item.fields; i++) {
            stream_item_pair(&item, &pair);
            digest_mix(d, pair.field.data, pair.field.size);
            digest_mix(d, pair.value.data, pair.value.size);
        }
    }
}

void digest_value(struct digest *d, const struct entry *e)
{
    /* To Redis, 5 are modules' values. */
    mix_number(d, entry_type(e) == ENTRY_STREAM ? 6 : (uint32_t)entry_type(e));
    switch (entry_type(e)) {
    case ENTRY_STRING:
        digest_string(d, e);
        break;
    case ENTRY_LIST:
        digest_list(d, e);
        break;
    case ENTRY_ZSET:
        digest_zset(d, e);
        break;
    case ENTRY_SET:
    case ENTRY_HASH:
        digest_members(d, e);
        break;
    case ENTRY_STREAM:
        digest_stream(d, e);
        break;
    default:
        break;
    }
    static const char expires[] = "!!expire!!";
    if (e->flags & ENTRY_EXPIRES)
        digest_xor(d, expires, sizeof(expires) - 1);
}

static bool add_key(void *ctx, void *item)
{
    struct digest *all = ctx, one = {{0}};
    const struct entry *e = item;
    struct slice key = entry_key(e);
    digest_mix(&one, key.data, key.size);
    digest_value(&one, e);
    digest_xor(all, one.bytes, DIGEST_SIZE);
    return true;
}

void digest_keyspace(struct digest *d, const struct keyspace *ks)
{
    for (int i = 0; i < ks->db_count; i++) {
        if (ks->dbs[i].table.count == 0)
            continue;
        bool done;
        mix_number(d, (uint32_t)i);
        table_walk(&ks->dbs[i].table, 0, UINT64_MAX, 0, add_key, d, &done);
    }
}

void digest_to_hex(const struct digest *d, char hex[2 * DIGEST_SIZE + 1])
{
    for (int i = 0; i < DIGEST_SIZE; i++)
        snprintf(hex + 2 * i, 3, "%02x", d->bytes[i]);
}
