/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/chain/chain.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/crc.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/number.h"
#include "os/file.h"

#define FIRST_LINE "holdfast-chain 1\n"
#define MANIFEST_MAX (16 << 20)
#define FIELDS 9 /* of a link's line before the name */

void chain_free(struct chain *c)
{
    mem_free(c->links);
    *c = (struct chain){0};
}

void chain_add(struct chain *c, const struct chain_link *link)
{
    c->links = mem_realloc(c->links, (c->count + 1) * sizeof(*c->links));
    c->links[c->count++] = *link;
}

void chain_copy(struct chain *to, const struct chain *from)
{
    *to = (struct chain){0};
    for (size_t i = 0; i < from->count; i++)
        chain_add(to, &from->links[i]);
}

/* --- the manifest's text ---------------------------------------------------------------------- */

static bool is_hex(struct slice s, size_t size)
{
    for (size_t i = 0; i < s.size; i++) {
        if (!((s.data[i] >= '0' && s.data[i] <= '9') || (s.data[i] >= 'a' && s.data[i] <= 'f')))
            return false;
    }
    return s.size == size;
}

static void copy_text(char *to, struct slice s)
{
    memcpy(to, s.data, s.size);
    to[s.size] = '\0';
}

/* Cut a line into its fields and the name, which is the rest. */
static bool cut_line(struct slice line, struct slice fields[FIELDS], struct slice *name)
{
    for (int i = 0; i < FIELDS; i++) {
        const char *blank = memchr(line.data, ' ', line.size);
        if (!blank)
            return false;
        size_t size = (size_t)(blank - line.data);
        fields[i] = slice_of(line.data, size);
        line = slice_of(blank + 1, line.size - size - 1);
    }
    *name = line;
    return true;
}

/* The name stays in the manifest's directory. */
static bool name_is_plain(struct slice name)
{
    return name.size > 0 && name.size < sizeof(((struct chain_link *)0)->name) &&
           !memchr(name.data, '/', name.size) && !memchr(name.data, '\0', name.size);
}

static bool parse_link(struct slice line, const struct chain *c, struct chain_link *link)
{
    struct slice f[FIELDS], name;
    memset(link, 0, sizeof(*link));
    if (!cut_line(line, f, &name) || !name_is_plain(name) || !is_hex(f[1], LINK_ID_SIZE - 1) ||
        !is_hex(f[8], 64))
        return false;
    if (slice_equal(f[0], SLICE("full")) == (c->count > 0))
        return false;
    if (c->count > 0) {
        /* Each delta continues the link before it. */
        link->kind = LINK_DELTA;
        if (!slice_equal(f[0], SLICE("delta")) ||
            !slice_equal(f[2], slice_cstr(c->links[c->count - 1].id)))
            return false;
        copy_text(link->parent, f[2]);
    } else if (!slice_equal(f[2], SLICE("-"))) {
        return false;
    }
    copy_text(link->name, name);
    copy_text(link->id, f[1]);
    copy_text(link->sha256, f[8]);
    return number_parse_uint64(f[3], &link->lsn) && number_parse_int64(f[4], &link->time_ms) &&
           number_parse_uint64(f[5], &link->keys) && number_parse_uint64(f[6], &link->deleted) &&
           number_parse_uint64(f[7], &link->size);
}

bool chain_parse(struct chain *c, struct slice text, struct error *err)
{
    *c = (struct chain){0};
    size_t end_line = sizeof("end 01234567\n") - 1, first = sizeof(FIRST_LINE) - 1;
    if (text.size < first + end_line || memcmp(text.data, FIRST_LINE, first) != 0)
        return error_set(err, ERROR_CORRUPT,
                         "this is not the manifest of a chain, or not all of it");
    char expected[16];
    size_t body = text.size - end_line;
    snprintf(expected, sizeof(expected), "end %08x\n", crc32c(0, text.data, body));
    if (memcmp(text.data + body, expected, end_line) != 0)
        return error_set(err, ERROR_CORRUPT,
                         "the checksum at the end is not that of the lines before");
    int line_number = 1;
    for (size_t at = first; at < body;) {
        const char *line = text.data + at;
        const char *newline = memchr(line, '\n', body - at);
        size_t size = newline ? (size_t)(newline - line) : body - at;
        struct chain_link link;
        line_number++;
        if (!newline || !parse_link(slice_of(line, size), c, &link)) {
            chain_free(c);
            return error_set(err, ERROR_CORRUPT, "line %d is no link of the chain", line_number);
        }
        chain_add(c, &link);
        at += size + 1;
    }
    if (c->count == 0)
        return error_set(err, ERROR_CORRUPT, "it names no snapshot");
    return true;
}

