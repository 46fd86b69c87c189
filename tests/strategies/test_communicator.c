/* SPDX-License-Identifier: Apache-2.0 */
/* Communicators: every kind of call in every dtype, run alone and by mpirun with several ranks, on host memory or on that of
 * the test's device. */
#include "strategies/trials.h"

#include "base/world.h"
#include "strategies/mpi_thread.h"

#include <stdio.h>

static light_communicator *host, *tested; /* the same ranks */

static int open_communicators(void **state)
{
    (void)state;
    assert_ok(light_mpi_communicator_new(&host));
    tested = host;
    if (!test_device()->is_host) assert_ok(light_device_communicator_new(&tested, host, test_device()));
    return 0;
}

static int close_communicators(void **state)
{
    (void)state;
    if (tested != host) light_communicator_free(tested);
    light_communicator_free(host);
    return 0;
}

static void group_is_the_job(void **state)
{
    (void)state;
    assert_int_equal(host->rank, light_world_get()->rank);
    assert_int_equal(host->size, light_world_get()->size);
    assert_true(host->size <= MOST_RANKS);
    assert_string_equal(host->vtable->name, host->size > 1 ? "mpi" : "self");
    if (host->size > 1 && test_device()->backend->collectives && !getenv("LIGHT_NCCL"))
        assert_string_equal(tested->vtable->name, "nccl");
    assert_true(tested->rank == host->rank && tested->size == host->size && tested->device == test_device());
}

/* ---- all there is ------------------------------------------------------------------ */

static const int64_t counts[] = {0, 1, 7, 1501};
static const int count_count = sizeof counts / sizeof *counts;

/* All ways for an array that is long enough for every rank, one way each for others. */
static void combinations(light_collective_kind kind, light_dtype dtype, light_combine combine)
{
    int contributors[] = {0, 1, tested->size - 1};
    light_collective call = {.kind = kind, .dtype = dtype, .combine = combine, .what = "a trial"};
    for (int way = 0; way < 12; way++) {
        call.ordered = way & 1;
        call.contributors = contributors[way / 4];
        call.count = counts[count_count - 1];
        run_trial(tested, host, call, way & 2);
        if (way >= count_count - 1) continue;
        call.count = counts[way];
        run_trial(tested, NULL, call, way & 2);
    }
}

static void sums_least_and_greatest(void **state)
{
    (void)state;
    for (int dtype = LIGHT_DTYPE_DEFAULT + 1; dtype < LIGHT_DTYPE_COUNT; dtype++)
        for (int combine = dtype == LIGHT_BOOL; combine <= LIGHT_COMBINE_MAX; combine++) {
            combinations(LIGHT_ALL_REDUCE, (light_dtype)dtype, (light_combine)combine);
            combinations(LIGHT_REDUCE_SCATTER, (light_dtype)dtype, (light_combine)combine);
        }
}

static void moves(void **state)
{
    (void)state;
    for (int dtype = LIGHT_DTYPE_DEFAULT + 1; dtype < LIGHT_DTYPE_COUNT; dtype++)
        for (int i = 0; i < count_count; i++) {
            light_collective call = {.dtype = (light_dtype)dtype, .count = counts[i]};
            call.kind = LIGHT_ALL_GATHER;
            run_trial(tested, host, call, false);
            run_trial(tested, host, call, true);
            call.kind = LIGHT_ALL_TO_ALL;
            run_trial(tested, NULL, call, false);
            call.kind = LIGHT_BROADCAST;
            for (call.peer = 0; call.peer < tested->size; call.peer++)
                run_trial(tested, NULL, call, call.peer % 2);
        }
}

/* Of lengths that nothing divides. */
static void long_arrays(void **state)
{
    light_collective call = {.dtype = LIGHT_F32, .count = 1100003, .ordered = true};
    (void)state;
    run_trial(tested, host, call, true);
    call.kind = LIGHT_REDUCE_SCATTER;
    call.count = 300001;
    run_trial(tested, NULL, call, false);
    call.kind = LIGHT_BROADCAST;
    call.peer = tested->size - 1;
    run_trial(tested, NULL, call, false);
}

