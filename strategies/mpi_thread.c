/* SPDX-License-Identifier: Apache-2.0 */
/* See mpi_thread.h. */
#include "strategies/mpi_thread.h"

#include "base/memory.h"
#include "base/thread.h"
#include "strategies/call_mark.h"
#include "strategies/mpi_messages.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>

enum { MOST_CALLS = 1024 };

/* A call that was handed over. */
typedef struct job {
    light_mpi_group *group;
    light_collective call;
    light_ticket ticket;
    int64_t number; /* among the group's calls that all its ranks make */
    light_control *control;
    light_mpi_watched watched; /* without a test: the call is MPI's */
} job;

static struct {
    const light_mpi *mpi; /* NULL: not started yet */
    light_queue *jobs;
    pthread_t thread;
    int opens, rank, size, last_tag;

    pthread_mutex_t lock;
    pthread_cond_t changed; /* a call is done, or MPI has started */
    bool ready;             /* under lock */
    atomic_bool failed;     /* nothing is asked of MPI any more */
    light_status status;    /* under lock: of the failure */
    char failure[512];      /* under lock: its text */

    /* the thread's own */
    uint64_t sequence;
} engine = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/* ---- the thread ------------------------------------------------------------------------ */

static void note_failure(light_status status)
{
    pthread_mutex_lock(&engine.lock);
    if (!engine.failed) {
        engine.status = status;
        snprintf(engine.failure, sizeof engine.failure, "%s", light_error_message());
    }
    engine.failed = true;
    pthread_mutex_unlock(&engine.lock);
}

/* What is handed over after a failure is done at once, and the wait for it fails. */
static void run_job(const job *j)
{
    if (!engine.failed) {
        engine.sequence += !light_call_is_single((int)j->call.kind);
        light_control_enter(j->control, &j->call, engine.sequence);
        light_status status = light_mpi_make_call(j->group, &j->call, j->number, j->control, &j->watched);
        if (status == LIGHT_OK)
            light_control_leave(j->control, engine.sequence);
        else
            note_failure(status);
    }
    if (engine.failed && j->watched.give_up) j->watched.give_up(j->watched.user);
    pthread_mutex_lock(&engine.lock);
    j->group->done = j->ticket;
    pthread_cond_broadcast(&engine.changed);
    pthread_mutex_unlock(&engine.lock);
}

static void *run(void *unused)
{
    job j;
    (void)unused;
    prctl(PR_SET_TIMERSLACK, 1); /* pauses are as short as they say */
    light_status status = engine.mpi->init(&engine.rank, &engine.size);
    if (status != LIGHT_OK) note_failure(status);
    pthread_mutex_lock(&engine.lock);
    engine.ready = true;
    pthread_cond_broadcast(&engine.changed);
    pthread_mutex_unlock(&engine.lock);
    while (light_queue_pop(engine.jobs, &j)) run_job(&j);
    if (!engine.failed) engine.mpi->finalize();
    light_mpi_messages_free();
    return NULL;
}

/* ---- the other threads ------------------------------------------------------------------ */

light_status light_mpi_status(void)
{
    if (!engine.failed) return LIGHT_OK;
    pthread_mutex_lock(&engine.lock);
    light_status status = light_fail(engine.status, "%s", engine.failure);
    pthread_mutex_unlock(&engine.lock);
    return status;
}

/* When the process ends. Without a good end mpirun ends the job, which is right where something is still open. */
static void end_thread(void)
{
    if (engine.opens > 0 || engine.failed) return;
    light_queue_close(engine.jobs);
    pthread_join(engine.thread, NULL);
    light_queue_free(engine.jobs);
}

static light_status open_plugin(void)
{
    const void *table;
    LIGHT_TRY(light_plugin_open("mpi", &table));
    engine.mpi = table;
    light_mpi_messages_begin(table);
    if (engine.mpi->size == sizeof *engine.mpi) return LIGHT_OK;
    engine.mpi = NULL;
    return light_fail(LIGHT_ERR_UNSUPPORTED, "liblight_mpi.so was built for another version of liblight");
}

static light_status start_thread(void)
{
    LIGHT_TRY(open_plugin());
    light_status status = light_queue_new(&engine.jobs, MOST_CALLS, sizeof(job));
    if (status == LIGHT_OK) status = light_thread_start(&engine.thread, "light-mpi", run, NULL);
    if (status != LIGHT_OK) {
        light_queue_free(engine.jobs);
        engine.jobs = NULL;
        engine.mpi = NULL;
        return status;
    }
    pthread_mutex_lock(&engine.lock);
    while (!engine.ready) pthread_cond_wait(&engine.changed, &engine.lock);
    pthread_mutex_unlock(&engine.lock);
    atexit(end_thread);
    return LIGHT_OK;
}

light_status light_mpi_open(int *rank, int *size)
{
    if (!engine.mpi) LIGHT_TRY(start_thread());
    LIGHT_TRY(light_mpi_status());
    engine.opens++;
    *rank = engine.rank;
    *size = engine.size;
    return LIGHT_OK;
}

void light_mpi_close(void)
{
    engine.opens--;
}

static light_status hand_over(job *j, light_ticket *ticket)
{
    LIGHT_TRY(light_mpi_status());
    j->control = j->group->base.control;
    *ticket = j->ticket = ++j->group->started;
    j->number = j->group->numbered += !light_call_is_single((int)j->call.kind);
    light_queue_push(engine.jobs, j);
    return LIGHT_OK;
}

light_status light_mpi_start(light_mpi_group *group, const light_collective *call, light_ticket *ticket)
{
    job j = {.group = group, .call = *call};
    return hand_over(&j, ticket);
}

light_status light_mpi_watch(light_mpi_group *group, const light_collective *call,
                             const light_mpi_watched *watched, light_ticket *ticket)
{
    job j = {.group = group, .call = *call, .watched = *watched};
    return hand_over(&j, ticket);
}

light_status light_mpi_wait(light_mpi_group *group, light_ticket ticket)
{
    if (group->done < ticket) {
        pthread_mutex_lock(&engine.lock);
        while (group->done < ticket) pthread_cond_wait(&engine.changed, &engine.lock);
        pthread_mutex_unlock(&engine.lock);
    }
    return light_mpi_status();
}

int light_mpi_next_tag(void)
{
    return engine.last_tag + 1;
}

light_status light_mpi_use_tag(int tag)
{
    if (tag > engine.mpi->last_tag)
        return light_fail(LIGHT_ERR_UNSUPPORTED, "groups were split %d times, more than MPI has tags for",
                          tag);
    engine.last_tag = tag;
    return LIGHT_OK;
}