void chain_format(const struct chain *c, struct text *out)
{
    text_append_cstr(out, FIRST_LINE);
    for (size_t i = 0; i < c->count; i++) {
        const struct chain_link *l = &c->links[i];
        text_appendf(out, "%s %s %s %llu %lld %llu %llu %llu %s %s\n",
                     l->kind == LINK_FULL ? "full" : "delta", l->id, i == 0 ? "-" : l->parent,
                     (unsigned long long)l->lsn, (long long)l->time_ms,
                     (unsigned long long)l->keys, (unsigned long long)l->deleted,
                     (unsigned long long)l->size, l->sha256, l->name);
    }
    text_appendf(out, "end %08x\n", crc32c(0, out->data, out->size));
}

/* --- files ------------------------------------------------------------------------------------ */

bool chain_manifest_path(const char *rdb_path, char *out, size_t size)
{
    return (size_t)snprintf(out, size, "%s.chain", rdb_path) < size;
}

bool chain_link_path(const char *rdb_path, const struct chain_link *link, char *out, size_t size)
{
    const char *slash = strrchr(rdb_path, '/');
    int dir = slash ? (int)(slash + 1 - rdb_path) : 0;
    return (size_t)snprintf(out, size, "%.*s%s", dir, rdb_path, link->name) < size;
}

bool chain_read(struct chain *c, const char *rdb_path, struct error *err)
{
    char path[256], *data;
    size_t size;
    *c = (struct chain){0};
    if (!chain_manifest_path(rdb_path, path, sizeof(path)))
        return error_set(err, ERROR_NOT_FOUND, "the name is too long for there to be a chain");
    if (!os_file_read_whole(path, MANIFEST_MAX, &data, &size, err))
        return false;
    bool ok = chain_parse(c, slice_of(data, size), err);
    mem_free(data);
    return ok || error_prefix(err, "%s", path);
}

bool chain_write(const struct chain *c, const char *rdb_path, struct error *err)
{
    char path[256];
    if (!chain_manifest_path(rdb_path, path, sizeof(path)))
        return error_set(err, ERROR_INVALID, "the name of the RDB file is too long for a chain");
    struct text text = {0};
    chain_format(c, &text);
    bool ok = os_file_replace(path, text.data, text.size, err);
    text_free(&text);
    return ok;
}

struct cleaning {
    const struct chain *c;
    const char *rdb_path, *base;
};

static void clean_name(void *ctx, const char *name)
{
    struct cleaning *k = ctx;
    size_t base = strlen(k->base), size = strlen(name);
    /* <dbfilename>.<16 hex digits>.delta */
    if (size != base + 1 + 16 + 6 || memcmp(name, k->base, base) != 0 || name[base] != '.' ||
        !is_hex(slice_of(name + base + 1, 16), 16) || strcmp(name + base + 17, ".delta") != 0)
        return;
    struct chain_link link;
    for (size_t i = 0; i < k->c->count; i++) {
        if (strcmp(k->c->links[i].name, name) == 0)
            return;
    }
    char path[256];
    struct error err;
    if (size >= sizeof(link.name))
        return;
    memcpy(link.name, name, size + 1);
    if (chain_link_path(k->rdb_path, &link, path, sizeof(path)) && os_unlink(path, &err))
        log_notice("Removed a delta that no chain needs: %s", path);
}

void chain_clean(const struct chain *c, const char *rdb_path)
{
    char dir[256];
    struct error err;
    const char *slash = strrchr(rdb_path, '/');
    struct cleaning k = {c, rdb_path, slash ? slash + 1 : rdb_path};
    os_path_dir(rdb_path, dir, sizeof(dir));
    os_dir_list(dir, clean_name, &k, &err);
}

/* --- proving and restoring -------------------------------------------------------------------- */

size_t chain_prove(const struct chain *c, size_t first, const char *rdb_path,
                   const struct link_care *care, struct error *err)
{
    for (size_t i = first; i < c->count; i++) {
        char path[256];
        const struct chain_link *link = &c->links[i];
        bool ok = chain_link_path(rdb_path, link, path, sizeof(path))
                      ? link_prove(path, link, care, err)
                      : error_set(err, ERROR_INVALID, "the path is too long");
        if (!ok) {
            error_prefix(err, "link %zu of %zu of the chain, %s", i + 1, c->count, link->name);
            return i;
        }
    }
    return c->count;
}

