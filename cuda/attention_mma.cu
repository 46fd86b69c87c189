/* SPDX-License-Identifier: Apache-2.0 */
/* Attention on tensor cores: bf16 and f16, heads of up to 128 numbers.
 *
 * T. Dao: FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning. 2023.
 *
 * Forward. A block owns 128 queries of one head, each of its 4 warps 32 of them. It goes over the keys it sees, 64 at a
 * time (128 where d is 64), and makes S = Q K^T, P = exp(S - max), O += P V. Scores stay in the registers of the warp that
 * made them: the C fragments of S are rounded in pairs to the A fragments of P (mma.cuh). With 32 queries a warp uses each
 * fragment of K and V twice, so that shared memory keeps up with the tensor cores. Tiles come by cp.async in the order
 * K0 V0 K1 V1 .. into a ring of three: one is worked on while the next two are on their way, and the barrier before the
 * use of a tile also says that the one before it is free. Two blocks run on a multiprocessor: one does its
 * exponentials while the other multiplies. With causal masks, tiles that no query of the block sees are not loaded, those
 * that no query of a warp sees are passed over, and only tiles that some see in part look at single keys.
 *
 * Backward. With L the logarithm of the sum that the forward pass kept, and delta the sum of gy y over each row,
 *
 *     P = exp(S - L),  dP = gY V^T,  dS = P (dP - delta),  gQ = scale dS K,  gK = scale dS^T Q,  gV = P^T gY.
 *
 * One kernel does either side. A block owns 128 rows x1, x2 (16 a warp): queries and gY for gQ, or keys and values for gK
 * and gV, and the rows y1, y2 of the other side pass by in tiles of 64, double buffered. It makes X1 Y1^T, which is S or
 * its transpose, and X2 Y2^T, which is dP or its transpose, in the warp's registers, from there G1 += dS Y1 and, for keys,
 * G2 += P Y2. S and dP are thus made twice, which is 7 products instead of 5, but nothing is added up in memory: gQ needs
 * no atomics, and a step has the same bits every time.
 *
 * Masks and dropout are known to kernels with EXTRAS only, so that those without keep their registers and the time for
 * what they do. A lane reads the numbers of the mask that belong to its scores where they lie. Random numbers come in
 * fours along keys, four lanes' worth of scores or, of the transpose, four rows: lanes draw whole fours and exchange
 * bits.
 *
 * Order. Each sum belongs to one warp, which adds tiles in ascending order, for keys head after head of those that share
 * them; within a tile the instruction's own order holds, which is fixed. Nothing depends on which warp is faster.
 *
 * Shared memory. A row of a tile is D numbers, D / 8 chunks of 16 bytes; chunk c of row r lies at chunk c ^ (r % 8). Eight
 * neighbouring rows of one column of chunks, which is what ldmatrix reads at once, lie in eight different groups of banks,
 * and so do the chunks of one row, which is what a copy writes. Narrower heads are filled up with zeros in shared
 * memory, as are rows beyond the last. */
#include "cuda/attention.cuh"
#include "cuda/mma.cuh"

#include <math.h>

namespace light
{

/* ---- tiles in shared memory ------------------------------------------------------ */

enum { CHUNK = 16 }; /* bytes */

template <int D> __device__ inline int chunk_place(int row, int chunk)
{
    return row * (D * 2) + (chunk ^ (row & 7)) * CHUNK;
}

/* The place of the chunk `chunks` on, an even number, in the row of a place of an even chunk or the odd one after it.
 * Cheap enough that a place for each of them is not kept in a register. */
__device__ inline int chunks_on(int place, int chunks)
{
    return place ^ chunks * CHUNK;
}

template <int D> constexpr int tile_bytes(int rows)
{
    return rows * D * 2;
}

/* Starts the copy of ROWS rows, `count` of them there and `width` numbers wide. */
template <int D, int ROWS, int THREADS, class T>
__device__ inline void copy_tile(shared_at tile, const T *from, int64_t stride, int count, int width)
{
    enum { ACROSS = D / 8, DOWN = THREADS / ACROSS };
    static_assert(DOWN % 8 == 0 && ROWS % DOWN == 0, "a thread's rows all lie alike");
    int chunk = threadIdx.x % ACROSS, row = threadIdx.x / ACROSS;
    shared_at to = tile + chunk_place<D>(row, chunk);
    from += row * stride + chunk * 8;
#pragma unroll
    for (int i = 0; i < ROWS; i += DOWN) {
        copy_16(to + i * (D * 2), from, row + i < count && chunk * 8 < width);
        from += DOWN * stride;
    }
}

/* Steps of 16 numbers along d that are unrolled: all but on sm_100, where ptxas keeps the addresses of more than 4. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
enum { STEPS = 4 };
#else
enum { STEPS = 8 };
#endif

/* c[m][n] += X Y^T: 16 rows of x for each m, 8 rows of y for each n. */
template <class T, int D, int M, int N>
__device__ inline void rows_by_rows(float (&c)[M][N][4], shared_at x, shared_at y)
{
    int lane = threadIdx.x % 32;
    int x_place = chunk_place<D>(lane % 16, lane / 16);
    int y_place = chunk_place<D>(lane % 8 + lane / 16 * 8, lane / 8 % 2);
#pragma unroll STEPS
    for (int k = 0; k < D / 16; k++) {
        uint32_t a[M][4];
        shared_at x_at = x + chunks_on(x_place, 2 * k), y_at = y + chunks_on(y_place, 2 * k);
#pragma unroll
        for (int m = 0; m < M; m++) load_matrices(a[m], x_at + m * tile_bytes<D>(16));
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            uint32_t b[4];
            load_matrices(b, y_at + n * tile_bytes<D>(8));
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma<T>(c[m][n], a[m], b[0], b[1]);
                mma<T>(c[m][n + 1], a[m], b[2], b[3]);
            }
        }
    }
}

