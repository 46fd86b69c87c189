/* SPDX-License-Identifier: Apache-2.0 */
/* Batch norm in training by cuDNN: bf16, f16 and f32 with the channels last. (Of rows of pixels its engines first make a copy
 * with the channels last.) Weight and bias are f32 for it: those of 16 bits are converted first.
 *
 * Running statistics are not part of the graph. They may have any floating dtype here, their variance is the unbiased one,
 * and cuDNN's description of its own says neither; norm_channels.cu makes them of the statistics that are saved. Of
 * gradients cuDNN has no form that adds: those of weight and bias go through scratch, and gx is left to our own
 * kernels where it is to be added. */
#include "cuda/call.h"
#include "cuda/number.cuh"
#include "cuda/vendor/cudnn_graph.h"

namespace light
{

enum norm_pass { NORM_FORWARD, NORM_BACKWARD };
enum { ID_X = 1, ID_Y, ID_GX, ID_GY, ID_MEAN, ID_RSTD, ID_W, ID_B, ID_GW, ID_GB, ID_EPS };

/* x as [n, c, pixels]. */
struct norm_shape {
    int64_t n, c, pixels, dtype;
};

static norm_shape shape_of(const light_tensor *x)
{
    const int64_t n = x->shape[0], c = x->shape[1];
    return norm_shape{n, c, x->numel / n / c, x->dtype};
}

/* ---- the graphs ----------------------------------------------------------------------- */

static graph_tensor image(const norm_shape &s)
{
    return graph_tensor{
        cudnn_type((light_dtype)s.dtype), {s.n, s.c, s.pixels, 1}, {s.c * s.pixels, 1, s.c, s.c}};
}

static graph_tensor channels(const norm_shape &s)
{
    return graph_tensor{CUDNN_DATA_FLOAT, {1, s.c, 1, 1}, {s.c, 1, s.c, s.c}};
}

static void describe_forward(graph_maker *g, const norm_shape &s)
{
    const cudnnBackendNormMode_t mode = CUDNN_BATCH_NORM;
    const cudnnBackendNormFwdPhase_t phase = CUDNN_NORM_FWD_TRAINING;
    maker m(g->l, CUDNN_BACKEND_OPERATION_NORM_FORWARD_DESCRIPTOR);
    m.set(CUDNN_ATTR_OPERATION_NORM_FWD_MODE, CUDNN_TYPE_NORM_MODE, 1, &mode);
    m.set(CUDNN_ATTR_OPERATION_NORM_FWD_PHASE, CUDNN_TYPE_NORM_FWD_PHASE, 1, &phase);
    m.set(CUDNN_ATTR_OPERATION_NORM_FWD_XDESC, g->tensor(ID_X, image(s)));
    m.set(CUDNN_ATTR_OPERATION_NORM_FWD_MEAN_DESC, g->tensor(ID_MEAN, channels(s)));
    m.set(CUDNN_ATTR_OPERATION_NORM_FWD_INV_VARIANCE_DESC, g->tensor(ID_RSTD, channels(s)));
    m.set(CUDNN_ATTR_OPERATION_NORM_FWD_SCALE_DESC, g->tensor(ID_W, channels(s)));
    m.set(CUDNN_ATTR_OPERATION_NORM_FWD_BIAS_DESC, g->tensor(ID_B, channels(s)));
    m.set(CUDNN_ATTR_OPERATION_NORM_FWD_EPSILON_DESC, g->number(ID_EPS, CUDNN_DATA_FLOAT));
    m.set(CUDNN_ATTR_OPERATION_NORM_FWD_YDESC, g->tensor(ID_Y, image(s)));
    g->operation(&m);
}

static void describe_backward(graph_maker *g, const norm_shape &s)
{
    const cudnnBackendNormMode_t mode = CUDNN_BATCH_NORM;
    maker m(g->l, CUDNN_BACKEND_OPERATION_NORM_BACKWARD_DESCRIPTOR);
    m.set(CUDNN_ATTR_OPERATION_NORM_BWD_MODE, CUDNN_TYPE_NORM_MODE, 1, &mode);
    m.set(CUDNN_ATTR_OPERATION_NORM_BWD_XDESC, g->tensor(ID_X, image(s)));
    m.set(CUDNN_ATTR_OPERATION_NORM_BWD_DYDESC, g->tensor(ID_GY, image(s)));
    m.set(CUDNN_ATTR_OPERATION_NORM_BWD_SCALE_DESC, g->tensor(ID_W, channels(s)));
    m.set(CUDNN_ATTR_OPERATION_NORM_BWD_MEAN_DESC, g->tensor(ID_MEAN, channels(s)));
    m.set(CUDNN_ATTR_OPERATION_NORM_BWD_INV_VARIANCE_DESC, g->tensor(ID_RSTD, channels(s)));
    m.set(CUDNN_ATTR_OPERATION_NORM_BWD_DSCALE_DESC, g->tensor(ID_GW, channels(s)));
    m.set(CUDNN_ATTR_OPERATION_NORM_BWD_DBIAS_DESC, g->tensor(ID_GB, channels(s)));
    m.set(CUDNN_ATTR_OPERATION_NORM_BWD_DXDESC, g->tensor(ID_GX, image(s)));
    g->operation(&m);
}

/* NULL: no engine, no library, or not what a graph can say. */
static light_status get_norm_plan(const light_device *device, norm_pass pass, const light_tensor *x,
                                  cudnn_plan **plan)
{
    cudnn_library *l;
    *plan = NULL;
    LIGHT_TRY(open_cudnn(device, CUDNN_NORM, &l));
    if (!l) return LIGHT_OK;
    const norm_shape s = shape_of(x);
    auto fill = [&](graph_maker *g) {
        pass == NORM_FORWARD ? describe_forward(g, s) : describe_backward(g, s);
    };
    return get_plan(l, cudnn_key_of(CUDNN_NORM, pass, s), false, fill, plan);
}

/* ---- running them ----------------------------------------------------------------------- */

/* Such tensors as the graphs have. x, y and their gradients lie alike. */
static bool is_image(const light_tensor *t)
{
    const bool channels_last = t && (!t->contiguous || t->numel == t->shape[0] * t->shape[1]);
    return channels_last && t->dtype != LIGHT_F64 && packs_fit(t->data);
}
static bool is_channels(const light_tensor *t)
{
    return t && (t->dtype == LIGHT_F32 ? packs_fit(t->data) : t->dtype != LIGHT_F64);
}

/* What scratch holds: room for numbers of all channels, then the engine's. */
struct norm_work {
    enum { ROWS = 3 };
    float *rows[ROWS];
    void *engine;
};

static light_status get_work(const light_device *device, int64_t c, const cudnn_plan *plan, norm_work *work)
{
    const size_t each = ((size_t)c * sizeof(float) + 255) / 256 * 256;
    void *data;
    LIGHT_TRY(scratch(device, norm_work::ROWS * each + (size_t)plan->workspace + 256, &data));
    for (int i = 0; i < norm_work::ROWS; i++) work->rows[i] = (float *)((char *)data + i * each);
    work->engine = (char *)data + norm_work::ROWS * each;
    return LIGHT_OK;
}

/* A weight or bias in f32: its own memory, or a copy. */
static light_status take_over(const light_device *device, const light_tensor *from, float *room, void **data)
{
    light_tensor copy = window<1>(LIGHT_F32, room, {from->numel}, {1});
    *data = from->dtype == LIGHT_F32 ? from->data : (void *)room;
    return from->dtype == LIGHT_F32 ? LIGHT_OK : call_copy(device, from, &copy, false);
}

/* The gradient of a weight or bias that was asked for, of its own dtype, written or added. */
static light_status hand_over(const light_device *device, const float *from, light_tensor *to,
                              bool accumulate)
{
    if (!to) return LIGHT_OK;
    const light_tensor sums = window<1>(LIGHT_F32, from, {to->numel}, {1});
    return call_copy(device, &sums, to, accumulate);
}

light_status library_batch_norm(const light_kernel_args *args, bool *done)
{
    const light_tensor *x = args->in[0], *w = args->in[1], *b = args->in[2], *y = args->out[0],
                       *mean = args->out[1], *rstd = args->out[2];
    float eps = (float)((const light_batch_norm_attrs *)args->attrs)->eps;
    void *weight, *bias;
    cudnn_plan *plan;
    norm_work work;
    *done = false;
    if (!is_image(x) || !is_image(y) || !is_channels(w) || !is_channels(b) || !is_channels(mean) ||
        !is_channels(rstd))
        return LIGHT_OK;
    LIGHT_TRY(get_norm_plan(args->device, NORM_FORWARD, x, &plan));
    if (!plan) return LIGHT_OK;
    *done = true;
    LIGHT_TRY(get_work(args->device, x->shape[1], plan, &work));
    LIGHT_TRY(take_over(args->device, w, work.rows[0], &weight));
    LIGHT_TRY(take_over(args->device, b, work.rows[1], &bias));
    const graph_memory memory[] = {{ID_X, x->data},       {ID_Y, y->data}, {ID_MEAN, mean->data},
                                   {ID_RSTD, rstd->data}, {ID_W, weight},  {ID_B, bias},
                                   {ID_EPS, &eps}};
    return execute_plan(args->device, plan, memory, 7, work.engine, "a batch norm");
}

light_status library_batch_norm_backward(const light_kernel_args *args, bool *done)
{
    const light_tensor *gy = args->in[0], *x = args->in[1], *w = args->in[2], *mean = args->in[3],
                       *rstd = args->in[4], *gx = args->out[0];
    void *weight;
    cudnn_plan *plan;
    norm_work work;
    *done = false;
    if (!is_image(x) || !is_image(gy) || !is_image(gx) || !is_channels(w) || !is_channels(mean) ||
        !is_channels(rstd) || args->accumulate & 1)
        return LIGHT_OK;
    LIGHT_TRY(get_norm_plan(args->device, NORM_BACKWARD, x, &plan));
    if (!plan) return LIGHT_OK;
    *done = true;
    LIGHT_TRY(get_work(args->device, x->shape[1], plan, &work));
    LIGHT_TRY(take_over(args->device, w, work.rows[2], &weight));
    float *gw = work.rows[0], *gb = work.rows[1];
    const graph_memory memory[] = {{ID_X, x->data},       {ID_GY, gy->data}, {ID_MEAN, mean->data},
                                   {ID_RSTD, rstd->data}, {ID_W, weight},    {ID_GW, gw},
                                   {ID_GB, gb},           {ID_GX, gx->data}};
    LIGHT_TRY(execute_plan(args->device, plan, memory, 8, work.engine, "a batch norm's gradient"));
    LIGHT_TRY(hand_over(args->device, gw, args->out[1], args->accumulate >> 1 & 1));
    return hand_over(args->device, gb, args->out[2], args->accumulate >> 2 & 1);
}

} // namespace light
