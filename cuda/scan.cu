/* SPDX-License-Identifier: Apache-2.0 */
/* What goes along the lines of one dim: cumulative sums, the k largest. */
#include "cuda/block.cuh"
#include "cuda/map.cuh"

namespace light
{

enum { SCAN_THREADS = 256, SCAN_ITEMS = 4 /* neighbours of a thread */ };

struct scan_plan {
    walk<3> lines; /* all dims but the one: x, the outputs */
    int64_t n;     /* elements of a line of x */
    int64_t step[3];
    bool reverse, accumulate;
    int parts; /* of a line, a block each */
};

static scan_plan scan_plan_of(const light_kernel_args *args, int dim)
{
    const light_tensor *x = args->in[0], *second = args->out[1] ? args->out[1] : args->out[0];
    const light_tensor *tensors[] = {x, args->out[0], second};
    scan_plan plan = {};
    light_iter lines = {};
    lines.operands = 3;
    for (int d = 0; d < x->ndim; d++)
        if (d != dim) light_iter_add(&lines, tensors, d);
    light_iter_close(&lines);
    light_iter_sort(&lines);
    light_iter_coalesce(&lines);
    plan.lines = walk_over<3>(lines);
    plan.n = x->ndim ? x->shape[dim] : 1;
    for (int k = 0; k < 3; k++) plan.step[k] = x->ndim ? tensors[k]->strides[dim] : 1;
    plan.parts = 1;
    return plan;
}

/* ---- cumulative sums ------------------------------------------------------------------ */

/* Sums are in double, those of whole numbers exact. */
template <class T> using sum_type = std::conditional_t<std::is_integral<T>::value, int64_t, double>;

/* Where the i-th element to be added stands in its line. */
__device__ inline int64_t scan_index(const scan_plan &plan, int64_t i)
{
    return plan.reverse ? plan.n - 1 - i : i;
}

template <class T, class Y> __device__ inline void put_sum(const scan_plan &plan, Y *y, sum_type<T> sum)
{
    *y = plan.accumulate ? to<Y>((sum_type<T>)widen(*y) + sum) : to<Y>(sum);
}

/* The sum of each part of each line. */
template <class T>
__global__ void __launch_bounds__(SCAN_THREADS)
    part_sums_kernel(scan_plan plan, const T *x, sum_type<T> *sums)
{
    using E = sum_type<T>;
    __shared__ E room[32];
    int64_t at[3], to = plan.n * (blockIdx.y + 1) / plan.parts;
    E sum = 0;
    walk_offsets(plan.lines, blockIdx.x, at);
    for (int64_t i = plan.n * blockIdx.y / plan.parts + threadIdx.x; i < to; i += SCAN_THREADS)
        sum += (E)widen(x[at[0] + scan_index(plan, i) * plan.step[0]]);
    sum = block_reduce(sum, sum_of{}, (E)0, room);
    if (threadIdx.x == 0) sums[(int64_t)blockIdx.x * plan.parts + blockIdx.y] = sum;
}

/* A part of a line, after the sum of all parts before it. */
template <class T, class Y>
__global__ void __launch_bounds__(SCAN_THREADS)
    scan_kernel(scan_plan plan, const T *x, Y *y, const sum_type<T> *sums)
{
    using E = sum_type<T>;
    __shared__ E room[32];
    int64_t at[3], from = plan.n * blockIdx.y / plan.parts, to = plan.n * (blockIdx.y + 1) / plan.parts;
    E carry = 0;
    walk_offsets(plan.lines, blockIdx.x, at);
    if (plan.parts > 1) {
        for (unsigned p = threadIdx.x; p < blockIdx.y; p += blockDim.x)
            carry += sums[(int64_t)blockIdx.x * plan.parts + p];
        carry = block_reduce(carry, sum_of{}, (E)0, room);
    }
    for (; from < to; from += blockDim.x * SCAN_ITEMS) {
        int64_t first = from + threadIdx.x * SCAN_ITEMS;
        E v[SCAN_ITEMS], own = 0, total;
#pragma unroll
        for (int k = 0; k < SCAN_ITEMS; k++)
            v[k] = first + k < to ? (E)widen(x[at[0] + scan_index(plan, first + k) * plan.step[0]]) : 0;
#pragma unroll
        for (int k = 0; k < SCAN_ITEMS; k++) own += v[k];
        E sum = carry + (block_scan(own, room, &total) - own);
#pragma unroll
        for (int k = 0; k < SCAN_ITEMS; k++) {
            sum += v[k];
            if (first + k >= to) continue;
            put_sum<T>(plan, y + at[1] + scan_index(plan, first + k) * plan.step[1], sum);
        }
        carry += total;
    }
}

/* A thread for each line: neighbours in memory belong to neighbouring threads. */
template <class T, class Y>
__global__ void __launch_bounds__(SCAN_THREADS) scan_lines_kernel(scan_plan plan, const T *x, Y *y)
{
    for (int64_t line = first_element(); line < plan.lines.numel; line += grid_stride()) {
        int64_t at[3];
        sum_type<T> sum = 0;
        walk_offsets(plan.lines, line, at);
#pragma unroll 4
        for (int64_t i = 0; i < plan.n; i++) {
            int64_t k = scan_index(plan, i);
            sum += (sum_type<T>)widen(x[at[0] + k * plan.step[0]]);
            put_sum<T>(plan, y + at[1] + k * plan.step[1], sum);
        }
    }
}

template <class T, class Y> static light_status cumsum_as(const light_kernel_args *args, scan_plan &plan)
{
    enum { MANY_LINES = 4096, SHORT_LINE = 8 };
    const light_device *device = args->device;
    const T *x = (const T *)args->in[0]->data;
    Y *y = (Y *)args->out[0]->data;
    sum_type<T> *sums = NULL;
    int64_t lines = plan.lines.numel;
    if (plan.n <= SHORT_LINE || (plan.step[0] != 1 && lines >= MANY_LINES))
        return launch(device, scan_lines_kernel<T, Y>, blocks_for(device, lines, SCAN_THREADS), SCAN_THREADS,
                      0, plan, x, y);
    int64_t parts = (state_of(device)->sm_count * 4 + lines - 1) / lines;
    int64_t most = plan.n / (SCAN_THREADS * SCAN_ITEMS * 4);
    plan.parts = (int)(parts < most ? parts : most > 1 ? most : 1);
    if (plan.parts > 1) {
        LIGHT_TRY(scratch(device, (size_t)(lines * plan.parts) * sizeof *sums, (void **)&sums));
        LIGHT_TRY(launch(device, part_sums_kernel<T>, dim3((unsigned)lines, (unsigned)plan.parts),
                         SCAN_THREADS, 0, plan, x, sums));
    }
    unsigned threads = 32;
    while (threads < SCAN_THREADS && threads * SCAN_ITEMS < plan.n) threads *= 2;
    return launch(device, scan_kernel<T, Y>, dim3((unsigned)lines, (unsigned)plan.parts), threads, 0, plan, x,
                  y, sums);
}

static light_status cumsum(const light_kernel_args *args)
{
    const light_cumsum_attrs *attrs = (const light_cumsum_attrs *)args->attrs;
    scan_plan plan = scan_plan_of(args, attrs->dim);
    plan.reverse = attrs->reverse;
    plan.accumulate = args->accumulate & 1;
    if (args->out[0]->numel == 0) return LIGHT_OK;
    return by_dtype(args->in[0]->dtype, [&](auto type) {
        using T = decltype(type);
        return cumsum_as<T, std::conditional_t<std::is_integral<T>::value, int64_t, T>>(args, plan);
    });
}

/* ---- topk ------------------------------------------------------------------------------ */

/* Whole numbers without sign that stand in the order of the elements; NaN is the largest. */
template <class U> __device__ inline U float_key(U bits, U exponent)
{
    const U sign = (U) ~((U) ~(U)0 >> 1);
    if ((bits & ~sign) > exponent) return (U) ~(U)0;
    if (bits == sign) bits = 0; /* -0 is 0 */
    return bits & sign ? (U)~bits : (U)(bits | sign);
}

__device__ inline uint64_t key_of(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return float_key(bits, (uint64_t)0x7ff << 52);
}
__device__ inline uint32_t key_of(float x)
{
    return float_key(bits_of_float(x), 0xffu << 23);
}
__device__ inline uint16_t key_of(bf16 x)
{
    return float_key(x.bits, (uint16_t)0x7f80);
}
__device__ inline uint16_t key_of(f16 x)
{
    return float_key(x.bits, (uint16_t)0x7c00);
}
__device__ inline uint64_t key_of(int64_t x)
{
    return (uint64_t)x ^ (uint64_t)1 << 63;
}
__device__ inline uint32_t key_of(int32_t x)
{
    return (uint32_t)x ^ 1u << 31;
}
__device__ inline uint8_t key_of(uint8_t x)
{
    return x;
}
__device__ inline uint8_t key_of(bool x)
{
    return x;
}

struct topk_entry {
    uint64_t key;
    int64_t index;
};

/* Whether a stands before b in the result. */
__device__ inline bool stands_before(topk_entry a, topk_entry b)
{
    return a.key != b.key ? a.key > b.key : a.index < b.index;
}

/* What the k entries of a line that stand first have in common: key > `key`, or key == `key` and index <= `index`. Keys
 * below the digits that were looked at are 0 in `key`, so that >= holds for all that share the digits above. */
struct topk_bound {
    uint64_t key;
    int64_t index;
    __device__ bool takes(topk_entry e) const
    {
        return e.key > key || (e.key == key && e.index <= index);
    }
};

enum { DIGITS = 256 };

struct topk_room {
    unsigned count[DIGITS]; /* entries with each digit */
    unsigned scan[32];
    unsigned found; /* the digit of the last entry that is taken */
    unsigned taken; /* entries with digits before it */
    unsigned next;
};

template <class T> struct topk_line {
    const T *x;
    int64_t n, step;
    __device__ topk_entry operator()(int64_t i) const
    {
        return topk_entry{key_of(x[i * step]), i};
    }
};

/* Counts the digits `digit(e)` of the line's entries; -1: left out. Then finds the digit, counted from 0, where the
 * need-th entry is, and lowers `need` by those before it. Returns whether all entries with that digit are taken. */
template <class T, class F>
__device__ inline bool find_digit(const topk_line<T> &line, F digit, topk_room *room, unsigned *need)
{
    room->count[threadIdx.x] = 0;
    __syncthreads();
    for (int64_t i = threadIdx.x; i < line.n; i += DIGITS) {
        int d = digit(line(i));
        if (d >= 0) atomicAdd(&room->count[d], 1u);
    }
    __syncthreads();
    unsigned mine = room->count[threadIdx.x], total, upto = block_scan(mine, room->scan, &total);
    if (upto >= *need && upto - mine < *need) {
        room->found = threadIdx.x;
        room->taken = upto - mine;
    }
    __syncthreads();
    *need -= room->taken;
    bool all = room->count[room->found] == *need;
    __syncthreads();
    return all;
}

/* Digit by digit, the largest first; where keys are equal, by digits of the index, the smallest first. */
template <class T>
__device__ inline topk_bound find_bound(const topk_line<T> &line, unsigned need, topk_room *room)
{
    topk_bound bound = {0, INT64_MAX};
    int bits = 8 * sizeof(key_of(T{}));
    for (int shift = bits - 8; shift >= 0; shift -= 8) {
        bool all = find_digit(
            line,
            [=](topk_entry e) {
                bool same = shift + 8 >= 64 || e.key >> (shift + 8) == bound.key >> (shift + 8);
                return same ? 255 - (int)(e.key >> shift & 255) : -1;
            },
            room, &need);
        bound.key |= (uint64_t)(255 - room->found) << shift;
        if (all) return bound;
    }
    bound.index = 0;
    bits = 8;
    while (bits < 64 && line.n >> bits) bits += 8;
    for (int shift = bits - 8; shift >= 0; shift -= 8) {
        bool all = find_digit(
            line,
            [=](topk_entry e) {
                bool same = e.key == bound.key &&
                            (shift + 8 >= 64 || e.index >> (shift + 8) == bound.index >> (shift + 8));
                return same ? (int)(e.index >> shift & 255) : -1;
            },
            room, &need);
        bound.index |= (int64_t)room->found << shift;
        if (!all) continue;
        bound.index |= ((int64_t)1 << shift) - 1;
        return bound;
    }
    return bound;
}

/* Bitonic, n a power of two. (K. Batcher, 1968.) */
__device__ inline void sort_entries(topk_entry *entries, int64_t n)
{
    for (int64_t size = 2; size <= n; size *= 2) {
        for (int64_t step = size / 2; step > 0; step /= 2) {
            __syncthreads();
            for (int64_t i = threadIdx.x; i < n; i += DIGITS) {
                int64_t j = i ^ step;
                if (j < i) continue;
                topk_entry a = entries[i], b = entries[j];
                if (stands_before(b, a) != ((i & size) == 0)) continue;
                entries[i] = b;
                entries[j] = a;
            }
        }
    }
    __syncthreads();
}

enum { SMALL_K = 1024 /* entries that are sorted in shared memory */ };

/* A block for a line at a time. `sorted`: k as a power of two; `space`: that many entries for each block, for large k. */
template <class T>
__global__ void __launch_bounds__(DIGITS, 2)
    topk_kernel(scan_plan plan, const T *x, T *values, int64_t *indices, int64_t k, int64_t sorted,
                topk_entry *space)
{
    __shared__ topk_room room;
    __shared__ topk_entry small[SMALL_K];
    topk_entry *entries = space ? space + blockIdx.x * sorted : small;
    for (int64_t i = blockIdx.x; i < plan.lines.numel; i += gridDim.x) {
        int64_t at[3];
        walk_offsets(plan.lines, i, at);
        topk_line<T> line = {x + at[0], plan.n, plan.step[0]};
        topk_bound bound = find_bound(line, (unsigned)k, &room);
        if (threadIdx.x == 0) room.next = 0;
        __syncthreads();
        for (int64_t j = threadIdx.x; j < plan.n; j += DIGITS)
            if (bound.takes(line(j))) entries[atomicAdd(&room.next, 1u)] = line(j);
        for (int64_t j = k + threadIdx.x; j < sorted; j += DIGITS) entries[j] = topk_entry{0, INT64_MAX};
        sort_entries(entries, sorted); /* so that it does not matter who came first */
        for (int64_t j = threadIdx.x; j < k; j += DIGITS) {
            values[at[1] + j * plan.step[1]] = line.x[entries[j].index * line.step];
            indices[at[2] + j * plan.step[2]] = entries[j].index;
        }
        __syncthreads();
    }
}

static light_status topk(const light_kernel_args *args)
{
    const light_topk_attrs *attrs = (const light_topk_attrs *)args->attrs;
    const light_device *device = args->device;
    scan_plan plan = scan_plan_of(args, attrs->dim);
    int64_t sorted = 1, most = (int64_t)state_of(device)->sm_count * 4;
    topk_entry *space = NULL;
    if (args->out[0]->numel == 0) return LIGHT_OK;
    if (plan.n > UINT32_MAX)
        return light_fail(LIGHT_ERR_UNSUPPORTED, "topk: a line of %lld elements; at most 2^32 - 1 can be had",
                          (long long)plan.n);
    while (sorted < attrs->k) sorted *= 2;
    unsigned blocks = (unsigned)(plan.lines.numel < most ? plan.lines.numel : most);
    if (sorted > SMALL_K)
        LIGHT_TRY(scratch(device, (size_t)(blocks * sorted) * sizeof *space, (void **)&space));
    return by_dtype(args->in[0]->dtype, [&](auto type) {
        using T = decltype(type);
        return launch(device, topk_kernel<T>, blocks, DIGITS, 0, plan, (const T *)args->in[0]->data,
                      (T *)args->out[0]->data, (int64_t *)args->out[1]->data, attrs->k, sorted, space);
    });
}

extern const kernel_entry scan_kernels[] = {
    {LIGHT_KERNEL_TOPK, topk},
    {LIGHT_KERNEL_CUMSUM, cumsum},
    {LIGHT_KERNEL_COUNT, NULL},
};

} // namespace light
