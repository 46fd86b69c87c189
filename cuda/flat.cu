/* SPDX-License-Identifier: Apache-2.0 */
/* Passes over flat gradients: sum of squares, scaling, limits, the search for what is not finite; and the loss scale.
 * Each element is read once, and written once where it changes. */
#include "cuda/block.cuh"
#include "cuda/number.cuh"
#include "cuda/walk.cuh"

#define LIGHT_EXACT static __host__ __device__ inline
#include "base/exact.h"

#include <float.h>

namespace light
{

enum { THREADS = 256, BATCH = 4 /* packs that a thread loads before it computes */ };

/* ---- a run of elements ------------------------------------------------------ */

/* Packs of 16 bytes, with the elements before and behind that fill none. */
template <class T> struct run {
    T *data;
    int64_t n, head, packs;
};

template <class T> static run<T> run_of(const light_tensor *t)
{
    int64_t n = t->numel, head = (int64_t)(((16 - ((uintptr_t)t->data & 15)) & 15) / sizeof(T));
    if (head > n) head = n;
    return run<T>{(T *)t->data, n, head, (n - head) / pack<T>::size};
}

/* f(element) for each element that is this thread's, in a fixed order. CHANGES: it is stored afterwards. */
template <bool CHANGES, class T, class F> __device__ inline void walk_run(const run<T> &r, F f)
{
    pack<T> *packs = (pack<T> *)(r.data + r.head);
    int64_t first = first_element(), step = grid_stride(), loose = r.n - r.packs * pack<T>::size;

    for (int64_t i = first; i < r.packs; i += BATCH * step) {
        pack<T> x[BATCH];
#pragma unroll
        for (int k = 0; k < BATCH; k++)
            if (i + k * step < r.packs) x[k] = packs[i + k * step];
#pragma unroll
        for (int k = 0; k < BATCH; k++) {
            if (i + k * step >= r.packs) break;
            for (int j = 0; j < pack<T>::size; j++) f(x[k].at[j]);
            if (CHANGES) packs[i + k * step] = x[k];
        }
    }
    for (int64_t i = first; i < loose; i += step) f(r.data[i < r.head ? i : i + r.packs * pack<T>::size]);
}

template <class T, class F> __device__ inline void each_of_run(const run<T> &r, F f)
{
    walk_run<false>(r, [&](const T &x) { f(widen(x)); });
}

/* Every element becomes f(element). */
template <class T, class F> __device__ inline void change_run(const run<T> &r, F f)
{
    walk_run<true>(r, [&](T &x) { x = to<T>(f(widen(x))); });
}

template <class T> static unsigned blocks_of(const light_device *device, const run<T> &r)
{
    return blocks_for(device, r.n, THREADS * BATCH * pack<T>::size);
}

/* ---- sum of squares: in double ------------------------------------------- */

template <class T> __global__ void squares_kernel(run<T> x, double *parts)
{
    __shared__ double room[32];
    double sum = 0;
    each_of_run(x, [&](real_of<T> value) { sum += (double)value * (double)value; });
    sum = block_reduce(sum, sum_of(), 0.0, room);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

template <class S> __global__ void join_squares_kernel(const double *parts, unsigned count, S *out, bool add)
{
    __shared__ double room[32];
    double sum = 0;
    for (unsigned i = threadIdx.x; i < count; i += THREADS) sum += parts[i];
    sum = block_reduce(sum, sum_of(), 0.0, room);
    if (threadIdx.x == 0) *out = (S)(add ? *out + sum : sum);
}

static light_status sum_squares(const light_kernel_args *args)
{
    const light_device *device = args->device;
    light_tensor *out = args->out[0];
    bool add = args->accumulate & 1;
    return by_float(args->in[0]->dtype, [&](auto type) {
        run<decltype(type)> x = run_of<decltype(type)>(args->in[0]);
        unsigned parts = blocks_of(device, x);
        void *sums;
        LIGHT_TRY(scratch(device, (parts + 1) * sizeof(double), &sums));
        LIGHT_TRY(launch(device, squares_kernel<decltype(type)>, parts, THREADS, 0, x, (double *)sums));
        if (out->dtype == LIGHT_F64)
            return launch(device, join_squares_kernel<double>, 1, THREADS, 0, (const double *)sums, parts,
                          (double *)out->data, add);
        return launch(device, join_squares_kernel<float>, 1, THREADS, 0, (const double *)sums, parts,
                      (float *)out->data, add);
    });
}

/* ---- the same, exactly: see base/exact.h ------------------------------------- */

enum { GROUP_BYTES = 64 };

/* A thread sums whole groups; blocks add to numbers of their own and then to the common ones. Integers may come in any
 * order. */
template <class T> __global__ void exact_squares_kernel(const T *x, int64_t n, int64_t *out)
{
    constexpr int size = GROUP_BYTES / sizeof(T);
    __shared__ unsigned long long limbs[LIGHT_EXACT_SIZE];
    for (int i = threadIdx.x; i < LIGHT_EXACT_SIZE; i += THREADS) limbs[i] = 0;
    __syncthreads();
    int64_t groups = (n + size - 1) / size;
    for (int64_t g = first_element(); g < groups; g += grid_stride()) {
        double square[size];
#pragma unroll
        for (int i = 0; i < size; i++) {
            double value = g * size + i < n ? (double)widen(x[g * size + i]) : 0.0;
            square[i] = value * value;
        }
#pragma unroll
        for (int half = size / 2; half > 0; half /= 2)
            for (int i = 0; i < half; i++) square[i] += square[i + half];
        light_exact_place place = light_exact_place_of(square[0]);
        for (int i = 0; i < 3; i++)
            if (place.units[i]) atomicAdd(&limbs[place.at + i], (unsigned long long)place.units[i]);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < LIGHT_EXACT_SIZE; i += THREADS)
        if (limbs[i]) atomicAdd((unsigned long long *)&out[i], limbs[i]);
}

__global__ static void exact_zero_kernel(int64_t *limbs)
{
    for (int i = threadIdx.x; i < LIGHT_EXACT_SIZE; i += THREADS) limbs[i] = 0;
}

__global__ static void exact_carry_kernel(int64_t *limbs)
{
    light_exact_carry(limbs);
}

/* A copy of a thread's own would lie in registers. */
__global__ static void exact_value_kernel(const int64_t *limbs, double *out)
{
    __shared__ int64_t sum[LIGHT_EXACT_SIZE];
    for (int i = threadIdx.x; i < LIGHT_EXACT_SIZE; i += THREADS) sum[i] = limbs[i];
    __syncthreads();
    if (threadIdx.x == 0) *out = light_exact_take(sum);
}

static light_status exact_squares(const light_kernel_args *args)
{
    const light_device *device = args->device;
    const light_tensor *x = args->in[0];
    int64_t *out = (int64_t *)args->out[0]->data;
    if (!(args->accumulate & 1)) LIGHT_TRY(launch(device, exact_zero_kernel, 1, THREADS, 0, out));
    LIGHT_TRY(by_float(x->dtype, [&](auto type) {
        typedef decltype(type) T;
        unsigned blocks = blocks_for(device, x->numel, THREADS * GROUP_BYTES / sizeof(T));
        return launch(device, exact_squares_kernel<T>, blocks, THREADS, 0, (const T *)x->data, x->numel, out);
    }));
    return launch(device, exact_carry_kernel, 1, 1, 0, out);
}

static light_status exact_value(const light_kernel_args *args)
{
    return launch(args->device, exact_value_kernel, 1, THREADS, 0, (const int64_t *)args->in[0]->data,
                  (double *)args->out[0]->data);
}

/* ---- all finite ------------------------------------------------------------- */

__global__ static void say_finite_kernel(float *out, bool add)
{
    *out = !add || *out != 0 ? 1 : 0;
}

/* Whoever finds one says so; that it may be said more than once does no harm. */
template <class T> __global__ void find_infinite_kernel(run<T> x, float *out)
{
    bool bad = false;
    each_of_run(x, [&](real_of<T> value) { bad |= !(value - value == 0); });
    if (bad) *out = 0;
}

static light_status all_finite(const light_kernel_args *args)
{
    const light_device *device = args->device;
    float *out = (float *)args->out[0]->data;
    LIGHT_TRY(launch(device, say_finite_kernel, 1, 1, 0, out, args->accumulate & 1));
    return by_float(args->in[0]->dtype, [&](auto type) {
        run<decltype(type)> x = run_of<decltype(type)>(args->in[0]);
        return launch(device, find_infinite_kernel<decltype(type)>, blocks_of(device, x), THREADS, 0, x, out);
    });
}

/* ---- in place ---------------------------------------------------------------- */

/* The common case, a norm below the limit, costs no pass. */
template <class T> __global__ void scale_kernel(run<T> x, const float *factor)
{
    real_of<T> number = *factor;
    if (number != 1) change_run(x, [=](real_of<T> value) { return value * number; });
}

static light_status scale(const light_kernel_args *args)
{
    return by_float(args->out[0]->dtype, [&](auto type) {
        run<decltype(type)> x = run_of<decltype(type)>(args->out[0]);
        return launch(args->device, scale_kernel<decltype(type)>, blocks_of(args->device, x), THREADS, 0, x,
                      (const float *)args->in[1]->data);
    });
}

/* What is not a number stays so. */
template <class T> __global__ void clamp_flat_kernel(run<T> x, real_of<T> bound)
{
    change_run(x, [=](real_of<T> value) { return value > bound ? bound : value < -bound ? -bound : value; });
}

static light_status clamp_flat(const light_kernel_args *args)
{
    double bound = ((const light_fill_attrs *)args->attrs)->value;
    return by_float(args->out[0]->dtype, [&](auto type) {
        run<decltype(type)> x = run_of<decltype(type)>(args->out[0]);
        return launch(args->device, clamp_flat_kernel<decltype(type)>, blocks_of(args->device, x), THREADS, 0,
                      x, bound);
    });
}

/* ---- dynamic loss scaling ------------------------------------------------- */

__global__ static void loss_scale_kernel(float *state, light_loss_scale_attrs attrs)
{
    if (state[LIGHT_LOSS_SCALE_FOUND] != 0) {
        state[LIGHT_LOSS_SCALE_SCALE] *= (float)attrs.backoff_factor;
        state[LIGHT_LOSS_SCALE_TRACKER] = 0;
        state[LIGHT_LOSS_SCALE_SKIPPED]++;
    } else if (++state[LIGHT_LOSS_SCALE_TRACKER] >= (float)attrs.growth_interval) {
        float grown = state[LIGHT_LOSS_SCALE_SCALE] * (float)attrs.growth_factor;
        if (grown <= FLT_MAX) state[LIGHT_LOSS_SCALE_SCALE] = grown;
        state[LIGHT_LOSS_SCALE_TRACKER] = 0;
    }
    state[LIGHT_LOSS_SCALE_FOUND] = 0;
}

static light_status loss_scale(const light_kernel_args *args)
{
    return launch(args->device, loss_scale_kernel, 1, 1, 0, (float *)args->out[0]->data,
                  *(const light_loss_scale_attrs *)args->attrs);
}

extern const kernel_entry flat_kernels[] = {
    {LIGHT_KERNEL_SUM_SQUARES, sum_squares},
    {LIGHT_KERNEL_EXACT_SQUARES, exact_squares},
    {LIGHT_KERNEL_EXACT_VALUE, exact_value},
    {LIGHT_KERNEL_ALL_FINITE, all_finite},
    {LIGHT_KERNEL_SCALE, scale},
    {LIGHT_KERNEL_CLAMP_FLAT, clamp_flat},
    {LIGHT_KERNEL_LOSS_SCALE, loss_scale},
    {LIGHT_KERNEL_COUNT, NULL},
};

} // namespace light
