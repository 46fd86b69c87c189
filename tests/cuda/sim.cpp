/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the simulated device: does it find what it is there to find? Most kernels here are wrong on purpose. */
#include "cuda/sim/mma.h"
#include "cuda/sim/sanitizer.h"

#include <algorithm>
#include <cmath>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

extern "C" {
#include <cmocka.h>
}

using std::vector;

static cudaStream_t stream, other;

/* ---- help ------------------------------------------------------------------------- */

template <class T> static T *device_array(size_t n)
{
    void *data;
    assert_int_equal(cudaMalloc(&data, n * sizeof(T)), cudaSuccess);
    return (T *)data;
}

template <class T> static T *device_copy(const vector<T> &values)
{
    T *data = device_array<T>(values.size());
    assert_int_equal(
        cudaMemcpyAsync(data, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice, stream),
        cudaSuccess);
    return data;
}

template <class T> static vector<T> host_copy(const T *data, size_t n)
{
    vector<T> values(n);
    assert_int_equal(cudaMemcpyAsync(values.data(), data, n * sizeof(T), cudaMemcpyDeviceToHost, stream),
                     cudaSuccess);
    return values;
}

template <class... P, class... A>
static cudaError_t run(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, A... arguments)
{
    cudaLaunchConfig_t config = {grid, block, shared, stream};
    cudaError_t error = cudaLaunchKernelEx(&config, kernel, arguments...);
    return error == cudaSuccess ? cudaStreamSynchronize(stream) : error;
}

/* The kernel fails with a text that has this in it, the device is lost, and well again for the next test. */
static void assert_fails(cudaError_t error, const char *text)
{
    assert_int_equal(error, cudaErrorLaunchFailure);
    if (!strstr(cudaGetErrorString(error), text)) fail_msg("%s", cudaGetErrorString(error));
    assert_int_equal(cudaStreamSynchronize(stream), cudaErrorLaunchFailure);
    assert_int_equal(cudaGetLastError(), cudaErrorLaunchFailure);
    sim::forget_errors();
    assert_int_equal(cudaStreamSynchronize(stream), cudaSuccess);
}

/* A function runs in a process of its own; whether a signal or a sanitizer ended it. */
template <class F> static bool dies(F function)
{
    pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        close(STDERR_FILENO);
        function();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

static int set_up(void **)
{
    sim::order = 0;
    sim::seed = 0;
    return cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) != cudaSuccess ||
           cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking) != cudaSuccess;
}

static int tear_down(void **)
{
    cudaDeviceSynchronize();
    cudaStreamDestroy(stream);
    cudaStreamDestroy(other);
    return cudaGetLastError() != cudaSuccess;
}

/* ---- threads ------------------------------------------------------------------------ */

__global__ void indices(int *y)
{
    int thread = (int)(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z));
    int block = (int)(blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z));
    y[(unsigned)block * blockDim.x * blockDim.y * blockDim.z + (unsigned)thread] = 1000 * block + thread;
}

static void test_indices(void **)
{
    int *y = device_array<int>(30 * 30);
    for (unsigned o : {0u, 1u, 2u, 77u}) {
        sim::order = o;
        assert_int_equal(run(indices, dim3(5, 3, 2), dim3(2, 3, 5), 0, y), cudaSuccess);
        vector<int> got = host_copy(y, 900);
        for (int i = 0; i < 900; i++) assert_int_equal(got[(size_t)i], i / 30 * 1000 + i % 30);
    }
    cudaFree(y);
}

__global__ void rotate(int *y, bool wait)
{
    __shared__ int room[64];
    room[threadIdx.x] = (int)threadIdx.x;
    if (wait) __syncthreads();
    y[threadIdx.x] = room[(threadIdx.x + 1) % 64];
}

static void test_races_show_in_some_order(void **)
{
    int *y = device_array<int>(64);
    int right[2] = {0, 0};
    for (unsigned o = 0; o < 5; o++) {
        for (int wait = 0; wait < 2; wait++) {
            sim::order = o;
            assert_int_equal(run(rotate, 1, 64, 0, y, wait == 1), cudaSuccess);
            vector<int> got = host_copy(y, 64);
            bool good = true;
            for (int i = 0; i < 64; i++) good = good && got[(size_t)i] == (i + 1) % 64;
            right[wait] += good;
        }
    }
    assert_int_equal(right[0], 0);
    assert_int_equal(right[1], 5);
    cudaFree(y);
}

__global__ void last_block(int *y)
{
    *y = (int)blockIdx.x;
}

