/* SPDX-License-Identifier: Apache-2.0 */
/* The channel's own thread: what comes in, what goes out, heartbeats, and the look for those that have hung. */
#include "strategies/control_state.h"

#include "base/exit.h"
#include "base/time.h"

#include <light/message.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Between heartbeats, where the time limit is not very short. */
#define BEAT_SECONDS 0.5
/* Whoever has been silent for so long gets no heartbeats: they would fill its buffers, and a full buffer looks like a
 * link that is cut. */
#define QUIET_SECONDS 5.0
/* When the first process is lost the others do not see it at the same moment; each stays to be found by those above it,
 * for the first of them to know that it is the first. */
#define STAY_SECONDS 1.2
/* When a host is cut off mpirun has to notice it by its own keepalives, which it does only while it has nothing to send:
 * processes that ended now would make it send, and wait for the answer for a quarter of an hour. */
#define STAY_CUT_SECONDS 3.5

/* ---- frames ------------------------------------------------------------------------ */

/* A failure that another process tells of. On the first process it is one of that process; the others have it from the
 * first. */
static void hear_failure(light_control *c, int rank, const light_wire *w)
{
    char name[128], text[LIGHT_CONTROL_TEXT];
    int length = (int)(w->head.bytes < sizeof text ? w->head.bytes : sizeof text - 1);
    bool lost = w->head.kind == LIGHT_FRAME_LOST;
    if (c->rank == 0)
        snprintf(text, sizeof text, "%s: %.*s", light_control_name(c, rank, name, sizeof name), length,
                 w->body);
    else
        snprintf(text, sizeof text, "%.*s", length, w->body);
    if (lost && !atomic_load(&c->failed)) c->stay = (double)w->head.number / 1e3;
    light_control_end_job(c, LIGHT_ERR_PEER, lost ? LIGHT_EXIT_PEER : LIGHT_EXIT_FAILED,
                          c->rank == 0 ? LIGHT_TELL : LIGHT_TELL_NOTHING, text);
    if (c->rank > 0) light_control_tell_all(c, LIGHT_FRAME_INFORMED, 0, NULL, 0);
}

static void hear_beat(light_control *c, int rank, const light_wire *w)
{
    if (w->head.bytes == sizeof c->peers[rank].beat) memcpy(&c->peers[rank].beat, w->body, w->head.bytes);
}

static void hear_letter(light_control *c, int rank, light_wire *w)
{
    /* The body goes to whoever asks for it. */
    if (light_control_post(c, rank, w->head.number, w->body, w->head.bytes) == LIGHT_OK) w->body = NULL;
}

static void hear_end(light_control *c, int rank)
{
    if (c->rank > 0)
        c->closed = true;
    else if (c->peers[rank].ended_at == 0)
        c->peers[rank].ended_at = c->clock;
    pthread_cond_broadcast(&c->changed);
}

static void hear(light_control *c, int rank)
{
    light_wire *w = &c->peers[rank].wire;
    switch (w->head.kind) {
    case LIGHT_FRAME_BEAT: hear_beat(c, rank, w); break;
    case LIGHT_FRAME_FAIL:
    case LIGHT_FRAME_LOST: hear_failure(c, rank, w); break;
    case LIGHT_FRAME_INFORMED: c->peers[rank].informed = true; break;
    case LIGHT_FRAME_PROPOSE: light_control_stop_ask(c); break;
    case LIGHT_FRAME_ASK: light_control_stop_asked(c); break;
    case LIGHT_FRAME_ANSWER: light_control_stop_answered(c, rank, (int64_t)w->head.number); break;
    case LIGHT_FRAME_DECIDE: light_control_stop_decided(c, (int64_t)w->head.number); break;
    case LIGHT_FRAME_LETTER: hear_letter(c, rank, w); break;
    case LIGHT_FRAME_END: hear_end(c, rank); break;
    default: break; /* a frame that is whole does no harm */
    }
}

/* ---- connections that end ------------------------------------------------------------- */

