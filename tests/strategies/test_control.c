/* SPDX-License-Identifier: Apache-2.0 */
/* The control channel: processes that die, hang, are late, fail, stop together and send messages. The times asserted are
 * upper bounds of what the channel promises, with room for a machine that is busy. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/job.h"

#include "base/memory.h"
#include "base/thread.h"
#include "base/time.h"

#include <light/message.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SLACK 4.0 /* seconds that a busy machine may add */

/* One line was said, which has "rank 2 (host, pid 812)". */
static bool names(const job *j, int rank)
{
    char name[64], pid[32];
    snprintf(name, sizeof name, "rank %d (", rank);
    snprintf(pid, sizeof pid, ", pid %d)", (int)j->shared->pids[rank]);
    return j->lines == 1 && strstr(j->said, name) && strstr(j->said, pid);
}

static void assert_names(const job *j, int rank, const char *more)
{
    if (!names(j, rank) || !strstr(j->said, more))
        fail_msg("one line with rank %d and \"%s\" was expected:\n%s", rank, more, j->said);
}

static void assert_all_exit(const job *j, int code, int but)
{
    for (int r = 0; r < j->size; r++)
        if (r != but && j->exited[r] != code)
            fail_msg("rank %d ended with %d, not %d:\n%s", r, j->exited[r], code, j->said);
}

/* The usual end of a body. */
static int end(job_rank *r, light_status status)
{
    light_control_close(r->control);
    return light_exit_code(status);
}

/* ---- an ordinary life ---------------------------------------------------------------------- */

static int train(job_rank *r)
{
    light_status status = LIGHT_OK;
    for (int i = 0; i < 100 && status == LIGHT_OK; i++) {
        status = job_boundary(r, i);
        if (status == LIGHT_OK) status = job_meet(r, i, "gradients", 1000);
    }
    return end(r, status);
}

static void processes_come_and_go(void **state)
{
    (void)state;
    for (int size = 2; size <= 5; size++) {
        job j = {.size = size, .timeout = 5, .body = train};
        job_run(&j);
        assert_all_exit(&j, 0, -1);
        assert_string_equal(j.said, "");
    }
}

/* The end is far apart: those who have come to it wait, and are not missed. */
static int end_one_after_another(job_rank *r)
{
    usleep((useconds_t)r->rank * 300000);
    return end(r, LIGHT_OK);
}

static void the_end_may_be_far_apart(void **state)
{
    (void)state;
    job j = {.size = 3, .timeout = 0.4, .body = end_one_after_another};
    job_run(&j);
    assert_all_exit(&j, 0, -1);
    assert_string_equal(j.said, "");
    for (int r = 0; r < 3; r++) assert_true(j.seconds[r] >= 0.6);
}

static int count_allocations(job_rank *r)
{
    light_status status = LIGHT_OK;
    uint64_t before = 0;
    for (int i = 0; i < 300 && status == LIGHT_OK; i++) {
        if (i == 100) before = light_memory_count().calls;
        status = job_boundary(r, i);
        if (status == LIGHT_OK) status = job_meet(r, i, "gradients", 1000);
        usleep(3000);
    }
    bool none = light_memory_count().calls == before;
    light_control_close(r->control);
    return status == LIGHT_OK && none ? 0 : 1;
}

static void steady_steps_allocate_nothing(void **state)
{
    (void)state;
    job j = {.size = 3, .timeout = 0.4 /* beats each 0.05 s */, .body = count_allocations};
    job_run(&j);
    assert_all_exit(&j, 0, -1);
}