/* c[m] += W Y: w[m] are 16 rows of weights for the 16 K rows of y. */
template <class T, int D, int M, int K>
__device__ inline void weights_by_rows(float (&c)[M][D / 8][4], const uint32_t (&w)[M][K][4], shared_at y)
{
    int place = chunk_place<D>(threadIdx.x % 16, threadIdx.x % 32 / 16);
#pragma unroll
    for (int k = 0; k < K; k++)
#pragma unroll
        for (int n = 0; n < D / 8; n += 2) {
            uint32_t b[4];
            load_matrices_transposed(b, y + chunks_on(place, n) + k * tile_bytes<D>(16));
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma<T>(c[m][n], w[m][k], b[0], b[1]);
                mma<T>(c[m][n + 1], w[m][k], b[2], b[3]);
            }
        }
}

/* Rounds C fragments, two of them beside each other to an A fragment. */
template <class T, int M, int N>
__device__ inline void round_weights(uint32_t (&w)[M][N / 2][4], const float (&c)[M][N][4])
{
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++) {
            w[m][n / 2][n % 2 * 2] = two<T>(c[m][n][0], c[m][n][1]);
            w[m][n / 2][n % 2 * 2 + 1] = two<T>(c[m][n][2], c[m][n][3]);
        }
}

/* What a row does not see becomes -infinity: columns from row + diagonal on and from `end` on, or with BEFORE those before
 * row + diagonal. A comparison with a constant for each number, so that no columns lie in registers beside scores. */
template <bool BEFORE, int M, int N>
__device__ inline void hide(float (&scores)[M][N][4], int diagonal, int end)
{
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int row = m * 16 + half * 8 + (int)threadIdx.x % 32 / 4, limit = row + diagonal;
            limit = (limit < end ? limit : end) - (int)threadIdx.x % 4 * 2;
#pragma unroll
            for (int n = 0; n < N; n++)
#pragma unroll
                for (int i = 0; i < 2; i++)
                    if (BEFORE ? n * 8 + i < limit : n * 8 + i >= limit)
                        scores[m][n][2 * half + i] = -INFINITY;
        }
}

/* Stores, or adds, rows of results times `factor`. */
template <class T, int D, int M>
__device__ inline void put_rows(T *y, int64_t stride, int count, int width, const float (&c)[M][D / 8][4],
                                float factor, bool accumulate)
{
    int first = threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int row = m * 16 + half * 8 + first;
            if (row >= count) continue;
            T *to = y + row * stride + column;
#pragma unroll
            for (int n = 0; n < D / 8; n++) {
                if (n * 8 >= width) continue;
                float low = c[m][n][2 * half] * factor, high = c[m][n][2 * half + 1] * factor;
                uint32_t *place = (uint32_t *)(to + n * 8);
                if (accumulate) {
                    uint32_t old = *place;
                    low += widen(T{(uint16_t)old});
                    high += widen(T{(uint16_t)(old >> 16)});
                }
                *place = two<T>(low, high);
            }
        }
}

/* ---- masks and dropout ------------------------------------------------------------- */

/* The weight of a score. Scores of kernels with EXTRAS have been multiplied with the scale, since the mask adds to that,
 * and only differences go into units of log 2: the lowest floats, of which masks are made, times log2(e) are infinite. In
 * other kernels one instruction does it all; `base` has been multiplied. */
