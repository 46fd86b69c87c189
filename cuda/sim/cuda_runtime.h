/* SPDX-License-Identifier: Apache-2.0 */
/* The part of the CUDA runtime that this backend uses, for the host: kernels run one block at a time, threads as fibers. */
#ifndef LIGHT_CUDA_SIM_RUNTIME_H
#define LIGHT_CUDA_SIM_RUNTIME_H
#include <cstdint>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cmath>
#include <functional>

// ---- language -------------------------------------------------------------------------------
#define __global__
#define __device__
#define __host__
#define __constant__    static
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __shared__   static thread_local // one OS thread runs one block at a time
struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z)
    {
    }
};
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

// ---- per-thread and per-block state -----------------------------------------------------------
enum { SIM_NEW, SIM_RUN, SIM_READY, SIM_AT_BLOCK, SIM_AT_WARP, SIM_DONE };
struct SimThread { // one CUDA thread
    uint3 tid;
    int lane, warp, lin;
    int state;
    const void *site; // return address of the sync it waits in
    unsigned mask;
    int op;
    int src;                          // pending warp collective
    unsigned long long in[2], out[2]; // 16-byte exchange slot
    int pred, pred_out;
    struct SimFiber *fiber;
};
extern thread_local SimThread *sim_cur;
struct SimBlk {
    uint3 bid;
    dim3 bdim, gdim;
    unsigned char *dyn;
    size_t ndyn;
};
extern thread_local SimBlk sim_blk;
#define threadIdx (sim_cur->tid)
#define blockIdx  (sim_blk.bid)
#define blockDim  (sim_blk.bdim)
#define gridDim   (sim_blk.gdim)
static const int warpSize = 32;

void sim_block_sync(const void *site);
int sim_block_sync_pred(const void *site, int pred, int op); // op 0 count 1 and 2 or
void sim_warp_collective(unsigned mask, int op, const void *site);
void sim_run_block(const std::function<void()> &body, int nthreads);
void sim_launch(dim3 g, dim3 b, size_t smem, void *stream, std::function<void()> body);
[[noreturn]] void sim_die(const char *fmt, ...);
extern int sim_order; // 0 forward, 1 reverse, else seed of a random thread order

__attribute__((noinline)) inline void __syncthreads()
{
    sim_block_sync(__builtin_return_address(0));
}
__attribute__((noinline)) inline int __syncthreads_count(int p)
{
    return sim_block_sync_pred(__builtin_return_address(0), p, 0);
}
__attribute__((noinline)) inline int __syncthreads_and(int p)
{
    return sim_block_sync_pred(__builtin_return_address(0), p, 1);
}
__attribute__((noinline)) inline int __syncthreads_or(int p)
{
    return sim_block_sync_pred(__builtin_return_address(0), p, 2);
}
enum { SIM_OP_SYNC, SIM_OP_SHFL, SIM_OP_BALLOT };
__attribute__((noinline)) inline void __syncwarp(unsigned m = ~0u)
{
    sim_warp_collective(m, SIM_OP_SYNC, __builtin_return_address(0));
}
template <class T> __attribute__((noinline)) T sim_shfl(unsigned m, T v, int src)
{
    static_assert(sizeof(T) <= 16, "shuffle of more than 16 bytes");
    SimThread *t = sim_cur;
    memcpy(t->in, &v, sizeof v);
    t->src = src;
    sim_warp_collective(m, SIM_OP_SHFL, __builtin_return_address(0));
    T r;
    memcpy(&r, t->out, sizeof r);
    return r;
}
template <class T> T __shfl_sync(unsigned m, T v, int s, int w = 32)
{
    int b = sim_cur->lane & ~(w - 1);
    return sim_shfl(m, v, b + (s & (w - 1)));
}
template <class T> T __shfl_xor_sync(unsigned m, T v, int x, int w = 32)
{
    int l = sim_cur->lane, s = l ^ x;
    return sim_shfl(m, v, (s & ~(w - 1)) > (l & ~(w - 1)) ? l : s);
}
template <class T> T __shfl_down_sync(unsigned m, T v, unsigned d, int w = 32)
{
    int l = sim_cur->lane, s = l + (int)d;
    return sim_shfl(m, v, s >= (l & ~(w - 1)) + w ? l : s);
}
template <class T> T __shfl_up_sync(unsigned m, T v, unsigned d, int w = 32)
{
    int l = sim_cur->lane, s = l - (int)d;
    return sim_shfl(m, v, s < (l & ~(w - 1)) ? l : s);
}
inline unsigned __ballot_sync(unsigned m, int p)
{
    sim_cur->pred = p;
    sim_warp_collective(m, SIM_OP_BALLOT, __builtin_return_address(0));
    return (unsigned)sim_cur->pred_out;
}
inline int __any_sync(unsigned m, int p)
{
    return __ballot_sync(m, p) != 0;
}
inline int __all_sync(unsigned m, int p)
{
    return (__ballot_sync(m, p) & m) == m;
}

