/* SPDX-License-Identifier: Apache-2.0 */
/* Batch norm and group norm: first sums for each channel over units of pixels, then what follows from them for each
 * statistic, then a pass that writes. For group norm units are parts of an image, for batch norm parts of the batch.
 * x is read twice and y written once; backward reads gy and x twice and writes gx.
 *
 * Tensors are row-major or channels-last. A thread visits packs of neighbours in memory, `lanes`: of different channels
 * where channels lie side by side, else of one channel, whose lanes are joined in the end. Otherwise both are alike.
 * Means and variances are made of a few elements at a time, read once, and joined in double, so that nothing is lost to
 * cancellation. */
#include "cuda/block.cuh"
#include "cuda/floats.cuh"
#include "cuda/vendor/cudnn.h"
#include "cuda/walk.cuh"

namespace light
{

enum { THREADS = 256, BATCH = 4 /* packs that a thread loads before it computes */ };

struct channel_norm {
    const void *x, *gy;
    void *y; /* or gx */
    void *mean, *rstd;
    floats w, b;
    double eps, count; /* elements that share a statistic */
    bool fixed;        /* statistics that do not depend on x */
    bool add;
    void *units;                     /* moments or sums: [bodies * pieces, channels] */
    struct channel_sums *totals;     /* of gradients, one a statistic */
    int64_t channels, groups, width; /* width: channels of a group; batch norm has groups of one channel */
    int64_t bodies, pieces,
        tiles;             /* block (body, piece, tile); a body is an image, or all of them for batch norm */
    int64_t visits, piece; /* packs of a channel in a body, in a piece of it */
    int64_t body, channel; /* distances in memory, in elements */
    int64_t run, jump;     /* visits that are neighbours; from one run to the next */
    int64_t step_runs, step_rest; /* what a step of `rows` visits is in runs */
    unsigned columns, rows;       /* threads of a block: packs side by side, visits */
    bool side_by_side;
};

/* ---- where a thread works ---------------------------------------------------- */

/* The visits of a thread: every `rows`th of its block's piece. */
struct visitor {
    int64_t body, channel; /* of the first lane */
    int64_t base;          /* where the body's first pack lies */
    int64_t next, end, in_run, runs;

    template <int N> __device__ static visitor of(const channel_norm &job)
    {
        visitor v;
        int64_t tile = blockIdx.x % job.tiles, unit = blockIdx.x / job.tiles;
        int64_t piece = unit % job.pieces, pack = tile * job.columns + threadIdx.x % job.columns;
        v.body = unit / job.pieces;
        v.channel = job.side_by_side ? pack * N : pack;
        v.base = v.body * job.body + v.channel * job.channel;
        v.next = piece * job.piece + threadIdx.x / job.columns;
        v.end = (piece + 1) * job.piece < job.visits ? (piece + 1) * job.piece : job.visits;
        if (v.channel >= job.channels) v.end = 0;
        v.runs = v.next / job.run;
        v.in_run = v.next - v.runs * job.run;
        return v;
    }

    /* Up to BATCH visits: where their packs lie. */
    template <int N> __device__ int take(const channel_norm &job, int64_t (&at)[BATCH])
    {
        int count = 0;
#pragma unroll
        for (int k = 0; k < BATCH; k++) {
            if (next >= end) break;
            at[k] = base + runs * job.jump + in_run * N;
            count++;
            next += job.rows;
            runs += job.step_runs;
            in_run += job.step_rest;
            if (in_run >= job.run) {
                in_run -= job.run;
                runs++;
            }
        }
        return count;
    }

    /* Which of the statistics lane j has. */
    __device__ int64_t statistic(const channel_norm &job, int j) const
    {
        return body * job.groups + (int)(channel + (job.side_by_side ? j : 0)) / (int)job.width;
    }

    __device__ int64_t lane_channel(const channel_norm &job, int j) const
    {
        return channel + (job.side_by_side ? j : 0);
    }
};

/* The threads' lanes of the same channels, joined in an order of their own: the first row of threads has the result. */
template <class L> __device__ inline void join_block(const channel_norm &job, L &lanes)
{
    __shared__ L all[THREADS];
    all[threadIdx.x] = lanes;
    for (unsigned half = job.rows / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half * job.columns) all[threadIdx.x].join(all[threadIdx.x + half * job.columns]);
    }
    lanes = all[threadIdx.x];
}