static void a_job_of_one_has_no_channel(void **state)
{
    light_communicator alone = {.size = 1};
    light_control *c = (light_control *)&alone;
    bool stop = true;
    void *bytes;
    size_t n;
    (void)state;
    assert_int_equal(light_control_open(&c, &alone, 1), LIGHT_OK);
    assert_null(c);
    light_control_enter(c, &(light_collective){0}, 1);
    light_control_leave(c, 1);
    assert_int_equal(light_control_status(c), LIGHT_OK);
    assert_int_equal(light_control_boundary(c, 0, 0, &stop), LIGHT_OK);
    assert_false(stop);
    assert_int_equal(light_control_boundary(c, 1, SIGUSR1, &stop), LIGHT_OK);
    assert_true(stop);
    assert_true(light_control_fail(c, LIGHT_ERR_IO, "text"));
    assert_int_equal(light_control_announce(c, 1, "x", 1), LIGHT_OK);
    assert_int_equal(light_control_send(c, 1, "x", 1), LIGHT_ERR_STATE);
    assert_int_equal(light_control_receive(c, 0, 1, &bytes, &n), LIGHT_ERR_STATE);
    assert_int_equal(light_control_await(c, 1, &bytes, &n), LIGHT_ERR_STATE);
    light_control_close(c);
}

/* ---- death ---------------------------------------------------------------------------------- */

/* Bits of `number`: the ranks that die at the fifth step. */
static int die_at_five(job_rank *r)
{
    light_status status = LIGHT_OK;
    for (int i = 0; status == LIGHT_OK; i++) {
        status = job_boundary(r, i);
        if (i == 5 && (r->job->number >> r->rank & 1)) kill(getpid(), SIGKILL);
        if (status == LIGHT_OK) status = job_meet(r, i, "gradients", 1000);
    }
    return end(r, status);
}

static void a_killed_process_is_named(void **state)
{
    (void)state;
    for (int rank = 0; rank < 4; rank++) {
        job j = {.size = 4, .timeout = 30, .body = die_at_five, .number = 1 << rank};
        job_run(&j);
        assert_int_equal(j.exited[rank], 1000 + SIGKILL);
        assert_all_exit(&j, LIGHT_EXIT_PEER, rank);
        assert_names(&j, rank, "has died: its connection ended");
        for (int r = 0; r < 4; r++) assert_true(j.seconds[r] < 1 + SLACK);
    }
}

static void the_lowest_that_lives_speaks(void **state)
{
    (void)state;
    job j = {.size = 4, .timeout = 30, .body = die_at_five, .number = 3};
    job_run(&j);
    assert_int_equal(j.exited[2], LIGHT_EXIT_PEER);
    assert_int_equal(j.exited[3], LIGHT_EXIT_PEER);
    /* Both die, and whichever was seen first is named; rank 0 may even live to say it of rank 1. */
    assert_names(&j, names(&j, 0) ? 0 : 1, "has died");
}

static int leave_without_a_word(job_rank *r)
{
    if (r->rank == 1) _exit(0);
    for (;;) { /* takes no notice: the channel ends it */
        usleep(1000);
        (void)light_control_status(r->control);
    }
}

static void exiting_is_death_and_nobody_stays(void **state)
{
    (void)state;
    job j = {.size = 3, .timeout = 30, .body = leave_without_a_word};
    job_run(&j);
    assert_int_equal(j.exited[1], 0);
    assert_all_exit(&j, LIGHT_EXIT_PEER, 1);
    assert_names(&j, 1, "has died");
    assert_true(j.seconds[0] < 2 + SLACK && j.seconds[2] < 2 + SLACK);
}

/* ---- hanging --------------------------------------------------------------------------------- */

/* Rank `number` does not come to call 7; in one way or another. */
static int hang(job_rank *r, void (*how)(void))
{
    light_status status = LIGHT_OK;
    for (int i = 1; status == LIGHT_OK; i++) {
        status = job_boundary(r, i);
        if (i == 7 && r->rank == r->job->number) how();
        usleep(20000); /* a step takes its time */
        if (status == LIGHT_OK) status = job_meet(r, i, "gradients 5 of 12", 6553600);
    }
    return end(r, status);
}

static void stop_self(void)
{
    kill(getpid(), SIGSTOP);
}

static int be_stopped(job_rank *r)
{
    return hang(r, stop_self);
}

static int be_late(job_rank *r)
{
    return hang(r, job_hang);
}