static bool is_cut(int error)
{
    return error == ETIMEDOUT || error == EHOSTUNREACH || error == ENETUNREACH;
}

static void tell_lost(const light_control *c, int rank, int error, char *text, size_t bytes)
{
    char name[128];
    light_control_name(c, rank, name, sizeof name);
    if (error == EPIPE || error == ECONNRESET)
        snprintf(text, bytes, "%s has died: its connection ended", name);
    else if (is_cut(error))
        snprintf(text, bytes, "%s is cut off: it has acknowledged nothing for %d s", name,
                 LIGHT_CONTROL_LOST);
    else
        snprintf(text, bytes, "%s is lost: %s", name,
                 error == EPROTO ? "what it sends is not understood" : strerror(error));
}

static void lose(light_control *c, int rank, int error)
{
    char text[LIGHT_CONTROL_TEXT];
    light_peer *p = &c->peers[rank];
    bool expected = c->closed || p->ended_at > 0;
    light_wire_close(&p->wire);
    p->gone = p->informed = true;
    pthread_cond_broadcast(&c->changed);
    if (expected) return;
    tell_lost(c, rank, error, text, sizeof text);
    if (!atomic_load(&c->failed)) c->stay = is_cut(error) ? STAY_CUT_SECONDS : c->rank > 0 ? STAY_SECONDS : 0;
    light_control_end_job(c, LIGHT_ERR_PEER, LIGHT_EXIT_PEER, c->rank == 0 ? LIGHT_TELL : LIGHT_TELL_IF_HEIR,
                          text);
}

/* Everything that has come from one process, and everything that may go to it. */
static void serve(light_control *c, int rank)
{
    light_peer *p = &c->peers[rank];
    bool whole = true;
    int error = 0;
    while (!error && whole) {
        size_t have = p->wire.have;
        error = light_wire_read(&p->wire, &whole);
        if (whole || p->wire.have != have) p->heard = c->clock;
        if (whole) hear(c, rank);
    }
    /* What has come is heard even when nothing can be sent any more. */
    if (!error) error = light_wire_flush(&p->wire);
    if (error) lose(c, rank, error);
}

/* ---- time -------------------------------------------------------------------------------- */

static double beat_seconds(const light_control *c)
{
    return c->timeout / 8 < BEAT_SECONDS ? c->timeout / 8 : BEAT_SECONDS;
}

/* A thread that comes late has been stopped itself: that time counts against nobody. */
static void advance_clock(light_control *c)
{
    double now = light_now(), passed = now - c->clock_read;
    c->clock_read = now;
    c->clock += passed < 2 * beat_seconds(c) ? passed : 2 * beat_seconds(c);
    if (passed > c->timeout && passed > 2 * BEAT_SECONDS) c->returned = c->clock;
}

static void look_at_self(light_control *c)
{
    light_peer *self = &c->peers[c->rank];
    light_control_call call = self->beat.call;
    light_control_slot_read(&c->slot, &call);
    bool same = call.waiting && self->beat.call.waiting && call.mark.number == self->beat.call.mark.number;
    self->beat.waited = same ? self->beat.waited + (c->clock - self->heard) : 0;
    self->beat.call = call;
    self->beat.boundary = atomic_load(&c->boundary);
    self->beat.idle = c->idle;
    self->heard = c->clock;
}

/* After a pause of this process the last acknowledgement is old, though the link is good: what counts is the time on the
 * channel's clock during which none has come. */
static void look_at_links(light_control *c)
{
    for (int r = 0; r < c->size; r++) {
        light_peer *p = &c->peers[r];
        if (p->wire.socket < 0) continue;
        double silence = light_wire_unacknowledged(&p->wire);
        if (silence < 2 * BEAT_SECONDS) p->acknowledged = c->clock - silence;
        if (c->clock - p->acknowledged >= LIGHT_CONTROL_LOST) lose(c, r, ETIMEDOUT);
    }
}

