/* SPDX-License-Identifier: Apache-2.0 */
/* Attention by cuDNN: bf16 and f16, causal or not, heads of keys that several heads of queries share; without mask and
 * dropout.
 *
 * cuDNN knows attention as a graph of products, sums and elementwise operations, which it takes for one kernel when
 * they are written in the one way that it recognises: that of NVIDIA's cudnn-frontend, which this file follows. (The single
 * operation of that name has no causal form before 9.21.) Scores are [B, H, T, S] everywhere; only the backward pass has any in
 * memory.
 *
 * What is kept between the passes, max + log of the sum of the weights, is what attention.cu keeps: either pass may be done
 * by either. */
#include "cuda/attention.cuh"
#include "cuda/number.cuh"
#include "cuda/vendor/cudnn_graph.h"

#include <math.h>

namespace light
{

/* Before it cuDNN has faults that its own front end works around: of lengths that are no multiple of 128, up to 9.15. */
enum { FIRST_VERSION = 91600 };

enum { ID_Q = 1, ID_K, ID_V, ID_Y, ID_GY, ID_GQ, ID_GK, ID_GV, ID_LSE, ID_DELTA };
enum { ID_SCALE = 100, ID_ONE, ID_HIDDEN, ID_QUERIES, ID_KEYS }; /* numbers */

/* ---- shapes ----------------------------------------------------------------------------- */

/* Rows as graphs know them: strides of heads, batches and rows. */
struct row_strides {
    int64_t batch, head, row;
};

struct attention_shape {
    int32_t dtype, batch, heads, kv_heads, queries, keys, width, causal;
    row_strides q, k, v, y, gy, gq, gk, gv;
};
static_assert(sizeof(attention_shape) == 8 * 4 + 8 * 3 * 8, "attention_shape has gaps");

static row_strides strides_of(const rows &r)
{
    return row_strides{r.batch, r.head, r.row};
}

static attention_shape shape_of(const attention &a, int dtype)
{
    return attention_shape{
        dtype,           a.batch,         a.heads,          a.kv_heads,       a.queries,
        a.keys,          a.width,         a.causal,         strides_of(a.q),  strides_of(a.k),
        strides_of(a.v), strides_of(a.y), strides_of(a.gy), strides_of(a.gq), strides_of(a.gk),
        strides_of(a.gv)};
}

/* Rows that begin at multiples of 16 bytes, and none twice. */
static bool rows_fit(const rows &r)
{
    return !r.data ||
           (packs_fit(r.data) && (r.batch | r.head | r.row) % 8 == 0 && r.batch && r.head && r.row);
}

/* The last query sees the last key: with fewer keys than queries the first queries see none. A single score is what cuDNN's
 * front end keeps from it. */
static bool takes(const attention &a, int dtype)
{
    const rows *const all[] = {&a.q, &a.k, &a.v, &a.y, &a.gy, &a.gq, &a.gk, &a.gv};
    if ((dtype != LIGHT_BF16 && dtype != LIGHT_F16) || a.mask || a.threshold || a.width % 8) return false;
    if ((a.causal && a.keys < a.queries) || (a.queries == 1 && a.keys == 1)) return false;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!rows_fit(*all[i])) return false;
    return packs_fit(a.lse);
}

/* ---- tensors ------------------------------------------------------------------------------ */

using part = cudnnBackendDescriptor_t; /* a tensor of the graph, or an operation's description */

static cudnnDataType_t narrow(const attention_shape &s)
{
    return cudnn_type((light_dtype)s.dtype);
}

static graph_tensor rows_in(const attention_shape &s, int64_t heads, int64_t count, const row_strides &r)
{
    return graph_tensor{narrow(s), {s.batch, heads, count, s.width}, {r.batch, r.head, r.row, 1}};
}

/* Rows as the columns of a matrix for each head. */
static graph_tensor columns_in(const attention_shape &s, int64_t heads, int64_t count, const row_strides &r)
{
    return graph_tensor{narrow(s), {s.batch, heads, s.width, count}, {r.batch, r.head, 1, r.row}};
}