static void test_blocks_come_in_the_order(void **)
{
    int *y = device_array<int>(1);
    vector<int> seen(12, 0);
    for (unsigned o = 0; o < 20; o++) {
        sim::order = o;
        assert_int_equal(run(last_block, 12, 1, 0, y), cudaSuccess);
        int last = host_copy(y, 1)[0];
        if (o < 2) assert_int_equal(last, o ? 0 : 11);
        seen[(size_t)last]++;
    }
    assert_in_range(std::count(seen.begin(), seen.end(), 0), 0, 6); /* many blocks were the last once */
    cudaFree(y);
}

/* ---- barriers ------------------------------------------------------------------------- */

__global__ void two_barriers()
{
    if (threadIdx.x < 20)
        __syncthreads();
    else
        __syncthreads();
}

static void test_divergent_barriers(void **)
{
    for (unsigned o = 0; o < 40; o++) {
        sim::order = o;
        assert_fails(run(two_barriers, 3, 64, 0), "is at the barrier of sim.cpp:");
    }
}

__global__ void early_exit(int *y)
{
    if (threadIdx.x % 3 == 0) return;
    y[threadIdx.x] = __syncthreads_count(threadIdx.x % 2);
}

static void test_exited_threads_count_as_arrived(void **)
{
    int *y = device_copy(vector<int>(50, -1));
    for (unsigned o = 0; o < 4; o++) {
        sim::order = o;
        assert_int_equal(run(early_exit, 1, 50, 0, y), cudaSuccess);
        vector<int> got = host_copy(y, 50);
        for (int i = 0; i < 50; i++) assert_int_equal(got[(size_t)i], i % 3 ? 17 : -1);
    }
    cudaFree(y);
}

__global__ void votes(int *y)
{
    int t = (int)threadIdx.x;
    y[t] = __syncthreads_and(t < 40) | __syncthreads_and(t < 48) << 1 | __syncthreads_or(t == 47) << 2 |
           __syncthreads_or(t == 48) << 3 | __any_sync(~0u, t == 33) << 4 | __all_sync(~0u, t < 32) << 5;
}

static void test_votes(void **)
{
    int *y = device_array<int>(48);
    assert_int_equal(run(votes, 1, 48, 0, y), cudaSuccess);
    vector<int> got = host_copy(y, 48);
    for (int i = 0; i < 48; i++) assert_int_equal(got[(size_t)i], 6 | (i >= 32) << 4 | (i < 32) << 5);
    cudaFree(y);
}

__global__ void waits_for_ever()
{
    if (threadIdx.x < 8)
        __syncwarp(0xffff);
    else
        __syncthreads();
}

static void test_deadlock(void **)
{
    assert_fails(run(waits_for_ever, 1, 32, 0), "32 of 32 threads wait for ever: thread 0 at sim.cpp:");
}

/* ---- warps ------------------------------------------------------------------------------ */

__global__ void shuffles(int *y)
{
    int lane = (int)threadIdx.x, v = 100 + lane;
    y[lane] = __shfl_sync(~0u, v, 5);
    y[32 + lane] = __shfl_xor_sync(~0u, v, 3);
    y[64 + lane] = __shfl_down_sync(~0u, v, 4);
    y[96 + lane] = __shfl_up_sync(~0u, v, 1);
    y[128 + lane] = __shfl_sync(~0u, v, 9, 8);
    y[160 + lane] = __shfl_down_sync(~0u, v, 3, 8);
    y[192 + lane] = (int)__ballot_sync(~0u, lane % 5 == 0);
    y[224 + lane] = lane < 12 ? __shfl_xor_sync(0xfffu, v, 1) : __shfl_xor_sync(0xfffff000u, v, 2);
    y[256 + lane] = lane < 16 ? __shfl_sync(0xffffu, v, 20) : 0;
}

static void test_shuffles(void **)
{
    int *y = device_array<int>(288);
    unsigned ballot = 0;
    for (int i = 0; i < 32; i += 5) ballot |= 1u << i;
    for (unsigned o = 0; o < 4; o++) {
        sim::order = o;
        assert_int_equal(run(shuffles, 1, 32, 0, y), cudaSuccess);
        vector<int> got = host_copy(y, 288);
        for (int i = 0; i < 32; i++) {
            const int *at = &got[(size_t)i];
            assert_int_equal(at[0], 105);
            assert_int_equal(at[32], 100 + (i ^ 3));
            assert_int_equal(at[64], 100 + (i < 28 ? i + 4 : i));
            assert_int_equal(at[96], 100 + (i ? i - 1 : 0));
            assert_int_equal(at[128], 100 + i / 8 * 8 + 1);
            assert_int_equal(at[160], 100 + (i % 8 < 5 ? i + 3 : i));
            assert_int_equal((unsigned)at[192], ballot);
            assert_int_equal(at[224], 100 + (i < 12 ? i ^ 1 : i ^ 2));
            assert_int_equal(at[256], i < 16 ? -1 : 0); /* lane 20 takes no part */
        }
    }
    cudaFree(y);
}