enum chain_state chain_find(struct chain_found *f, const char *rdb_path, struct error *err)
{
    char id[LINK_ID_SIZE];
    *f = (struct chain_found){0};
    if (!chain_read(&f->chain, rdb_path, err)) {
        if (err->code == ERROR_NOT_FOUND) {
            *err = (struct error){0};
            return CHAIN_NONE;
        }
        /* Whether the RDB file is the whole state cannot be told. */
        f->whole = 1;
        return CHAIN_BROKEN;
    }
    if (!link_read_id(rdb_path, id, err)) {
        error_prefix(err, "link 1 of %zu of the chain, %s", f->chain.count, f->chain.links[0].name);
        return CHAIN_BROKEN;
    }
    if (strcmp(id, f->chain.links[0].id) != 0)
        return CHAIN_PAST;
    /* The RDB file itself is proven by loading it. */
    f->whole = chain_prove(&f->chain, 1, rdb_path, NULL, err);
    return f->whole == f->chain.count ? CHAIN_WHOLE : CHAIN_BROKEN;
}

bool chain_read_head(const struct chain *c, size_t i, const char *rdb_path,
                     struct rdb_load_stats *stats, struct error *err)
{
    char path[512];
    struct chain_link found;
    const struct chain_link *link = &c->links[i];
    bool ok = chain_link_path(rdb_path, link, path, sizeof(path))
                  ? link_read_head(path, link->kind, &found, stats, err)
                  : error_set(err, ERROR_INVALID, "the path is too long");
    if (ok && (strcmp(found.id, link->id) != 0 || found.size != link->size ||
               (i > 0 && strcmp(found.parent, link->parent) != 0)))
        ok = error_set(err, ERROR_CORRUPT, "it is another snapshot than the manifest says");
    return ok || error_prefix(err, "link %zu of %zu of the chain, %s", i + 1, c->count, link->name);
}

/* The last delta's fields are the tip's, also where one before it cannot be read: what the chain
 * was to restore, if only it could, goes up to there. */
static void read_deltas(struct chain_tip *tip, const char *rdb_path, struct error *err)
{
    const struct chain *c = &tip->chain;
    struct rdb_load_stats full = tip->stats;
    for (size_t i = 1; i < c->count; i++) {
        struct error own = {0};
        if (!chain_read_head(c, i, rdb_path, &tip->stats, &own)) {
            tip->stats = (struct rdb_load_stats){0};
            if (err->code == ERROR_NONE)
                *err = own;
        }
        link_pass_place(&tip->stats, &full, c->links[i].lsn);
        tip->stats.created_ms = c->links[i].time_ms;
    }
}

void chain_read_tip(struct chain_tip *tip, const char *rdb_path)
{
    struct chain_link found;
    *tip = (struct chain_tip){0};
    if (!link_read_head(rdb_path, LINK_FULL, &found, &tip->stats, &tip->broken)) {
        tip->stats = (struct rdb_load_stats){0};
        return;
    }
    if (chain_read(&tip->chain, rdb_path, &tip->broken)) {
        if (strcmp(tip->chain.links[0].id, found.id) == 0) {
            read_deltas(tip, rdb_path, &tip->broken);
            return;
        }
        chain_free(&tip->chain);
    } else if (tip->broken.code != ERROR_NOT_FOUND) {
        return;
    }
    tip->broken = (struct error){0};
    if (found.id[0] == '\0')
        return;
    const char *slash = strrchr(rdb_path, '/');
    snprintf(found.name, sizeof(found.name), "%s", slash ? slash + 1 : rdb_path);
    chain_add(&tip->chain, &found);
}

void chain_prove_tip(struct chain_tip *tip, const char *rdb_path)
{
    struct chain_link full;
    struct error ignored = {0};
    chain_read_tip(tip, rdb_path);
    if (tip->chain.count < 2)
        return;
    tip->broken = (struct error){0};
    size_t whole = chain_prove(&tip->chain, 1, rdb_path, NULL, &tip->broken);
    if (whole == tip->chain.count)
        return;
    tip->chain.count = whole;
    tip->stats = (struct rdb_load_stats){0};
    if (link_read_head(rdb_path, LINK_FULL, &full, &tip->stats, &ignored))
        read_deltas(tip, rdb_path, &ignored);
}

bool chain_apply(const struct chain *c, size_t count, const char *rdb_path, struct keyspace *ks,
                 const struct rdb_load_options *options, struct rdb_load_stats *stats,
                 struct error *err)
{
    bool paused = ks->lazy_expire_paused, ok = true;
    ks->lazy_expire_paused = true;
    for (size_t i = 1; i < count && ok; i++) {
        char path[256];
        ok = chain_link_path(rdb_path, &c->links[i], path, sizeof(path)) &&
             link_apply_delta(path, ks, options, stats, err);
        if (!ok)
            error_prefix(err, "link %zu of %zu of the chain, %s", i + 1, c->count,
                         c->links[i].name);
    }
    ks->lazy_expire_paused = paused;
    if (ok && count > 1) {
        stats->deltas = count - 1;
        stats->created_ms = c->links[count - 1].time_ms;
    }
    return ok;
}
