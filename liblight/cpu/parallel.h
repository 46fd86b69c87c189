/* SPDX-License-Identifier: Apache-2.0 */
/* Work on all cores in parts that depend on its size only, never on the number of threads. */
#ifndef LIGHT_CPU_PARALLEL_H
#define LIGHT_CPU_PARALLEL_H

#include <stdint.h>

/* Elements of light work that pay for waking the threads (3 us). */
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

/* Calls fn for ranges that cover [0, items). `cost` is the work of one item in elements. Only for work whose result
 * does not depend on how it is cut. */
static inline void light_parallel(int64_t items, int64_t cost, light_part_fn fn, void *context)
{
    int64_t grain = cost >= LIGHT_PARALLEL_MIN / 2 ? 1 : LIGHT_PARALLEL_MIN / 2 / (cost > 0 ? cost : 1);
    int64_t parts = light_part_count(items, grain, 256);
    if (items <= 0) return;
    if (parts == 1) {
        fn(context, 0, items);
        return;
    }
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < parts; i++)
        fn(context, light_part_at(items, parts, i), light_part_at(items, parts, i + 1));
}

#endif
