/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of a table by index, and the table's gradient: the uses of each row are added up in their order (segments.cuh).
 * When the gradient is not added to, all of it is zeroed first; that and the reading of gy are most of the traffic. */
#include "cuda/gather.cuh"
#include "cuda/segments.cuh"

namespace light
{

/* [n, width], n being all indices. */
static light_tensor as_rows(const light_tensor *t, int64_t n, int64_t width)
{
    light_tensor rows = *t;
    rows.ndim = 2;
    rows.shape[0] = n;
    rows.shape[1] = width;
    rows.strides[0] = width;
    rows.strides[1] = 1;
    return rows;
}

/* Row-major indices as one dim. */
static light_tensor as_list(const light_tensor *index)
{
    light_tensor list = *index;
    list.ndim = 1;
    list.shape[0] = index->numel;
    list.strides[0] = 1;
    return list;
}

static light_status embedding(const light_kernel_args *args)
{
    const light_tensor *w = args->in[0];
    light_tensor list = as_list(args->in[1]), y = as_rows(args->out[0], list.numel, w->shape[1]);
    return select_slabs(args->device, LIGHT_KERNEL_EMBEDDING, &y, &list, w, 0);
}

template <class O, class T>
static light_status add_uses(const light_kernel_args *args, const row_places &places)
{
    const light_tensor *gy = args->in[0], *gw = args->out[0];
    light_tensor list = as_list(args->in[1]);
    constexpr int N = pack<T>::size;
    bool add = args->accumulate & 1;
    if (rows_fit(places, gw->data, gy->data, N))
        return add_rows<O, T, N>(args, LIGHT_KERNEL_EMBEDDING_BACKWARD, &list, places, gw->data, gy->data,
                                 add);
    return add_rows<O, T, 1>(args, LIGHT_KERNEL_EMBEDDING_BACKWARD, &list, places, gw->data, gy->data, add);
}

static light_status embedding_backward(const light_kernel_args *args)
{
    const light_embedding_attrs *attrs = (const light_embedding_attrs *)args->attrs;
    const light_tensor *gy = args->in[0], *index = args->in[1];
    light_tensor *gw = args->out[0];
    int64_t width = gw->shape[1];
    size_t bytes = (size_t)gw->numel * light_dtype_size((light_dtype)gw->dtype);
    light_tensor row[2] = {as_rows(gw, 1, width), as_rows(gy, 1, width)};
    row_places places = {walk_of<2>({&row[0], &row[1]}), width, width, (uint32_t)gw->shape[0],
                         attrs->padding_idx < 0 ? UINT32_MAX : (uint32_t)attrs->padding_idx};

    LIGHT_TRY(check_sizes(index->numel, gw->shape[0]));
    if (bytes && !(args->accumulate & 1))
        LIGHT_TRY(launched(args->device, cudaMemsetAsync(gw->data, 0, bytes, stream_of(args->device))));
    if (gy->numel == 0) return LIGHT_OK;
    return by_float(gy->dtype, [&](auto type) {
        using T = decltype(type);
        if (gw->dtype == gy->dtype) return add_uses<T, T>(args, places);
        return add_uses<float, T>(args, places); /* 16-bit gradients, summed up in f32 */
    });
}

extern const kernel_entry embedding_kernels[] = {
    {LIGHT_KERNEL_EMBEDDING, embedding},
    {LIGHT_KERNEL_EMBEDDING_BACKWARD, embedding_backward},
    {LIGHT_KERNEL_COUNT, NULL},
};

} // namespace light
