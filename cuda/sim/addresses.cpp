/* SPDX-License-Identifier: Apache-2.0 */
/* Address ranges that become memory piece by piece: what addresses.cu does, for the simulated device. */
#include "cuda/memory.h"

#include <sys/mman.h>

namespace light
{

light_status reserve(light_device *device, size_t bytes, void **base)
{
    void *memory =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return light_fail(LIGHT_ERR_MEMORY, "%s: no address range of %zu MiB", device->name, bytes >> 20);
    sim::note_memory(memory, bytes);
    *base = memory;
    return LIGHT_OK;
}

light_status commit(light_device *, void *, size_t, size_t)
{
    return LIGHT_OK;
}

void unreserve(light_device *device, void *base, size_t bytes)
{
    cudaStreamSynchronize(stream_of(device));
    sim::forget_memory(base);
    munmap(base, bytes);
}

} // namespace light
