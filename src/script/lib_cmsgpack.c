/* SPDX-License-Identifier: BSD-3-Clause
 *
 * cmsgpack: MessagePack (https://github.com/msgpack/msgpack/blob/master/spec-old.md), with the
 * interface of lua-cmsgpack 0.4: whole numbers become integers, others the shortest float that
 * holds them, tables with the keys 1 to n arrays. What has no form becomes nil.
 */
#include <math.h>

#include "script/engine.h"
#include "script/lua_bytes.h"

/* Tables within tables; what is deeper becomes nil. */
#define NESTING_MAX 16

/* Packing -------------------------------------------------------------------------------------- */

static void put(struct lua_bytes *b, unsigned char code, uint64_t v, int size)
{
    unsigned char bytes[9] = {code};
    for (int i = size; i > 0; i--) {
        bytes[i] = (unsigned char)v;
        v >>= 8;
    }
    lua_bytes_add(b, (const char *)bytes, (size_t)size + 1);
}

static void put_string(struct lua_bytes *b, const char *s, size_t size)
{
    if (size < 32)
        put(b, (unsigned char)(0xa0 | size), 0, 0);
    else if (size <= 0xff)
        put(b, 0xd9, size, 1);
    else if (size <= 0xffff)
        put(b, 0xda, size, 2);
    else
        put(b, 0xdb, size, 4);
    lua_bytes_add(b, s, size);
}

static void put_integer(struct lua_bytes *b, int64_t n)
{
    if (n >= 0 && n <= 127)
        put(b, (unsigned char)n, 0, 0);
    else if (n >= 0 && n <= 0xff)
        put(b, 0xcc, (uint64_t)n, 1);
    else if (n >= 0 && n <= 0xffff)
        put(b, 0xcd, (uint64_t)n, 2);
    else if (n >= 0 && n <= 0xffffffffLL)
        put(b, 0xce, (uint64_t)n, 4);
    else if (n >= 0)
        put(b, 0xcf, (uint64_t)n, 8);
    else if (n >= -32)
        put(b, (unsigned char)n, 0, 0);
    else if (n >= -128)
        put(b, 0xd0, (uint64_t)n, 1);
    else if (n >= -32768)
        put(b, 0xd1, (uint64_t)n, 2);
    else if (n >= INT32_MIN)
        put(b, 0xd2, (uint64_t)n, 4);
    else
        put(b, 0xd3, (uint64_t)n, 8);
}

static void put_number(struct lua_bytes *b, lua_Number n)
{
    if (n >= -0x1p63 && n < 0x1p63 && n == floor(n)) {
        put_integer(b, (int64_t)n);
        return;
    }
    float single = (float)n;
    uint32_t bits32;
    uint64_t bits64;
    memcpy(&bits32, &single, sizeof(bits32));
    memcpy(&bits64, &n, sizeof(bits64));
    if ((lua_Number)single == n)
        put(b, 0xca, bits32, 4);
    else
        put(b, 0xcb, bits64, 8);
}

static void put_count(struct lua_bytes *b, size_t count, unsigned char few, unsigned char many)
{
    if (count < 16)
        put(b, (unsigned char)(few | count), 0, 0);
    else if (count <= 0xffff)
        put(b, many, count, 2);
    else
        put(b, (unsigned char)(many + 1), count, 4);
}

/* The keys are 1 to n, in whatever order: then the table is an array. */
static bool is_array(lua_State *L, int table, size_t *pairs)
{
    bool array = true;
    lua_Number most = 0;
    *pairs = 0;
    lua_pushnil(L);
    while (lua_next(L, table)) {
        lua_pop(L, 1);
        ++*pairs;
        lua_Number key = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : -1;
        if (!(key > 0) || key != floor(key))
            array = false;
        else if (key > most)
            most = key;
    }
    return array && most == (lua_Number)*pairs;
}

static void put_value(lua_State *L, struct lua_bytes *b, int index, int level);

