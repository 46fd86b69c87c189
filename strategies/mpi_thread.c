/* SPDX-License-Identifier: Apache-2.0 */
/* See mpi_thread.h. It never waits inside of MPI: messages are started and tested, and between two tests the control
 * channel is asked, so that a failure elsewhere ends the wait. */
#include "strategies/mpi_thread.h"

#include "base/memory.h"
#include "base/thread.h"
#include "strategies/collectives.h"
#include "strategies/mpi/table.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

enum { MOST_CALLS = 1024, SPINS = 200 };
static const long SLEEP_NS = 10000;

size_t light_mpi_piece = (size_t)1 << 30;
int64_t light_mpi_block = (int64_t)32 << 20; /* ranks wait for each other in each, so there should be few */

/* A call that was handed over. */
typedef struct job {
    light_mpi_group *group;
    light_collective call;
    light_ticket ticket;
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
    char *stage, *requests;
    size_t stage_bytes;
    int request_count, request_room;
} engine = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/* ---- messages, in the thread --------------------------------------------------------- */

/* Carries the messages of one call. */
typedef struct mpi_transport {
    light_transport base;
    const light_mpi_group *group;
    light_control *control;
} mpi_transport;

static light_status new_request(void **request)
{
    if (engine.request_count == engine.request_room) {
        int room = engine.request_room ? 2 * engine.request_room : 64;
        char *grown = light_realloc(engine.requests, (size_t)room * engine.mpi->request_bytes);
        if (!grown) return LIGHT_ERR_MEMORY;
        engine.requests = grown;
        engine.request_room = room;
    }
    *request = engine.requests + (size_t)engine.request_count++ * engine.mpi->request_bytes;
    return LIGHT_OK;
}

static size_t piece_at(size_t bytes, size_t at)
{
    return bytes - at < light_mpi_piece ? bytes - at : light_mpi_piece;
}

static light_status send(light_transport *t, const void *data, size_t bytes, int peer)
{
    const light_mpi_group *group = ((mpi_transport *)t)->group;
    for (size_t at = 0, n; at < bytes; at += n) {
        void *request;
        n = piece_at(bytes, at);
        LIGHT_TRY(new_request(&request));
        LIGHT_TRY(engine.mpi->send((const char *)data + at, n, group->members[peer], group->tag, request));
    }
    return LIGHT_OK;
}

static light_status receive(light_transport *t, void *data, size_t bytes, int peer)
{
    const light_mpi_group *group = ((mpi_transport *)t)->group;
    for (size_t at = 0, n; at < bytes; at += n) {
        void *request;
        n = piece_at(bytes, at);
        LIGHT_TRY(new_request(&request));
        LIGHT_TRY(engine.mpi->receive((char *)data + at, n, group->members[peer], group->tag, request));
    }
    return LIGHT_OK;
}

/* Between two looks at something that is not there yet. */
static light_status rest(light_control *control, int looks)
{
    const struct timespec pause = {.tv_nsec = SLEEP_NS};
    LIGHT_TRY(light_control_status(control));
    if (looks < SPINS)
        sched_yield();
    else /* it may take long: the cores are for those who compute */
        nanosleep(&pause, NULL);
    return LIGHT_OK;
}

static light_status finish(light_transport *t)
{
    bool done = engine.request_count == 0;
    for (int tests = 0; !done; tests++) {
        LIGHT_TRY(engine.mpi->test(engine.requests, engine.request_count, &done));
        if (!done) LIGHT_TRY(rest(((mpi_transport *)t)->control, tests));
    }
    engine.request_count = 0;
    return LIGHT_OK;
}

static light_status stage(light_transport *t, size_t bytes, char **data)
{
    (void)t;
    if (bytes > engine.stage_bytes) {
        light_free(engine.stage);
        engine.stage = light_alloc(bytes);
        engine.stage_bytes = engine.stage ? bytes : 0;
    }
    *data = engine.stage;
    return engine.stage || bytes == 0 ? LIGHT_OK : LIGHT_ERR_MEMORY;
}

static light_status copy(light_transport *t, void *to, const void *from, size_t bytes)
{
    (void)t;
    memcpy(to, from, bytes);
    return LIGHT_OK;
}

static light_status combine(light_transport *t, light_kernel_args *args)
{
    (void)t;
    args->device = light_device_cpu();
    return args->device->backend->kernels[LIGHT_KERNEL_COMBINE](args);
}

static mpi_transport transport_of(const light_mpi_group *group, light_control *control)
{
    return (mpi_transport){.base = {.rank = group->base.rank,
                                    .size = group->base.size,
                                    .block_bytes = light_mpi_block,
                                    .send = send,
                                    .receive = receive,
                                    .finish = finish,
                                    .copy = copy,
                                    .stage = stage,
                                    .combine = combine},
                           .group = group,
                           .control = control};
}

light_status light_mpi_exchange(light_mpi_group *group, const light_transfer *transfers, int n)
{
    mpi_transport t = transport_of(group, group->base.control);
    for (int i = 0; i < n; i++) {
        const light_transfer *one = &transfers[i];
        LIGHT_TRY(one->receive ? receive(&t.base, one->data, one->bytes, one->peer)
                               : send(&t.base, one->data, one->bytes, one->peer));
    }
    return finish(&t.base);
}

static light_status run_call(const job *j)
{
    mpi_transport t = transport_of(j->group, j->control);
    return light_run_collective(&t.base, &j->call);
}

static light_status watch(const job *j)
{
    const light_mpi_watched *w = &j->watched;
    bool done = false;
    for (int looks = 0; !done; looks++) {
        LIGHT_TRY(w->test(w->user, w->ticket, &done));
        if (!done) LIGHT_TRY(rest(j->control, looks));
    }
    return LIGHT_OK;
}

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
        uint64_t sequence = ++engine.sequence;
        light_control_enter(j->control, &j->call, sequence);
        light_status status = j->watched.test ? watch(j) : run_call(j);
        if (status == LIGHT_OK) {
            light_control_leave(j->control, sequence);
        } else {
            light_fail_in(status, "%s%s%s", light_collective_names[j->call.kind], j->call.what ? " of " : "",
                          j->call.what ? j->call.what : "");
            note_failure(status);
        }
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
    light_free(engine.stage);
    light_free(engine.requests);
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
