/* SPDX-License-Identifier: Apache-2.0 */
/* softmax, log_softmax and their gradients along any dim.
 *
 * Lines lie along the dim. Where it is the fastest in memory, threads side by side share a line: it stays in registers and
 * is read once, unless it is longer than a block can hold; then it is read twice. Else neighbouring lines have threads side
 * by side, and are read twice. */
#include "cuda/map.cuh"
#include "cuda/online.cuh"

namespace light
{

enum {
    LINE_ITEMS = 32, /* floats of a line that a thread holds */
    LINE_MOST = 512, /* threads of a line */
    LONG_THREADS = 512,
    COLUMN_THREADS = 256,
    COLUMN_LANES = 8, /* most threads of a column */
};

struct softmax_plan {
    walk<3>
        lines; /* all other dims: the result, the argument or the gradient, the result of the forward pass */
    int64_t n; /* elements of a line */
    int64_t step[3]; /* along it */
    int lanes;       /* threads of a line */
    bool log, accumulate;
};

/* Elements of each of `operands` lines that a thread holds: LINE_ITEMS floats together. */
template <class T> constexpr int items_of(int operands)
{
    return LINE_ITEMS * 4 / (int)sizeof(real_of<T>) / operands;
}

/* Where this thread's line begins in each operand; false: there is none. A block has one line, or each warp has. */
__device__ inline bool find_line(const softmax_plan &plan, int64_t (&at)[3])
{
    int64_t line = (int64_t)blockIdx.x * (blockDim.x / plan.lanes) + threadIdx.x / plan.lanes;
    if (line >= plan.lines.numel) return false;
    walk_offsets(plan.lines, line, at);
    return true;
}

/* Group i of a line, V apart. Beyond the end: `otherwise`. */
template <int V, class T>
__device__ inline void load_line(const T *line, int64_t i, int64_t n, real_of<T> otherwise, real_of<T> *to)
{
    bool inside = i * V < n;
    group<T, V> x;
    if (inside) x = load_group<V>(line + i * V);
#pragma unroll
    for (int k = 0; k < V; k++) to[k] = inside ? widen(x.at[k]) : otherwise;
}

template <int V, class T>
__device__ inline void store_line(T *line, int64_t i, const real_of<T> *values, bool accumulate)
{
    group<T, V> y, before;
    if (accumulate) before = load_group<V>(line + i * V);
#pragma unroll
    for (int k = 0; k < V; k++)
        y.at[k] = accumulate ? stored_sum(before.at[k], values[k]) : stored<T>(values[k]);
    store_group<V>(line + i * V, y);
}

/* ---- lines in registers -------------------------------------------------------------- */

template <int V, class T>
__global__ void __launch_bounds__(LINE_MOST) softmax_line_kernel(softmax_plan plan, T *y, const T *x)
{
    using R = real_of<T>;
    enum { GROUPS = items_of<T>(1) / V };
    __shared__ R room[32];
    int lane = threadIdx.x % plan.lanes;
    int64_t at[3];
    R v[GROUPS * V], most = -INFINITY, sum = 0;
    if (!find_line(plan, at)) return;
#pragma unroll
    for (int j = 0; j < GROUPS; j++)
        load_line<V>(x + at[1], lane + j * plan.lanes, plan.n, (R)-INFINITY, v + j * V);
#pragma unroll
    for (int k = 0; k < GROUPS * V; k++) most = v[k] > most ? v[k] : most;
    most = lanes_reduce(most, max_of{}, (R)-INFINITY, plan.lanes, room);
#pragma unroll
    for (int k = 0; k < GROUPS * V; k++) {
        R e = exp(v[k] - most);
        sum += e;
        v[k] = plan.log ? v[k] - most : e;
    }
    sum = lanes_reduce(sum, sum_of{}, (R)0, plan.lanes, room);
    R scale = 1 / sum, shift = log(sum);
#pragma unroll
    for (int j = 0; j < GROUPS; j++) {
        int64_t i = lane + j * plan.lanes;
#pragma unroll
        for (int k = j * V; k < (j + 1) * V; k++) v[k] = plan.log ? v[k] - shift : v[k] * scale;
        if (i * V < plan.n) store_line<V>(y + at[0], i, v + j * V, plan.accumulate);
    }
}

/* gx = y (g - sum of g y); log: g - exp(y) sum of g. */
template <class R> __device__ inline R softmax_slope(R g, R y, R dot, bool log)
{
    return log ? g - exp(y) * dot : y * (g - dot);
}

template <int V, class T>
__global__ void __launch_bounds__(LINE_MOST)
    softmax_line_backward_kernel(softmax_plan plan, T *gx, const T *g, const T *y)
{
    using R = real_of<T>;
    enum { GROUPS = items_of<T>(2) / V };
    __shared__ R room[32];
    int lane = threadIdx.x % plan.lanes;
    int64_t at[3];
    R v[GROUPS * V], w[GROUPS * V], dot = 0;
    if (!find_line(plan, at)) return;
#pragma unroll
    for (int j = 0; j < GROUPS; j++) {
        load_line<V>(g + at[1], lane + j * plan.lanes, plan.n, (R)0, v + j * V);
        load_line<V>(y + at[2], lane + j * plan.lanes, plan.n, (R)0, w + j * V);
    }
#pragma unroll
    for (int k = 0; k < GROUPS * V; k++) dot += plan.log ? v[k] : v[k] * w[k];
    dot = lanes_reduce(dot, sum_of{}, (R)0, plan.lanes, room);
#pragma unroll
    for (int j = 0; j < GROUPS; j++) {
        int64_t i = lane + j * plan.lanes;
#pragma unroll
        for (int k = j * V; k < (j + 1) * V; k++) v[k] = softmax_slope(v[k], w[k], dot, plan.log);
        if (i * V < plan.n) store_line<V>(gx + at[0], i, v + j * V, plan.accumulate);
    }
}

/* ---- longer lines, a block each -------------------------------------------------------- */

/* The number that all elements are relative to, and what they are divided by: NaN where the largest is infinite. */
template <class R> struct normalizer {
    R most, scale, shift;
    __device__ explicit normalizer(online_sum<R> all) : most(all.most)
    {
        double sum = most - most == 0 ? all.sum : (double)NAN;
        scale = (R)(1 / sum);
        shift = (R)log(sum);
    }
    __device__ R operator()(R x, bool log) const
    {
        return log ? x - most - shift : exp(x - most) * scale;
    }
};

template <int V, class T>
__global__ void __launch_bounds__(LONG_THREADS) softmax_long_kernel(softmax_plan plan, T *y, const T *x)
{
    using R = real_of<T>;
    __shared__ R room[32];
    __shared__ double sums[32];
    int64_t at[3], groups = plan.n / V;
    online_sum<R> mine = online_sum<R>::empty();
    R v[V];
    walk_offsets(plan.lines, blockIdx.x, at);
#pragma unroll 2
    for (int64_t i = threadIdx.x; i < groups; i += LONG_THREADS) {
        load_line<V>(x + at[1], i, plan.n, (R)0, v);
        mine.add(v);
    }
    normalizer<R> f(lanes_join(mine, LONG_THREADS, room, sums));
#pragma unroll 2
    for (int64_t i = threadIdx.x; i < groups; i += LONG_THREADS) {
        load_line<V>(x + at[1], i, plan.n, (R)0, v);
#pragma unroll
        for (int k = 0; k < V; k++) v[k] = f(v[k], plan.log);
        store_line<V>(y + at[0], i, v, plan.accumulate);
    }
}

template <int V, class T>
__global__ void __launch_bounds__(LONG_THREADS, 2)
    softmax_long_backward_kernel(softmax_plan plan, T *gx, const T *g, const T *y)
{
    using R = real_of<T>;
    __shared__ double room[32];
    int64_t at[3], groups = plan.n / V;
    double total = 0;
    R v[V], w[V];
    walk_offsets(plan.lines, blockIdx.x, at);
#pragma unroll 2
    for (int64_t i = threadIdx.x; i < groups; i += LONG_THREADS) {
        R part = 0;
        load_line<V>(g + at[1], i, plan.n, (R)0, v);
        load_line<V>(y + at[2], i, plan.n, (R)0, w);
#pragma unroll
        for (int k = 0; k < V; k++) part += plan.log ? v[k] : v[k] * w[k];
        total += part;
    }
    R dot = (R)block_reduce(total, sum_of{}, 0.0, room);
#pragma unroll 2
    for (int64_t i = threadIdx.x; i < groups; i += LONG_THREADS) {
        load_line<V>(g + at[1], i, plan.n, (R)0, v);
        load_line<V>(y + at[2], i, plan.n, (R)0, w);
#pragma unroll
        for (int k = 0; k < V; k++) v[k] = softmax_slope(v[k], w[k], dot, plan.log);
        store_line<V>(gx + at[0], i, v, plan.accumulate);
    }
}

/* ---- lines side by side ------------------------------------------------------------------ */

/* A column has `lanes` threads, which lie as far apart as there are columns in a block. */
struct column {
    int lane, wide;
    bool inside;
    int64_t at[3];
    __device__ explicit column(const softmax_plan &plan) : wide(COLUMN_THREADS / plan.lanes)
    {
        int64_t line = (int64_t)blockIdx.x * wide + threadIdx.x % wide;
        lane = threadIdx.x / wide;
        inside = line < plan.lines.numel;
        walk_offsets(plan.lines, inside ? line : 0, at);
    }
};

template <class T>
__global__ void __launch_bounds__(COLUMN_THREADS, 2)
    softmax_columns_kernel(softmax_plan plan, T *y, const T *x)
{
    using R = real_of<T>;
    __shared__ online_sum<R> room[COLUMN_THREADS];
    column c(plan);
    online_sum<R> all = online_sum<R>::empty();
#pragma unroll 4
    for (int64_t i = c.lane; c.inside && i < plan.n; i += plan.lanes) {
        R v[1] = {widen(x[c.at[1] + i * plan.step[1]])};
        all.add(v);
    }
    room[threadIdx.x] = all;
    __syncthreads();
    all = room[threadIdx.x % c.wide];
    for (int lane = 1; lane < plan.lanes; lane++) all.join(room[lane * c.wide + threadIdx.x % c.wide]);
    normalizer<R> f(all);
#pragma unroll 4
    for (int64_t i = c.lane; c.inside && i < plan.n; i += plan.lanes) {
        R v = f(widen(x[c.at[1] + i * plan.step[1]]), plan.log);
        store_line<1>(y + c.at[0] + i * plan.step[0], 0, &v, plan.accumulate);
    }
}

template <class T>
__global__ void __launch_bounds__(COLUMN_THREADS, 2)
    softmax_columns_backward_kernel(softmax_plan plan, T *gx, const T *g, const T *y)
{
    using R = real_of<T>;
    __shared__ double room[COLUMN_THREADS];
    column c(plan);
    double total = 0;
#pragma unroll 4
    for (int64_t i = c.lane; c.inside && i < plan.n; i += plan.lanes) {
        R v = widen(g[c.at[1] + i * plan.step[1]]);
        total += plan.log ? v : v * widen(y[c.at[2] + i * plan.step[2]]);
    }
    room[threadIdx.x] = total;
    __syncthreads();
    total = 0;
    for (int lane = 0; lane < plan.lanes; lane++) total += room[lane * c.wide + threadIdx.x % c.wide];
#pragma unroll 4
    for (int64_t i = c.lane; c.inside && i < plan.n; i += plan.lanes) {
        R v = softmax_slope<R>(widen(g[c.at[1] + i * plan.step[1]]), widen(y[c.at[2] + i * plan.step[2]]),
                               (R)total, plan.log);
        store_line<1>(gx + c.at[0] + i * plan.step[0], 0, &v, plan.accumulate);
    }
}

/* ---- the kernels --------------------------------------------------------------------------- */

static softmax_plan softmax_plan_of(const light_kernel_args *args)
{
    const light_softmax_attrs *attrs = (const light_softmax_attrs *)args->attrs;
    const light_tensor *y = args->out[0], *a = args->in[0], *b = args->in[1] ? args->in[1] : a;
    const light_tensor *tensors[] = {y, a, b};
    softmax_plan plan = {};
    light_iter lines = {};
    lines.operands = 3;
    for (int d = 0; d < y->ndim; d++)
        if (d != attrs->dim) light_iter_add(&lines, tensors, d);
    light_iter_close(&lines);
    light_iter_sort(&lines);
    light_iter_coalesce(&lines);
    plan.lines = walk_over<3>(lines);
    plan.n = y->ndim ? y->shape[attrs->dim] : 1;
    for (int k = 0; k < 3; k++) plan.step[k] = y->ndim ? tensors[k]->strides[attrs->dim] : 1;
    plan.log = attrs->log;
    plan.accumulate = args->accumulate & 1;
    return plan;
}

/* Neighbours in memory belong to different lines. */
static bool side_by_side(const softmax_plan &plan)
{
    if (plan.n == 1) return true;
    bool dense = plan.step[0] == 1 && plan.step[1] == 1 && plan.step[2] == 1;
    return !dense;
}

template <int V, class T> static bool line_groups_fit(const softmax_plan &plan, const light_kernel_args *args)
{
    const void *data[] = {args->out[0]->data, args->in[0]->data, args->in[1] ? args->in[1]->data : NULL};
    if (plan.n % V) return false;
    for (int k = 0; k < 3; k++) {
        if (!packs_fit(data[k])) return false;
        for (int d = 0; d < plan.lines.ndim; d++)
            if (plan.lines.strides[k][d] % V && plan.lines.shape[d] > 1) return false;
    }
    return true;
}

/* Threads of a line in registers, of which each can hold `items`: rather more threads with fewer elements. */
static int lanes_for(int64_t n, int64_t items)
{
    int lanes = 32;
    if (items > LINE_ITEMS / 2) items = LINE_ITEMS / 2;
    while (lanes < LINE_MOST && lanes * items < n) lanes *= 2;
    return lanes;
}

static unsigned column_blocks(softmax_plan &plan)
{
    plan.lanes = 1;
    while (plan.lanes < COLUMN_LANES && plan.lanes * 4 < plan.n) plan.lanes *= 2;
    int wide = COLUMN_THREADS / plan.lanes;
    return (unsigned)((plan.lines.numel + wide - 1) / wide);
}

/* Launches the kernel for lines in registers where threads that hold `items` can have one, else that for longer lines. */
template <class K, class L, class... A>
static light_status launch_lines(const light_device *device, softmax_plan &plan, int64_t items,
                                 K in_registers, L longer, A... operands)
{
    if (plan.n > LINE_MOST * items)
        return launch(device, longer, (unsigned)plan.lines.numel, LONG_THREADS, 0, plan, operands...);
    plan.lanes = lanes_for(plan.n, items);
    int threads = plan.lanes > 32 ? plan.lanes : 128, lines = threads / plan.lanes;
    return launch(device, in_registers, (unsigned)((plan.lines.numel + lines - 1) / lines), threads, 0, plan,
                  operands...);
}

template <int V, class T> static light_status softmax_lines(const light_kernel_args *args, softmax_plan &plan)
{
    return launch_lines(args->device, plan, items_of<T>(1), softmax_line_kernel<V, T>,
                        softmax_long_kernel<V, T>, (T *)args->out[0]->data, (const T *)args->in[0]->data);
}

template <int V, class T>
static light_status softmax_lines_backward(const light_kernel_args *args, softmax_plan &plan)
{
    return launch_lines(args->device, plan, items_of<T>(2), softmax_line_backward_kernel<V, T>,
                        softmax_long_backward_kernel<V, T>, (T *)args->out[0]->data,
                        (const T *)args->in[0]->data, (const T *)args->in[1]->data);
}

static light_status softmax(const light_kernel_args *args)
{
    softmax_plan plan = softmax_plan_of(args);
    if (args->out[0]->numel == 0) return LIGHT_OK;
    return by_float(args->out[0]->dtype, [&](auto type) {
        using T = decltype(type);
        constexpr int V = pack<T>::size;
        if (side_by_side(plan)) {
            unsigned blocks = column_blocks(plan);
            return launch(args->device, softmax_columns_kernel<T>, blocks, COLUMN_THREADS, 0, plan,
                          (T *)args->out[0]->data, (const T *)args->in[0]->data);
        }
        return line_groups_fit<V, T>(plan, args) ? softmax_lines<V, T>(args, plan)
                                                 : softmax_lines<1, T>(args, plan);
    });
}

static light_status softmax_backward(const light_kernel_args *args)
{
    softmax_plan plan = softmax_plan_of(args);
    if (args->out[0]->numel == 0) return LIGHT_OK;
    return by_float(args->out[0]->dtype, [&](auto type) {
        using T = decltype(type);
        constexpr int V = pack<T>::size;
        if (side_by_side(plan)) {
            unsigned blocks = column_blocks(plan);
            return launch(args->device, softmax_columns_backward_kernel<T>, blocks, COLUMN_THREADS, 0, plan,
                          (T *)args->out[0]->data, (const T *)args->in[0]->data,
                          (const T *)args->in[1]->data);
        }
        return line_groups_fit<V, T>(plan, args) ? softmax_lines_backward<V, T>(args, plan)
                                                 : softmax_lines_backward<1, T>(args, plan);
    });
}

extern const kernel_entry softmax_kernels[] = {
    {LIGHT_KERNEL_SOFTMAX, softmax},
    {LIGHT_KERNEL_SOFTMAX_BACKWARD, softmax_backward},
    {LIGHT_KERNEL_COUNT, NULL},
};

} // namespace light