__global__ void exited_lane(bool late)
{
    if (late) {
        if (threadIdx.x == 31) return;
    } else if (threadIdx.x == 0)
        return;
    __shfl_sync(~0u, 1, 0);
}

__global__ void left_out()
{
    __syncwarp(0xfffe);
}

static void test_wrong_masks(void **)
{
    assert_fails(run(exited_lane, 1, 32, 0, false), "of which lane 0 has exited");
    assert_fails(run(exited_lane, 1, 32, 0, true), "exits, while lane 0 waits for it");
    assert_fails(run(left_out, 1, 16, 0), "for lanes 0000fffe, which leaves it out");
}

/* ---- shared memory ------------------------------------------------------------------------ */

template <class T> __global__ void read_unwritten(int *fresh, int *changed)
{
    __shared__ T room[32];
    LIGHT_DYNAMIC_SHARED(T, dynamic);
    int t = (int)threadIdx.x;
    bool nan = room[t] != room[t] && dynamic[t] != dynamic[t];
    fresh[blockIdx.x * 32 + threadIdx.x] = nan;
    room[t] = dynamic[t] = T(t);
    __syncthreads();
    changed[blockIdx.x * 32 + threadIdx.x] = room[31 - t] + dynamic[t] == T(31);
}

static void test_shared_memory_is_fresh(void **)
{
    int *fresh = device_array<int>(3 * 32), *changed = device_array<int>(3 * 32);
    for (int i = 0; i < 6; i++) {
        cudaError_t error = i % 2 ? run(read_unwritten<float>, 3, 32, 128, fresh, changed)
                                  : run(read_unwritten<double>, 3, 32, 256, fresh, changed);
        assert_int_equal(error, cudaSuccess);
        for (int ok : host_copy(fresh, 96)) assert_true(ok);
        for (int ok : host_copy(changed, 96)) assert_true(ok);
    }
    cudaFree(fresh);
    cudaFree(changed);
}

/* ---- what CUDA refuses ----------------------------------------------------------------------- */

__global__ void nothing_much()
{
}

static void test_refused_launches(void **)
{
    static const struct {
        dim3 grid, block;
        size_t shared;
        cudaError_t error;
    } cases[] = {
        {1, 1024, 0, cudaSuccess},
        {1, 1025, 0, cudaErrorInvalidConfiguration},
        {1, dim3(32, 32, 2), 0, cudaErrorInvalidConfiguration},
        {1, dim3(1, 1, 65), 0, cudaErrorInvalidConfiguration},
        {1, dim3(4, 0), 0, cudaErrorInvalidConfiguration},
        {0, 32, 0, cudaErrorInvalidConfiguration},
        {dim3(1, 65535), 1, 0, cudaSuccess},
        {dim3(1, 65536), 1, 0, cudaErrorInvalidConfiguration},
        {dim3(1, 1, 65536), 1, 0, cudaErrorInvalidConfiguration},
        {1, 32, 48 << 10, cudaSuccess},
        {1, 32, (48 << 10) + 1, cudaErrorInvalidValue},
        {1, 32, (227 << 10) + 1, cudaErrorInvalidValue},
    };
    for (const auto &c : cases) assert_int_equal(run(nothing_much, c.grid, c.block, c.shared), c.error);
    const void *kernel = (const void *)nothing_much;
    auto shared = cudaFuncAttributeMaxDynamicSharedMemorySize;
    assert_int_equal(cudaFuncSetAttribute(kernel, shared, 228 << 10), cudaErrorInvalidValue);
    assert_int_equal(cudaFuncSetAttribute(kernel, shared, 227 << 10), cudaSuccess);
    assert_int_equal(run(nothing_much, 1, 32, 227 << 10), cudaSuccess);
    cudaGetLastError();
}

