/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/glob.h"

#include <stdint.h>

static unsigned char fold(char c, bool ignore_case)
{
    if (ignore_case && c >= 'A' && c <= 'Z')
        return (unsigned char)(c + ('a' - 'A'));
    return (unsigned char)c;
}

/* Whether c is in the class whose '[' is at *at; *at goes on behind the class. */
static bool match_class(struct slice p, size_t *at, char c, bool ignore_case)
{
    size_t i = *at + 1;
    bool inverted = i < p.size && p.data[i] == '^';
    if (inverted)
        i++;
    unsigned char want = fold(c, ignore_case);
    bool found = false;
    while (i < p.size && p.data[i] != ']') {
        size_t left = p.size - i;
        if (p.data[i] == '\\' && left >= 2) {
            /* An escaped character is compared as it is, whatever ignore_case says. */
            found |= p.data[i + 1] == c;
            i += 2;
        } else if (left >= 3 && p.data[i + 1] == '-') {
            unsigned char low = fold(p.data[i], ignore_case);
            unsigned char high = fold(p.data[i + 2], ignore_case);
            found |= low <= high ? low <= want && want <= high : high <= want && want <= low;
            i += 3;
        } else {
            found |= fold(p.data[i], ignore_case) == want;
            i++;
        }
    }
    *at = i < p.size ? i + 1 : i;
    return found != inverted;
}

/* Whether the pattern's element at *at matches c; *at goes on behind it when it does. */
static bool match_one(struct slice p, size_t *at, char c, bool ignore_case)
{
    size_t i = *at;
    if (p.data[i] == '[')
        return match_class(p, at, c, ignore_case);
    if (p.data[i] == '?') {
        *at = i + 1;
        return true;
    }
    if (p.data[i] == '\\' && i + 1 < p.size)
        i++;
    *at = i + 1;
    return fold(p.data[i], ignore_case) == fold(c, ignore_case);
}

bool glob_match(struct slice pattern, struct slice s, bool ignore_case)
{
    if (s.size == 0)
        return pattern.size == 0;
    /* When an element does not match, what the last star took is extended by one character: going
     * back to an earlier star could not match more. */
    size_t p = 0, i = 0;
    size_t star = SIZE_MAX, star_i = 0;
    while (i < s.size) {
        if (p < pattern.size && pattern.data[p] == '*') {
            star = ++p;
            star_i = i;
            continue;
        }
        size_t next = p;
        if (p < pattern.size && match_one(pattern, &next, s.data[i], ignore_case)) {
            p = next;
            i++;
            continue;
        }
        if (star == SIZE_MAX)
            return false;
        p = star;
        i = ++star_i;
    }
    while (p < pattern.size && pattern.data[p] == '*')
        p++;
    return p == pattern.size;
}
