/* SPDX-License-Identifier: Apache-2.0 */
/* Sums, means, variances, extrema and logsumexp over any dims. */
#include "ops/common.h"
#include "ops/table.h"

#include <light/ops.h>

typedef struct attrs {
    light_reduce_attrs reduce; /* dims are filled by infer */
    light_dims dims;
    bool keepdim;
} attrs;

/* The dims as a bit mask. */
static light_status mask_of(light_step *s, const light_node *node, light_dims dims, uint32_t *mask)
{
    int ndim = node->in[0]->ndim;
    *mask = dims.n == 0 ? (1u << ndim) - 1 : 0;
    for (int i = 0; i < dims.n; i++) {
        int dim = dims.dims[i];
        if (dims.n > LIGHT_MAX_DIMS || !light_normalize_dim(&dim, ndim) || (*mask >> dim & 1))
            return light_op_fail(s, node, LIGHT_ERR_ARGUMENT,
                                 "dim %d of a tensor of shape %s is not there or named twice", dims.dims[i],
                                 light_shape_text(node->in[0]));
        *mask |= 1u << dim;
    }
    return LIGHT_OK;
}

static int64_t reduced_count(const light_tensor *x, uint32_t mask)
{
    int64_t count = 1;
    for (int d = 0; d < x->ndim; d++)
        if (mask >> d & 1) count *= x->shape[d];
    return count;
}

static light_status infer(light_step *s, light_node *node, light_spec *specs)
{
    attrs *a = node->attrs;
    const light_tensor *x = node->in[0];
    light_dtype dtype = (light_dtype)x->dtype;
    int code = a->reduce.code;
    LIGHT_TRY(mask_of(s, node, a->dims, &a->reduce.dims));
    bool extremum = code == LIGHT_REDUCE_MAX || code == LIGHT_REDUCE_MIN;
    if (!light_dtype_is_floating(dtype) && !extremum) {
        if (code != LIGHT_REDUCE_SUM)
            return light_op_fail(s, node, LIGHT_ERR_DTYPE, "%s is not accepted, a floating dtype is needed",
                                 light_dtype_name(dtype));
        dtype = LIGHT_I64;
    }
    if (extremum && x->numel == 0 && reduced_count(x, a->reduce.dims) == 0)
        return light_op_fail(s, node, LIGHT_ERR_SHAPE, "no elements in shape %s", light_shape_text(x));
    specs[0] = (light_spec){.dtype = dtype};
    for (int d = 0; d < x->ndim; d++) {
        bool reduced = a->reduce.dims >> d & 1;
        if (!reduced || a->keepdim) specs[0].shape.dims[specs[0].shape.ndim++] = reduced ? 1 : x->shape[d];
    }
    return LIGHT_OK;
}

/* t, which has the result's shape, with 1 in the reduced dims, or repeated along them. */
static light_tensor *with_dims(light_step *s, const light_node *node, light_tensor *t, bool repeat)
{
    const attrs *a = node->attrs;
    light_shape shape = light_shape_of(node->in[0]);
    int64_t strides[LIGHT_MAX_DIMS];
    for (int d = 0, from = 0; d < shape.ndim; d++) {
        bool reduced = a->reduce.dims >> d & 1;
        strides[d] = reduced ? 0 : t->strides[from];
        if (reduced && !repeat) shape.dims[d] = 1;
        from += !reduced || a->keepdim;
    }
    return light_step_view(s, t, shape, strides, 0);
}

static light_status forward(light_step *s, light_node *node)
{
    light_tensor *y = with_dims(s, node, node->out[0], false);
    if (!y) return LIGHT_ERR_MEMORY;
    light_status status =
        LIGHT_RUN(s, REDUCE, .in = {node->in[0]}, .out = {y}, .attrs = &((const attrs *)node->attrs)->reduce);
    light_step_release(s, y);
    return status;
}

/* Every element gets g, or its share. */
static light_status spread(light_step *s, light_node *node, light_tensor *g, double share)
{
    light_unary_attrs scale = {.code = LIGHT_UNARY_MUL_SCALAR, .a = share};
    light_tensor *scaled = NULL;
    if (share != 1) {
        if (!(scaled = light_step_tensor(s, light_spec_like(g)))) return LIGHT_ERR_MEMORY;
        LIGHT_TRY(LIGHT_RUN(s, UNARY, .in = {g}, .out = {scaled}, .attrs = &scale));
        g = scaled;
    }
    light_tensor *wide = with_dims(s, node, g, true);
    light_status status = light_grad_give(s, node, 0, wide);
    light_step_release(s, wide);
    light_step_release(s, scaled);
    return status;
}

/* Memory like the result with 1 in the reduced dims, reduced from `from`. */
static light_tensor *reduced(light_step *s, const light_node *node, const light_tensor *from, int code,
                             light_dtype dtype)
{
    light_reduce_attrs reduce = ((const attrs *)node->attrs)->reduce;
    light_spec spec = {.dtype = dtype, .shape = light_shape_of(from)};
    for (int d = 0; d < from->ndim; d++)
        if (reduce.dims >> d & 1) spec.shape.dims[d] = 1;
    light_tensor *t = light_step_tensor(s, spec);
    reduce.code = code;
    if (t && LIGHT_RUN(s, REDUCE, .in = {from}, .out = {t}, .attrs = &reduce) != LIGHT_OK) return NULL;
    return t;
}

