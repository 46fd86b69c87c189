/* SPDX-License-Identifier: Apache-2.0 */
/* A group on the memory of a device that sends by itself: NCCL, or what stands for it on a simulated device. The processes
 * find each other through the group on host memory, whose thread looks after each call: what is never done ends there, and
 * a process that does not come is told by the number of the call. */
#include "strategies/collectives.h"
#include "strategies/mpi_thread.h"

#include "base/memory.h"

#include <string.h>

static const int64_t BLOCK_BYTES = (int64_t)64 << 20;
/* Under way; with one more the first is waited for. A device keeps 64 events for them, and whether a call is done cannot be
 * asked any more when its event has been used again. */
enum { MOST_CALLS = 32 };

typedef struct device_group {
    light_communicator base;
    light_transport transport;
    const light_collectives *library;
    void *group;           /* the library's */
    light_mpi_group *host; /* the same ranks */
    bool owns_host;
    light_ticket watched[MOST_CALLS]; /* the host's tickets of the last calls */
    int64_t calls;
    light_transfer *transfers;
    int transfer_count, transfer_room;
} device_group;

/* ---- messages of a call ---------------------------------------------------------------- */

static device_group *carrier(light_transport *t)
{
    return (device_group *)((char *)t - offsetof(device_group, transport));
}

static light_status add(device_group *g, light_transfer transfer)
{
    if (g->transfer_count == g->transfer_room) {
        int room = g->transfer_room ? 2 * g->transfer_room : 64;
        light_transfer *grown = light_realloc(g->transfers, (size_t)room * sizeof *grown);
        if (!grown) return LIGHT_ERR_MEMORY;
        g->transfers = grown;
        g->transfer_room = room;
    }
    g->transfers[g->transfer_count++] = transfer;
    return LIGHT_OK;
}

static light_status send(light_transport *t, const void *data, size_t bytes, int peer)
{
    return add(carrier(t), (light_transfer){(void *)(uintptr_t)data, bytes, peer, false});
}

static light_status receive(light_transport *t, void *data, size_t bytes, int peer)
{
    return add(carrier(t), (light_transfer){data, bytes, peer, true});
}

static light_status finish(light_transport *t)
{
    device_group *g = carrier(t);
    int n = g->transfer_count;
    g->transfer_count = 0;
    return n ? g->library->transfer(g->group, g->transfers, n) : LIGHT_OK;
}

static light_status copy(light_transport *t, void *to, const void *from, size_t bytes)
{
    return carrier(t)->library->copy(carrier(t)->group, to, from, bytes);
}

static light_status stage(light_transport *t, size_t bytes, char **data)
{
    return carrier(t)->library->stage(carrier(t)->group, bytes, data);
}

static light_status combine(light_transport *t, light_kernel_args *args)
{
    return carrier(t)->library->combine(carrier(t)->group, args);
}

/* ---- calls ---------------------------------------------------------------------------- */

/* Whether the library may do the whole call: sums in an order, or of 16-bit numbers, which have to be in f32, or of some
 * ranks only are made of messages. */
static bool any_order_will_do(const light_communicator *c, const light_collective *call)
{
    bool combines = call->kind == LIGHT_ALL_REDUCE || call->kind == LIGHT_REDUCE_SCATTER;
    bool narrow = call->dtype == LIGHT_BF16 || call->dtype == LIGHT_F16;
    if (!combines) return true;
    if (call->contributors && call->contributors < c->size) return false;
    return call->combine != LIGHT_COMBINE_SUM || (!call->ordered && !narrow);
}

static light_status ask_for(device_group *g, const light_collective *call)
{
    bool done = false;
    if (any_order_will_do(&g->base, call)) LIGHT_TRY(g->library->collective(g->group, call, &done));
    return done ? LIGHT_OK : light_run_collective(&g->transport, call);
}

static light_status start(light_communicator *c, const light_collective *call, light_ticket *ticket)
{
    device_group *g = (device_group *)c;
    light_ticket *watch = &g->watched[g->calls++ % MOST_CALLS];
    g->host->base.control = c->control;
    LIGHT_TRY(light_mpi_wait(g->host, *watch));
    LIGHT_TRY(g->library->begin(g->group));
    LIGHT_TRY(ask_for(g, call));
    LIGHT_TRY(g->library->end(g->group, ticket));
    light_mpi_watched watched = {g->group, *ticket, g->library->test, g->library->abort};
    return light_mpi_watch(g->host, call, &watched, watch);
}

