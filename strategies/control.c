/* SPDX-License-Identifier: Apache-2.0 */
/* The control channel as the process's own threads see it. */
#include "strategies/control.h"

#include "strategies/control_state.h"

#include "base/exit.h"
#include "base/memory.h"
#include "base/thread.h"
#include "base/time.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* What a program gets to end by itself after another one's failure, and after its own. */
#define GRACE_SECONDS     1.5
#define OWN_GRACE_SECONDS 5.0
/* A process that was stopped for longer than the limit, and finds the others gone when it wakes up, has nothing to tell:
 * they have told of it. */
#define RETURN_SECONDS 2.0
/* How long others may take to hear of a failure. */
#define INFORM_SECONDS 1.0

/* ---- opening and closing ------------------------------------------------------------ */

static void init(light_control *c, const light_communicator *host, double timeout)
{
    pthread_condattr_t monotonic;
    *c = (light_control){.rank = host->rank,
                         .size = host->size,
                         .timeout = timeout,
                         .wake = -1,
                         .listener = -1,
                         .clock = 1,
                         .returned = -RETURN_SECONDS,
                         .clock_read = light_now()};
    light_control_slot_init(&c->slot);
    atomic_init(&c->boundary, -1);
    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&c->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

static void release(light_control *c)
{
    for (int r = 0; c->peers && r < c->size; r++) light_wire_close(&c->peers[r].wire);
    for (light_letter *l = c->letters, *next; l; l = next) {
        next = l->next;
        light_free(l->bytes);
        light_free(l);
    }
    if (c->listener >= 0) close(c->listener);
    if (c->wake >= 0) close(c->wake);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    light_free(c->peers);
    light_free(c->waits);
    light_free(c);
}

static light_status start(light_control *c, light_communicator *host)
{
    c->peers = light_calloc((size_t)c->size, sizeof *c->peers);
    c->waits = light_calloc((size_t)c->size + 1, sizeof *c->waits);
    if (!c->peers || !c->waits) return LIGHT_ERR_MEMORY;
    for (int r = 0; r < c->size; r++) {
        c->peers[r].wire.socket = -1;
        c->peers[r].beat = (light_beat){.boundary = -1, .call.mark.number = -1};
    }
    c->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->wake < 0) return light_fail(LIGHT_ERR_IO, "the control channel: %s", strerror(errno));
    LIGHT_TRY(light_control_connect(c, host));
    for (int r = 0; r < c->size; r++) c->peers[r].known = r == c->rank || c->peers[r].wire.socket >= 0;
    return light_thread_start(&c->thread, "light control", light_control_run, c);
}

light_status light_control_open(light_control **out, light_communicator *host, double timeout)
{
    *out = NULL;
    if (host->size == 1) return LIGHT_OK;
    light_control *c = light_calloc(1, sizeof *c);
    if (!c) return LIGHT_ERR_MEMORY;
    init(c, host, timeout);
    light_status status = start(c, host);
    if (status != LIGHT_OK) {
        release(c);
        return status;
    }
    *out = c;
    return LIGHT_OK;
}

/* The first process: until all others know of the failure. */
static void wait_until_informed(light_control *c)
{
    double end = light_now() + INFORM_SECONDS;
    for (int r = 1; c->rank == 0 && r < c->size; r++)
        while (!c->peers[r].informed && light_control_wait(c, end - light_now())) continue;
    while (!c->told && light_control_wait(c, end - light_now())) continue;
    end = light_now() + c->stay;
    while (light_control_wait(c, end - light_now())) continue;
}

/* The first process goes last: what it has sent would be lost with it. */
static void wait_until_gone(light_control *c)
{
    double end = light_now() + INFORM_SECONDS;
    for (int r = 1; c->rank == 0 && r < c->size; r++)
        while (!c->peers[r].gone && light_control_wait(c, end - light_now())) continue;
}

void light_control_close(light_control *c)
{
    if (!c) return;
    pthread_mutex_lock(&c->lock);
    c->closing = true;
    c->idle++;
    if (c->rank > 0 && !atomic_load(&c->failed)) light_control_tell_all(c, LIGHT_FRAME_END, 0, NULL, 0);
    c->peers[c->rank].ended_at = c->clock;
    light_control_wake(c);
    while (!c->closed && !atomic_load(&c->failed)) light_control_wait(c, 1);
    if (atomic_load(&c->failed)) {
        /* The thread goes on: it may have more to say, and the process is about to end. */
        wait_until_informed(c);
        pthread_mutex_unlock(&c->lock);
        return;
    }
    wait_until_gone(c);
    c->ends = true;
    light_control_wake(c);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->thread, NULL);
    release(c);
}

/* ---- calls ---------------------------------------------------------------------------- */

