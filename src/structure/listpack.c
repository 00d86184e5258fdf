/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The layout of an entry:
 *
 *     +----------+----------------+------------------------------------------+
 *     | encoding | data           | backlen: size of encoding and data, in   |
 *     |          |                | groups of 7 bits, to be read from behind |
 *     +----------+----------------+------------------------------------------+
 *
 *     0xxxxxxx                  0..127
 *     10xxxxxx                  string of x < 64 bytes
 *     110xxxxx x8               13 bits, signed
 *     1110xxxx x8               string of x < 4096 bytes
 *     11110000 x32              string of x bytes
 *     11110001 .. 11110100      integer of 16, 24, 32 or 64 bits, signed, little-endian
 *     11111111                  the end of the listpack
 *
 * Which encoding a number or string gets is fixed by what Redis writes: two equal lists are equal
 * byte for byte.
 */
#include "structure/listpack.h"

#include <assert.h>
#include <endian.h>

#include "base/bytes.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/number.h"

#define HEADER_SIZE 6
#define COUNT_UNKNOWN 65535U
#define END 0xffU

enum encoding {
    ENC_STRING32 = 0xf0,
    ENC_INT16 = 0xf1,
    ENC_INT24 = 0xf2,
    ENC_INT32 = 0xf3,
    ENC_INT64 = 0xf4,
};

/* A string that is no more than this many bytes may be an integer. */
#define NUMBER_TEXT_MAX 20

static inline uint32_t load_count(const char *lp)
{
    uint16_t v;
    memcpy(&v, lp + 4, sizeof(v));
    return le16toh(v);
}

static inline void store_count(char *lp, uint32_t count)
{
    uint16_t v = htole16((uint16_t)count);
    memcpy(lp + 4, &v, sizeof(v));
}

static inline void set_size(char *lp, uint32_t size)
{
    bytes_put_le32(lp, size);
}

/* The number of bytes that an encoding byte is followed by at least, to know the entry's size. */
static inline uint32_t encoding_head(unsigned char c)
{
    if (c < 0xe0)
        return 1;
    return c < 0xf0 ? 2 : c == ENC_STRING32 ? 5 : 1;
}

/* Bytes of encoding and data, without the backlen. */
static inline uint32_t body_size(const char *p)
{
    unsigned char c = (unsigned char)*p;
    if (c < 0x80)
        return 1;
    if (c < 0xc0)
        return 1 + (c & 0x3fU);
    if (c < 0xe0)
        return 2;
    if (c < 0xf0)
        return 2 + ((c & 0x0fU) << 8 | (unsigned char)p[1]);
    switch (c) {
    case ENC_STRING32:
        return 5 + bytes_le32(p + 1);
    case ENC_INT16:
        return 3;
    case ENC_INT24:
        return 4;
    case ENC_INT32:
        return 5;
    default:
        return 9;
    }
}

/* The steps are one short of the powers of 128 from the second on, as Redis has them. */
static inline uint32_t backlen_size(uint32_t body)
{
    if (body <= 127)
        return 1;
    if (body < 16383)
        return 2;
    if (body < 2097151)
        return 3;
    return body < 268435455 ? 4 : 5;
}

/* Writes the backlen of a body at p and returns its size. The high bit of a byte says that one more
 * stands before it. */
static uint32_t put_backlen(char *p, uint32_t body)
{
    uint32_t n = backlen_size(body);
    for (uint32_t i = n; i-- > 1;) {
        p[i] = (char)((body & 127) | 128);
        body >>= 7;
    }
    p[0] = (char)body;
    return n;
}

/* The body size from the backlen that ends before p. */
static uint32_t get_backlen(const char *p)
{
    uint32_t body = 0;
    for (unsigned shift = 0; shift < 35; shift += 7) {
        unsigned char c = (unsigned char)*--p;
        body |= (uint32_t)(c & 127U) << shift;
        if (!(c & 128U))
            break;
    }
    return body;
}

static inline uint32_t entry_size(const char *p)
{
    uint32_t body = body_size(p);
    return body + backlen_size(body);
}

