/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/log/annotation.h"

#include <stdio.h>

#include "base/crc.h"
#include "base/number.h"

#define TAG "#HF1 "
#define OWN "own "

static const char *const words[] = {
    [ANNOTATION_LOG] = "log ",
    [ANNOTATION_GROUP] = "group ",
    [ANNOTATION_COMMIT] = "commit ",
    [ANNOTATION_CLOSE] = "close ",
    [ANNOTATION_BASE] = "base ",
    [ANNOTATION_SELECT] = "select ",
};

size_t annotation_format(const struct annotation *a, char out[ANNOTATION_MAX])
{
    int n;
    switch (a->kind) {
    case ANNOTATION_LOG:
    case ANNOTATION_BASE:
        n = snprintf(out, ANNOTATION_MAX, TAG "%s%llu %lld %.40s %08x %s", words[a->kind],
                     (unsigned long long)a->lsn, (long long)a->ms, a->history,
                     a->kind == ANNOTATION_LOG ? a->chain : a->db,
                     a->kind == ANNOTATION_LOG && a->own ? OWN : "");
        break;
    case ANNOTATION_GROUP:
    case ANNOTATION_SELECT:
        n = snprintf(out, ANNOTATION_MAX, TAG "%s%llu\r\n", words[a->kind],
                     (unsigned long long)a->lsn);
        break;
    default:
        n = snprintf(out, ANNOTATION_MAX, TAG "%s%llu %lld ", words[a->kind],
                     (unsigned long long)a->lsn, (long long)a->ms);
        if (a->has_durable)
            n += snprintf(out + n, ANNOTATION_MAX - (size_t)n, "%llu ",
                          (unsigned long long)a->durable);
    }
    return (size_t)n;
}

size_t annotation_finish(uint32_t crc, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < 8; i++)
        out[i] = digits[crc >> (28 - 4 * i) & 15];
    out[8] = '\r';
    out[9] = '\n';
    return 10;
}

/* What is left of the line to be parsed. */
static bool take_text(struct slice *rest, const char *text)
{
    size_t size = strlen(text);
    if (rest->size < size || memcmp(rest->data, text, size) != 0)
        return false;
    *rest = slice_of(rest->data + size, rest->size - size);
    return true;
}

/* A field that ends in `end`, which is taken, too. */
static bool take_field(struct slice *rest, char end, struct slice *field)
{
    const char *p = rest->size > 0 ? memchr(rest->data, end, rest->size) : NULL;
    if (p == NULL)
        return false;
    *field = slice_of(rest->data, (size_t)(p - rest->data));
    *rest = slice_of(p + 1, rest->size - field->size - 1);
    return true;
}

static bool take_ms(struct slice *rest, int64_t *ms)
{
    struct slice field;
    return take_field(rest, ' ', &field) && number_parse_int64(field, ms) && *ms >= 0;
}

/* A field that older versions did not write: it is there when a blank follows before the line's
 * end. */
static bool take_durable(struct slice *rest, struct annotation *a)
{
    struct slice field;
    if (rest->size == 0 || memchr(rest->data, ' ', rest->size) == NULL)
        return true;
    a->has_durable = true;
    return take_field(rest, ' ', &field) && number_parse_uint64(field, &a->durable);
}