/* When the others have ended. The process finds them gone, and has nothing to tell about it. */
static bool wake_the_stopped(job *j)
{
    bool others = true;
    for (int r = 0; r < j->size; r++) others = others && (r == j->number || j->seconds[r] > 0);
    if (!others) return false;
    kill(j->shared->pids[j->number], SIGCONT);
    return true;
}

static void a_stopped_process_is_named(void **state)
{
    (void)state;
    for (int rank = 0; rank < 3; rank += 2) {
        job j = {.size = 3, .timeout = 0.8, .body = be_stopped, .meddle = wake_the_stopped, .number = rank};
        job_run(&j);
        assert_all_exit(&j, LIGHT_EXIT_PEER, -1);
        assert_names(&j, rank, "never entered all_reduce #7 (gradients 5 of 12, 25.0 MiB)");
        assert_non_null(strstr(j.said, "; last heartbeat 1 s ago"));
        for (int r = 0; r < 3; r++) assert_true(r == rank || j.seconds[r] < 0.8 + 1 + SLACK);
    }
}

static void a_late_process_is_named_and_ends(void **state)
{
    (void)state;
    for (int rank = 0; rank < 3; rank += 2) {
        job j = {.size = 3, .timeout = 0.8, .body = be_late, .number = rank};
        job_run(&j);
        assert_all_exit(&j, LIGHT_EXIT_PEER, -1); /* the one that hangs too */
        assert_names(&j, rank, "never entered all_reduce #7 (gradients 5 of 12, 25.0 MiB)");
        assert_non_null(strstr(j.said, "; last heartbeat 0 s ago"));
    }
}

/* Waits in a call that all have entered. */
static int wait_for_nothing(job_rank *r)
{
    light_status status = job_boundary(r, 0);
    light_collective call = {.kind = LIGHT_BARRIER, .what = "end of the epoch"};
    light_control_enter(r->control, &call, 3);
    while (status == LIGHT_OK) {
        usleep(1000);
        status = light_control_status(r->control);
    }
    return end(r, status);
}

static void a_call_that_does_not_end_is_told(void **state)
{
    (void)state;
    job j = {.size = 3, .timeout = 0.5, .body = wait_for_nothing};
    job_run(&j);
    assert_all_exit(&j, LIGHT_EXIT_PEER, -1);
    assert_int_equal(j.lines, 1);
    assert_non_null(strstr(j.said, "barrier #3 (end of the epoch) has not come to an end in"));
}

/* In calls without messages between them. */
static int wait_elsewhere(job_rank *r)
{
    bool odd = r->rank == r->job->number;
    light_status status = job_boundary(r, 0);
    light_collective call = {.kind = odd ? LIGHT_ALL_GATHER : LIGHT_BARRIER,
                             .count = odd ? 256 : 0,
                             .dtype = LIGHT_F32,
                             .what = odd ? "values 3 of 9" : "end of the epoch"};
    light_control_enter(r->control, &call, 3);
    while (status == LIGHT_OK) {
        usleep(1000);
        status = light_control_status(r->control);
    }
    return end(r, status);
}

static void different_calls_are_told(void **state)
{
    (void)state;
    for (int odd = 0; odd < 3; odd++) {
        job j = {.size = 3, .timeout = 30, .body = wait_elsewhere, .number = odd};
        job_run(&j);
        assert_all_exit(&j, LIGHT_EXIT_FAILED, -1);
        assert_names(&j, odd, "all_gather #3 (values 3 of 9, 1.0 KiB)");
        assert_names(&j, 0, "barrier #3 (end of the epoch)");
        for (int r = 0; r < 3; r++) assert_true(j.seconds[r] < 3 + SLACK);
    }
}

/* Nobody is behind who does not keep others waiting. */
static int compute_for_long(job_rank *r)
{
    light_status status = job_boundary(r, 0);
    if (status == LIGHT_OK) status = job_meet(r, 0, "first", 1);
    usleep(1200000);
    if (status == LIGHT_OK) status = job_meet(r, 1, "second", 1);
    return end(r, status);
}

/* Before the first boundary data is prepared, by one process for all. */
static int prepare_for_long(job_rank *r)
{
    if (r->rank == 0) usleep(1200000);
    light_status status = job_meet(r, 0, "data is prepared", 0);
    return end(r, status);
}

