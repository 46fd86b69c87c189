/* SPDX-License-Identifier: Apache-2.0 */
/* Convolutions by cuDNN. */
#include "cuda/call.h"
#include "cuda/conv.cuh"
#include "cuda/vendor/cudnn_graph.h"

namespace light
{

enum { ID_X = 1, ID_W, ID_Y };

struct conv_key {
    int64_t n;
    int32_t c, h, w, o, oh, ow, kh, kw;
    int32_t stride[2], padding[2], dilation[2];
    int32_t groups, dtype, w_dtype, accumulate;
};
static_assert(sizeof(conv_key) == 8 + 18 * 4, "conv_key has gaps");

static conv_key key_of(const conv_shape &s, light_dtype w_dtype, bool accumulate)
{
    conv_key key = {};
    key.n = s.n;
    key.c = s.c, key.h = s.h, key.w = s.w, key.o = s.o, key.oh = s.oh, key.ow = s.ow;
    key.kh = s.kh, key.kw = s.kw;
    for (int i = 0; i < 2; i++) {
        key.stride[i] = s.stride[i];
        key.padding[i] = s.padding[i];
        key.dilation[i] = s.dilation[i];
    }
    key.groups = s.groups, key.dtype = s.dtype, key.w_dtype = w_dtype, key.accumulate = accumulate;
    return key;
}

/* ---- the graph ------------------------------------------------------------------------ */

/* Four dims in the order N, C, H, W; in memory the channels come last. Weights are [o, c, kh, kw] in that sense. */
static graph_tensor channels_last(light_dtype dtype, int64_t n, int64_t c, int64_t h, int64_t w)
{
    return graph_tensor{cudnn_type(dtype), {n, c, h, w}, {h * w * c, 1, w * c, c}};
}

static cudnnBackendDescriptor_t add_convolution(graph_maker *graph, const conv_shape &s)
{
    const cudnnDataType_t sums = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const int64_t dims = 2, stride[2] = {s.stride[0], s.stride[1]}, padding[2] = {s.padding[0], s.padding[1]},
                  dilation[2] = {s.dilation[0], s.dilation[1]};
    maker m(graph->l, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    m.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &sums);
    m.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    m.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &dims);
    m.set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, padding);
    m.set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, padding);
    m.set(CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    m.set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
    return graph->keep(&m);
}

/* The operation of each pass, with the names of its attributes. */
static const struct {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t alpha, beta, convolution, x, w, y;
} operations[] = {
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY},
};

/* cuDNN reads the number of groups off the channels of x and w. */
static void describe(graph_maker *graph, conv_pass pass, const conv_shape &s, light_dtype w_dtype,
                     bool accumulate)
{
    const auto &names = operations[pass];
    const float alpha = 1, beta = accumulate ? 1 : 0;
    maker operation(graph->l, names.type);
    operation.set(names.convolution, add_convolution(graph, s));
    operation.set(names.x, graph->tensor(ID_X, channels_last(s.dtype, s.n, s.c, s.h, s.w)));
    operation.set(names.w, graph->tensor(ID_W, channels_last(w_dtype, s.o, s.cg(), s.kh, s.kw)));
    operation.set(names.y, graph->tensor(ID_Y, channels_last(s.dtype, s.n, s.o, s.oh, s.ow)));
    operation.set(names.alpha, CUDNN_TYPE_FLOAT, 1, &alpha);
    operation.set(names.beta, CUDNN_TYPE_FLOAT, 1, &beta);
    graph->operation(&operation);
}

static light_status get_conv_plan(const light_device *device, cudnn_library *l, conv_pass pass,
                                  const conv_shape &s, light_dtype w_dtype, bool accumulate,
                                  cudnn_plan **plan)
{
    const bool exact = s.dtype == LIGHT_F32 && !state_of(device)->tf32;
    auto fill = [&](graph_maker *graph) { describe(graph, pass, s, w_dtype, accumulate); };
    return get_plan(l, cudnn_key_of(CUDNN_CONV, pass, key_of(s, w_dtype, accumulate)), exact, fill, plan);
}

/* ---- running it ------------------------------------------------------------------------- */

/* Weights lie [o, kh, kw, c / groups] for cuDNN, in scratch, in front of the engine's work memory. */
static light_status run_plan(const light_device *device, const cudnn_plan *p, conv_pass pass,
                             const conv_shape &s, void *x, const light_tensor *w, light_dtype w_dtype,
                             void *y, bool accumulate)
{
    void *packed;
    const size_t bytes = ((size_t)w->numel * light_dtype_size(w_dtype) + 255) / 256 * 256;
    LIGHT_TRY(scratch(device, bytes + (size_t)p->workspace + 256, &packed));
    light_tensor plain = plain_weights(s, (light_dtype)w->dtype, w->data),
                 by_output = weights_by_output(s, w_dtype, packed);
    const graph_memory memory[] = {{ID_X, x}, {ID_W, packed}, {ID_Y, y}};
    if (pass != CONV_BACKWARD_WEIGHT) LIGHT_TRY(call_copy(device, &plain, &by_output, false));
    LIGHT_TRY(execute_plan(device, p, memory, 3, (char *)packed + bytes, "a convolution"));
    return pass == CONV_BACKWARD_WEIGHT ? call_copy(device, &by_output, &plain, accumulate) : LIGHT_OK;
}

/* A gradient in f32 of 16-bit weights comes by way of 16 bits where there is no other. */
light_status library_conv(const light_device *device, conv_pass pass, const conv_shape &s, void *x,
                          const light_tensor *w, void *y, bool accumulate, bool *done)
{
    const bool add = accumulate && pass != CONV_BACKWARD_WEIGHT;
    light_dtype w_dtype = (light_dtype)w->dtype;
    cudnn_library *l;
    cudnn_plan *plan;
    *done = false;
    if (s.dtype == LIGHT_F64 || w_dtype == LIGHT_F64 || !packs_fit(x) || !packs_fit(y)) return LIGHT_OK;
    LIGHT_TRY(open_cudnn(device, CUDNN_CONV, &l));
    if (!l) return LIGHT_OK;
    LIGHT_TRY(get_conv_plan(device, l, pass, s, w_dtype, add, &plan));
    if (!plan && w_dtype != s.dtype)
        LIGHT_TRY(get_conv_plan(device, l, pass, s, w_dtype = s.dtype, add, &plan));
    *done = plan != NULL;
    return plan ? run_plan(device, plan, pass, s, x, w, w_dtype, y, accumulate) : LIGHT_OK;
}

} // namespace light
