/* SPDX-License-Identifier: Apache-2.0 */
/* Sums of what goes to one place, in a fixed order and without atomics on floats: items are sorted by the key of their
 * place, stably, then each place adds up its items in the order they had.
 *
 * Sorting is by 8 bits at a time (S. Ha, J. Krueger, C. T. Silva: Fast 4-way parallel radix sorting on GPUs. 2009, with
 * ranks from votes). Summing goes over chunks of the sorted items: what lies within a chunk is finished there; a chunk's
 * part of a place that goes on in others is kept, and a second kernel adds the parts up. */
#ifndef LIGHT_CUDA_SEGMENTS_CUH
#define LIGHT_CUDA_SEGMENTS_CUH

#include "cuda/block.cuh"
#include "cuda/fault.cuh"
#include "cuda/floats.cuh"
#include "cuda/walk.cuh"

namespace light
{

enum {
    SORT_THREADS = 256,
    SORT_WARPS = SORT_THREADS / 32,
    SORT_ROUNDS = 8, /* items of a thread */
    SORT_TILE = SORT_THREADS * SORT_ROUNDS,
    DIGITS = 256 /* of a pass: as many as threads */
};

/* Keys and the items' numbers, in ascending order of keys and then of numbers. */
struct segments {
    uint32_t *keys, *items;
    uint32_t n;
};

/* What lies in scratch. */
struct sort_room {
    uint32_t *keys[2], *items[2];
    uint32_t *counts, *totals; /* of each digit in each tile; in all tiles */
    uint32_t tiles;
};

inline size_t aligned_size(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

inline size_t sort_bytes(uint32_t n)
{
    size_t tiles = ((size_t)n + SORT_TILE - 1) / SORT_TILE;
    return 4 * aligned_size((size_t)n * 4) + aligned_size((tiles + 1) * DIGITS * 4);
}

/* Divides memory; the keys go to keys[0]. */
inline sort_room sort_room_of(void *memory, uint32_t n)
{
    sort_room room;
    char *at = (char *)memory;
    for (int i = 0; i < 2; i++) {
        room.keys[i] = (uint32_t *)at;
        room.items[i] = (uint32_t *)(at + aligned_size((size_t)n * 4));
        at += 2 * aligned_size((size_t)n * 4);
    }
    room.tiles = (n + SORT_TILE - 1) / SORT_TILE;
    room.totals = (uint32_t *)at;
    room.counts = room.totals + DIGITS;
    return room;
}

/* ---- sorting ---------------------------------------------------------------- */

/* How often each digit is in each tile: counts[digit][tile]. */
static __global__ void __launch_bounds__(SORT_THREADS)
    count_digits_kernel(const uint32_t *keys, uint32_t n, int shift, uint32_t tiles, uint32_t *counts)
{
    __shared__ uint32_t count[DIGITS];
    count[threadIdx.x] = 0;
    __syncthreads();
    for (int r = 0; r < SORT_ROUNDS; r++) {
        uint32_t i = blockIdx.x * SORT_TILE + r * SORT_THREADS + threadIdx.x;
        if (i < n) atomicAdd(&count[keys[i] >> shift & (DIGITS - 1)], 1u);
    }
    __syncthreads();
    counts[(size_t)threadIdx.x * tiles + blockIdx.x] = count[threadIdx.x];
}

/* A block a digit: counts become how often it is in the tiles before. */
static __global__ void __launch_bounds__(SORT_THREADS)
    sum_counts_kernel(uint32_t tiles, uint32_t *counts, uint32_t *totals)
{
    __shared__ uint32_t room[32];
    uint32_t *count = counts + (size_t)blockIdx.x * tiles, total = 0, all;
    for (uint32_t first = 0; first < tiles; first += SORT_THREADS) {
        uint32_t i = first + threadIdx.x, own = i < tiles ? count[i] : 0;
        uint32_t upto = block_scan(own, room, &all);
        if (i < tiles) count[i] = total + upto - own;
        total += all;
    }
    if (threadIdx.x == 0) totals[blockIdx.x] = total;
}

/* The lanes of this warp that have the same digit. */
__device__ inline uint32_t same_digit(uint32_t digit, bool there)
{
    uint32_t same = __ballot_sync(0xffffffffu, there);
#pragma unroll
    for (int bit = 0; bit < 8; bit++) {
        uint32_t ones = __ballot_sync(0xffffffffu, digit >> bit & 1);
        same &= digit >> bit & 1 ? ones : ~ones;
    }
    return same;
}

/* Puts the items of a tile in their places. A warp has neighbouring items, so that their order is kept: it counts how
 * many of each digit came before. Without `items` they are numbered as they come; without `counts` there is one tile. */
static __global__ void __launch_bounds__(SORT_THREADS)
    place_items_kernel(const uint32_t *keys, const uint32_t *items, uint32_t n, int shift, uint32_t tiles,
                       const uint32_t *counts, const uint32_t *totals, uint32_t *keys_to, uint32_t *items_to)
{
    __shared__ uint32_t base[SORT_WARPS][DIGITS], room[32];
    uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, all;
    uint32_t first = blockIdx.x * SORT_TILE + warp * 32 * SORT_ROUNDS + lane;
    uint32_t key[SORT_ROUNDS], rank[SORT_ROUNDS];

    for (uint32_t w = 0; w < SORT_WARPS; w++) base[w][threadIdx.x] = 0;
    __syncthreads();
#pragma unroll
    for (int r = 0; r < SORT_ROUNDS; r++) {
        uint32_t i = first + r * 32;
        key[r] = i < n ? keys[i] : 0;
        uint32_t digit = key[r] >> shift & (DIGITS - 1), same = same_digit(digit, i < n);
        rank[r] = base[warp][digit] + __popc(same & ((1u << lane) - 1));
        __syncwarp();
        if (i < n && same >> lane == 1) base[warp][digit] = rank[r] + 1; /* the last of them */
        __syncwarp();
    }
    __syncthreads();
    uint32_t own = totals[threadIdx.x], before = block_scan(own, room, &all) - own;
    if (counts) before += counts[(size_t)threadIdx.x * tiles + blockIdx.x];
    for (uint32_t w = 0; w < SORT_WARPS; w++) {
        uint32_t count = base[w][threadIdx.x];
        base[w][threadIdx.x] = before;
        before += count;
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < SORT_ROUNDS; r++) {
        uint32_t i = first + r * 32;
        if (i >= n) continue;
        uint32_t to = base[warp][key[r] >> shift & (DIGITS - 1)] + rank[r];
        keys_to[to] = key[r];
        items_to[to] = items ? items[i] : i;
    }
}

/* Sorts room.keys[0]; keys are at most `most`. */
inline light_status sort_items(const light_device *device, const sort_room &room, uint32_t n, uint32_t most,
                               segments *sorted)
{
    int from = 0;
    uint32_t *counts = room.tiles > 1 ? room.counts : NULL; /* those of one tile are the totals */
    for (int shift = 0; shift == 0 || (shift < 32 && most >> shift); shift += 8) {
        const uint32_t *keys = room.keys[from], *items = shift ? room.items[from] : NULL;
        LIGHT_TRY(launch(device, count_digits_kernel, room.tiles, SORT_THREADS, 0, keys, n, shift, room.tiles,
                         counts ? counts : room.totals));
        if (counts)
            LIGHT_TRY(
                launch(device, sum_counts_kernel, DIGITS, SORT_THREADS, 0, room.tiles, counts, room.totals));
        LIGHT_TRY(launch(device, place_items_kernel, room.tiles, SORT_THREADS, 0, keys, items, n, shift,
                         room.tiles, (const uint32_t *)counts, (const uint32_t *)room.totals,
                         room.keys[!from], room.items[!from]));
        from = !from;
    }
    *sorted = segments{room.keys[from], room.items[from], n};
    return LIGHT_OK;
}

/* ---- summing ------------------------------------------------------------------- */

/* Integers are added without a sign, so that they wrap around. */
template <class T> struct sum_type {
    using type = real_of<T>;
};
template <> struct sum_type<int64_t> {
    using type = uint64_t;
};
template <> struct sum_type<int32_t> {
    using type = uint32_t;
};

/* Where rows lie: of items (src) and of places (out). `rest` walks through a row of out, src; both kernels take N of its
 * elements at once. Keys from `limit` on, and `skip`, have no place. */
struct row_places {
    walk<2> rest;
    int64_t out_stride, src_stride; /* from row to row */
    uint32_t limit, skip;

    __device__ int64_t width() const
    {
        return rest.numel;
    }
    __device__ bool has(uint32_t key) const
    {
        return key < limit && key != skip;
    }
    __device__ void offsets(uint32_t key, uint32_t item, int64_t column, int64_t *out, int64_t *src) const
    {
        int64_t at[2] = {column, column};
        if (!rest.linear) walk_offsets(rest, column, at);
        *out = key * out_stride + at[0];
        *src = item * src_stride + at[1];
    }
};

/* Single elements: a key is the offset in out, items are elements of a walk through index, src and out. */
struct element_places {
    walk<3> elements;
    uint32_t limit;

    __device__ int64_t width() const
    {
        return 1;
    }
    __device__ bool has(uint32_t key) const
    {
        return key < limit;
    }
    __device__ void offsets(uint32_t key, uint32_t item, int64_t, int64_t *out, int64_t *src) const
    {
        int64_t at[3];
        walk_offsets(elements, item, at);
        *out = key;
        *src = at[1];
    }
};

template <class T, int N, class S>
__device__ inline void put_sums(T *to, const neighbours<S, N> &sum, bool add)
{
    neighbours<T, N> *at = (neighbours<T, N> *)to, result;
    if (add) result = *at;
#pragma unroll
    for (int j = 0; j < N; j++)
        result.at[j] = light::to<T>(add ? (S)((S)widen(result.at[j]) + sum.at[j]) : sum.at[j]);
    *at = result;
}

/* Chunks grow with the items, so that neither they nor what is added up afterwards gets long. */
inline uint32_t chunk_items_of(uint32_t n)
{
    uint32_t items = 32;
    while ((uint64_t)items * items * 8 < n) items *= 2;
    return items;
}

/* What a thread of the kernels below has: a chunk and N of the columns. */
template <int N> struct chunk_part {
    int64_t chunk, column;
    uint32_t begin, end; /* items */

    __device__ chunk_part(const segments &s, uint32_t chunk_items, int64_t width)
    {
        int64_t i = first_element(), parts = width / N;
        chunk = i / parts;
        column = (i - chunk * parts) * N;
        begin = (uint32_t)(chunk * chunk_items < s.n ? chunk * chunk_items : s.n);
        end = s.n - begin < chunk_items ? s.n : begin + chunk_items;
    }
};

/* Whether the place of item i is that of the item before, too. */
__device__ inline bool goes_on(const segments &s, uint32_t i)
{
    return i > 0 && i < s.n && s.keys[i - 1] == s.keys[i];
}

/* A place that lies in several chunks gets a part from each: 0 from one that it comes into, 1 from where it begins. */
template <class O, class T, int N, class PLACES>
__global__ void sum_chunks_kernel(segments s, PLACES places, uint32_t chunk_items, O *out, const T *src,
                                  typename sum_type<O>::type *parts, bool add)
{
    using S = typename sum_type<O>::type;
    chunk_part<N> mine(s, chunk_items, places.width());
    uint32_t i = mine.begin;

    while (i < mine.end) {
        uint32_t key = s.keys[i], stop = i + 1;
        bool comes_in = i == mine.begin && goes_on(s, i);
        while (stop < mine.end && s.keys[stop] == key) stop++;
        if (!places.has(key)) {
            i = stop;
            continue;
        }
        int64_t to = 0, from;
        neighbours<S, N> sum = {};
#pragma unroll 4
        for (; i < stop; i++) {
            places.offsets(key, s.items[i], mine.column, &to, &from);
            auto x = *(const neighbours<T, N> *)(src + from);
#pragma unroll
            for (int j = 0; j < N; j++) sum.at[j] = (S)(sum.at[j] + (S)widen(x.at[j]));
        }
        if (comes_in || (i == mine.end && goes_on(s, i))) {
            S *part = parts + (mine.chunk * 2 + !comes_in) * places.width() + mine.column;
            *(neighbours<S, N> *)part = sum;
        } else {
            put_sums<O, N>(out + to, sum, add);
        }
    }
}

/* Adds up the parts of the place that begins in a chunk and goes on in the next. */
template <class O, int N, class PLACES>
__global__ void join_chunks_kernel(segments s, PLACES places, uint32_t chunk_items, O *out,
                                   const typename sum_type<O>::type *parts, bool add)
{
    using S = typename sum_type<O>::type;
    chunk_part<N> mine(s, chunk_items, places.width());

    if (mine.begin >= mine.end || !goes_on(s, mine.end)) return;
    uint32_t key = s.keys[mine.end], end = mine.end;
    if (!places.has(key) || (s.keys[mine.begin] == key && goes_on(s, mine.begin))) return;
    const S *part = parts + (mine.chunk * 2 + 1) * places.width() + mine.column;
    neighbours<S, N> sum = *(const neighbours<S, N> *)part;
    part -= places.width();
    while (goes_on(s, end) && s.keys[end] == key) {
        part += 2 * places.width();
        neighbours<S, N> x = *(const neighbours<S, N> *)part;
#pragma unroll
        for (int j = 0; j < N; j++) sum.at[j] = (S)(sum.at[j] + x.at[j]);
        end = s.n - end < chunk_items ? s.n : end + chunk_items;
    }
    int64_t to, from;
    places.offsets(key, s.items[mine.end], mine.column, &to, &from);
    put_sums<O, N>(out + to, sum, add);
}

/* Adds n items of src to their places, or writes their sums. make_keys(keys) starts what computes the keys, which are
 * `most` at most. N: columns that a thread takes. */
template <class O, class T, int N, class PLACES, class F>
light_status add_by_key(const light_device *device, uint32_t n, uint32_t most, const PLACES &places,
                        int64_t width, void *out, const void *src, bool add, F make_keys)
{
    using S = typename sum_type<O>::type;
    uint32_t items = chunk_items_of(n);
    int64_t chunks = ((int64_t)n + items - 1) / items;
    unsigned blocks = (unsigned)((chunks * (width / N) + SORT_THREADS - 1) / SORT_THREADS);
    size_t sorting = sort_bytes(n);
    segments s;
    void *memory;

    LIGHT_TRY(scratch(device, sorting + (size_t)(chunks * 2 * width) * sizeof(S), &memory));
    sort_room room = sort_room_of(memory, n);
    S *parts = (S *)((char *)memory + sorting);
    LIGHT_TRY(make_keys(room.keys[0]));
    LIGHT_TRY(sort_items(device, room, n, most, &s));
    auto sum = sum_chunks_kernel<O, T, N, PLACES>;
    auto join = join_chunks_kernel<O, N, PLACES>;
    LIGHT_TRY(
        launch(device, sum, blocks, SORT_THREADS, 0, s, places, items, (O *)out, (const T *)src, parts, add));
    return launch(device, join, blocks, SORT_THREADS, 0, s, places, items, (O *)out, (const S *)parts, add);
}

/* ---- keys of rows --------------------------------------------------------------- */

/* An index out of range is noted and gets the key `limit`. */
template <class I>
__global__ void row_keys_kernel(const I *index, int64_t stride, uint32_t n, uint32_t limit, uint32_t *keys,
                                fault *faults, int kernel)
{
    for (int64_t i = first_element(); i < n; i += grid_stride()) {
        int64_t row = index[i * stride];
        keys[i] = check_index(faults, kernel, row, limit) ? (uint32_t)row : limit;
    }
}

/* out[index[i]] += src[i] for rows as `places` tells. The fault, if there is one, is `kernel`'s. */
template <class O, class T, int N>
light_status add_rows(const light_kernel_args *args, light_kernel_id kernel, const light_tensor *index,
                      const row_places &places, void *out, const void *src, bool add)
{
    const light_device *device = args->device;
    uint32_t n = (uint32_t)index->numel;
    int64_t stride = index->ndim ? index->strides[index->ndim - 1] : 1;
    return add_by_key<O, T, N>(
        device, n, places.limit, places, places.rest.numel, out, src, add, [&](uint32_t *keys) {
            return by_index(index->dtype, [&](auto type) {
                using I = decltype(type);
                return launch(device, row_keys_kernel<I>, blocks_for(device, n, SORT_THREADS), SORT_THREADS,
                              0, (const I *)index->data, stride, n, places.limit, keys,
                              state_of(device)->fault_device, (int)kernel);
            });
        });
}

/* Whether rows of out and src may be taken N columns at a time. */
inline bool rows_fit(const row_places &places, const void *out, const void *src, int n)
{
    return places.rest.linear && places.rest.numel % n == 0 && places.out_stride % n == 0 &&
           places.src_stride % n == 0 && packs_fit(out) && packs_fit(src);
}

/* More items than can be sorted, or more places than keys. */
inline light_status check_sizes(int64_t n, int64_t places)
{
    if (n < INT32_MAX && places < UINT32_MAX) return LIGHT_OK;
    return light_fail(LIGHT_ERR_UNSUPPORTED, "%lld indices into %lld rows are more than can be sorted",
                      (long long)n, (long long)places);
}

} // namespace light

#endif