void light_control_enter(light_control *c, const light_collective *call, uint64_t sequence)
{
    if (c) light_control_slot_enter(&c->slot, call, (int64_t)sequence);
}

void light_control_leave(light_control *c, uint64_t sequence)
{
    if (c) light_control_slot_leave(&c->slot, (int64_t)sequence);
}

light_status light_control_status(light_control *c)
{
    light_status status = c ? (light_status)atomic_load_explicit(&c->failed, memory_order_acquire) : LIGHT_OK;
    /* The text was written before, and is not written again. */
    return status == LIGHT_OK ? LIGHT_OK : light_fail(status, "%s", c->failure);
}

bool light_control_has_failed(light_control *c)
{
    return c && atomic_load_explicit(&c->failed, memory_order_acquire) != LIGHT_OK;
}

/* ---- failures --------------------------------------------------------------------------- */

void light_control_end_job(light_control *c, light_status status, int code, int telling, const char *text)
{
    if (atomic_load(&c->failed)) return;
    bool returned = c->clock - c->returned < RETURN_SECONDS && telling != LIGHT_TELL_BY_CALLER;
    snprintf(c->failure, sizeof c->failure, "%s", text);
    c->telling = returned ? LIGHT_TELL_NOTHING : telling;
    atomic_store_explicit(&c->failed, (int)status, memory_order_release);
    pthread_cond_broadcast(&c->changed);
    if (c->rank == 0)
        light_control_tell_all(c, code == LIGHT_EXIT_PEER ? LIGHT_FRAME_LOST : LIGHT_FRAME_FAIL,
                               (uint64_t)(1e3 * c->stay), text, strlen(text));
    light_exit_by_peer(code);
    light_control_exit_in(c->stay + (telling == LIGHT_TELL_BY_CALLER ? OWN_GRACE_SECONDS : GRACE_SECONDS),
                          code);
}

/* This is the first process, or the first one is to tell the others. */
static bool fail_first(light_control *c, const char *text)
{
    char name[128], told[LIGHT_CONTROL_TEXT];
    bool first = !atomic_load(&c->failed);
    snprintf(told, sizeof told, "%s: %.1900s", light_control_name(c, 0, name, sizeof name), text);
    light_control_end_job(c, LIGHT_ERR_PEER, LIGHT_EXIT_FAILED, LIGHT_TELL_BY_CALLER, told);
    light_control_wake(c);
    wait_until_informed(c);
    return first;
}

static bool fail_later(light_control *c, const char *text)
{
    double end = light_now() + INFORM_SECONDS;
    if (atomic_load(&c->failed)) return false;
    light_control_tell_all(c, LIGHT_FRAME_FAIL, 0, text, strlen(text));
    light_control_wake(c);
    while (!atomic_load(&c->failed) && light_control_wait(c, end - light_now())) continue;
    return !atomic_load(&c->failed);
}

bool light_control_fail(light_control *c, light_status status, const char *text)
{
    if (!c) return true;
    if (status == LIGHT_ERR_PEER) return false;
    pthread_mutex_lock(&c->lock);
    bool tell = c->rank == 0 ? fail_first(c, text) : fail_later(c, text);
    pthread_mutex_unlock(&c->lock);
    return tell;
}

/* ---- stops ------------------------------------------------------------------------------ */

static light_status await_decision(light_control *c)
{
    pthread_mutex_lock(&c->lock);
    c->idle++;
    while (atomic_load(&c->phase) == LIGHT_STOP_ASKED && !atomic_load(&c->failed)) light_control_wait(c, 1);
    c->idle--;
    pthread_mutex_unlock(&c->lock);
    return light_control_status(c);
}

static void propose_stop(light_control *c)
{
    pthread_mutex_lock(&c->lock);
    c->proposed = c->wants_stop = true;
    light_control_wake(c);
    pthread_mutex_unlock(&c->lock);
}

static void beat_at_once(light_control *c)
{
    pthread_mutex_lock(&c->lock);
    c->next_beat = 0;
    light_control_wake(c);
    pthread_mutex_unlock(&c->lock);
}

light_status light_control_boundary(light_control *c, int64_t boundary, int signal, bool *stop)
{
    *stop = !c && signal != 0;
    if (!c) return LIGHT_OK;
    if (atomic_exchange(&c->boundary, boundary) < 0) beat_at_once(c); /* the time limit depends on it */
    if (signal && !c->proposed) propose_stop(c);
    int phase = atomic_load(&c->phase);
    if (phase == LIGHT_STOP_ASKED) LIGHT_TRY(await_decision(c));
    if (phase != LIGHT_STOP_CALM) *stop = boundary >= atomic_load(&c->stop_at);
    return light_control_status(c);
}

/* ---- messages ------------------------------------------------------------------------------ */