static void long_work_is_no_hang(void **state)
{
    (void)state;
    job computing = {.size = 3, .timeout = 0.5, .body = compute_for_long};
    job_run(&computing);
    assert_all_exit(&computing, 0, -1);
    job preparing = {.size = 3, .timeout = 0.5, .body = prepare_for_long};
    job_run(&preparing);
    assert_all_exit(&preparing, 0, -1);
}

/* All processes are stopped for longer than the limit, as by Ctrl-Z, and go on. */
static bool stop_and_continue_all(job *j)
{
    if (!atomic_load(&j->shared->go)) return false;
    for (int r = 0; r < j->size; r++) kill(j->shared->pids[r], SIGSTOP);
    usleep(1600000);
    for (int r = 0; r < j->size; r++) kill(j->shared->pids[r], SIGCONT);
    return true;
}

static int train_for_two_seconds(job_rank *r)
{
    light_status status = LIGHT_OK;
    for (int i = 0; i < 400 && status == LIGHT_OK; i++) {
        if (i == 50) atomic_store(&r->job->shared->go, true);
        status = job_boundary(r, i);
        if (status == LIGHT_OK) status = job_meet(r, i, "gradients", 1000);
        usleep(2000);
    }
    return end(r, status);
}

static void a_job_that_was_stopped_goes_on(void **state)
{
    (void)state;
    job j = {.size = 3, .timeout = 1, .body = train_for_two_seconds, .meddle = stop_and_continue_all};
    job_run(&j);
    assert_all_exit(&j, 0, -1);
    assert_string_equal(j.said, "");
}

static int never_end(job_rank *r)
{
    if (r->rank == 2) job_hang();
    return end(r, job_boundary(r, 0));
}

static void the_end_is_not_waited_for_without_limit(void **state)
{
    (void)state;
    job j = {.size = 3, .timeout = 0.1, .body = never_end};
    job_run(&j);
    assert_names(&j, 2, "has not come to the end of the job");
    assert_int_equal(j.exited[2], LIGHT_EXIT_PEER);
}

/* ---- failures ----------------------------------------------------------------------------------- */

/* The ranks whose bits are set in `number` fail with one text, as a program does that prints its failures. */
static int fail_in_step_three(job_rank *r)
{
    light_status status = LIGHT_OK;
    for (int i = 0; i < 2000 && status == LIGHT_OK; i++) {
        status = job_boundary(r, i);
        if (i == 3 && (r->job->number >> r->rank & 1))
            status = light_fail(LIGHT_ERR_IO, "cannot read data.bin: it is not there");
        if (status == LIGHT_OK) status = job_meet(r, i, "gradients", 1000);
    }
    if (light_control_fail(r->control, status, light_error_message()))
        fprintf(stderr, "program: %s\n", light_error_message());
    return end(r, status);
}

static void a_failure_is_told_once(void **state)
{
    (void)state;
    for (int ranks = 1; ranks < 16; ranks++) {
        job j = {.size = 4, .timeout = 30, .body = fail_in_step_three, .number = ranks};
        job_run(&j);
        assert_all_exit(&j, LIGHT_EXIT_FAILED, -1);
        if (j.lines != 1 || !strstr(j.said, ": cannot read data.bin: it is not there\n"))
            fail_msg("one line was expected:\n%s", j.said);
        if (ranks == 1) assert_string_equal(j.said, "program: cannot read data.bin: it is not there\n");
        if (ranks == 4) assert_names(&j, 2, ")");
        for (int r = 0; r < 4; r++) assert_true(j.seconds[r] < 2 + SLACK);
    }
}

/* Rank 0 does not look at what happens to the others, and hangs. */
static int hang_when_another_fails(job_rank *r)
{
    if (r->rank != 1) job_hang();
    light_fail(LIGHT_ERR_IO, "no space left on disk");
    bool tell = light_control_fail(r->control, LIGHT_ERR_IO, light_error_message());
    light_control_close(r->control);
    return tell ? 98 : 1;
}

