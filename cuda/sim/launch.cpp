/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels: what a launch may ask for, and the blocks of a grid. */
#include "cuda/sim/runtime.h"
#include "cuda/sim/shared.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <numeric>

namespace sim
{

/* ---- what may be launched ---------------------------------------------------------- */

static std::map<const void *, size_t> &allowed =
    *new std::map<const void *, size_t>; /* shared memory, by kernel */

static size_t shared_allowed(const void *kernel)
{
    auto found = allowed.find(kernel);
    if (!kernel) return SHARED_LIMIT;
    return found == allowed.end() ? (size_t)SHARED_UNASKED : found->second;
}

static cudaError_t check_launch(dim3 grid, dim3 size, size_t shared, const void *kernel)
{
    uint64_t threads = (uint64_t)size.x * size.y * size.z;
    if (!threads || threads > 1024 || size.z > 64)
        return fail(cudaErrorInvalidConfiguration, "a block of %u x %u x %u threads", size.x, size.y, size.z);
    if (!grid.x || !grid.y || !grid.z || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
        return fail(cudaErrorInvalidConfiguration, "a grid of %u x %u x %u blocks", grid.x, grid.y, grid.z);
    if (shared > SHARED_LIMIT) return fail(cudaErrorInvalidValue, "%zu bytes of shared memory", shared);
    if (shared > shared_allowed(kernel))
        return fail(cudaErrorInvalidValue, "%zu bytes of shared memory without cudaFuncSetAttribute", shared);
    return cudaSuccess;
}

cudaError_t check_pointer(const void *pointer, int argument)
{
    size_t bytes;
    lock held(mutex);
    if (!pointer || kind_of(pointer, &bytes) != MEMORY_PAGEABLE) return cudaSuccess;
    char text[96];
    snprintf(text, sizeof text, "argument %d of a kernel, %p, is host memory", argument, pointer);
    return device_failed(cudaErrorIllegalAddress, text);
}

/* ---- running ------------------------------------------------------------------------ */

/* Numbers of blocks in some order: with a seed, multiples of a number without a common divisor. */
struct block_order {
    uint64_t count, first, step;
    explicit block_order(uint64_t count) : count(count), first(0), step(1)
    {
        if (order == 1) {
            first = count - 1;
            step = count - 1;
        } else if (order > 1) {
            unsigned random = order;
            first = next_random(&random) % count;
            do step = next_random(&random) % count + 1;
            while (std::gcd(step, count) != 1);
        }
    }
    uint64_t at(uint64_t i) const
    {
        return (first + (uint64_t)((unsigned __int128)i * step % count)) % count;
    }
};

static void run_grid(dim3 grid, dim3 size, size_t shared, const std::function<void()> &body,
                     const void *kernel)
{
    block_order numbers((uint64_t)grid.x * grid.y * grid.z);
    blockDim = size;
    gridDim = grid;
    prepare_block(size, order);
    begin_shared(kernel, shared);
    for (uint64_t i = 0; i < numbers.count; i++) {
        uint64_t n = numbers.at(i);
        blockIdx = {(unsigned)(n % grid.x), (unsigned)(n / grid.x % grid.y), (unsigned)(n / grid.x / grid.y)};
        shared_memory = fresh_shared();
        if (!run_block(body)) break;
    }
    end_shared();
}

cudaError_t launch(dim3 grid, dim3 size, size_t shared, cudaStream_t stream, std::function<void()> body,
                   const void *kernel)
{
    lock held(mutex);
    if (cudaError_t error = device_error()) return error;
    if (cudaError_t error = check_launch(grid, size, shared, kernel)) return error;
    if (device_of(stream) != chosen_device())
        return fail(cudaErrorInvalidResourceHandle,
                    "a kernel on a stream of device %d, where device %d is chosen", device_of(stream),
                    chosen_device());
    counted.launches++;
    return enqueue(stream, [=] { run_grid(grid, size, shared, body, kernel); });
}

} // namespace sim

cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute attribute, int value)
{
    sim::lock held(sim::mutex);
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 || value > sim::SHARED_LIMIT)
        return sim::fail(cudaErrorInvalidValue, "attribute %d may not be %d", (int)attribute, value);
    sim::allowed[kernel] = (size_t)value;
    return sim::device_error();
}
