/* SPDX-License-Identifier: Apache-2.0 */
/* Scaled dot product attention for all dtypes, head sizes and strides, and the gradient of a mask; what tensor cores can
 * do goes to attention_mma.cu.
 *
 * T. Dao: FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning. 2023. A block of 16 x 16
 * threads makes scores tile by tile and never writes them to memory. A thread has a square of each tile: 4 x 4 elements
 * in float, 2 x 2 in double, which is what 16 bytes hold. d is worked off in pieces as wide as a tile, so that two tiles
 * of shared memory do for any d; results stay in registers, at most 256 columns of them, and wider heads go to several
 * blocks that make the scores anew. Gradients of queries and of keys come from kernels of their own, each of which owns
 * what it sums, in a fixed order. */
#include "cuda/attention.cuh"

#include "cuda/block.cuh"
#include "cuda/math.cuh"
#include "cuda/vendor/cudnn.h"

#include <type_traits>

namespace light
{

enum { SIDE = 16, THREADS = SIDE * SIDE };

/* ---- tiles ------------------------------------------------------------------- */

/* A tile in shared memory. A row is 16 bytes longer than its elements, which spreads rows over the banks. */
template <class R> struct tile {
    enum { each = pack<R>::size, side = SIDE * each };
    alignas(16) R at[side][side + each];
};

/* The thread's part of a tile, in registers. */
template <class R> struct square {
    R at[tile<R>::each][tile<R>::each];
};

template <class R> __device__ inline pack<R> tile_pack(const tile<R> &t, int row, int column)
{
    return load_pack(&t.at[row][column]);
}

/* The thread's place in the block. */
__device__ inline int across()
{
    return threadIdx.x % SIDE;
}
__device__ inline int down()
{
    return threadIdx.x / SIDE;
}

/* Fills a tile from `count` rows, `columns` of them wide; zero beyond. */
template <class R, class T>
__device__ inline void load_tile(tile<R> &to, const T *from, int64_t stride, int count, int columns)
{
    const int side = tile<R>::side, step = THREADS / side;
    int row = threadIdx.x / side, column = threadIdx.x % side;
    bool there = column < columns;
    from += row * stride + column;
    __syncthreads(); /* nobody reads it any more */
#pragma unroll 4
    for (int i = 0; i < side; i += step, from += step * stride)
        to.at[row + i][column] = there && row + i < count ? (R)widen(*from) : R(0);
    __syncthreads();
}

/* c += a b^T: rows of a lie down, as thread * each + i, rows of b across, as thread + 16 j. */
template <class R> __device__ inline void add_rows_by_rows(square<R> &c, const tile<R> &a, const tile<R> &b)
{
    enum { each = tile<R>::each };
#pragma unroll 1
    for (int k = 0; k < tile<R>::side; k += each) {
        pack<R> x[each];
#pragma unroll
        for (int i = 0; i < each; i++) x[i] = tile_pack(a, down() * each + i, k);
#pragma unroll
        for (int j = 0; j < each; j++) {
            pack<R> y = tile_pack(b, across() + SIDE * j, k);
#pragma unroll
            for (int i = 0; i < each; i++)
#pragma unroll
                for (int n = 0; n < each; n++) c.at[i][j] += x[i].at[n] * y.at[n];
        }
    }
}

/* c += a b: columns of b lie across, as thread * each + j. */
template <class R> __device__ inline void add_product(square<R> &c, const tile<R> &a, const tile<R> &b)
{
    enum { each = tile<R>::each };
#pragma unroll 1
    for (int k = 0; k < tile<R>::side; k += each) {
        pack<R> x[each];
#pragma unroll
        for (int i = 0; i < each; i++) x[i] = tile_pack(a, down() * each + i, k);
#pragma unroll
        for (int n = 0; n < each; n++) {
            pack<R> y = tile_pack(b, k + n, across() * each);
#pragma unroll
            for (int i = 0; i < each; i++)
#pragma unroll
                for (int j = 0; j < each; j++) c.at[i][j] += x[i].at[n] * y.at[j];
        }
    }
}

/* c += a^T b */
template <class R>
__device__ inline void add_transposed_product(square<R> &c, const tile<R> &a, const tile<R> &b)
{
    enum { each = tile<R>::each };
#pragma unroll 1
    for (int k = 0; k < tile<R>::side; k++) {
        pack<R> x = tile_pack(a, k, down() * each), y = tile_pack(b, k, across() * each);
#pragma unroll
        for (int i = 0; i < each; i++)
#pragma unroll
            for (int j = 0; j < each; j++) c.at[i][j] += x.at[i] * y.at[j];
    }
}

/* The form of add_rows_by_rows back to shared memory. */
template <class R> __device__ inline void put_square(tile<R> &to, const square<R> &c)
{
    enum { each = tile<R>::each };
    __syncthreads();
#pragma unroll
    for (int i = 0; i < each; i++)
#pragma unroll
        for (int j = 0; j < each; j++) to.at[down() * each + i][across() + SIDE * j] = c.at[i][j];
}

/* ---- what happens to scores ---------------------------------------------------- */

/* Calls f(i, j, t, s) for the thread's elements of a tile of scores. */
template <class R, class F> __device__ inline void each_score(const corner &c, F f)
{
#pragma unroll
    for (int i = 0; i < tile<R>::each; i++)
#pragma unroll
        for (int j = 0; j < tile<R>::each; j++)
            f(i, j, c.t + down() * tile<R>::each + i, c.s + across() + SIDE * j);
}

/* A tile of x y^T, over all of d. */
template <class T, class R>
__device__ inline void dot_rows(square<R> &c, tile<R> (&room)[2], int width, const T *x, int64_t x_stride,
                                int x_count, const T *y, int64_t y_stride, int y_count)
{
    each_score<R>(corner{}, [&](int i, int j, int, int) { c.at[i][j] = 0; });
    for (int p = 0; p < width; p += tile<R>::side) {
        load_tile(room[0], x + p, x_stride, x_count, width - p);
        load_tile(room[1], y + p, y_stride, y_count, width - p);
        add_rows_by_rows(c, room[0], room[1]);
    }
}

/* A tile of scores: scale q k^T and the masks. */
template <class T, class R>
__device__ inline void make_scores(const attention &a, const corner &at, square<R> &scores,
                                   tile<R> (&room)[2])
{
    int group = at.h / (a.heads / a.kv_heads);
    dot_rows(scores, room, a.width, row_of<T>(a.q, at.b, at.h, at.t), a.q.row, a.queries - at.t,
             row_of<T>(a.k, at.b, group, at.s), a.k.row, a.keys - at.s);
    int64_t mask = at.b * a.mask_strides[0] + at.h * a.mask_strides[1] +
                   (at.t + down() * tile<R>::each) * a.mask_strides[2] +
                   (at.s + across()) * a.mask_strides[3];
    each_score<R>(at, [&](int i, int j, int t, int s) {
        R score = scores.at[i][j] * (R)a.scale;
        if (t >= a.queries || hidden(a, t, s))
            score = -INFINITY;
        else if (a.mask)
            score += by_mask(a, mask + i * a.mask_strides[2] + j * SIDE * a.mask_strides[3],
                             [](auto *number) { return (R)mask_number(*number); });
        scores.at[i][j] = score;
    });
}

/* Which of the thread's weights dropout keeps: bit i * each + j. In a loop that is not unrolled, because the code of so many
 * random numbers, and what they need in registers, would be most of a kernel. */
template <class R> __device__ inline uint32_t kept(const attention &a, const corner &at)
{
    enum { each = tile<R>::each };
    if (!a.threshold) return ~0u;
    uint32_t kept = 0;
    uint64_t row = ((uint64_t)at.b * a.heads + at.h) * a.queries + at.t + down() * each;
    uint64_t corner = row * a.keys + at.s + across();
#pragma unroll 1
    for (int n = 0; n < each * each; n++) {
        uint64_t element = corner + (n / each) * (uint32_t)a.keys + SIDE * (n % each);
        uint32_t bits[4];
        philox(a.random, element / 4, bits);
        uint32_t low = element & 1 ? bits[1] : bits[0], high = element & 1 ? bits[3] : bits[2];
        kept |= (uint32_t)((element & 2 ? high : low) >> 8 >= a.threshold) << n;
    }
    return kept;
}

/* What the weight at i, j is multiplied with: 0 where it is dropped, else what keeps the mean. */
template <class R> __device__ inline R keep_factor(const attention &a, uint32_t kept, int i, int j)
{
    return kept >> (i * tile<R>::each + j) & 1 ? (R)a.keep_scale : R(0);
}

/* Stores the thread's square of results, which lie as add_product says. */
template <class T, class R>
__device__ inline void put_results(T *y, int64_t stride, int count, int columns, const square<R> &c,
                                   const R (&factor)[tile<R>::each], bool accumulate)
{
    enum { each = tile<R>::each };
#pragma unroll
    for (int i = 0; i < each; i++)
#pragma unroll
        for (int j = 0; j < each; j++) {
            int row = down() * each + i, column = across() * each + j;
            if (row >= count || column >= columns) continue;
            T *place = y + row * stride + column;
            R value = c.at[i][j] * factor[i];
            *place = to<T>(accumulate ? (R)widen(*place) + value : value);
        }
}

/* ---- forward -------------------------------------------------------------------- */

/* The block's tile of rows: blocks of one head follow each other, and the tiles that see most keys come first. */
__device__ inline corner queries_of_block(const attention &a, int side)
{
    int tiles = (a.queries + side - 1) / side, head = blockIdx.x / tiles;
    return corner{head / a.heads, head % a.heads, (tiles - 1 - (int)(blockIdx.x % tiles)) * side, 0};
}

/* The first of the block's columns: only heads wider than 256 are more than one block's. */
template <class R, int PIECES> __device__ inline int first_column()
{
    const int columns = PIECES * tile<R>::side;
    return columns < 256 ? 0 : blockIdx.y * columns;
}

/* Blocks that are to fit on a multiprocessor: two, of 128 registers a thread, but for the widest heads. */
template <class T, int PIECES> constexpr int blocks_at_once()
{
    return PIECES * tile<real_of<T>>::side <= 128 ? 2 : 1;
}

/* Running maximum and sum of the weights of each row, known to the 16 threads that share it. */
template <class R> struct softmax {
    R max[tile<R>::each], sum[tile<R>::each];
};

template <class R, class F> __device__ inline R row_reduce(R x, F f)
{
#pragma unroll
    for (int step = SIDE / 2; step > 0; step /= 2) x = f(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}

/* Scores become weights exp(score - max); `shrink` is what earlier tiles must be multiplied with. */
template <class R> __device__ inline void weigh(softmax<R> &m, square<R> &scores, R (&shrink)[tile<R>::each])
{
    enum { each = tile<R>::each };
#pragma unroll
    for (int i = 0; i < each; i++) {
        R max = m.max[i], sum = 0;
#pragma unroll
        for (int j = 0; j < each; j++) max = fmax(max, scores.at[i][j]);
        max = row_reduce(max, [](R x, R y) { return fmax(x, y); });
        shrink[i] = max == -INFINITY ? R(0) : exp(m.max[i] - max);
        m.max[i] = max;
        max = max == -INFINITY ? R(0) : max;
#pragma unroll
        for (int j = 0; j < each; j++) {
            scores.at[i][j] = exp(scores.at[i][j] - max);
            sum += scores.at[i][j];
        }
        m.sum[i] = m.sum[i] * shrink[i] + row_reduce(sum, sum_of());
    }
}

/* PIECES: tiles beside each other that hold the block's columns of y. */
template <class T, int PIECES>
__global__ void __launch_bounds__(THREADS, (blocks_at_once<T, PIECES>())) forward_kernel(attention a)
{
    using R = real_of<T>;
    enum { each = tile<R>::each, side = tile<R>::side };
    __shared__ tile<R> room[2];
    corner at = queries_of_block(a, side);
    int group = at.h / (a.heads / a.kv_heads), end = visible_end(a, at.t + side);
    int column = first_column<R, PIECES>(), count = a.queries - at.t;
    square<R> out[PIECES] = {};
    softmax<R> m;

    for (int i = 0; i < each; i++) {
        m.max[i] = -INFINITY;
        m.sum[i] = 0;
    }
    for (at.s = 0; at.s < end; at.s += side) {
        square<R> scores;
        R shrink[each];
        uint32_t keeps = kept<R>(a, at);
        make_scores<T>(a, at, scores, room);
        weigh(m, scores, shrink);
        each_score<R>(at, [&](int i, int j, int, int) { scores.at[i][j] *= keep_factor<R>(a, keeps, i, j); });
        put_square(room[0], scores);
#pragma unroll
        for (int p = 0; p < PIECES; p++) {
            int from = column + p * side;
            if (from >= a.width) break;
            for (int i = 0; i < each; i++)
                for (int j = 0; j < each; j++) out[p].at[i][j] *= shrink[i];
            load_tile(room[1], row_of<T>(a.v, at.b, group, at.s) + from, a.v.row, a.keys - at.s,
                      a.width - from);
            add_product(out[p], room[0], room[1]);
        }
    }
    R factor[each];
    R *lse = (R *)a.lse + ((int64_t)at.b * a.heads + at.h) * a.queries + at.t;
    for (int i = 0; i < each; i++) {
        int row = down() * each + i;
        factor[i] = m.sum[i] == 0 ? R(0) : 1 / m.sum[i];
        if (across() == 0 && row < count && blockIdx.y == 0)
            lse[row] = m.sum[i] == 0 ? R(0) : m.max[i] + log(m.sum[i]);
    }
#pragma unroll
    for (int p = 0; p < PIECES; p++) {
        int from = column + p * side;
        if (from >= a.width) break;
        put_results(row_of<T>(a.y, at.b, at.h, at.t) + from, a.y.row, count, a.width - from, out[p], factor,
                    false);
    }
}

/* ---- backward ------------------------------------------------------------------- */

/* delta: the sum of gy y over each row. A warp a row. */
template <class T> __global__ void __launch_bounds__(THREADS) delta_kernel(attention a, real_of<T> *delta)
{
    using R = real_of<T>;
    int64_t count = (int64_t)a.batch * a.heads * a.queries;
    for (int64_t i = (int64_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32; i < count;
         i += (int64_t)gridDim.x * (THREADS / 32)) {
        int64_t head = i / a.queries, t = i % a.queries;
        const T *y = row_of<T>(a.y, (int)(head / a.heads), (int)(head % a.heads), t);
        const T *gy = row_of<T>(a.gy, (int)(head / a.heads), (int)(head % a.heads), t);
        R sum = 0;
        for (int p = threadIdx.x % 32; p < a.width; p += 32) sum += (R)widen(y[p]) * (R)widen(gy[p]);
        sum = warp_reduce(sum, sum_of());
        if (threadIdx.x % 32 == 0) delta[i] = sum;
    }
}

/* A tile of weights P with their dropout factors D, and slopes: P (D gy v^T - delta). */
template <class T, class R>
__device__ inline void make_slopes(const attention &a, const corner &at, const R *delta, square<R> &weights,
                                   square<R> &slopes, tile<R> (&room)[2])
{
    int group = at.h / (a.heads / a.kv_heads);
    int64_t first = ((int64_t)at.b * a.heads + at.h) * a.queries;
    const R *lse = (const R *)a.lse + first;
    uint32_t keeps = kept<R>(a, at); /* while few registers are in use */
    make_scores<T>(a, at, weights, room);
    dot_rows(slopes, room, a.width, row_of<T>(a.gy, at.b, at.h, at.t), a.gy.row, a.queries - at.t,
             row_of<T>(a.v, at.b, group, at.s), a.v.row, a.keys - at.s);
    each_score<R>(at, [&](int i, int j, int t, int) {
        bool there = t < a.queries;
        R weight = exp(weights.at[i][j] - (there ? lse[t] : R(0))), keep = keep_factor<R>(a, keeps, i, j);
        slopes.at[i][j] = weight * (slopes.at[i][j] * keep - (there ? delta[first + t] : R(0)));
        weights.at[i][j] = weight * keep;
    });
}

template <class R> __device__ inline void fill(R (&factor)[tile<R>::each], R value)
{
#pragma unroll
    for (int i = 0; i < tile<R>::each; i++) factor[i] = value;
}

/* gq = scale sum over keys of slopes k. */
template <class T, int PIECES>
__global__ void __launch_bounds__(THREADS, (blocks_at_once<T, PIECES>()))
    queries_kernel(attention a, const real_of<T> *delta)
{
    using R = real_of<T>;
    enum { each = tile<R>::each, side = tile<R>::side };
    __shared__ tile<R> room[2];
    corner at = queries_of_block(a, side);
    int group = at.h / (a.heads / a.kv_heads);
    int column = first_column<R, PIECES>();
    square<R> gq[PIECES] = {};

    for (at.s = 0; at.s < visible_end(a, at.t + side); at.s += side) {
        square<R> weights, slopes;
        make_slopes<T>(a, at, delta, weights, slopes, room);
        put_square(room[0], slopes);
#pragma unroll
        for (int p = 0; p < PIECES; p++) {
            int from = column + p * side;
            if (from >= a.width) break;
            load_tile(room[1], row_of<T>(a.k, at.b, group, at.s) + from, a.k.row, a.keys - at.s,
                      a.width - from);
            add_product(gq[p], room[0], room[1]);
        }
    }
    R factor[each];
    fill(factor, (R)a.scale);
#pragma unroll
    for (int p = 0; p < PIECES; p++) {
        int from = column + p * side;
        if (from >= a.width) break;
        put_results(row_of<T>(a.gq, at.b, at.h, at.t) + from, a.gq.row, a.queries - at.t, a.width - from,
                    gq[p], factor, a.accumulate & 1);
    }
}

/* sums += rows^T x, where x are rows of queries. */
template <class T, int PIECES, class R>
__device__ inline void gather(square<R> (&sums)[PIECES], const square<R> &rows_of_scores, const T *x,
                              int64_t stride, int count, int columns, tile<R> (&room)[2])
{
    put_square(room[0], rows_of_scores);
#pragma unroll
    for (int p = 0; p < PIECES; p++) {
        int from = p * tile<R>::side;
        if (from >= columns) break;
        load_tile(room[1], x + from, stride, count, columns - from);
        add_transposed_product(sums[p], room[0], room[1]);
    }
}

/* gk = scale sum over queries of slopes q, gv = sum of weights gy: over the heads that share a head of keys, one after
 * the other. */
template <class T, int PIECES>
__global__ void __launch_bounds__(THREADS) keys_kernel(attention a, const real_of<T> *delta)
{
    using R = real_of<T>;
    enum { each = tile<R>::each, side = tile<R>::side };
    __shared__ tile<R> room[2];
    int tiles = (a.keys + side - 1) / side, head = blockIdx.x / tiles, share = a.heads / a.kv_heads;
    int group = head % a.kv_heads, column = first_column<R, PIECES>(), columns = a.width - column;
    corner at = {head / a.kv_heads, 0, 0, (int)(blockIdx.x % tiles) * side};
    square<R> gk[PIECES] = {}, gv[PIECES] = {};

    for (at.h = group * share; at.h < (group + 1) * share; at.h++) {
        for (at.t = first_query(a, at.s) / side * side; at.t < a.queries; at.t += side) {
            square<R> weights, slopes;
            int count = a.queries - at.t;
            make_slopes<T>(a, at, delta, weights, slopes, room);
            if (a.gv.data)
                gather(gv, weights, row_of<T>(a.gy, at.b, at.h, at.t) + column, a.gy.row, count, columns,
                       room);
            if (a.gk.data)
                gather(gk, slopes, row_of<T>(a.q, at.b, at.h, at.t) + column, a.q.row, count, columns, room);
        }
    }
    R one[each], scale[each];
    fill(one, R(1));
    fill(scale, (R)a.scale);
#pragma unroll
    for (int p = 0; p < PIECES; p++) {
        int from = p * side, count = a.keys - at.s;
        if (from >= columns) break;
        if (a.gk.data)
            put_results(row_of<T>(a.gk, at.b, group, at.s) + column + from, a.gk.row, count, columns - from,
                        gk[p], scale, a.accumulate & 2);
        if (a.gv.data)
            put_results(row_of<T>(a.gv, at.b, group, at.s) + column + from, a.gv.row, count, columns - from,
                        gv[p], one, a.accumulate & 4);
    }
}

/* The mask's gradient, a tile a block: slopes, summed over the batches, heads, queries and keys that share an element of
 * the mask, in this order. Where they share one row or column, the tile's own are summed at the end. */
template <class T>
__global__ void __launch_bounds__(THREADS, 1) mask_kernel(attention a, const real_of<T> *delta)
{
    using R = real_of<T>;
    const int side = tile<R>::side;
    __shared__ tile<R> room[2];
    const int64_t *shape = a.gmask_shape;
    bool one_query = shape[2] == 1, one_key = shape[3] == 1;
    int across_tiles = (int)((shape[3] + side - 1) / side), down_tiles = (int)((shape[2] + side - 1) / side);
    int s0 = blockIdx.x % across_tiles * side, t0 = blockIdx.x / across_tiles % down_tiles * side;
    int head = blockIdx.x / across_tiles / down_tiles, b0 = head / (int)shape[1], h0 = head % (int)shape[1];
    int b_end = shape[0] == 1 ? a.batch : b0 + 1, h_end = shape[1] == 1 ? a.heads : h0 + 1;
    int t_end = one_query ? a.queries : t0 + 1, s_end = one_key ? a.keys : s0 + 1;
    square<R> sums = {};
    corner at;

    for (at.b = b0; at.b < b_end; at.b++)
        for (at.h = h0; at.h < h_end; at.h++)
            for (at.t = t0; at.t < t_end; at.t += side)
                for (at.s = s0; at.s < s_end && at.s < visible_end(a, at.t + side); at.s += side) {
                    square<R> weights, slopes;
                    make_slopes<T>(a, at, delta, weights, slopes, room);
                    each_score<R>(at, [&](int i, int j, int, int) { sums.at[i][j] += slopes.at[i][j]; });
                }
    put_square(room[0], sums);
    __syncthreads();
    for (int i = threadIdx.x; i < side * side; i += THREADS) {
        int row = i / side, column = i % side;
        if (t0 + row >= shape[2] || s0 + column >= shape[3]) continue;
        R sum = 0;
        for (int t = row; t < (one_query ? side : row + 1); t++)
            for (int s = column; s < (one_key ? side : column + 1); s++) sum += room[0].at[t][s];
        store_number(a.gmask.data, a.gmask_dtype,
                     b0 * a.gmask.batch + h0 * a.gmask.head + (t0 + row) * a.gmask.row + s0 + column, sum,
                     a.accumulate & 8);
    }
}

/* ---- launching -------------------------------------------------------------------- */

/* Calls f with the number of tiles, as a type, that hold a block's columns, and their number of columns. */
template <class R, class F> static light_status by_width(int width, F f)
{
    enum { side = tile<R>::side };
    if (width <= 64) return f(std::integral_constant<int, 64 / side>(), 64);
    if (width <= 128) return f(std::integral_constant<int, 128 / side>(), 128);
    return f(std::integral_constant<int, 256 / side>(), 256);
}

static int64_t tiles_of(int64_t count, int side)
{
    return (count + side - 1) / side;
}

/* A block for each tile of rows of each head, and for each `columns` columns. */
static dim3 grid_of(int batch, int heads, int count, int side, int width, int columns)
{
    return dim3((unsigned)(batch * heads * tiles_of(count, side)), (unsigned)tiles_of(width, columns));
}

template <class T> static light_status forward(const light_device *device, const attention &a)
{
    using R = real_of<T>;
    return by_width<R>(a.width, [&](auto pieces, int columns) {
        return launch(device, forward_kernel<T, decltype(pieces)::value>,
                      grid_of(a.batch, a.heads, a.queries, tile<R>::side, a.width, columns), THREADS, 0, a);
    });
}

template <class T> static light_status backward(const light_device *device, const attention &a)
{
    using R = real_of<T>;
    int64_t count = (int64_t)a.batch * a.heads * a.queries;
    void *delta;
    LIGHT_TRY(scratch(device, (size_t)count * sizeof(R), &delta));
    LIGHT_TRY(
        launch(device, delta_kernel<T>, blocks_for(device, count, THREADS / 32), THREADS, 0, a, (R *)delta));
    const int side = tile<R>::side;
    if (a.gmask.data)
        LIGHT_TRY(launch(device, mask_kernel<T>,
                         (unsigned)(a.gmask_shape[0] * a.gmask_shape[1] * tiles_of(a.gmask_shape[2], side) *
                                    tiles_of(a.gmask_shape[3], side)),
                         THREADS, 0, a, (const R *)delta));
    return by_width<R>(a.width, [&](auto pieces, int columns) {
        if (a.gq.data)
            LIGHT_TRY(launch(device, queries_kernel<T, decltype(pieces)::value>,
                             grid_of(a.batch, a.heads, a.queries, side, a.width, columns), THREADS, 0, a,
                             (const R *)delta));
        if (!a.gk.data && !a.gv.data) return LIGHT_OK;
        return launch(device, keys_kernel<T, decltype(pieces)::value>,
                      grid_of(a.batch, a.kv_heads, a.keys, side, a.width, columns), THREADS, 0, a,
                      (const R *)delta);
    });
}

static rows rows_of(const light_tensor *t)
{
    return t ? rows{t->data, t->strides[0], t->strides[1], t->strides[2]} : rows{};
}

/* in: q, k, v, [mask] */
static attention attention_of(const light_kernel_args *args, const light_tensor *const *in)
{
    const light_sdpa_attrs *attrs = (const light_sdpa_attrs *)args->attrs;
    const light_tensor *q = in[0], *k = in[1], *mask = in[3];
    attention a = {};

    a.q = rows_of(q);
    a.k = rows_of(k);
    a.v = rows_of(in[2]);
    a.batch = (int)q->shape[0];
    a.heads = (int)q->shape[1];
    a.kv_heads = (int)k->shape[1];
    a.queries = (int)q->shape[2];
    a.keys = (int)k->shape[2];
    a.width = (int)q->shape[3];
    a.scale = attrs->scale;
    a.causal = attrs->causal;
    a.accumulate = args->accumulate;
    a.threshold = drop_threshold(attrs->dropout_p);
    a.keep_scale = attrs->dropout_p < 1 ? 1 / (1 - attrs->dropout_p) : 0;
    if (a.threshold) a.random = rng_of(args);
    if (mask) {
        a.mask = mask->data;
        a.mask_dtype = mask->dtype;
        memcpy(a.mask_strides, mask->strides, sizeof a.mask_strides);
    }
    return a;
}

static light_status sdpa(const light_kernel_args *args)
{
    int dtype = args->in[0]->dtype;
    bool done = false;
    attention a = attention_of(args, args->in);
    a.y = rows_of(args->out[0]);
    a.lse = args->out[1]->data;
    LIGHT_TRY(library_attention(args->device, a, dtype, &done));
    if (done) return LIGHT_OK;
    if (mma_takes(args->device, a, dtype)) return mma_forward(args->device, a, dtype);
    return by_float(dtype, [&](auto type) { return forward<decltype(type)>(args->device, a); });
}

static light_status sdpa_backward(const light_kernel_args *args)
{
    int dtype = args->in[0]->dtype;
    bool done = false;
    attention a = attention_of(args, args->in + 1);
    a.gy = rows_of(args->in[0]);
    a.y = rows_of(args->in[5]);
    a.lse = args->in[6]->data;
    a.gq = rows_of(args->out[0]);
    a.gk = rows_of(args->out[1]);
    a.gv = rows_of(args->out[2]);
    if (args->out[3]) {
        a.gmask = rows_of(args->out[3]);
        a.gmask_dtype = args->out[3]->dtype;
        memcpy(a.gmask_shape, args->out[3]->shape, sizeof a.gmask_shape);
    }
    LIGHT_TRY(library_attention_backward(args->device, a, dtype, &done));
    if (done) return LIGHT_OK;
    if (!mma_takes(args->device, a, dtype))
        return by_float(dtype, [&](auto type) { return backward<decltype(type)>(args->device, a); });
    if (a.gmask.data) { /* alone here */
        attention mask = a;
        mask.gq = mask.gk = mask.gv = rows{};
        LIGHT_TRY(by_float(dtype, [&](auto type) { return backward<decltype(type)>(args->device, mask); }));
    }
    return mma_backward(args->device, a, dtype);
}

extern const kernel_entry attention_kernels[] = {
    {LIGHT_KERNEL_SDPA, sdpa},
    {LIGHT_KERNEL_SDPA_BACKWARD, sdpa_backward},
    {LIGHT_KERNEL_COUNT, NULL},
};

} // namespace light
