/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/load_ahead.h"

#include <assert.h>

#include "base/mem.h"
#include "persist/load_job.h"

/* The middle is asked for, as who found the parts has read the file's begin and its end. */
static bool is_cold(const struct load_job *job, const struct load_part *p)
{
    return p->to - p->from <= LOAD_AHEAD_MOST &&
           !os_file_is_cached(job->file, p->from + (p->to - p->from) / 2);
}

static bool read_part(struct load_buffer *buffer, const struct load_part *p, struct error *err)
{
    size_t size = (size_t)(p->to - p->from);
    buffer->data = os_direct_aim(&buffer->in, p->from, size);
    for (size_t have = 0, got = 0; have < size; have += got) {
        if (!os_direct_read_on(&buffer->in, &got, err))
            return error_prefix(err, "offset %llu", (unsigned long long)(p->from + have));
        if (got == 0)
            return error_set(err, ERROR_TRUNCATED, "offset %llu: the file became shorter",
                             (unsigned long long)(p->from + have));
    }
    return true;
}

static void free_buffer(struct load_ahead *ahead, struct load_buffer *buffer)
{
    os_direct_end(&buffer->in);
    mem_free(buffer);
    ahead->buffers--;
}

/* What is not needed any more is not kept until the tables are built. */
static void put_free(struct load_ahead *ahead, struct load_buffer *buffer)
{
    if (!ahead->next) {
        free_buffer(ahead, buffer);
        return;
    }
    buffer->next = ahead->free;
    ahead->free = buffer;
}

/* NULL: there are as many as there may be, and none is free. */
static struct load_buffer *get_free(struct load_ahead *ahead)
{
    struct load_buffer *buffer = ahead->free;
    if (buffer) {
        ahead->free = buffer->next;
    } else if (ahead->buffers < ahead->most) {
        ahead->buffers++;
        buffer = mem_alloc(sizeof(*buffer));
        os_direct_begin(&buffer->in, &ahead->file, true);
    }
    return buffer;
}

/* The next part, and what it is to be read into; NULL: there is nothing more to read. */
static struct load_part *take_unread(struct load_job *job, struct load_buffer **buffer)
{
    struct load_ahead *ahead = &job->ahead;
    struct load_part *p = NULL;
    *buffer = NULL;
    pthread_mutex_lock(&job->lock);
    while (!job->failed && ahead->next && !(*buffer = get_free(ahead)))
        pthread_cond_wait(&job->changed, &job->lock);
    if (*buffer) {
        p = ahead->next;
        ahead->next = p->next;
    }
    pthread_mutex_unlock(&job->lock);
    return p;
}

static void reader_thread(void *arg)
{
    struct load_job *job = arg;
    struct load_buffer *buffer;
    struct load_part *p;
    struct os_polite polite;
    if (job->options->polite)
        os_polite_begin(&polite);
    while ((p = take_unread(job, &buffer))) {
        struct error err = {0};
        bool cold = is_cold(job, p), ok = !cold || read_part(buffer, p, &err);
        if (!ok)
            load_job_fail(job, &err);
        pthread_mutex_lock(&job->lock);
        if (cold && ok)
            p->buffer = buffer;
        else
            put_free(&job->ahead, buffer);
        p->awaited = false;
        pthread_cond_broadcast(&job->changed);
        pthread_mutex_unlock(&job->lock);
        if (job->options->polite)
            os_polite_check(&polite);
    }
}

void load_ahead_start(struct load_job *job)
{
    struct load_ahead *ahead = &job->ahead;
    struct error ignored;
    int wanted = (job->workers + LOAD_AHEAD_WORKERS - 1) / LOAD_AHEAD_WORKERS;
    if (ahead->file.fd < 0)
        return;
    if (wanted > LOAD_AHEAD_READERS)
        wanted = LOAD_AHEAD_READERS;
    ahead->next = job->first;
    while (ahead->count < wanted && os_thread_start(&ahead->threads[ahead->count], "hf-read",
                                                    reader_thread, job, &ignored))
        ahead->count++;
    ahead->most = job->workers + LOAD_AHEAD_BUFFERS * ahead->count;
    for (struct load_part *p = job->first; p && ahead->count > 0; p = p->next)
        p->awaited = true;
}

void load_ahead_give_back(struct load_job *job, struct load_buffer *buffer)
{
    pthread_mutex_lock(&job->lock);
    put_free(&job->ahead, buffer);
    pthread_cond_broadcast(&job->changed);
    pthread_mutex_unlock(&job->lock);
}

void load_ahead_end(struct load_job *job)
{
    struct load_ahead *ahead = &job->ahead;
    struct error ignored;
    for (int i = 0; i < ahead->count; i++)
        pthread_join(ahead->threads[i], NULL);
    for (struct load_part *p = job->first; p; p = p->next) {
        if (p->buffer)
            free_buffer(ahead, p->buffer);
    }
    for (struct load_buffer *buffer; (buffer = ahead->free); free_buffer(ahead, buffer))
        ahead->free = buffer->next;
    assert(ahead->buffers == 0);
    if (ahead->file.fd >= 0)
        os_file_close(&ahead->file, &ignored);
}
