/* SPDX-License-Identifier: Apache-2.0 */
/* cuDNN's library, its descriptors, and the choice of an engine for a graph. */
#include "cuda/vendor/cudnn_graph.h"

#include <dlfcn.h>

namespace light
{

enum {
    ADVICES = 16,               /* engines that are tried for a graph, for each way of asking */
    MOST_WORKSPACE = 256 << 20, /* of an engine */
    ALIGNMENT = 16,             /* of tensors, as they are promised to cuDNN */
};

/* ---- the library ------------------------------------------------------------------ */

static bool load_functions(cudnn_library *l)
{
    bool all = true;
#define X(name) all = (l->name = (decltype(l->name))dlsym(l->library, #name)) && all;
    CUDNN_FUNCTIONS(X)
#undef X
    return all;
}

/* What is missing; NULL when all is ready. */
static const char *open_library(cudnn_library *l, cudaStream_t stream)
{
    l->library = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_LOCAL);
    if (!l->library) return dlerror();
    if (!load_functions(l)) return "libcudnn.so.9 lacks a function";
    cudnnStatus_t status = l->cudnnCreate(&l->handle);
    if (status == CUDNN_STATUS_SUCCESS) status = l->cudnnSetStream(l->handle, stream);
    return status == CUDNN_STATUS_SUCCESS ? NULL : l->cudnnGetErrorString(status);
}

static const char *const words[CUDNN_USES] = {"conv", "norm", "attention", "attention_backward"};

/* What is used where LIGHT_CUDNN says nothing, as long as nobody has measured it on a GPU. The engines for the first three use
 * Hopper's own instructions, or keep a norm's input on the multiprocessors between its two passes; ours do neither, and the
 * figures that NVIDIA publishes for attention forward are nearly twice those of kernels like ours. Attention's gradient has
 * the same bits every time only with a number for each score in memory, 2 bytes B H T S, where ours needs 8 bytes a row. */
static const bool preferred[CUDNN_USES] = {true, true, true, false};

/* LIGHT_CUDNN: 0 for nothing, 1 for what is preferred, as if it were not set, or words with commas between them. */
static light_status read_wishes(const light_device *device, bool (&wanted)[CUDNN_USES])
{
    const char *wish = getenv("LIGHT_CUDNN");
    bool usual = !wish || !*wish || !strcmp(wish, "1");
    for (int use = 0; use < CUDNN_USES; use++) wanted[use] = usual && preferred[use];
    if (usual || !strcmp(wish, "0")) return LIGHT_OK;
    for (const char *at = wish; *at;) {
        size_t length = strcspn(at, ",");
        int use = 0;
        while (use < CUDNN_USES && (strlen(words[use]) != length || strncmp(at, words[use], length))) use++;
        if (use == CUDNN_USES)
            return light_fail(LIGHT_ERR_ARGUMENT,
                              "%s: LIGHT_CUDNN=%s: it must be 0, 1, or words of conv,norm,attention,"
                              "attention_backward",
                              device->name, wish);
        wanted[use] = true;
        at += length + (at[length] == ',');
    }
    return LIGHT_OK;
}

static bool any(const bool (&wanted)[CUDNN_USES])
{
    for (bool use : wanted)
        if (use) return true;
    return false;
}

/* Made at the first call. One without a library wants nothing any more. */
static light_status make_library(const light_device *device)
{
    bool wanted[CUDNN_USES];
    LIGHT_TRY(read_wishes(device, wanted));
    cudnn_library *l = state_of(device)->cudnn = (cudnn_library *)calloc(1, sizeof *l);
    if (!l) return light_fail(LIGHT_ERR_MEMORY, "out of memory on the host");
    l->device = device;
    if (!any(wanted)) return LIGHT_OK;
    const char *missing = open_library(l, state_of(device)->compute);
    if (missing)
        light_message(LIGHT_MESSAGE_INFO, "%s: kernels of its own instead of cuDNN: %s", device->name,
                      missing);
    else
        memcpy(l->wanted, wanted, sizeof wanted);
    return LIGHT_OK;
}

light_status open_cudnn(const light_device *device, cudnn_use use, cudnn_library **library)
{
    if (!state_of(device)->cudnn) LIGHT_TRY(make_library(device));
    cudnn_library *l = state_of(device)->cudnn;
    *library = l->wanted[use] ? l : NULL;
    return LIGHT_OK;
}

static void drop_plan(const cudnn_library *l, cudnn_plan *p)
{
    while (p && p->part_count > 0) l->cudnnBackendDestroyDescriptor(p->parts[--p->part_count]);
    free(p);
}

void close_cudnn(light_device *device)
{
    cudnn_library *l = state_of(device)->cudnn;
    if (!l) return;
    for (size_t i = 0; i < l->table.count; i++) drop_plan(l, l->table.slots[i].plan);
    free(l->table.slots);
    if (l->handle) l->cudnnDestroy(l->handle);
    if (l->library) dlclose(l->library);
    free(l);
    state_of(device)->cudnn = NULL;
}

/* ---- graphs ------------------------------------------------------------------------- */

