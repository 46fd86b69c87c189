/* SPDX-License-Identifier: Apache-2.0 */
/* How the processes of a job share the batches of an epoch. */
#include "data/share.h"

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Of the `window` batches of a window, those of a rank. Dealt ones are as many for each. */
static int64_t part_of(const light_share *s, int rank, int64_t window)
{
    if (s->dealt) return window / s->size;
    int64_t rest = window - rank * s->run;
    return rest < 0 ? 0 : least(rest, s->run);
}

/* All of one rank from the origin on. */
static int64_t batches_of(const light_share *s, int rank)
{
    int64_t whole = s->size * s->run, left = s->total - s->origin;
    return left / whole * s->run + part_of(s, rank, left % whole);
}

light_share light_share_alone(int64_t total)
{
    return (light_share){.size = 1, .run = 1, .total = total};
}

int64_t light_share_turns(const light_share *s)
{
    return batches_of(s, 0);
}

int64_t light_share_batches(const light_share *s)
{
    return batches_of(s, s->rank);
}

int64_t light_share_batch(const light_share *s, int64_t turn)
{
    int64_t first = s->origin + turn / s->run * (s->size * s->run), done = turn % s->run;
    return first + (s->dealt ? done * s->size + s->rank : s->rank * s->run + done);
}

int64_t light_share_position(const light_share *s, int64_t turn)
{
    int64_t position = s->origin + turn / s->run * (s->size * s->run) + turn % s->run * s->size;
    return s->total < 0 ? position : least(position, s->total);
}

/* Ranks that have a batch in turn `done` of a window. */
static int present_in(const light_share *s, int64_t window, int64_t done)
{
    if (s->dealt) return (int)least(s->size, window - done * s->size);
    return (int)((window - done + s->run - 1) / s->run);
}

light_turn light_share_turn(const light_share *s, int64_t turn)
{
    int64_t whole = s->size * s->run, first = s->origin + turn / s->run * whole, done = turn % s->run;
    int64_t window = s->total < 0 ? whole : least(whole, s->total - first);
    int64_t mine = part_of(s, s->rank, window);
    bool ends = done + 1 == part_of(s, 0, window);
    return (light_turn){
        .before = light_share_position(s, turn),
        .after = light_share_position(s, turn + 1),
        .batch = done < mine ? light_share_batch(s, turn) : -1,
        .window = window,
        .mine = mine,
        .done = done,
        .contributors = s->dealt ? s->size : (int)((window + s->run - 1) / s->run),
        .present = present_in(s, window, done),
        .begins = done == 0,
        .ends = ends,
        .last = first + window == s->total && ends,
    };
}
