/* SPDX-License-Identifier: Apache-2.0 */
/* How many devices there are, what they can do, which one a thread has chosen. */
#include "cuda/sim/runtime.h"

#include <cstdlib>
#include <pthread.h>

namespace sim
{

std::recursive_mutex mutex;
counts counted;

static long setting(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text ? strtol(text, nullptr, 10) : otherwise;
}

int device_count()
{
    return (int)setting("LIGHT_SIM_DEVICES", 1);
}

size_t memory_limit()
{
    static const size_t limit = (size_t)setting("LIGHT_SIM_MEMORY", 8192) << 20;
    return limit;
}

/* Not thread_local: that is where __shared__ variables are, which are filled with NaN (shared.cpp). */
static pthread_key_t chosen_key()
{
    static const pthread_key_t key = [] {
        pthread_key_t made;
        pthread_key_create(&made, nullptr);
        return made;
    }();
    return key;
}

int chosen_device()
{
    return (int)(intptr_t)pthread_getspecific(chosen_key());
}

} // namespace sim

/* For tests, which find it in the plug-in. */
extern "C" __attribute__((visibility("default"))) const sim::counts *light_sim_counts()
{
    return &sim::counted;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = sim::device_count();
    if (*count > 0) return cudaSuccess;
    return sim::fail(cudaErrorNoDevice, "LIGHT_SIM_DEVICES is %d", *count);
}

cudaError_t cudaSetDevice(int device)
{
    if (device < 0 || device >= sim::device_count())
        return sim::fail(cudaErrorInvalidDevice, "device %d of %d", device, sim::device_count());
    pthread_setspecific(sim::chosen_key(), (void *)(intptr_t)device);
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device)
{
    *device = sim::chosen_device();
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device)
{
    if (device < 0 || device >= sim::device_count())
        return sim::fail(cudaErrorInvalidDevice, "device %d of %d", device, sim::device_count());
    *properties = cudaDeviceProp{"simulated", 9, 0, 4, sim::SHARED_LIMIT, sim::memory_limit()};
    return cudaSuccess;
}
