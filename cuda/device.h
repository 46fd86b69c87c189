/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA device as its backend sees it, and how kernels are launched.
 *
 * All work of a step goes to one stream, `compute`; copies to and from the host have streams of their own, ordered
 * against it by events. Nothing waits on the host but `synchronize` and the reading of results, which are counted. */
#ifndef LIGHT_CUDA_DEVICE_H
#define LIGHT_CUDA_DEVICE_H

#include <cuda_runtime.h> /* in the simulated build: cuda/sim/cuda_runtime.h */

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

extern "C" {
#include "tensor/device.h"
#include "tensor/iterate.h"
}

namespace light
{

/* ---- failures that kernels find -------------------------------------------- */

/* What went wrong first in a kernel: host memory that the device writes to, looked at without waiting. */
enum fault_kind { FAULT_NONE, FAULT_INDEX, FAULT_CLASS };
struct fault {
    int kind;
    int kernel;    /* light_kernel_id */
    int64_t value; /* the index or class */
    int64_t limit; /* it must be in [0, limit) */
};

/* ---- the device -------------------------------------------------------------- */

struct pool;       /* memory.cu */
struct range;      /* addresses.cu */
struct transfers;  /* transfer.cu */
struct graphs;     /* graph.cu */
struct gemm_plans; /* vendor/ */
struct cudnn_library;

struct device_state {
    int index;
    int sm_count, capability; /* 90 for sm_90 */
    size_t shared_limit;      /* bytes of shared memory a block may ask for */
    cudaStream_t compute, communication, upload, download;
    struct fault *fault;        /* pinned; what the host reads */
    struct fault *fault_device; /* the same memory as the device sees it */
    bool
        tf32; /* LIGHT_CUDA_TF32=1: products of f32 may round their factors to 10 bits, as PyTorch's allow_tf32 */
    bool sync_every; /* LIGHT_CUDA_SYNC=1: wait after each launch, so that a fault has its operation's name */
    void *scratch;   /* work memory of kernels on `compute` */
    size_t scratch_bytes;
    pthread_mutex_t mutex; /* memory and copies may be asked for by any thread, kernels by one at a time */
    pool *memory;
    range *ranges;
    struct transfers *transfers;
    struct graphs *graphs;
    gemm_plans *gemms;
    cudnn_library *cudnn;
};

inline device_state *state_of(const light_device *device)
{
    return (device_state *)device->state;
}

inline cudaStream_t stream_of(const light_device *device)
{
    return state_of(device)->compute;
}

/* Turns a CUDA error into a status and a text: what was done, what CUDA says, what to try. */
light_status cuda_status(const light_device *device, cudaError_t error, const char *doing);

/* Makes the device the calling thread's: CUDA has one for each thread, the first unless told otherwise, on which memory
 * and kernels are. */
inline light_status use(const light_device *device)
{
    return cuda_status(device, cudaSetDevice(state_of(device)->index), "choosing the device");
}

/* Work memory on the device for the kernels of one launcher, aligned to 256 bytes, contents undefined. Later launchers
 * use the same memory: launches on `compute` follow each other, so they do not disturb what runs before them. Asked for
 * once by a launcher, which divides it as it likes. */
light_status scratch(const light_device *device, size_t bytes, void **data);

/* ---- graphs ----------------------------------------------------------------------- */

/* Whether launches are recorded, to be repeated as a CUDA graph (graph.cu), instead of done. */
bool recording(const light_device *device);
/* The error of what cannot be recorded; LIGHT_OK where nothing is. */
light_status refuse_recording(const light_device *device, const char *what);
/* Where a recorded kernel reads the step's counter, and where an optimizer's reads {lr, step}, one such pair a call; NULL
 * where nothing is recorded: then the numbers are those of the call. */
const uint64_t *recorded_counter(const light_device *device);
light_status recorded_numbers(const light_device *device, const double **numbers);

/* ---- kernels ------------------------------------------------------------------ */

/* Declares `name` as the block's dynamic shared memory, whose size the launch tells. */
#ifndef LIGHT_DYNAMIC_SHARED
#define LIGHT_DYNAMIC_SHARED(T, name)                                                                        \
    extern __shared__ __align__(16) unsigned char light_shared[];                                            \
    T *name = (T *)light_shared
#endif

/* The backend's kernels: each file of cuda/ has an array of them, ended by a NULL (backend.cu puts them together). */
struct kernel_entry {
    light_kernel_id id;
    light_kernel kernel;
};

/* The fault that a kernel noted, which is then forgotten. */
light_status take_fault(const light_device *device);
/* After a launch: its error, or the fault of an earlier one. */
light_status launched(const light_device *device, cudaError_t error);

/* Holds the device's mutex while it lives. */
struct held {
    device_state *state;
    explicit held(const light_device *device) : state(state_of(device))
    {
        pthread_mutex_lock(&state->mutex);
    }
    ~held()
    {
        pthread_mutex_unlock(&state->mutex);
    }
    held(const held &) = delete;
};

/* Runs a __global__ function on a stream. A grid without blocks is no work. `shared`: bytes of dynamic shared memory.
 * Arguments are converted to the parameters' types. */
template <class... P, class... A>
light_status launch_on(cudaStream_t stream, const light_device *device, void (*kernel)(P...), dim3 grid,
                       dim3 block, size_t shared, A... arguments)
{
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return LIGHT_OK;
    LIGHT_TRY(use(device));
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    config.stream = stream;
    if (shared > 48 * 1024) /* has to be asked for */
        LIGHT_TRY(cuda_status(device,
                              cudaFuncSetAttribute((const void *)kernel,
                                                   cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared),
                              "shared memory"));
    return launched(device, cudaLaunchKernelEx(&config, kernel, P(arguments)...));
}

/* On the compute stream. */
template <class... P, class... A>
light_status launch(const light_device *device, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
                    A... arguments)
{
    return launch_on(stream_of(device), device, kernel, grid, block, shared, arguments...);
}

/* Blocks for n items, `each` of them a block: enough to fill the device several times over, no more; kernels go on in
 * strides of the grid. */
inline unsigned blocks_for(const light_device *device, int64_t n, int64_t each)
{
    int64_t needed = (n + each - 1) / each, most = (int64_t)state_of(device)->sm_count * 32;
    return (unsigned)(needed < most ? needed : most);
}

} // namespace light

#endif
