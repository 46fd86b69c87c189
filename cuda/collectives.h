/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between processes from device memory. collectives.cu has the streams, events and memory of a group; the messages
 * are NCCL's (vendor/nccl.cu), or go through the host on the simulated device (sim/nccl.cpp). */
#ifndef LIGHT_CUDA_COLLECTIVES_H
#define LIGHT_CUDA_COLLECTIVES_H

#include "cuda/device.h"

extern "C" {
#include "tensor/collectives.h"
}

namespace light
{

extern const light_collectives collectives;

/* combine.cu: the COMBINE kernel as work of a stream. */
light_status combine_on(cudaStream_t stream, const light_kernel_args *args);

struct library_group; /* of NCCL, or simulated */

struct group {
    light_device *device;
    light_group_setup setup;
    light_ticket started;
    library_group *library;
    char *stage;
    size_t stage_bytes;
    cudaEvent_t begun;
    enum { CALLS = 64 };
    cudaEvent_t done[CALLS]; /* by ticket; one that was used again is later, which will do */
};

/* The stream of all collectives of a device. */
inline cudaStream_t stream_of(const group *g)
{
    return state_of(g->device)->communication;
}

/* The library's part: see light_collectives. */
light_status library_available(light_device *device);
light_status library_make_id(light_device *device, char id[LIGHT_GROUP_ID_BYTES]);
light_status library_open(group *g);
void library_close(group *g);
void library_abort(group *g);
light_status library_transfer(group *g, const light_transfer *transfers, int n);
light_status library_collective(group *g, const light_collective *call, bool *done);
/* Called again and again until call `ticket` is done: what may be wrong, and what the host has to do for it. */
light_status library_test(group *g, light_ticket ticket);

} // namespace light

#endif
