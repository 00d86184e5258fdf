/* SPDX-License-Identifier: BSD-3-Clause
 *
 * cjson: JSON (RFC 8259) with the interface and the messages of lua-cjson 2.1, as redis-server has
 * it. Tables with keys 1 to n are arrays, an empty table is an object; null is a light userdata of
 * NULL. The settings belong to the instance: `cjson`, or what cjson.new() gives; they are one
 * userdata, the first upvalue of its functions.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "script/engine.h"
#include "script/lua_bytes.h"

struct settings {
    int sparse_convert, sparse_ratio, sparse_safe;
    int encode_depth, decode_depth;
    int invalid_encode; /* 0 refused, 1 allowed, 2 null */
    int invalid_decode;
    int keep_buffer;
    int precision;
};

static struct settings *settings_of(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

/* Settings ------------------------------------------------------------------------------------- */

static int int_setting(lua_State *L, int *setting, int index, int low, int high)
{
    if (!lua_isnil(L, index)) {
        lua_Integer v = luaL_checkinteger(L, index);
        if (v < low || v > high) {
            char message[80];
            snprintf(message, sizeof(message), "expected integer between %d and %d", low, high);
            return luaL_argerror(L, index, message);
        }
        *setting = (int)v;
    }
    lua_pushinteger(L, *setting);
    return 1;
}

/* A boolean, or one of the other words. */
static int word_setting(lua_State *L, int *setting, int index, const char *third)
{
    const char *const options[] = {"off", "on", third, NULL};
    if (!lua_isnil(L, index)) {
        if (lua_isboolean(L, index))
            *setting = lua_toboolean(L, index);
        else
            *setting = luaL_checkoption(L, index, NULL, options);
    }
    if (*setting == 2)
        lua_pushstring(L, third);
    else
        lua_pushboolean(L, *setting);
    return 1;
}

static void check_count(lua_State *L, int most)
{
    if (lua_gettop(L) > most)
        luaL_argerror(L, most + 1, "found too many arguments");
    lua_settop(L, most);
}

static int json_sparse_array(lua_State *L)
{
    struct settings *s = settings_of(L);
    check_count(L, 3);
    word_setting(L, &s->sparse_convert, 1, NULL);
    int_setting(L, &s->sparse_ratio, 2, 0, INT32_MAX);
    int_setting(L, &s->sparse_safe, 3, 0, INT32_MAX);
    return 3;
}

static int json_encode_max_depth(lua_State *L)
{
    check_count(L, 1);
    return int_setting(L, &settings_of(L)->encode_depth, 1, 1, INT32_MAX);
}

static int json_decode_max_depth(lua_State *L)
{
    check_count(L, 1);
    return int_setting(L, &settings_of(L)->decode_depth, 1, 1, INT32_MAX);
}

static int json_number_precision(lua_State *L)
{
    check_count(L, 1);
    return int_setting(L, &settings_of(L)->precision, 1, 1, 14);
}

/* There is no buffer to be kept. */
static int json_keep_buffer(lua_State *L)
{
    check_count(L, 1);
    return word_setting(L, &settings_of(L)->keep_buffer, 1, NULL);
}

static int json_encode_invalid(lua_State *L)
{
    check_count(L, 1);
    return word_setting(L, &settings_of(L)->invalid_encode, 1, "null");
}

static int json_decode_invalid(lua_State *L)
{
    check_count(L, 1);
    return word_setting(L, &settings_of(L)->invalid_decode, 1, NULL);
}

/* Encoding ------------------------------------------------------------------------------------- */

struct encoder {
    lua_State *L;
    const struct settings *s;
    struct lua_bytes out;
};

static int refuse(struct encoder *e, int index, const char *reason)
{
    return luaL_error(e->L, "Cannot serialise %s: %s", luaL_typename(e->L, index), reason);
}

static void encode_string(struct encoder *e, const char *s, size_t size)
{
    static const char hex[] = "0123456789abcdef";
    lua_bytes_add_char(&e->out, '"');
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)s[i];
        static const char from[] = "\"\\/\b\t\n\f\r", to[] = "\"\\/btnfr";
        const char *found = c != 0 ? strchr(from, c) : NULL;
        char escaped[6] = {'\\'};
        if (found != NULL) {
            escaped[1] = to[found - from];
            lua_bytes_add(&e->out, escaped, 2);
        } else if (c < 32 || c == 127) {
            memcpy(escaped + 1, "u00", 3);
            escaped[4] = hex[c >> 4];
            escaped[5] = hex[c & 15];
            lua_bytes_add(&e->out, escaped, 6);
        } else {
            lua_bytes_add_char(&e->out, (char)c);
        }
    }
    lua_bytes_add_char(&e->out, '"');
}

