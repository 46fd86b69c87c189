/* SPDX-License-Identifier: Apache-2.0 */
/* Making and moving contents: fill, arange, copy. */
#include "cuda/map.cuh"

namespace light
{

enum { THREADS = 256 };

/* ---- fill -------------------------------------------------------------------- */

template <class T> struct fill_value {
    T value;
    __device__ T operator()() const
    {
        return value;
    }
};

static light_status fill(const light_kernel_args *args)
{
    light_tensor *y = args->out[0];
    double value = ((const light_fill_attrs *)args->attrs)->value;
    return by_dtype(y->dtype, [&](auto type) {
        using T = decltype(type);
        return map<T>::run(args->device, fill_value<T>{to<T>(value)}, false, y);
    });
}

/* ---- arange ------------------------------------------------------------------ */

template <class T> __global__ void arange_kernel(T *y, int64_t n, double start, double step)
{
    for (int64_t i = first_element(); i < n; i += grid_stride()) y[i] = to<T>(start + (double)i * step);
}

static light_status arange(const light_kernel_args *args)
{
    const light_arange_attrs *attrs = (const light_arange_attrs *)args->attrs;
    light_tensor *y = args->out[0];
    return by_dtype(y->dtype, [&](auto type) {
        using T = decltype(type);
        return launch(args->device, arange_kernel<T>, blocks_for(args->device, y->numel, THREADS), THREADS, 0,
                      (T *)y->data, y->numel, attrs->start, attrs->step);
    });
}

/* ---- copy -------------------------------------------------------------------- */

template <class S> struct copy_element {
    __device__ S operator()(S x) const
    {
        return x;
    }
};

/* ---- copies whose fastest dims differ ------------------------------------------ */

/* The fastest dim of x, in which y's rows lie `y_step` apart, and that of y, in which x's columns lie `x_step` apart. */
struct transpose_plan {
    walk<2> planes; /* all other dims: y, x */
    int64_t rows, columns, y_step, x_step;
    int64_t row_tiles, column_tiles;
    bool accumulate;
};

enum {
    TILE_WIDTH = 32,
    TILE_HEIGHT = 8 /* threads */,
    LEAST_SIDE = 16 /* shorter dims are not worth a tile */
};

/* Elements of a side of a tile: threads side by side have 64 bytes at least. */
template <class T> constexpr int tile_side()
{
    return sizeof(T) <= 2 ? 2 * TILE_WIDTH : TILE_WIDTH;
}

/* Tiles are read along x's fastest dim and written along y's, so that both go by whole lines of memory. */
template <class T>
__global__ void __launch_bounds__(TILE_WIDTH *TILE_HEIGHT)
    transpose_kernel(transpose_plan plan, T *y, const T *x)
{
    enum { SIDE = tile_side<T>() };
    __shared__ T room[SIDE][SIDE + 1]; /* one more, so that columns are spread over the banks */
    int64_t tiles = plan.planes.numel * plan.row_tiles * plan.column_tiles;
    for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        int64_t rest = tile / plan.column_tiles, column = (tile - rest * plan.column_tiles) * SIDE;
        int64_t plane = rest / plan.row_tiles, row = (rest - plane * plan.row_tiles) * SIDE, at[2];
        walk_offsets(plan.planes, plane, at);
        for (int c = threadIdx.y; c < SIDE && column + c < plan.columns; c += TILE_HEIGHT)
            for (int r = threadIdx.x; r < SIDE && row + r < plan.rows; r += TILE_WIDTH)
                room[c][r] = x[at[1] + (column + c) * plan.x_step + row + r];
        __syncthreads();
        for (int r = threadIdx.y; r < SIDE && row + r < plan.rows; r += TILE_HEIGHT)
            for (int c = threadIdx.x; c < SIDE && column + c < plan.columns; c += TILE_WIDTH) {
                T *to = y + at[0] + (row + r) * plan.y_step + column + c;
                *to = plan.accumulate ? stored_sum(*to, room[c][r]) : room[c][r];
            }
        __syncthreads();
    }
}

/* Whether input and output have different fastest dims that are worth tiles. */
static bool is_transpose(const light_tensor *y, const light_tensor *x, transpose_plan *plan)
{
    const light_tensor *both[] = {y, x};
    light_iter it;
    light_iter_init(&it, both, 2);
    int last = it.ndim - 1, across = 0;
    if (it.numel == 0 || it.strides[0][last] != 1 || it.strides[1][last] == 1 || it.shape[last] < LEAST_SIDE)
        return false;
    while (across < last && (it.strides[1][across] != 1 || it.shape[across] < LEAST_SIDE)) across++;
    if (across == last) return false;
    *plan = transpose_plan{};
    plan->columns = it.shape[last];
    plan->x_step = it.strides[1][last];
    plan->rows = it.shape[across];
    plan->y_step = it.strides[0][across];
    for (int d = across; d + 1 < last; d++) light_iter_swap(&it, d, d + 1);
    it.ndim -= 2;
    light_iter_close(&it);
    plan->planes = walk_over<2>(it);
    return true;
}

template <class T> static light_status transpose(const light_kernel_args *args, transpose_plan *plan)
{
    plan->accumulate = args->accumulate & 1;
    plan->row_tiles = (plan->rows + tile_side<T>() - 1) / tile_side<T>();
    plan->column_tiles = (plan->columns + tile_side<T>() - 1) / tile_side<T>();
    int64_t tiles = plan->planes.numel * plan->row_tiles * plan->column_tiles;
    return launch(args->device, transpose_kernel<T>, blocks_for(args->device, tiles, 1),
                  dim3(TILE_WIDTH, TILE_HEIGHT), 0, *plan, (T *)args->out[0]->data,
                  (const T *)args->in[0]->data);
}

static light_status copy_tensor(const light_kernel_args *args)
{
    const light_tensor *x = args->in[0];
    light_tensor *y = args->out[0];
    transpose_plan plan;
    if (x->dtype == y->dtype && is_transpose(y, x, &plan))
        return by_dtype(y->dtype, [&](auto type) { return transpose<decltype(type)>(args, &plan); });
    return by_dtype(y->dtype, [&](auto to_type) {
        return by_dtype(x->dtype, [&](auto from_type) {
            using S = decltype(from_type);
            return map<decltype(to_type), S>::run(args->device, copy_element<S>{}, args->accumulate & 1, y,
                                                  x);
        });
    });
}

extern const kernel_entry copy_kernels[] = {
    {LIGHT_KERNEL_FILL, fill},
    {LIGHT_KERNEL_ARANGE, arange},
    {LIGHT_KERNEL_COPY, copy_tensor},
    {LIGHT_KERNEL_COUNT, NULL},
};

} // namespace light