/* For each head of queries. */
static graph_tensor dense(const attention_shape &s, cudnnDataType_t type, int64_t count, int64_t width)
{
    return graph_tensor{
        type, {s.batch, s.heads, count, width}, {s.heads * count * width, count * width, width, 1}};
}

static graph_tensor scores_of(const attention_shape &s, cudnnDataType_t type = CUDNN_DATA_FLOAT)
{
    return dense(s, type, s.queries, s.keys);
}

static graph_tensor one_a_row(const attention_shape &s)
{
    return dense(s, CUDNN_DATA_FLOAT, s.queries, 1);
}

/* ---- operations --------------------------------------------------------------------------- */

/* y = x, x (mode) b, or where `choice` is false b. axis: of an index. */
struct elementwise {
    cudnnPointwiseMode_t mode;
    part x, b, choice;
    cudnnDataType_t computed;
    int64_t axis;
};

static void add_elementwise(graph_maker *g, const elementwise &e, part y)
{
    maker how(g->l, CUDNN_BACKEND_POINTWISE_DESCRIPTOR),
        m(g->l, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    how.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &e.mode);
    how.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &e.computed);
    if (e.mode == CUDNN_POINTWISE_GEN_INDEX) how.set(CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, 1, &e.axis);
    m.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, g->keep(&how));
    m.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, e.x);
    if (e.b) m.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, e.b);
    if (e.choice) m.set(CUDNN_ATTR_OPERATION_POINTWISE_TDESC, e.choice);
    m.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    g->operation(&m);
}

/* x (mode) b, computed in f32, as a tensor that only the graph sees. */
static part apply(graph_maker *g, cudnnPointwiseMode_t mode, part x, part b, const graph_tensor &form)
{
    part y = g->between(form);
    add_elementwise(g, elementwise{mode, x, b, NULL, CUDNN_DATA_FLOAT, 0}, y);
    return y;
}

/* Sums, or maxima, over the dims that y has only 1 of. */
static void add_reduction(graph_maker *g, cudnnReduceTensorOp_t mode, part x, part y)
{
    const cudnnDataType_t sums = CUDNN_DATA_FLOAT;
    maker how(g->l, CUDNN_BACKEND_REDUCTION_DESCRIPTOR),
        m(g->l, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
    how.set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &sums);
    how.set(CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &mode);
    m.set(CUDNN_ATTR_OPERATION_REDUCTION_DESC, g->keep(&how));
    m.set(CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x);
    m.set(CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y);
    g->operation(&m);
}

static part reduce_rows(graph_maker *g, const attention_shape &s, cudnnReduceTensorOp_t mode, part x)
{
    part y = g->between(one_a_row(s));
    add_reduction(g, mode, x, y);
    return y;
}

/* y = a b, a matrix for each head. A head of b may serve several of a. */
static void add_product(graph_maker *g, part a, part b, part y)
{
    const cudnnDataType_t sums = CUDNN_DATA_FLOAT;
    maker how(g->l, CUDNN_BACKEND_MATMUL_DESCRIPTOR), m(g->l, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
    how.set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &sums);
    m.set(CUDNN_ATTR_OPERATION_MATMUL_ADESC, a);
    m.set(CUDNN_ATTR_OPERATION_MATMUL_BDESC, b);
    m.set(CUDNN_ATTR_OPERATION_MATMUL_CDESC, y);
    m.set(CUDNN_ATTR_OPERATION_MATMUL_DESC, g->keep(&how));
    g->operation(&m);
}