static void put_table(lua_State *L, struct lua_bytes *b, int table, int level)
{
    size_t pairs;
    luaL_checkstack(L, 6, "in function table_to_msgpack");
    if (is_array(L, table, &pairs)) {
        put_count(b, pairs, 0x90, 0xdc);
        for (size_t i = 1; i <= pairs; i++) {
            lua_rawgeti(L, table, (int)i);
            put_value(L, b, lua_gettop(L), level + 1);
            lua_pop(L, 1);
        }
        return;
    }
    put_count(b, pairs, 0x80, 0xde);
    lua_pushnil(L);
    while (lua_next(L, table)) {
        int value = lua_gettop(L);
        put_value(L, b, value - 1, level + 1);
        put_value(L, b, value, level + 1);
        lua_pop(L, 1);
    }
}

static void put_value(lua_State *L, struct lua_bytes *b, int index, int level)
{
    size_t size;
    const char *s;
    switch (lua_type(L, index)) {
    case LUA_TSTRING:
        s = lua_tolstring(L, index, &size);
        put_string(b, s, size);
        break;
    case LUA_TBOOLEAN:
        put(b, lua_toboolean(L, index) ? 0xc3 : 0xc2, 0, 0);
        break;
    case LUA_TNUMBER:
        put_number(b, lua_tonumber(L, index));
        break;
    case LUA_TTABLE:
        if (level < NESTING_MAX) {
            put_table(L, b, index, level);
            break;
        }
        put(b, 0xc0, 0, 0);
        break;
    default:
        put(b, 0xc0, 0, 0);
    }
}

static int msgpack_pack(lua_State *L)
{
    int count = lua_gettop(L);
    if (count == 0)
        return luaL_argerror(L, 0, "MessagePack pack needs input.");
    struct lua_bytes b;
    lua_bytes_begin(&b, L);
    for (int i = 1; i <= count; i++)
        put_value(L, &b, i, 0);
    lua_bytes_push(&b);
    return 1;
}

/* Unpacking ------------------------------------------------------------------------------------ */

struct input {
    lua_State *L;
    const unsigned char *p;
    size_t left;
};

static const unsigned char *take(struct input *in, size_t size)
{
    if (size > in->left)
        luaL_error(in->L, "Missing bytes in input.");
    const unsigned char *p = in->p;
    in->p += size;
    in->left -= size;
    return p;
}

static uint64_t take_uint(struct input *in, size_t size)
{
    const unsigned char *p = take(in, size);
    uint64_t v = 0;
    for (size_t i = 0; i < size; i++)
        v = v << 8 | p[i];
    return v;
}

static void take_string(struct input *in, size_t size)
{
    const unsigned char *p = take(in, size);
    lua_pushlstring(in->L, (const char *)p, size);
}

static void take_value(struct input *in);

static void take_array(struct input *in, size_t count)
{
    lua_State *L = in->L;
    lua_newtable(L);
    for (size_t i = 1; i <= count; i++) {
        take_value(in);
        lua_rawseti(L, -2, (int)i);
    }
}

static void take_map(struct input *in, size_t pairs)
{
    lua_State *L = in->L;
    lua_newtable(L);
    for (size_t i = 0; i < pairs; i++) {
        take_value(in);
        take_value(in);
        lua_rawset(L, -3); /* an error for a key that no table can have: nil, NaN */
    }
}

static void take_float(struct input *in, bool single)
{
    if (single) {
        uint32_t bits = (uint32_t)take_uint(in, 4);
        float f;
        memcpy(&f, &bits, sizeof(f));
        lua_pushnumber(in->L, f);
    } else {
        uint64_t bits = take_uint(in, 8);
        double d;
        memcpy(&d, &bits, sizeof(d));
        lua_pushnumber(in->L, d);
    }
}