/* g divided by the number of elements that are equal to the extremum y. */
static light_tensor *shared_among_equals(light_step *s, light_node *node, light_tensor *g, light_tensor *y)
{
    light_dtype dtype = (light_dtype)g->dtype;
    light_unary_attrs half = {.code = LIGHT_UNARY_MUL_SCALAR, .a = 0.5};
    light_tensor *halves = light_step_tensor(s, light_spec_like(node->in[0]));
    if (!halves || light_run_binary(s, LIGHT_BINARY_MASK_EQ_HALF, node->in[0], y, halves, 0) != LIGHT_OK)
        return NULL;
    light_tensor *count = reduced(s, node, halves, LIGHT_REDUCE_SUM, dtype);
    light_tensor *share = light_step_tensor(s, (light_spec){.dtype = dtype, .shape = light_shape_of(g)});
    if (!count || !share || light_run_binary(s, LIGHT_BINARY_DIV, g, count, share, 0) != LIGHT_OK)
        return NULL;
    if (LIGHT_RUN(s, UNARY, .in = {share}, .out = {share}, .attrs = &half) != LIGHT_OK) return NULL;
    light_step_release(s, halves);
    light_step_release(s, count);
    return share;
}

static light_status backward_by_values(light_step *s, light_node *node, light_tensor *g)
{
    const attrs *a = node->attrs;
    int code = a->reduce.code;
    light_slot gx = light_grad_slot(s, node, 0);
    if (!gx.tensor) return LIGHT_OK;
    light_tensor *x = node->in[0], *share = NULL, *mean = NULL;
    light_tensor *wide_g = with_dims(s, node, g, false);
    light_tensor *y = code == LIGHT_REDUCE_VAR ? NULL : with_dims(s, node, node->out[0], false);
    if (!wide_g || (!y && code != LIGHT_REDUCE_VAR)) return LIGHT_ERR_MEMORY;
    if (code == LIGHT_REDUCE_VAR) {
        light_dtype dtype = x->dtype == LIGHT_F64 ? LIGHT_F64 : LIGHT_F32;
        if (!(mean = reduced(s, node, x, LIGHT_REDUCE_MEAN, dtype))) return LIGHT_ERR_MEMORY;
    } else if (code != LIGHT_REDUCE_LOGSUMEXP) {
        if (!(share = shared_among_equals(s, node, wide_g, y))) return LIGHT_ERR_MEMORY;
    }
    LIGHT_TRY(LIGHT_RUN(s, REDUCE_BACKWARD, .in = {share ? share : wide_g, x, mean ? mean : y},
                        .out = {gx.tensor}, .attrs = &a->reduce, .accumulate = gx.accumulate));
    light_step_release(s, wide_g);
    light_step_release(s, y);
    light_step_release(s, share);
    light_step_release(s, mean);
    return LIGHT_OK;
}

static light_status backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    const attrs *a = node->attrs;
    if (!light_grad_needed(node, 0)) return LIGHT_OK;
    if (a->reduce.code == LIGHT_REDUCE_SUM) return spread(s, node, grads[0], 1);
    if (a->reduce.code == LIGHT_REDUCE_MEAN)
        return spread(s, node, grads[0], 1 / (double)reduced_count(node->in[0], a->reduce.dims));
    return backward_by_values(s, node, grads[0]);
}

#define OPERATION(code, text, in_mask, out_mask, class)                                                      \
    [LIGHT_REDUCE_##code] = {.name = text,                                                                   \
                             .infer = infer,                                                                 \
                             .forward = forward,                                                             \
                             .backward = backward,                                                           \
                             .saves_in = in_mask,                                                            \
                             .saves_out = out_mask,                                                          \
                             .precision = class}
static const light_op operations[] = {
    OPERATION(SUM, "sum", 0, 0, LIGHT_OP_FULL),    OPERATION(MEAN, "mean", 0, 0, LIGHT_OP_PROMOTE),
    OPERATION(MAX, "max", 1, 1, LIGHT_OP_PROMOTE), OPERATION(MIN, "min", 1, 1, LIGHT_OP_PROMOTE),
    OPERATION(VAR, "var", 1, 0, LIGHT_OP_PROMOTE), OPERATION(LOGSUMEXP, "logsumexp", 1, 1, LIGHT_OP_FULL),
};

static light_tensor *reduce(light_step *s, light_reduce code, light_tensor *x, light_dims dims, bool keepdim,
                            double correction)
{
    attrs a = {.reduce = {.code = (int)code, .correction = correction}, .dims = dims, .keepdim = keepdim};
    return LIGHT_APPLY1(s, &operations[code], &a, x);
}

#define FUNCTION(name, code)                                                                                 \
    light_tensor *name(light_step *s, light_tensor *x, light_dims dims, bool keepdim)                        \
    {                                                                                                        \
        return reduce(s, LIGHT_REDUCE_##code, x, dims, keepdim, 0);                                          \
    }
FUNCTION(light_sum, SUM)
FUNCTION(light_mean, MEAN)
FUNCTION(light_max, MAX)
FUNCTION(light_min, MIN)
FUNCTION(light_logsumexp, LOGSUMEXP)

light_tensor *light_var(light_step *s, light_tensor *x, light_dims dims, double correction, bool keepdim)
{
    return reduce(s, LIGHT_REDUCE_VAR, x, dims, keepdim, correction);
}

#define AT(code) &operations[LIGHT_REDUCE_##code]
const light_op *const light_reduce_ops[] = {AT(SUM), AT(MEAN),      AT(MAX), AT(MIN),
                                            AT(VAR), AT(LOGSUMEXP), NULL};