static void test_refused_copies(void **)
{
    vector<char> host(64);
    char *data = device_array<char>(64), *more = device_array<char>(64);
    const auto up = cudaMemcpyHostToDevice, down = cudaMemcpyDeviceToHost, within = cudaMemcpyDeviceToDevice;
    const struct {
        char *to, *from;
        size_t bytes;
        cudaMemcpyKind kind;
        cudaError_t error;
    } cases[] = {
        {data, host.data(), 64, up, cudaSuccess},
        {host.data(), data + 60, 4, down, cudaSuccess},
        {more, data, 64, within, cudaSuccess},
        {data, host.data(), 65, up, cudaErrorInvalidValue},
        {data + 60, host.data(), 5, up, cudaErrorInvalidValue},
        {host.data(), data + 60, 5, down, cudaErrorInvalidValue},
        {host.data(), data, 64, up, cudaErrorInvalidValue},
        {data, host.data(), 64, down, cudaErrorInvalidValue},
        {data, host.data(), 64, within, cudaErrorInvalidValue},
        {data + 100, host.data(), 1, up, cudaErrorInvalidValue},
    };
    for (const auto &c : cases) {
        assert_int_equal(cudaMemcpyAsync(c.to, c.from, c.bytes, c.kind, stream), c.error);
        assert_int_equal(cudaGetLastError(), c.error);
    }
    assert_int_equal(cudaMemsetAsync(data, 0, 65, stream), cudaErrorInvalidValue);
    assert_non_null(strstr(cudaGetErrorString(cudaErrorInvalidValue), "65 bytes"));
    assert_int_equal(cudaMemcpyAsync(data, host.data(), 1, up, nullptr), cudaErrorInvalidResourceHandle);
    assert_int_equal(cudaFree(data), cudaSuccess);
    assert_int_equal(cudaMemcpyAsync(data, host.data(), 1, up, stream), cudaErrorInvalidValue);
    assert_int_equal(cudaFree(data), cudaErrorInvalidValue);
    assert_int_equal(cudaFree(host.data()), cudaErrorInvalidValue);
    cudaFree(more);
    cudaGetLastError();
}

static void test_host_pointers_are_no_arguments(void **)
{
    int here = 0;
    assert_int_equal(run(last_block, 1, 1, 0, &here), cudaErrorIllegalAddress);
    assert_non_null(strstr(cudaGetErrorString(cudaErrorIllegalAddress), "argument 1"));
    assert_int_equal(cudaStreamSynchronize(stream), cudaErrorIllegalAddress);
    sim::forget_errors();
    void *pinned;
    assert_int_equal(cudaMallocHost(&pinned, sizeof(int)), cudaSuccess);
    assert_int_equal(run(last_block, 8, 1, 0, (int *)pinned), cudaSuccess);
    assert_int_equal(*(int *)pinned, 7);
    cudaFreeHost(pinned);
}

/* ---- memory -------------------------------------------------------------------------------- */

static void test_the_host_cannot_touch_device_memory(void **)
{
    volatile int *data = device_array<int>(4);
    void *base;
    assert_int_equal(sim::reserve_range((size_t)1 << 32, &base), cudaSuccess);
    assert_int_equal(sim::commit_range(base, 0, 4096), cudaSuccess);
    assert_true(dies([&] { *data = 1; }));
    assert_true(dies([&] { (void)*data; }));
    assert_true(dies([&] { (void)*(volatile char *)base; }));
    assert_false(dies([&] { cudaMemsetAsync((void *)data, 0, 16, stream); }));
    sim::release_range(base);
    cudaFree((void *)data);
}

__global__ void count_nan(const float *x, int n, int *y)
{
    int sum = 0;
    for (int i = 0; i < n; i++) sum += x[i] != x[i];
    *y = sum;
}

static int nan_in(const float *x, int n)
{
    int *y = device_array<int>(1);
    assert_int_equal(run(count_nan, 1, 1, 0, x, n, y), cudaSuccess);
    int count = host_copy(y, 1)[0];
    cudaFree(y);
    return count;
}

static void test_fresh_memory_is_nan(void **)
{
    void *base;
    for (int i = 0; i < 3; i++) {
        float *x = device_array<float>(1000);
        assert_int_equal(nan_in(x, 1000), 1000);
        cudaMemsetAsync(x, 0, 4000, stream);
        assert_int_equal(nan_in(x, 1000), 0);
        cudaFree(x);
    }
    assert_int_equal(sim::reserve_range((size_t)1 << 30, &base), cudaSuccess);
    assert_int_equal(sim::commit_range(base, 0, 4000), cudaSuccess);
    assert_int_equal(nan_in((float *)base, 1000), 1000);
    sim::release_range(base);
}