static void beat(light_control *c)
{
    char text[LIGHT_CONTROL_TEXT];
    int code;
    c->next_beat = c->clock + beat_seconds(c);
    look_at_self(c);
    look_at_links(c);
    for (int r = 0; r < c->size; r++) {
        light_peer *p = &c->peers[r];
        bool hears = p->wire.socket >= 0 && c->clock - p->heard < QUIET_SECONDS;
        if (hears && p->wire.out_to == 0)
            light_wire_put(&p->wire, LIGHT_FRAME_BEAT, 0, &c->peers[c->rank].beat, sizeof p->beat);
    }
    if (!atomic_load(&c->failed) && light_control_watch(c, &code, text, sizeof text)) {
        c->stay = c->rank > 0 ? STAY_SECONDS : 0;
        light_control_end_job(c, LIGHT_ERR_PEER, code, c->rank == 0 ? LIGHT_TELL : LIGHT_TELL_IF_HEIR, text);
    }
}

/* ---- what the process's own threads have asked for ------------------------------------------ */

static void propose(light_control *c)
{
    if (!c->wants_stop) return;
    c->wants_stop = false;
    if (c->rank == 0)
        light_control_stop_ask(c);
    else
        light_control_tell_all(c, LIGHT_FRAME_PROPOSE, 0, NULL, 0);
}

/* The first process: all have come to the end, itself too. */
static void close_when_all_have_ended(light_control *c)
{
    if (c->rank > 0 || !c->closing || c->closed || atomic_load(&c->failed)) return;
    for (int r = 1; r < c->size; r++)
        if (c->peers[r].ended_at == 0) return;
    light_control_tell_all(c, LIGHT_FRAME_END, 0, NULL, 0);
    c->closed = true;
    pthread_cond_broadcast(&c->changed);
}

/* Says what there is to be said, once; without the lock, because it may take its time. */
static void tell(light_control *c)
{
    char text[LIGHT_CONTROL_TEXT];
    int telling = c->telling;
    if (c->told || !atomic_load(&c->failed)) return;
    memcpy(text, c->failure, sizeof text);
    pthread_mutex_unlock(&c->lock);
    if (telling == LIGHT_TELL || (telling == LIGHT_TELL_IF_HEIR && light_control_is_heir(c)))
        light_message(LIGHT_MESSAGE_ERROR, "%s", text);
    pthread_mutex_lock(&c->lock);
    c->told = true;
    pthread_cond_broadcast(&c->changed);
}

/* ---- the loop --------------------------------------------------------------------------------- */

static void wait_for_events(light_control *c, struct pollfd *waits)
{
    double left = c->next_beat - c->clock;
    int milliseconds = left > 0 ? (int)(1e3 * left) + 1 : 0;
    for (int r = 0; r < c->size; r++) {
        const light_wire *w = &c->peers[r].wire;
        waits[r] = (struct pollfd){.fd = w->socket,
                                   .events = (short)(POLLIN | (w->out_from < w->out_to ? POLLOUT : 0))};
    }
    waits[c->size] = (struct pollfd){.fd = c->wake, .events = POLLIN};
    pthread_mutex_unlock(&c->lock);
    poll(waits, (nfds_t)c->size + 1, milliseconds);
    pthread_mutex_lock(&c->lock);
}

void *light_control_run(void *control)
{
    light_control *c = control;
    uint64_t woken;
    pthread_mutex_lock(&c->lock);
    while (!c->ends) {
        advance_clock(c);
        propose(c);
        for (int r = 0; r < c->size; r++)
            if (c->peers[r].wire.socket >= 0) serve(c, r);
        close_when_all_have_ended(c);
        if (c->clock >= c->next_beat) beat(c);
        for (int r = 0; r < c->size; r++)
            if (c->peers[r].wire.socket >= 0) light_wire_flush(&c->peers[r].wire); /* errors: the next time */
        tell(c);
        wait_for_events(c, c->waits);
        if (read(c->wake, &woken, sizeof woken) < 0) continue; /* nobody has */
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}
