/* SPDX-License-Identifier: Apache-2.0 */
/* A bounded queue between threads, and a few worker threads that take tasks from one. Neither allocates after it
 * was made. Workers block all signals, so Ctrl-C always reaches the program's own thread. */
#ifndef LIGHT_BASE_THREAD_H
#define LIGHT_BASE_THREAD_H

#include <light/status.h>

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct light_queue light_queue;

/* A queue of at most `capacity` items of `item_bytes` each, which are copied in and out. */
light_status light_queue_new(light_queue **out, size_t capacity, size_t item_bytes);

/* Waits for room. False when the queue was closed; the item is then not taken. */
bool light_queue_push(light_queue *q, const void *item);

/* Waits for an item. False when the queue is closed and empty. */
bool light_queue_pop(light_queue *q, void *item);

/* The same without waiting: false when there is none now. */
bool light_queue_try_pop(light_queue *q, void *item);

/* No more pushes; pops go on until the queue is empty. Wakes everyone who waits. */
void light_queue_close(light_queue *q);

/* Nobody may be waiting any more. NULL is fine. */
void light_queue_free(light_queue *q);

typedef light_status (*light_task_fn)(void *argument);
typedef struct light_workers light_workers;

/* Starts `threads` workers; `backlog` tasks may wait. `name` (at most 15 bytes) is what debuggers show. */
light_status light_workers_new(light_workers **out, const char *name, size_t threads, size_t backlog);

/* Hands a task over; waits while the backlog is full. Not to be called from a task of the same pool. */
void light_workers_submit(light_workers *pool, light_task_fn fn, void *argument);

/* Waits until every task is done. Returns the first failure since the last wait, with its text. */
light_status light_workers_wait(light_workers *pool);

/* Finishes all tasks, ends the workers, frees the pool; failures not waited for are lost. NULL is fine. */
void light_workers_free(light_workers *pool);

/* pthread_create with all signals blocked in the new thread; the thread's name is cut to 15 bytes. */
light_status light_thread_start(pthread_t *out, const char *name, void *(*fn)(void *), void *argument);

/* The number of cores this process may use, at least 1. */
size_t light_core_count(void);

#endif
