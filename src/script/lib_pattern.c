/* SPDX-License-Identifier: BSD-3-Clause
 *
 * find, match, gmatch and gsub of Lua 5.1 (its manual, 5.4.1) with a matcher that can be
 * interrupted: a pattern may try more ways than time allows ("a*a*a*a*b"), and the library's own
 * matcher asks nobody until it is done. This one counts what it does and lets the host look at the
 * clock, as the hook does for instructions. Results and errors are those of the library.
 *
 * A pattern ends at its first zero byte, as in Lua 5.1.
 */
#include <ctype.h>
#include <string.h>

#include "script/engine.h"

/* The matcher calls itself once for each item of the pattern: more would need too much stack. */
#define PATTERN_MAX 16384
#define CAPTURES_MAX 32
/* Steps between two looks at the clock: about half a millisecond. */
#define STEPS 100000

/* Lengths of captures that are none. */
#define OPEN ((size_t)-1)
#define POSITION ((size_t)-2)

#define ESCAPE '%'

struct matcher {
    lua_State *L;
    const char *begin, *end; /* the subject; a zero byte stands behind it */
    int *steps; /* the engine's: many short matches are as long as one long one */
    int count;
    struct {
        const char *at;
        size_t size;
    } captures[CAPTURES_MAX];
};

static const char *match(struct matcher *m, const char *s, const char *p);

static inline void step(struct matcher *m)
{
    if (__builtin_expect(--*m->steps <= 0, 0)) {
        *m->steps = STEPS;
        engine_look(m->L);
    }
}

/* Single characters ---------------------------------------------------------------------------- */

/* The end of the item that describes one character: `.`, `x`, `%a`, `[...]`. */
static const char *item_end(struct matcher *m, const char *p)
{
    char first = *p++;
    if (first == ESCAPE) {
        if (*p == '\0')
            luaL_error(m->L, "malformed pattern (ends with " LUA_QL("%%") ")");
        return p + 1;
    }
    if (first != '[')
        return p;
    if (*p == '^')
        p++;
    /* A bracket that comes first is a member of the set. */
    do {
        if (*p == '\0')
            luaL_error(m->L, "malformed pattern (missing " LUA_QL("]") ")");
        if (*p++ == ESCAPE && *p != '\0')
            p++;
    } while (*p != ']');
    return p + 1;
}

/* `c` against what stands behind a percent sign: a class, its complement in upper case, or
 * itself. */
static bool in_class(int c, int class)
{
    bool is;
    switch (tolower(class)) {
    case 'a':
        is = isalpha(c);
        break;
    case 'c':
        is = iscntrl(c);
        break;
    case 'd':
        is = isdigit(c);
        break;
    case 'l':
        is = islower(c);
        break;
    case 'p':
        is = ispunct(c);
        break;
    case 's':
        is = isspace(c);
        break;
    case 'u':
        is = isupper(c);
        break;
    case 'w':
        is = isalnum(c);
        break;
    case 'x':
        is = isxdigit(c);
        break;
    case 'z':
        is = c == 0;
        break;
    default:
        return class == c;
    }
    return is != (isupper(class) != 0);
}

/* `c` against a set; p is at its bracket, `last` at the one that closes it. */
static bool in_set(int c, const char *p, const char *last)
{
    bool wanted = true;
    if (*++p == '^') {
        wanted = false;
        p++;
    }
    for (; p < last; p++) {
        if (*p == ESCAPE) {
            p++;
            if (in_class(c, (unsigned char)*p))
                return wanted;
        } else if (p[1] == '-' && p + 2 < last) {
            if ((unsigned char)p[0] <= c && c <= (unsigned char)p[2])
                return wanted;
            p += 2;
        } else if ((unsigned char)*p == c) {
            return wanted;
        }
    }
    return !wanted;
}

static bool fits(int c, const char *item, const char *end)
{
    switch (*item) {
    case '.':
        return true;
    case ESCAPE:
        return in_class(c, (unsigned char)item[1]);
    case '[':
        return in_set(c, item, end - 1);
    default:
        return (unsigned char)*item == c;
    }
}