/* The same elements with other dims. */
static part reshape(graph_maker *g, part x, const graph_tensor &form)
{
    part y = g->between(form);
    maker m(g->l, CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
    m.set(CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x);
    m.set(CUDNN_ATTR_OPERATION_RESHAPE_YDESC, y);
    g->operation(&m);
    return y;
}

/* ---- the graphs ------------------------------------------------------------------------- */

static part scores(graph_maker *g, const attention_shape &s, part q, part k, part scale)
{
    part products = g->between(scores_of(s));
    add_product(g, q, k, products);
    return apply(g, CUDNN_POINTWISE_MUL, products, scale, scores_of(s));
}

/* Which of the queries, or of the keys, each score is of. */
static part index_along(graph_maker *g, const attention_shape &s, part scores, int64_t axis)
{
    part y = g->between(scores_of(s, CUDNN_DATA_INT32));
    add_elementwise(g, elementwise{CUDNN_POINTWISE_GEN_INDEX, scores, NULL, NULL, CUDNN_DATA_FLOAT, axis}, y);
    return y;
}

static part shift(graph_maker *g, const attention_shape &s, cudnnPointwiseMode_t mode, part index, int64_t id)
{
    part y = g->between(scores_of(s, CUDNN_DATA_INT32));
    add_elementwise(g, elementwise{mode, index, g->number(id, CUDNN_DATA_INT32), NULL, CUDNN_DATA_INT32, 0},
                    y);
    return y;
}

/* With a causal mask what query t does not see, keys beyond t + keys - queries, becomes -infinity. */
static part hide(graph_maker *g, const attention_shape &s, part scores)
{
    if (!s.causal) return scores;
    part query = index_along(g, s, scores, 2), key = index_along(g, s, scores, 3);
    if (s.keys != s.queries) {
        query = shift(g, s, CUDNN_POINTWISE_ADD, query, ID_KEYS);
        query = shift(g, s, CUDNN_POINTWISE_SUB, query, ID_QUERIES);
    }
    part seen = g->between(scores_of(s, CUDNN_DATA_BOOLEAN)), y = g->between(scores_of(s)),
         hidden = g->number(ID_HIDDEN, CUDNN_DATA_FLOAT);
    add_elementwise(g, elementwise{CUDNN_POINTWISE_CMP_GE, query, key, NULL, CUDNN_DATA_BOOLEAN, 0}, seen);
    add_elementwise(g, elementwise{CUDNN_POINTWISE_BINARY_SELECT, scores, hidden, seen, CUDNN_DATA_FLOAT, 0},
                    y);
    return y;
}

static void describe_forward(graph_maker *g, const attention_shape &s)
{
    part q = g->tensor(ID_Q, rows_in(s, s.heads, s.queries, s.q)),
         k = g->tensor(ID_K, columns_in(s, s.kv_heads, s.keys, s.k)),
         v = g->tensor(ID_V, rows_in(s, s.kv_heads, s.keys, s.v)),
         y = g->tensor(ID_Y, rows_in(s, s.heads, s.queries, s.y)), lse = g->tensor(ID_LSE, one_a_row(s)),
         scale = g->number(ID_SCALE, CUDNN_DATA_FLOAT);
    part seen = hide(g, s, scores(g, s, q, k, scale));
    part max = reduce_rows(g, s, CUDNN_REDUCE_TENSOR_MAX, seen);
    part below = apply(g, CUDNN_POINTWISE_SUB, seen, max, scores_of(s));
    part weights = apply(g, CUDNN_POINTWISE_EXP, below, NULL, scores_of(s));
    part sum = reduce_rows(g, s, CUDNN_REDUCE_TENSOR_ADD, weights);
    part log = apply(g, CUDNN_POINTWISE_LOG, sum, NULL, one_a_row(s));
    add_elementwise(g, elementwise{CUDNN_POINTWISE_ADD, max, log, NULL, CUDNN_DATA_FLOAT, 0}, lse);
    part shares = apply(g, CUDNN_POINTWISE_DIV, weights, sum, scores_of(s, narrow(s)));
    add_product(g, shares, v, y);
}

/* delta = the sum of gy y over each row, in memory because two kernels share it. */
static part delta(graph_maker *g, const attention_shape &s, part gy)
{
    part y = g->tensor(ID_Y, rows_in(s, s.heads, s.queries, s.y)), result = g->tensor(ID_DELTA, one_a_row(s)),
         one = g->number(ID_ONE, CUDNN_DATA_FLOAT);
    part products = apply(g, CUDNN_POINTWISE_MUL, gy, y, dense(s, CUDNN_DATA_FLOAT, s.queries, s.width));
    part sums = reduce_rows(g, s, CUDNN_REDUCE_TENSOR_ADD, products);
    add_elementwise(g, elementwise{CUDNN_POINTWISE_MUL, sums, one, NULL, CUDNN_DATA_FLOAT, 0}, result);
    return result;
}

/* The gradient of keys or values: scores^T x, summed over the heads that share a head of keys. */
static void add_keys_gradient(graph_maker *g, const attention_shape &s, part by_query, part x, part to)
{
    const int64_t each = (int64_t)s.queries * s.keys;
    const graph_tensor by_key = {
        narrow(s), {s.batch, s.heads, s.keys, s.queries}, {s.heads * each, each, 1, s.keys}};
    part turned = reshape(g, by_query, by_key);
    if (s.heads == s.kv_heads) return add_product(g, turned, x, to);
    part all = g->between(dense(s, narrow(s), s.keys, s.width));
    add_product(g, turned, x, all);
    add_reduction(g, CUDNN_REDUCE_TENSOR_ADD, all, to);
}

/* gq is a product like the others, of slopes that go through memory: on Hopper that makes the kernels that give the same
 * bits every time. Where gq were first summed in f32 and then rounded, which is faster, blocks would add to it in any
 * order. cuDNN's note says nothing of it; the instructions of both kernels do. */
static void describe_backward(graph_maker *g, const attention_shape &s)
{
    part q = g->tensor(ID_Q, rows_in(s, s.heads, s.queries, s.q)),
         k = g->tensor(ID_K, columns_in(s, s.kv_heads, s.keys, s.k)),
         v = g->tensor(ID_V, columns_in(s, s.kv_heads, s.keys, s.v)),
         gy = g->tensor(ID_GY, rows_in(s, s.heads, s.queries, s.gy)),
         gq = g->tensor(ID_GQ, rows_in(s, s.heads, s.queries, s.gq)),
         gk = g->tensor(ID_GK, rows_in(s, s.kv_heads, s.keys, s.gk)),
         gv = g->tensor(ID_GV, rows_in(s, s.kv_heads, s.keys, s.gv)), lse = g->tensor(ID_LSE, one_a_row(s)),
         scale = g->number(ID_SCALE, CUDNN_DATA_FLOAT), of_row = delta(g, s, gy);

    part below = apply(g, CUDNN_POINTWISE_SUB, scores(g, s, q, k, scale), lse, scores_of(s));
    part weights = apply(g, CUDNN_POINTWISE_EXP, hide(g, s, below), NULL, scores_of(s));
    add_keys_gradient(g, s, weights, gy, gv);

    part products = g->between(scores_of(s));
    add_product(g, gy, v, products);
    part apart = apply(g, CUDNN_POINTWISE_SUB, products, of_row, scores_of(s));
    part slopes = apply(g, CUDNN_POINTWISE_MUL, apart, weights, scores_of(s));
    part scaled = apply(g, CUDNN_POINTWISE_MUL, slopes, scale, scores_of(s));
    add_keys_gradient(g, s, scaled, q, gk);
    add_product(g, scaled, reshape(g, k, rows_in(s, s.kv_heads, s.keys, s.k)), gq);
}

/* NULL: no engine, no library, or not what a graph can say. use: one of the two of attention. */
static light_status get_attention_plan(const light_device *device, cudnn_use use, const attention &a,
                                       int dtype, cudnn_plan **plan)
{
    cudnn_library *l;
    *plan = NULL;
    if (!takes(a, dtype)) return LIGHT_OK;
    LIGHT_TRY(open_cudnn(device, use, &l));
    if (!l || l->cudnnGetVersion() < FIRST_VERSION) return LIGHT_OK;
    const attention_shape s = shape_of(a, dtype);
    auto fill = [&](graph_maker *g) {
        use == CUDNN_ATTENTION ? describe_forward(g, s) : describe_backward(g, s);
    };
    return get_plan(l, cudnn_key_of(use, 0, s), false, fill, plan);
}

/* ---- running them ----------------------------------------------------------------------- */

/* Host memory of the numbers, which cuDNN reads while it launches. */
struct attention_numbers {
    float scale, one, hidden;
    int32_t queries, keys;
};

static attention_numbers numbers_of(const attention &a)
{
    return attention_numbers{(float)a.scale, 1, -INFINITY, a.queries, a.keys};
}

/* Adds those numbers that the graph of a causal mask has. Returns how many there are then. */
static int add_mask_numbers(const attention &a, attention_numbers *n, graph_memory *memory, int count)
{
    if (!a.causal) return count;
    memory[count++] = graph_memory{ID_HIDDEN, &n->hidden};
    if (a.keys == a.queries) return count;
    memory[count++] = graph_memory{ID_QUERIES, &n->queries};
    memory[count++] = graph_memory{ID_KEYS, &n->keys};
    return count;
}

light_status library_attention(const light_device *device, const attention &a, int dtype, bool *done)
{
    cudnn_plan *plan;
    void *work;
    *done = false;
    LIGHT_TRY(get_attention_plan(device, CUDNN_ATTENTION, a, dtype, &plan));
    if (!plan) return LIGHT_OK;
    *done = true;
    LIGHT_TRY(scratch(device, (size_t)plan->workspace + 256, &work));
    attention_numbers n = numbers_of(a);
    graph_memory memory[9] = {{ID_Q, a.q.data}, {ID_K, a.k.data}, {ID_V, a.v.data},
                              {ID_Y, a.y.data}, {ID_LSE, a.lse},  {ID_SCALE, &n.scale}};
    return execute_plan(device, plan, memory, add_mask_numbers(a, &n, memory, 6), work, "attention");
}

/* All three gradients are written; where one is to be added to, or not wanted, our own kernels do it, and on other GPUs than
 * Hopper, where this graph does not say enough: Blackwell needs certain settings of the engine to keep an order. */
light_status library_attention_backward(const light_device *device, const attention &a, int dtype, bool *done)
{
    const size_t rows = (size_t)a.batch * (size_t)a.heads * (size_t)a.queries,
                 delta_bytes = (rows * sizeof(float) + 255) / 256 * 256;
    cudnn_plan *plan;
    void *work;
    *done = false;
    if (!a.gq.data || !a.gk.data || !a.gv.data || a.accumulate || state_of(device)->capability != 90)
        return LIGHT_OK;
    LIGHT_TRY(get_attention_plan(device, CUDNN_ATTENTION_BACKWARD, a, dtype, &plan));
    if (!plan) return LIGHT_OK;
    *done = true;
    LIGHT_TRY(scratch(device, delta_bytes + (size_t)plan->workspace + 256, &work));
    attention_numbers n = numbers_of(a);
    graph_memory memory[15] = {{ID_Q, a.q.data},   {ID_K, a.k.data},     {ID_V, a.v.data},
                               {ID_Y, a.y.data},   {ID_GY, a.gy.data},   {ID_GQ, a.gq.data},
                               {ID_GK, a.gk.data}, {ID_GV, a.gv.data},   {ID_LSE, a.lse},
                               {ID_DELTA, work},   {ID_SCALE, &n.scale}, {ID_ONE, &n.one}};
    return execute_plan(device, plan, memory, add_mask_numbers(a, &n, memory, 12), (char *)work + delta_bytes,
                        "attention's gradient");
}

} // namespace light