static size_t free_now()
{
    size_t now, total;
    assert_int_equal(cudaMemGetInfo(&now, &total), cudaSuccess);
    assert_int_equal(total, (size_t)64 << 20); /* LIGHT_SIM_MEMORY */
    return now;
}

static void test_memory_ends(void **)
{
    size_t before = free_now(), mib = (size_t)1 << 20;
    void *a, *b, *base;
    assert_int_equal(cudaMalloc(&a, 40 * mib), cudaSuccess);
    assert_in_range(before - free_now(), 40 * mib, 41 * mib);
    assert_int_equal(cudaMalloc(&b, 40 * mib), cudaErrorMemoryAllocation);
    assert_null(b);
    assert_int_equal(sim::reserve_range((size_t)1 << 40, &base), cudaSuccess);
    assert_int_equal(sim::commit_range(base, 0, 20 * mib), cudaSuccess);
    assert_int_equal(sim::commit_range(base, 20 * mib, 28 * mib), cudaErrorMemoryAllocation);
    assert_int_equal(sim::commit_range(base, 24 * mib, 25 * mib), cudaErrorInvalidValue);
    cudaFree(a);
    assert_int_equal(sim::commit_range(base, 20 * mib, 28 * mib), cudaSuccess);
    assert_int_equal(cudaMalloc(&b, 35 * mib), cudaSuccess);
    assert_int_equal(cudaMalloc(&a, (size_t)-1), cudaErrorMemoryAllocation);
    cudaFree(b);
    sim::release_range(base);
    assert_int_equal(free_now(), before);
    cudaGetLastError();
}

/* Pieces are joined again when they are free. */
static void test_memory_comes_back_whole(void **)
{
    vector<void *> pieces(1000);
    size_t before = free_now();
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < pieces.size(); i++)
            assert_int_equal(cudaMalloc(&pieces[i], 1 + i * 37 % 50000), cudaSuccess);
        for (size_t i = 0; i < pieces.size(); i++) cudaFree(pieces[i * 7 % 1000]);
    }
    assert_int_equal(free_now(), before);
    float *x = device_array<float>(15 << 20);
    assert_int_equal(nan_in(x, 1000), 1000);
    cudaFree(x);
}

__global__ void write_behind(float *x, int i)
{
    x[i] = 1;
}

static void test_asan_sees_kernels(void **)
{
#ifndef LIGHT_SIM_ASAN
    skip();
#endif
    float *x = device_array<float>(10), *freed = device_array<float>(10);
    cudaFree(freed);
    assert_false(dies([&] { run(write_behind, 1, 1, 0, x, 9); }));
    assert_true(dies([&] { run(write_behind, 1, 1, 0, x, 10); }));
    assert_true(dies([&] { run(write_behind, 1, 1, 0, x, -1); }));
    assert_true(dies([&] { run(write_behind, 1, 1, 0, freed, 0); }));
    cudaFree(x);
}

/* ---- streams ---------------------------------------------------------------------------------- */

__global__ void increment(int *x)
{
    *x += 1;
}

static cudaError_t run_on(cudaStream_t s, void (*kernel)(int *), int *x)
{
    cudaLaunchConfig_t config = {1, 1, 0, s};
    return cudaLaunchKernelEx(&config, kernel, x);
}

/* One stream makes 1 of 0, the other copies it; how many of the seeds got it right. */
static int seeds_that_see(bool wait_for_event)
{
    int right = 0;
    cudaEvent_t made;
    cudaEventCreateWithFlags(&made, cudaEventDisableTiming);
    for (unsigned s = 1; s <= 20; s++) {
        sim::seed = s;
        int *x = device_copy(vector<int>(1, 0)), *y = device_array<int>(1);
        cudaStreamSynchronize(stream);
        assert_int_equal(run_on(stream, increment, x), cudaSuccess);
        cudaEventRecord(made, stream);
        if (wait_for_event) cudaStreamWaitEvent(other, made, 0);
        cudaMemcpyAsync(y, x, sizeof *x, cudaMemcpyDeviceToDevice, other);
        cudaStreamSynchronize(other);
        right += host_copy(y, 1)[0] == 1;
        cudaFree(x);
        cudaFree(y);
    }
    cudaEventDestroy(made);
    return right;
}

static void test_missing_waits_show_in_some_seed(void **)
{
    assert_in_range(seeds_that_see(false), 1, 19);
    assert_int_equal(seeds_that_see(true), 20);
}