static bool fits_at(const struct matcher *m, const char *s, const char *item, const char *end)
{
    return s < m->end && fits((unsigned char)*s, item, end);
}

/* Items of a pattern --------------------------------------------------------------------------- */

/* %bxy: from an x to the y that belongs to it. */
static const char *match_balanced(struct matcher *m, const char *s, const char *p)
{
    if (p[0] == '\0' || p[1] == '\0')
        luaL_error(m->L, "unbalanced pattern");
    if (*s != p[0])
        return NULL;
    size_t depth = 1;
    for (s++; s < m->end; s++) {
        step(m);
        if (*s == p[1]) {
            if (--depth == 0)
                return s + 1;
        } else if (*s == p[0]) {
            depth++;
        }
    }
    return NULL;
}

/* As many as there are, then fewer and fewer, until the rest matches. */
static const char *match_most(struct matcher *m, const char *s, const char *item, const char *end)
{
    const char *at = s;
    while (fits_at(m, at, item, end)) {
        step(m);
        at++;
    }
    for (;; at--) {
        const char *rest = match(m, at, end + 1);
        if (rest != NULL || at == s)
            return rest;
    }
}

/* None, then more and more. */
static const char *match_least(struct matcher *m, const char *s, const char *item, const char *end)
{
    for (;; s++) {
        const char *rest = match(m, s, end + 1);
        if (rest != NULL)
            return rest;
        if (!fits_at(m, s, item, end))
            return NULL;
    }
}

static const char *open_capture(struct matcher *m, const char *s, const char *p, size_t size)
{
    if (m->count >= CAPTURES_MAX)
        luaL_error(m->L, "too many captures");
    m->captures[m->count].at = s;
    m->captures[m->count].size = size;
    m->count++;
    const char *rest = match(m, s, p);
    if (rest == NULL)
        m->count--;
    return rest;
}

static const char *close_capture(struct matcher *m, const char *s, const char *p)
{
    int i = m->count - 1;
    while (i >= 0 && m->captures[i].size != OPEN)
        i--;
    if (i < 0)
        luaL_error(m->L, "invalid pattern capture");
    m->captures[i].size = (size_t)(s - m->captures[i].at);
    const char *rest = match(m, s, p);
    if (rest == NULL)
        m->captures[i].size = OPEN;
    return rest;
}

/* %1 to %9: what that capture has got once more. */
static const char *match_capture(struct matcher *m, const char *s, char digit)
{
    int i = digit - '1';
    if (i < 0 || i >= m->count || m->captures[i].size == OPEN)
        luaL_error(m->L, "invalid capture index");
    size_t size = m->captures[i].size;
    /* A position is longer than any string. */
    if ((size_t)(m->end - s) < size || memcmp(m->captures[i].at, s, size) != 0)
        return NULL;
    return s + size;
}

/* %f[set]: between a character that is not in the set and one that is. */
static bool at_frontier(const struct matcher *m, const char *s, const char *set, const char *end)
{
    int before = s == m->begin ? 0 : (unsigned char)s[-1];
    return !in_set(before, set, end - 1) && in_set((unsigned char)*s, set, end - 1);
}

