/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/log/manifest.h"

#include <stdio.h>

#include "base/crc.h"
#include "base/mem.h"
#include "base/number.h"
#include "os/file.h"
#include "persist/log/recovery_files.h"

#define PATH_SIZE sizeof(((struct os_file *)0)->path)
#define SIZE_MAX_READ ((size_t)64 << 20)
#define TAG "#HF1 "
#define LAST_LINE_SIZE (sizeof(TAG) - 1 + 8) /* without the end of line */

void manifest_init(struct manifest *m)
{
    *m = (struct manifest){0};
}

void manifest_free(struct manifest *m)
{
    for (size_t i = 0; i < m->count; i++)
        mem_free(m->files[i].name);
    mem_free(m->files);
    *m = (struct manifest){0};
}

/* Put a file in at `index`. */
static struct manifest_file *insert(struct manifest *m, size_t index, struct manifest_file file)
{
    m->files = mem_realloc(m->files, (m->count + 1) * sizeof(*m->files));
    memmove(&m->files[index + 1], &m->files[index], (m->count - index) * sizeof(*m->files));
    m->files[index] = file;
    m->count++;
    return &m->files[index];
}

bool manifest_copy(struct manifest *to, const struct manifest *from)
{
    manifest_init(to);
    for (size_t i = 0; i < from->count; i++) {
        struct manifest_file f = from->files[i];
        f.name = mem_dup(f.name, strlen(f.name));
        insert(to, i, f);
    }
    to->base_seq = from->base_seq;
    to->incremental_seq = from->incremental_seq;
    to->ours = from->ours;
    return true;
}

bool manifest_is_incremental(const struct manifest_file *f)
{
    return f->type == MANIFEST_INCREMENTAL ||
           (f->type == MANIFEST_HISTORY && slice_ends_with(slice_cstr(f->name), ".incr.aof"));
}

/* A number that was given out must not be given out again, also when the file is history. */
static void note_seq(struct manifest *m, const struct manifest_file *f)
{
    uint64_t *highest = manifest_is_incremental(f) ? &m->incremental_seq : &m->base_seq;
    if (f->seq > *highest)
        *highest = f->seq;
}

/* Where a file of this type is to be put: behind those of its kind. */
static size_t place_of(const struct manifest *m, enum manifest_type type)
{
    size_t i = 0;
    if (type == MANIFEST_INCREMENTAL)
        return m->count;
    while (i < m->count && m->files[i].type == MANIFEST_BASE)
        i++;
    if (type == MANIFEST_HISTORY) {
        while (i < m->count && m->files[i].type == MANIFEST_HISTORY)
            i++;
    }
    return i;
}

static bool check_name(struct slice name, struct error *err)
{
    if (name.size == 0 || memchr(name.data, '/', name.size) != NULL ||
        memchr(name.data, '\0', name.size) != NULL || name.data[0] == '.')
        return error_set(err, ERROR_CORRUPT, "the file's name is not a plain file name");
    return true;
}

/* The words of a line, pairs of a keyword and its value. */
static bool take_words(const struct words *w, struct slice *name, struct manifest_file *f,
                       struct error *err)
{
    if (w->count % 2 != 0)
        return error_set(err, ERROR_CORRUPT, "a value is missing");
    for (int i = 0; i < w->count; i += 2) {
        struct slice key = w->items[i], value = w->items[i + 1];
        uint64_t offset;
        if (slice_is(key, "file")) {
            *name = value;
        } else if (slice_is(key, "seq")) {
            if (!number_parse_uint64(value, &f->seq))
                return error_set(err, ERROR_CORRUPT, "the sequence number is not a number");
        } else if (slice_is(key, "type")) {
            if (value.size != 1 || strchr("bih", value.data[0]) == NULL || value.data[0] == '\0')
                return error_set(err, ERROR_CORRUPT, "the type is none of b, i and h");
            f->type = (enum manifest_type)value.data[0];
        } else if (!slice_is(key, "startoffset") && !slice_is(key, "endoffset")) {
            return error_set(err, ERROR_CORRUPT, "an unknown keyword");
        } else if (!number_parse_uint64(value, &offset)) {
            return error_set(err, ERROR_CORRUPT, "the offset is not a number");
        }
    }
    if (name->data == NULL || f->seq == 0 || f->type == 0)
        return error_set(err, ERROR_CORRUPT, "file, seq or type is missing");
    return check_name(*name, err);
}

