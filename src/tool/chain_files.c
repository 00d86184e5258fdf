/* SPDX-License-Identifier: BSD-3-Clause */
#include "tool/chain_files.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "os/file.h"
#include "tool/format.h"
#include "tool/progress.h"
#include "tool/tool.h"

#define PATH_SIZE 600
#define SUFFIX ".chain"
#define DELTA_SUFFIX_SIZE (1 + LINK_ID_SIZE - 1 + 6) /* .<id>.delta */

enum chain_file chain_file_of(const char *path)
{
    struct os_file file;
    struct error ignored;
    char head[16] = "";
    size_t got = 0;
    if (os_path_is_dir(path) || !os_file_open(&file, path, OS_OPEN_READ, &ignored))
        return CHAIN_FILE_NONE;
    if (!os_file_read_at(&file, 0, head, sizeof(head) - 1, &got, &ignored))
        got = 0;
    os_file_close(&file, &ignored);
    if (got >= 5 && memcmp(head, LINK_MAGIC, 5) == 0)
        return CHAIN_FILE_DELTA;
    if (got >= 14 && memcmp(head, "holdfast-chain", 14) == 0)
        return CHAIN_FILE_MANIFEST;
    return CHAIN_FILE_NONE;
}

void format_restorable(char *out, size_t size, const struct chain *c, size_t whole)
{
    char time[FORMAT_SIZE];
    if (whole == 0) {
        snprintf(out, size, "nothing");
        return;
    }
    const struct chain_link *last = &c->links[whole - 1];
    snprintf(out, size, "links 1 to %zu, up to %s (LSN %" PRIu64 ")", whole,
             format_time(time, last->time_ms), last->lsn);
}

/* The RDB file that the name of a manifest or delta begins with. False: it is no such name. */
static bool rdb_path_of(const char *path, enum chain_file kind, char *out, size_t size)
{
    size_t n = strlen(path);
    size_t suffix = kind == CHAIN_FILE_MANIFEST ? sizeof(SUFFIX) - 1 : DELTA_SUFFIX_SIZE;
    const char *end = kind == CHAIN_FILE_MANIFEST ? SUFFIX : ".delta";
    if (n <= suffix || strcmp(path + n - strlen(end), end) != 0)
        return false;
    return (size_t)snprintf(out, size, "%.*s", (int)(n - suffix), path) < size;
}

static const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool names(const struct chain *c, const char *name)
{
    for (size_t i = 0; i < c->count; i++) {
        if (strcmp(c->links[i].name, name) == 0)
            return true;
    }
    return false;
}

/* check ---------------------------------------------------------------------------------------- */

/* Of one file after another; care.ctx is the whole. */
struct watched {
    struct link_care care;
    struct progress progress;
    const char *label, *path;
    bool begun;
};

static void on_progress(void *ctx, uint64_t done, uint64_t size)
{
    struct watched *w = ctx;
    if (!w->begun)
        progress_begin(&w->progress, w->label, w->path, size);
    w->begun = true;
    progress_update(&w->progress, done);
}

static void watch(struct watched *w, const char *label, const char *path)
{
    *w = (struct watched){.label = label, .path = path};
    w->care.progress = on_progress;
    w->care.ctx = w;
}

static void print_link(const char *path, const struct chain *c, size_t i)
{
    char time[FORMAT_SIZE], keys[FORMAT_SIZE], deleted[FORMAT_SIZE];
    const struct chain_link *l = &c->links[i];
    printf("%s: link %zu of %zu, %s: sound, %s, %s keys", path, i + 1, c->count, l->name,
           l->kind == LINK_FULL ? "full" : "incremental", format_count(keys, l->keys));
    if (l->kind == LINK_DELTA)
        printf(", %s deleted", format_count(deleted, l->deleted));
    printf(", of %s (LSN %" PRIu64 ")\n", format_time(time, l->time_ms), l->lsn);
}

static bool check_links(const char *path, const char *rdb, const struct chain *c)
{
    char restorable[160];
    struct error err = {0};
    for (size_t i = 0; i < c->count; i++) {
        struct chain upto = {c->links, i + 1};
        struct watched w;
        watch(&w, "check", c->links[i].name);
        size_t whole = chain_prove(&upto, i, rdb, &w.care, &err);
        progress_end(&w.progress);
        if (whole == i + 1) {
            print_link(path, c, i);
            continue;
        }
        format_restorable(restorable, sizeof(restorable), c, i);
        printf("%s: link %zu of %zu, %s: BROKEN\n    %s\n", path, i + 1, c->count, c->links[i].name,
               err.message);
        printf("    what can be restored: %s%s\n", restorable,
               i + 1 < c->count ? "; the links behind it are of no use without it" : "");
        return false;
    }
    printf("%s: sound, a chain of %zu links\n", path, c->count);
    return true;
}

/* The manifest of the RDB file. */
static bool check_manifest(const char *path, const char *rdb)
{
    struct chain c;
    struct error err = {0};
    char id[LINK_ID_SIZE];
    if (!chain_read(&c, rdb, &err)) {
        printf("%s\n", err.message);
        printf("    what can be restored: the RDB file alone\n");
        return false;
    }
    bool ok = true;
    if (link_read_id(rdb, id, &err) && strcmp(id, c.links[0].id) != 0)
        printf("%s: of an earlier snapshot than %s, which was written since and is all there is\n",
               path, rdb);
    else
        ok = check_links(path, rdb, &c);
    chain_free(&c);
    return ok;
}

