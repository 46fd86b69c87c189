/* SPDX-License-Identifier: Apache-2.0 */
/* Convolutions by cuDNN 9, through its graph interface. The library is opened at the first convolution; LIGHT_CUDNN=0
 * leaves it out. For each shape the engine that cuDNN advises, of those that give the same bits every time, is made ready
 * once and kept. Whatever fails on the way to it means that there is none, and this backend's own code computes. */
#include "cuda/call.h"
#include "cuda/vendor/conv.h"
#include "cuda/vendor/table.h"

#include <cudnn.h>

#include <dlfcn.h>

namespace light
{

enum {
    ADVICES = 16,               /* engines that are tried for a shape, for each way of asking */
    MOST_WORKSPACE = 256 << 20, /* of an engine */
    ID_X = 1,
    ID_W = 2,
    ID_Y = 3,       /* names of tensors in a graph */
    ALIGNMENT = 16, /* of tensors, as they are promised to cuDNN */
};

/* ---- the library ------------------------------------------------------------------ */

#define FUNCTIONS(X)                                                                                         \
    X(cudnnCreate)                                                                                           \
    X(cudnnDestroy)                                                                                          \
    X(cudnnSetStream)                                                                                        \
    X(cudnnGetErrorString)                                                                                   \
    X(cudnnBackendCreateDescriptor)                                                                          \
    X(cudnnBackendDestroyDescriptor)                                                                         \
    X(cudnnBackendSetAttribute)                                                                              \
    X(cudnnBackendGetAttribute)                                                                              \
    X(cudnnBackendFinalize)                                                                                  \
    X(cudnnBackendExecute)

struct conv_key {
    int64_t n;
    int32_t c, h, w, o, oh, ow, kh, kw;
    int32_t stride[2], padding[2], dilation[2];
    int32_t groups, dtype, w_dtype, pass, accumulate, unused;
};
static_assert(sizeof(conv_key) == 8 + 20 * 4, "conv_key has gaps");

/* What a finalised plan was made of is kept as long as the plan. */
enum { MOST_PARTS = 8 };
struct conv_plan {
    conv_key key;
    bool used; /* see table.h */
    cudnnBackendDescriptor_t parts[MOST_PARTS];
    int part_count;
    cudnnBackendDescriptor_t plan; /* NULL: there is none */
    light_dtype w_dtype;           /* of the weights in it */
    int64_t workspace;
};

struct conv_plans {
    void *library;
    bool ready; /* a handle is there */
    cudnnHandle_t handle;
    plan_table<conv_plan> table;
#define X(name) decltype(&::name) name;
    FUNCTIONS(X)
#undef X
};

static bool load_functions(conv_plans *l)
{
    bool all = true;
#define X(name) all = (l->name = (decltype(l->name))dlsym(l->library, #name)) && all;
    FUNCTIONS(X)
#undef X
    return all;
}

/* What is missing; NULL when all is ready. */
static const char *open_library(conv_plans *l, cudaStream_t stream)
{
    l->library = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_LOCAL);
    if (!l->library) return dlerror();
    if (!load_functions(l)) return "libcudnn.so.9 lacks a function";
    cudnnStatus_t status = l->cudnnCreate(&l->handle);
    l->ready = status == CUDNN_STATUS_SUCCESS;
    if (l->ready) status = l->cudnnSetStream(l->handle, stream);
    return status == CUDNN_STATUS_SUCCESS ? NULL : l->cudnnGetErrorString(status);
}

/* Makes the state at the first call. One without a library stays as it is. */
static light_status open_plans(const light_device *device)
{
    device_state *s = state_of(device);
    const char *wish = getenv("LIGHT_CUDNN");
    if (s->convs) return LIGHT_OK;
    s->convs = (conv_plans *)calloc(1, sizeof *s->convs);
    if (!s->convs) return light_fail(LIGHT_ERR_MEMORY, "out of memory on the host");
    if (wish && !strcmp(wish, "0")) return LIGHT_OK;
    const char *missing = open_library(s->convs, s->compute);
    if (missing)
        light_message(LIGHT_MESSAGE_INFO, "%s: convolutions do without cuDNN: %s", device->name, missing);
    s->convs->ready = !missing;
    return LIGHT_OK;
}

