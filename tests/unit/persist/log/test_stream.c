/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The stream of effects: its bytes against a plain buffer, and readers on other threads while the
 * executor appends, trims and begins and ends groups.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>

#include "base/mem.h"
#include "base/text.h"
#include "persist/log/stream.h"

static uint64_t seed, random_state;

static uint64_t mix(uint64_t *state)
{
    uint64_t r = *state += 0x9e3779b97f4a7c15ULL;
    r = (r ^ r >> 30) * 0xbf58476d1ce4e5b9ULL;
    r = (r ^ r >> 27) * 0x94d049bb133111ebULL;
    return r ^ r >> 31;
}

static uint32_t random_below(uint32_t bound)
{
    return (uint32_t)((mix(&random_state) >> 32) * bound >> 32);
}

/* All that is published behind the reader's position, in pieces of random sizes. */
static void drain(struct stream_reader *r, struct text *out)
{
    for (;;) {
        struct iovec pieces[4];
        int n = stream_reader_peek(r, pieces, 1 + (int)random_below(4), 1 + random_below(500000));
        if (n == 0)
            return;
        size_t size = 0;
        for (int i = 0; i < n; i++) {
            text_append(out, pieces[i].iov_base, pieces[i].iov_len);
            size += pieces[i].iov_len;
        }
        stream_reader_advance(r, size);
    }
}

static void expect(struct text *got, const char *wanted)
{
    assert_string_equal(got->size ? text_cstr(got) : "", wanted);
    text_clear(got);
}

/* SELECT comes before an effect of another database, at the beginning, and when it is asked for. */
static void test_select(void **state)
{
    (void)state;
    struct stream *s = stream_new(100);
    struct stream_reader *r = stream_reader_new(s, 100);
    struct text got = {0};
    const struct slice set[] = {SLICE("SET"), SLICE("k"), SLICE("")};
    struct slice request = SLICE("*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n");
    stream_append(s, 0, set, 3);
    stream_append_request(s, 0, request);
    stream_append_request(s, 12, request);
    stream_select_again(s);
    stream_append_request(s, 12, request);
    drain(r, &got);
    expect(&got, "");
    stream_publish(s);
    drain(r, &got);
    assert_int_equal(stream_end(s), 100 + got.size);
    expect(&got, "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n"
                 "*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n"
                 "*2\r\n$6\r\nSELECT\r\n$2\r\n12\r\n*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n"
                 "*2\r\n$6\r\nSELECT\r\n$2\r\n12\r\n*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n");
    assert_int_equal(stream_reader_lsn(r), stream_published(s));
    stream_reader_free(s, r);
    text_free(&got);
    stream_free(s);
}

/* Nested groups are one; a group of nothing leaves nothing; a database's change inside is told. */
static void test_groups(void **state)
{
    (void)state;
    struct stream *s = stream_new(0);
    struct stream_reader *r = stream_reader_new(s, 0);
    struct text got = {0};
    const struct slice incr[] = {SLICE("INCR"), SLICE("k")};
    stream_begin_group(s);
    stream_begin_group(s);
    stream_end_group(s);
    stream_end_group(s);
    stream_publish(s);
    drain(r, &got);
    expect(&got, "");
    stream_begin_group(s);
    stream_begin_group(s);
    stream_append(s, 3, incr, 2);
    stream_publish(s);
    assert_int_equal(stream_published(s), 0);
    stream_end_group(s);
    assert_true(stream_in_group(s));
    stream_begin_append(s, 4, 2);
    stream_put_argument(s, SLICE("DEL"));
    stream_put_argument(s, SLICE("k"));
    stream_end_group(s);
    assert_false(stream_in_group(s));
    stream_append(s, 4, incr, 2);
    stream_publish(s);
    drain(r, &got);
    expect(&got, "*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n*1\r\n$5\r\nMULTI\r\n"
                 "*2\r\n$4\r\nINCR\r\n$1\r\nk\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n4\r\n"
                 "*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n*1\r\n$4\r\nEXEC\r\n"
                 "*2\r\n$4\r\nINCR\r\n$1\r\nk\r\n");
    text_free(&got);
    stream_free(s); /* with its reader */
}

/* The bytes that effect `i` of a run consists of: any thread can tell what it has to read. */
static size_t effect_bytes(uint64_t i, char *out, size_t room)
{
    uint64_t state = seed ^ i * 0x2545f4914f6cdd1dULL;
    /* Mostly short ones, some longer than a block. */
    size_t size = mix(&state) % 200;
    if (mix(&state) % 64 == 0)
        size = mix(&state) % room;
    for (size_t at = 0; at < size; at++)
        out[at] = (char)(mix(&state) >> 56);
    return size + 1 > room ? room : size + 1;
}

#define EFFECT_MAX (600 * 1024)

/* Random appends, publishing, trimming, readers coming and going: everything that stream_first
 * promises can be read, and is what was appended. */
