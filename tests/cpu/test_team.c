/* SPDX-License-Identifier: Apache-2.0 */
/* The team of threads: every item once, ranks apart, barriers, calls from inside and from elsewhere, forked children. */
#include "cpu/once/team.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { ITEMS = 1000, TEAM = 4, ROUNDS = 300 };

typedef struct record {
    atomic_int calls[ITEMS], active[TEAM], clashes;
} record;

static void note(void *context, int64_t i, int rank)
{
    record *r = context;
    if (rank < 0 || rank >= TEAM || atomic_fetch_add(&r->active[rank], 1) != 0) r->clashes++;
    r->calls[i]++;
    atomic_fetch_sub(&r->active[rank], 1);
}

static bool all_once(const record *r, int64_t n)
{
    for (int64_t i = 0; i < ITEMS; i++)
        if (r->calls[i] != (i < n)) return false;
    return r->clashes == 0;
}

static void every_item_once(void **state)
{
    static record r;
    const int64_t counts[] = {0, 1, 2, 3, 5, 64, ITEMS};
    (void)state;
    for (int threads = 1; threads <= TEAM; threads++) {
        light_set_num_threads(threads);
        assert_int_equal(light_team_size(), threads);
        for (int round = 0; round < ROUNDS; round++) {
            const int64_t n = counts[round % 7];
            memset(&r, 0, sizeof r);
            light_team_each(round % 11 != 0, n, note, &r);
            assert_true(all_once(&r, n));
        }
    }
}

typedef struct lockstep {
    atomic_int sizes, steps[TEAM], wrong;
} lockstep;

/* Nobody is a step ahead of anybody behind a barrier. */
static void step_together(void *context, int rank, int size)
{
    lockstep *l = context;
    atomic_fetch_add(&l->sizes, size);
    for (int step = 1; step <= 5; step++) {
        l->steps[rank] = step;
        light_crew_barrier(size);
        for (int i = 0; i < size; i++)
            if (l->steps[i] != step) l->wrong++;
        light_crew_barrier(size);
    }
}

static void crews_step_together(void **state)
{
    (void)state;
    for (int threads = 1; threads <= TEAM; threads++) {
        light_set_num_threads(threads);
        for (int round = 0; round < ROUNDS / 3; round++) {
            lockstep l = {0};
            light_team_crew(round % 2 ? 0 : 20000, step_together, &l);
            assert_int_equal(l.wrong, 0);
            int members = 0; /* each has added the number of all */
            while (members < TEAM && l.steps[members]) members++;
            assert_in_range(members, 1, threads);
            assert_int_equal(l.sizes, members * members);
        }
    }
}

static void call_again(void *context, int64_t i, int rank)
{
    record *r = context;
    (void)i;
    if (light_team_size() != 1) r->clashes++;
    record own;
    memset(&own, 0, sizeof own);
    light_team_each(true, 10, note, &own);
    if (!all_once(&own, 10)) r->clashes++;
    (void)rank;
}

static void calls_from_inside_run_alone(void **state)
{
    record r;
    (void)state;
    light_set_num_threads(3);
    memset(&r, 0, sizeof r);
    light_team_each(true, 20, call_again, &r);
    assert_int_equal(r.clashes, 0);
    assert_int_equal(light_team_size(), 3);
}

static void *call_often(void *argument)
{
    int *wrong = argument;
    for (int round = 0; round < ROUNDS; round++) {
        record r;
        memset(&r, 0, sizeof r);
        light_team_each(true, 100, note, &r);
        *wrong += !all_once(&r, 100);
    }
    return NULL;
}

static void threads_call_at_once(void **state)
{
    pthread_t other;
    int wrong[2] = {0};
    (void)state;
    light_set_num_threads(2);
    assert_int_equal(pthread_create(&other, NULL, call_often, &wrong[1]), 0);
    call_often(&wrong[0]);
    pthread_join(other, NULL);
    assert_int_equal(wrong[0] + wrong[1], 0);
}

#ifndef __SANITIZE_THREAD__
static void a_forked_child_has_a_team_of_its_own(void **state)
{
    int status = -1, wrong = 0;
    (void)state;
    light_set_num_threads(2);
    call_often(&wrong);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        call_often(&wrong);
        _exit(wrong);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_item_once),
        cmocka_unit_test(crews_step_together),
        cmocka_unit_test(calls_from_inside_run_alone),
        cmocka_unit_test(threads_call_at_once),
#ifndef __SANITIZE_THREAD__ /* it ends a child that starts threads */
        cmocka_unit_test(a_forked_child_has_a_team_of_its_own),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