/* As if a message could not be long, and memory were small. */
static void messages_go_in_pieces(void **state)
{
    size_t piece = light_mpi_piece;
    int64_t block = light_mpi_block;
    (void)state;
    light_mpi_piece = 1000;
    light_mpi_block = 20000;
    for (int kind = 0; kind <= LIGHT_ALL_TO_ALL; kind++)
        run_trial(
            tested, NULL,
            (light_collective){
                .kind = (light_collective_kind)kind, .dtype = LIGHT_F64, .count = 12345, .ordered = true},
            false);
    light_mpi_piece = piece;
    light_mpi_block = block;
}

static void neighbours_send_and_receive(void **state)
{
    int n = tested->size, next = (tested->rank + 1) % n, before = (tested->rank + n - 1) % n;
    (void)state;
    for (int i = 0; i < count_count && n > 1; i++) {
        trial from, to;
        begin_trial(
            &to, tested,
            (light_collective){.kind = LIGHT_SEND, .dtype = LIGHT_F16, .count = counts[i], .peer = next},
            false);
        begin_trial(
            &from, tested,
            (light_collective){.kind = LIGHT_RECEIVE, .dtype = LIGHT_F16, .count = counts[i], .peer = before},
            false);
        assert_ok(light_communicate(tested, tested->rank % 2 ? &from.call : &to.call));
        assert_ok(light_communicate(tested, tested->rank % 2 ? &to.call : &from.call));
        end_trial(&from, NULL);
        tested->device->backend->release(tested->device, to.memory, to.memory_bytes);
    }
}

/* ---- order --------------------------------------------------------------------------- */

enum { CALLS = 24 };

static light_collective call_of(int i)
{
    return (light_collective){.kind = (light_collective_kind)(i % (LIGHT_ALL_TO_ALL + 1)),
                              .dtype = i % 3 ? LIGHT_F32 : LIGHT_BF16,
                              .count = 1 + 997 * i,
                              .peer = i % tested->size,
                              .ordered = true};
}

static void many_calls_are_waited_for_in_any_order(void **state)
{
    trial trials[CALLS];
    (void)state;
    for (int i = 0; i < CALLS; i++) begin_trial(&trials[i], tested, call_of(i), false);
    for (int i = 0; i < CALLS; i++)
        assert_ok(light_communicate_start(tested, &trials[i].call, &trials[i].ticket));
    for (int i = 0; i < CALLS; i++) {
        trial *t = &trials[(i * 7 + tested->rank) % CALLS];
        assert_ok(light_communicate_wait(tested, t->ticket));
        end_trial(t, NULL);
    }
}

/* A wait for a later call covers it. */
static void a_later_wait_covers(void **state)
{
    trial trials[CALLS];
    (void)state;
    for (int i = 0; i < CALLS; i++) begin_trial(&trials[i], tested, call_of(i), false);
    for (int i = 0; i < CALLS; i++)
        assert_ok(light_communicate_start(tested, &trials[i].call, &trials[i].ticket));
    assert_ok(light_communicate_wait(tested, trials[CALLS - 1].ticket));
    for (int i = 0; i < CALLS; i++) end_trial(&trials[i], NULL);
}

/* ---- groups ---------------------------------------------------------------------------- */

static int in_reverse(int rank)
{
    return -rank;
}

static void halves_are_groups(void **state)
{
    light_communicator *half, *again;
    int n = tested->size, color = tested->rank % 2, members = (n + 1 - color) / 2;
    (void)state;
    assert_ok(tested->vtable->split(tested, color, in_reverse(tested->rank), &half));
    assert_int_equal(half->size, members);
    assert_int_equal(half->rank, members - 1 - tested->rank / 2);
    assert_ok(half->vtable->split(half, 5, 0, &again));
    assert_int_equal(again->size, members);
    assert_int_equal(again->rank, half->rank);
    for (int i = 0; i < CALLS; i++) {
        light_collective call = call_of(i);
        call.peer = 0;
        run_trial(i % 2 ? half : again, NULL, call, false);
        call.peer = i % n;
        run_trial(tested, NULL, call, false);
    }
    light_communicator_free(half);
    light_communicator_free(again);
}