/* A delta by itself: that it can be decoded, and what it says of itself. */
static bool read_delta(const char *path, struct chain_link *found, struct error *err)
{
    struct keyspace *ks = keyspace_new(1, false);
    struct watched w;
    watch(&w, "read", path);
    bool ok = link_read(path, LINK_DELTA, &ks->epoch, &ks->limits, NULL, &w.care, found, err);
    progress_end(&w.progress);
    keyspace_free(ks);
    return ok;
}

static bool check_delta(const char *path, const char *why)
{
    struct chain_link found;
    struct error err = {0};
    if (!read_delta(path, &found, &err)) {
        printf("%s: %s\n", path, err.message);
        return false;
    }
    printf("%s: sound, an incremental snapshot, %" PRIu64 " keys, %" PRIu64 " deleted, LSN %" PRIu64
           ", follows %s; %s\n",
           path, found.keys, found.deleted, found.lsn, found.parent, why);
    return true;
}

bool check_chain_file(const char *path, enum chain_file kind)
{
    char rdb[PATH_SIZE], manifest[PATH_SIZE + sizeof(SUFFIX)];
    struct chain c;
    struct error err = {0};
    if (!rdb_path_of(path, kind, rdb, sizeof(rdb))) {
        if (kind == CHAIN_FILE_DELTA)
            return check_delta(path, "by its name it belongs to no RDB file");
        printf("%s: the manifest of a chain has the name of its RDB file and .chain\n", path);
        return false;
    }
    if (kind == CHAIN_FILE_MANIFEST)
        return check_manifest(path, rdb);
    if (!chain_read(&c, rdb, &err))
        return check_delta(path, "there is no manifest that names it");
    bool named = names(&c, file_name(path));
    chain_free(&c);
    if (!named)
        return check_delta(path, "the chain beside it does not name it");
    snprintf(manifest, sizeof(manifest), "%s" SUFFIX, rdb);
    return check_manifest(manifest, rdb);
}

struct beside {
    const char *directory;
    size_t count;
    bool ok;
};

static void check_beside(void *ctx, const char *name)
{
    struct beside *b = ctx;
    size_t n = strlen(name), suffix = sizeof(SUFFIX) - 1;
    char path[PATH_SIZE];
    if (n <= suffix || strcmp(name + n - suffix, SUFFIX) != 0)
        return;
    snprintf(path, sizeof(path), "%.290s/%.290s", b->directory, name);
    b->count++;
    if (!check_chain_file(path, CHAIN_FILE_MANIFEST))
        b->ok = false;
}

bool check_chains_beside(const char *directory, size_t *count)
{
    struct beside b = {directory, 0, true};
    struct error err = {0};
    bool listed = os_dir_list(directory, check_beside, &b, &err);
    *count += b.count;
    return listed && b.ok;
}

/* info ----------------------------------------------------------------------------------------- */

static void print_link_json(const struct chain_link *l)
{
    struct text name = {0};
    text_append_json(&name, slice_cstr(l->name));
    printf("{\"kind\":\"%s\",\"file\":%s,\"id\":\"%s\",\"parent\":\"%s\",\"lsn\":%" PRIu64
           ",\"time_ms\":%" PRId64 ",\"keys\":%" PRIu64 ",\"deleted\":%" PRIu64
           ",\"size_bytes\":%" PRIu64 ",\"sha256\":\"%s\"}",
           l->kind == LINK_FULL ? "full" : "incremental", text_cstr(&name), l->id, l->parent,
           l->lsn, l->time_ms, l->keys, l->deleted, l->size, l->sha256);
    text_free(&name);
}

static void print_link_text(const struct chain_link *l)
{
    char time[FORMAT_SIZE];
    printf("%s %s: id=%s,parent=%s,lsn=%" PRIu64 ",time=%s,keys=%" PRIu64 ",deleted=%" PRIu64
           ",bytes=%" PRIu64 ",sha256=%s\n",
           l->kind == LINK_FULL ? "full" : "incremental", l->name, l->id,
           l->parent[0] != '\0' ? l->parent : "-", l->lsn,
           l->time_ms > 0 ? format_time(time, l->time_ms) : "-", l->keys, l->deleted, l->size,
           l->sha256);
}

static int info_manifest(const char *path, bool json)
{
    char rdb[PATH_SIZE];
    struct chain c;
    struct error err = {0};
    struct text name = {0};
    if (!rdb_path_of(path, CHAIN_FILE_MANIFEST, rdb, sizeof(rdb)) || !chain_read(&c, rdb, &err)) {
        fprintf(stderr, "%s: %s\n", path,
                err.code ? err.message
                         : "the manifest of a chain has the name of its RDB file and .chain");
        return TOOL_FAILED;
    }
    text_append_json(&name, slice_cstr(path));
    if (json)
        printf("{\"file\":%s,\"links\":[", text_cstr(&name));
    else
        printf("file: %s\nlinks: %zu\n", path, c.count);
    for (size_t i = 0; i < c.count; i++) {
        if (json && i > 0)
            printf(",");
        if (json)
            print_link_json(&c.links[i]);
        else
            print_link_text(&c.links[i]);
    }
    if (json)
        printf("]}\n");
    text_free(&name);
    chain_free(&c);
    return TOOL_OK;
}

int info_chain_file(const char *path, enum chain_file kind, bool json)
{
    struct chain_link found;
    struct error err = {0};
    if (kind == CHAIN_FILE_MANIFEST)
        return tool_finish_output("info", info_manifest(path, json));
    if (!read_delta(path, &found, &err)) {
        fprintf(stderr, "%s: %s\n", path, err.message);
        return TOOL_FAILED;
    }
    snprintf(found.name, sizeof(found.name), "%s", file_name(path));
    if (json) {
        print_link_json(&found);
        printf("\n");
    } else {
        print_link_text(&found);
    }
    return tool_finish_output("info", TOOL_OK);
}
