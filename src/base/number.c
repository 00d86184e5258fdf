/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/number.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static bool parse_digits(const char *p, size_t n, uint64_t *out)
{
    if (n == 0 || n > 20)
        return false;
    if (p[0] == '0') {
        *out = 0;
        return n == 1;
    }
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned digit = (unsigned char)p[i] - (unsigned)'0';
        if (digit > 9)
            return false;
        /* Nineteen digits always fit; only the twentieth needs a look. */
        if (i == 19 && (v > UINT64_MAX / 10 || (v == UINT64_MAX / 10 && digit > UINT64_MAX % 10)))
            return false;
        v = v * 10 + digit;
    }
    *out = v;
    return true;
}

bool number_parse_uint64(struct slice s, uint64_t *out)
{
    return parse_digits(s.data, s.size, out);
}

bool number_parse_int64(struct slice s, int64_t *out)
{
    uint64_t v;
    if (s.size > 0 && s.data[0] == '-') {
        if (!parse_digits(s.data + 1, s.size - 1, &v) || v == 0 || v > (uint64_t)INT64_MAX + 1)
            return false;
        *out = (int64_t)(0 - v);
        return true;
    }
    if (!parse_digits(s.data, s.size, &v) || v > INT64_MAX)
        return false;
    *out = (int64_t)v;
    return true;
}

/* strtod wants a NUL behind the number; no number that is meant seriously is longer than this. */
#define NUMBER_TEXT_MAX 5120

static bool copy_text(struct slice s, char text[NUMBER_TEXT_MAX])
{
    if (s.size == 0 || s.size >= NUMBER_TEXT_MAX)
        return false;
    /* Blanks as isspace has them in the C locale. */
    if (s.data[0] == ' ' || (s.data[0] >= '\t' && s.data[0] <= '\r'))
        return false;
    memcpy(text, s.data, s.size);
    text[s.size] = '\0';
    return true;
}

bool number_parse_double(struct slice s, double *out)
{
    int64_t whole;
    /* Whole numbers that a double holds exactly need no strtod. */
    if (s.size <= 15 && number_parse_int64(s, &whole)) {
        *out = (double)whole;
        return true;
    }
    char text[NUMBER_TEXT_MAX];
    if (!copy_text(s, text))
        return false;
    char *end;
    errno = 0;
    double v = strtod(text, &end);
    if (end != text + s.size || isnan(v))
        return false;
    if (errno == ERANGE && (isinf(v) || v == 0))
        return false;
    *out = v;
    return true;
}

bool number_parse_long_double(struct slice s, long double *out)
{
    char text[NUMBER_TEXT_MAX];
    if (!copy_text(s, text))
        return false;
    char *end;
    errno = 0;
    long double v = strtold(text, &end);
    if (end != text + s.size || isnan(v))
        return false;
    if (errno == ERANGE && (isinf(v) || v == 0))
        return false;
    *out = v;
    return true;
}

static const char digit_pairs[] =
    "00010203040506070809101112131415161718192021222324252627282930313233"
    "34353637383940414243444546474849505152535455565758596061626364656667"
    "6869707172737475767778798081828384858687888990919293949596979899";

size_t number_format_int64(char out[NUMBER_INT64_SIZE], int64_t value)
{
    char text[NUMBER_INT64_SIZE];
    char *p = text + sizeof(text);
    uint64_t v = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    while (v >= 100) {
        const char *pair = digit_pairs + v % 100 * 2;
        v /= 100;
        *--p = pair[1];
        *--p = pair[0];
    }
    if (v >= 10) {
        *--p = digit_pairs[v * 2 + 1];
        *--p = digit_pairs[v * 2];
    } else {
        *--p = (char)('0' + v);
    }
    if (value < 0)
        *--p = '-';
    size_t size = (size_t)(text + sizeof(text) - p);
    memcpy(out, p, size);
    return size;
}

static size_t put_word(char *out, const char *word)
{
    size_t n = strlen(word);
    memcpy(out, word, n);
    return n;
}

size_t number_format_double(char out[NUMBER_DOUBLE_SIZE], double v)
{
    if (isnan(v))
        return put_word(out, "nan");
    if (isinf(v))
        return put_word(out, v < 0 ? "-inf" : "inf");
    /* Whole numbers below 2^52 print alike either way, and much faster this way. */
    if (v > -4503599627370496.0 && v < 4503599627370496.0 && !(v == 0 && signbit(v))) {
        int64_t whole = (int64_t)v;
        if ((double)whole == v)
            return number_format_int64(out, whole);
    }
    return (size_t)snprintf(out, NUMBER_DOUBLE_SIZE, "%.17g", v);
}

size_t number_format_long_double(char out[NUMBER_LONG_DOUBLE_SIZE], long double v)
{
    if (isnan(v))
        return put_word(out, "nan");
    if (isinf(v))
        return put_word(out, v < 0 ? "-inf" : "inf");
    int n = snprintf(out, NUMBER_LONG_DOUBLE_SIZE, "%.17Lf", v);
    size_t size = n < 0 ? 0 : (size_t)n;
    if (size >= NUMBER_LONG_DOUBLE_SIZE)
        return put_word(out, "inf");
    if (memchr(out, '.', size)) {
        while (out[size - 1] == '0')
            size--;
        if (out[size - 1] == '.')
            size--;
    }
    if (size == 2 && out[0] == '-' && out[1] == '0') {
        out[0] = '0';
        size = 1;
    }
    return size;
}