template <bool EXTRAS> __device__ inline float power(float score, float base, float scale)
{
    return exp2_fast(EXTRAS ? (score - base) * (float)M_LOG2E : score * scale - base);
}

/* Scores times scale, and the mask. With KEYS rows are keys and columns queries. For rows that are not there, at which
 * nobody looks, no number is read, or, where KEYS have no register to tell, those of the last row. */
template <bool KEYS, int M, int N>
__device__ inline void scale_and_mask(const attention &a, const corner &at, float (&scores)[M][N][4],
                                      float scale)
{
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) scores[m][n][i] *= scale;
    if (!a.mask) return;
    int row = threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
    int rows = (KEYS ? a.keys - at.s : a.queries - at.t) - row;
    int columns = (KEYS ? a.queries - at.t : a.keys - at.s) - column;
    int64_t down = a.mask_strides[KEYS ? 3 : 2], across = a.mask_strides[KEYS ? 2 : 3];
    int64_t first = at.b * a.mask_strides[0] + at.h * a.mask_strides[1] + at.t * a.mask_strides[2] +
                    at.s * a.mask_strides[3] + (!KEYS || rows > 0 ? row : row + rows - 1) * down +
                    column * across;
    by_mask(a, first, [&](auto *mask) {
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int next = m * 16 + half * 8 + 8, limit = KEYS || next - 8 < rows ? columns : 0;
                auto *from = mask;
#pragma unroll
                for (int n = 0; n < N; n++, from += 8 * across)
#pragma unroll
                    for (int i = 0; i < 2; i++)
                        if (n * 8 + i < limit)
                            scores[m][n][2 * half + i] += (float)mask_number(from[i * across]);
                if (!KEYS || next < rows) mask += 8 * down;
            }
    });
}

/* Which of 16 weights dropout keeps, from an element on. In a loop that is not unrolled: see attention.cu. */
__device__ inline uint32_t kept_of_16(const attention &a, uint64_t first)
{
    int before = first % 4;
    uint32_t kept = 0;
#pragma unroll 1
    for (int i = 0; i < 16 + before; i += 4) {
        uint32_t bits[4];
        philox(a.random, first / 4 + i / 4, bits);
#pragma unroll
        for (int k = 0; k < 4; k++) kept |= (uint32_t)(bits[k] >> 8 >= a.threshold) << (i + k);
    }
    return kept >> before & 0xffff;
}

/* Which weights of a tile, 16 M x 64, dropout keeps: bit 4 n + i of keeps[m] is that of c[m][n][i]. A lane draws for 16
 * neighbouring keys of two queries, so that each random number is made once, and lanes exchange what they drew. */
template <bool KEYS, int M>
__device__ inline void draw(const attention &a, const corner &at, uint32_t (&keeps)[M])
{
    int lane = threadIdx.x % 32, row = lane / 4, column = lane % 4 * 2;
#pragma unroll
    for (int m = 0; m < M; m++) {
        int t = at.t + (KEYS ? lane : m * 16 + row), s = at.s + (KEYS ? 0 : lane % 4 * 16);
        uint64_t first = (((uint64_t)at.b * a.heads + at.h) * a.queries + t) * a.keys + s;
        uint32_t drawn = 0;
#pragma unroll 1
        for (int i = 0; i < 2; i++)
            drawn |= kept_of_16(a, first + i * (KEYS ? 32 : 8) * (uint64_t)a.keys) << i * 16;
        keeps[m] = 0;
#pragma unroll
        for (int n = 0; n < 4; n++) {
            if constexpr (KEYS) {
#pragma unroll
                for (int i = 0; i < 2; i++) { /* two keys for query 8 n + column + i and for the one 32 on */
                    uint32_t x = __shfl_sync(0xffffffffu, drawn, n * 8 + column + i) >> row;
                    x = (x & 1) | (x >> 8 & 1) << 2 | (x >> 16 & 1) << 16 | (x >> 24 & 1) << 18;
                    keeps[m] |= x << (n * 4 + i);
                }
            } else { /* two queries for keys 16 n + column .. and those 8 on */
                uint32_t x = __shfl_sync(0xffffffffu, drawn, row * 4 + n) >> column;
                x = (x & 3) | (x >> 8 & 3) << 4 | (x >> 16 & 3) << 2 | (x >> 24 & 3) << 6;
                keeps[m] |= x << n * 8;
            }
        }
    }
}