/* The end of the match that begins at s, of what is left of the pattern; NULL: there is none. */
static const char *match(struct matcher *m, const char *s, const char *p)
{
    while (s != NULL && *p != '\0') {
        step(m);
        if (*p == '(')
            return p[1] == ')' ? open_capture(m, s, p + 2, POSITION)
                               : open_capture(m, s, p + 1, OPEN);
        if (*p == ')')
            return close_capture(m, s, p + 1);
        if (*p == '$' && p[1] == '\0')
            return s == m->end ? s : NULL;
        if (*p == ESCAPE && p[1] == 'b') {
            s = match_balanced(m, s, p + 2);
            p += 4;
            continue;
        }
        if (*p == ESCAPE && p[1] == 'f') {
            p += 2;
            if (*p != '[')
                luaL_error(m->L, "missing " LUA_QL("[") " after " LUA_QL("%%f") " in pattern");
            const char *end = item_end(m, p);
            if (!at_frontier(m, s, p, end))
                return NULL;
            p = end;
            continue;
        }
        if (*p == ESCAPE && isdigit((unsigned char)p[1])) {
            s = match_capture(m, s, p[1]);
            p += 2;
            continue;
        }
        const char *end = item_end(m, p);
        switch (*end) {
        case '*':
            return match_most(m, s, p, end);
        case '+':
            return fits_at(m, s, p, end) ? match_most(m, s + 1, p, end) : NULL;
        case '-':
            return match_least(m, s, p, end);
        case '?':
            if (fits_at(m, s, p, end)) {
                const char *rest = match(m, s + 1, end + 1);
                if (rest != NULL)
                    return rest;
            }
            p = end + 1;
            break;
        default:
            if (!fits_at(m, s, p, end))
                return NULL;
            s++;
            p = end;
        }
    }
    return s;
}

static const char *match_from(struct matcher *m, const char *s, const char *p)
{
    m->count = 0;
    return match(m, s, p);
}

/* What functions have in common ---------------------------------------------------------------- */

/* Subject and pattern are the first two arguments. */
static const char *begin_match(lua_State *L, struct matcher *m, const char *subject, size_t size,
                               const char *pattern)
{
    if (strlen(pattern) > PATTERN_MAX)
        luaL_error(L, "pattern too complex");
    m->L = L;
    m->begin = subject;
    m->end = subject + size;
    m->steps = &engine_of(L)->pattern_steps;
    m->count = 0;
    return pattern;
}

/* Capture i of a match from s to `end`; the whole match, if the pattern has none. */
static void push_capture(struct matcher *m, int i, const char *s, const char *end)
{
    if (i >= m->count) {
        if (i != 0)
            luaL_error(m->L, "invalid capture index");
        lua_pushlstring(m->L, s, (size_t)(end - s));
    } else if (m->captures[i].size == POSITION) {
        lua_pushinteger(m->L, m->captures[i].at - m->begin + 1);
    } else if (m->captures[i].size == OPEN) {
        luaL_error(m->L, "unfinished capture");
    } else {
        lua_pushlstring(m->L, m->captures[i].at, m->captures[i].size);
    }
}

static int push_captures(struct matcher *m, const char *s, const char *end, bool whole)
{
    int count = m->count == 0 && whole ? 1 : m->count;
    luaL_checkstack(m->L, count, "too many captures");
    for (int i = 0; i < count; i++)
        push_capture(m, i, s, end);
    return count;
}

/* Where to begin: the third argument, from the end if it is negative. */
static size_t start_argument(lua_State *L, size_t size)
{
    lua_Integer start = luaL_optinteger(L, 3, 1);
    if (start < 0)
        start += (lua_Integer)size + 1;
    if (start <= 1)
        return 0;
    return (size_t)start - 1 < size ? (size_t)start - 1 : size;
}

static int find_plain(lua_State *L, const char *subject, size_t size, size_t start,
                      struct slice text)
{
    const char *at = text.size == 0 ? subject + start
                                    : memmem(subject + start, size - start, text.data, text.size);
    if (at == NULL) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushinteger(L, at - subject + 1);
    lua_pushinteger(L, at - subject + (lua_Integer)text.size);
    return 2;
}

static int find_or_match(lua_State *L, bool find)
{
    struct slice text;
    size_t size;
    const char *subject = luaL_checklstring(L, 1, &size);
    text.data = luaL_checklstring(L, 2, &text.size);
    size_t start = start_argument(L, size);
    if (find && (lua_toboolean(L, 4) || strpbrk(text.data, "^$*+?.([%-") == NULL))
        return find_plain(L, subject, size, start, text);
    struct matcher m;
    const char *p = begin_match(L, &m, subject, size, text.data);
    bool anchored = *p == '^';
    if (anchored)
        p++;
    for (const char *s = subject + start; s <= m.end; s++) {
        const char *end = match_from(&m, s, p);
        if (end != NULL && find) {
            lua_pushinteger(L, s - subject + 1);
            lua_pushinteger(L, end - subject);
            return push_captures(&m, s, end, false) + 2;
        }
        if (end != NULL)
            return push_captures(&m, s, end, true);
        if (anchored)
            break;
    }
    lua_pushnil(L);
    return 1;
}