static void take_value(struct input *in)
{
    lua_State *L = in->L;
    luaL_checkstack(L, 4,
                    "too many return values at once; use unpack_one or unpack_limit instead.");
    unsigned char code = *take(in, 1);
    if (code <= 0x7f) {
        lua_pushnumber(L, code);
    } else if (code >= 0xe0) {
        lua_pushnumber(L, (signed char)code);
    } else if (code <= 0x8f) {
        take_map(in, code & 0xf);
    } else if (code <= 0x9f) {
        take_array(in, code & 0xf);
    } else if (code <= 0xbf) {
        take_string(in, code & 0x1f);
    } else {
        switch (code) {
        case 0xc0:
            lua_pushnil(L);
            break;
        case 0xc2:
        case 0xc3:
            lua_pushboolean(L, code == 0xc3);
            break;
        case 0xca:
        case 0xcb:
            take_float(in, code == 0xca);
            break;
        case 0xcc:
        case 0xcd:
        case 0xce:
        case 0xcf:
            /* Also 64 bits are taken as signed: so it has always been. */
            lua_pushnumber(L, (lua_Number)(int64_t)take_uint(in, (size_t)1 << (code - 0xcc)));
            break;
        case 0xd0:
            lua_pushnumber(L, (lua_Number)(int8_t)take_uint(in, 1));
            break;
        case 0xd1:
            lua_pushnumber(L, (lua_Number)(int16_t)take_uint(in, 2));
            break;
        case 0xd2:
            lua_pushnumber(L, (lua_Number)(int32_t)take_uint(in, 4));
            break;
        case 0xd3:
            lua_pushnumber(L, (lua_Number)(int64_t)take_uint(in, 8));
            break;
        case 0xd9:
        case 0xda:
        case 0xdb:
            take_string(in, (size_t)take_uint(in, (size_t)1 << (code - 0xd9)));
            break;
        case 0xdc:
        case 0xdd:
            take_array(in, (size_t)take_uint(in, code == 0xdc ? 2 : 4));
            break;
        case 0xde:
        case 0xdf:
            take_map(in, (size_t)take_uint(in, code == 0xde ? 2 : 4));
            break;
        default:
            luaL_error(L, "Bad data format in input.");
        }
    }
}

/* limit 0: everything; else so many values, behind the offset of what follows, -1 at the end. */
static int unpack(lua_State *L, int limit, int offset)
{
    size_t size;
    const char *s = luaL_checklstring(L, 1, &size);
    if (offset < 0 || limit < 0)
        return luaL_error(L, "Invalid request to unpack with offset of %d and limit of %d.", offset,
                          (int)size);
    if ((size_t)offset > size)
        return luaL_error(L, "Start offset %d greater than input length %d.", offset, (int)size);
    bool all = limit == 0 && offset == 0;
    struct input in = {L, (const unsigned char *)s + offset, size - (size_t)offset};
    lua_settop(L, 1);
    lua_pushnil(L); /* for the offset */
    int count = 0;
    while (in.left > 0 && (limit == 0 || count < limit)) {
        take_value(&in);
        count++;
    }
    if (all)
        return count;
    lua_pushinteger(L, in.left == 0 ? -1 : (lua_Integer)(size - in.left));
    lua_replace(L, 2);
    return count + 1;
}

static int msgpack_unpack(lua_State *L)
{
    return unpack(L, 0, 0);
}

static int msgpack_unpack_one(lua_State *L)
{
    return unpack(L, 1, luaL_optint(L, 2, 0));
}

static int msgpack_unpack_limit(lua_State *L)
{
    return unpack(L, luaL_checkint(L, 2), luaL_optint(L, 3, 0));
}

int open_cmsgpack(lua_State *L)
{
    static const luaL_Reg functions[] = {{"pack", msgpack_pack},
                                         {"unpack", msgpack_unpack},
                                         {"unpack_one", msgpack_unpack_one},
                                         {"unpack_limit", msgpack_unpack_limit},
                                         {NULL, NULL}};
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    lua_pushliteral(L, "cmsgpack");
    lua_setfield(L, -2, "_NAME");
    lua_pushliteral(L, "lua-cmsgpack 0.4.0");
    lua_setfield(L, -2, "_VERSION");
    lua_pushliteral(L, "MessagePack for scripts");
    lua_setfield(L, -2, "_DESCRIPTION");
    return 1;
}