// ---- memory, arithmetic -----------------------------------------------------------------------
// dynamic shared memory: use this macro in kernels instead of extern __shared__
#define LIGHT_DYNAMIC_SHARED(T, name) T *name = (T *)sim_blk.dyn
template <class T> T atomicAdd(T *p, T v)
{
    T o = *p;
    *p = o + v;
    return o;
} // blocks run one at a time
template <class T> T atomicMax(T *p, T v)
{
    T o = *p;
    if (v > o) *p = v;
    return o;
}
inline unsigned atomicInc(unsigned *p, unsigned lim)
{
    unsigned o = *p;
    *p = o >= lim ? 0 : o + 1;
    return o;
}
template <class T> T atomicCAS(T *p, T c, T v)
{
    T o = *p;
    if (o == c) *p = v;
    return o;
}
template <class T> T __ldg(const T *p)
{
    return *p;
}
template <class T> T __ldcs(const T *p)
{
    return *p;
}
template <class T> void __stcs(T *p, T v)
{
    *p = v;
}
inline void __threadfence_system()
{
}
inline void __threadfence()
{
}
inline float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}
inline float __expf(float x)
{
    return expf(x);
}
inline unsigned __float_as_uint(float f)
{
    unsigned u;
    memcpy(&u, &f, 4);
    return u;
}
inline float __uint_as_float(unsigned u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}
inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}
inline int __ffs(int x)
{
    return __builtin_ffs(x);
}

inline unsigned __umulhi(unsigned a, unsigned b)
{
    return (unsigned)(((uint64_t)a * b) >> 32);
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}
inline double rsqrt(double x)
{
    return 1.0 / sqrt(x);
}
inline float __logf(float x)
{
    return logf(x);
}
inline float __fdividef(float a, float b)
{
    return a / b;
}
inline float __fmaf_rn(float a, float b, float c)
{
    return fmaf(a, b, c);
}
inline float __fadd_rn(float a, float b)
{
    return a + b;
}
inline float __fmul_rn(float a, float b)
{
    return a * b;
}
inline double __dadd_rn(double a, double b)
{
    return a + b;
}
inline double __dmul_rn(double a, double b)
{
    return a * b;
}
inline void sincospi(double x, double *s, double *c)
{
    *s = sin(3.14159265358979323846 * x);
    *c = cos(3.14159265358979323846 * x);
}
inline void sincospif(float x, float *s, float *c)
{
    *s = (float)sin(3.14159265358979323846 * x);
    *c = (float)cos(3.14159265358979323846 * x);
}
inline long long atomicCAS(long long *p, long long c, long long v)
{
    long long o = *p;
    if (o == c) *p = v;
    return o;
}

// ---- runtime
enum cudaError_t {
    cudaSuccess,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorNotReady = 600,
    cudaErrorNoDevice = 100
};
typedef cudaError_t cudaError;
enum cudaMemcpyKind {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice,
    cudaMemcpyDefault
};
typedef struct sim_stream *cudaStream_t;
typedef struct sim_event *cudaEvent_t;
const char *cudaGetErrorString(cudaError_t);
const char *cudaGetErrorName(cudaError_t);
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();
struct cudaDeviceProp {
    char name[256];
    int major, minor, multiProcessorCount;
    size_t sharedMemPerBlockOptin, totalGlobalMem;
};
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *, int);
cudaError_t cudaMemGetInfo(size_t *, size_t *);
enum { cudaHostAllocMapped = 2 };
cudaError_t cudaHostAlloc(void **, size_t, unsigned);
cudaError_t cudaHostGetDevicePointer(void **, void *, unsigned);
cudaError_t cudaGetDeviceCount(int *);
cudaError_t cudaSetDevice(int);
cudaError_t cudaMalloc(void **, size_t);
cudaError_t cudaFree(void *);
cudaError_t cudaMallocHost(void **, size_t);
cudaError_t cudaFreeHost(void *);
cudaError_t cudaMemcpyAsync(void *, const void *, size_t, cudaMemcpyKind, cudaStream_t);
cudaError_t cudaMemsetAsync(void *, int, size_t, cudaStream_t);
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *, unsigned);
cudaError_t cudaStreamDestroy(cudaStream_t);
cudaError_t cudaStreamSynchronize(cudaStream_t);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *, unsigned);
cudaError_t cudaEventDestroy(cudaEvent_t);
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t);
cudaError_t cudaEventQuery(cudaEvent_t);
cudaError_t cudaEventSynchronize(cudaEvent_t);
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned = 0);

namespace sim
{
void note_memory(void *base, size_t bytes);
void forget_memory(void *base);
void enqueue(cudaStream_t stream, std::function<void()> work);
cudaError_t launch(dim3 grid, dim3 block, size_t shared, cudaStream_t stream, std::function<void()> body);
} // namespace sim
#endif