/* What is dropped becomes 0, what is kept is multiplied with what keeps the mean. */
template <int M> __device__ inline void drop(float (&c)[M][8][4], const uint32_t (&keeps)[M], float factor)
{
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) c[m][n][i] *= keeps[m] >> (n * 4 + i) & 1 ? factor : 0;
}

/* ---- forward --------------------------------------------------------------------- */

enum { QUERIES = 128, FORWARD_THREADS = 128, RING = 3 };

constexpr int forward_keys(int d, bool extras)
{
    return d == 64 && !extras ? 128 : 64;
}

template <int D, bool EXTRAS> constexpr int forward_shared()
{
    return tile_bytes<D>(QUERIES) + RING * tile_bytes<D>(forward_keys(D, EXTRAS));
}

/* Running maximum and, of the lane's own columns, the sum of weights for the lane's rows: g and g + 8 of each 16. */
struct row_sums {
    float max[2][2], sum[2][2];
};

/* Scores become weights 2^(scale (score - max)), and what was summed before is brought to the new maximum. */
template <bool EXTRAS, int N, int D>
__device__ inline void weigh(row_sums &r, float (&scores)[2][N][4], float (&out)[2][D / 8][4], float scale)
{
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float max = r.max[m][half], sum = 0;
#pragma unroll
            for (int n = 0; n < N; n++)
                max = fmaxf(max, fmaxf(scores[m][n][2 * half], scores[m][n][2 * half + 1]));
            max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 1));
            max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 2));
            float base = max == -INFINITY ? 0 : EXTRAS ? max : max * scale; /* nothing seen: weights of 0 */
            float shrink = power<EXTRAS>(r.max[m][half], base, scale);
            r.max[m][half] = max;
#pragma unroll
            for (int n = 0; n < N; n++)
#pragma unroll
                for (int i = 2 * half; i < 2 * half + 2; i++) {
                    scores[m][n][i] = power<EXTRAS>(scores[m][n][i], base, scale);
                    sum += scores[m][n][i];
                }
            r.sum[m][half] = r.sum[m][half] * shrink + sum;
#pragma unroll
            for (int n = 0; n < D / 8; n++) {
                out[m][n][2 * half] *= shrink;
                out[m][n][2 * half + 1] *= shrink;
            }
        }
}

/* Divides by the sums and notes their logarithms. */
template <bool EXTRAS, int D>
__device__ inline void finish_rows(row_sums &r, float (&out)[2][D / 8][4], float scale, float *lse, int count)
{
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float sum = r.sum[m][half];
            int row = m * 16 + half * 8 + threadIdx.x % 32 / 4;
            sum += __shfl_xor_sync(0xffffffffu, sum, 1);
            sum += __shfl_xor_sync(0xffffffffu, sum, 2);
            float factor = sum == 0 ? 0 : 1 / sum;
#pragma unroll
            for (int n = 0; n < D / 8; n++) {
                out[m][n][2 * half] *= factor;
                out[m][n][2 * half + 1] *= factor;
            }
            if (threadIdx.x % 4 != 0 || row >= count) continue;
            if (EXTRAS)
                lse[row] = sum == 0 ? 0 : r.max[m][half] + log2f(sum) * (float)M_LN2;
            else
                lse[row] = sum == 0 ? 0 : (r.max[m][half] * scale + log2f(sum)) * (float)M_LN2;
        }
}

