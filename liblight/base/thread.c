/* SPDX-License-Identifier: Apache-2.0 */
/* Queue and worker pool over pthreads. */
#include "base/thread.h"

#include "base/memory.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

struct light_queue {
    pthread_mutex_t lock;
    pthread_cond_t changed_room, changed_items;
    size_t capacity, item_bytes;
    size_t first, count;
    bool closed;
    char items[];
};

light_status light_queue_new(light_queue **out, size_t capacity, size_t item_bytes)
{
    size_t bytes;

    *out = NULL;
    if (capacity == 0 || item_bytes == 0 || __builtin_mul_overflow(capacity, item_bytes, &bytes) ||
        __builtin_add_overflow(bytes, sizeof(light_queue), &bytes)) {
        return light_fail(LIGHT_ERR_ARGUMENT, "a queue of %zu items of %zu bytes cannot be made", capacity,
                          item_bytes);
    }
    light_queue *q = light_alloc(bytes);
    if (!q) return LIGHT_ERR_MEMORY;
    *q = (light_queue){.capacity = capacity, .item_bytes = item_bytes};
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->changed_room, NULL);
    pthread_cond_init(&q->changed_items, NULL);
    *out = q;
    return LIGHT_OK;
}

static char *slot(light_queue *q, size_t i)
{
    return q->items + (q->first + i) % q->capacity * q->item_bytes;
}

bool light_queue_push(light_queue *q, const void *item)
{
    pthread_mutex_lock(&q->lock);
    while (q->count == q->capacity && !q->closed) pthread_cond_wait(&q->changed_room, &q->lock);
    bool open = !q->closed;
    if (open) {
        memcpy(slot(q, q->count), item, q->item_bytes);
        q->count++;
        pthread_cond_signal(&q->changed_items);
    }
    pthread_mutex_unlock(&q->lock);
    return open;
}

static bool pop(light_queue *q, void *item, bool wait)
{
    pthread_mutex_lock(&q->lock);
    while (wait && q->count == 0 && !q->closed) pthread_cond_wait(&q->changed_items, &q->lock);
    bool some = q->count > 0;
    if (some) {
        memcpy(item, slot(q, 0), q->item_bytes);
        q->first = (q->first + 1) % q->capacity;
        q->count--;
        pthread_cond_signal(&q->changed_room);
    }
    pthread_mutex_unlock(&q->lock);
    return some;
}

bool light_queue_pop(light_queue *q, void *item)
{
    return pop(q, item, true);
}

bool light_queue_try_pop(light_queue *q, void *item)
{
    return pop(q, item, false);
}

void light_queue_close(light_queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->closed = true;
    pthread_cond_broadcast(&q->changed_items);
    pthread_cond_broadcast(&q->changed_room);
    pthread_mutex_unlock(&q->lock);
}

void light_queue_free(light_queue *q)
{
    if (!q) return;
    pthread_cond_destroy(&q->changed_items);
    pthread_cond_destroy(&q->changed_room);
    pthread_mutex_destroy(&q->lock);
    light_free(q);
}

light_status light_thread_start(pthread_t *out, const char *name, void *(*fn)(void *), void *argument)
{
    sigset_t all, before;

    /* A new thread inherits the mask of the one that makes it. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(out, NULL, fn, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) return light_fail(LIGHT_ERR_MEMORY, "cannot start a thread: %s", strerror(error));

    char short_name[16];
    snprintf(short_name, sizeof short_name, "%s", name);
    pthread_setname_np(*out, short_name);
    return LIGHT_OK;
}

typedef struct {
    light_task_fn fn;
    void *argument;
} task;

struct light_workers {
    light_queue *tasks;
    pthread_mutex_t lock;
    pthread_cond_t idle;
    size_t unfinished;   /* under lock: tasks submitted and not done */
    light_status status; /* under lock: the first failure */
    char *failure;       /* its text; NULL when there was no memory for it */
    size_t threads;
    pthread_t workers[];
};

static void finish_task(light_workers *pool, light_status status)
{
    pthread_mutex_lock(&pool->lock);
    if (status != LIGHT_OK && pool->status == LIGHT_OK) {
        pool->failure = light_strdup(light_error_message());
        pool->status = status;
    }
    if (--pool->unfinished == 0) pthread_cond_broadcast(&pool->idle);
    pthread_mutex_unlock(&pool->lock);
}

static void *work(void *argument)
{
    light_workers *pool = argument;
    task next;

    while (light_queue_pop(pool->tasks, &next)) finish_task(pool, next.fn(next.argument));
    return NULL;
}

light_status light_workers_new(light_workers **out, const char *name, size_t threads, size_t backlog)
{
    *out = NULL;
    if (threads == 0 || threads > 4096) {
        return light_fail(LIGHT_ERR_ARGUMENT, "there can be 1 to 4096 workers, not %zu", threads);
    }
    light_workers *pool = light_calloc(1, sizeof *pool + threads * sizeof pool->workers[0]);
    if (!pool) return LIGHT_ERR_MEMORY;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->idle, NULL);

    light_status status = light_queue_new(&pool->tasks, backlog, sizeof(task));
    for (size_t i = 0; i < threads && status == LIGHT_OK; i++) {
        status = light_thread_start(&pool->workers[i], name, work, pool);
        if (status == LIGHT_OK) pool->threads++;
    }
    if (status != LIGHT_OK) {
        light_workers_free(pool);
        return status;
    }
    *out = pool;
    return LIGHT_OK;
}

void light_workers_submit(light_workers *pool, light_task_fn fn, void *argument)
{
    task next = {fn, argument};

    pthread_mutex_lock(&pool->lock);
    pool->unfinished++;
    pthread_mutex_unlock(&pool->lock);
    light_queue_push(pool->tasks, &next);
}

light_status light_workers_wait(light_workers *pool)
{
    pthread_mutex_lock(&pool->lock);
    while (pool->unfinished > 0) pthread_cond_wait(&pool->idle, &pool->lock);
    light_status status = pool->status;
    char *failure = pool->failure;
    pool->status = LIGHT_OK;
    pool->failure = NULL;
    pthread_mutex_unlock(&pool->lock);

    if (status != LIGHT_OK) light_fail(status, "%s", failure ? failure : light_status_text(status));
    light_free(failure);
    return status;
}

void light_workers_free(light_workers *pool)
{
    if (!pool) return;
    if (pool->tasks) light_queue_close(pool->tasks);
    for (size_t i = 0; i < pool->threads; i++) pthread_join(pool->workers[i], NULL);
    light_queue_free(pool->tasks);
    pthread_cond_destroy(&pool->idle);
    pthread_mutex_destroy(&pool->lock);
    light_free(pool->failure);
    light_free(pool);
}

size_t light_core_count(void)
{
    cpu_set_t set;

    /* On a machine too large for cpu_set_t the call fails; one core is then the safe answer. */
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int count = CPU_COUNT(&set);
    return count > 0 ? (size_t)count : 1;
}