static bool parse_hex(struct slice s, uint64_t *out)
{
    *out = 0;
    for (size_t i = 0; i < s.size; i++) {
        char c = s.data[i];
        uint64_t digit;
        if (c >= '0' && c <= '9')
            digit = (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (uint64_t)(c - 'a') + 10;
        else
            return false;
        *out = *out << 4 | digit;
    }
    return true;
}

static bool take_crc(struct slice *rest, char end, uint32_t *crc)
{
    struct slice field;
    uint64_t value;
    if (!take_field(rest, end, &field) || field.size != 8 || !parse_hex(field, &value))
        return false;
    *crc = (uint32_t)value;
    return true;
}

static bool take_history(struct slice *rest, struct annotation *a)
{
    struct slice field;
    uint64_t unused;
    if (!take_field(rest, ' ', &field) || field.size != ANNOTATION_HISTORY ||
        !parse_hex(field, &unused))
        return false;
    memcpy(a->history, field.data, ANNOTATION_HISTORY);
    a->history[ANNOTATION_HISTORY] = '\0';
    return true;
}

bool annotation_parse(struct slice line, struct annotation *a)
{
    struct slice rest = line, field;
    *a = (struct annotation){0};
    if (!take_text(&rest, TAG))
        return false;
    int kind = ANNOTATION_LOG;
    while (!take_text(&rest, words[kind])) {
        if (++kind > ANNOTATION_SELECT)
            return false;
    }
    a->kind = (enum annotation_kind)kind;
    bool bare = kind == ANNOTATION_GROUP || kind == ANNOTATION_SELECT;
    if (!take_field(&rest, bare ? '\r' : ' ', &field) || !number_parse_uint64(field, &a->lsn))
        return false;
    if (bare)
        return rest.size == 1 && rest.data[0] == '\n';
    if (!take_ms(&rest, &a->ms))
        return false;
    if (kind == ANNOTATION_LOG && (!take_history(&rest, a) || !take_crc(&rest, ' ', &a->chain)))
        return false;
    if (kind == ANNOTATION_BASE && (!take_history(&rest, a) || !take_crc(&rest, ' ', &a->db)))
        return false;
    if ((kind == ANNOTATION_COMMIT || kind == ANNOTATION_CLOSE) && !take_durable(&rest, a))
        return false;
    a->own = kind == ANNOTATION_LOG && take_text(&rest, OWN);
    a->crc_at = (size_t)(rest.data - line.data);
    return take_crc(&rest, '\r', &a->crc) && rest.size == 1 && rest.data[0] == '\n';
}

size_t annotation_put(const struct annotation *a, uint32_t *crc, char out[ANNOTATION_MAX])
{
    size_t size = annotation_format(a, out);
    *crc = crc32c(*crc, out, size);
    bool whole = a->kind == ANNOTATION_GROUP || a->kind == ANNOTATION_SELECT;
    return whole ? size : size + annotation_finish(*crc, out + size);
}

size_t annotation_put_select(uint64_t lsn, int64_t ms, int db, uint32_t *crc,
                             char out[ANNOTATION_SELECT_GROUP_MAX])
{
    char number[NUMBER_INT64_SIZE];
    int digits = (int)number_format_int64(number, db);
    size_t size =
        annotation_format(&(struct annotation){.kind = ANNOTATION_GROUP, .lsn = lsn}, out);
    size += annotation_format(&(struct annotation){.kind = ANNOTATION_SELECT, .lsn = lsn},
                              out + size);
    size += (size_t)snprintf(out + size, ANNOTATION_MAX,
                             "*2\r\n$6\r\nSELECT\r\n$%d\r\n%.*s\r\n", digits, digits, number);
    *crc = crc32c(*crc, out, size);
    const struct annotation commit = {.kind = ANNOTATION_COMMIT, .lsn = lsn, .ms = ms};
    return size + annotation_put(&commit, crc, out + size);
}

void annotation_fill(uint64_t offset, char *out, size_t size)
{
    memset(out, '#', size);
    for (size_t i = ANNOTATION_FILL_LINE - 1 - offset % ANNOTATION_FILL_LINE; i < size;
         i += ANNOTATION_FILL_LINE)
        out[i] = '\n';
}

/* Nothing is left of the line but its end: that would be a line that is no comment. */
size_t annotation_join_filling(uint64_t end, char out[ANNOTATION_JOIN_MAX])
{
    if (end % ANNOTATION_FILL_LINE != ANNOTATION_FILL_LINE - 1)
        return 0;
    out[0] = '#';
    out[1] = '\n';
    return 2;
}