static void drop_parts(const conv_plans *l, conv_plan *p)
{
    while (p->part_count > 0) l->cudnnBackendDestroyDescriptor(p->parts[--p->part_count]);
}

void close_conv(light_device *device)
{
    conv_plans *l = state_of(device)->convs;
    if (!l) return;
    for (size_t i = 0; i < l->table.count; i++)
        if (l->table.slots[i].used) drop_parts(l, &l->table.slots[i]);
    free(l->table.slots);
    if (l->handle) l->cudnnDestroy(l->handle);
    if (l->library) dlclose(l->library);
    free(l);
    state_of(device)->convs = NULL;
}

/* ---- descriptors -------------------------------------------------------------------- */

/* A descriptor and whether all went well with it so far. */
struct maker {
    const conv_plans *l;
    cudnnBackendDescriptor_t made;
    cudnnStatus_t status;

    maker(const conv_plans *library, cudnnBackendDescriptorType_t type) : l(library), made(NULL)
    {
        status = l->cudnnBackendCreateDescriptor(type, &made);
    }
    void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
             const void *values)
    {
        if (status == CUDNN_STATUS_SUCCESS)
            status = l->cudnnBackendSetAttribute(made, name, type, count, values);
    }
    void set(cudnnBackendAttributeName_t name, cudnnBackendDescriptor_t descriptor)
    {
        set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &descriptor);
    }
    bool finalize()
    {
        if (status == CUDNN_STATUS_SUCCESS) status = l->cudnnBackendFinalize(made);
        return status == CUDNN_STATUS_SUCCESS;
    }
    void drop()
    {
        if (made) l->cudnnBackendDestroyDescriptor(made);
        made = NULL;
    }
};

/* Finalises a part of the plan, which keeps it, and gives it; NULL where that is not possible. */
static cudnnBackendDescriptor_t keep(conv_plan *p, maker *m)
{
    if (!m->finalize()) m->drop();
    if (m->made) p->parts[p->part_count++] = m->made;
    return m->made;
}

static cudnnDataType_t data_type(light_dtype dtype)
{
    return dtype == LIGHT_F32    ? CUDNN_DATA_FLOAT
           : dtype == LIGHT_BF16 ? CUDNN_DATA_BFLOAT16
                                 : CUDNN_DATA_HALF;
}

/* Four dims in the order N, C, H, W; in memory the channels come last. Weights are [o, c, kh, kw] in that sense. */
static cudnnBackendDescriptor_t add_tensor(const conv_plans *l, conv_plan *p, int64_t id, light_dtype dtype,
                                           int64_t n, int64_t c, int64_t h, int64_t w)
{
    const cudnnDataType_t type = data_type(dtype);
    const int64_t dims[4] = {n, c, h, w}, strides[4] = {h * w * c, 1, w * c, c}, alignment = ALIGNMENT;
    maker m(l, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    m.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    m.set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims);
    m.set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides);
    m.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id);
    m.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    return keep(p, &m);
}

static cudnnBackendDescriptor_t add_convolution(const conv_plans *l, conv_plan *p, const conv_shape &s)
{
    const cudnnDataType_t sums = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const int64_t dims = 2, stride[2] = {s.stride[0], s.stride[1]}, padding[2] = {s.padding[0], s.padding[1]},
                  dilation[2] = {s.dilation[0], s.dilation[1]};
    maker m(l, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    m.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &sums);
    m.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    m.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &dims);
    m.set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, padding);
    m.set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, padding);
    m.set(CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    m.set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
    return keep(p, &m);
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

/* The graph of one operation. cuDNN reads the number of groups off the channels of x and w. */
static cudnnBackendDescriptor_t add_graph(const conv_plans *l, conv_plan *p, const conv_shape &s)
{
    const auto &names = operations[p->key.pass];
    const float alpha = 1, beta = p->key.accumulate ? 1 : 0;
    const cudnnBackendDescriptor_t x = add_tensor(l, p, ID_X, s.dtype, s.n, s.c, s.h, s.w),
                                   w = add_tensor(l, p, ID_W, p->w_dtype, s.o, s.cg(), s.kh, s.kw),
                                   y = add_tensor(l, p, ID_Y, s.dtype, s.n, s.o, s.oh, s.ow),
                                   convolution = add_convolution(l, p, s);
    if (!x || !w || !y || !convolution) return NULL;
    maker operation(l, names.type);
    operation.set(names.convolution, convolution);
    operation.set(names.x, x);
    operation.set(names.w, w);
    operation.set(names.y, y);
    operation.set(names.alpha, CUDNN_TYPE_FLOAT, 1, &alpha);
    operation.set(names.beta, CUDNN_TYPE_FLOAT, 1, &beta);
    const cudnnBackendDescriptor_t kept = keep(p, &operation);
    if (!kept) return NULL;
    maker graph(l, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    graph.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &l->handle);
    graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, kept);
    return keep(p, &graph);
}

