/* SPDX-License-Identifier: BSD-3-Clause
 *
 * struct: numbers and strings to bytes and back, by a format as Roberto Ierusalimschy's struct
 * library has it (http://www.inf.puc-rio.br/~roberto/struct):
 *
 *     > < =     big, little, native order         !n   alignment to at most n (a power of 2)
 *     b B h H   1 and 2 bytes                     x    a zero byte, skipped when unpacking
 *     l L T     8 bytes                           cn   n characters; c0: the whole string, or as
 *     in In     n bytes (4 by default)                 many as the number before says
 *     f d n     float, double, double             s    a string that ends in a zero byte
 *
 * Capital letters are without a sign.
 */
#include <ctype.h>

#include "script/engine.h"
#include "script/lua_bytes.h"

#define INTEGER_MAX 32
#define ALIGN_DEFAULT 8

struct format {
    lua_State *L;
    const char *p;
    bool big;
    size_t align; /* at most; 1: none */
};

struct item {
    char option;
    size_t size;
    size_t padding; /* before it */
};

static size_t take_number(struct format *f, size_t by_default)
{
    if (!isdigit((unsigned char)*f->p))
        return by_default;
    size_t n = 0;
    while (isdigit((unsigned char)*f->p)) {
        size_t digit = (size_t)(*f->p++ - '0');
        if (n > ((size_t)INT32_MAX - digit) / 10)
            luaL_error(f->L, "integral size overflow");
        n = n * 10 + digit;
    }
    return n;
}

static size_t option_size(struct format *f, char option)
{
    size_t size;
    switch (option) {
    case 'b':
    case 'B':
    case 'x':
        return 1;
    case 'h':
    case 'H':
        return 2;
    case 'l':
    case 'L':
    case 'T':
    case 'd':
    case 'n':
        return 8;
    case 'f':
        return 4;
    case 'c':
        return take_number(f, 1);
    case 'i':
    case 'I':
        size = take_number(f, 4);
        if (size > INTEGER_MAX)
            luaL_error(f->L, "integral size %d is larger than limit of %d", (int)size, INTEGER_MAX);
        return size;
    default:
        return 0;
    }
}

/* What changes how the rest is read. */
static void control(struct format *f, char option)
{
    size_t n;
    switch (option) {
    case ' ':
        return;
    case '>':
        f->big = true;
        return;
    case '<':
        f->big = false;
        return;
    case '!':
        n = take_number(f, ALIGN_DEFAULT);
        if (n == 0 || (n & (n - 1)) != 0)
            luaL_error(f->L, "alignment %d is not a power of 2", (int)n);
        f->align = n;
        return;
    default:
        luaL_argerror(f->L, 1, lua_pushfstring(f->L, "invalid format option '%c'", option));
    }
}

/* The next item, for the offset that has been reached. False: the format has ended. Controls come
 * as items without a size, whose option is 0. */
static bool next_item(struct format *f, size_t offset, struct item *item)
{
    if (*f->p == '\0')
        return false;
    char option = *f->p++;
    *item = (struct item){.option = option};
    item->size = option_size(f, option);
    size_t align = item->size;
    if (align > f->align)
        align = f->align;
    /* Of sizes that are no power of 2 what comes out has no meaning, but is what it always was. */
    if (align > 1 && option != 'c')
        item->padding = (align - (offset & (align - 1))) & (align - 1);
    return true;
}

/* Packing -------------------------------------------------------------------------------------- */

static void put_integer(struct lua_bytes *b, bool big, lua_Number n, size_t size)
{
    uint64_t v = n < 0 ? (uint64_t)(n >= -0x1p63 ? (int64_t)n : INT64_MIN)
                       : (n < 0x1p64 ? (uint64_t)n : 0);
    unsigned char bytes[INTEGER_MAX];
    for (size_t i = 0; i < size; i++) {
        bytes[big ? size - 1 - i : i] = (unsigned char)v;
        /* Beyond eight bytes there is nothing. */
        v = i < 8 ? v >> 8 : 0;
    }
    lua_bytes_add(b, (const char *)bytes, size);
}

static void put_float(struct lua_bytes *b, bool big, const void *value, size_t size)
{
    unsigned char bytes[8];
    for (size_t i = 0; i < size; i++)
        bytes[big ? size - 1 - i : i] = ((const unsigned char *)value)[i];
    lua_bytes_add(b, (const char *)bytes, size);
}

