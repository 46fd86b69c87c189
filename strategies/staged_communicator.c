/* SPDX-License-Identifier: Apache-2.0 */
/* A group on the memory of any device, by way of host memory: what is sent is copied to a stage when the call starts, and
 * what came is copied to the device when it is waited for. Between the two the device and the messages go on side by side.
 * Stages are kept from call to call. */
#include "strategies/communicators.h"

#include "base/memory.h"

enum { MOST_CALLS = 8 }; /* under way; with one more the first is waited for */

/* A call under way. The stage is laid out as the call in place is. */
typedef struct staged_call {
    light_collective call; /* on the device */
    light_ticket ticket;   /* of the call on the stage */
    char *stage, *in, *out;
    size_t stage_bytes;
} staged_call;

typedef struct staged {
    light_communicator base;
    light_communicator *host;
    bool owns_host;
    light_ticket started, finished;
    staged_call calls[MOST_CALLS]; /* by ticket */
} staged;

/* ---- what goes where ----------------------------------------------------------------- */

static size_t bytes_of(const light_collective *call, int64_t count)
{
    return call->kind == LIGHT_BARRIER ? 0 : light_dtype_size(call->dtype) * (size_t)count;
}

/* Bytes of this rank's input that are read. */
static size_t input_bytes(const light_communicator *c, const light_collective *call)
{
    switch (call->kind) {
    case LIGHT_RECEIVE: return 0;
    case LIGHT_ALL_GATHER: return bytes_of(call, call->count);
    case LIGHT_BROADCAST: return c->rank == call->peer ? bytes_of(call, call->count) : 0;
    case LIGHT_ALL_REDUCE:
    case LIGHT_REDUCE_SCATTER:
        if (call->contributors && c->rank >= call->contributors) return 0;
        break;
    default: break;
    }
    return bytes_of(call, light_collective_whole(c, call));
}

static size_t output_bytes(const light_communicator *c, const light_collective *call)
{
    if (call->kind == LIGHT_SEND) return 0;
    if (call->kind == LIGHT_BROADCAST && c->rank == call->peer && call->in == call->out) return 0;
    if (call->kind == LIGHT_REDUCE_SCATTER) return bytes_of(call, call->count);
    return bytes_of(call, light_collective_whole(c, call));
}

static light_status lay_out(const light_communicator *c, staged_call *s)
{
    const light_collective *call = &s->call;
    size_t whole = bytes_of(call, light_collective_whole(c, call));
    size_t own = bytes_of(call, call->count) * (size_t)c->rank;
    size_t needed = call->kind == LIGHT_ALL_TO_ALL ? 2 * whole : whole;
    if (needed > s->stage_bytes) {
        light_free(s->stage);
        s->stage = light_alloc(needed);
        s->stage_bytes = s->stage ? needed : 0;
        if (!s->stage) return LIGHT_ERR_MEMORY;
    }
    if (needed == 0) return LIGHT_OK;
    s->in = s->stage + (call->kind == LIGHT_ALL_GATHER ? own : 0);
    s->out = s->stage + (call->kind == LIGHT_REDUCE_SCATTER ? own
                         : call->kind == LIGHT_ALL_TO_ALL   ? whole
                                                            : 0);
    return LIGHT_OK;
}

static light_status copy(light_communicator *c, void *to, const void *from, size_t bytes,
                         light_copy_kind kind)
{
    return bytes ? c->device->backend->copy(c->device, to, from, bytes, kind) : LIGHT_OK;
}

/* ---- calls ---------------------------------------------------------------------------- */

/* The oldest call under way is done, and what came is on the device. */
static light_status finish_one(staged *g)
{
    staged_call *s = &g->calls[++g->finished % MOST_CALLS];
    LIGHT_TRY(light_communicate_wait(g->host, s->ticket));
    return copy(&g->base, s->call.out, s->out, output_bytes(&g->base, &s->call), LIGHT_COPY_HOST_TO_DEVICE);
}

static light_status start(light_communicator *c, const light_collective *call, light_ticket *ticket)
{
    staged *g = (staged *)c;
    if (g->started - g->finished == MOST_CALLS) LIGHT_TRY(finish_one(g));
    staged_call *s = &g->calls[(g->started + 1) % MOST_CALLS];
    s->call = *call;
    LIGHT_TRY(lay_out(c, s));
    LIGHT_TRY(copy(c, s->in, call->in, input_bytes(c, call), LIGHT_COPY_DEVICE_TO_HOST));
    light_collective on_stage = *call;
    on_stage.in = s->in;
    on_stage.out = s->out;
    g->host->control = c->control;
    LIGHT_TRY(light_communicate_start(g->host, &on_stage, &s->ticket));
    *ticket = ++g->started;
    return LIGHT_OK;
}

static light_status wait(light_communicator *c, light_ticket ticket)
{
    staged *g = (staged *)c;
    while (g->finished < ticket) LIGHT_TRY(finish_one(g));
    return LIGHT_OK;
}

static light_status split(light_communicator *c, int color, int key, light_communicator **out)
{
    light_communicator *host;
    staged *g = (staged *)c;
    LIGHT_TRY(g->host->vtable->split(g->host, color, key, &host));
    light_status status = light_staged_communicator_new(out, host, c->device);
    if (status == LIGHT_OK) {
        ((staged *)*out)->owns_host = true;
        (*out)->control = c->control;
    } else {
        light_communicator_free(host);
    }
    return status;
}

static void free_staged(light_communicator *c)
{
    staged *g = (staged *)c;
    for (int i = 0; i < MOST_CALLS; i++) light_free(g->calls[i].stage);
    if (g->owns_host) light_communicator_free(g->host);
    light_free(g);
}

static const light_communicator_vtable vtable = {sizeof vtable, "mpi", start, wait, split, free_staged};

light_status light_staged_communicator_new(light_communicator **out, light_communicator *host,
                                           light_device *device)
{
    staged *g = light_calloc(1, sizeof *g);
    *out = NULL;
    if (!g) return LIGHT_ERR_MEMORY;
    g->base = (light_communicator){.vtable = &vtable,
                                   .rank = host->rank,
                                   .size = host->size,
                                   .device = device,
                                   .control = host->control};
    g->host = host;
    *out = &g->base;
    return LIGHT_OK;
}
