/* SPDX-License-Identifier: Apache-2.0 */
/* Address ranges that become memory piece by piece: what addresses.cu does, for the simulated device. */
#include "cuda/memory.h"

namespace light
{

light_status reserve(light_device *device, size_t bytes, void **base)
{
    return cuda_status(device, sim::reserve_range(bytes, base), "reserving addresses");
}

light_status commit(light_device *device, void *base, size_t from, size_t to)
{
    cudaError_t error = sim::commit_range(base, from, to);
    if (error == cudaErrorMemoryAllocation && give_back_unused(device))
        error = sim::commit_range(base, from, to);
    return error == cudaErrorMemoryAllocation ? step_too_large(device, from, to)
                                              : cuda_status(device, error, "mapping memory");
}

void unreserve(light_device *device, void *base, size_t)
{
    cudaStreamSynchronize(stream_of(device));
    sim::release_range(base);
}

} // namespace light