light_status light_control_post(light_control *c, int rank, uint64_t number, void *bytes, size_t n)
{
    light_letter *letter = light_alloc(sizeof *letter), **end = &c->letters;
    if (!letter) return LIGHT_ERR_MEMORY;
    *letter = (light_letter){.rank = rank, .number = number, .bytes = bytes, .n = n};
    while (*end) end = &(*end)->next;
    *end = letter;
    pthread_cond_broadcast(&c->changed);
    return LIGHT_OK;
}

static light_status post_copy(light_control *c, uint64_t number, const void *bytes, size_t n)
{
    void *copy = light_alloc(n);
    if (!copy) return LIGHT_ERR_MEMORY;
    if (n > 0) memcpy(copy, bytes, n);
    light_status status = light_control_post(c, c->rank, number, copy, n);
    if (status != LIGHT_OK) light_free(copy);
    return status;
}

static light_letter *take_letter(light_control *c, int rank, uint64_t number)
{
    for (light_letter **l = &c->letters; *l; l = &(*l)->next) {
        light_letter *found = *l;
        if (found->rank != rank || found->number != number) continue;
        *l = found->next;
        return found;
    }
    return NULL;
}

static light_status await_letter(light_control *c, int rank, uint64_t number, void **bytes, size_t *n)
{
    light_letter *letter;
    pthread_mutex_lock(&c->lock);
    c->idle++;
    while (!(letter = take_letter(c, rank, number)) && !atomic_load(&c->failed)) light_control_wait(c, 1);
    c->idle--;
    pthread_mutex_unlock(&c->lock);
    if (!letter) return light_control_status(c);
    *bytes = letter->bytes;
    *n = letter->n;
    light_free(letter);
    return LIGHT_OK;
}

/* To every process that this one is connected to. */
static light_status post_to_peers(light_control *c, uint64_t number, const void *bytes, size_t n)
{
    for (int r = 0; r < c->size; r++) {
        light_wire *w = &c->peers[r].wire;
        if (w->socket >= 0) LIGHT_TRY(light_wire_put(w, LIGHT_FRAME_LETTER, number, bytes, n));
    }
    light_control_wake(c);
    return LIGHT_OK;
}

static light_status no_job(const char *call)
{
    return light_fail(LIGHT_ERR_STATE, "%s: a job of one process has no messages", call);
}

light_status light_control_send(light_control *c, uint64_t number, const void *bytes, size_t n)
{
    if (!c) return no_job("light_control_send");
    LIGHT_TRY(light_control_status(c));
    pthread_mutex_lock(&c->lock);
    light_status status = c->rank == 0 ? post_copy(c, number, bytes, n) : post_to_peers(c, number, bytes, n);
    pthread_mutex_unlock(&c->lock);
    return status;
}

light_status light_control_receive(light_control *c, int rank, uint64_t number, void **bytes, size_t *n)
{
    return c ? await_letter(c, rank, number, bytes, n) : no_job("light_control_receive");
}

light_status light_control_announce(light_control *c, uint64_t number, const void *bytes, size_t n)
{
    if (!c) return LIGHT_OK; /* there is nobody else */
    LIGHT_TRY(light_control_status(c));
    pthread_mutex_lock(&c->lock);
    light_status status = post_to_peers(c, number, bytes, n);
    pthread_mutex_unlock(&c->lock);
    return status;
}

light_status light_control_await(light_control *c, uint64_t number, void **bytes, size_t *n)
{
    return c ? await_letter(c, 0, number, bytes, n) : no_job("light_control_await");
}

/* ---- small things ---------------------------------------------------------------------------- */

void light_control_tell_all(light_control *c, uint32_t kind, uint64_t number, const void *bytes, size_t n)
{
    for (int r = 0; r < c->size; r++) {
        light_wire *w = &c->peers[r].wire;
        /* Without memory for so little the process will fail in another way. */
        if (w->socket >= 0) (void)light_wire_put(w, kind, number, bytes, n);
    }
}

void light_control_wake(light_control *c)
{
    uint64_t one = 1;
    if (write(c->wake, &one, sizeof one) < 0) return; /* full: it is awake */
}

bool light_control_wait(light_control *c, double seconds)
{
    double end = light_now() + seconds;
    if (seconds <= 0) return false;
    struct timespec t = {.tv_sec = (time_t)end, .tv_nsec = (long)(1e9 * (end - (double)(time_t)end))};
    return pthread_cond_timedwait(&c->changed, &c->lock, &t) == 0;
}

char *light_control_name(const light_control *c, int rank, char *text, size_t bytes)
{
    const light_peer *p = &c->peers[rank];
    snprintf(text, bytes, "rank %d (%s, pid %d)", rank, p->host, p->pid);
    return text;
}