static void a_failure_ends_those_that_do_not_look(void **state)
{
    (void)state;
    job j = {.size = 3, .timeout = 30, .body = hang_when_another_fails};
    job_run(&j);
    assert_all_exit(&j, LIGHT_EXIT_FAILED, -1);
    assert_names(&j, 1, ": no space left on disk");
}

/* ---- stops ------------------------------------------------------------------------------------------ */

enum { TRIALS = 60, STEPS = 40 };

/* A reproducible number for a trial, a rank and what for. */
static unsigned dice(int trial, int rank, int what)
{
    unsigned x = (unsigned)(trial * 7919 + rank * 104729 + what * 1299709) * 2654435761u;
    x ^= x >> 15;
    x *= 2246822519u;
    return x ^ x >> 13;
}

/* In each trial some ranks are asked to stop at some boundary, all run at their own pace except where they meet, and the
 * boundary where each stops is noted. */
static int stop_at_random(job_rank *r)
{
    for (int trial = 0; trial < TRIALS; trial++) {
        light_control *c;
        bool stop = false;
        int64_t at = 0;
        if (light_control_open(&c, &r->host, 20) != LIGHT_OK) return 2;
        r->control = c;
        bool asked = r->rank == trial % r->job->size || dice(trial, r->rank, 0) % 2;
        int64_t when = dice(trial, r->rank, 1) % STEPS;
        for (at = 0; at < STEPS; at++) {
            int signal_number = asked && at >= when ? SIGUSR1 : 0;
            if (light_control_boundary(c, at, signal_number, &stop) != LIGHT_OK) return 3;
            if (stop) break;
            if (dice(trial, r->rank, (int)at + 10) % 3 == 0) usleep(dice(trial, r->rank, (int)at) % 1500);
            /* Meeting keeps ranks within a step of each other; in half of the trials they run apart. */
            if (trial % 2 && job_meet(r, trial / 2 * STEPS + (int)at, "gradients", 1) != LIGHT_OK) return 4;
        }
        atomic_store(&r->job->shared->values[r->rank][trial], stop ? at : -1);
        light_control_close(c);
    }
    return 0;
}

static void all_stop_at_the_same_boundary(void **state)
{
    (void)state;
    _Static_assert(TRIALS <= 64 && TRIALS / 2 * STEPS <= JOB_CALLS, "there is room for the trials");
    for (int size = 2; size <= 4; size++) {
        job j = {.size = size, .body = stop_at_random, .no_channel = true};
        int stopped = 0;
        job_run(&j);
        assert_all_exit(&j, 0, -1);
        for (int trial = 0; trial < TRIALS; trial++) {
            int64_t at = j.shared->values[0][trial];
            stopped += at >= 0;
            for (int r = 1; r < size; r++)
                if (j.shared->values[r][trial] != at)
                    fail_msg("trial %d of %d ranks: rank 0 stopped at %d, rank %d at %d", trial, size,
                             (int)at, r, (int)j.shared->values[r][trial]);
        }
        assert_true(stopped > TRIALS / 4); /* the others came to the end first */
    }
}

/* ---- messages ----------------------------------------------------------------------------------------- */

static const size_t sizes[] = {0, 1, 1000, 1 << 20, 20 << 20};
#define SIZES (sizeof sizes / sizeof *sizes)

static char *fill(size_t n, int seed)
{
    char *bytes = malloc(n + 1);
    for (size_t i = 0; i < n; i++) bytes[i] = (char)(i * 31 + (size_t)seed * 7 + i / 251);
    return bytes;
}

static bool is_filled(const void *bytes, size_t n, size_t want, int seed)
{
    char *expected = fill(want, seed);
    bool same = n == want && memcmp(bytes, expected, n) == 0;
    free(expected);
    return same;
}

static light_status send_all(void *argument)
{
    job_rank *r = argument;
    for (size_t i = SIZES; i-- > 0;) {
        char *bytes = fill(sizes[i], r->rank + (int)i);
        light_status status = light_control_send(r->control, 100 + i, bytes, sizes[i]);
        free(bytes);
        LIGHT_TRY(status);
    }
    return LIGHT_OK;
}

