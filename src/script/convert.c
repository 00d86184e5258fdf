/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Replies to Lua values, and Lua values to replies, as redis-server does:
 *
 *     integer            number                number (its whole part)  integer
 *     bulk string        string                string                   bulk string
 *     null               false; RESP3: nil     false, nil, functions    null
 *     status, error      {ok=}, {err=}         {ok=}, {err=}            status, error
 *     array              {1, 2, ...}           a table up to its first nil: array
 *     RESP3: map, set    {map={}}, {set={}}    {map=}, {set=}, {double=}, {big_number=},
 *     double ...         {double=} ...         {verbatim_string={format=, string=}}, booleans
 */
#include <math.h>
#include <stdlib.h>

#include "base/number.h"
#include "script/engine.h"

/* RESP to Lua ---------------------------------------------------------------------------------- */

/* The bytes are our own reply: they are whole and right. */
struct input {
    const char *p;
};

static struct slice take_line(struct input *in)
{
    const char *begin = in->p, *end = begin;
    while (*end != '\r')
        end++;
    in->p = end + 2;
    return slice_of(begin, (size_t)(end - begin));
}

static int64_t take_int(struct input *in)
{
    int64_t v = 0;
    number_parse_int64(take_line(in), &v);
    return v;
}

static void push_field(lua_State *L, const char *name, struct slice value)
{
    lua_newtable(L);
    lua_pushlstring(L, value.data, value.size);
    lua_setfield(L, -2, name);
}

static void push_value(lua_State *L, struct input *in);

static void push_array(lua_State *L, struct input *in, int64_t count)
{
    lua_createtable(L, count < 1024 * 1024 ? (int)count : 1024 * 1024, 0);
    for (int64_t i = 1; i <= count; i++) {
        push_value(L, in);
        lua_rawseti(L, -2, (int)i);
    }
}

static void push_map(lua_State *L, struct input *in, int64_t pairs)
{
    lua_createtable(L, 0, 1);
    lua_newtable(L);
    for (int64_t i = 0; i < pairs; i++) {
        push_value(L, in);
        push_value(L, in);
        if (lua_isnil(L, -2))
            lua_pop(L, 2);
        else
            lua_rawset(L, -3);
    }
    lua_setfield(L, -2, "map");
}

static void push_set(lua_State *L, struct input *in, int64_t count)
{
    lua_createtable(L, 0, 1);
    lua_newtable(L);
    for (int64_t i = 0; i < count; i++) {
        push_value(L, in);
        if (lua_isnil(L, -1)) {
            lua_pop(L, 1);
            continue;
        }
        lua_pushboolean(L, 1);
        lua_rawset(L, -3);
    }
    lua_setfield(L, -2, "set");
}

static void push_bulk(lua_State *L, struct input *in, int64_t size)
{
    if (size < 0) {
        lua_pushboolean(L, 0);
        return;
    }
    lua_pushlstring(L, in->p, (size_t)size);
    in->p += size + 2;
}

static void push_verbatim(lua_State *L, struct input *in, int64_t size)
{
    lua_createtable(L, 0, 1);
    lua_createtable(L, 0, 2);
    lua_pushlstring(L, in->p, 3);
    lua_setfield(L, -2, "format");
    lua_pushlstring(L, in->p + 4, (size_t)size - 4);
    lua_setfield(L, -2, "string");
    lua_setfield(L, -2, "verbatim_string");
    in->p += size + 2;
}

static void push_double(lua_State *L, struct slice text)
{
    char copy[64];
    size_t n = text.size < sizeof(copy) - 1 ? text.size : sizeof(copy) - 1;
    memcpy(copy, text.data, n);
    copy[n] = '\0';
    lua_createtable(L, 0, 1);
    lua_pushnumber(L, strtod(copy, NULL));
    lua_setfield(L, -2, "double");
}