/* What most strings fail at first is worth looking at before the call. */
static inline bool parse_number(struct slice s, int64_t *number)
{
    if (s.size == 0 || s.size > NUMBER_TEXT_MAX)
        return false;
    char c = s.data[0], last = s.data[s.size - 1];
    if (last < '0' || last > '9' || (c != '-' && (c < '0' || c > '9')))
        return false;
    return number_parse_int64(s, number);
}

static uint32_t number_body(int64_t v)
{
    if (v >= 0 && v <= 127)
        return 1;
    if (v >= -4096 && v <= 4095)
        return 2;
    if (v >= INT16_MIN && v <= INT16_MAX)
        return 3;
    if (v >= -8388608 && v <= 8388607)
        return 4;
    return v >= INT32_MIN && v <= INT32_MAX ? 5 : 9;
}

static uint32_t string_body(size_t size)
{
    return (uint32_t)(size + (size < 64 ? 1 : size < 4096 ? 2 : 5));
}

/* What an element will look like: found out once for its size and its writing. */
struct form {
    bool is_number;
    int64_t number;
    uint32_t body, total;
};

static struct form form_of(struct slice s)
{
    struct form f = {.is_number = false};
    f.is_number = parse_number(s, &f.number);
    f.body = f.is_number ? number_body(f.number) : string_body(s.size);
    f.total = f.body + backlen_size(f.body);
    return f;
}

static void put_little_endian(char *p, int64_t v, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++)
        p[i] = (char)((uint64_t)v >> (8 * i));
}

static void put_number(char *p, int64_t v, uint32_t body)
{
    if (body == 1) {
        p[0] = (char)v;
    } else if (body == 2) {
        p[0] = (char)(0xc0 | ((v >> 8) & 0x1f));
        p[1] = (char)v;
    } else {
        p[0] = (char)(body == 9 ? ENC_INT64 : ENC_INT16 + (body - 3));
        put_little_endian(p + 1, v, body - 1);
    }
}

static void put_string(char *p, struct slice s)
{
    uint32_t head;
    if (s.size < 64) {
        p[0] = (char)(0x80 | s.size);
        head = 1;
    } else if (s.size < 4096) {
        p[0] = (char)(0xe0 | s.size >> 8);
        p[1] = (char)s.size;
        head = 2;
    } else {
        p[0] = (char)ENC_STRING32;
        bytes_put_le32(p + 1, (uint32_t)s.size);
        head = 5;
    }
    if (s.size)
        memcpy(p + head, s.data, s.size);
}

static void put_entry(char *p, struct slice s, const struct form *f)
{
    if (f->is_number)
        put_number(p, f->number, f->body);
    else
        put_string(p, s);
    put_backlen(p + f->body, f->body);
}

static int64_t get_little_endian(const char *p, uint32_t bytes)
{
    uint64_t v = 0;
    for (uint32_t i = 0; i < bytes; i++)
        v |= (uint64_t)(unsigned char)p[i] << (8 * i);
    unsigned unused = 64 - 8 * bytes;
    return (int64_t)(v << unused) >> unused;
}

void listpack_init(char *lp)
{
    set_size(lp, LISTPACK_EMPTY_SIZE);
    store_count(lp, 0);
    lp[HEADER_SIZE] = (char)END;
}

uint32_t listpack_size(const char *lp)
{
    return bytes_le32(lp);
}

uint32_t listpack_count(const char *lp)
{
    uint32_t count = load_count(lp);
    if (count != COUNT_UNKNOWN)
        return count;
    count = 0;
    for (uint32_t at = listpack_first(lp); at; at = listpack_next(lp, at))
        count++;
    return count;
}

uint32_t listpack_entry_size(struct slice s)
{
    return form_of(s).total;
}

uint32_t listpack_first(const char *lp)
{
    return (unsigned char)lp[HEADER_SIZE] == END ? 0 : HEADER_SIZE;
}

uint32_t listpack_last(const char *lp)
{
    return listpack_prev(lp, listpack_size(lp) - 1);
}