template <class T, int D, bool EXTRAS>
__global__ void __launch_bounds__(FORWARD_THREADS, 2) forward_kernel(attention a, float scale)
{
    enum { KEYS = forward_keys(D, EXTRAS), N = KEYS / 8 };
    LIGHT_DYNAMIC_SHARED(unsigned char, room);
    int tiles = (a.queries + QUERIES - 1) / QUERIES, head = blockIdx.x / tiles;
    int b = head / a.heads, h = head % a.heads, group = h / (a.heads / a.kv_heads);
    int t0 = (tiles - 1 - (int)(blockIdx.x % tiles)) * QUERIES; /* those that see most keys come first */
    int warp_t0 = t0 + threadIdx.x / 32 * 32, ahead = a.keys - a.queries;
    int count = (visible_end(a, t0 + QUERIES) + KEYS - 1) / KEYS;
    shared_at q = shared_address(room), ring = q + tile_bytes<D>(QUERIES);
    shared_at own = q + threadIdx.x / 32 * tile_bytes<D>(32);
    float out[2][D / 8][4] = {};
    row_sums r = {{{-INFINITY, -INFINITY}, {-INFINITY, -INFINITY}}, {}};
    const T *keys = row_of<const T>(a.k, b, group, 0), *values = row_of<const T>(a.v, b, group, 0);

    /* Tile i of the ring's order: keys of block i / 2, or its values. */
    auto fetch = [&](int i) {
        int s0 = i / 2 * KEYS;
        int64_t stride = i % 2 ? a.v.row : a.k.row;
        if (i < 2 * count)
            copy_tile<D, KEYS, FORWARD_THREADS>(ring + i % RING * tile_bytes<D>(KEYS),
                                                (i % 2 ? values : keys) + s0 * stride, stride, a.keys - s0,
                                                a.width);
        copies_together();
    };
    uint32_t weights[2][N / 2][4];

    copy_tile<D, QUERIES, FORWARD_THREADS>(q, row_of<const T>(a.q, b, h, t0), a.q.row, a.queries - t0,
                                           a.width);
    fetch(0);
    fetch(1);
    for (int i = 0; i < 2 * count; i++) {
        int s0 = i / 2 * KEYS;
        shared_at tile = ring + i % RING * tile_bytes<D>(KEYS);
        wait_for_copies<1>();
        __syncthreads(); /* tile i is there, and all are done with tile i - 1, whose place the next one takes */
        fetch(i + 2);
        if (a.causal && s0 > warp_t0 + 31 + ahead) continue;
        if (i % 2) {
            weights_by_rows<T, D>(out, weights, tile);
            continue;
        }
        float scores[2][N][4] = {};
        corner at = {b, h, warp_t0, s0};
        uint32_t keeps[2] = {};
        if (EXTRAS && a.threshold) draw<false>(a, at, keeps); /* while few registers are in use */
        rows_by_rows<T, D>(scores, own, tile);
        if (EXTRAS) scale_and_mask<false>(a, at, scores, scale);
        if (s0 + KEYS > a.keys || (a.causal && s0 + KEYS - 1 > warp_t0 + ahead))
            hide<false>(scores, a.causal ? warp_t0 + ahead + 1 - s0 : KEYS, a.keys - s0);
        weigh<EXTRAS, N, D>(r, scores, out, scale);
        if constexpr (EXTRAS) {
            if (a.threshold) drop(scores, keeps, (float)a.keep_scale);
        }
        round_weights<T>(weights, scores);
    }
    wait_for_copies<0>();
    float *lse = (float *)a.lse + ((int64_t)b * a.heads + h) * a.queries + warp_t0;
    finish_rows<EXTRAS, D>(r, out, scale, lse, a.queries - warp_t0);
    put_rows<T, D>(row_of<T>(a.y, b, h, warp_t0), a.y.row, a.queries - warp_t0, a.width, out, 1, false);
}

/* ---- backward -------------------------------------------------------------------- */

enum { OWN = 128, OTHER = 64, BACKWARD_THREADS = 256, N_OTHER = OTHER / 8 };

/* L, in units of log 2 but with EXTRAS, and delta of the rows of one head, filled up to whole tiles of queries. */
struct row_terms {
    float *lse, *delta;
    int64_t each; /* rows of a head with what fills it up */
};