/* Rank 0 takes what all ranks have sent in another order, and announces the same to all. */
static int send_messages(job_rank *r)
{
    light_workers *pool;
    bool well = true;
    void *bytes;
    size_t n;
    if (light_workers_new(&pool, "sender", 1, 1) != LIGHT_OK) return 2;
    light_workers_submit(pool, send_all, r);
    for (size_t i = 0; i < SIZES && r->rank == 0; i++)
        for (int from = r->job->size - 1; from >= 0; from--) {
            if (light_control_receive(r->control, from, 100 + i, &bytes, &n) != LIGHT_OK) return 3;
            well = well && is_filled(bytes, n, sizes[i], from + (int)i);
            light_free(bytes);
        }
    for (size_t i = 0; i < SIZES; i++) {
        char *mine = fill(sizes[i], 77);
        if (r->rank == 0 && light_control_announce(r->control, 200 + i, mine, sizes[i]) != LIGHT_OK) return 4;
        free(mine);
    }
    for (size_t i = SIZES; i-- > 0 && r->rank > 0;) {
        if (light_control_await(r->control, 200 + i, &bytes, &n) != LIGHT_OK) return 5;
        well = well && is_filled(bytes, n, sizes[i], 77);
        light_free(bytes);
    }
    if (light_workers_wait(pool) != LIGHT_OK) return 6;
    light_workers_free(pool);
    light_control_close(r->control);
    return well ? 0 : 7;
}

static void messages_arrive_whole(void **state)
{
    (void)state;
    job j = {.size = 3, .timeout = 20, .body = send_messages};
    job_run(&j);
    assert_all_exit(&j, 0, -1);
    assert_string_equal(j.said, "");
}

/* Rank 0 waits for a message that never comes, because its sender dies or is stopped. */
static int wait_for_a_message(job_rank *r)
{
    void *bytes;
    size_t n;
    light_status status = job_boundary(r, 0);
    usleep(200000); /* the first heartbeats have come */
    if (r->rank == 1) kill(getpid(), (int)r->job->number);
    if (status == LIGHT_OK && r->rank == 0) status = light_control_receive(r->control, 1, 5, &bytes, &n);
    if (status == LIGHT_OK && r->rank == 2) status = light_control_await(r->control, 5, &bytes, &n);
    return end(r, status);
}

static bool kill_rank_one(job *j)
{
    if (j->seconds[0] == 0 || j->seconds[2] == 0) return false;
    kill(j->shared->pids[1], SIGKILL);
    return true;
}

static void waits_for_messages_end(void **state)
{
    (void)state;
    for (int stopped = 0; stopped < 2; stopped++) {
        job j = {.size = 3,
                 .timeout = 0.6,
                 .body = wait_for_a_message,
                 .meddle = kill_rank_one,
                 .number = stopped ? SIGSTOP : SIGKILL};
        job_run(&j);
        assert_int_equal(j.exited[0], LIGHT_EXIT_PEER);
        assert_int_equal(j.exited[2], LIGHT_EXIT_PEER);
        assert_names(&j, 1, stopped ? "has stopped while others wait for it" : "has died");
    }
}

/* ---- opening ---------------------------------------------------------------------------------------------- */

/* What a port scanner might send: nothing, another protocol, a frame that is too long, a greeting with a wrong token. */
static const struct {
    const char *bytes;
    size_t n;
} strangers[] = {
    {"", 0},
    {"GET / HTTP/1.0\r\n\r\n", 18},
    {"\x01\x00\x43\x4c\xff\xff\xff\x7f\0\0\0\0\0\0\0\0", 16},
    {"\x01\x00\x43\x4c\x5c\x00\x00\x00\0\0\0\0\0\0\0\0 0123456789abcdef0123456789abcdef0123456789abcdef"
     "0123456789abcdef0123456789abcdef0123456789a",
     16 + 92},
};