static void push_aggregate(lua_State *L, struct input *in, char kind)
{
    int64_t count = take_int(in);
    if (count < 0) {
        lua_pushboolean(L, 0);
        return;
    }
    if (kind == '%')
        push_map(L, in, count);
    else if (kind == '~')
        push_set(L, in, count);
    else
        push_array(L, in, count);
}

static void push_value(lua_State *L, struct input *in)
{
    luaL_checkstack(L, 8, "reply is nested too deeply");
    char kind = *in->p++;
    switch (kind) {
    case ':':
        lua_pushnumber(L, (lua_Number)take_int(in));
        break;
    case '$':
        push_bulk(L, in, take_int(in));
        break;
    case '+':
        push_field(L, "ok", take_line(in));
        break;
    case '-':
        push_field(L, "err", take_line(in));
        lua_pushboolean(L, true);
        lua_setfield(L, -2, ENGINE_COUNTED);
        break;
    case '=':
        push_verbatim(L, in, take_int(in));
        break;
    case '#':
        lua_pushboolean(L, take_line(in).data[0] == 't');
        break;
    case ',':
        push_double(L, take_line(in));
        break;
    case '(':
        push_field(L, "big_number", take_line(in));
        break;
    case '_':
        take_line(in);
        lua_pushnil(L);
        break;
    default:
        push_aggregate(L, in, kind);
    }
}

void convert_reply_to_lua(lua_State *L, struct slice reply)
{
    struct input in = {reply.data};
    push_value(L, &in);
}

/* Lua to RESP ---------------------------------------------------------------------------------- */

struct output {
    lua_State *L;
    struct reply *reply;
    int protocol;    /* of the script: redis.setresp */
    bool given_up;   /* nested too deeply, or too large: what is left becomes null */
    size_t size_end; /* of the output, that must not be passed */
};

/* A table that holds another twice, and so on, is small but its reply is not. */
#define REPLY_MAX ((size_t)512 * 1024 * 1024)

static void write_value(struct output *o);

static void note_own_error(const struct output *o)
{
    const struct script_engine *e = engine_of(o->L);
    if (e->host.own_error != NULL)
        e->host.own_error(e->host.ctx, o->reply->last_error);
}

/* The field of the table at the top is pushed if it is of that type. */
static bool has_field(lua_State *L, const char *name, int type)
{
    lua_pushstring(L, name);
    lua_rawget(L, -2);
    if (lua_type(L, -1) == type)
        return true;
    lua_pop(L, 1);
    return false;
}

/* As one line. */
static void write_line(struct output *o, bool error)
{
    size_t size;
    const char *s = lua_tolstring(o->L, -1, &size);
    if (error) {
        reply_errorf(o->reply, "%s", s);
    } else {
        struct text line = {0};
        text_append(&line, s, strlen(s));
        for (size_t i = 0; i < line.size; i++) {
            if (line.data[i] == '\r' || line.data[i] == '\n')
                line.data[i] = ' ';
        }
        reply_simple(o->reply, text_cstr(&line));
        text_free(&line);
    }
    lua_pop(o->L, 1);
    if (error && !engine_is_counted(o->L))
        note_own_error(o);
    lua_pop(o->L, 1);
}

static void write_pairs(struct output *o, bool map)
{
    lua_State *L = o->L;
    size_t count = 0;
    struct reply_mark mark = reply_deferred_begin(o->reply);
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        count++;
        lua_pushvalue(L, -2);
        write_value(o);
        if (map)
            write_value(o);
        else
            lua_pop(L, 1);
    }
    if (map)
        reply_deferred_map(o->reply, mark, count);
    else
        reply_deferred_set(o->reply, mark, count);
    lua_pop(L, 2);
}