static void test_pinned_memory_is_late(void **)
{
    int wrong = 0;
    void *memory;
    assert_int_equal(cudaMallocHost(&memory, sizeof(int)), cudaSuccess);
    int *pinned = (int *)memory;
    for (unsigned s = 1; s <= 20; s++) {
        sim::seed = s;
        int *x = device_array<int>(1);
        *pinned = 7;
        cudaMemcpyAsync(x, pinned, sizeof *x, cudaMemcpyHostToDevice, stream);
        *pinned = 8; /* too early */
        cudaStreamSynchronize(stream);
        wrong += host_copy(x, 1)[0] == 8;
        *pinned = 0;
        cudaMemcpyAsync(pinned, x, sizeof *x, cudaMemcpyDeviceToHost, stream);
        wrong += *pinned == 0; /* too early as well */
        cudaStreamSynchronize(stream);
        assert_int_not_equal(*pinned, 0);
        cudaFree(x);
    }
    cudaFreeHost(pinned);
    assert_in_range(wrong, 20, 40);
}

static void test_pageable_memory_is_not(void **)
{
    for (unsigned s = 1; s <= 20; s++) {
        sim::seed = s;
        int *x = device_array<int>(1), value = 7;
        cudaMemcpyAsync(x, &value, sizeof value, cudaMemcpyHostToDevice, stream);
        value = 8;
        cudaMemcpyAsync(&value, x, sizeof value, cudaMemcpyDeviceToHost, stream);
        assert_int_equal(value, 7);
        cudaFree(x);
    }
}