/* ---- the choice of an engine ---------------------------------------------------------- */

/* Not the same bits every time, or sums and factors of fewer bits than asked for. */
static bool refused(cudnnBackendNumericalNote_t note, const conv_shape &s, bool tf32)
{
    return note == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC ||
           note == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS ||
           note == CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION ||
           note == CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6 ||
           note == CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13 ||
           (note == CUDNN_NUMERICAL_NOTE_TENSOR_CORE && s.dtype == LIGHT_F32 && !tf32);
}

static bool engine_will_do(const conv_plans *l, cudnnBackendDescriptor_t configuration, const conv_shape &s,
                           bool tf32)
{
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    int64_t count = 0;
    maker engine(l, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    if (engine.status == CUDNN_STATUS_SUCCESS)
        engine.status = l->cudnnBackendGetAttribute(configuration, CUDNN_ATTR_ENGINECFG_ENGINE,
                                                    CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &engine.made);
    if (engine.status == CUDNN_STATUS_SUCCESS)
        engine.status = l->cudnnBackendGetAttribute(engine.made, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                                    CUDNN_TYPE_NUMERICAL_NOTE,
                                                    CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &count, notes);
    bool good = engine.status == CUDNN_STATUS_SUCCESS && count <= CUDNN_NUMERICAL_NOTE_TYPE_COUNT;
    for (int64_t i = 0; i < count && good; i++) good = !refused(notes[i], s, tf32);
    engine.drop();
    return good;
}

/* Makes the plan of an engine. False: it cannot run here, or asks for too much memory. */
static bool make_ready(const conv_plans *l, conv_plan *p, cudnnBackendDescriptor_t configuration)
{
    int64_t count = 0, bytes = 0;
    maker plan(l, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &l->handle);
    plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configuration);
    bool good = plan.finalize() &&
                l->cudnnBackendGetAttribute(plan.made, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                            CUDNN_TYPE_INT64, 1, &count, &bytes) == CUDNN_STATUS_SUCCESS &&
                bytes >= 0 && bytes <= MOST_WORKSPACE;
    if (!good) {
        plan.drop();
        return false;
    }
    p->parts[p->part_count++] = configuration;
    p->parts[p->part_count++] = plan.made;
    p->plan = plan.made;
    p->workspace = bytes;
    return true;
}

/* Tries the engines that cuDNN advises, best first. */
static void choose(const conv_plans *l, conv_plan *p, cudnnBackendDescriptor_t graph,
                   cudnnBackendHeurMode_t mode, const conv_shape &s, bool tf32)
{
    cudnnBackendDescriptor_t advice[ADVICES] = {};
    int64_t count = 0;
    int made = 0;
    maker heuristics(l, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    heuristics.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    while (made < ADVICES && l->cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR,
                                                             &advice[made]) == CUDNN_STATUS_SUCCESS)
        made++;
    if (!heuristics.finalize() || l->cudnnBackendGetAttribute(heuristics.made, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                                              CUDNN_TYPE_BACKEND_DESCRIPTOR, made, &count,
                                                              advice) != CUDNN_STATUS_SUCCESS)
        count = 0;
    for (int i = 0; i < made && i < count && !p->plan; i++)
        if (engine_will_do(l, advice[i], s, tf32) && make_ready(l, p, advice[i]))
            advice[i] = NULL; /* is p's */
    for (int i = 0; i < made; i++)
        if (advice[i]) l->cudnnBackendDestroyDescriptor(advice[i]);
    heuristics.drop();
}