/* Where the first row of threads puts the sums of its unit. */
template <class U> __device__ inline U *unit_at(const channel_norm &job, const visitor &v)
{
    return (U *)job.units + blockIdx.x / job.tiles * job.channels + v.channel;
}

/* ---- moments ------------------------------------------------------------------- */

/* Count, mean and sum of squared differences from it. */
struct channel_moments {
    double n, mean, squares;

    /* T. F. Chan, G. H. Golub, R. J. LeVeque: Updating formulae and a pairwise algorithm for computing sample variances.
     * 1979. */
    __device__ void join(const channel_moments &other)
    {
        if (other.n == 0) return;
        double part = other.n / (n + other.n), apart = other.mean - mean;
        mean += apart * part;
        squares += other.squares + apart * apart * n * part;
        n += other.n;
    }
};

/* The same for N lanes with one count. */
template <int N> struct moment_lanes {
    double n, mean[N], squares[N];

    __device__ void join(const moment_lanes &other)
    {
        if (other.n == 0) return;
        double part = other.n / (n + other.n);
#pragma unroll
        for (int j = 0; j < N; j++) add(j, other.mean[j], other.squares[j], part);
        n += other.n;
    }

    /* part: of all elements, those of the other side. */
    __device__ void add(int j, double other_mean, double other_squares, double part)
    {
        double apart = other_mean - mean[j];
        mean[j] += apart * part;
        squares[j] += other_squares + apart * apart * n * part;
    }
};

template <class T, int N> __global__ void __launch_bounds__(THREADS) moments_kernel(channel_norm job)
{
    using R = real_of<T>;
    visitor v = visitor::of<N>(job);
    moment_lanes<N> lanes = {};
    int64_t at[BATCH];

    while (int count = v.take<N>(job, at)) {
        neighbours<T, N> x[BATCH];
        double part = count / (lanes.n + count);
#pragma unroll
        for (int k = 0; k < BATCH; k++)
            if (k < count) x[k] = *(const neighbours<T, N> *)((const T *)job.x + at[k]);
#pragma unroll
        for (int j = 0; j < N; j++) {
            R mean = 0, squares = 0;
#pragma unroll
            for (int k = 0; k < BATCH; k++) mean += k < count ? widen(x[k].at[j]) : R(0);
            mean /= (R)count;
#pragma unroll
            for (int k = 0; k < BATCH; k++) {
                R apart = k < count ? widen(x[k].at[j]) - mean : R(0);
                squares += apart * apart;
            }
            lanes.add(j, mean, squares, part);
        }
        lanes.n += count;
    }
    join_block(job, lanes);
    if (threadIdx.x >= job.columns || v.channel >= job.channels) return;
    channel_moments *to = unit_at<channel_moments>(job, v);
    channel_moments first = {lanes.n, lanes.mean[0], lanes.squares[0]};
    for (int j = 1; j < N; j++) {
        channel_moments lane = {lanes.n, lanes.mean[j], lanes.squares[j]};
        if (job.side_by_side)
            to[j] = lane;
        else
            first.join(lane);
    }
    to[0] = first;
}

/* Item `item` of a statistic: one of its channels in one of its pieces. */
__device__ inline int64_t unit_of(const channel_norm &job, int64_t statistic, int64_t item)
{
    int64_t body = statistic / job.groups, group = statistic % job.groups;
    return (body * job.pieces + item / job.width) * job.channels + group * job.width + item % job.width;
}

/* Running statistics take in those of a batch of `count` elements. */
__device__ inline void mix_running(const floats &running_mean, const floats &running_var, int64_t c,
                                   double momentum, double mean, double squares, double count)
{
    double old_mean = float_at(running_mean, c, 0.0), old_var = float_at(running_var, c, 0.0);
    put_float(running_mean, c, (1 - momentum) * old_mean + momentum * mean, false);
    put_float(running_var, c, (1 - momentum) * old_var + momentum * (squares / (count - 1)), false);
}

