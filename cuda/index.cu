/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels that find elements by index. What goes to one place is added up in a fixed order (segments.cuh). */
#include "cuda/gather.cuh"
#include "cuda/segments.cuh"

namespace light
{

enum { THREADS = 256 };

static int64_t size_along(const light_tensor *t, int dim)
{
    return t->ndim ? t->shape[dim] : 1;
}

static int64_t stride_along(const light_tensor *t, int dim)
{
    return t->ndim ? t->strides[dim] : 1;
}

static int dim_of(const light_kernel_args *args)
{
    return ((const light_gather_attrs *)args->attrs)->dim;
}

static light_status gather(const light_kernel_args *args)
{
    const light_tensor *x = args->in[0], *index = args->in[1];
    int dim = dim_of(args);
    light_tensor still = still_along(x, index, dim);
    return gather_elements(args->device, LIGHT_KERNEL_GATHER, args->out[0], index, &still,
                           stride_along(x, dim), size_along(x, dim));
}

static light_status index_select(const light_kernel_args *args)
{
    return select_slabs(args->device, LIGHT_KERNEL_INDEX_SELECT, args->out[0], args->in[1], args->in[0],
                        dim_of(args));
}

/* ---- scatter_add ------------------------------------------------------------- */

/* Lines along the dim of the index, one after the other in memory: where index, src and out begin, and their steps. */
struct line_job {
    walk<3> lines;
    int64_t n, step[3], limit;
    fault *faults;
};

/* A thread a line: adds its elements in their order. */
template <class T, class I>
__global__ void scatter_lines_kernel(line_job job, const I *index, const T *src, T *out)
{
    using S = typename sum_type<T>::type;
    for (int64_t line = first_element(); line < job.lines.numel; line += grid_stride()) {
        int64_t at[3];
        walk_offsets(job.lines, line, at);
        for (int64_t i = 0; i < job.n; i++) {
            int64_t k = index[at[0] + i * job.step[0]];
            if (!check_index(job.faults, LIGHT_KERNEL_SCATTER_ADD, k, job.limit)) continue;
            T *to = &out[at[2] + k * job.step[2]];
            *to = light::to<T>((S)((S)widen(*to) + (S)widen(src[at[1] + i * job.step[1]])));
        }
    }
}

/* The key of an element is its offset in out, or `none`. */
template <class I>
__global__ void element_keys_kernel(walk<3> elements, const I *index, int64_t stride, int64_t limit,
                                    uint32_t none, uint32_t *keys, fault *faults)
{
    for (int64_t i = first_element(); i < elements.numel; i += grid_stride()) {
        int64_t at[3];
        walk_offsets(elements, i, at);
        int64_t k = index[at[0]];
        bool fine = check_index(faults, LIGHT_KERNEL_SCATTER_ADD, k, limit);
        keys[i] = fine ? (uint32_t)(at[2] + k * stride) : none;
    }
}

template <class T, class I> static light_status scatter_lines(const light_kernel_args *args, int dim)
{
    const light_tensor *src = args->in[0], *index = args->in[1], *out = args->out[0];
    light_tensor line[3] = {*index, *src, *out};
    line_job job = {};

    for (light_tensor &t : line)
        for (int d = 0; d < index->ndim; d++) t.shape[d] = d == dim ? 1 : index->shape[d];
    job.lines = walk_of<3>({&line[0], &line[1], &line[2]});
    job.n = size_along(index, dim);
    job.step[0] = stride_along(index, dim);
    job.step[1] = stride_along(src, dim);
    job.step[2] = stride_along(out, dim);
    job.limit = size_along(out, dim);
    job.faults = state_of(args->device)->fault_device;
    return launch(args->device, scatter_lines_kernel<T, I>,
                  blocks_for(args->device, job.lines.numel, THREADS), THREADS, 0, job, (const I *)index->data,
                  (const T *)src->data, (T *)out->data);
}

template <class T, class I>
static light_status scatter_sorted(const light_kernel_args *args, int dim, int64_t extent)
{
    const light_device *device = args->device;
    const light_tensor *src = args->in[0], *index = args->in[1], *out = args->out[0];
    light_tensor still = still_along(out, index, dim);
    element_places places = {walk_of<3>({index, src, &still}), (uint32_t)extent};

    return add_by_key<T, T, 1>(
        device, (uint32_t)index->numel, places.limit, places, 1, out->data, src->data, true,
        [&](uint32_t *keys) {
            return launch(device, element_keys_kernel<I>, blocks_for(device, index->numel, THREADS), THREADS,
                          0, places.elements, (const I *)index->data, stride_along(out, dim),
                          size_along(out, dim), places.limit, keys, state_of(device)->fault_device);
        });
}

static light_status scatter_add(const light_kernel_args *args)
{
    const light_tensor *index = args->in[1], *out = args->out[0];
    int dim = dim_of(args);
    int64_t n = size_along(index, dim), extent = 1;

    if (index->numel == 0) return LIGHT_OK;
    for (int d = 0; d < out->ndim; d++) extent += (out->shape[d] - 1) * out->strides[d];
    /* Lines that are short, or many, are as good as sorting; so are more elements than keys. */
    bool lines = n <= 16 || index->numel / n >= 32768 || index->numel >= INT32_MAX || extent >= UINT32_MAX;
    return by_dtype(out->dtype, [&](auto type) {
        return by_index(index->dtype, [&](auto index_type) {
            using T = decltype(type);
            using I = decltype(index_type);
            return lines ? scatter_lines<T, I>(args, dim) : scatter_sorted<T, I>(args, dim, extent);
        });
    });
}

/* ---- index_add --------------------------------------------------------------------- */

static light_status index_add(const light_kernel_args *args)
{
    const light_tensor *src = args->in[0], *index = args->in[1], *out = args->out[0];
    int dim = dim_of(args);
    light_tensor row[2] = {*out, *src};

    if (src->numel == 0) return LIGHT_OK;
    LIGHT_TRY(check_sizes(index->numel, size_along(out, dim)));
    for (int i = 0; i < 2 && out->ndim; i++) row[i].shape[dim] = 1;
    row_places places = {walk_of<2>({&row[0], &row[1]}), stride_along(out, dim), stride_along(src, dim),
                         (uint32_t)size_along(out, dim), UINT32_MAX};
    return by_dtype(out->dtype, [&](auto type) {
        using T = decltype(type);
        constexpr int N = pack<T>::size;
        if (rows_fit(places, out->data, src->data, N))
            return add_rows<T, T, N>(args, LIGHT_KERNEL_INDEX_ADD, index, places, out->data, src->data, true);
        return add_rows<T, T, 1>(args, LIGHT_KERNEL_INDEX_ADD, index, places, out->data, src->data, true);
    });
}

/* ---- one_hot --------------------------------------------------------------------- */

/* y is zero before. */
template <class I>
__global__ void one_hot_kernel(walk<2> rows, const I *index, int64_t classes, int64_t *y, fault *faults)
{
    for (int64_t i = first_element(); i < rows.numel; i += grid_stride()) {
        int64_t at[2];
        walk_offsets(rows, i, at);
        int64_t k = index[at[1]];
        if (check_index(faults, LIGHT_KERNEL_ONE_HOT, k, classes)) y[at[0] + k] = 1;
    }
}

static light_status one_hot(const light_kernel_args *args)
{
    const light_device *device = args->device;
    const light_tensor *index = args->in[0], *y = args->out[0];
    int64_t classes = ((const light_one_hot_attrs *)args->attrs)->classes;
    light_tensor rows = *y;

    if (y->numel == 0) return LIGHT_OK;
    rows.ndim = index->ndim; /* where each row of classes begins */
    LIGHT_TRY(
        launched(device, cudaMemsetAsync(y->data, 0, (size_t)y->numel * sizeof(int64_t), stream_of(device))));
    return by_index(index->dtype, [&](auto type) {
        using I = decltype(type);
        return launch(device, one_hot_kernel<I>, blocks_for(device, index->numel, THREADS), THREADS, 0,
                      walk_of<2>({&rows, index}), (const I *)index->data, classes, (int64_t *)y->data,
                      state_of(device)->fault_device);
    });
}

extern const kernel_entry index_kernels[] = {
    {LIGHT_KERNEL_GATHER, gather},
    {LIGHT_KERNEL_SCATTER_ADD, scatter_add},
    {LIGHT_KERNEL_INDEX_SELECT, index_select},
    {LIGHT_KERNEL_INDEX_ADD, index_add},
    {LIGHT_KERNEL_ONE_HOT, one_hot},
    {LIGHT_KERNEL_COUNT, NULL},
};

} // namespace light