uint32_t listpack_next(const char *lp, uint32_t at)
{
    at += entry_size(lp + at);
    return (unsigned char)lp[at] == END ? 0 : at;
}

uint32_t listpack_prev(const char *lp, uint32_t at)
{
    if (at == HEADER_SIZE)
        return 0;
    uint32_t body = get_backlen(lp + at);
    return at - body - backlen_size(body);
}

uint32_t listpack_seek(const char *lp, int64_t index)
{
    uint32_t count = load_count(lp);
    if (count != COUNT_UNKNOWN) {
        /* With the count known the nearer end is the way to begin. */
        if (index < 0)
            index += count;
        if (index < 0 || index >= count)
            return 0;
        if (index >= count / 2)
            index -= count;
    }
    uint32_t at;
    if (index < 0) {
        for (at = listpack_last(lp); at && ++index < 0;)
            at = listpack_prev(lp, at);
    } else {
        for (at = listpack_first(lp); at && index-- > 0;)
            at = listpack_next(lp, at);
    }
    return at;
}

struct listpack_value listpack_get(const char *lp, uint32_t at)
{
    const char *p = lp + at;
    unsigned char c = (unsigned char)*p;
    if (c < 0x80)
        return (struct listpack_value){.number = c};
    if (c < 0xc0)
        return (struct listpack_value){.data = p + 1, .size = c & 0x3fU};
    if (c < 0xe0) {
        uint32_t v = (c & 0x1fU) << 8 | (unsigned char)p[1];
        return (struct listpack_value){.number = v < 4096 ? (int64_t)v : (int64_t)v - 8192};
    }
    if (c < 0xf0)
        return (struct listpack_value){.data = p + 2, .size = body_size(p) - 2};
    if (c == ENC_STRING32)
        return (struct listpack_value){.data = p + 5, .size = bytes_le32(p + 1)};
    return (struct listpack_value){.number = get_little_endian(p + 1, body_size(p) - 1)};
}

struct slice listpack_get_slice(const char *lp, uint32_t at, char buf[LISTPACK_NUMBER_SIZE])
{
    static_assert(LISTPACK_NUMBER_SIZE >= NUMBER_INT64_SIZE, "any integer fits");
    struct listpack_value v = listpack_get(lp, at);
    if (v.data)
        return slice_of(v.data, v.size);
    return slice_of(buf, number_format_int64(buf, v.number));
}

bool listpack_equal(const char *lp, uint32_t at, struct slice s)
{
    struct listpack_value v = listpack_get(lp, at);
    if (v.data)
        return slice_equal(slice_of(v.data, v.size), s);
    int64_t number;
    return parse_number(s, &number) && number == v.number;
}

/* The bytes of a non-empty needle are compared from the last on: keys and members mostly differ in
 * their ends. */
static inline bool same_bytes(const char *p, struct slice s)
{
    return s.size == 0 ||
           (p[s.size - 1] == s.data[s.size - 1] && memcmp(p, s.data, s.size - 1) == 0);
}

uint32_t listpack_find(const char *lp, uint32_t at, struct slice s, uint32_t skip)
{
    if (at == 0)
        return 0;
    int64_t number = 0;
    bool is_number = parse_number(s, &number);
    /* A short number and a short string that could be equal have this first byte. */
    unsigned char small = is_number && number >= 0 && number <= 127 ? (unsigned char)number : END;
    const char *p = lp + at;
    uint32_t pass = 0;
    for (;;) {
        unsigned char c = (unsigned char)*p;
        if (c < 0x80) {
            if (c == small && pass == 0)
                return (uint32_t)(p - lp);
            p += 2;
        } else if (c < 0xc0) {
            uint32_t size = c & 0x3fU;
            if (size == s.size && pass == 0 && same_bytes(p + 1, s))
                return (uint32_t)(p - lp);
            p += size + 2;
        } else if (c == END) {
            return 0;
        } else {
            uint32_t body = body_size(p);
            if (pass == 0) {
                struct listpack_value v = listpack_get(p, 0);
                if (v.data ? v.size == s.size && same_bytes(v.data, s)
                           : is_number && v.number == number)
                    return (uint32_t)(p - lp);
            }
            p += body + backlen_size(body);
        }
        pass = pass == 0 ? skip : pass - 1;
    }
}