static void encode_number(struct encoder *e, int index)
{
    lua_Number n = lua_tonumber(e->L, index);
    if (isnan(n) || isinf(n)) {
        if (e->s->invalid_encode == 0)
            refuse(e, index, "must not be NaN or Inf");
        if (e->s->invalid_encode == 2) {
            lua_bytes_add(&e->out, "null", 4);
            return;
        }
    }
    char text[64];
    int size = isnan(n) ? snprintf(text, sizeof(text), "%snan", signbit(n) ? "-" : "")
                        : snprintf(text, sizeof(text), "%.*g", e->s->precision, n);
    lua_bytes_add(&e->out, text, (size_t)size);
}

/* The length of an array, -1 for an object. The table is at the top. */
static int array_length(struct encoder *e)
{
    lua_State *L = e->L;
    lua_Number most = 0;
    int items = 0;
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        lua_pop(L, 1);
        lua_Number key = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : 0;
        if (!(key >= 1) || floor(key) != key) {
            lua_pop(L, 1);
            return -1;
        }
        if (key > most)
            most = key;
        items++;
    }
    const struct settings *s = e->s;
    if (s->sparse_ratio > 0 && most > (lua_Number)items * s->sparse_ratio &&
        most > s->sparse_safe) {
        if (!s->sparse_convert)
            refuse(e, -1, "excessively sparse array");
        return -1;
    }
    if (most > INT32_MAX - 1)
        refuse(e, -1, "excessively sparse array");
    return items == 0 ? -1 : (int)most;
}

static void encode_value(struct encoder *e, int depth);

static void check_depth(struct encoder *e, int depth)
{
    if (depth <= e->s->encode_depth && lua_checkstack(e->L, 5))
        return;
    luaL_error(e->L, "Cannot serialise, excessive nesting (%d)", depth);
}

static void encode_array(struct encoder *e, int depth, int length)
{
    lua_bytes_add_char(&e->out, '[');
    for (int i = 1; i <= length; i++) {
        if (i > 1)
            lua_bytes_add_char(&e->out, ',');
        lua_rawgeti(e->L, -1, i);
        encode_value(e, depth);
        lua_pop(e->L, 1);
    }
    lua_bytes_add_char(&e->out, ']');
}

static void encode_object(struct encoder *e, int depth)
{
    lua_State *L = e->L;
    bool first = true;
    lua_bytes_add_char(&e->out, '{');
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        if (!first)
            lua_bytes_add_char(&e->out, ',');
        first = false;
        size_t size;
        if (lua_type(L, -2) == LUA_TNUMBER) {
            lua_bytes_add_char(&e->out, '"');
            encode_number(e, -2);
            lua_bytes_add(&e->out, "\":", 2);
        } else if (lua_type(L, -2) == LUA_TSTRING) {
            const char *key = lua_tolstring(L, -2, &size);
            encode_string(e, key, size);
            lua_bytes_add_char(&e->out, ':');
        } else {
            refuse(e, -2, "table key must be a number or string");
        }
        encode_value(e, depth);
        lua_pop(L, 1);
    }
    lua_bytes_add_char(&e->out, '}');
}

/* The value at the top, which stays there. */
static void encode_value(struct encoder *e, int depth)
{
    lua_State *L = e->L;
    size_t size;
    const char *s;
    int length;
    switch (lua_type(L, -1)) {
    case LUA_TSTRING:
        s = lua_tolstring(L, -1, &size);
        encode_string(e, s, size);
        break;
    case LUA_TNUMBER:
        encode_number(e, -1);
        break;
    case LUA_TBOOLEAN:
        if (lua_toboolean(L, -1))
            lua_bytes_add(&e->out, "true", 4);
        else
            lua_bytes_add(&e->out, "false", 5);
        break;
    case LUA_TTABLE:
        check_depth(e, ++depth);
        length = array_length(e);
        if (length > 0)
            encode_array(e, depth, length);
        else
            encode_object(e, depth);
        break;
    case LUA_TNIL:
        lua_bytes_add(&e->out, "null", 4);
        break;
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(L, -1) == NULL) {
            lua_bytes_add(&e->out, "null", 4);
            break;
        }
        /* fall through */
    default:
        refuse(e, -1, "type not supported");
    }
}