/* The functions -------------------------------------------------------------------------------- */

int pattern_find(lua_State *L)
{
    return find_or_match(L, true);
}

int pattern_match(lua_State *L)
{
    return find_or_match(L, false);
}

/* Upvalues: subject, pattern, where the next match begins. */
static int next_match(lua_State *L)
{
    size_t size;
    const char *subject = lua_tolstring(L, lua_upvalueindex(1), &size);
    struct matcher m;
    const char *p = begin_match(L, &m, subject, size, lua_tostring(L, lua_upvalueindex(2)));
    for (const char *s = subject + lua_tointeger(L, lua_upvalueindex(3)); s <= m.end; s++) {
        const char *end = match_from(&m, s, p);
        if (end == NULL)
            continue;
        /* An empty match is not found twice. */
        lua_pushinteger(L, end - subject + (end == s));
        lua_replace(L, lua_upvalueindex(3));
        return push_captures(&m, s, end, true);
    }
    return 0;
}

int pattern_gmatch(lua_State *L)
{
    luaL_checkstring(L, 1);
    luaL_checkstring(L, 2);
    lua_settop(L, 2);
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, next_match, 3);
    return 1;
}

/* The third argument is a text: %0 to %9 in it are captures. */
static void add_text(struct matcher *m, luaL_Buffer *out, const char *s, const char *end)
{
    size_t size;
    const char *text = lua_tolstring(m->L, 3, &size);
    for (size_t i = 0; i < size; i++) {
        if (text[i] != ESCAPE) {
            luaL_addchar(out, text[i]);
            continue;
        }
        i++;
        if (!isdigit((unsigned char)text[i])) {
            luaL_addchar(out, text[i]);
        } else if (text[i] == '0') {
            luaL_addlstring(out, s, (size_t)(end - s));
        } else {
            push_capture(m, text[i] - '1', s, end);
            luaL_addvalue(out);
        }
    }
}

static void add_replacement(struct matcher *m, luaL_Buffer *out, const char *s, const char *end)
{
    lua_State *L = m->L;
    switch (lua_type(L, 3)) {
    case LUA_TFUNCTION:
        lua_pushvalue(L, 3);
        lua_call(L, push_captures(m, s, end, true), 1);
        break;
    case LUA_TTABLE:
        push_capture(m, 0, s, end);
        lua_gettable(L, 3);
        break;
    default:
        add_text(m, out, s, end);
        return;
    }
    if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        lua_pushlstring(L, s, (size_t)(end - s));
    } else if (!lua_isstring(L, -1)) {
        luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    }
    luaL_addvalue(out);
}

int pattern_gsub(lua_State *L)
{
    size_t size;
    const char *s = luaL_checklstring(L, 1, &size);
    const char *pattern = luaL_checkstring(L, 2);
    int type = lua_type(L, 3);
    int most = luaL_optint(L, 4, (lua_Integer)size + 1);
    luaL_argcheck(L,
                  type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TFUNCTION ||
                      type == LUA_TTABLE,
                  3, "string/function/table expected");
    struct matcher m;
    const char *p = begin_match(L, &m, s, size, pattern);
    bool anchored = *p == '^';
    if (anchored)
        p++;
    luaL_Buffer out;
    luaL_buffinit(L, &out);
    int count = 0;
    while (count < most) {
        const char *end = match_from(&m, s, p);
        if (end != NULL) {
            count++;
            add_replacement(&m, &out, s, end);
        }
        if (end != NULL && end > s)
            s = end;
        else if (s < m.end)
            luaL_addchar(&out, *s++);
        else
            break;
        if (anchored)
            break;
    }
    luaL_addlstring(&out, s, (size_t)(m.end - s));
    luaL_pushresult(&out);
    lua_pushinteger(L, count);
    return 2;
}