static void test_model(void **state)
{
    (void)state;
    struct stream *s = stream_new(7);
    struct text model = {0}, got = {0};
    struct stream_reader *readers[4] = {0};
    uint64_t from[4] = {0};
    char *bytes = mem_zalloc(EFFECT_MAX);
    uint64_t backlog = 0, published = 7;
    for (uint64_t i = 0; i < 4000; i++) {
        size_t size = effect_bytes(i, bytes, EFFECT_MAX);
        if (i == 0)
            text_append_cstr(&model, "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n");
        stream_append_request(s, 0, slice_of(bytes, size));
        text_append(&model, bytes, size);
        assert_int_equal(stream_end(s), 7 + model.size);
        uint32_t dice = random_below(20), which = random_below(4);
        if (dice == 0) {
            backlog = random_below(3) ? random_below(2000000) : 0;
            stream_set_backlog(s, backlog);
        } else if (dice < 8) {
            stream_publish(s);
            published = stream_end(s);
        } else if (dice < 12) {
            uint64_t before = stream_first(s);
            stream_trim(s);
            uint64_t end = stream_end(s), wanted = end > backlog + 7 ? end - backlog : 7;
            /* A backlog that was made longer does not bring back what is gone. */
            assert_true(stream_first(s) <= (wanted > before ? wanted : before));
            for (int k = 0; k < 4; k++) {
                if (readers[k])
                    assert_true(stream_first(s) <= stream_reader_lsn(readers[k]));
            }
        } else if (dice == 12 && readers[which]) {
            stream_reader_free(s, readers[which]);
            readers[which] = NULL;
        } else if (dice == 13 && !readers[which]) {
            uint64_t first = stream_first(s), last = stream_end(s);
            from[which] = first + (last > first ? mix(&random_state) % (last - first + 1) : 0);
            readers[which] = stream_reader_new(s, from[which]);
        } else if (dice > 13 && readers[which]) {
            text_clear(&got);
            drain(readers[which], &got);
            uint64_t to = published > from[which] ? published : from[which];
            assert_int_equal(stream_reader_lsn(readers[which]), to);
            assert_int_equal(got.size, to - from[which]);
            if (got.size > 0)
                assert_memory_equal(got.data, model.data + (from[which] - 7), got.size);
            from[which] = to;
        }
    }
    assert_true(stream_memory(s) <= model.size);
    for (int k = 0; k < 4; k++) {
        if (readers[k])
            stream_reader_free(s, readers[k]);
    }
    assert_int_equal(stream_memory(s), 0);
    stream_set_backlog(s, 0);
    stream_trim(s);
    assert_true(stream_end(s) - stream_first(s) <= 512 * 1024);
    text_free(&model);
    text_free(&got);
    mem_free(bytes);
    stream_free(s);
}

#define THREADS 3
#define EFFECTS 30000

struct thread_reader {
    struct stream_reader *reader;
    uint64_t begin; /* LSN */
    bool *stop;
    uint64_t state;
    uint64_t read, sum; /* bytes, and their sum weighted by place */
};

static uint64_t weigh(uint64_t sum, const char *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        sum = sum * 1099511628211ULL + (unsigned char)data[i];
    return sum;
}

static void *read_all(void *arg)
{
    struct thread_reader *t = arg;
    mem_thread_begin();
    for (;;) {
        /* Looked at first: what is published before it is set is read after. */
        bool last = __atomic_load_n(t->stop, __ATOMIC_ACQUIRE);
        struct iovec pieces[3];
        int n = stream_reader_peek(t->reader, pieces, 3, 1 + mix(&t->state) % 300000);
        if (n == 0) {
            if (last)
                break;
            sched_yield();
            continue;
        }
        size_t size = 0;
        for (int i = 0; i < n; i++) {
            t->sum = weigh(t->sum, pieces[i].iov_base, pieces[i].iov_len);
            size += pieces[i].iov_len;
        }
        stream_reader_advance(t->reader, size);
        t->read += size;
    }
    mem_thread_end();
    return NULL;
}

/* Several threads read while the executor appends, publishes and trims; each has read everything
 * from where it began, and groups only whole. */
static void test_threads(void **state)
{
    (void)state;
    struct stream *s = stream_new(0);
    bool stop = false;
    pthread_t threads[THREADS];
    struct thread_reader readers[THREADS];
    int started = 0;
    uint64_t sums[THREADS] = {0}, end = 0;
    char *bytes = mem_zalloc(EFFECT_MAX);
    stream_set_backlog(s, 1 << 20);
    for (uint64_t i = 0; i < EFFECTS; i++) {
        if (i == (uint64_t)started * 5000 && started < THREADS) {
            /* From the end on: what it has to read is what is appended from now on. */
            struct thread_reader *t = &readers[started];
            *t = (struct thread_reader){.begin = stream_end(s), .stop = &stop, .state = seed + i};
            t->reader = stream_reader_new(s, t->begin);
            assert_int_equal(pthread_create(&threads[started], NULL, read_all, t), 0);
            started++;
        }
        size_t size = effect_bytes(i, bytes, i % 100 == 0 ? EFFECT_MAX : 2000);
        stream_append_request(s, 0, slice_of(bytes, size));
        if (i == 0) {
            for (int k = 0; k < started; k++)
                sums[k] = weigh(0, "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n", 23);
        }
        for (int k = 0; k < started; k++)
            sums[k] = weigh(sums[k], bytes, size);
        if (random_below(8) == 0)
            stream_publish(s);
        if (random_below(16) == 0)
            stream_trim(s);
    }
    stream_publish(s);
    end = stream_end(s);
    __atomic_store_n(&stop, true, __ATOMIC_RELEASE);
    for (int k = 0; k < started; k++) {
        assert_int_equal(pthread_join(threads[k], NULL), 0);
        assert_int_equal(readers[k].read, end - readers[k].begin);
        assert_int_equal(readers[k].sum, sums[k]);
        stream_reader_free(s, readers[k].reader);
    }
    assert_int_equal(started, THREADS);
    stream_trim(s);
    assert_true(stream_first(s) <= end - (1 << 20));
    assert_true(stream_first(s) >= end - (1 << 20) - 2 * 256 * 1024);
    mem_free(bytes);
    stream_free(s);
}

int main(void)
{
    const char *given = getenv("HF_SEED");
    seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    random_state = seed;
    print_message("HF_SEED=%llu\n", (unsigned long long)seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_select),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