static void make_plan(const conv_plans *l, conv_plan *p, const conv_shape &s, light_dtype w_dtype, bool tf32)
{
    p->w_dtype = w_dtype;
    const cudnnBackendDescriptor_t graph = add_graph(l, p, s);
    if (graph) choose(l, p, graph, CUDNN_HEUR_MODE_A, s, tf32);
    if (graph && !p->plan) choose(l, p, graph, CUDNN_HEUR_MODE_FALLBACK, s, tf32);
    if (!p->plan) drop_parts(l, p);
}

static conv_key key_of(conv_pass pass, const conv_shape &s, light_dtype w_dtype, bool accumulate)
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
    key.groups = s.groups, key.dtype = s.dtype, key.w_dtype = w_dtype;
    key.pass = pass, key.accumulate = accumulate;
    return key;
}

/* The plan for a shape; a gradient in f32 of 16-bit weights comes by way of 16 bits where there is no other. */
static light_status get_plan(const light_device *device, conv_pass pass, const conv_shape &s,
                             light_dtype w_dtype, bool accumulate, conv_plan **plan)
{
    conv_plans *l = state_of(device)->convs;
    const conv_key key = key_of(pass, s, w_dtype, accumulate);
    LIGHT_TRY(make_room(&l->table));
    conv_plan *p = *plan = find_plan(&l->table, key);
    if (p->used) return LIGHT_OK;
    p->key = key;
    p->used = true;
    l->table.used++;
    make_plan(l, p, s, w_dtype, state_of(device)->tf32);
    if (!p->plan && w_dtype != s.dtype) make_plan(l, p, s, s.dtype, state_of(device)->tf32);
    return LIGHT_OK;
}

/* ---- convolutions --------------------------------------------------------------------- */

static light_status execute(const light_device *device, const conv_plan *p, void *x, void *w, void *y,
                            void *workspace)
{
    const conv_plans *l = state_of(device)->convs;
    const int64_t ids[3] = {ID_X, ID_W, ID_Y};
    void *data[3] = {x, w, y};
    maker pack(l, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 3, ids);
    pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 3, data);
    pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    if (pack.finalize()) pack.status = l->cudnnBackendExecute(l->handle, p->plan, pack.made);
    pack.drop();
    if (pack.status != CUDNN_STATUS_SUCCESS)
        return light_fail(LIGHT_ERR_INTERNAL, "%s: cuDNN: a convolution: %s", device->name,
                          l->cudnnGetErrorString(pack.status));
    return launched(device, cudaSuccess);
}

/* Weights lie [o, kh, kw, c / groups] for cuDNN, in scratch, in front of the engine's work memory. */
static light_status run_plan(const light_device *device, const conv_plan *p, const conv_shape &s, void *x,
                             const light_tensor *w, void *y, bool accumulate)
{
    void *packed;
    const size_t bytes = ((size_t)w->numel * light_dtype_size(p->w_dtype) + 255) / 256 * 256;
    LIGHT_TRY(scratch(device, bytes + (size_t)p->workspace + 256, &packed));
    light_tensor plain = plain_weights(s, (light_dtype)w->dtype, w->data),
                 by_output = weights_by_output(s, p->w_dtype, packed);
    if (p->key.pass != CONV_BACKWARD_WEIGHT) LIGHT_TRY(call_copy(device, &plain, &by_output, false));
    LIGHT_TRY(execute(device, p, x, packed, y, (char *)packed + bytes));
    return p->key.pass == CONV_BACKWARD_WEIGHT ? call_copy(device, &by_output, &plain, accumulate) : LIGHT_OK;
}

light_status library_conv(const light_device *device, conv_pass pass, const conv_shape &s, void *x,
                          const light_tensor *w, void *y, bool accumulate, bool *done)
{
    conv_plan *plan;
    *done = false;
    if (s.dtype == LIGHT_F64 || w->dtype == LIGHT_F64 || !packs_fit(x) || !packs_fit(y)) return LIGHT_OK;
    LIGHT_TRY(open_plans(device));
    if (!state_of(device)->convs->ready) return LIGHT_OK;
    LIGHT_TRY(
        get_plan(device, pass, s, (light_dtype)w->dtype, accumulate && pass != CONV_BACKWARD_WEIGHT, &plan));
    *done = plan->plan != NULL;
    return *done ? run_plan(device, plan, s, x, w, y, accumulate) : LIGHT_OK;
}

} // namespace light
