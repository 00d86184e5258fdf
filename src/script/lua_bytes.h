/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Bytes that grow, in a block that belongs to Lua: it is counted as a script's memory, and
 * collected also when an error passes by. The block stands in a slot of the stack that its owner
 * keeps, so that, unlike with luaL_Buffer, the stack above is free for walking over tables.
 */
#ifndef HF_SCRIPT_LUA_BYTES_H
#define HF_SCRIPT_LUA_BYTES_H

#include <string.h>

#include <lauxlib.h>
#include <lua.h>

struct lua_bytes {
    lua_State *L;
    int slot;
    char *data;
    size_t size, capacity;
};

/* Takes the next slot of the stack. */
static inline void lua_bytes_begin(struct lua_bytes *b, lua_State *L)
{
    *b = (struct lua_bytes){.L = L, .capacity = 256};
    b->data = lua_newuserdata(L, b->capacity);
    b->slot = lua_gettop(L);
}

/* Room for so many bytes more; b->size is to be raised by whoever puts them there. */
static inline char *lua_bytes_reserve(struct lua_bytes *b, size_t more)
{
    if (more > b->capacity - b->size) {
        if (more > ((size_t)1 << 31))
            luaL_error(b->L, "too much data");
        size_t capacity = 2 * (b->size + more);
        char *data = lua_newuserdata(b->L, capacity);
        memcpy(data, b->data, b->size);
        lua_replace(b->L, b->slot);
        b->data = data;
        b->capacity = capacity;
    }
    return b->data + b->size;
}

static inline void lua_bytes_add(struct lua_bytes *b, const void *bytes, size_t size)
{
    char *to = lua_bytes_reserve(b, size);
    if (size != 0)
        memcpy(to, bytes, size);
    b->size += size;
}

static inline void lua_bytes_add_char(struct lua_bytes *b, char c)
{
    *lua_bytes_reserve(b, 1) = c;
    b->size++;
}

static inline void lua_bytes_push(struct lua_bytes *b)
{
    lua_pushlstring(b->L, b->data, b->size);
}

#endif
