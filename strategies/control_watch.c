/* SPDX-License-Identifier: Apache-2.0 */
/* Who has hung? Times are those of the channel's own clock, so a job that was stopped as a whole and goes on is none
 * the worse for it. */
#include "strategies/control_state.h"

#include <stdio.h>
#include <string.h>

/* Before the first step processes prepare data, and after the last one they save; one may keep the others waiting. */
#define PATIENCE 10

static void format_bytes(double bytes, char *text, size_t size)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB"};
    int unit = 0;
    for (; bytes >= 1024 && unit < 3; unit++) bytes /= 1024;
    snprintf(text, size, unit ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
}

/* "all_reduce #1234 (gradients 5 of 12, 25.0 MiB)" */
static char *name_call(const light_control_call *call, char *text, size_t bytes)
{
    char volume[32] = "";
    bool known = call->kind >= 0 && call->kind < LIGHT_COLLECTIVE_COUNT;
    if (call->count > 0)
        format_bytes((double)call->count * (double)light_dtype_size((light_dtype)call->dtype), volume,
                     sizeof volume);
    int used = snprintf(text, bytes, "%s #%lld", known ? light_collective_names[call->kind] : "call",
                        (long long)call->sequence);
    if (call->what[0] || volume[0])
        snprintf(text + used, bytes - (size_t)used, " (%.*s%s%s)", LIGHT_CONTROL_WHAT - 1, call->what,
                 call->what[0] && volume[0] ? ", " : "", volume);
    return text;
}

static bool is_waiting(const light_peer *p)
{
    return p->beat.call.waiting && p->ended_at == 0;
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
static const light_control_call *call_missed_by(const light_control *c, int rank)
{
    const light_control_call *missed = NULL;
    for (int r = 0; r < c->size; r++) {
        const light_control_call *call = &c->peers[r].beat.call;
        bool behind = is_waiting(&c->peers[r]) && call->sequence > c->peers[rank].beat.call.sequence;
        if (behind && (!missed || call->sequence < missed->sequence)) missed = call;
    }
    return missed;
}

static void tell_silent(const light_control *c, int rank, char *text, size_t bytes)
{
    char name[128], call[160];
    const light_control_call *missed = call_missed_by(c, rank), *own = &c->peers[rank].beat.call;
    light_control_name(c, rank, name, sizeof name);
    if (missed)
        snprintf(text, bytes, "%s never entered %s; last heartbeat %.0f s ago", name,
                 name_call(missed, call, sizeof call), c->clock - c->peers[rank].heard);
    else if (is_waiting(&c->peers[rank]))
        snprintf(text, bytes, "%s has stopped in %s; last heartbeat %.0f s ago", name,
                 name_call(own, call, sizeof call), c->clock - c->peers[rank].heard);
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
        int64_t behind = q->beat.call.sequence - p->beat.call.sequence;
        if (behind > 0 || (behind == 0 && is_waiting(q) && !is_waiting(p))) last = r;
    }
    return last;
}

static void tell_behind(const light_control *c, double waited, char *text, size_t bytes)
{
    char name[128], call[160];
    int rank = hindmost(c);
    const light_peer *p = &c->peers[rank];
    const light_control_call *missed = call_missed_by(c, rank);
    light_control_name(c, rank, name, sizeof name);
    if (!missed)
        snprintf(text, bytes, "%s has not come to an end in %.0f s, though all processes have entered it",
                 name_call(&p->beat.call, call, sizeof call), waited);
    else if (is_waiting(p))
        snprintf(text, bytes, "%s is still in %s after %.0f s, which others have left", name,
                 name_call(&p->beat.call, call, sizeof call), p->beat.waited + (c->clock - p->heard));
    else
        snprintf(text, bytes,
                 "%s never entered %s, in which others have waited for %.0f s; last heartbeat %.0f s ago",
                 name, name_call(missed, call, sizeof call), waited, c->clock - p->heard);
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

bool light_control_watch(light_control *c, char *text, size_t bytes)
{
    char name[128];
    double allowed = limit(c), waited = longest_wait(c);
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
