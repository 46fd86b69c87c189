/* SPDX-License-Identifier: Apache-2.0 */
/* cuDNN 9 through its graph interface: what cudnn_conv.cu, cudnn_norm.cu and cudnn_attention.cu share.
 *
 * Each of them describes a graph of operations for a shape. The engine that cuDNN advises for it, of those that give the
 * same bits every time, is made ready once and kept (cudnn.cu). Whatever fails on the way to it means that there is none,
 * and this backend's own code computes. */
#ifndef LIGHT_CUDA_VENDOR_CUDNN_GRAPH_H
#define LIGHT_CUDA_VENDOR_CUDNN_GRAPH_H

#include "cuda/vendor/cudnn.h"
#include "cuda/vendor/table.h"

#include <cudnn.h>

namespace light
{

/* ---- the library ------------------------------------------------------------------ */

#define CUDNN_FUNCTIONS(X)                                                                                   \
    X(cudnnGetVersion)                                                                                       \
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

/* What it is asked for, each a word in LIGHT_CUDNN. */
enum cudnn_use { CUDNN_CONV, CUDNN_NORM, CUDNN_ATTENTION, CUDNN_ATTENTION_BACKWARD, CUDNN_USES };

/* What a plan was made for: an operation, and its shape in bytes without gaps; zeros behind it. */
struct cudnn_key {
    enum { WORDS = 40 };
    int32_t use, pass;
    uint64_t shape[WORDS];
};

template <class S> cudnn_key cudnn_key_of(cudnn_use use, int pass, const S &shape)
{
    cudnn_key key = {use, pass, {}};
    static_assert(sizeof shape <= sizeof key.shape, "a shape does not fit into a key");
    memcpy(key.shape, &shape, sizeof shape);
    return key;
}

/* What a finalised plan was made of is kept as long as the plan. */
struct cudnn_plan {
    enum { MOST_PARTS = 128 };
    cudnnBackendDescriptor_t parts[MOST_PARTS];
    int part_count;
    cudnnBackendDescriptor_t plan;
    int64_t workspace; /* bytes that it needs when it runs */
};

struct cudnn_slot { /* see table.h */
    cudnn_key key;
    bool used;
    cudnn_plan *plan; /* NULL: there is none */
};

struct cudnn_library {
    const light_device *device;
    void *library;
    bool wanted[CUDNN_USES];
    cudnnHandle_t handle;
    plan_table<cudnn_slot> table;
#define X(name) decltype(&::name) name;
    CUDNN_FUNCTIONS(X)
#undef X
};

/* The library; NULL where it is not there or not wanted for this. Opened at the first call. */
light_status open_cudnn(const light_device *device, cudnn_use use, cudnn_library **library);

/* ---- descriptors -------------------------------------------------------------------- */

/* A descriptor and whether all went well with it so far. */
struct maker {
    const cudnn_library *l;
    cudnnBackendDescriptor_t made;
    cudnnStatus_t status;

    maker(const cudnn_library *library, cudnnBackendDescriptorType_t type) : l(library), made(NULL)
    {
        status = l->cudnnBackendCreateDescriptor(type, &made);
    }
    void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
             const void *values)
    {
        if (status == CUDNN_STATUS_SUCCESS)
            status = l->cudnnBackendSetAttribute(made, name, type, count, values);
    }
    /* One that could not be made, NULL, spoils this one too. */
    void set(cudnnBackendAttributeName_t name, cudnnBackendDescriptor_t descriptor)
    {
        if (!descriptor) status = CUDNN_STATUS_BAD_PARAM;
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

inline cudnnDataType_t cudnn_type(light_dtype dtype)
{
    return dtype == LIGHT_F32    ? CUDNN_DATA_FLOAT
           : dtype == LIGHT_BF16 ? CUDNN_DATA_BFLOAT16
                                 : CUDNN_DATA_HALF;
}

/* ---- graphs ------------------------------------------------------------------------- */

/* A tensor of a graph. Its memory begins at a multiple of 16 bytes. */
struct graph_tensor {
    cudnnDataType_t type;
    int64_t dims[4], strides[4];
};

/* A graph in the making, and the plan that is to keep what it is made of. What could not be made is NULL; then there will
 * be no plan. */
struct graph_maker {
    enum { MOST_OPERATIONS = 32, FIRST_UNNAMED = 1000 };
    const cudnn_library *l;
    cudnn_plan *plan;
    int64_t unnamed; /* the next id of a tensor that has no memory */
    cudnnBackendDescriptor_t operations[MOST_OPERATIONS];
    int64_t count;
    bool whole; /* all could be made */

    explicit graph_maker(const cudnn_library *library)
        : l(library), plan((cudnn_plan *)calloc(1, sizeof *plan)), unnamed(FIRST_UNNAMED), operations(),
          count(0), whole(true)
    {
    }
    /* Finalises a part of the plan and gives it. */
    cudnnBackendDescriptor_t keep(maker *m);
    /* A tensor in memory, which `execute` is told by its id. */
    cudnnBackendDescriptor_t tensor(int64_t id, const graph_tensor &t);
    /* A number that lies on the host when the plan is executed. */
    cudnnBackendDescriptor_t number(int64_t id, cudnnDataType_t type);
    /* What one operation leaves to another, and nobody else sees. */
    cudnnBackendDescriptor_t between(const graph_tensor &t);
    void operation(maker *m);
};

/* Makes the plan of what was described, or notes that no engine will do. exact: factors of f32 must not be rounded to TF32. */
void finish_graph(cudnn_library *l, graph_maker *graph, bool exact, const cudnn_key &key, cudnn_slot *slot);

/* The plan for a key, or NULL. `describe` is called once for each key, with an empty graph to fill. */
template <class F>
light_status get_plan(cudnn_library *l, const cudnn_key &key, bool exact, F describe, cudnn_plan **plan)
{
    LIGHT_TRY(make_room(&l->table));
    cudnn_slot *slot = find_plan(&l->table, key);
    if (!slot->used) {
        graph_maker graph(l);
        if (!graph.plan) return light_fail(LIGHT_ERR_MEMORY, "out of memory on the host");
        describe(&graph);
        finish_graph(l, &graph, exact, key, slot);
    }
    *plan = slot->plan;
    return LIGHT_OK;
}

/* Where a tensor of the graph lies. */
struct graph_memory {
    int64_t id;
    void *data;
};

/* what: "a convolution", for an error's text. */
light_status execute_plan(const light_device *device, const cudnn_plan *plan, const graph_memory *memory,
                          int count, void *workspace, const char *what);

} // namespace light

#endif
