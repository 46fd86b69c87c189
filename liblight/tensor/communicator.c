/* SPDX-License-Identifier: Apache-2.0 */
/* What can be said of communicators without knowing which one it is. */
#include "tensor/communicator.h"

#include "base/memory.h"

#include <string.h>

light_status light_communicate(light_communicator *c, const light_collective *call)
{
    light_ticket ticket = 0;
    LIGHT_TRY(c->vtable->start(c, call, &ticket));
    return c->vtable->wait(c, ticket);
}

light_status light_barrier(light_communicator *c, const char *what)
{
    return light_communicate(c, &(light_collective){.kind = LIGHT_BARRIER, .what = what});
}

light_status light_broadcast_bytes(light_communicator *c, void *bytes, size_t n, int root, const char *what)
{
    return light_communicate(c, &(light_collective){.kind = LIGHT_BROADCAST,
                                                    .in = bytes,
                                                    .out = bytes,
                                                    .count = (int64_t)n,
                                                    .dtype = LIGHT_U8,
                                                    .peer = root,
                                                    .what = what});
}

light_status light_reduce_doubles(light_communicator *c, double *values, int64_t n, light_combine combine,
                                  const char *what)
{
    return light_communicate(c, &(light_collective){.kind = LIGHT_ALL_REDUCE,
                                                    .in = values,
                                                    .out = values,
                                                    .count = n,
                                                    .dtype = LIGHT_F64,
                                                    .combine = combine,
                                                    .what = what});
}

light_status light_gather_bytes(light_communicator *c, const void *bytes, size_t n, char **all, size_t *sizes,
                                const char *what)
{
    int64_t mine = (int64_t)n, *counts = light_calloc((size_t)c->size, sizeof *counts);
    size_t most = 0, at = 0;
    if (!counts) return LIGHT_ERR_MEMORY;
    light_status status = light_communicate(c, &(light_collective){.kind = LIGHT_ALL_GATHER,
                                                                   .in = &mine,
                                                                   .out = counts,
                                                                   .count = 1,
                                                                   .dtype = LIGHT_I64,
                                                                   .what = what});
    for (int r = 0; r < c->size; r++) {
        sizes[r] = (size_t)counts[r];
        if (sizes[r] > most) most = sizes[r];
    }
    light_free(counts);
    LIGHT_TRY(status);
    char *padded = light_calloc(1, most + 1);
    *all = light_alloc(most * (size_t)c->size + 1);
    if (!padded || !*all) return LIGHT_ERR_MEMORY;
    memcpy(padded, bytes, n);
    status = light_communicate(c, &(light_collective){.kind = LIGHT_ALL_GATHER,
                                                      .in = padded,
                                                      .out = *all,
                                                      .count = (int64_t)most,
                                                      .dtype = LIGHT_U8,
                                                      .what = what});
    light_free(padded);
    for (int r = 0; r < c->size; r++) {
        memmove(*all + at, *all + (size_t)r * most, sizes[r]);
        at += sizes[r];
    }
    return status;
}
