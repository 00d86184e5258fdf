/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

#define LOG_LINE_MAX 2048

static struct {
    enum log_level level;
    enum log_format format;
    enum log_time time;
    char role;
    void (*sink)(void *ctx, const char *line, size_t size);
    void *ctx;
    void (*second)(enum log_level level, const char *text);
} settings = {.level = LOG_LEVEL_NOTICE, .role = 'C'};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void log_set_level(enum log_level level)
{
    __atomic_store_n(&settings.level, level, __ATOMIC_RELAXED);
}

enum log_level log_get_level(void)
{
    return __atomic_load_n(&settings.level, __ATOMIC_RELAXED);
}

void log_set_format(enum log_format format, enum log_time time)
{
    pthread_mutex_lock(&lock);
    settings.format = format;
    settings.time = time;
    pthread_mutex_unlock(&lock);
}

void log_set_role(char role)
{
    pthread_mutex_lock(&lock);
    settings.role = role;
    pthread_mutex_unlock(&lock);
}

void log_set_sink(void (*sink)(void *ctx, const char *line, size_t size), void *ctx)
{
    pthread_mutex_lock(&lock);
    settings.sink = sink;
    settings.ctx = ctx;
    pthread_mutex_unlock(&lock);
}

void log_set_second_sink(void (*sink)(enum log_level level, const char *text))
{
    pthread_mutex_lock(&lock);
    settings.second = sink;
    pthread_mutex_unlock(&lock);
}

static size_t put_time(char *out, size_t size, enum log_time how)
{
    int64_t us = clock_wall_us();
    time_t seconds = (time_t)(us / 1000000);
    int ms = (int)(us / 1000 % 1000);
    if (how == LOG_TIME_MILLISECONDS)
        return (size_t)snprintf(out, size, "%lld", (long long)(us / 1000));
    struct tm tm;
    localtime_r(&seconds, &tm);
    char text[64];
    if (how == LOG_TIME_ISO8601) {
        char zone[16];
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
        strftime(zone, sizeof(zone), "%z", &tm);
        /* +0100 becomes +01:00. */
        return (size_t)snprintf(out, size, "%s.%03d%.3s:%s", text, ms, zone, zone + 3);
    }
    strftime(text, sizeof(text), "%d %b %Y %H:%M:%S", &tm);
    return (size_t)snprintf(out, size, "%s.%03d", text, ms);
}

/* Append with JSON's escapes, which logfmt's quoted values share. Leaves room for the ending. */
static size_t put_escaped(char *out, size_t at, const char *text)
{
    for (const char *p = text; *p && at + 16 < LOG_LINE_MAX; p++) {
        unsigned char c = (unsigned char)*p;
        if (c == '"' || c == '\\') {
            out[at++] = '\\';
            out[at++] = (char)c;
        } else if (c == '\n') {
            out[at++] = '\\';
            out[at++] = 'n';
        } else if (c < 0x20 || c == 0x7f) {
            at += (size_t)snprintf(out + at, 7, "\\u%04x", c);
        } else {
            out[at++] = (char)c;
        }
    }
    return at;
}

static size_t format_line(char *line, enum log_level level, const char *text)
{
    static const char *const names[] = {"debug", "verbose", "notice", "warning", "nothing"};
    static const char marks[] = ".-*#";
    char when[128];
    put_time(when, sizeof(when), settings.time);
    size_t at;
    switch (settings.format) {
    case LOG_FORMAT_JSON:
        at = (size_t)snprintf(
            line, LOG_LINE_MAX,
            "{\"time\":\"%s\",\"pid\":%d,\"role\":\"%c\",\"level\":\"%s\",\"message\":\"", when,
            (int)getpid(), settings.role, names[level]);
        at = put_escaped(line, at, text);
        line[at++] = '"';
        line[at++] = '}';
        break;
    case LOG_FORMAT_LOGFMT:
        at = (size_t)snprintf(line, LOG_LINE_MAX, "time=\"%s\" pid=%d role=%c level=%s message=\"",
                              when, (int)getpid(), settings.role, names[level]);
        at = put_escaped(line, at, text);
        line[at++] = '"';
        break;
    default:
        at = (size_t)snprintf(line, LOG_LINE_MAX - 1, "%d:%c %s %c %s", (int)getpid(),
                              settings.role, when, marks[level], text);
        if (at > LOG_LINE_MAX - 2)
            at = LOG_LINE_MAX - 2;
        break;
    }
    line[at++] = '\n';
    return at;
}

void log_write(enum log_level level, const char *format, ...)
{
    if (level < log_get_level() || level >= LOG_LEVEL_NOTHING)
        return;
    char text[1024], line[LOG_LINE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);

    pthread_mutex_lock(&lock);
    size_t size = format_line(line, level, text);
    if (settings.sink) {
        settings.sink(settings.ctx, line, size);
    } else {
        fwrite(line, 1, size, stdout);
        fflush(stdout);
    }
    if (settings.second)
        settings.second(level, text);
    pthread_mutex_unlock(&lock);
}
