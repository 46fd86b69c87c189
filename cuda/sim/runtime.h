/* SPDX-License-Identifier: Apache-2.0 */
/* The calls of the CUDA runtime that the backend makes, and what the parts of the simulated one share. */
#ifndef LIGHT_CUDA_SIM_RUNTIME_H
#define LIGHT_CUDA_SIM_RUNTIME_H

#include "cuda/sim/block.h"
#include "cuda/sim/error.h"

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <type_traits>

/* ---- devices (device.cpp) ---------------------------------------------------------- */

struct cudaDeviceProp {
    char name[256];
    int major, minor, multiProcessorCount;
    size_t sharedMemPerBlockOptin, totalGlobalMem;
};
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device);

/* ---- memory (memory.cpp) ------------------------------------------------------------- */

enum { cudaHostAllocDefault = 0, cudaHostAllocMapped = 2 };
cudaError_t cudaMalloc(void **data, size_t bytes);
cudaError_t cudaFree(void *data);
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total);
cudaError_t cudaMallocHost(void **data, size_t bytes);
cudaError_t cudaHostAlloc(void **data, size_t bytes, unsigned flags);
cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned flags);
cudaError_t cudaFreeHost(void *data);

/* ---- streams (stream.cpp) --------------------------------------------------------------- */

enum cudaMemcpyKind {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice,
    cudaMemcpyDefault
};
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };
typedef struct sim_stream *cudaStream_t;
typedef struct sim_event *cudaEvent_t;
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamQuery(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream);

/* ---- kernels (launch.cpp) ---------------------------------------------------------------- */

enum cudaStreamCaptureMode { cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal };
typedef struct sim_graph *cudaGraph_t, *cudaGraphExec_t;
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *ready, cudaGraph_t graph, unsigned long long flags = 0);
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph);

struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute attribute, int value);

namespace sim
{

enum { SHARED_LIMIT = 227 << 10, SHARED_UNASKED = 48 << 10 }; /* as on an H100 */

/* Every call holds it; kernels run while it is held. */
extern std::recursive_mutex mutex;
using lock = std::lock_guard<std::recursive_mutex>;

/* The error of a call that a thread may not make while it captures a stream: asking for memory, giving it back. */
cudaError_t unless_capturing(const char *doing);

/* What tests count. */
struct counts {
    uint64_t launches, synchronizations, allocations;
};
extern counts counted;
extern "C" const counts *light_sim_counts();

/* The devices there are, LIGHT_SIM_DEVICES of them (1), and the one that the calling thread has chosen. */
int device_count();
int chosen_device();
/* Bytes that a device has: LIGHT_SIM_MEMORY, in MiB (8192). */
size_t memory_limit();

/* Seed of the order in which commands of different streams run, and how late: LIGHT_SIM_SEED. 0: at once. */
extern unsigned seed;
/* Runs `work` in the stream's turn. */
cudaError_t enqueue(cudaStream_t stream, std::function<void()> work);
/* The same, but not before `ready`, which another process or thread makes true: until then the stream stands still. */
cudaError_t enqueue_when(cudaStream_t stream, std::function<bool()> ready, std::function<void()> work);
/* Runs all that has been asked for. */
cudaError_t finish_all();
int device_of(cudaStream_t stream);

/* While one of these lives, device memory can be touched. */
struct access {
    access();
    ~access();
};

/* Ranges of addresses that become device memory from their beginning on (addresses.cpp). */
cudaError_t reserve_range(size_t bytes, void **base);
cudaError_t commit_range(void *base, size_t from, size_t to);
void release_range(void *base);

enum memory_kind { MEMORY_PAGEABLE, MEMORY_PINNED, MEMORY_DEVICE };
/* What the memory is, and how many bytes there are from here on; device addresses that hold nothing have none. */
memory_kind kind_of(const void *data, size_t *bytes);

cudaError_t launch(dim3 grid, dim3 block, size_t shared, cudaStream_t stream, std::function<void()> body,
                   const void *kernel = nullptr);
/* Pointers that a kernel is given must be its device's, or pinned. */
cudaError_t check_pointer(const void *pointer, int argument);

template <class T> cudaError_t check_argument(const T &argument, int number)
{
    if constexpr (std::is_pointer<T>::value) return check_pointer((const void *)argument, number);
    (void)argument, (void)number;
    return cudaSuccess;
}

} // namespace sim

template <class... P, class... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(P...), A... arguments)
{
    int number = 0;
    cudaError_t error = cudaSuccess;
    ((error = error == cudaSuccess ? sim::check_argument<P>(P(arguments), ++number) : error), ...);
    (void)number;
    if (error != cudaSuccess) return error;
    return sim::launch(
        config->gridDim, config->blockDim, config->dynamicSmemBytes, config->stream,
        [=] { kernel(P(arguments)...); }, (const void *)kernel);
}

#endif
