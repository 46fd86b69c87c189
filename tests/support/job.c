/* SPDX-License-Identifier: Apache-2.0 */
/* Processes of a job by fork. */
#include "support/job.h"

#include "base/time.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define JOB_SECONDS 60.0 /* a test that hangs ends */

/* ---- the host communicator ------------------------------------------------------------ */

static bool transfer(int socket, char *bytes, size_t n, bool out)
{
    while (n > 0) {
        ssize_t done = out ? send(socket, bytes, n, MSG_NOSIGNAL) : recv(socket, bytes, n, 0);
        if (done <= 0) return false;
        bytes += done;
        n -= (size_t)done;
    }
    return true;
}

static light_status broadcast(light_communicator *c, const light_collective *call, light_ticket *ticket)
{
    job_rank *r = (job_rank *)((char *)c - offsetof(job_rank, host));
    bool well = true;
    *ticket = 0;
    if (r->rank > 0) {
        well = transfer(r->job->pipes[r->rank][1], call->out, (size_t)call->count, false);
    } else {
        for (int i = 1; i < c->size; i++)
            well = transfer(r->job->pipes[i][0], call->out, (size_t)call->count, true) && well;
    }
    return well ? LIGHT_OK : light_fail(LIGHT_ERR_STATE, "the other end of the pair has gone");
}

static light_status no_wait(light_communicator *c, light_ticket ticket)
{
    (void)c, (void)ticket;
    return LIGHT_OK;
}

static const light_communicator_vtable pairs = {
    .size = sizeof pairs, .name = "pairs", .start = broadcast, .wait = no_wait};

/* ---- a process ------------------------------------------------------------------------- */

light_status job_meet(job_rank *r, int sequence, const char *what, int64_t count)
{
    light_collective call = {.kind = LIGHT_ALL_REDUCE, .count = count, .dtype = LIGHT_F32, .what = what};
    atomic_int *arrived = &r->job->shared->arrived[sequence];
    light_status status = LIGHT_OK;
    light_control_enter(r->control, &call, (uint64_t)sequence);
    atomic_fetch_add(arrived, 1);
    while (status == LIGHT_OK && atomic_load(arrived) < r->job->size) {
        usleep(200);
        status = light_control_status(r->control);
    }
    if (status == LIGHT_OK) light_control_leave(r->control, (uint64_t)sequence);
    return status;
}

light_status job_boundary(job_rank *r, int64_t boundary)
{
    bool stop;
    return light_control_boundary(r->control, boundary, 0, &stop);
}

void job_hang(void)
{
    for (;;) pause();
}

static int run_rank(job *j, int rank)
{
    job_rank r = {
        .job = j,
        .rank = rank,
        .host = {.vtable = &pairs, .rank = rank, .size = j->size, .device = light_default_device()}};
    atomic_store(&j->shared->pids[rank], getpid());
    for (int i = 1; i < j->size; i++) {
        if (rank != 0) close(j->pipes[i][0]);
        if (rank != i) close(j->pipes[i][1]);
    }
    if (!j->no_channel && light_control_open(&r.control, &r.host, j->timeout) != LIGHT_OK) {
        fprintf(stderr, "open: %s\n", light_error_message());
        return 99;
    }
    return j->body(&r);
}

/* ---- the test's side ------------------------------------------------------------------- */

static void note_end(job *j, int rank, int status, double start)
{
    j->exited[rank] = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
    j->seconds[rank] = light_now() - start;
}

static void wait_for_all(job *j, const pid_t *pids, double start)
{
    bool meddled = !j->meddle;
    for (int left = j->size; left > 0;) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        for (int r = 0; pid > 0 && r < j->size; r++)
            if (pids[r] == pid) note_end(j, r, status, start), left--;
        if (pid > 0) continue;
        if (light_now() - start > JOB_SECONDS)
            for (int r = 0; r < j->size; r++) kill(pids[r], SIGKILL);
        if (!meddled) meddled = j->meddle(j);
        usleep(500);
    }
}

static void read_what_was_said(job *j, int file)
{
    ssize_t n = pread(file, j->said, sizeof j->said - 1, 0);
    j->said[n > 0 ? n : 0] = '\0';
    j->lines = 0;
    for (const char *c = j->said; *c; c++) j->lines += *c == '\n';
}

void job_run(job *j)
{
    pid_t pids[JOB_RANKS];
    double start = light_now();
    FILE *said = tmpfile();
    assert_non_null(said);
    j->shared = mmap(NULL, sizeof *j->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(j->shared != MAP_FAILED);
    for (int i = 1; i < j->size; i++)
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, j->pipes[i]), 0);
    for (int r = 0; r < j->size; r++) {
        pids[r] = fork();
        assert_true(pids[r] >= 0);
        if (pids[r] > 0) continue;
        dup2(fileno(said), STDERR_FILENO);
        _exit(run_rank(j, r));
    }
    for (int i = 1; i < j->size; i++) {
        close(j->pipes[i][0]);
        close(j->pipes[i][1]);
    }
    wait_for_all(j, pids, start);
    read_what_was_said(j, fileno(said));
    fclose(said);
}
