/* SPDX-License-Identifier: Apache-2.0 */
/* Layer norm and RMS norm of rows. A norm without a mean, RMS norm, has `mean` NULL.
 *
 * A warp has a short row, a block a longer one. Its threads keep their shares in registers, so that memory is read once
 * and the variance loses nothing to cancellation; of rows longer than that (4096 elements in f32) the rest is read again,
 * from the cache. Forward moves x and y, backward gy, x and gx. */
#include "cuda/block.cuh"
#include "cuda/floats.cuh"
#include "cuda/walk.cuh"

namespace light
{

enum { THREADS = 256, WARPS = THREADS / 32, HELD = 4 /* packs a thread keeps of each array */ };

struct row_norm {
    const void *x, *gy;
    void *y; /* or gx, which may be NULL */
    void *mean, *rstd;
    floats w, b;
    int64_t rows, n;
    double eps;
    bool add;
    void *parts; /* [blocks, 2, n]: what the blocks' rows send to gw and gb */
};

/* ---- a thread's share of a row ------------------------------------------- */

/* Packs first, first + step, .. of the same row of A arrays. */
template <class T, int N, int A> struct share {
    using pack_type = neighbours<T, N>;
    const pack_type *row[A];
    int64_t packs;
    int first, step;
    pack_type held[A][HELD];

    __device__ void load()
    {
#pragma unroll
        for (int k = 0; k < HELD; k++)
#pragma unroll
            for (int a = 0; a < A; a++)
                if (first + k * step < packs) held[a][k] = row[a][first + k * step];
    }

    /* f(packs, number of the pack in the row, k): pack k of this thread. */
    template <class F> __device__ void each(F f) const
    {
        pack_type values[A];
#pragma unroll
        for (int k = 0; k < HELD; k++) {
#pragma unroll
            for (int a = 0; a < A; a++) values[a] = held[a][k];
            if (first + k * step < packs) f(values, first + k * step, k);
        }
        for (int64_t i = first + HELD * step; i < packs; i += step) {
#pragma unroll
            for (int a = 0; a < A; a++) values[a] = row[a][i];
            f(values, i, HELD);
        }
    }
};

template <class T, int N, bool BLOCK, class... X>
__device__ inline share<T, N, (int)sizeof...(X)> share_of(const row_norm &job, int64_t row, X... arrays)
{
    share<T, N, (int)sizeof...(X)> s;
    const void *all[] = {arrays...};
    s.packs = job.n / N;
    s.first = BLOCK ? threadIdx.x : threadIdx.x % 32;
    s.step = BLOCK ? blockDim.x : 32;
    for (int a = 0; a < (int)sizeof...(X); a++) s.row[a] = (const neighbours<T, N> *)all[a] + row * s.packs;
    return s;
}

template <bool BLOCK> __device__ inline int64_t first_row()
{
    return BLOCK ? blockIdx.x : (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
}

template <bool BLOCK> __device__ inline int64_t row_step()
{
    return (int64_t)gridDim.x * (BLOCK ? 1 : WARPS);
}

/* Over all threads of a row. */
template <bool BLOCK, class R> __device__ inline R row_sum(R x, R *room)
{
    if constexpr (BLOCK) return block_reduce(x, sum_of(), R(0), room);
    return warp_reduce(x, sum_of());
}

/* ---- forward ----------------------------------------------------------------- */

template <class T, int N, bool BLOCK> __global__ void __launch_bounds__(THREADS) row_norm_kernel(row_norm job)
{
    using R = real_of<T>;
    using P = const neighbours<T, N>(&)[1];
    __shared__ R room[32];
    R *means = (R *)job.mean, *rstds = (R *)job.rstd;

    for (int64_t row = first_row<BLOCK>(); row < job.rows; row += row_step<BLOCK>()) {
        share<T, N, 1> x = share_of<T, N, BLOCK>(job, row, job.x);
        neighbours<T, N> *y = (neighbours<T, N> *)job.y + row * x.packs;
        R mean = 0, sum = 0, squares = 0;
        x.load();
        if (means) {
            x.each([&](P v, int64_t, int) {
#pragma unroll
                for (int j = 0; j < N; j++) sum += widen(v[0].at[j]);
            });
            mean = row_sum<BLOCK>(sum, room) / (R)job.n;
        }
        x.each([&](P v, int64_t, int) {
#pragma unroll
            for (int j = 0; j < N; j++) {
                R apart = widen(v[0].at[j]) - mean;
                squares += apart * apart;
            }
        });
        R rstd = R(1) / sqrt(row_sum<BLOCK>(squares, room) / (R)job.n + (R)job.eps);
        if (x.first == 0) {
            if (means) means[row] = mean;
            rstds[row] = rstd;
        }
        x.each([&](P v, int64_t i, int) {
            R w[N], b[N];
            neighbours<T, N> result;
            load_or(job.w, i * N, R(1), w);
            load_or(job.b, i * N, R(0), b);
#pragma unroll
            for (int j = 0; j < N; j++) result.at[j] = to<T>((widen(v[0].at[j]) - mean) * rstd * w[j] + b[j]);
            y[i] = result;
        });
    }
}

/* ---- backward: rows ------------------------------------------------------- */

/* The threads' sums for gw and gb, by place in the row, as one part: of a block whose threads have places of their own,
 * or of warps that all go through the same places and are added in order. */
template <int N, bool BLOCK, class R>
__device__ inline void store_part(const row_norm &job, const R (&gw)[HELD * N], const R (&gb)[HELD * N],
                                  int first, int step)
{
    __shared__ R sums[BLOCK ? 1 : 2][BLOCK ? 1 : 32 * HELD * N];
    R *part = (R *)job.parts + (int64_t)blockIdx.x * 2 * job.n;
    int n = (int)job.n, warp = threadIdx.x / 32;

#pragma unroll 1
    for (int turn = 0; turn < (BLOCK ? 1 : WARPS); turn++) {
        R *to_w = BLOCK ? part : sums[0], *to_b = BLOCK ? part + n : sums[BLOCK ? 0 : 1];
        if (BLOCK || warp == turn) {
#pragma unroll
            for (int k = 0; k < HELD * N; k++) {
                int place = (first + k / N * step) * N + k % N;
                if (place < n) to_w[place] = turn ? to_w[place] + gw[k] : gw[k];
                if (place < n) to_b[place] = turn ? to_b[place] + gb[k] : gb[k];
            }
        }
        __syncthreads();
    }
    for (int i = threadIdx.x; !BLOCK && i < 2 * n; i += THREADS) part[i] = sums[i / n][i % n];
}

/* gx = rstd (h - mean(h) - xhat mean(h xhat)), h = gy w; without a mean the middle term is absent. SUMS: what goes to gw
 * and gb is summed on the way, of rows that are held whole. */
template <class T, int N, bool BLOCK, bool SUMS>
__global__ void __launch_bounds__(THREADS, 1) row_backward_kernel(row_norm job)
{
    using R = real_of<T>;
    using P = const neighbours<T, N>(&)[2];
    __shared__ R room[32];
    const R *means = (const R *)job.mean, *rstds = (const R *)job.rstd;
    R gw[HELD * N] = {}, gb[HELD * N] = {};

    for (int64_t row = first_row<BLOCK>(); row < job.rows; row += row_step<BLOCK>()) {
        share<T, N, 2> both = share_of<T, N, BLOCK>(job, row, job.x, job.gy);
        neighbours<T, N> *gx = (neighbours<T, N> *)job.y + row * both.packs;
        R mean = means ? means[row] : R(0), rstd = rstds[row], plain = 0, scaled = 0;
        both.load();
        both.each([&](P v, int64_t i, int k) {
            R w[N];
            load_or(job.w, i * N, R(1), w);
#pragma unroll
            for (int j = 0; j < N; j++) {
                R g = widen(v[1].at[j]), xhat = (widen(v[0].at[j]) - mean) * rstd;
                R h = g * w[j];
                plain += h;
                scaled += h * xhat;
                if constexpr (SUMS) {
                    gw[k % HELD * N + j] += g * xhat;
                    gb[k % HELD * N + j] += g;
                }
            }
        });
        if (!job.y) continue;
        plain = means ? row_sum<BLOCK>(plain, room) / (R)job.n : R(0);
        scaled = row_sum<BLOCK>(scaled, room) / (R)job.n;
        both.each([&](P v, int64_t i, int) {
            R w[N];
            neighbours<T, N> result;
            load_or(job.w, i * N, R(1), w);
            if (job.add) result = gx[i];
#pragma unroll
            for (int j = 0; j < N; j++) {
                R g = widen(v[1].at[j]), h = g * w[j];
                R value = rstd * (h - plain - (widen(v[0].at[j]) - mean) * rstd * scaled);
                result.at[j] = to<T>(job.add ? widen(result.at[j]) + value : value);
            }
            gx[i] = result;
        });
    }
    if constexpr (SUMS) {
        if (job.parts)
            store_part<N, BLOCK>(job, gw, gb, BLOCK ? threadIdx.x : threadIdx.x % 32,
                                 BLOCK ? blockDim.x : 32);
    }
}

/* ---- backward: columns ---------------------------------------------------- */

/* Adds up what WARPS threads have for each of 32 columns; the first of them get it. */
template <class R> __device__ inline R column_sum(R x)
{
    __shared__ R room[WARPS][32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    R sum = 0;

    __syncthreads();
    room[warp][lane] = x;
    __syncthreads();
    if (warp == 0)
        for (int i = 0; i < WARPS; i++) sum += room[i][lane];
    return sum;
}

/* The parts of gw and gb where rows are too long for the kernel above: block (tile, chunk) has 32 columns of some rows. */
template <class T> __global__ void row_columns_kernel(row_norm job, int64_t chunk_rows)
{
    using R = real_of<T>;
    const T *x = (const T *)job.x, *gy = (const T *)job.gy;
    const R *means = (const R *)job.mean, *rstds = (const R *)job.rstd;
    int64_t tiles = (job.n + 31) / 32, chunk = blockIdx.x / tiles;
    int64_t column = blockIdx.x % tiles * 32 + threadIdx.x % 32;
    int64_t end = (chunk + 1) * chunk_rows < job.rows ? (chunk + 1) * chunk_rows : job.rows;
    R gw = 0, gb = 0;

    if (column < job.n)
        for (int64_t row = chunk * chunk_rows + threadIdx.x / 32; row < end; row += WARPS) {
            R g = widen(gy[row * job.n + column]);
            gw += g * ((widen(x[row * job.n + column]) - (means ? means[row] : R(0))) * rstds[row]);
            gb += g;
        }
    gw = column_sum(gw);
    gb = column_sum(gb);
    if (threadIdx.x >= 32 || column >= job.n) return;
    R *part = (R *)job.parts + chunk * 2 * job.n;
    part[column] = gw;
    part[job.n + column] = gb;
}

/* Adds the parts up in their order: blockIdx.y 0 for gw, 1 for gb. */
template <class R>
__global__ void join_parts_kernel(const R *parts, int64_t count, int64_t n, floats gw, floats gb, int add)
{
    int64_t column = (int64_t)blockIdx.x * 32 + threadIdx.x % 32, which = blockIdx.y;
    floats g = which ? gb : gw;
    R sum = 0;

    if (!g.data) return;
    if (column < n)
        for (int64_t i = threadIdx.x / 32; i < count; i += WARPS) sum += parts[(2 * i + which) * n + column];
    sum = column_sum(sum);
    if (threadIdx.x < 32 && column < n) put_float(g, column, sum, add >> which & 1);
}

/* ---- launches -------------------------------------------------------------- */

/* How rows are shared out. */
struct row_plan {
    bool packed; /* in packs of 16 bytes, else by element */
    bool block;  /* a block a row, else a warp */
    bool whole;  /* rows are held whole */
    int threads;
    int64_t blocks;
};

template <class T> static row_plan plan_rows(const light_device *device, const row_norm &job, bool backward)
{
    row_plan p = {};
    p.packed = job.n % pack<T>::size == 0 && packs_fit(job.x) && packs_fit(job.gy) && packs_fit(job.y) &&
               packs_fit(job.w) && packs_fit(job.b);
    int64_t packs = p.packed ? job.n / pack<T>::size : job.n, share = (packs + HELD - 1) / HELD;
    p.block = share > 32;
    p.whole = share <= THREADS;
    p.threads = p.block && share < THREADS ? (int)((share + 31) / 32 * 32) : THREADS;
    p.blocks = blocks_for(device, job.rows, p.block ? 1 : WARPS);
    /* Each block of the backward pass leaves a part: no more of them than keep the device busy. */
    int64_t most = (int64_t)state_of(device)->sm_count * 2 * (THREADS / p.threads);
    if (backward && p.blocks > most) p.blocks = most;
    return p;
}

template <class T> static light_status run_forward(const light_device *device, const row_norm &job)
{
    row_plan p = plan_rows<T>(device, job, false);
    constexpr int N = pack<T>::size;
    auto kernel = p.packed  ? p.block ? row_norm_kernel<T, N, true> : row_norm_kernel<T, N, false>
                   : p.block ? row_norm_kernel<T, 1, true>
                            : row_norm_kernel<T, 1, false>;
    return launch(device, kernel, (unsigned)p.blocks, p.threads, 0, job);
}

template <class T, int N>
static light_status run_rows_backward(const light_device *device, const row_norm &job, const row_plan &p)
{
    auto kernel = !p.block  ? row_backward_kernel<T, N, false, true>
                  : p.whole ? row_backward_kernel<T, N, true, true>
                            : row_backward_kernel<T, N, true, false>;
    return launch(device, kernel, (unsigned)p.blocks, p.threads, 0, job);
}

template <class T>
static light_status run_backward(const light_device *device, row_norm job, floats gw, floats gb, int add)
{
    using R = real_of<T>;
    row_plan p = plan_rows<T>(device, job, true);
    bool sums = gw.data || gb.data;
    int64_t tiles = (job.n + 31) / 32, parts = p.blocks, chunk_rows = 0;

    if (!p.whole) {
        parts = blocks_for(device, job.rows, 64 * tiles);
        chunk_rows = (job.rows + parts - 1) / parts;
        parts = (job.rows + chunk_rows - 1) / chunk_rows;
    }
    if (sums) LIGHT_TRY(scratch(device, (size_t)(parts * 2 * job.n) * sizeof(R), &job.parts));
    if (job.y || p.whole)
        LIGHT_TRY((p.packed ? run_rows_backward<T, pack<T>::size>(device, job, p)
                            : run_rows_backward<T, 1>(device, job, p)));
    if (!sums) return LIGHT_OK;
    if (!p.whole)
        LIGHT_TRY(
            launch(device, row_columns_kernel<T>, (unsigned)(parts * tiles), THREADS, 0, job, chunk_rows));
    return launch(device, join_parts_kernel<R>, dim3((unsigned)tiles, 2), THREADS, 0, (const R *)job.parts,
                  parts, job.n, gw, gb, add);
}

static row_norm rows_of(const light_kernel_args *args, const light_tensor *x)
{
    const light_norm_attrs *attrs = (const light_norm_attrs *)args->attrs;
    row_norm job = {};
    job.x = x->data;
    job.rows = x->numel / attrs->n;
    job.n = attrs->n;
    job.eps = attrs->eps;
    return job;
}

static light_status forward(const light_kernel_args *args, const light_tensor *b, light_tensor *mean,
                            light_tensor *rstd)
{
    const light_tensor *x = args->in[0];
    row_norm job = rows_of(args, x);
    job.w = floats_of(args->in[1]);
    job.b = floats_of(b);
    job.y = args->out[0]->data;
    job.mean = mean ? mean->data : NULL;
    job.rstd = rstd->data;
    return by_float(x->dtype, [&](auto type) { return run_forward<decltype(type)>(args->device, job); });
}

static light_status layer_norm(const light_kernel_args *args)
{
    return forward(args, args->in[2], args->out[1], args->out[2]);
}

static light_status rms_norm(const light_kernel_args *args)
{
    return forward(args, NULL, NULL, args->out[1]);
}

static light_status backward(const light_kernel_args *args, const light_tensor *mean,
                             const light_tensor *rstd, light_tensor *gb)
{
    const light_tensor *x = args->in[1];
    row_norm job = rows_of(args, x);
    job.gy = args->in[0]->data;
    job.w = floats_of(args->in[2]);
    job.mean = mean ? mean->data : NULL;
    job.rstd = rstd->data;
    job.y = args->out[0] ? args->out[0]->data : NULL;
    job.add = args->accumulate & 1;
    return by_float(x->dtype, [&](auto type) {
        return run_backward<decltype(type)>(args->device, job, floats_of(args->out[1]), floats_of(gb),
                                            (int)(args->accumulate >> 1));
    });
}

static light_status layer_norm_backward(const light_kernel_args *args)
{
    return backward(args, args->in[3], args->in[4], args->out[2]);
}

static light_status rms_norm_backward(const light_kernel_args *args)
{
    return backward(args, NULL, args->in[3], NULL);
}

extern const kernel_entry norm_rows_kernels[] = {
    {LIGHT_KERNEL_LAYER_NORM, layer_norm},
    {LIGHT_KERNEL_LAYER_NORM_BACKWARD, layer_norm_backward},
    {LIGHT_KERNEL_RMS_NORM, rms_norm},
    {LIGHT_KERNEL_RMS_NORM_BACKWARD, rms_norm_backward},
    {LIGHT_KERNEL_COUNT, NULL},
};

} // namespace light
