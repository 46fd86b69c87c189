/* SPDX-License-Identifier: Apache-2.0 */
/* Who has hung, or is where nobody else is? Times are those of the channel's own clock, so a job that was stopped as a
 * whole and goes on is none the worse for it. */
#include "strategies/control_state.h"

#include "base/exit.h"

#include <stdio.h>
#include <string.h>

/* Before the first step processes prepare data, and after the last one they save; one may keep the others waiting. */
#define PATIENCE 10
/* In a call that has not moved. */
#define STUCK_SECONDS 1.0

static bool is_waiting(const light_peer *p)
{
    return p->beat.call.waiting && p->ended_at == 0;
}

static const light_call_mark *mark_of(const light_control *c, int rank)
{
    return &c->peers[rank].beat.call.mark;
}

/* The time limit that holds now. */
static double limit(const light_control *c)
{
    for (int r = 0; r < c->size; r++)
        if (c->peers[r].known && c->peers[r].beat.boundary < 0) return PATIENCE * c->timeout;
    return c->timeout;
}

/* ---- silence --------------------------------------------------------------------- */

static bool anyone_waits(const light_control *c, int but)
{
    for (int r = 0; r < c->size; r++)
        if (r != but && (is_waiting(&c->peers[r]) || c->peers[r].beat.idle)) return true;
    return false;
}

/* The call that others wait in and `rank` has not come to, the lowest of them; NULL: none. */
static const light_call_mark *call_missed_by(const light_control *c, int rank)
{
    const light_call_mark *missed = NULL;
    for (int r = 0; r < c->size; r++) {
        const light_call_mark *call = mark_of(c, r);
        bool behind = is_waiting(&c->peers[r]) && call->number > mark_of(c, rank)->number;
        if (behind && (!missed || call->number < missed->number)) missed = call;
    }
    return missed;
}

static void tell_silent(const light_control *c, int rank, char *text, size_t bytes)
{
    char name[128], call[160];
    const light_call_mark *missed = call_missed_by(c, rank), *own = mark_of(c, rank);
    light_control_name(c, rank, name, sizeof name);
    if (missed)
        snprintf(text, bytes, "%s never entered %s; last heartbeat %.0f s ago", name,
                 light_call_mark_name(missed, call, sizeof call), c->clock - c->peers[rank].heard);
    else if (is_waiting(&c->peers[rank]))
        snprintf(text, bytes, "%s has stopped in %s; last heartbeat %.0f s ago", name,
                 light_call_mark_name(own, call, sizeof call), c->clock - c->peers[rank].heard);
    else
        snprintf(text, bytes, "%s has stopped while others wait for it; last heartbeat %.0f s ago", name,
                 c->clock - c->peers[rank].heard);
}

/* ---- calls -------------------------------------------------------------------------- */

static double longest_wait(const light_control *c)
{
    double longest = 0;
    for (int r = 0; r < c->size; r++) {
        const light_peer *p = &c->peers[r];
        double waited = p->beat.waited + (c->clock - p->heard);
        if (is_waiting(p) && waited > longest) longest = waited;
    }
    return longest;
}

/* The one that holds the others up: the last one in the order of calls, or one beside it that does not wait. */
static int hindmost(const light_control *c)
{
    int last = 0;
    for (int r = 1; r < c->size; r++) {
        const light_peer *p = &c->peers[r], *q = &c->peers[last];
        int64_t behind = q->beat.call.mark.number - p->beat.call.mark.number;
        if (behind > 0 || (behind == 0 && is_waiting(q) && !is_waiting(p))) last = r;
    }
    return last;
}

