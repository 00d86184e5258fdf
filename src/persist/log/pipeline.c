/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/log/pipeline.h"

#include <pthread.h>
#include <time.h>

#include "base/mem.h"
#include "os/thread.h"

#define BATCHES 6

struct pipeline {
    struct log_reader *reader;
    struct log_batch batches[BATCHES];
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t filled, emptied;
    /* Under the mutex. Batches [taken, read) are full, counted modulo BATCHES; all others are the
     * thread's, as long as read - given < BATCHES. */
    uint64_t read, taken, given;
    enum log_read result; /* GROUPS until it is over */
    bool stop;
    struct error err;
};

static void read_batches(void *arg)
{
    struct pipeline *p = arg;
    enum log_read result = LOG_READ_GROUPS;
    struct error err = {0};
    pthread_mutex_lock(&p->mutex);
    while (!p->stop && result == LOG_READ_GROUPS) {
        if (p->read - p->given == BATCHES) {
            pthread_cond_wait(&p->emptied, &p->mutex);
            continue;
        }
        struct log_batch *b = &p->batches[p->read % BATCHES];
        pthread_mutex_unlock(&p->mutex);
        result = log_reader_next(p->reader, b, &err);
        pthread_mutex_lock(&p->mutex);
        if (result == LOG_READ_GROUPS)
            p->read++;
        else
            p->result = result;
        p->err = err;
        pthread_cond_signal(&p->filled);
    }
    pthread_mutex_unlock(&p->mutex);
}

struct pipeline *pipeline_start(struct log_reader *r, struct error *err)
{
    struct pipeline *p = mem_zalloc(sizeof(*p));
    p->reader = r;
    for (int i = 0; i < BATCHES; i++)
        log_batch_init(&p->batches[i]);
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->filled, NULL);
    pthread_cond_init(&p->emptied, NULL);
    p->result = LOG_READ_GROUPS;
    if (os_thread_start(&p->thread, "hf-replay", read_batches, p, err))
        return p;
    log_reader_close(r);
    mem_free(p);
    return NULL;
}

static struct timespec deadline(int64_t wait_us)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_sec += wait_us / 1000000;
    t.tv_nsec += wait_us % 1000000 * 1000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    return t;
}

enum log_read pipeline_take(struct pipeline *p, int64_t wait_us, struct log_batch **batch,
                            struct error *err)
{
    struct timespec until = deadline(wait_us);
    enum log_read result = LOG_READ_GROUPS;
    *batch = NULL;
    pthread_mutex_lock(&p->mutex);
    if (p->read == p->taken && p->result == LOG_READ_GROUPS)
        pthread_cond_timedwait(&p->filled, &p->mutex, &until);
    if (p->read != p->taken) {
        *batch = &p->batches[p->taken++ % BATCHES];
    } else {
        result = p->result;
        if (result == LOG_READ_FAILED)
            *err = p->err;
    }
    pthread_mutex_unlock(&p->mutex);
    return result;
}

void pipeline_give(struct pipeline *p, struct log_batch *batch)
{
    (void)batch; /* They are given back in the order in which they were taken. */
    pthread_mutex_lock(&p->mutex);
    p->given++;
    pthread_cond_signal(&p->emptied);
    pthread_mutex_unlock(&p->mutex);
}

const struct log_status *pipeline_status(const struct pipeline *p)
{
    return log_reader_status(p->reader);
}

void pipeline_stop(struct pipeline *p)
{
    pthread_mutex_lock(&p->mutex);
    p->stop = true;
    pthread_cond_signal(&p->emptied);
    pthread_mutex_unlock(&p->mutex);
    pthread_join(p->thread, NULL);
    log_reader_close(p->reader);
    for (int i = 0; i < BATCHES; i++)
        log_batch_free(&p->batches[i]);
    pthread_cond_destroy(&p->emptied);
    pthread_cond_destroy(&p->filled);
    pthread_mutex_destroy(&p->mutex);
    mem_free(p);
}
