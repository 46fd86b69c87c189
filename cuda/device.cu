/* SPDX-License-Identifier: Apache-2.0 */
/* Opening the device: what is there, its streams; errors; waiting. */
#include "cuda/device.h"

#include "cuda/memory.h"
#include "cuda/vendor/cudnn.h"
#include "cuda/vendor/gemm.h"

#include <stdio.h>
#include <stdlib.h>

namespace light
{

/* ---- errors ------------------------------------------------------------------ */

light_status cuda_status(const light_device *device, cudaError_t error, const char *doing)
{
    if (error == cudaSuccess) return LIGHT_OK;
    return light_fail(error == cudaErrorMemoryAllocation ? LIGHT_ERR_MEMORY : LIGHT_ERR_INTERNAL,
                      "%s: %s: %s (%s)%s", device->name, doing, cudaGetErrorString(error),
                      cudaGetErrorName(error),
                      state_of(device)->sync_every || error == cudaErrorMemoryAllocation
                          ? ""
                          : "; LIGHT_CUDA_SYNC=1 makes an error stand at the operation that it comes from");
}

/* "index_select" */
static char *kernel_name(int id, char text[64])
{
#define X(name) #name,
    static const char *const names[] = {LIGHT_KERNEL_MAP(X)};
#undef X
    const char *name = id >= 0 && id < LIGHT_KERNEL_COUNT ? names[id] : "?";
    int i = 0;
    for (; name[i] && i < 63; i++)
        text[i] = name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] + 32) : name[i];
    text[i] = '\0';
    return text;
}

/* The fault that a kernel noted, which is then forgotten. */
light_status take_fault(const light_device *device)
{
    volatile fault *noted = state_of(device)->fault;
    if (noted->kind == FAULT_NONE) return LIGHT_OK;
    fault f = {noted->kind, noted->kernel, noted->value, noted->limit};
    noted->kind = FAULT_NONE;
    char name[64];
    const char *what = f.kind == FAULT_CLASS ? "class" : "index";
    return light_fail(
        LIGHT_ERR_ARGUMENT, "%s: %s: %s %lld is out of range, there are %lld%s", device->name,
        kernel_name(f.kernel, name), what, (long long)f.value, (long long)f.limit,
        state_of(device)->sync_every ? "" : " (found after the operation; LIGHT_CUDA_SYNC=1 finds it there)");
}

light_status synchronize(light_device *device)
{
    LIGHT_TRY(refuse_recording(device, "waiting"));
    device->synchronizations++;
    LIGHT_TRY(
        cuda_status(device, cudaStreamSynchronize(state_of(device)->compute), "waiting for the device"));
    return take_fault(device);
}

light_status launched(const light_device *device, cudaError_t error)
{
    if (error != cudaSuccess) return cuda_status(device, error, "launching a kernel");
    if (state_of(device)->sync_every && !recording(device)) return synchronize((light_device *)device);
    return take_fault(device);
}

/* ---- opening ----------------------------------------------------------------- */

static light_status make_streams(light_device *device)
{
    device_state *s = state_of(device);
    cudaStream_t *const streams[] = {&s->compute, &s->communication, &s->upload, &s->download};
    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++)
        LIGHT_TRY(cuda_status(device, cudaStreamCreateWithFlags(streams[i], cudaStreamNonBlocking),
                              "making a stream"));
    return LIGHT_OK;
}

static light_status make_fault(light_device *device)
{
    device_state *s = state_of(device);
    LIGHT_TRY(cuda_status(device, cudaHostAlloc((void **)&s->fault, sizeof *s->fault, cudaHostAllocMapped),
                          "pinned memory"));
    *s->fault = fault{};
    return cuda_status(device, cudaHostGetDevicePointer((void **)&s->fault_device, s->fault, 0),
                       "pinned memory");
}

static light_status check_index(light_device *device, int index)
{
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess)
        return light_fail(
            LIGHT_ERR_UNSUPPORTED,
            "device \"%s\": no CUDA device can be used: %s (LIGHT_CUDA=simulated lets the CPU play one, "
            "for tests)",
            device->name, cudaGetErrorString(error));
    if (index < count) return LIGHT_OK;
    return light_fail(LIGHT_ERR_ARGUMENT, "device \"%s\": this machine has %d CUDA device%s, counted from 0",
                      device->name, count, count == 1 ? "" : "s");
}

__global__ void probe_kernel()
{
}

/* Whether the library holds code for this GPU, which is asked of one of its kernels. */
static bool has_code()
{
#ifdef LIGHT_CUDA_SIM
    (void)probe_kernel;
    return true;
#else
    cudaFuncAttributes attributes;
    return cudaFuncGetAttributes(&attributes, (const void *)probe_kernel) == cudaSuccess;
#endif
}

/* The library holds code for certain architectures only. */
static light_status check_architecture(light_device *device, const cudaDeviceProp *properties)
{
    device_state *s = state_of(device);
    s->capability = 10 * properties->major + properties->minor;
    s->sm_count = properties->multiProcessorCount;
    s->shared_limit = properties->sharedMemPerBlockOptin;
    if (s->capability < 80)
        return light_fail(LIGHT_ERR_UNSUPPORTED,
                          "device \"%s\": %s has compute capability %d.%d; 8.0 (A100) or later is needed",
                          device->name, properties->name, properties->major, properties->minor);
    if (has_code()) return LIGHT_OK;
    return light_fail(LIGHT_ERR_UNSUPPORTED,
                      "device \"%s\": liblight_cuda.so was built for other GPUs than this %s; configure with "
                      "-DLIGHT_CUDA_ARCHITECTURES=%d",
                      device->name, properties->name, s->capability);
}

static bool is_set(const char *variable)
{
    const char *value = getenv(variable);
    return value && !strcmp(value, "1");
}

static light_status open_state(light_device *device, int index)
{
    cudaDeviceProp properties;
    LIGHT_TRY(check_index(device, index));
    LIGHT_TRY(cuda_status(device, cudaSetDevice(index), "choosing the device"));
    LIGHT_TRY(cuda_status(device, cudaGetDeviceProperties(&properties, index), "asking the device"));
    LIGHT_TRY(check_architecture(device, &properties));
    state_of(device)->sync_every = is_set("LIGHT_CUDA_SYNC");
    state_of(device)->tf32 = is_set("LIGHT_CUDA_TF32");
    LIGHT_TRY(make_streams(device));
    LIGHT_TRY(make_fault(device));
    return memory_open(device);
}

light_status open_device(light_device *device, int index)
{
    device_state *s = (device_state *)calloc(1, sizeof *s);
    if (!s) return light_fail(LIGHT_ERR_MEMORY, "out of memory on the host");
    s->index = index;
    pthread_mutex_init(&s->mutex, NULL);
    device->state = s;
#ifdef LIGHT_CUDA_SIM
    device->simulated = true;
#endif
    light_status status = open_state(device, index);
    if (status != LIGHT_OK) close_device(device);
    return status;
}

void close_device(light_device *device)
{
    device_state *s = state_of(device);
    if (!s) return;
    cudaSetDevice(s->index);
    graph_close(device);
    close_cudnn(device);
    close_gemm(device);
    memory_close(device);
    const cudaStream_t streams[] = {s->compute, s->communication, s->upload, s->download};
    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++)
        if (streams[i]) cudaStreamDestroy(streams[i]);
    if (s->fault) cudaFreeHost(s->fault);
    pthread_mutex_destroy(&s->mutex);
    free(s);
    device->state = NULL;
}

} // namespace light