static void test_queries(void **)
{
    int *x = device_copy(vector<int>(1, 0)), late = 0;
    cudaEvent_t event;
    assert_int_equal(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
    assert_int_equal(cudaEventQuery(event), cudaSuccess); /* never recorded */
    for (unsigned s = 1; s <= 20; s++) {
        sim::seed = s;
        for (int i = 0; i < 10; i++) run_on(stream, increment, x);
        cudaEventRecord(event, stream);
        if (cudaEventQuery(event) == cudaErrorNotReady) late++;
        while (cudaEventQuery(event) == cudaErrorNotReady) {
        }
        while (cudaStreamQuery(stream) == cudaErrorNotReady) {
        }
    }
    assert_in_range(late, 10, 20);
    assert_int_equal(host_copy(x, 1)[0], 200);
    assert_int_equal(cudaEventDestroy(event), cudaSuccess);
    assert_int_equal(cudaEventQuery(event), cudaErrorInvalidResourceHandle);
    cudaGetLastError();
    cudaFree(x);
}

/* A destroyed stream does what it was asked; so does an event that others wait for. */
static void test_destroyed_streams_finish(void **)
{
    sim::seed = 3;
    int *x = device_copy(vector<int>(1, 0));
    cudaStreamSynchronize(stream);
    cudaStream_t third;
    cudaEvent_t event;
    cudaStreamCreateWithFlags(&third, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    for (int i = 0; i < 10; i++) run_on(third, increment, x);
    cudaEventRecord(event, third);
    cudaStreamWaitEvent(stream, event, 0);
    assert_int_equal(cudaEventDestroy(event), cudaSuccess);
    assert_int_equal(cudaStreamDestroy(third), cudaSuccess);
    assert_int_equal(cudaStreamSynchronize(third), cudaErrorInvalidResourceHandle);
    assert_int_equal(host_copy(x, 1)[0], 10);
    cudaGetLastError();
    cudaFree(x);
}

static void test_devices(void **)
{
    cudaStream_t second;
    cudaEvent_t event;
    int n;
    setenv("LIGHT_SIM_DEVICES", "2", 1);
    assert_int_equal(cudaGetDeviceCount(&n), cudaSuccess);
    assert_int_equal(n, 2);
    assert_int_equal(cudaSetDevice(2), cudaErrorInvalidDevice);
    assert_int_equal(cudaSetDevice(1), cudaSuccess);
    assert_int_equal(free_now(), (size_t)64 << 20);
    assert_int_equal(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking), cudaSuccess);
    assert_int_equal(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
    int *x = device_array<int>(1);
    assert_int_equal(run_on(stream, increment, x), cudaErrorInvalidResourceHandle);
    assert_int_equal(cudaEventRecord(event, stream), cudaErrorInvalidResourceHandle);
    assert_int_equal(run_on(second, increment, x), cudaSuccess);
    cudaSetDevice(0);
    assert_int_equal(run_on(second, increment, x), cudaErrorInvalidResourceHandle);
    cudaFree(x);
    cudaEventDestroy(event);
    cudaStreamDestroy(second);
    setenv("LIGHT_SIM_DEVICES", "0", 1);
    assert_int_equal(cudaGetDeviceCount(&n), cudaErrorNoDevice);
    unsetenv("LIGHT_SIM_DEVICES");
    cudaGetLastError();
}

static void test_counts(void **)
{
    sim::counts before = sim::counted;
    int *x = device_copy(vector<int>(1, 0));
    run_on(stream, increment, x);
    run_on(stream, increment, x);
    cudaStreamSynchronize(stream);
    cudaFree(x);
    assert_int_equal(sim::counted.launches - before.launches, 2);
    assert_int_equal(sim::counted.synchronizations - before.synchronizations, 1);
    assert_int_equal(sim::counted.allocations - before.allocations, 1);
}

/* ---- tensor cores -------------------------------------------------------------------------------- */

/* Small whole numbers, which bf16 and f16 hold exactly. */
static int number(int i, int salt)
{
    return (i * 37 + salt * 11) % 17 - 8;
}

static uint16_t bf16_bits(int value)
{
    return (uint16_t)(__float_as_uint((float)value) >> 16);
}

static uint16_t f16_bits(int value)
{
    if (value == 0) return 0;
    uint32_t bits = __float_as_uint((float)value);
    return (uint16_t)((bits >> 16 & 0x8000) | ((bits >> 23 & 255) - 112) << 10 | (bits >> 13 & 0x3ff));
}

/* c [16, 8] = a [16, 16] b, which is given as [16, 8] or, transposed, [8, 16]. */
__global__ void product(const uint16_t *a, const uint16_t *b, float *c, bool half, bool transposed)
{
    __shared__ __align__(16) uint16_t room_a[16][16], room_b[16 * 8];
    int lane = (int)threadIdx.x;
    for (int i = lane; i < 256; i += 32) room_a[i / 16][i % 16] = a[i];
    for (int i = lane; i < 128; i += 32) room_b[i] = b[i];
    __syncwarp();
    uint32_t ra[4], rb[2];
    float rc[4] = {0, 0, 0, 0};
    sim::ldmatrix_x4(ra, &room_a[lane % 16][lane / 16 * 8]);
    if (transposed)
        sim::ldmatrix_x2(rb, &room_b[lane % 8 * 16 + lane / 8 % 2 * 8]);
    else
        sim::ldmatrix_x2_trans(rb, &room_b[lane % 16 * 8]);
    if (half)
        sim::mma_m16n8k16_f16(rc, ra, rb);
    else
        sim::mma_m16n8k16_bf16(rc, ra, rb);
    for (int i = 0; i < 4; i++) c[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = rc[i];
}

static void test_matrix_product(void **)
{
    for (int half = 0; half < 2; half++) {
        for (int transposed = 0; transposed < 2; transposed++) {
            vector<uint16_t> a(256), b(128);
            for (int i = 0; i < 256; i++)
                a[(size_t)i] = half ? f16_bits(number(i, 1)) : bf16_bits(number(i, 1));
            for (int i = 0; i < 128; i++) {
                int at = transposed ? i % 8 * 16 + i / 8 : i;
                b[(size_t)at] = half ? f16_bits(number(i, 2)) : bf16_bits(number(i, 2));
            }
            uint16_t *da = device_copy(a), *db = device_copy(b);
            float *dc = device_array<float>(128);
            assert_int_equal(run(product, 1, 32, 0, da, db, dc, half == 1, transposed == 1), cudaSuccess);
            vector<float> c = host_copy(dc, 128);
            for (int i = 0; i < 128; i++) {
                int sum = 0;
                for (int k = 0; k < 16; k++) sum += number(i / 8 * 16 + k, 1) * number(k * 8 + i % 8, 2);
                assert_true(c[(size_t)i] == (float)sum);
            }
            cudaFree(da);
            cudaFree(db);
            cudaFree(dc);
        }
    }
}

/* Four 8x8 matrices of numbers, each its own place: what every lane gets. */
__global__ void load_matrices(uint32_t *plain, uint32_t *transposed)
{
    __shared__ __align__(16) uint16_t room[32][8];
    int lane = (int)threadIdx.x;
    for (int i = 0; i < 8; i++) room[lane][i] = (uint16_t)(lane * 8 + i);
    __syncwarp();
    uint32_t r[4];
    sim::ldmatrix_x4(r, room[lane]);
    for (int i = 0; i < 4; i++) plain[i * 32 + lane] = r[i];
    sim::ldmatrix_x4_trans(r, room[lane]);
    for (int i = 0; i < 4; i++) transposed[i * 32 + lane] = r[i];
}

static void test_ldmatrix(void **)
{
    uint32_t *plain = device_array<uint32_t>(128), *transposed = device_array<uint32_t>(128);
    assert_int_equal(run(load_matrices, 1, 32, 0, plain, transposed), cudaSuccess);
    vector<uint32_t> p = host_copy(plain, 128), t = host_copy(transposed, 128);
    for (uint32_t i = 0; i < 128; i++) {
        uint32_t first = i / 32 * 64, row = i % 32 / 4, column = i % 4 * 2;
        assert_int_equal(p[i] & 0xffff, first + row * 8 + column);
        assert_int_equal(p[i] >> 16, first + row * 8 + column + 1);
        assert_int_equal(t[i] & 0xffff, first + column * 8 + row);
        assert_int_equal(t[i] >> 16, first + (column + 1) * 8 + row);
    }
    cudaFree(plain);
    cudaFree(transposed);
}

__global__ void misaligned_row()
{
    __shared__ __align__(16) uint16_t room[32 * 8 + 8];
    uint32_t r[4];
    sim::ldmatrix_x4(r, room + 8 * threadIdx.x + 1);
}

static void test_matrix_mistakes(void **)
{
    assert_fails(run(misaligned_row, 1, 32, 0), "is not aligned to 16 bytes");
    assert_fails(run(misaligned_row, 1, 20, 0), "in a warp without lane 20");
}

/* Two groups of copies and one of zeros; what the thread sees after each wait. */
__global__ void copy_groups(const float *x, float *y)
{
    __shared__ __align__(16) float room[12];
    sim::cp_async_16(room, x, true);
    sim::cp_async_commit();
    sim::cp_async_16(room + 4, x + 4, true);
    sim::cp_async_commit();
    sim::cp_async_16(room + 8, x + 8, false);
    for (int i = 0; i < 12; i++) y[i] = room[i];
    sim::cp_async_wait<1>();
    for (int i = 0; i < 12; i++) y[12 + i] = room[i];
    sim::cp_async_wait<0>();
    for (int i = 0; i < 12; i++) y[24 + i] = room[i];
    sim::cp_async_wait_all();
    for (int i = 0; i < 12; i++) y[36 + i] = room[i];
}

static void test_copies_arrive_when_waited_for(void **)
{
    vector<float> x(12);
    for (size_t i = 0; i < 12; i++) x[i] = (float)i;
    float *dx = device_copy(x), *dy = device_array<float>(48);
    assert_int_equal(run(copy_groups, 2, 1, 0, (const float *)dx, dy), cudaSuccess);
    vector<float> y = host_copy(dy, 48);
    for (size_t wait = 0; wait < 4; wait++) {
        for (size_t i = 0; i < 12; i++) {
            float got = y[wait * 12 + i];
            if (i / 4 >= wait)
                assert_true(std::isnan(got));
            else
                assert_true(got == (i < 8 ? (float)i : 0.0f));
        }
    }
    cudaFree(dx);
    cudaFree(dy);
}

/* ---- all ------------------------------------------------------------------------------------------ */

extern "C" __attribute__((visibility("default"))) int test_simulator()
{
    setenv("LIGHT_SIM_MEMORY", "64", 1);
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const CMUnitTest tests[] = {
        TEST(test_indices),
        TEST(test_races_show_in_some_order),
        TEST(test_blocks_come_in_the_order),
        TEST(test_divergent_barriers),
        TEST(test_exited_threads_count_as_arrived),
        TEST(test_votes),
        TEST(test_deadlock),
        TEST(test_shuffles),
        TEST(test_wrong_masks),
        TEST(test_shared_memory_is_fresh),
        TEST(test_refused_launches),
        TEST(test_refused_copies),
        TEST(test_host_pointers_are_no_arguments),
        TEST(test_the_host_cannot_touch_device_memory),
        TEST(test_fresh_memory_is_nan),
        TEST(test_memory_ends),
        TEST(test_memory_comes_back_whole),
        TEST(test_asan_sees_kernels),
        TEST(test_missing_waits_show_in_some_seed),
        TEST(test_pinned_memory_is_late),
        TEST(test_pageable_memory_is_not),
        TEST(test_queries),
        TEST(test_destroyed_streams_finish),
        TEST(test_devices),
        TEST(test_counts),
        TEST(test_matrix_product),
        TEST(test_ldmatrix),
        TEST(test_matrix_mistakes),
        TEST(test_copies_arrive_when_waited_for),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