/* The address that a socket of this process listens at; waits until there is one. */
static socklen_t find_listener(struct sockaddr_storage *address)
{
    for (int fd = 3;; fd = fd < 64 ? fd + 1 : 3) {
        socklen_t bytes = sizeof *address, n = sizeof(int);
        int listens = 0;
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &n);
        if (listens && getsockname(fd, (struct sockaddr *)address, &bytes) == 0) return bytes;
        if (fd == 64) usleep(1000);
    }
}

static void *send_strangers(void *argument)
{
    job_rank *r = argument;
    struct sockaddr_storage address;
    socklen_t bytes = find_listener(&address);
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++) {
        int s = socket(address.ss_family, SOCK_STREAM, 0);
        bool sent = connect(s, (struct sockaddr *)&address, bytes) == 0 &&
                    send(s, strangers[i].bytes, strangers[i].n, MSG_NOSIGNAL) == (ssize_t)strangers[i].n;
        atomic_store(&r->job->shared->values[0][i], sent);
    }
    atomic_store(&r->job->shared->go, true);
    return NULL;
}

static int open_among_strangers(job_rank *r)
{
    pthread_t thread;
    if (r->rank == 0) {
        /* The others come when the strangers are there. */
        if (light_thread_start(&thread, "strangers", send_strangers, r) != LIGHT_OK) return 2;
    }
    while (r->rank == 1 && !atomic_load(&r->job->shared->go)) usleep(1000);
    if (light_control_open(&r->control, &r->host, 10) != LIGHT_OK) {
        fprintf(stderr, "open: %s\n", light_error_message());
        return 3;
    }
    light_status status = job_meet(r, 0, "after it", 1);
    if (r->rank == 0) pthread_join(thread, NULL);
    return end(r, status);
}

static void strangers_are_turned_away(void **state)
{
    (void)state;
    job j = {.size = 3, .body = open_among_strangers, .no_channel = true};
    job_run(&j);
    assert_all_exit(&j, 0, -1);
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++) assert_true(j.shared->values[0][i]);
    assert_string_equal(j.said, "");
}

static int do_not_come(job_rank *r)
{
    if (r->rank == 1) {
        usleep(1500000);
        return 0;
    }
    light_status status = light_control_open(&r->control, &r->host, 0.5);
    if (status != LIGHT_OK) fprintf(stderr, "%s\n", light_error_message());
    return status == LIGHT_OK ? 0 : 1;
}

static void a_process_that_does_not_come_is_named(void **state)
{
    (void)state;
    job j = {.size = 2, .body = do_not_come, .no_channel = true};
    job_run(&j);
    assert_int_equal(j.exited[0], 1);
    assert_int_equal(j.lines, 1);
    assert_non_null(strstr(j.said, "rank 1 has not come to the control channel on "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(processes_come_and_go),
        cmocka_unit_test(the_end_may_be_far_apart),
        cmocka_unit_test(steady_steps_allocate_nothing),
        cmocka_unit_test(a_job_of_one_has_no_channel),
        cmocka_unit_test(a_killed_process_is_named),
        cmocka_unit_test(the_lowest_that_lives_speaks),
        cmocka_unit_test(exiting_is_death_and_nobody_stays),
        cmocka_unit_test(a_stopped_process_is_named),
        cmocka_unit_test(a_late_process_is_named_and_ends),
        cmocka_unit_test(a_call_that_does_not_end_is_told),
        cmocka_unit_test(different_calls_are_told),
        cmocka_unit_test(long_work_is_no_hang),
        cmocka_unit_test(a_job_that_was_stopped_goes_on),
        cmocka_unit_test(the_end_is_not_waited_for_without_limit),
        cmocka_unit_test(a_failure_is_told_once),
        cmocka_unit_test(a_failure_ends_those_that_do_not_look),
        cmocka_unit_test(all_stop_at_the_same_boundary),
        cmocka_unit_test(messages_arrive_whole),
        cmocka_unit_test(waits_for_messages_end),
        cmocka_unit_test(strangers_are_turned_away),
        cmocka_unit_test(a_process_that_does_not_come_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