/* A warp a statistic. Batch norm in training mixes the running ones. */
template <class R>
__global__ void finish_moments_kernel(channel_norm job, floats running_mean, floats running_var,
                                      double momentum)
{
    int64_t i = (int64_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
    channel_moments all = {};

    if (i >= job.bodies * job.groups) return;
    for (int64_t item = threadIdx.x % 32; item < job.width * job.pieces; item += 32)
        all.join(((const channel_moments *)job.units)[unit_of(job, i, item)]);
    for (int step = 16; step > 0; step /= 2) {
        channel_moments other = {__shfl_down_sync(0xffffffffu, all.n, step),
                                 __shfl_down_sync(0xffffffffu, all.mean, step),
                                 __shfl_down_sync(0xffffffffu, all.squares, step)};
        all.join(other);
    }
    if (threadIdx.x % 32) return;
    ((R *)job.mean)[i] = (R)all.mean;
    ((R *)job.rstd)[i] = (R)(1 / sqrt(all.squares / all.n + job.eps));
    if (running_mean.data) mix_running(running_mean, running_var, i, momentum, all.mean, all.squares, all.n);
}

/* The same where cuDNN made the statistics, of which mean and rstd are left: what the variance loses by that is a rounding
 * of the sum of it and eps. */
__global__ void take_statistics_kernel(const float *mean, const float *rstd, int64_t channels, double count,
                                       floats running_mean, floats running_var, double momentum, double eps)
{
    for (int64_t c = first_element(); c < channels; c += grid_stride()) {
        double root = rstd[c], var = 1 / (root * root) - eps;
        mix_running(running_mean, running_var, c, momentum, mean[c], var < 0 ? 0 : var * count, count);
    }
}

/* Batch norm when it does not train. */
template <class R>
__global__ void take_running_kernel(channel_norm job, floats running_mean, floats running_var)
{
    for (int64_t c = first_element(); c < job.channels; c += grid_stride()) {
        ((R *)job.mean)[c] = (R)float_at(running_mean, c, 0.0);
        ((R *)job.rstd)[c] = (R)(1 / sqrt(float_at(running_var, c, 0.0) + job.eps));
    }
}

/* ---- sums of gradients --------------------------------------------------------- */

/* Of gy and of gy xhat. */
struct channel_sums {
    double plain, scaled;
};

template <int N> struct sum_lanes {
    double plain[N], scaled[N];

    __device__ void join(const sum_lanes &other)
    {
#pragma unroll
        for (int j = 0; j < N; j++) {
            plain[j] += other.plain[j];
            scaled[j] += other.scaled[j];
        }
    }
};

template <class T, int N> __global__ void __launch_bounds__(THREADS) sums_kernel(channel_norm job)
{
    using R = real_of<T>;
    visitor v = visitor::of<N>(job);
    sum_lanes<N> lanes = {};
    R mean[N];
    int64_t at[BATCH];

#pragma unroll
    for (int j = 0; j < N; j++) mean[j] = v.end ? ((const R *)job.mean)[v.statistic(job, j)] : R(0);
    while (int count = v.take<N>(job, at)) {
        neighbours<T, N> x[BATCH], gy[BATCH];
#pragma unroll
        for (int k = 0; k < BATCH; k++) {
            if (k >= count) break;
            x[k] = *(const neighbours<T, N> *)((const T *)job.x + at[k]);
            gy[k] = *(const neighbours<T, N> *)((const T *)job.gy + at[k]);
        }
#pragma unroll
        for (int j = 0; j < N; j++) {
            R plain = 0, scaled = 0;
#pragma unroll
            for (int k = 0; k < BATCH; k++) {
                if (k >= count) break;
                plain += widen(gy[k].at[j]);
                scaled += widen(gy[k].at[j]) * (widen(x[k].at[j]) - mean[j]);
            }
            lanes.plain[j] += plain;
            lanes.scaled[j] += scaled;
        }
    }
    join_block(job, lanes);
    if (threadIdx.x >= job.columns || v.channel >= job.channels) return;
    channel_sums *to = unit_at<channel_sums>(job, v), first = {};
    for (int j = 0; j < N; j++) {
        double scaled = lanes.scaled[j] * ((const R *)job.rstd)[v.statistic(job, j)];
        if (job.side_by_side) to[j] = channel_sums{lanes.plain[j], scaled};
        first.plain += lanes.plain[j];
        first.scaled += scaled;
    }
    if (!job.side_by_side) to[0] = first;
}

/* A warp for each channel, which makes gw and gb of it, then one for each statistic, which makes totals of w gy and
 * w gy xhat. */
template <class R> __global__ void finish_sums_kernel(channel_norm job, floats gw, floats gb, int add)
{
    int64_t i = (int64_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
    bool parameters = i < job.channels;
    int64_t statistic = i - job.channels, units = job.bodies * job.pieces;
    channel_sums all = {};

    if (i >= job.channels + job.bodies * job.groups) return;
    for (int64_t item = threadIdx.x % 32; item < (parameters ? units : job.width * job.pieces); item += 32) {
        int64_t unit = parameters ? item * job.channels + i : unit_of(job, statistic, item);
        channel_sums sums = ((const channel_sums *)job.units)[unit];
        double w = parameters ? 1 : float_at(job.w, unit % job.channels, 1.0);
        all.plain += w * sums.plain;
        all.scaled += w * sums.scaled;
    }
    all.plain = warp_reduce(all.plain, sum_of());
    all.scaled = warp_reduce(all.scaled, sum_of());
    if (threadIdx.x % 32) return;
    if (!parameters) {
        job.totals[statistic] = all;
        return;
    }
    if (gw.data) put_float(gw, i, (R)all.scaled, add & 1);
    if (gb.data) put_float(gb, i, (R)all.plain, add >> 1 & 1);
}

/* ---- the pass that writes: result = gy a + ((x - mean) b + shift) ------------ */

/* Forward: b = rstd w, shift = bias. Backward: gx = rstd (w gy - mean(w gy) - xhat mean(w gy xhat)), the means being over
 * what shares the statistic. */
template <bool BACKWARD, class R>
__device__ inline void factors(const channel_norm &job, int64_t statistic, int64_t channel, R *a, R *b,
                               R *shift)
{
    R rstd = ((const R *)job.rstd)[statistic], w = float_at(job.w, channel, R(1));
    *a = *b = rstd * w;
    if constexpr (!BACKWARD) {
        *shift = float_at(job.b, channel, R(0));
        return;
    }
    *b = *shift = 0;
    if (job.fixed) return;
    double scale = rstd / job.count;
    channel_sums total = job.totals[statistic];
    *shift = (R)(-scale * total.plain);
    *b = (R)(-scale * total.scaled * rstd);
}

template <class T, int N, bool BACKWARD>
__global__ void __launch_bounds__(THREADS, 2) write_kernel(channel_norm job)
{
    using R = real_of<T>;
    using P = neighbours<T, N>;
    visitor v = visitor::of<N>(job);
    R mean[N], a[N], b[N], shift[N];
    int64_t at[BATCH];

    if (!v.end) return;
#pragma unroll
    for (int j = 0; j < N; j++) {
        mean[j] = ((const R *)job.mean)[v.statistic(job, j)];
        factors<BACKWARD>(job, v.statistic(job, j), v.lane_channel(job, j), &a[j], &b[j], &shift[j]);
    }
    while (int count = v.take<N>(job, at)) {
        P x[BATCH], gy[BATCH];
#pragma unroll
        for (int k = 0; k < BATCH; k++) {
            if (k >= count) break;
            x[k] = *(const P *)((const T *)job.x + at[k]);
            if (BACKWARD) gy[k] = *(const P *)((const T *)job.gy + at[k]);
        }
#pragma unroll
        for (int k = 0; k < BATCH; k++) {
            if (k >= count) break;
            P *to = (P *)((T *)job.y + at[k]), result;
            if (job.add) result = *to;
#pragma unroll
            for (int j = 0; j < N; j++) {
                R value = (widen(x[k].at[j]) - mean[j]) * b[j] + shift[j];
                if (BACKWARD) value += widen(gy[k].at[j]) * a[j];
                result.at[j] = light::to<T>(job.add ? widen(result.at[j]) + value : value);
            }
            *to = result;
        }
    }
}

/* ---- launches ------------------------------------------------------------------ */

/* How work is shared out; `groups` 0 is batch norm. */
static channel_norm channels_of(const light_device *device, const light_tensor *x, int64_t groups, int lanes)
{
    channel_norm job = {};
    int64_t images = x->shape[0], channels = x->shape[1], pixels = x->numel / images / channels;
    int64_t busy = (int64_t)state_of(device)->sm_count * 8, packs;

    job.side_by_side = channels > 1 && (pixels == 1 || !x->contiguous);
    job.channels = channels;
    job.groups = groups ? groups : channels;
    job.width = channels / job.groups;
    job.bodies = groups ? images : 1;
    job.count = (double)(pixels * (groups ? job.width : images));
    job.body = channels * pixels;
    job.channel = job.side_by_side ? 1 : pixels;
    job.run = job.side_by_side ? 1 : pixels / lanes;
    job.jump = job.side_by_side ? channels : channels * pixels;
    job.visits = (job.side_by_side ? pixels : job.run) * (groups ? 1 : images);
    packs = job.side_by_side ? channels / lanes : channels;
    for (job.columns = 1; job.side_by_side && job.columns < 32 && job.columns < packs;) job.columns *= 2;
    for (job.rows = THREADS / job.columns; job.rows > 1 && job.rows / 2 >= job.visits;) job.rows /= 2;
    job.tiles = (packs + job.columns - 1) / job.columns;
    job.step_runs = job.rows / job.run;
    job.step_rest = job.rows % job.run;
    job.pieces = busy / (job.tiles * job.bodies);
    int64_t most = job.visits / (job.rows * BATCH);
    if (job.pieces > most) job.pieces = most;
    if (job.pieces < 1) job.pieces = 1;
    job.piece = (job.visits + job.pieces - 1) / job.pieces;
    job.pieces = (job.visits + job.piece - 1) / job.piece;
    return job;
}

template <class T> static int lanes_of(const light_tensor *x, const light_tensor *gy, const light_tensor *y)
{
    int64_t channels = x->shape[1], pixels = x->numel / x->shape[0] / channels;
    bool side_by_side = channels > 1 && (pixels == 1 || !x->contiguous);
    bool fits = (side_by_side ? channels : pixels) % pack<T>::size == 0 && packs_fit(x->data) &&
                (!gy || packs_fit(gy->data)) && (!y || packs_fit(y->data));
    return fits ? (int)pack<T>::size : 1;
}

static light_status launch_units(const light_device *device, void (*kernel)(channel_norm),
                                 const channel_norm &job)
{
    return launch(device, kernel, (unsigned)(job.bodies * job.pieces * job.tiles), job.columns * job.rows, 0,
                  job);
}

/* A warp for each of n. */
static unsigned warp_blocks(int64_t n)
{
    return (unsigned)((n + THREADS / 32 - 1) / (THREADS / 32));
}

template <class T>
static light_status run_forward(const light_kernel_args *args, int64_t groups, double eps,
                                const light_batch_norm_attrs *batch)
{
    using R = real_of<T>;
    constexpr int N = pack<T>::size;
    const light_device *device = args->device;
    const light_tensor *x = args->in[0];
    floats running_mean = floats_of(batch ? args->in[3] : NULL),
           running_var = floats_of(batch ? args->in[4] : NULL);
    int lanes = lanes_of<T>(x, NULL, args->out[0]);
    channel_norm job = channels_of(device, x, groups, lanes);

    job.x = x->data;
    job.w = floats_of(args->in[1]);
    job.b = floats_of(args->in[2]);
    job.y = args->out[0]->data;
    job.mean = args->out[1]->data;
    job.rstd = args->out[2]->data;
    job.eps = eps;
    if (batch && !batch->training) {
        LIGHT_TRY(launch(device, take_running_kernel<R>, blocks_for(device, job.channels, THREADS), THREADS,
                         0, job, running_mean, running_var));
    } else {
        size_t bytes = (size_t)(job.bodies * job.pieces * job.channels) * sizeof(channel_moments);
        LIGHT_TRY(scratch(device, bytes, &job.units));
        LIGHT_TRY(launch_units(device, lanes > 1 ? moments_kernel<T, N> : moments_kernel<T, 1>, job));
        LIGHT_TRY(launch(device, finish_moments_kernel<R>, warp_blocks(job.bodies * job.groups), THREADS, 0,
                         job, running_mean, running_var, batch ? batch->momentum : 0));
    }
    return launch_units(device, lanes > 1 ? write_kernel<T, N, false> : write_kernel<T, 1, false>, job);
}

template <class T> static light_status run_backward(const light_kernel_args *args, int64_t groups, bool fixed)
{
    using R = real_of<T>;
    constexpr int N = pack<T>::size;
    const light_device *device = args->device;
    const light_tensor *gy = args->in[0], *x = args->in[1];
    floats gw = floats_of(args->out[1]), gb = floats_of(args->out[2]);
    int lanes = lanes_of<T>(x, gy, args->out[0]);
    channel_norm job = channels_of(device, x, groups, lanes);
    int64_t units = job.bodies * job.pieces * job.channels, statistics = job.bodies * job.groups;

    job.x = x->data;
    job.gy = gy->data;
    job.w = floats_of(args->in[2]);
    job.mean = args->in[3]->data;
    job.rstd = args->in[4]->data;
    job.fixed = fixed;
    job.add = args->accumulate & 1;
    if (!fixed || gw.data || gb.data) {
        LIGHT_TRY(scratch(device, (size_t)(units + statistics) * sizeof(channel_sums), &job.units));
        job.totals = (channel_sums *)job.units + units;
        LIGHT_TRY(launch_units(device, lanes > 1 ? sums_kernel<T, N> : sums_kernel<T, 1>, job));
        LIGHT_TRY(launch(device, finish_sums_kernel<R>, warp_blocks(job.channels + statistics), THREADS, 0,
                         job, gw, gb, (int)(args->accumulate >> 1)));
    }
    if (!args->out[0]) return LIGHT_OK;
    job.y = args->out[0]->data;
    return launch_units(device, lanes > 1 ? write_kernel<T, N, true> : write_kernel<T, 1, true>, job);
}

/* What cuDNN's batch norm leaves to do. */
static light_status take_statistics(const light_kernel_args *args, const light_batch_norm_attrs *attrs)
{
    const light_tensor *x = args->in[0];
    const int64_t channels = x->shape[1];
    if (!args->in[3]) return LIGHT_OK;
    return launch(args->device, take_statistics_kernel, blocks_for(args->device, channels, THREADS), THREADS,
                  0, (const float *)args->out[1]->data, (const float *)args->out[2]->data, channels,
                  (double)(x->numel / channels), floats_of(args->in[3]), floats_of(args->in[4]),
                  attrs->momentum, (double)(float)attrs->eps); /* as cuDNN had it */
}

static light_status batch_norm(const light_kernel_args *args)
{
    const light_batch_norm_attrs *attrs = (const light_batch_norm_attrs *)args->attrs;
    bool done = false;
    if (attrs->training) LIGHT_TRY(library_batch_norm(args, &done));
    if (done) return take_statistics(args, attrs);
    return by_float(args->in[0]->dtype,
                    [&](auto type) { return run_forward<decltype(type)>(args, 0, attrs->eps, attrs); });
}

static light_status group_norm(const light_kernel_args *args)
{
    const light_group_norm_attrs *attrs = (const light_group_norm_attrs *)args->attrs;
    return by_float(args->in[0]->dtype, [&](auto type) {
        return run_forward<decltype(type)>(args, attrs->groups, attrs->eps, NULL);
    });
}

static light_status batch_norm_backward(const light_kernel_args *args)
{
    const light_batch_norm_attrs *attrs = (const light_batch_norm_attrs *)args->attrs;
    bool done = false;
    if (attrs->training) LIGHT_TRY(library_batch_norm_backward(args, &done));
    if (done) return LIGHT_OK;
    return by_float(args->in[1]->dtype,
                    [&](auto type) { return run_backward<decltype(type)>(args, 0, !attrs->training); });
}

static light_status group_norm_backward(const light_kernel_args *args)
{
    const light_group_norm_attrs *attrs = (const light_group_norm_attrs *)args->attrs;
    return by_float(args->in[1]->dtype,
                    [&](auto type) { return run_backward<decltype(type)>(args, attrs->groups, false); });
}

extern const kernel_entry norm_channels_kernels[] = {
    {LIGHT_KERNEL_BATCH_NORM, batch_norm},
    {LIGHT_KERNEL_BATCH_NORM_BACKWARD, batch_norm_backward},
    {LIGHT_KERNEL_GROUP_NORM, group_norm},
    {LIGHT_KERNEL_GROUP_NORM_BACKWARD, group_norm_backward},
    {LIGHT_KERNEL_COUNT, NULL},
};

} // namespace light