/* After a change of the number of elements by `delta`. A count that is unknown stays so. */
static void adjust_count(char *lp, int64_t delta)
{
    int64_t count = load_count(lp);
    if (count == COUNT_UNKNOWN)
        return;
    count += delta;
    store_count(lp, count >= (int64_t)COUNT_UNKNOWN ? COUNT_UNKNOWN : (uint32_t)count);
}

static struct form form_of_number(int64_t number)
{
    struct form f = {.is_number = true, .number = number, .body = number_body(number)};
    f.total = f.body + backlen_size(f.body);
    return f;
}

static uint32_t insert_form(char *lp, uint32_t at, struct slice s, const struct form *f)
{
    uint32_t size = listpack_size(lp);
    if (at == 0)
        at = size - 1;
    memmove(lp + at + f->total, lp + at, size - at);
    put_entry(lp + at, s, f);
    set_size(lp, size + f->total);
    adjust_count(lp, 1);
    return at;
}

uint32_t listpack_insert(char *lp, uint32_t at, struct slice s)
{
    struct form f = form_of(s);
    return insert_form(lp, at, s, &f);
}

uint32_t listpack_insert_number(char *lp, uint32_t at, int64_t number)
{
    struct form f = form_of_number(number);
    return insert_form(lp, at, (struct slice){NULL, 0}, &f);
}

int64_t listpack_replace_growth(const char *lp, uint32_t at, struct slice s)
{
    return (int64_t)form_of(s).total - (int64_t)entry_size(lp + at);
}

static void replace_form(char *lp, uint32_t at, struct slice s, const struct form *f)
{
    uint32_t size = listpack_size(lp), old = entry_size(lp + at);
    if (f->total != old)
        memmove(lp + at + f->total, lp + at + old, size - at - old);
    put_entry(lp + at, s, f);
    set_size(lp, size - old + f->total);
}

void listpack_replace(char *lp, uint32_t at, struct slice s)
{
    struct form f = form_of(s);
    replace_form(lp, at, s, &f);
}

void listpack_replace_number(char *lp, uint32_t at, int64_t number)
{
    struct form f = form_of_number(number);
    replace_form(lp, at, (struct slice){NULL, 0}, &f);
}

uint32_t listpack_remove(char *lp, uint32_t at, uint32_t count)
{
    if (at == 0)
        return 0;
    uint32_t size = listpack_size(lp), end = at, removed = 0;
    while (removed < count && (unsigned char)lp[end] != END) {
        end += entry_size(lp + end);
        removed++;
    }
    memmove(lp + at, lp + end, size - end);
    set_size(lp, size - (end - at));
    adjust_count(lp, -(int64_t)removed);
    return (unsigned char)lp[at] == END ? 0 : at;
}

bool listpack_check(const void *bytes, size_t size)
{
    const char *lp = bytes;
    if (size < LISTPACK_EMPTY_SIZE || size > UINT32_MAX || bytes_le32(lp) != size ||
        (unsigned char)lp[size - 1] != END)
        return false;
    size_t at = HEADER_SIZE, end = size - 1;
    uint64_t count = 0;
    while (at < end) {
        unsigned char c = (unsigned char)lp[at];
        if (c > ENC_INT64 || encoding_head(c) > end - at)
            return false;
        /* A length of nearly 4 GiB must not wrap around. */
        if (c == ENC_STRING32 && bytes_le32(lp + at + 1) > end - at - 5)
            return false;
        uint32_t body = body_size(lp + at);
        if (__builtin_expect(body < 128, 1)) {
            if (body >= end - at || (unsigned char)lp[at + body] != body)
                return false;
            at += (size_t)body + 1;
            count++;
            continue;
        }
        char backlen[5];
        uint32_t n = put_backlen(backlen, body);
        if (body > end - at || n > end - at - body || memcmp(lp + at + body, backlen, n) != 0)
            return false;
        at += (size_t)body + n;
        count++;
    }
    uint32_t stated = load_count(lp);
    return stated == COUNT_UNKNOWN || stated == count;
}

