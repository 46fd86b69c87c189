/* SPDX-License-Identifier: Apache-2.0 */
/* Rotary positions: pair i of position t turns by t base^(-2 i / d). A block has some rows of one position: it makes the
 * angles once, in double, and turns the rows by them. x is read once, y written once.
 * J. Su, Y. Lu, S. Pan, B. Wen, Y. Liu: RoFormer: Enhanced Transformer with Rotary Position Embedding. 2021. */
#include "cuda/number.cuh"
#include "cuda/walk.cuh"

#include <math.h>

namespace light
{

enum { THREADS = 256, PAIRS = 128 /* that a launch turns; wider rows take more launches */ };

struct rope {
    walk<2> rows;                   /* y, x: where the rows of position 0 begin */
    int64_t positions, position[2]; /* their distance */
    int64_t offset, half;
    int64_t chunks, chunk; /* rows of a position are cut into chunks */
    int first, pairs;      /* pairs of this launch */
    bool inverse, add;
    double frequencies[PAIRS];
};

template <class T, int N> struct loose {
    T at[N];
};

/* What a thread takes at once: a pack, or in rows that are not aligned one pair's elements that are neighbours. */
template <class T, bool PACKED, bool INTERLEAVED>
using part_of = typename std::conditional<PACKED, pack<T>, loose<T, INTERLEAVED ? 2 : 1>>::type;

/* Writes or adds. */
template <class T, class P, class R> __device__ inline void put(T *p, const R *values, bool add)
{
    constexpr int N = sizeof(P) / sizeof(T);
    P result = *(const P *)p;
#pragma unroll
    for (int j = 0; j < N; j++) result.at[j] = to<T>(add ? widen(result.at[j]) + values[j] : values[j]);
    *(P *)p = result;
}

/* Part i of the row's pairs that this launch turns. */
template <class T, bool PACKED, bool INTERLEAVED>
__device__ inline void turn_part(const rope &r, const T *x, T *y, int i, const real_of<T> *cosine,
                                 const real_of<T> *sine)
{
    using R = real_of<T>;
    using P = part_of<T, PACKED, INTERLEAVED>;
    constexpr int N = sizeof(P) / sizeof(T);
    int first = (INTERLEAVED ? 2 : 1) * r.first + i * N;
    R low[N], high[N];

    if constexpr (INTERLEAVED) {
        P v = *(const P *)(x + first);
#pragma unroll
        for (int j = 0; j < N; j += 2) {
            R c = cosine[(i * N + j) / 2], s = sine[(i * N + j) / 2];
            low[j] = widen(v.at[j]) * c - widen(v.at[j + 1]) * s;
            low[j + 1] = widen(v.at[j + 1]) * c + widen(v.at[j]) * s;
        }
    } else {
        P a = *(const P *)(x + first), b = *(const P *)(x + r.half + first);
#pragma unroll
        for (int j = 0; j < N; j++) {
            R c = cosine[i * N + j], s = sine[i * N + j];
            low[j] = widen(a.at[j]) * c - widen(b.at[j]) * s;
            high[j] = widen(b.at[j]) * c + widen(a.at[j]) * s;
        }
        put<T, P>(y + r.half + first, high, r.add);
    }
    put<T, P>(y + first, low, r.add);
}

template <class T, bool PACKED, bool INTERLEAVED>
__global__ void __launch_bounds__(THREADS) rope_kernel(rope r, T *y, const T *x)
{
    using R = real_of<T>;
    constexpr int N = sizeof(part_of<T, PACKED, INTERLEAVED>) / sizeof(T);
    __shared__ R cosine[PAIRS], sine[PAIRS];
    int64_t t = blockIdx.x / r.chunks, from = blockIdx.x % r.chunks * r.chunk;
    int64_t rows = from + r.chunk < r.rows.numel ? r.chunk : r.rows.numel - from;
    unsigned parts = (INTERLEAVED ? 2 : 1) * r.pairs / N;

    for (int i = threadIdx.x; i < r.pairs; i += THREADS) {
        double s, c;
        sincos((double)(r.offset + t) * r.frequencies[i], &s, &c);
        cosine[i] = (R)c;
        sine[i] = (R)(r.inverse ? -s : s);
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < (unsigned)rows * parts; i += THREADS) {
        int64_t at[2];
        walk_offsets(r.rows, from + i / parts, at);
        turn_part<T, PACKED, INTERLEAVED>(r, x + at[1] + t * r.position[1], y + at[0] + t * r.position[0],
                                          i % parts, cosine, sine);
    }
}

/* The dims before the last two, in the memory order of y. */
static walk<2> outer_rows(const light_tensor *y, const light_tensor *x)
{
    light_tensor outer[2] = {*y, *x};
    for (light_tensor &t : outer) t.ndim -= 2;
    return walk_of<2>({&outer[0], &outer[1]});
}

/* Whether all parts of `length` elements begin on 16 bytes and are packs. */
static bool rows_fit(const light_tensor *t, int64_t length)
{
    int64_t size = 16 / (int64_t)light_dtype_size((light_dtype)t->dtype);
    bool fit = packs_fit(t->data) && length % size == 0;
    for (int d = 0; d < t->ndim - 1; d++) fit = fit && (t->shape[d] == 1 || t->strides[d] % size == 0);
    return fit;
}

/* A chunk has so many rows that their angles cost little, unless that leaves the device idle. */
static void cut_rows(const light_device *device, rope *r)
{
    int64_t rows = r->rows.numel, busy = (int64_t)state_of(device)->sm_count * 16;
    int64_t chunks = busy / r->positions + 1, most = (rows + 15) / 16, least = (rows + 1023) / 1024;
    if (chunks > most) chunks = most;
    if (chunks < least) chunks = least;
    r->chunk = (rows + chunks - 1) / chunks;
    r->chunks = (rows + r->chunk - 1) / r->chunk;
}

template <class T>
static light_status run_rope(const light_device *device, rope r, light_tensor *y, const light_tensor *x,
                             const light_rope_attrs *attrs)
{
    int64_t length = attrs->interleaved ? 2 * r.half : r.half;
    bool packed = rows_fit(x, length) && rows_fit(y, length);
    auto kernel = attrs->interleaved ? packed ? rope_kernel<T, true, true> : rope_kernel<T, false, true>
                  : packed ? rope_kernel<T, true, false>
                                     : rope_kernel<T, false, false>;
    for (int64_t first = 0; first < r.half; first += PAIRS) {
        r.first = (int)first;
        r.pairs = r.half - first < PAIRS ? (int)(r.half - first) : PAIRS;
        for (int i = 0; i < r.pairs; i++)
            r.frequencies[i] = pow(attrs->base, -2.0 * (double)(first + i) / (double)(2 * r.half));
        LIGHT_TRY(launch(device, kernel, (unsigned)(r.positions * r.chunks), THREADS, 0, r, (T *)y->data,
                         (const T *)x->data));
    }
    return LIGHT_OK;
}

static light_status rotate(const light_kernel_args *args)
{
    const light_rope_attrs *attrs = (const light_rope_attrs *)args->attrs;
    const light_tensor *x = args->in[0];
    light_tensor *y = args->out[0];
    int position = x->ndim - 2;
    rope r = {};

    if (x->numel == 0) return LIGHT_OK;
    r.rows = outer_rows(y, x);
    r.positions = x->shape[position];
    r.position[0] = y->strides[position];
    r.position[1] = x->strides[position];
    r.offset = attrs->offset;
    r.half = x->shape[position + 1] / 2;
    r.inverse = attrs->inverse;
    r.add = args->accumulate & 1;
    cut_rows(args->device, &r);
    return by_float(x->dtype,
                    [&](auto type) { return run_rope<decltype(type)>(args->device, r, y, x, attrs); });
}

extern const kernel_entry rope_kernels[] = {
    {LIGHT_KERNEL_ROPE, rotate},
    {LIGHT_KERNEL_COUNT, NULL},
};

} // namespace light