static int json_encode(lua_State *L)
{
    struct encoder e = {.L = L, .s = settings_of(L)};
    luaL_argcheck(L, lua_gettop(L) == 1, 1, "expected 1 argument");
    lua_bytes_begin(&e.out, L);
    lua_pushvalue(L, 1);
    encode_value(&e, 0);
    lua_bytes_push(&e.out);
    return 1;
}

/* Decoding ------------------------------------------------------------------------------------- */

enum token {
    TOKEN_OBJECT_BEGIN,
    TOKEN_OBJECT_END,
    TOKEN_ARRAY_BEGIN,
    TOKEN_ARRAY_END,
    TOKEN_STRING,
    TOKEN_NUMBER,
    TOKEN_BOOLEAN,
    TOKEN_NULL,
    TOKEN_COLON,
    TOKEN_COMMA,
    TOKEN_END,
    TOKEN_ERROR
};
static const char *const token_names[] = {"T_OBJ_BEGIN", "T_OBJ_END", "T_ARR_BEGIN", "T_ARR_END",
                                          "T_STRING",    "T_NUMBER",  "T_BOOLEAN",   "T_NULL",
                                          "T_COLON",     "T_COMMA",   "T_END",       "T_ERROR"};

struct decoder {
    lua_State *L;
    const struct settings *s;
    const char *data; /* ends in a NUL that is not counted */
    size_t size, pos;
    int depth;
    struct lua_bytes string; /* a string without its escapes */
    enum token token;
    size_t token_at;
    lua_Number number;
    bool boolean;
    const char *problem; /* of TOKEN_ERROR */
};

static void token_error(struct decoder *d, const char *problem, size_t at)
{
    d->token = TOKEN_ERROR;
    d->problem = problem;
    d->token_at = at;
}

static int fail(struct decoder *d, const char *expected)
{
    const char *found = d->token == TOKEN_ERROR ? d->problem : token_names[d->token];
    return luaL_error(d->L, "Expected %s but found %s at character %d", expected, found,
                      (int)d->token_at + 1);
}

static int hex_digits(const char *p, size_t left)
{
    int v = 0;
    if (left < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return -1;
        v = v * 16 + digit;
    }
    return v;
}

static void add_utf8(struct lua_bytes *b, int v)
{
    char out[4];
    size_t n;
    if (v < 0x80) {
        out[0] = (char)v;
        n = 1;
    } else if (v < 0x800) {
        out[0] = (char)(0xc0 | v >> 6);
        out[1] = (char)(0x80 | (v & 0x3f));
        n = 2;
    } else if (v < 0x10000) {
        out[0] = (char)(0xe0 | v >> 12);
        out[1] = (char)(0x80 | (v >> 6 & 0x3f));
        out[2] = (char)(0x80 | (v & 0x3f));
        n = 3;
    } else {
        out[0] = (char)(0xf0 | v >> 18);
        out[1] = (char)(0x80 | (v >> 12 & 0x3f));
        out[2] = (char)(0x80 | (v >> 6 & 0x3f));
        out[3] = (char)(0x80 | (v & 0x3f));
        n = 4;
    }
    lua_bytes_add(b, out, n);
}

/* \uXXXX, or two of them that are one character. pos is at the backslash. */
static bool take_unicode(struct decoder *d)
{
    const char *p = d->data + d->pos;
    size_t left = d->size - d->pos;
    int v = hex_digits(p + 2, left - 2);
    if (v < 0)
        return false;
    d->pos += 6;
    if ((v & 0xf800) == 0xd800) {
        if (v & 0x400 || left < 12 || p[6] != '\\' || p[7] != 'u')
            return false;
        int low = hex_digits(p + 8, left - 8);
        if (low < 0 || (low & 0xfc00) != 0xdc00)
            return false;
        v = ((v & 0x3ff) << 10 | (low & 0x3ff)) + 0x10000;
        d->pos += 6;
    }
    add_utf8(&d->string, v);
    return true;
}