/* Rows that fill up have an infinite L: all their weights are 0. Half a warp a row. */
template <class T>
__global__ void __launch_bounds__(256) terms_kernel(attention a, row_terms terms, float unit)
{
    int64_t count = (int64_t)a.batch * a.heads * terms.each;
    int lane = threadIdx.x % 16;
    for (int64_t first = (int64_t)blockIdx.x * 16; first < count; first += (int64_t)gridDim.x * 16) {
        int64_t i = first + threadIdx.x / 16, head = i / terms.each, t = i % terms.each;
        bool there = i < count && t < a.queries;
        float sum = 0;
        if (there && lane * 8 < a.width) {
            int b = (int)(head / a.heads), h = (int)(head % a.heads);
            pack<T> y = load_pack(row_of<const T>(a.y, b, h, t) + lane * 8);
            pack<T> gy = load_pack(row_of<const T>(a.gy, b, h, t) + lane * 8);
#pragma unroll
            for (int k = 0; k < 8; k++) sum += widen(y.at[k]) * widen(gy.at[k]);
        }
#pragma unroll
        for (int step = 8; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
        if (lane == 0 && i < count) {
            const float *lse = (const float *)a.lse + head * a.queries;
            terms.lse[i] = there ? lse[t] * unit : INFINITY;
            terms.delta[i] = there ? sum : 0;
        }
    }
}

/* Tiles of the other side: y1, y2 and, where its rows are queries, their terms. */
template <int D> constexpr int stage_bytes()
{
    return 2 * tile_bytes<D>(OTHER) + 2 * OTHER * (int)sizeof(float);
}

template <int D> constexpr int backward_shared()
{
    return 2 * tile_bytes<D>(OWN) + 2 * stage_bytes<D>();
}

/* What a block of the backward kernel owns and what passes by. */
template <bool KEYS> struct side {
    int b, h, row0;         /* own head, of keys or of queries, and own first row */
    int first, each, count; /* first tile of the other side, tiles of a head, tiles of all heads */
    int share;

    __device__ explicit side(const attention &a)
    {
        int own = KEYS ? a.keys : a.queries, heads = KEYS ? a.kv_heads : a.heads;
        int tiles = (own + OWN - 1) / OWN, head = blockIdx.x / tiles, tile = blockIdx.x % tiles;
        b = head / heads;
        h = head % heads;
        row0 = (KEYS ? tile : tiles - 1 - tile) * OWN; /* with causal masks the longest work comes first */
        share = a.heads / a.kv_heads;
        first = KEYS ? first_query(a, row0) / OTHER : 0;
        int end = KEYS ? a.queries : visible_end(a, row0 + OWN);
        each = (end + OTHER - 1) / OTHER - first;
        if (each < 0) each = 0;
        count = KEYS ? each * share : each;
    }
    /* Head and first row of the ith tile that passes by. */
    __device__ int other_head(int i) const
    {
        return KEYS ? h * share + i / each : h / share;
    }
    __device__ int other_row(int i) const
    {
        return (first + i % each) * OTHER;
    }
};

/* Whether any of a warp's 16 rows has to do with a tile of the other side, and whether all have with all of it. */
template <bool KEYS> __device__ inline bool meets(const attention &a, int own, int other)
{
    int ahead = a.keys - a.queries;
    return !a.causal || (KEYS ? own <= other + OTHER - 1 + ahead : other <= own + 15 + ahead);
}
template <bool KEYS> __device__ inline bool meets_wholly(const attention &a, int own, int other)
{
    int ahead = a.keys - a.queries;
    if (!KEYS && other + OTHER > a.keys) return false;
    return !a.causal || (KEYS ? own + 15 <= other + ahead : other + OTHER - 1 <= own + ahead);
}

/* Scores become weights, and products of gy and v become slopes. `terms`: L and delta of the tile's columns, when those
 * are the queries; else the lane's two rows have them. */
template <bool KEYS, bool EXTRAS>
__device__ inline void make_slopes(float (&scores)[1][N_OTHER][4], float (&slopes)[1][N_OTHER][4],
                                   const float *terms, const float (&own_lse)[2], const float (&own_delta)[2],
                                   float scale)
{
#pragma unroll
    for (int n = 0; n < N_OTHER; n++) {
        float2 lse = {}, delta = {};
        if (KEYS) {
            lse = *(const float2 *)(terms + n * 8 + threadIdx.x % 4 * 2);
            delta = *(const float2 *)(terms + OTHER + n * 8 + threadIdx.x % 4 * 2);
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float of_lse = KEYS ? (i % 2 ? lse.y : lse.x) : own_lse[i / 2];
            float of_delta = KEYS ? (i % 2 ? delta.y : delta.x) : own_delta[i / 2];
            scores[0][n][i] = power<EXTRAS>(scores[0][n][i], of_lse, scale);
            slopes[0][n][i] = scores[0][n][i] * (slopes[0][n][i] - of_delta);
        }
    }
}

/* Starts the copies of the block's own rows, x1 and x2. */
template <class T, int D, bool KEYS>
__device__ inline void fetch_own(const attention &a, const side<KEYS> &at, shared_at to)
{
    const rows &x1 = KEYS ? a.k : a.q, &x2 = KEYS ? a.v : a.gy;
    int count = (KEYS ? a.keys : a.queries) - at.row0;
    copy_tile<D, OWN, BACKWARD_THREADS>(to, row_of<const T>(x1, at.b, at.h, at.row0), x1.row, count, a.width);
    copy_tile<D, OWN, BACKWARD_THREADS>(to + tile_bytes<D>(OWN), row_of<const T>(x2, at.b, at.h, at.row0),
                                        x2.row, count, a.width);
}

/* Starts the copies of tile i of the other side: y1, y2 and the terms of queries. */
template <class T, int D, bool KEYS>
__device__ inline void fetch_other(const attention &a, const row_terms &terms, const side<KEYS> &at, int i,
                                   shared_at to)
{
    const rows &y1 = KEYS ? a.q : a.k, &y2 = KEYS ? a.gy : a.v;
    int h = at.other_head(i), row = at.other_row(i), count = (KEYS ? a.queries : a.keys) - row;
    copy_tile<D, OTHER, BACKWARD_THREADS>(to, row_of<const T>(y1, at.b, h, row), y1.row, count, a.width);
    to += tile_bytes<D>(OTHER);
    copy_tile<D, OTHER, BACKWARD_THREADS>(to, row_of<const T>(y2, at.b, h, row), y2.row, count, a.width);
    to += tile_bytes<D>(OTHER);
    if (KEYS && threadIdx.x < 2 * OTHER / 4) { /* four terms a thread */
        const float *from = threadIdx.x < OTHER / 4 ? terms.lse : terms.delta;
        from += ((int64_t)at.b * a.heads + h) * terms.each + row + threadIdx.x % (OTHER / 4) * 4;
        copy_16(to + threadIdx.x * CHUNK, from, true);
    }
}

template <class T, int D, bool KEYS, bool EXTRAS>
__global__ void __launch_bounds__(BACKWARD_THREADS, 1)
    backward_kernel(attention a, row_terms terms, float scale)
{
    LIGHT_DYNAMIC_SHARED(unsigned char, room);
    const side<KEYS> at(a);
    int warp = threadIdx.x / 32, row0 = at.row0 + warp * 16, ahead = a.keys - a.queries;
    const int stages = 2 * tile_bytes<D>(OWN); /* where they begin */
    const shared_at base = shared_address(room), own = base + warp * tile_bytes<D>(16);
    float own_lse[2] = {}, own_delta[2] = {};
    float sums1[1][D / 8][4] = {}, sums2[1][D / 8][4] = {};

    fetch_own<T, D>(a, at, base);
    if (at.count > 0) fetch_other<T, D>(a, terms, at, 0, base + stages);
    copies_together();
    if (!KEYS) {
        int64_t first = ((int64_t)at.b * a.heads + at.h) * terms.each + row0 + threadIdx.x % 32 / 4;
        for (int half = 0; half < 2; half++) {
            own_lse[half] = terms.lse[first + half * 8];
            own_delta[half] = terms.delta[first + half * 8];
        }
    }
    for (int i = 0; i < at.count; i++) {
        int other_row0 = at.other_row(i), stage = stages + i % 2 * stage_bytes<D>();
        wait_for_copies<0>();
        __syncthreads(); /* tile i is there, and all are done with tile i - 1, whose place the next one takes */
        if (i + 1 < at.count)
            fetch_other<T, D>(a, terms, at, i + 1, base + stages + (i + 1) % 2 * stage_bytes<D>());
        copies_together();
        if (!meets<KEYS>(a, row0, other_row0)) continue;
        shared_at y1 = base + stage, y2 = y1 + tile_bytes<D>(OTHER);
        const float *columns = (const float *)(room + stage + 2 * tile_bytes<D>(OTHER));
        float scores[1][N_OTHER][4] = {}, slopes[1][N_OTHER][4] = {};
        uint32_t weights[1][N_OTHER / 2][4], keeps[1] = {};
        corner tile = {at.b, KEYS ? at.other_head(i) : at.h, KEYS ? other_row0 : row0,
                       KEYS ? row0 : other_row0};
        rows_by_rows<T, D>(scores, own, y1);
        if (EXTRAS) scale_and_mask<KEYS>(a, tile, scores, scale);
        if (!meets_wholly<KEYS>(a, row0, other_row0)) {
            if (KEYS)
                hide<true>(scores, row0 - ahead - other_row0, OTHER);
            else
                hide<false>(scores, a.causal ? row0 + ahead + 1 - other_row0 : OTHER, a.keys - other_row0);
        }
        rows_by_rows<T, D>(slopes, own + tile_bytes<D>(OWN), y2);
        if (EXTRAS && a.threshold) {
            draw<KEYS>(a, tile, keeps);
            drop(slopes, keeps, (float)a.keep_scale);
        }
        make_slopes<KEYS, EXTRAS>(scores, slopes, columns, own_lse, own_delta, scale);
        if (KEYS) {
            if (EXTRAS && a.threshold) drop(scores, keeps, (float)a.keep_scale);
            round_weights<T>(weights, scores);
            weights_by_rows<T, D>(sums2, weights, y2);
        }
        round_weights<T>(weights, slopes);
        weights_by_rows<T, D>(sums1, weights, y1);
    }
    wait_for_copies<0>(); /* where no tile passed by */
    const rows &g1 = KEYS ? a.gk : a.gq;
    int count = (KEYS ? a.keys : a.queries) - row0;
    if (g1.data)
        put_rows<T, D>(row_of<T>(g1, at.b, at.h, row0), g1.row, count, a.width, sums1, (float)a.scale,
                       a.accumulate >> KEYS & 1);
    if (KEYS && a.gv.data)
        put_rows<T, D>(row_of<T>(a.gv, at.b, at.h, row0), a.gv.row, count, a.width, sums2, 1,
                       a.accumulate >> 2 & 1);
}

/* ---- launching --------------------------------------------------------------------- */

static bool has_extras(const attention &a)
{
    return a.mask || a.threshold;
}

/* Calls f with a value of the dtype's type, and, as types, the tiles' width and whether there are extras. */
template <class F> static light_status by_form(const attention &a, int dtype, F f)
{
    auto with = [&](auto type, auto width) {
        return has_extras(a) ? f(type, width, std::true_type()) : f(type, width, std::false_type());
    };
    std::integral_constant<int, 64> narrow;
    std::integral_constant<int, 128> wide;
    if (dtype == LIGHT_BF16) return a.width <= 64 ? with(bf16{}, narrow) : with(bf16{}, wide);
    return a.width <= 64 ? with(f16{}, narrow) : with(f16{}, wide);
}

static bool rows_fit(const rows &r)
{
    return packs_fit(r.data) && (r.batch | r.head | r.row) % 8 == 0;
}

bool mma_takes(const light_device *device, const attention &a, int dtype)
{
    const rows *const all[] = {&a.q, &a.k, &a.v, &a.y, &a.gy, &a.gq, &a.gk, &a.gv};
    if (dtype != LIGHT_BF16 && dtype != LIGHT_F16) return false;
    if (!(a.scale > 0) || a.width % 8 || a.width > 128) return false;
    if (state_of(device)->shared_limit < (size_t)backward_shared<128>()) return false;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!rows_fit(*all[i])) return false;
    return true;
}