/* An argument that is missing must not be found in the buffer's slot. */
static int struct_pack(lua_State *L)
{
    struct format f = {.L = L, .p = luaL_checkstring(L, 1), .align = 1};
    struct item item;
    size_t offset = 0;
    int arg = 2;
    struct lua_bytes b;
    int count = lua_gettop(L);
    lua_bytes_begin(&b, L);
    lua_settop(L, count + 1);
    while (next_item(&f, offset, &item)) {
        if (arg > count && strchr("bBhHlLTiIfdncs", item.option) != NULL)
            arg = count + 2;
        for (size_t i = 0; i < item.padding; i++)
            lua_bytes_add_char(&b, '\0');
        offset += item.padding;
        size_t size = item.size, length;
        const char *s;
        double d;
        float single;
        switch (item.option) {
        case 'b':
        case 'B':
        case 'h':
        case 'H':
        case 'l':
        case 'L':
        case 'T':
        case 'i':
        case 'I':
            put_integer(&b, f.big, luaL_checknumber(L, arg++), size);
            break;
        case 'x':
            lua_bytes_add_char(&b, '\0');
            break;
        case 'f':
            single = (float)luaL_checknumber(L, arg++);
            put_float(&b, f.big, &single, size);
            break;
        case 'd':
        case 'n':
            d = luaL_checknumber(L, arg++);
            put_float(&b, f.big, &d, size);
            break;
        case 'c':
        case 's':
            s = luaL_checklstring(L, arg++, &length);
            if (size == 0)
                size = length;
            luaL_argcheck(L, length >= size, arg, "string too short");
            lua_bytes_add(&b, s, size);
            if (item.option == 's') {
                lua_bytes_add_char(&b, '\0');
                size++;
            }
            break;
        default:
            control(&f, item.option);
        }
        offset += size;
    }
    lua_bytes_push(&b);
    return 1;
}

/* Unpacking ------------------------------------------------------------------------------------ */

static lua_Number get_integer(const unsigned char *bytes, bool big, size_t size, bool is_signed)
{
    uint64_t v = 0;
    for (size_t i = 0; i < size && i < 8; i++)
        v |= (uint64_t)bytes[big ? size - 1 - i : i] << (8 * i);
    if (!is_signed)
        return (lua_Number)v;
    if (size < 8 && size > 0) {
        uint64_t sign = 1ULL << (8 * size - 1);
        v = (v ^ sign) - sign;
    }
    return (lua_Number)(int64_t)v;
}

static void get_float(const unsigned char *bytes, bool big, void *value, size_t size)
{
    for (size_t i = 0; i < size; i++)
        ((unsigned char *)value)[i] = bytes[big ? size - 1 - i : i];
}

static int struct_unpack(lua_State *L)
{
    struct format f = {.L = L, .p = luaL_checkstring(L, 1), .align = 1};
    size_t size_all;
    const unsigned char *data = (const unsigned char *)luaL_checklstring(L, 2, &size_all);
    lua_Number from = luaL_optnumber(L, 3, 1);
    luaL_argcheck(L, from >= 1 && from <= (lua_Number)size_all + 1, 2, "data string too short");
    size_t pos = (size_t)from - 1;
    struct item item;
    int results = 0;
    /* Values that are given so far stand at the top of the stack. */
    lua_settop(L, 2);
    while (next_item(&f, pos, &item)) {
        luaL_argcheck(L,
                      item.padding <= size_all - pos && item.size <= size_all - pos - item.padding,
                      2, "data string too short");
        pos += item.padding;
        luaL_checkstack(L, 2, "too many results");
        size_t size = item.size;
        const unsigned char *at = data + pos, *zero;
        double d;
        float single;
        switch (item.option) {
        case 'b':
        case 'B':
        case 'h':
        case 'H':
        case 'l':
        case 'L':
        case 'T':
        case 'i':
        case 'I':
            lua_pushnumber(L, get_integer(at, f.big, size, islower((unsigned char)item.option)));
            results++;
            break;
        case 'x':
            break;
        case 'f':
            get_float(at, f.big, &single, size);
            lua_pushnumber(L, single);
            results++;
            break;
        case 'd':
        case 'n':
            get_float(at, f.big, &d, size);
            lua_pushnumber(L, d);
            results++;
            break;
        case 'c':
            if (size == 0) {
                if (results == 0 || !lua_isnumber(L, -1))
                    return luaL_error(L, "format 'c0' needs a previous size");
                lua_Number given = lua_tonumber(L, -1);
                luaL_argcheck(L, given >= 0 && given <= (lua_Number)(size_all - pos), 2,
                              "data string too short");
                size = (size_t)given;
                lua_pop(L, 1);
                results--;
            }
            lua_pushlstring(L, (const char *)at, size);
            results++;
            break;
        case 's':
            zero = memchr(at, '\0', size_all - pos);
            if (zero == NULL)
                return luaL_error(L, "unfinished string in data");
            size = (size_t)(zero - at) + 1;
            lua_pushlstring(L, (const char *)at, size - 1);
            results++;
            break;
        default:
            control(&f, item.option);
        }
        pos += size;
    }
    lua_pushnumber(L, (lua_Number)pos + 1);
    return results + 1;
}

static int struct_size(lua_State *L)
{
    struct format f = {.L = L, .p = luaL_checkstring(L, 1), .align = 1};
    struct item item;
    size_t pos = 0;
    while (next_item(&f, pos, &item)) {
        pos += item.padding;
        if (item.option == 's')
            luaL_argerror(L, 1, "option 's' has no fixed size");
        else if (item.option == 'c' && item.size == 0)
            luaL_argerror(L, 1, "option 'c0' has no fixed size");
        if (strchr("bBhHlLTiIxfdnc", item.option) == NULL)
            control(&f, item.option);
        pos += item.size;
    }
    lua_pushnumber(L, (lua_Number)pos);
    return 1;
}

int open_struct(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"pack", struct_pack}, {"unpack", struct_unpack}, {"size", struct_size}, {NULL, NULL}};
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