static void take_string(struct decoder *d)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    d->token = TOKEN_STRING;
    d->string.size = 0;
    d->pos++;
    for (;;) {
        if (d->pos >= d->size) {
            token_error(d, "unexpected end of string", d->pos);
            return;
        }
        char c = d->data[d->pos];
        if (c == '"')
            break;
        if (c != '\\') {
            lua_bytes_add_char(&d->string, c);
            d->pos++;
            continue;
        }
        char next = d->pos + 1 < d->size ? d->data[d->pos + 1] : '\0';
        const char *found = next != '\0' ? strchr(from, next) : NULL;
        if (next == 'u') {
            size_t at = d->pos;
            if (!take_unicode(d)) {
                token_error(d, "invalid unicode escape code", at);
                return;
            }
        } else if (found != NULL) {
            lua_bytes_add_char(&d->string, to[found - from]);
            d->pos += 2;
        } else {
            token_error(d, "invalid escape code", d->pos);
            return;
        }
    }
    d->pos++;
}

static bool begins_with(const struct decoder *d, const char *word)
{
    size_t n = strlen(word);
    return d->size - d->pos >= n && strncasecmp(d->data + d->pos, word, n) == 0;
}

/* Numbers that JSON does not have: other bases, infinity, leading zeros. */
static bool is_invalid_number(const struct decoder *d)
{
    const char *p = d->data + d->pos;
    if (*p == '+')
        return true;
    if (*p == '-')
        p++;
    if (*p == '0')
        return (p[1] | 0x20) == 'x' || (p[1] >= '0' && p[1] <= '9');
    if (*p >= '0' && *p <= '9')
        return false;
    return strncasecmp(p, "inf", 3) == 0 || strncasecmp(p, "nan", 3) == 0;
}

static void take_number(struct decoder *d)
{
    const char *begin = d->data + d->pos;
    char *end;
    if (!d->s->invalid_decode && is_invalid_number(d)) {
        token_error(d, "invalid number", d->pos);
        return;
    }
    d->number = strtod(begin, &end);
    if (end == begin) {
        token_error(d, "invalid number", d->pos);
        return;
    }
    d->token = TOKEN_NUMBER;
    d->pos += (size_t)(end - begin);
}

static void take_word(struct decoder *d)
{
    if (d->size - d->pos >= 4 && memcmp(d->data + d->pos, "true", 4) == 0) {
        d->token = TOKEN_BOOLEAN;
        d->boolean = true;
        d->pos += 4;
    } else if (d->size - d->pos >= 5 && memcmp(d->data + d->pos, "false", 5) == 0) {
        d->token = TOKEN_BOOLEAN;
        d->boolean = false;
        d->pos += 5;
    } else if (d->size - d->pos >= 4 && memcmp(d->data + d->pos, "null", 4) == 0) {
        d->token = TOKEN_NULL;
        d->pos += 4;
    } else if (d->s->invalid_decode && (begins_with(d, "inf") || begins_with(d, "nan"))) {
        take_number(d);
    } else {
        token_error(d, "invalid token", d->pos);
    }
}

static void next_token(struct decoder *d)
{
    static const char singles[] = "{}[]:,";
    static const enum token tokens[] = {TOKEN_OBJECT_BEGIN, TOKEN_OBJECT_END, TOKEN_ARRAY_BEGIN,
                                        TOKEN_ARRAY_END,    TOKEN_COLON,      TOKEN_COMMA};
    while (d->pos < d->size && d->data[d->pos] != '\0' &&
           strchr(" \t\n\r", d->data[d->pos]) != NULL)
        d->pos++;
    d->token_at = d->pos;
    if (d->pos >= d->size) {
        d->token = TOKEN_END;
        return;
    }
    char c = d->data[d->pos];
    const char *single = c != '\0' ? strchr(singles, c) : NULL;
    if (single != NULL) {
        d->token = tokens[single - singles];
        d->pos++;
    } else if (c == '"') {
        take_string(d);
    } else if (c == '-' || (c >= '0' && c <= '9') || (c == '+' && d->s->invalid_decode)) {
        take_number(d);
    } else {
        take_word(d);
    }
}

static void decode_value(struct decoder *d);

static void deeper(struct decoder *d)
{
    d->depth++;
    if (d->depth <= d->s->decode_depth && lua_checkstack(d->L, 5))
        return;
    luaL_error(d->L, "Found too many nested data structures (%d) at character %d", d->depth,
               (int)d->pos);
}