static void tell_behind(const light_control *c, double waited, char *text, size_t bytes)
{
    char name[128], call[160];
    int rank = hindmost(c);
    const light_peer *p = &c->peers[rank];
    const light_call_mark *missed = call_missed_by(c, rank);
    light_control_name(c, rank, name, sizeof name);
    if (!missed)
        snprintf(text, bytes, "%s has not come to an end in %.0f s, though all processes have entered it",
                 light_call_mark_name(&p->beat.call.mark, call, sizeof call), waited);
    else if (is_waiting(p))
        snprintf(text, bytes, "%s is still in %s after %.0f s, which others have left", name,
                 light_call_mark_name(&p->beat.call.mark, call, sizeof call),
                 p->beat.waited + (c->clock - p->heard));
    else
        snprintf(text, bytes,
                 "%s never entered %s, in which others have waited for %.0f s; last heartbeat %.0f s ago",
                 name, light_call_mark_name(missed, call, sizeof call), waited, c->clock - p->heard);
}

/* ---- different calls ------------------------------------------------------------ */

static bool is_stuck(const light_control *c, int rank)
{
    const light_peer *p = &c->peers[rank];
    return is_waiting(p) && !light_call_is_single(p->beat.call.mark.kind) &&
           p->beat.waited + (c->clock - p->heard) >= STUCK_SECONDS;
}

/* The lowest rank that is stuck in another call of the same number, or -1. */
static int stuck_elsewhere(const light_control *c, int rank)
{
    const light_call_mark *call = mark_of(c, rank);
    for (int r = 0; r < rank; r++) {
        const light_call_mark *other = mark_of(c, r);
        if (!is_stuck(c, r) || other->number != call->number) continue;
        bool same = other->kind == call->kind && !strcmp(other->what, call->what);
        return same ? -1 : r;
    }
    return -1;
}

/* Two that wait in different calls of one number wait for each other. Where messages meet, whoever gets them tells; these
 * are calls without one in that direction. */
static bool tell_different(const light_control *c, char *text, size_t bytes)
{
    char name[128], call[160], other_name[128], other_call[160];
    for (int r = 1; r < c->size; r++) {
        int other = is_stuck(c, r) ? stuck_elsewhere(c, r) : -1;
        if (other < 0) continue;
        snprintf(text, bytes, "%s is in %s, where %s is in %s; all ranks must make the same calls",
                 light_control_name(c, r, name, sizeof name),
                 light_call_mark_name(mark_of(c, r), call, sizeof call),
                 light_control_name(c, other, other_name, sizeof other_name),
                 light_call_mark_name(mark_of(c, other), other_call, sizeof other_call));
        return true;
    }
    return false;
}

/* ---- the end -------------------------------------------------------------------------- */

/* Someone who lets the others wait at the end for very long, or -1. */
static int missing_at_end(const light_control *c)
{
    double since = 0;
    for (int r = 0; r < c->size; r++) {
        double ended = c->peers[r].ended_at;
        if (ended > 0 && (since == 0 || ended < since)) since = ended;
    }
    if (since == 0 || c->clock - since < PATIENCE * c->timeout) return -1;
    for (int r = 0; r < c->size; r++)
        if (c->peers[r].ended_at == 0) return r;
    return -1;
}

bool light_control_watch(light_control *c, int *code, char *text, size_t bytes)
{
    char name[128];
    double allowed = limit(c), waited = longest_wait(c);
    *code = LIGHT_EXIT_FAILED;
    if (c->rank == 0 && tell_different(c, text, bytes)) return true;
    *code = LIGHT_EXIT_PEER;
    for (int r = 0; r < c->size; r++) {
        bool connected = c->peers[r].wire.socket >= 0;
        if (!connected || c->clock - c->peers[r].heard < allowed || !anyone_waits(c, r)) continue;
        tell_silent(c, r, text, bytes);
        return true;
    }
    if (c->rank > 0) return false;
    if (waited >= allowed) {
        tell_behind(c, waited, text, bytes);
        return true;
    }
    int late = missing_at_end(c);
    if (late >= 0)
        snprintf(text, bytes, "%s has not come to the end of the job, where others have waited for %.0f s",
                 light_control_name(c, late, name, sizeof name), PATIENCE * c->timeout);
    return late >= 0;
}
