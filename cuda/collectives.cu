/* SPDX-License-Identifier: Apache-2.0 */
/* A group's streams, events and memory: a call comes after what compute was asked for before, compute after the call when
 * it is waited for. The host waits for neither. */
#include "cuda/collectives.h"

#include "cuda/memory.h"

#include <stdlib.h>

namespace light
{

static group *group_of(void *g)
{
    return (group *)g;
}

static light_status make_events(group *g)
{
    LIGHT_TRY(cuda_status(g->device, cudaEventCreateWithFlags(&g->begun, cudaEventDisableTiming),
                          "making an event"));
    for (int i = 0; i < group::CALLS; i++)
        LIGHT_TRY(cuda_status(g->device, cudaEventCreateWithFlags(&g->done[i], cudaEventDisableTiming),
                              "making an event"));
    return LIGHT_OK;
}

static void close(void *opened)
{
    group *g = group_of(opened);
    use(g->device);
    if (g->library) library_close(g);
    if (g->stage) release(g->device, g->stage, g->stage_bytes);
    if (g->begun) cudaEventDestroy(g->begun);
    for (int i = 0; i < group::CALLS; i++)
        if (g->done[i]) cudaEventDestroy(g->done[i]);
    free(g);
}

static light_status open(light_device *device, const light_group_setup *setup, void **opened)
{
    group *g = (group *)calloc(1, sizeof *g);
    if (!g) return light_fail(LIGHT_ERR_MEMORY, "out of memory on the host");
    g->device = device;
    g->setup = *setup;
    light_status status = use(device);
    if (status == LIGHT_OK) status = make_events(g);
    if (status == LIGHT_OK) status = library_open(g);
    if (status == LIGHT_OK)
        *opened = g;
    else
        close(g);
    return status;
}

static void abort_group(void *g)
{
    library_abort(group_of(g));
}

/* ---- calls ------------------------------------------------------------------------ */

static light_status begin(void *opened)
{
    group *g = group_of(opened);
    LIGHT_TRY(refuse_recording(g->device, "a collective"));
    LIGHT_TRY(use(g->device));
    LIGHT_TRY(
        cuda_status(g->device, cudaEventRecord(g->begun, state_of(g->device)->compute), "a collective"));
    return cuda_status(g->device, cudaStreamWaitEvent(stream_of(g), g->begun, 0), "a collective");
}

static light_status end(void *opened, light_ticket *ticket)
{
    group *g = group_of(opened);
    *ticket = ++g->started;
    return cuda_status(g->device, cudaEventRecord(g->done[*ticket % group::CALLS], stream_of(g)),
                       "a collective");
}

static light_status wait(void *opened, light_ticket ticket)
{
    group *g = group_of(opened);
    cudaEvent_t done = g->done[ticket % group::CALLS];
    LIGHT_TRY(use(g->device));
    return cuda_status(g->device, cudaStreamWaitEvent(state_of(g->device)->compute, done, 0), "a collective");
}

static light_status test(void *opened, light_ticket ticket, bool *done)
{
    group *g = group_of(opened);
    cudaError_t error = cudaEventQuery(g->done[ticket % group::CALLS]);
    *done = error == cudaSuccess;
    if (error == cudaErrorNotReady) return library_test(g, ticket);
    return cuda_status(g->device, error, "a collective");
}

static light_status transfer(void *g, const light_transfer *transfers, int n)
{
    return library_transfer(group_of(g), transfers, n);
}

static light_status collective(void *g, const light_collective *call, bool *done)
{
    return library_collective(group_of(g), call, done);
}

static light_status copy_within(void *opened, void *to, const void *from, size_t bytes)
{
    group *g = group_of(opened);
    return cuda_status(g->device, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_of(g)),
                       "copying");
}

static light_status combine(void *opened, const light_kernel_args *args)
{
    group *g = group_of(opened);
    light_kernel_args here = *args;
    here.device = g->device;
    return combine_on(stream_of(g), &here);
}

/* More memory than before is rare: what uses the old is waited for. New memory is cleared on compute, so the call has to
 * begin anew. */
static light_status stage(void *opened, size_t bytes, char **data)
{
    group *g = group_of(opened);
    void *memory = g->stage;
    if (bytes > g->stage_bytes) {
        if (g->stage) {
            LIGHT_TRY(cuda_status(g->device, cudaStreamSynchronize(stream_of(g)), "a collective"));
            release(g->device, g->stage, g->stage_bytes);
            g->stage = NULL;
            g->stage_bytes = 0;
        }
        LIGHT_TRY(allocate(g->device, bytes, &memory));
        g->stage = (char *)memory;
        g->stage_bytes = bytes;
        LIGHT_TRY(begin(g));
    }
    *data = g->stage;
    return LIGHT_OK;
}

const light_collectives collectives = {
    library_available, library_make_id, open,        close,   abort_group, begin, end, wait, test,
    transfer,          collective,      copy_within, combine, stage,
};

} // namespace light