static bool add_parsed(struct manifest *m, struct slice name, struct manifest_file f,
                       struct error *err)
{
    for (size_t i = 0; i < m->count; i++) {
        if (slice_equal(slice_cstr(m->files[i].name), name))
            return error_set(err, ERROR_CORRUPT, "the file is named twice");
    }
    if (f.type == MANIFEST_BASE && manifest_base(m) != NULL)
        return error_set(err, ERROR_CORRUPT, "a second base");
    if (f.type == MANIFEST_INCREMENTAL && m->count > 0) {
        const struct manifest_file *last = &m->files[m->count - 1];
        if (last->type == MANIFEST_INCREMENTAL && last->seq >= f.seq)
            return error_set(err, ERROR_CORRUPT, "the sequence numbers do not grow");
    }
    f.name = mem_dup(name.data, name.size);
    note_seq(m, insert(m, place_of(m, f.type), f));
    return true;
}

static bool parse_line(struct manifest *m, struct slice line, struct error *err)
{
    struct words w;
    if (!text_split(&w, line))
        return error_set(err, ERROR_CORRUPT, "quotes are not balanced");
    struct slice name = {0};
    struct manifest_file f = {0};
    bool ok = memchr(line.data, '\0', line.size) == NULL ||
              error_set(err, ERROR_CORRUPT, "a NUL byte");
    ok = ok && take_words(&w, &name, &f, err) && add_parsed(m, name, f, err);
    words_free(&w);
    return ok;
}

static void format_last_line(uint32_t crc, char out[LAST_LINE_SIZE + 1])
{
    snprintf(out, LAST_LINE_SIZE + 1, TAG "%08x", crc);
}

/* A comment. Ours is the last line and sums all before it. One that has our tag or our sum, but not
 * both, is ours with a changed byte. */
static bool parse_comment(struct manifest *m, struct slice before, struct slice line, bool last,
                          struct error *err)
{
    char expected[LAST_LINE_SIZE + 1];
    format_last_line(crc32c(0, before.data, before.size), expected);
    size_t tag = sizeof(TAG) - 1;
    if (last && slice_equal(line, slice_cstr(expected))) {
        m->ours = true;
        return true;
    }
    bool tagged = line.size >= tag && memcmp(line.data, TAG, tag) == 0;
    bool summed = line.size == LAST_LINE_SIZE && memcmp(line.data + tag, expected + tag, 8) == 0;
    if (tagged || summed)
        return error_set(err, ERROR_CORRUPT, "the checksum does not match");
    return true;
}

static bool parse_lines(struct manifest *m, struct slice text, struct error *err)
{
    const char *p = text.data, *end = text.data + text.size;
    for (int number = 1; p < end; number++) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        bool ok;
        if (newline == NULL) {
            ok = error_set(err, ERROR_CORRUPT, "the end of the line is missing");
        } else {
            struct slice before = slice_of(text.data, (size_t)(p - text.data));
            struct slice line = slice_of(p, (size_t)(newline - p));
            if (*p == '#')
                ok = parse_comment(m, before, line, newline + 1 == end, err);
            else
                ok = parse_line(m, line, err);
        }
        if (!ok)
            return error_prefix(err, "line %d", number);
        p = newline + 1;
    }
    if (m->count == 0)
        return error_set(err, ERROR_CORRUPT, "it names no file");
    return true;
}

bool manifest_parse(struct manifest *m, struct slice text, struct error *err)
{
    manifest_init(m);
    if (parse_lines(m, text, err))
        return true;
    manifest_free(m);
    return false;
}

static bool is_plain(const char *name)
{
    for (const char *p = name; *p != '\0'; p++) {
        if (*p <= ' ' || *p >= 0x7f || *p == '"' || *p == '\'' || *p == '\\')
            return false;
    }
    return true;
}

void manifest_format(const struct manifest *m, struct text *out)
{
    size_t start = out->size;
    for (size_t i = 0; i < m->count; i++) {
        const struct manifest_file *f = &m->files[i];
        text_append_cstr(out, "file ");
        if (is_plain(f->name))
            text_append_cstr(out, f->name);
        else
            text_append_quoted(out, slice_cstr(f->name));
        text_appendf(out, " seq %llu type %c\n", (unsigned long long)f->seq, (char)f->type);
    }
    if (m->unsummed)
        return;
    char last[LAST_LINE_SIZE + 1];
    size_t size = out->size - start;
    format_last_line(size > 0 ? crc32c(0, out->data + start, size) : 0, last);
    text_append_cstr(out, last);
    text_append_cstr(out, "\n");
}

