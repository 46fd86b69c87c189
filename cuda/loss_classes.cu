/* SPDX-License-Identifier: Apache-2.0 */
/* Cross entropy, negative log-likelihood and accuracy over rows of classes.
 *
 * A row has a warp, or a block when it is long. Cross entropy reads a row once; its gradient reads and writes it once,
 * made from the saved log of the sum of exp. The row of a class that is out of range is noted, and left out. */
#include "cuda/fault.cuh"
#include "cuda/loss.cuh"
#include "cuda/map.cuh"
#include "cuda/online.cuh"

#include <light/ops.h>

namespace light
{

enum { LONG_ROW = 2048 /* classes from which on a row has a block */ };

struct class_rows {
    const void *target, *weight; /* weight: R, or NULL */
    int target_dtype, kernel;
    int64_t rows, classes, stride;
    double smoothing;
    int64_t ignore_index;
    int reduction, lanes; /* lanes: threads of a row */
    fault *noted;
};

static class_rows rows_of(const light_kernel_args *args, int kernel, const light_tensor *x,
                          const light_tensor *target, const light_tensor *weight)
{
    const light_cross_entropy_attrs *attrs = (const light_cross_entropy_attrs *)args->attrs;
    class_rows c = {};
    c.target = target->data;
    c.target_dtype = target->dtype;
    c.weight = weight ? weight->data : NULL;
    c.kernel = kernel;
    c.rows = x->shape[0];
    c.classes = x->shape[1];
    c.stride = x->strides[0];
    c.lanes = c.classes < LONG_ROW ? 32 : LOSS_THREADS;
    c.noted = state_of(args->device)->fault_device;
    if (!attrs) return c; /* accuracy has none */
    c.smoothing = attrs->label_smoothing;
    c.ignore_index = attrs->ignore_index;
    c.reduction = attrs->reduction;
    return c;
}

/* Whether the elements of all rows may be accessed in groups of V; a rest at a row's end is allowed. */
template <int V> static bool row_groups_fit(const light_tensor *t)
{
    return packs_fit(t->data) && (t->strides[0] % V == 0 || t->shape[0] == 1);
}

__device__ inline int64_t target_at(const class_rows &c, int64_t row)
{
    switch (c.target_dtype) {
    case LIGHT_I64: return ((const int64_t *)c.target)[row];
    case LIGHT_I32: return ((const int32_t *)c.target)[row];
    default: return ((const uint8_t *)c.target)[row];
    }
}

/* The class of a row; below 0: none, the row is left out. */
__device__ inline int64_t class_at(const class_rows &c, int64_t row)
{
    int64_t y = target_at(c, row);
    if (y == c.ignore_index) return -1;
    if (y >= 0 && y < c.classes) return y;
    note_fault(c.noted, FAULT_CLASS, c.kernel, y, c.classes);
    return -1;
}

template <class R> __device__ inline double weight_at(const class_rows &c, int64_t i)
{
    return c.weight ? (double)((const R *)c.weight)[i] : 1;
}

/* The rows of a block: this thread's first, and the step to the next. */
__device__ inline int64_t first_row(const class_rows &c)
{
    return (int64_t)blockIdx.x * (blockDim.x / c.lanes) + threadIdx.x / c.lanes;
}

__device__ inline int64_t row_step(const class_rows &c)
{
    return (int64_t)gridDim.x * (blockDim.x / c.lanes);
}

static unsigned row_blocks(const light_device *device, const class_rows &c)
{
    int rows = LOSS_THREADS / c.lanes;
    return loss_blocks(device, (c.rows + rows - 1) / rows);
}

/* Calls f(first, x) for all elements of a row that are this lane's: in groups of V, then one by one. */
template <int V, class T, class F>
__device__ inline void for_row(const T *row, int64_t classes, int lane, int lanes, F f)
{
    using R = real_of<T>;
    int64_t groups = classes / V;
#pragma unroll 2
    for (int64_t i = lane; i < groups; i += lanes) {
        group<T, V> x = load_group<V>(row + i * V);
        R values[V];
#pragma unroll
        for (int k = 0; k < V; k++) values[k] = widen(x.at[k]);
        f(i * V, values);
    }
    for (int64_t i = groups * V + lane; i < classes; i += lanes) {
        R value[1] = {widen(row[i])};
        f(i, value);
    }
}

/* ---- the sum of all weights, for label smoothing ---------------------------------------- */

template <class R>
__global__ void __launch_bounds__(LOSS_THREADS) weight_sum_kernel(const R *weight, int64_t n, double *sum)
{
    __shared__ double room[32];
    double part = 0;
    for (int64_t i = threadIdx.x; i < n; i += LOSS_THREADS) part += weight ? weight[i] : 1;
    part = block_reduce(part, sum_of{}, 0.0, room);
    if (threadIdx.x == 0) *sum = part;
}

template <class R>
static light_status sum_weights(const light_device *device, const class_rows &c, double *sum)
{
    if (c.smoothing == 0) return LIGHT_OK;
    return launch(device, weight_sum_kernel<R>, 1, LOSS_THREADS, 0, (const R *)c.weight, c.classes, sum);
}

/* ---- cross entropy ----------------------------------------------------------------------- */

/* Adds w x to `weighted` for a few elements. */
template <class R, int N>
__device__ inline void add_weighted(const class_rows &c, int64_t first, const R (&x)[N], double &weighted)
{
#pragma unroll
    for (int k = 0; k < N; k++) weighted += weight_at<R>(c, first + k) * x[k];
}

/* The logarithm of the sum of exp over a row, for all its threads, and the sum of w x where it is smoothed. */
template <int V, class T>
__device__ inline double row_logarithm(const class_rows &c, const T *row, double *weighted, real_of<T> *room,
                                       double *sums)
{
    using R = real_of<T>;
    online_sum<R> mine = online_sum<R>::empty();
    for_row<V>(row, c.classes, threadIdx.x % c.lanes, c.lanes, [&](int64_t first, const auto &x) {
        mine.add(x);
        if (c.smoothing > 0) add_weighted(c, first, x, *weighted);
    });
    online_sum<R> all = lanes_join(mine, c.lanes, room, sums);
    if (c.smoothing > 0) *weighted = lanes_reduce(*weighted, sum_of{}, 0.0, c.lanes, sums);
    return all.most - all.most == 0 ? all.most + log(all.sum) : (double)NAN;
}

__device__ inline double smoothed(const class_rows &c, double loss, double all, double total, double weighted)
{
    if (c.smoothing == 0) return loss;
    return (1 - c.smoothing) * loss + c.smoothing / (double)c.classes * (all * total - weighted);
}

/* all: the sum of the weights; y: an element a row, or NULL. */
template <int V, class T>
__global__ void __launch_bounds__(LOSS_THREADS, 2)
    cross_entropy_kernel(class_rows c, const T *x, const double *all, void *y, int y_dtype, real_of<T> *lse,
                         loss_sum *sums)
{
    using R = real_of<T>;
    __shared__ R room[32];
    __shared__ double double_room[32];
    double sum = 0, weight = 0;
    for (int64_t row = first_row(c); row < c.rows; row += row_step(c)) {
        int64_t target = class_at(c, row);
        double total = 0, weighted = 0, loss = 0;
        if (target >= 0) total = row_logarithm<V>(c, x + row * c.stride, &weighted, room, double_room);
        if (threadIdx.x % c.lanes) continue;
        if (target >= 0) {
            double w = weight_at<R>(c, target), score = widen(x[row * c.stride + target]);
            loss = smoothed(c, w * (total - score), c.smoothing > 0 ? *all : 0, total, weighted);
            weight += w;
        }
        lse[row] = (R)total;
        sum += loss;
        if (y) store_number(y, y_dtype, row, (R)loss, false);
    }
    put_loss_sum(sums, sum, weight, double_room);
}

template <class T> static light_status run_cross_entropy(const light_kernel_args *args)
{
    using R = real_of<T>;
    constexpr int V = pack<T>::size;
    const light_tensor *x = args->in[0];
    const light_device *device = args->device;
    light_tensor *y = args->out[0], *lse = args->out[1], *total = args->out[2];
    class_rows c = rows_of(args, LIGHT_KERNEL_CROSS_ENTROPY, x, args->in[1], args->in[2]);
    bool each = c.reduction == LIGHT_NONE;
    unsigned blocks = row_blocks(device, c);
    loss_sum *sums;
    LIGHT_TRY(scratch(device, (blocks + 1) * sizeof *sums, (void **)&sums));
    double *all = &sums[blocks].sum;
    LIGHT_TRY(sum_weights<R>(device, c, all));
    LIGHT_TRY(launch(device, row_groups_fit<V>(x) ? cross_entropy_kernel<V, T> : cross_entropy_kernel<1, T>,
                     blocks, LOSS_THREADS, 0, c, (const T *)x->data, all, each ? y->data : NULL, y->dtype,
                     (R *)lse->data, sums));
    loss_end end = {each ? NULL : y->data, total->data, y->dtype, total->dtype, c.reduction == LIGHT_MEAN};
    return finish_loss(device, end, sums, blocks);
}

static light_status cross_entropy(const light_kernel_args *args)
{
    return by_float(args->in[0]->dtype, [&](auto type) { return run_cross_entropy<decltype(type)>(args); });
}

/* ---- its gradient ------------------------------------------------------------------------- */

/* The gradient that reaches a row. */
template <class T>
__device__ inline double row_gradient(const class_rows &c, const T *g, const real_of<T> *total, int64_t row)
{
    double value = widen(g[c.reduction == LIGHT_NONE ? row : 0]);
    return c.reduction == LIGHT_MEAN ? value / *total : value;
}

/* What a row's gradient is made from: gx = (1 - e) w_y g (p - 1[y]) + e / C g (W p - w), p = exp(x - lse), W the sum of
 * all weights. */
template <class R> struct row_slope {
    int64_t target; /* below 0: the row's gradient is 0 */
    R lse, scale, shift, hit;
    const R *weight;
    __device__ R operator()(R x, int64_t i) const
    {
        if (target < 0) return 0;
        R value = exp(x - lse) * scale;
        if (shift != 0) value -= weight ? shift * weight[i] : shift;
        return i == target ? value - hit : value;
    }
};

template <class R>
__device__ inline row_slope<R> row_slope_of(const class_rows &c, int64_t target, double g, const double *all,
                                            R lse)
{
    double even = c.smoothing / (double)c.classes * g;
    double hit = (1 - c.smoothing) * (target < 0 ? 0 : weight_at<R>(c, target)) * g;
    double scale = hit + (c.smoothing > 0 ? even * *all : 0);
    return row_slope<R>{target, lse, (R)scale, (R)even, (R)hit, (const R *)c.weight};
}

/* x and gx may be one. */
template <int V, class T>
__device__ inline void put_slopes(const row_slope<real_of<T>> &f, const T *x, T *gx, int64_t i,
                                  bool accumulate)
{
    group<T, V> in = load_group<V>(x + i), out;
    if (accumulate) out = load_group<V>(gx + i);
#pragma unroll
    for (int k = 0; k < V; k++) {
        real_of<T> value = f(widen(in.at[k]), i + k);
        out.at[k] = accumulate ? stored_sum(out.at[k], value) : stored<T>(value);
    }
    store_group<V>(gx + i, out);
}

/* blockIdx.y is a part of the rows' groups. */
template <int V, class T>
__global__ void __launch_bounds__(LOSS_THREADS, 2)
    cross_entropy_backward_kernel(class_rows c, const T *g, const T *x, const real_of<T> *lse,
                                  const real_of<T> *total, const double *all, T *gx, int64_t gx_stride,
                                  bool accumulate)
{
    int lane = threadIdx.x % c.lanes;
    int64_t groups = c.classes / V, from = groups * blockIdx.y / gridDim.y;
    int64_t to = groups * (blockIdx.y + 1) / gridDim.y;
    for (int64_t row = first_row(c); row < c.rows; row += row_step(c)) {
        int64_t target = class_at(c, row);
        if (target < 0 && accumulate) continue;
        auto f = row_slope_of(c, target, row_gradient(c, g, total, row), all, lse[row]);
        const T *x_row = x + row * c.stride;
        T *gx_row = gx + row * gx_stride;
#pragma unroll 2
        for (int64_t i = from + lane; i < to; i += c.lanes)
            put_slopes<V>(f, x_row, gx_row, i * V, accumulate);
        if (to < groups) continue; /* another part has the rest */
        for (int64_t i = groups * V + lane; i < c.classes; i += c.lanes)
            put_slopes<1>(f, x_row, gx_row, i, accumulate);
    }
}

template <class T> static light_status run_cross_entropy_backward(const light_kernel_args *args)
{
    using R = real_of<T>;
    constexpr int V = pack<T>::size;
    const light_tensor *g = args->in[0], *x = args->in[1], *lse = args->in[4], *total = args->in[5];
    const light_device *device = args->device;
    light_tensor *gx = args->out[0];
    class_rows c = rows_of(args, LIGHT_KERNEL_CROSS_ENTROPY_BACKWARD, x, args->in[2], args->in[3]);
    int64_t rows = LOSS_THREADS / c.lanes, blocks = blocks_for(device, c.rows, rows);
    int64_t parts = (c.classes + LONG_ROW * 4 - 1) / (LONG_ROW * 4);
    bool groups = row_groups_fit<V>(x) && row_groups_fit<V>(gx);
    double *all;
    LIGHT_TRY(scratch(device, sizeof *all, (void **)&all));
    LIGHT_TRY(sum_weights<R>(device, c, all));
    return launch(device, groups ? cross_entropy_backward_kernel<V, T> : cross_entropy_backward_kernel<1, T>,
                  dim3((unsigned)blocks, (unsigned)parts), LOSS_THREADS, 0, c, (const T *)g->data,
                  (const T *)x->data, (const R *)lse->data, (const R *)total->data, all, (T *)gx->data,
                  gx->strides[0], args->accumulate & 1);
}

static light_status cross_entropy_backward(const light_kernel_args *args)
{
    return by_float(args->in[1]->dtype,
                    [&](auto type) { return run_cross_entropy_backward<decltype(type)>(args); });
}

/* ---- negative log-likelihood ----------------------------------------------------------------- */

template <class T>
__global__ void __launch_bounds__(LOSS_THREADS, 2)
    nll_kernel(class_rows c, const T *x, void *y, int y_dtype, loss_sum *sums)
{
    using R = real_of<T>;
    __shared__ double room[32];
    double sum = 0, weight = 0;
    for (int64_t row = first_element(); row < c.rows; row += grid_stride()) {
        int64_t target = class_at(c, row);
        double w = target < 0 ? 0 : weight_at<R>(c, target);
        double loss = target < 0 ? 0 : -w * widen(x[row * c.stride + target]);
        sum += loss;
        weight += w;
        if (y) store_number(y, y_dtype, row, (R)loss, false);
    }
    put_loss_sum(sums, sum, weight, room);
}

static light_status nll(const light_kernel_args *args)
{
    const light_tensor *x = args->in[0];
    const light_device *device = args->device;
    light_tensor *y = args->out[0], *total = args->out[1];
    class_rows c = rows_of(args, LIGHT_KERNEL_NLL, x, args->in[1], args->in[2]);
    bool each = c.reduction == LIGHT_NONE;
    unsigned blocks = loss_blocks(device, (c.rows + LOSS_THREADS - 1) / LOSS_THREADS);
    loss_sum *sums;
    LIGHT_TRY(scratch(device, blocks * sizeof *sums, (void **)&sums));
    LIGHT_TRY(by_float(x->dtype, [&](auto type) {
        using T = decltype(type);
        return launch(device, nll_kernel<T>, blocks, LOSS_THREADS, 0, c, (const T *)x->data,
                      each ? y->data : NULL, y->dtype, sums);
    }));
    loss_end end = {each ? NULL : y->data, total->data, y->dtype, total->dtype, c.reduction == LIGHT_MEAN};
    return finish_loss(device, end, sums, blocks);
}

/* One element of each row; the others are 0 already, or stay as they are. */
template <class T>
__global__ void __launch_bounds__(LOSS_THREADS, 2)
    nll_backward_kernel(class_rows c, const T *g, const real_of<T> *total, T *gx, bool accumulate)
{
    using R = real_of<T>;
    for (int64_t row = first_element(); row < c.rows; row += grid_stride()) {
        int64_t target = class_at(c, row);
        if (target < 0) continue;
        T *at = gx + row * c.stride + target;
        R value = (R)(-weight_at<R>(c, target) * row_gradient(c, g, total, row));
        *at = accumulate ? stored_sum(*at, value) : stored<T>(value);
    }
}

template <class T> struct zero {
    __device__ real_of<T> operator()() const
    {
        return 0;
    }
};

static light_status nll_backward(const light_kernel_args *args)
{
    const light_tensor *g = args->in[0], *total = args->in[3];
    light_tensor *gx = args->out[0];
    bool accumulate = args->accumulate & 1;
    class_rows c = rows_of(args, LIGHT_KERNEL_NLL_BACKWARD, gx, args->in[1], args->in[2]);
    return by_float(gx->dtype, [&](auto type) {
        using T = decltype(type);
        if (!accumulate) LIGHT_TRY(map<T>::run(args->device, zero<T>{}, false, gx));
        return launch(args->device, nll_backward_kernel<T>, blocks_for(args->device, c.rows, LOSS_THREADS),
                      LOSS_THREADS, 0, c, (const T *)g->data, (const real_of<T> *)total->data, (T *)gx->data,
                      accumulate);
    });
}

/* ---- accuracy ---------------------------------------------------------------------------------- */

struct least_of {
    __device__ int64_t operator()(int64_t a, int64_t b) const
    {
        return a < b ? a : b;
    }
};

/* The first of the largest; 0 where none is above -inf. */
template <int V, class T>
__device__ inline int64_t row_argmax(const class_rows &c, const T *row, real_of<T> *room, int64_t *places)
{
    using R = real_of<T>;
    R best = -INFINITY;
    int64_t at = INT64_MAX;
    for_row<V>(row, c.classes, threadIdx.x % c.lanes, c.lanes, [&](int64_t first, const auto &x) {
        for (size_t k = 0; k < sizeof x / sizeof *x; k++) {
            if (!(x[k] > best)) continue;
            best = x[k];
            at = first + (int64_t)k;
        }
    });
    R most = lanes_reduce(best, max_of{}, (R)-INFINITY, c.lanes, room);
    at = lanes_reduce(best == most ? at : INT64_MAX, least_of{}, INT64_MAX, c.lanes, places);
    return at == INT64_MAX ? 0 : at;
}

template <int V, class T>
__global__ void __launch_bounds__(LOSS_THREADS) accuracy_kernel(class_rows c, const T *x, loss_sum *sums)
{
    __shared__ real_of<T> room[32];
    __shared__ int64_t places[32];
    __shared__ double double_room[32];
    double hits = 0, rows = 0;
    for (int64_t row = first_row(c); row < c.rows; row += row_step(c)) {
        int64_t at = row_argmax<V>(c, x + row * c.stride, room, places);
        if (threadIdx.x % c.lanes) continue;
        hits += at == target_at(c, row);
        rows += 1;
    }
    put_loss_sum(sums, hits, rows, double_room);
}

static light_status accuracy(const light_kernel_args *args)
{
    const light_tensor *x = args->in[0];
    const light_device *device = args->device;
    class_rows c = rows_of(args, LIGHT_KERNEL_ACCURACY, x, args->in[1], NULL);
    unsigned blocks = row_blocks(device, c);
    loss_sum *sums;
    LIGHT_TRY(scratch(device, blocks * sizeof *sums, (void **)&sums));
    LIGHT_TRY(by_float(x->dtype, [&](auto type) {
        using T = decltype(type);
        constexpr int V = pack<T>::size;
        return launch(device, row_groups_fit<V>(x) ? accuracy_kernel<V, T> : accuracy_kernel<1, T>, blocks,
                      LOSS_THREADS, 0, c, (const T *)x->data, sums);
    }));
    return finish_loss(device, loss_end{args->out[0]->data, NULL, args->out[0]->dtype, 0, true}, sums,
                       blocks);
}

extern const kernel_entry loss_classes_kernels[] = {
    {LIGHT_KERNEL_CROSS_ENTROPY, cross_entropy},
    {LIGHT_KERNEL_CROSS_ENTROPY_BACKWARD, cross_entropy_backward},
    {LIGHT_KERNEL_NLL, nll},
    {LIGHT_KERNEL_NLL_BACKWARD, nll_backward},
    {LIGHT_KERNEL_ACCURACY, accuracy},
    {LIGHT_KERNEL_COUNT, NULL},
};

} // namespace light