/* Calls of two groups under way at once do not mix. */
static void groups_do_not_mix(void **state)
{
    light_communicator *half;
    trial all[CALLS], ours[CALLS];
    (void)state;
    assert_ok(tested->vtable->split(tested, tested->rank / 2, tested->rank, &half));
    for (int i = 0; i < CALLS; i++) {
        light_collective call = call_of(i);
        begin_trial(&all[i], tested, call, false);
        call.peer = 0;
        begin_trial(&ours[i], half, call, false);
    }
    for (int i = 0; i < CALLS; i++) {
        assert_ok(light_communicate_start(half, &ours[i].call, &ours[i].ticket));
        assert_ok(light_communicate_start(tested, &all[i].call, &all[i].ticket));
    }
    assert_ok(light_communicate_wait(half, ours[CALLS - 1].ticket));
    assert_ok(light_communicate_wait(tested, all[CALLS - 1].ticket));
    for (int i = 0; i < CALLS; i++) {
        end_trial(&all[i], NULL);
        end_trial(&ours[i], NULL);
    }
    light_communicator_free(half);
}

/* ---- numbers of the host ------------------------------------------------------------------ */

static void numbers_of_the_host(void **state)
{
    int n = host->size, r = host->rank;
    double sums[2] = {r + 1, 0.5}, least = -r;
    int64_t word = r == n - 1 ? 77 : 0;
    char text[10], *all;
    size_t sizes[MOST_RANKS], at = 0;
    (void)state;
    assert_ok(light_barrier(host, "a test"));
    assert_ok(light_reduce_doubles(host, sums, 2, LIGHT_COMBINE_SUM, "sums"));
    assert_true(sums[0] == n * (n + 1) / 2.0 && sums[1] == n / 2.0);
    assert_ok(light_reduce_doubles(host, &least, 1, LIGHT_COMBINE_MIN, "the least"));
    assert_true(least == 1 - n);
    assert_ok(light_broadcast_bytes(host, &word, sizeof word, n - 1, "a word"));
    assert_int_equal(word, 77);
    /* rank r has r letters */
    memset(text, 'a' + r, sizeof text);
    assert_ok(light_gather_bytes(host, text, (size_t)r, &all, sizes, "letters"));
    for (int q = 0; q < n; q++) {
        assert_int_equal(sizes[q], q);
        for (int i = 0; i < q; i++) assert_int_equal(all[at++], 'a' + q);
    }
    light_free(all);
}

static void calls_and_bytes_are_counted(void **state)
{
    uint64_t n = (uint64_t)tested->size, calls = tested->calls, bytes = tested->bytes;
    (void)state;
    run_trial(tested, NULL, (light_collective){.kind = LIGHT_ALL_REDUCE, .dtype = LIGHT_F32, .count = 1680},
              true);
    assert_true(tested->calls - calls == 1 && tested->bytes - bytes == 2 * 1680 * 4 * (n - 1) / n);
    bytes = tested->bytes;
    run_trial(tested, NULL, (light_collective){.kind = LIGHT_REDUCE_SCATTER, .dtype = LIGHT_F32, .count = 10},
              true);
    run_trial(tested, NULL, (light_collective){.kind = LIGHT_ALL_GATHER, .dtype = LIGHT_F32, .count = 10},
              true);
    assert_true(tested->calls - calls == 3 && tested->bytes - bytes == 2 * (n - 1) * 40);
}