/* --- elements that are there twice ------------------------------------------------------------ */

/* So many elements have their table on the stack. */
#define STACK_ELEMENTS 256
#define MIX 0x9e3779b97f4a7c15ULL

static inline uint64_t load64(const char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

/* Of a few instructions, and not keyed: who wants to can make strings that collide. */
static inline uint64_t quick_hash(const char *p, size_t size)
{
    uint64_t h = size * MIX;
    if (size >= 8) {
        for (size_t i = 0; i + 8 < size; i += 8) {
            h = (h ^ load64(p + i)) * MIX;
            h ^= h >> 29;
        }
        h ^= load64(p + size - 8);
    } else if (size >= 4) {
        h ^= (uint64_t)bytes_le32(p) << 32 | bytes_le32(p + size - 4);
    } else if (size > 0) {
        h ^= (uint64_t)(unsigned char)p[0] << 16 | (uint64_t)(unsigned char)p[size / 2] << 8 |
             (unsigned char)p[size - 1];
    }
    h *= MIX;
    return h ^ h >> 32;
}

/* An element's hash, the same however the element is encoded: a foreign writer may have written a
 * number as a string. */
static inline uint64_t element_hash(struct listpack_value *v, bool keyed)
{
    if (v->data && parse_number(slice_of(v->data, v->size), &v->number))
        v->data = NULL;
    if (!v->data)
        return quick_hash((const char *)&v->number, sizeof(v->number));
    return keyed ? hash_bytes(v->data, v->size) : quick_hash(v->data, v->size);
}

static bool same_element(const char *lp, uint32_t at, const struct listpack_value *v)
{
    struct listpack_value other = listpack_get(lp, at);
    int64_t number = other.number;
    if (other.data && v->data)
        return other.size == v->size && memcmp(other.data, v->data, v->size) == 0;
    if (other.data && !parse_number(slice_of(other.data, other.size), &number))
        return false;
    return !v->data && number == v->number;
}

struct seen {
    uint32_t at, tag; /* at 0: free */
};

/* 1: all are different, 0: they are not, -1: given up, as too many collide. The table is zeroed, of
 * `size` slots (a power of two), at least twice as many as elements that are looked at. */
static int distinct_by(const char *lp, uint32_t skip, struct seen *table, size_t size, bool keyed)
{
    size_t steps = 8 * size;
    for (uint32_t at = listpack_first(lp); at;) {
        struct listpack_value v = listpack_get(lp, at);
        uint64_t hash = element_hash(&v, keyed);
        uint32_t tag = (uint32_t)(hash >> 40);
        size_t i = hash & (size - 1);
        for (; table[i].at; i = (i + 1) & (size - 1)) {
            if (table[i].tag == tag && same_element(lp, table[i].at, &v))
                return 0;
            if (!keyed && --steps == 0)
                return -1;
        }
        table[i] = (struct seen){at, tag};
        at = listpack_next(lp, at);
        for (uint32_t k = 0; at && k < skip; k++)
            at = listpack_next(lp, at);
    }
    return 1;
}

bool listpack_distinct(const char *lp, uint32_t skip)
{
    uint32_t looked_at = listpack_count(lp) / (skip + 1) + 1;
    struct seen stack[2 * STACK_ELEMENTS];
    size_t size = 16;
    while (size < 2 * (size_t)looked_at)
        size *= 2;
    size_t bytes = size * sizeof(stack[0]);
    struct seen *table = bytes <= sizeof(stack) ? stack : mem_alloc(bytes);
    memset(table, 0, bytes);
    int result = distinct_by(lp, skip, table, size, false);
    if (result < 0) {
        memset(table, 0, bytes);
        result = distinct_by(lp, skip, table, size, true);
    }
    if (table != stack)
        mem_free(table);
    return result == 1;
}