cudnnBackendDescriptor_t graph_maker::keep(maker *m)
{
    if (plan->part_count == cudnn_plan::MOST_PARTS || !m->finalize()) m->drop();
    if (m->made)
        plan->parts[plan->part_count++] = m->made;
    else
        whole = false;
    return m->made;
}

static void describe_tensor(maker *m, int64_t id, const graph_tensor &t)
{
    const int64_t alignment = ALIGNMENT;
    m->set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &t.type);
    m->set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, t.dims);
    m->set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, t.strides);
    m->set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id);
    m->set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
}

cudnnBackendDescriptor_t graph_maker::tensor(int64_t id, const graph_tensor &t)
{
    maker m(l, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    describe_tensor(&m, id, t);
    return keep(&m);
}

cudnnBackendDescriptor_t graph_maker::number(int64_t id, cudnnDataType_t type)
{
    const bool yes = true;
    maker m(l, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    describe_tensor(&m, id, graph_tensor{type, {1, 1, 1, 1}, {1, 1, 1, 1}});
    m.set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &yes);
    return keep(&m);
}

cudnnBackendDescriptor_t graph_maker::between(const graph_tensor &t)
{
    const bool yes = true;
    maker m(l, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    describe_tensor(&m, unnamed++, t);
    m.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &yes);
    return keep(&m);
}

void graph_maker::operation(maker *m)
{
    cudnnBackendDescriptor_t kept = keep(m);
    if (count < MOST_OPERATIONS)
        operations[count++] = kept;
    else
        whole = false;
}

static cudnnBackendDescriptor_t join_operations(graph_maker *g)
{
    maker m(g->l, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    m.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &g->l->handle);
    m.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, g->count, g->operations);
    return g->keep(&m);
}

/* ---- the choice of an engine ---------------------------------------------------------- */

/* Not the same bits every time, or sums and factors of fewer bits than asked for. */
static bool refused(cudnnBackendNumericalNote_t note, bool exact)
{
    return note == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC ||
           note == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS ||
           note == CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION ||
           note == CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6 ||
           note == CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13 ||
           (note == CUDNN_NUMERICAL_NOTE_TENSOR_CORE && exact);
}

static bool engine_will_do(const cudnn_library *l, cudnnBackendDescriptor_t configuration, bool exact)
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
    for (int64_t i = 0; i < count && good; i++) good = !refused(notes[i], exact);
    engine.drop();
    return good;
}

/* Makes the plan of an engine. False: it cannot run here, or asks for too much memory. */
static bool make_ready(const cudnn_library *l, cudnn_plan *p, cudnnBackendDescriptor_t configuration)
{
    int64_t count = 0, bytes = 0;
    maker plan(l, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &l->handle);
    plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configuration);
    bool good = p->part_count + 2 <= cudnn_plan::MOST_PARTS && plan.finalize() &&
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
static void choose(const cudnn_library *l, cudnn_plan *p, cudnnBackendDescriptor_t graph,
                   cudnnBackendHeurMode_t mode, bool exact)
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
        if (engine_will_do(l, advice[i], exact) && make_ready(l, p, advice[i])) advice[i] = NULL; /* is p's */
    for (int i = 0; i < made; i++)
        if (advice[i]) l->cudnnBackendDestroyDescriptor(advice[i]);
    heuristics.drop();
}

void finish_graph(cudnn_library *l, graph_maker *g, bool exact, const cudnn_key &key, cudnn_slot *slot)
{
    cudnn_plan *p = g->plan;
    const cudnnBackendDescriptor_t graph = g->whole ? join_operations(g) : NULL;
    if (graph) choose(l, p, graph, CUDNN_HEUR_MODE_A, exact);
    if (graph && !p->plan) choose(l, p, graph, CUDNN_HEUR_MODE_FALLBACK, exact);
    if (p->plan)
        light_message(LIGHT_MESSAGE_DEBUG, "%s: cuDNN: %s, pass %d: an engine that needs %lld bytes",
                      l->device->name, words[key.use], key.pass, (long long)p->workspace);
    else
        light_message(LIGHT_MESSAGE_DEBUG, "%s: cuDNN: %s, pass %d: no engine for a shape", l->device->name,
                      words[key.use], key.pass);
    slot->key = key;
    slot->used = true;
    slot->plan = p->plan ? p : NULL;
    l->table.used++;
    if (!p->plan) drop_plan(l, p);
}

/* ---- running ---------------------------------------------------------------------------- */

light_status execute_plan(const light_device *device, const cudnn_plan *plan, const graph_memory *memory,
                          int count, void *workspace, const char *what)
{
    enum { MOST = 16 };
    const cudnn_library *l = state_of(device)->cudnn;
    int64_t ids[MOST];
    void *data[MOST];
    for (int i = 0; i < count; i++) ids[i] = memory[i].id, data[i] = memory[i].data;
    maker pack(l, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, ids);
    pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, data);
    pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    if (pack.finalize()) pack.status = l->cudnnBackendExecute(l->handle, plan->plan, pack.made);
    pack.drop();
    if (pack.status != CUDNN_STATUS_SUCCESS)
        return light_fail(LIGHT_ERR_INTERNAL, "%s: cuDNN: %s: %s", device->name, what,
                          l->cudnnGetErrorString(pack.status));
    return launched(device, cudaSuccess);
}

} // namespace light