static bool write_verbatim(struct output *o)
{
    lua_State *L = o->L;
    if (!has_field(L, "format", LUA_TSTRING))
        return false;
    char format[4] = "   ";
    strncpy(format, lua_tostring(L, -1), 3);
    lua_pop(L, 1);
    if (!has_field(L, "string", LUA_TSTRING))
        return false;
    size_t size;
    const char *s = lua_tolstring(L, -1, &size);
    reply_verbatim(o->reply, slice_of(s, size), format);
    lua_pop(L, 3);
    return true;
}

static void write_big_number(struct output *o)
{
    struct text digits = {0};
    size_t size;
    const char *s = lua_tolstring(o->L, -1, &size);
    text_append(&digits, s, size);
    for (size_t i = 0; i < size; i++) {
        if (s[i] == '\r' || s[i] == '\n')
            digits.data[i] = ' ';
    }
    reply_bignum(o->reply, text_slice(&digits));
    text_free(&digits);
    lua_pop(o->L, 2);
}

static void write_array(struct output *o)
{
    lua_State *L = o->L;
    size_t count = 0;
    struct reply_mark mark = reply_deferred_begin(o->reply);
    for (int i = 1;; i++) {
        lua_rawgeti(L, -1, i);
        if (lua_isnil(L, -1)) {
            lua_pop(L, 1);
            break;
        }
        write_value(o);
        count++;
    }
    reply_deferred_array(o->reply, mark, count);
    lua_pop(L, 1);
}

static void write_table(struct output *o)
{
    lua_State *L = o->L;
    if (has_field(L, "err", LUA_TSTRING)) {
        write_line(o, true);
    } else if (has_field(L, "ok", LUA_TSTRING)) {
        write_line(o, false);
    } else if (has_field(L, "double", LUA_TNUMBER)) {
        reply_double(o->reply, lua_tonumber(L, -1));
        lua_pop(L, 2);
    } else if (has_field(L, "map", LUA_TTABLE)) {
        write_pairs(o, true);
    } else if (has_field(L, "set", LUA_TTABLE)) {
        write_pairs(o, false);
    } else if (has_field(L, "big_number", LUA_TSTRING)) {
        write_big_number(o);
    } else if (has_field(L, "verbatim_string", LUA_TTABLE)) {
        if (write_verbatim(o))
            return;
        lua_pop(L, 1);
        write_array(o);
    } else {
        write_array(o);
    }
}

/* As the processor converts: what has no place becomes the least integer. */
static int64_t whole_part(lua_Number n)
{
    return n >= -0x1p63 && n < 0x1p63 ? (int64_t)n : INT64_MIN;
}

static void write_value(struct output *o)
{
    lua_State *L = o->L;
    if (o->given_up) {
        reply_null(o->reply);
        lua_pop(L, 1);
        return;
    }
    if (!lua_checkstack(L, 6) || outbuf_size(o->reply->out) > o->size_end) {
        o->given_up = true;
        reply_error(o->reply, "ERR reached lua stack limit");
        note_own_error(o);
        lua_pop(L, 1);
        return;
    }
    size_t size;
    const char *s;
    switch (lua_type(L, -1)) {
    case LUA_TSTRING:
        s = lua_tolstring(L, -1, &size);
        reply_bulk(o->reply, slice_of(s, size));
        break;
    case LUA_TBOOLEAN:
        if (o->protocol == 3)
            reply_bool(o->reply, lua_toboolean(L, -1));
        else if (lua_toboolean(L, -1))
            reply_int(o->reply, 1);
        else
            reply_null(o->reply);
        break;
    case LUA_TNUMBER:
        reply_int(o->reply, whole_part(lua_tonumber(L, -1)));
        break;
    case LUA_TTABLE:
        write_table(o);
        return;
    default:
        reply_null(o->reply);
    }
    lua_pop(L, 1);
}

void convert_lua_to_reply(lua_State *L, struct reply *reply, int script_protocol)
{
    struct output o = {.L = L,
                       .reply = reply,
                       .protocol = script_protocol,
                       .size_end = outbuf_size(reply->out) + REPLY_MAX};
    write_value(&o);
}
