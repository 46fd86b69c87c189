/* SPDX-License-Identifier: Apache-2.0 */
/* Agreeing on a stop, without a collective. Somebody proposes; the first process asks all; each channel thread answers
 * with the boundary that its process has come to, and from then on the process pauses at the next one; when all have
 * answered, the stop is at the first boundary that nobody can have passed. */
#include "strategies/control_state.h"

static void decide_when_all_answered(light_control *c)
{
    int64_t furthest = -1;
    for (int r = 0; r < c->size; r++) {
        if (!c->peers[r].answered && !c->peers[r].gone) return;
        if (c->peers[r].answered && c->peers[r].answer > furthest) furthest = c->peers[r].answer;
    }
    light_control_tell_all(c, LIGHT_FRAME_DECIDE, (uint64_t)(furthest + 1), NULL, 0);
    light_control_stop_decided(c, furthest + 1);
}

/* From now on this process pauses; where it is then is what the answer says. */
static int64_t pause_at_next(light_control *c)
{
    atomic_store(&c->phase, LIGHT_STOP_ASKED);
    return atomic_load(&c->boundary);
}

void light_control_stop_ask(light_control *c)
{
    if (atomic_load(&c->phase) != LIGHT_STOP_CALM) return;
    light_control_tell_all(c, LIGHT_FRAME_ASK, 0, NULL, 0);
    light_control_stop_answered(c, 0, pause_at_next(c));
}

void light_control_stop_asked(light_control *c)
{
    light_control_tell_all(c, LIGHT_FRAME_ANSWER, (uint64_t)pause_at_next(c), NULL, 0);
}

void light_control_stop_answered(light_control *c, int rank, int64_t boundary)
{
    c->peers[rank].answered = true;
    c->peers[rank].answer = boundary;
    decide_when_all_answered(c);
}

void light_control_stop_decided(light_control *c, int64_t boundary)
{
    atomic_store(&c->stop_at, boundary);
    atomic_store(&c->phase, LIGHT_STOP_DECIDED);
    pthread_cond_broadcast(&c->changed);
}
