/* SPDX-License-Identifier: Apache-2.0 */
/* Work on all cores in parts that depend on its size only, never on the number of threads. */
#ifndef LIGHT_CPU_PARALLEL_H
#define LIGHT_CPU_PARALLEL_H

#include "cpu/once/team.h"

#include <stdint.h>

/* Elements of light work that pay for calling the team (1 us). */
#define LIGHT_PARALLEL_MIN 32768

typedef void (*light_part_fn)(void *context, int64_t from, int64_t to);

/* How many parts `items` make when a part has at least `grain` of them; at most `most`. */
static inline int64_t light_part_count(int64_t items, int64_t grain, int64_t most)
{
    int64_t parts = grain > 0 ? items / grain : items;
    return parts < 1 ? 1 : parts > most ? most : parts;
}

/* Where part i of `parts` begins. */
static inline int64_t light_part_at(int64_t items, int64_t parts, int64_t i)
{
    return items / parts * i + (i < items % parts ? i : items % parts);
}

typedef struct light_ranges {
    int64_t items, parts;
    light_part_fn fn;
    void *context;
} light_ranges;

static inline void light_run_range(void *context, int64_t i, int rank)
{
    const light_ranges *r = context;
    (void)rank;
    r->fn(r->context, light_part_at(r->items, r->parts, i), light_part_at(r->items, r->parts, i + 1));
}

/* Calls fn for ranges that cover [0, items). `cost` is the work of one item in elements. Only for work whose result
 * does not depend on how it is cut. */
static inline void light_parallel(int64_t items, int64_t cost, light_part_fn fn, void *context)
{
    int64_t grain = cost >= LIGHT_PARALLEL_MIN / 2 ? 1 : LIGHT_PARALLEL_MIN / 2 / (cost > 0 ? cost : 1);
    light_ranges r = {items, light_part_count(items, grain, 256), fn, context};
    if (items <= 0) return;
    if (r.parts == 1)
        fn(context, 0, items);
    else
        light_team_each(true, r.parts, light_run_range, &r);
}

#endif
