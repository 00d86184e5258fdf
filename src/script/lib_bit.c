/* SPDX-License-Identifier: BSD-3-Clause
 *
 * bit: operations on 32 bits, with the results of Lua BitOp (https://bitop.luajit.org): numbers are
 * taken modulo 2^32, results are signed.
 */
#include <math.h>
#include <stdio.h>

#include "script/engine.h"

/* Adding this leaves the number's 32 lowest bits, rounded to the nearest, at the end of the
 * double. */
#define ROUNDER 6755399441055744.0

static uint32_t check_bits(lua_State *L, int index)
{
    double n = luaL_checknumber(L, index) + ROUNDER;
    uint64_t bits;
    memcpy(&bits, &n, sizeof(bits));
    return (uint32_t)bits;
}

static int push_bits(lua_State *L, uint32_t bits)
{
    lua_pushnumber(L, (lua_Number)(int32_t)bits);
    return 1;
}

static int bit_tobit(lua_State *L)
{
    return push_bits(L, check_bits(L, 1));
}

static int bit_bnot(lua_State *L)
{
    return push_bits(L, ~check_bits(L, 1));
}

static int bit_band(lua_State *L)
{
    uint32_t bits = check_bits(L, 1);
    for (int i = lua_gettop(L); i > 1; i--)
        bits &= check_bits(L, i);
    return push_bits(L, bits);
}

static int bit_bor(lua_State *L)
{
    uint32_t bits = check_bits(L, 1);
    for (int i = lua_gettop(L); i > 1; i--)
        bits |= check_bits(L, i);
    return push_bits(L, bits);
}

static int bit_bxor(lua_State *L)
{
    uint32_t bits = check_bits(L, 1);
    for (int i = lua_gettop(L); i > 1; i--)
        bits ^= check_bits(L, i);
    return push_bits(L, bits);
}

static int bit_lshift(lua_State *L)
{
    uint32_t bits = check_bits(L, 1);
    return push_bits(L, bits << (check_bits(L, 2) & 31));
}

static int bit_rshift(lua_State *L)
{
    uint32_t bits = check_bits(L, 1);
    return push_bits(L, bits >> (check_bits(L, 2) & 31));
}

static int bit_arshift(lua_State *L)
{
    int32_t bits = (int32_t)check_bits(L, 1);
    return push_bits(L, (uint32_t)(bits >> (check_bits(L, 2) & 31)));
}

static uint32_t rotate(uint32_t bits, unsigned by)
{
    by &= 31;
    return by == 0 ? bits : bits << by | bits >> (32 - by);
}

static int bit_rol(lua_State *L)
{
    uint32_t bits = check_bits(L, 1);
    return push_bits(L, rotate(bits, check_bits(L, 2)));
}

static int bit_ror(lua_State *L)
{
    uint32_t bits = check_bits(L, 1);
    return push_bits(L, rotate(bits, 32 - (check_bits(L, 2) & 31)));
}

static int bit_bswap(lua_State *L)
{
    return push_bits(L, __builtin_bswap32(check_bits(L, 1)));
}

/* Digits: 8 by default, capitals when the number of them is negative. */
static int bit_tohex(lua_State *L)
{
    uint32_t bits = check_bits(L, 1);
    int32_t digits = lua_isnone(L, 2) ? 8 : (int32_t)check_bits(L, 2);
    bool capitals = digits < 0;
    if (capitals)
        digits = digits < -8 ? 8 : -digits;
    if (digits > 8)
        digits = 8;
    char text[16];
    snprintf(text, sizeof(text), capitals ? "%08X" : "%08x", bits);
    lua_pushlstring(L, text + 8 - digits, (size_t)digits);
    return 1;
}

int open_bit(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"tobit", bit_tobit},   {"bnot", bit_bnot},       {"band", bit_band},
        {"bor", bit_bor},       {"bxor", bit_bxor},       {"lshift", bit_lshift},
        {"rshift", bit_rshift}, {"arshift", bit_arshift}, {"rol", bit_rol},
        {"ror", bit_ror},       {"bswap", bit_bswap},     {"tohex", bit_tohex},
        {NULL, NULL}};
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
