/* SPDX-License-Identifier: Apache-2.0 */
/* Queue and pool: nothing lost, nothing twice, failures reported. No assertion depends on who is faster. */
#include "base/thread.h"

#include "base/memory.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void queue_keeps_order(void **state)
{
    light_queue *q;
    int item;

    (void)state;
    assert_int_equal(light_queue_new(&q, 3, sizeof(int)), LIGHT_OK);
    assert_false(light_queue_try_pop(q, &item));
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 3; i++) assert_true(light_queue_push(q, &(int){10 * round + i}));
        for (int i = 0; i < 3; i++) {
            assert_true(i % 2 ? light_queue_try_pop(q, &item) : light_queue_pop(q, &item));
            assert_int_equal(item, 10 * round + i);
        }
    }
    light_queue_push(q, &(int){7});
    light_queue_close(q);
    assert_false(light_queue_push(q, &(int){8}));
    assert_true(light_queue_pop(q, &item));
    assert_int_equal(item, 7);
    assert_false(light_queue_pop(q, &item));
    light_queue_free(q);
    light_queue_free(NULL);
}

static void queue_refuses_no_room(void **state)
{
    light_queue *q;

    (void)state;
    assert_int_equal(light_queue_new(&q, 0, 4), LIGHT_ERR_ARGUMENT);
    assert_int_equal(light_queue_new(&q, 4, 0), LIGHT_ERR_ARGUMENT);
    assert_int_equal(light_queue_new(&q, SIZE_MAX / 2, 4), LIGHT_ERR_ARGUMENT);
    assert_null(q);
}

enum { PRODUCERS = 3, ITEMS = 2000 };

typedef struct {
    light_queue *queue;
    int first;
    long sum;
} side;

static void *produce(void *argument)
{
    side *s = argument;

    for (int i = 0; i < ITEMS; i++) light_queue_push(s->queue, &(int){s->first + i});
    return NULL;
}

static void *consume(void *argument)
{
    side *s = argument;
    int item;

    while (light_queue_pop(s->queue, &item)) s->sum += item;
    return NULL;
}

static void queue_between_threads(void **state)
{
    light_queue *q;
    side producers[PRODUCERS], consumers[2];
    pthread_t producer_threads[PRODUCERS], consumer_threads[2];

    (void)state;
    assert_int_equal(light_queue_new(&q, 4, sizeof(int)), LIGHT_OK);
    for (int i = 0; i < 2; i++) {
        consumers[i] = (side){.queue = q};
        assert_int_equal(light_thread_start(&consumer_threads[i], "consumer", consume, &consumers[i]),
                         LIGHT_OK);
    }
    for (int i = 0; i < PRODUCERS; i++) {
        producers[i] = (side){.queue = q, .first = i * ITEMS};
        assert_int_equal(
            light_thread_start(&producer_threads[i], "producer with a long name", produce, &producers[i]),
            LIGHT_OK);
    }
    for (int i = 0; i < PRODUCERS; i++) pthread_join(producer_threads[i], NULL);
    light_queue_close(q);
    for (int i = 0; i < 2; i++) pthread_join(consumer_threads[i], NULL);
    long n = (long)PRODUCERS * ITEMS;
    assert_int_equal(consumers[0].sum + consumers[1].sum, n * (n - 1) / 2);
    light_queue_free(q);
}

static light_status count(void *argument)
{
    atomic_fetch_add((atomic_int *)argument, 1);
    return LIGHT_OK;
}

static light_status fail_with_name(void *argument)
{
    return light_fail(LIGHT_ERR_IO, "cannot write %s", (const char *)argument);
}

static void pool_runs_every_task_once(void **state)
{
    static atomic_int done[500];
    light_workers *pool;

    (void)state;
    assert_int_equal(light_workers_new(&pool, "test", 3, 8), LIGHT_OK);
    assert_int_equal(light_workers_wait(pool), LIGHT_OK);
    uint64_t calls = light_memory_count().calls;
    for (int i = 0; i < 500; i++) light_workers_submit(pool, count, &done[i]);
    assert_int_equal(light_workers_wait(pool), LIGHT_OK);
    assert_int_equal(light_memory_count().calls, calls);
    for (int i = 0; i < 500; i++) assert_int_equal(done[i], 1);
    light_workers_free(pool);
}

static void pool_free_finishes_the_backlog(void **state)
{
    static atomic_int done;
    light_workers *pool;

    (void)state;
    assert_int_equal(light_workers_new(&pool, "test", 1, 64), LIGHT_OK);
    for (int i = 0; i < 64; i++) light_workers_submit(pool, count, &done);
    light_workers_free(pool);
    assert_int_equal(done, 64);
    light_workers_free(NULL);
}

static void pool_reports_the_first_failure(void **state)
{
    atomic_int done = 0;
    light_workers *pool;

    (void)state;
    assert_int_equal(light_workers_new(&pool, "test", 1, 8), LIGHT_OK);
    light_workers_submit(pool, count, &done);
    light_workers_submit(pool, fail_with_name, "a.h5");
    light_workers_submit(pool, fail_with_name, "b.h5");
    light_workers_submit(pool, count, &done);
    assert_int_equal(light_workers_wait(pool), LIGHT_ERR_IO);
    assert_string_equal(light_error_message(), "cannot write a.h5");
    assert_int_equal(done, 2);
    assert_int_equal(light_workers_wait(pool), LIGHT_OK);
    light_workers_submit(pool, fail_with_name, "c.h5");
    light_workers_free(pool);
}

static void pool_without_memory(void **state)
{
    light_workers *pool;
    int64_t live = light_memory_count().live;

    (void)state;
    for (int n = 1; n <= 2; n++) {
        light_memory_fail_nth(n);
        assert_int_equal(light_workers_new(&pool, "test", 2, 8), LIGHT_ERR_MEMORY);
        light_memory_fail_nth(0);
        assert_null(pool);
        assert_int_equal(light_memory_count().live, live);
    }
    assert_int_equal(light_workers_new(&pool, "test", 0, 8), LIGHT_ERR_ARGUMENT);
    assert_int_equal(light_workers_new(&pool, "test", 2, 0), LIGHT_ERR_ARGUMENT);
}

static void *read_mask(void *argument)
{
    pthread_sigmask(SIG_BLOCK, NULL, argument);
    return NULL;
}

static void threads_take_no_signals(void **state)
{
    sigset_t before, after, inside;
    pthread_t thread;

    (void)state;
    sigemptyset(&inside);
    pthread_sigmask(SIG_BLOCK, NULL, &before);
    assert_int_equal(light_thread_start(&thread, "t", read_mask, &inside), LIGHT_OK);
    pthread_join(thread, NULL);
    pthread_sigmask(SIG_BLOCK, NULL, &after);
    assert_true(sigismember(&inside, SIGINT));
    assert_true(sigismember(&inside, SIGTERM));
    assert_int_equal(sigismember(&after, SIGINT), sigismember(&before, SIGINT));
    assert_true(light_core_count() >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(queue_keeps_order),
        cmocka_unit_test(queue_refuses_no_room),
        cmocka_unit_test(queue_between_threads),
        cmocka_unit_test(pool_runs_every_task_once),
        cmocka_unit_test(pool_free_finishes_the_backlog),
        cmocka_unit_test(pool_reports_the_first_failure),
        cmocka_unit_test(pool_without_memory),
        cmocka_unit_test(threads_take_no_signals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