static unsigned blocks_of(int batch, int heads, int count, int each)
{
    return (unsigned)((int64_t)batch * heads * ((count + each - 1) / each));
}

/* Scores are taken times this, for weights that are powers of 2 or, with EXTRAS, of e. An argument of its own: it takes
 * no register. */
static float score_scale(const attention &a)
{
    return (float)(has_extras(a) ? a.scale : a.scale * M_LOG2E);
}

light_status mma_forward(const light_device *device, const attention &a, int dtype)
{
    return by_form(a, dtype, [&](auto type, auto width, auto extras) {
        constexpr int D = width;
        constexpr bool EXTRAS = extras;
        return launch(device, forward_kernel<decltype(type), D, EXTRAS>,
                      blocks_of(a.batch, a.heads, a.queries, QUERIES), FORWARD_THREADS,
                      forward_shared<D, EXTRAS>(), a, score_scale(a));
    });
}

/* Room for the terms of all rows; a block of queries reads those of OWN rows. */
static light_status terms_room(const light_device *device, const attention &a, row_terms *terms)
{
    void *data;
    terms->each = (a.queries + OWN - 1) / OWN * OWN;
    size_t count = (size_t)a.batch * (size_t)a.heads * (size_t)terms->each;
    LIGHT_TRY(scratch(device, 2 * count * sizeof(float), &data));
    terms->lse = (float *)data;
    terms->delta = terms->lse + count;
    return LIGHT_OK;
}

light_status mma_backward(const light_device *device, const attention &a, int dtype)
{
    row_terms terms;
    LIGHT_TRY(terms_room(device, a, &terms));
    return by_form(a, dtype, [&](auto type, auto width, auto extras) {
        using T = decltype(type);
        constexpr int D = width;
        constexpr bool EXTRAS = extras;
        LIGHT_TRY(launch(device, terms_kernel<T>, blocks_for(device, a.batch * a.heads * terms.each, 16), 256,
                         0, a, terms, (float)(EXTRAS ? 1 : M_LOG2E)));
        if (a.gq.data)
            LIGHT_TRY(launch(device, backward_kernel<T, D, false, EXTRAS>,
                             blocks_of(a.batch, a.heads, a.queries, OWN), BACKWARD_THREADS,
                             backward_shared<D>(), a, terms, score_scale(a)));
        if (!a.gk.data && !a.gv.data) return LIGHT_OK;
        return launch(device, backward_kernel<T, D, true, EXTRAS>,
                      blocks_of(a.batch, a.kv_heads, a.keys, OWN), BACKWARD_THREADS, backward_shared<D>(), a,
                      terms, score_scale(a));
    });
}

} // namespace light