static void decode_object(struct decoder *d)
{
    lua_State *L = d->L;
    deeper(d);
    lua_newtable(L);
    next_token(d);
    if (d->token == TOKEN_OBJECT_END) {
        d->depth--;
        return;
    }
    for (;;) {
        if (d->token != TOKEN_STRING)
            fail(d, "object key string");
        lua_pushlstring(L, d->string.data, d->string.size);
        next_token(d);
        if (d->token != TOKEN_COLON)
            fail(d, "colon");
        next_token(d);
        decode_value(d);
        lua_rawset(L, -3);
        next_token(d);
        if (d->token == TOKEN_OBJECT_END)
            break;
        if (d->token != TOKEN_COMMA)
            fail(d, "comma or object end");
        next_token(d);
    }
    d->depth--;
}

static void decode_array(struct decoder *d)
{
    lua_State *L = d->L;
    deeper(d);
    lua_newtable(L);
    next_token(d);
    for (int i = 1; d->token != TOKEN_ARRAY_END || i > 1; i++) {
        decode_value(d);
        lua_rawseti(L, -2, i);
        next_token(d);
        if (d->token == TOKEN_ARRAY_END)
            break;
        if (d->token != TOKEN_COMMA)
            fail(d, "comma or array end");
        next_token(d);
    }
    d->depth--;
}

static void decode_value(struct decoder *d)
{
    lua_State *L = d->L;
    switch (d->token) {
    case TOKEN_STRING:
        lua_pushlstring(L, d->string.data, d->string.size);
        break;
    case TOKEN_NUMBER:
        lua_pushnumber(L, d->number);
        break;
    case TOKEN_BOOLEAN:
        lua_pushboolean(L, d->boolean);
        break;
    case TOKEN_NULL:
        lua_pushlightuserdata(L, NULL);
        break;
    case TOKEN_OBJECT_BEGIN:
        decode_object(d);
        break;
    case TOKEN_ARRAY_BEGIN:
        decode_array(d);
        break;
    default:
        fail(d, "value");
    }
}

static int json_decode(lua_State *L)
{
    struct decoder d = {.L = L, .s = settings_of(L)};
    luaL_argcheck(L, lua_gettop(L) == 1, 1, "expected 1 argument");
    d.data = luaL_checklstring(L, 1, &d.size);
    if (d.size >= 2 && (d.data[0] == '\0' || d.data[1] == '\0'))
        return luaL_error(L, "JSON parser does not support UTF-16 or UTF-32");
    lua_bytes_begin(&d.string, L);
    next_token(&d);
    decode_value(&d);
    next_token(&d);
    if (d.token != TOKEN_END)
        fail(&d, "the end");
    return 1;
}

/* Instances ------------------------------------------------------------------------------------ */

static int json_new(lua_State *L)
{
    static const luaL_Reg functions[] = {{"encode", json_encode},
                                         {"decode", json_decode},
                                         {"encode_sparse_array", json_sparse_array},
                                         {"encode_max_depth", json_encode_max_depth},
                                         {"decode_max_depth", json_decode_max_depth},
                                         {"encode_number_precision", json_number_precision},
                                         {"encode_keep_buffer", json_keep_buffer},
                                         {"encode_invalid_numbers", json_encode_invalid},
                                         {"decode_invalid_numbers", json_decode_invalid},
                                         {"new", json_new},
                                         {NULL, NULL}};
    lua_newtable(L);
    struct settings *s = lua_newuserdata(L, sizeof(*s));
    *s = (struct settings){.sparse_ratio = 2,
                           .sparse_safe = 10,
                           .encode_depth = 1000,
                           .decode_depth = 1000,
                           .invalid_decode = 1,
                           .keep_buffer = 1,
                           .precision = 14};
    for (const luaL_Reg *f = functions; f->name != NULL; f++) {
        lua_pushvalue(L, -1);
        lua_pushcclosure(L, f->func, 1);
        lua_setfield(L, -3, f->name);
    }
    lua_pop(L, 1);
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "null");
    lua_pushliteral(L, "cjson");
    lua_setfield(L, -2, "_NAME");
    lua_pushliteral(L, "2.1.0");
    lua_setfield(L, -2, "_VERSION");
    return 1;
}

int open_cjson(lua_State *L)
{
    return json_new(L);
}