static bool manifest_path(char path[PATH_SIZE], const char *directory, const char *filename,
                          struct error *err)
{
    int n = snprintf(path, PATH_SIZE, "%s/%s.manifest", directory, filename);
    if (n < 0 || (size_t)n >= PATH_SIZE)
        return error_set(err, ERROR_INVALID, "the path is too long: %.100s...", directory);
    return true;
}

bool manifest_read(struct manifest *m, const char *directory, const char *filename,
                   struct error *err)
{
    manifest_init(m);
    char path[PATH_SIZE], *data;
    size_t size;
    if (!manifest_path(path, directory, filename, err) ||
        !os_file_read_whole(path, SIZE_MAX_READ, &data, &size, err))
        return false;
    bool ok = manifest_parse(m, slice_of(data, size), err) || error_prefix(err, "%s", path);
    mem_free(data);
    if (ok && recovery_manifest_ends_early(directory, filename, m, err)) {
        manifest_free(m);
        manifest_init(m);
        return error_prefix(err, "%s", path);
    }
    return ok;
}

bool manifest_write(const struct manifest *m, const char *directory, const char *filename,
                    struct error *err)
{
    char path[PATH_SIZE];
    if (!manifest_path(path, directory, filename, err))
        return false;
    struct text text = {0};
    manifest_format(m, &text);
    bool ok = os_file_replace(path, text.data, text.size, err);
    text_free(&text);
    return ok;
}

const struct manifest_file *manifest_base(const struct manifest *m)
{
    return m->count > 0 && m->files[0].type == MANIFEST_BASE ? &m->files[0] : NULL;
}

static struct manifest_file *add(struct manifest *m, const char *filename, uint64_t seq,
                                 const char *suffix, enum manifest_type type)
{
    struct text name = {0};
    text_appendf(&name, "%s.%llu.%s", filename, (unsigned long long)seq, suffix);
    /* The text's memory becomes the name's. */
    struct manifest_file f = {.name = name.data, .seq = seq, .type = type};
    return insert(m, type == MANIFEST_BASE ? 0 : m->count, f);
}

struct manifest_file *manifest_add_incremental(struct manifest *m, const char *filename)
{
    return add(m, filename, ++m->incremental_seq, "incr.aof", MANIFEST_INCREMENTAL);
}

struct manifest_file *manifest_add_base(struct manifest *m, const char *filename, bool rdb)
{
    if (manifest_base(m) != NULL)
        m->files[0].type = MANIFEST_HISTORY;
    return add(m, filename, ++m->base_seq, rdb ? "base.rdb" : "base.aof", MANIFEST_BASE);
}

void manifest_retire_before(struct manifest *m, uint64_t seq)
{
    for (size_t i = 0; i < m->count; i++) {
        struct manifest_file *f = &m->files[i];
        if (f->type == MANIFEST_INCREMENTAL && f->seq < seq)
            f->type = MANIFEST_HISTORY;
    }
}

void manifest_note_history(struct manifest *m, const char *name, uint64_t seq)
{
    struct manifest_file f = {
        .name = mem_dup(name, strlen(name)), .seq = seq, .type = MANIFEST_HISTORY};
    insert(m, manifest_base(m) != NULL ? 1 : 0, f);
}

void manifest_forget(struct manifest *m, const char *name)
{
    for (size_t i = 0; i < m->count; i++) {
        if (strcmp(m->files[i].name, name) != 0)
            continue;
        mem_free(m->files[i].name);
        m->count--;
        memmove(&m->files[i], &m->files[i + 1], (m->count - i) * sizeof(*m->files));
        return;
    }
}

static bool names_all_of(const struct manifest *m, const struct manifest *other)
{
    for (size_t i = 0; i < other->count; i++) {
        const struct manifest_file *f = &other->files[i];
        bool found = f->type == MANIFEST_HISTORY;
        for (size_t k = 0; k < m->count && !found; k++)
            found = m->files[k].type == f->type && strcmp(m->files[k].name, f->name) == 0;
        if (!found)
            return false;
    }
    return true;
}

bool manifest_same_log(const struct manifest *a, const struct manifest *b)
{
    return names_all_of(a, b) && names_all_of(b, a);
}

void manifest_drop_history(struct manifest *m)
{
    size_t kept = 0;
    for (size_t i = 0; i < m->count; i++) {
        if (m->files[i].type == MANIFEST_HISTORY)
            mem_free(m->files[i].name);
        else
            m->files[kept++] = m->files[i];
    }
    m->count = kept;
}