static light_status wait(light_communicator *c, light_ticket ticket)
{
    device_group *g = (device_group *)c;
    LIGHT_TRY(light_mpi_status());
    return g->library->wait(g->group, ticket);
}

static light_status split(light_communicator *c, int color, int key, light_communicator **out)
{
    device_group *g = (device_group *)c;
    light_communicator *host;
    LIGHT_TRY(g->host->base.vtable->split(&g->host->base, color, key, &host));
    light_status status = light_nccl_communicator_new(out, host, c->device);
    if (status == LIGHT_OK)
        ((device_group *)*out)->owns_host = true;
    else
        light_communicator_free(host);
    return status;
}

static void free_group(light_communicator *c)
{
    device_group *g = (device_group *)c;
    for (int i = 0; g->calls && i < MOST_CALLS; i++)
        if (light_mpi_wait(g->host, g->watched[i]) != LIGHT_OK) g->library->abort(g->group);
    if (g->group) g->library->close(g->group);
    if (g->owns_host) light_communicator_free(&g->host->base);
    light_free(g->transfers);
    light_free(g);
}

/* ---- opening --------------------------------------------------------------------------- */

static light_status check(void *user)
{
    return light_control_status(((device_group *)user)->base.control);
}

static light_status exchange(void *user, const light_transfer *transfers, int n)
{
    return light_mpi_exchange(((device_group *)user)->host, transfers, n);
}

static light_status open_group(device_group *g)
{
    light_communicator *host = &g->host->base;
    light_group_setup setup = {
        .rank = host->rank, .size = host->size, .user = g, .check = check, .exchange = exchange};
    LIGHT_TRY(g->library->available(g->base.device));
    if (host->rank == 0) LIGHT_TRY(g->library->make_id(g->base.device, setup.id));
    LIGHT_TRY(light_broadcast_bytes(host, setup.id, sizeof setup.id, 0, "the group's id"));
    LIGHT_TRY(g->library->open(g->base.device, &setup, &g->group));
    return light_barrier(host, "opening the group");
}

static const light_communicator_vtable vtable = {sizeof vtable, "nccl", start, wait, split, free_group};

light_status light_nccl_communicator_new(light_communicator **out, light_communicator *host,
                                         light_device *device)
{
    device_group *g = light_calloc(1, sizeof *g);
    *out = NULL;
    if (!g) return LIGHT_ERR_MEMORY;
    g->base = (light_communicator){.vtable = &vtable,
                                   .rank = host->rank,
                                   .size = host->size,
                                   .device = device,
                                   .control = host->control};
    g->transport = (light_transport){.rank = host->rank,
                                     .size = host->size,
                                     .block_bytes = BLOCK_BYTES,
                                     .send = send,
                                     .receive = receive,
                                     .finish = finish,
                                     .copy = copy,
                                     .stage = stage,
                                     .combine = combine};
    g->library = device->backend->collectives;
    g->host = (light_mpi_group *)host;
    light_status status = host->size > 1 ? open_group(g) : LIGHT_OK;
    if (status == LIGHT_OK)
        *out = &g->base;
    else
        free_group(&g->base);
    return status;
}

/* All ranks use the library, or none does. */
light_status light_device_communicator_new(light_communicator **out, light_communicator *host,
                                           light_device *device)
{
    const light_collectives *library = device->backend->collectives;
    if (host->size == 1) return light_self_communicator_new(out, device);
    light_status status =
        library ? library->available(device)
                : light_fail(LIGHT_ERR_UNSUPPORTED, "this build of %s has none", device->backend->name);
    char why[512];
    strncpy(why, status == LIGHT_OK ? "other ranks lack it" : light_error_message(), sizeof why - 1);
    why[sizeof why - 1] = '\0';
    double all = status == LIGHT_OK;
    LIGHT_TRY(light_reduce_doubles(host, &all, 1, LIGHT_COMBINE_MIN, "which library to use"));
    if (all == 1) return light_nccl_communicator_new(out, host, device);
    light_message(LIGHT_MESSAGE_INFO, "%s: processes send through host memory, without NCCL: %s",
                  device->name, why);
    return light_staged_communicator_new(out, host, device);
}