/* What is needed in a call is kept for the next. */
static void a_steady_step_takes_no_memory(void **state)
{
    static double values[2000];
    uint64_t calls = 0;
    (void)state;
    for (int i = 0; i < 20; i++) {
        if (i == 10) calls = light_memory_count().calls;
        assert_ok(light_reduce_doubles(host, values, i % 2 ? 2000 : 3, LIGHT_COMBINE_SUM, "values"));
    }
    assert_true(light_memory_count().calls == calls);
}

/* ---- wrong calls ------------------------------------------------------------------------- */

static void assert_wrong(light_collective call, const char *text)
{
    light_ticket ticket;
    assert_int_equal(light_communicate_start(tested, &call, &ticket), LIGHT_ERR_ARGUMENT);
    assert_string_equal(light_error_message(), text);
}

static void wrong_calls_are_one_line(void **state)
{
    char a[64], text[100];
    light_collective fine = {.in = a, .out = a, .count = 4, .dtype = LIGHT_F32, .what = "a test"}, call;
    (void)state;
#define WRONG(text, ...)                                                                                     \
    call = fine;                                                                                             \
    __VA_ARGS__;                                                                                             \
    assert_wrong(call, text)
    WRONG("all_reduce of a test: the count is -1", call.count = -1);
    WRONG("all_reduce of a test: 4611686018427387904 elements are too many", call.count = (int64_t)1 << 62);
    WRONG("all_reduce of a test: 0 is no dtype", call.dtype = LIGHT_DTYPE_DEFAULT);
    WRONG("all_reduce of a test: there is no input", call.in = NULL);
    WRONG("all_reduce: there is no output", call.out = NULL; call.what = NULL);
    WRONG("all_reduce of a test: the arrays overlap, and not in place", call.out = a + 4);
    WRONG("all_reduce of a test: bool has no sum; take the maximum", call.dtype = LIGHT_BOOL);
    WRONG("all_reduce of a test: 9 contributors are not in the group", call.contributors = 9);
    WRONG("broadcast of a test: the group has no rank -1", call.kind = LIGHT_BROADCAST; call.peer = -1);
    WRONG("all_to_all of a test: the arrays overlap", call.kind = LIGHT_ALL_TO_ALL);
    WRONG("a collective of a test: there is no kind 8", call.kind = LIGHT_COLLECTIVE_COUNT);
    snprintf(text, sizeof text, "send of a test: rank %d is this one", tested->rank);
    WRONG(text, call.kind = LIGHT_SEND; call.peer = tested->rank);
#undef WRONG
    run_trial(tested, host, (light_collective){.dtype = LIGHT_F32, .count = 5},
              false); /* nothing is broken */
}

/* MPI starts once in a process; communicators come and go. */
static void closed_and_opened_again(void **state)
{
    (void)state;
    close_communicators(state);
    int64_t blocks = light_memory_count().live;
    open_communicators(state);
    halves_are_groups(state);
    close_communicators(state);
    assert_int_equal(light_memory_count().live, blocks);
    open_communicators(state);
    run_trial(tested, host, (light_collective){.dtype = LIGHT_F32, .count = 100}, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(group_is_the_job),
        cmocka_unit_test(sums_least_and_greatest),
        cmocka_unit_test(moves),
        cmocka_unit_test(long_arrays),
        cmocka_unit_test(messages_go_in_pieces),
        cmocka_unit_test(neighbours_send_and_receive),
        cmocka_unit_test(many_calls_are_waited_for_in_any_order),
        cmocka_unit_test(a_later_wait_covers),
        cmocka_unit_test(halves_are_groups),
        cmocka_unit_test(groups_do_not_mix),
        cmocka_unit_test(numbers_of_the_host),
        cmocka_unit_test(calls_and_bytes_are_counted),
        cmocka_unit_test(a_steady_step_takes_no_memory),
        cmocka_unit_test(wrong_calls_are_one_line),
        cmocka_unit_test(closed_and_opened_again),
    };
    return cmocka_run_group_tests(tests, open_communicators, close_communicators);
}
