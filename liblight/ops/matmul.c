/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products: matmul and linear. */
#include "ops/common.h"
#include "ops/table.h"

#include <light/ops.h>

#include <string.h>

static light_status check_dtypes(light_step *s, const light_node *node)
{
    light_dtype first = (light_dtype)node->in[0]->dtype;
    if (!light_dtype_is_floating(first))
        return light_op_fail(s, node, LIGHT_ERR_DTYPE, "%s is not accepted, a floating dtype is needed",
                             light_dtype_name(first));
    for (int i = 1; i < node->n_in; i++)
        if (node->in[i] && node->in[i]->dtype != first)
            return light_op_fail(s, node, LIGHT_ERR_DTYPE,
                                 "dtypes %s and %s differ; convert one with light_to_dtype",
                                 light_dtype_name(first), light_dtype_name((light_dtype)node->in[i]->dtype));
    return LIGHT_OK;
}

/* A backward of one side reads the other side only. */
static void save_for_gradients(light_node *node)
{
    node->saved_in = (node->in[1]->requires_grad ? 1u : 0) | (node->in[0]->requires_grad ? 2u : 0);
}

/* ---- views -------------------------------------------------------------- */

/* The last two dims swapped. */
static light_tensor *transposed(light_step *s, light_tensor *t)
{
    int64_t strides[LIGHT_MAX_DIMS];
    light_shape shape = light_shape_of(t);
    int n = t->ndim;
    memcpy(strides, t->strides, sizeof strides);
    shape.dims[n - 2] = t->shape[n - 1], shape.dims[n - 1] = t->shape[n - 2];
    strides[n - 2] = t->strides[n - 1], strides[n - 1] = t->strides[n - 2];
    return light_step_view(s, t, shape, strides, 0);
}

/* A row-major [.., m, k] as [.. m, k]. */
static light_tensor *as_rows(light_step *s, light_tensor *t)
{
    int64_t width = t->shape[t->ndim - 1];
    return light_step_view(s, t, LIGHT_SHAPE(width ? t->numel / width : 0, width), NULL, 0);
}

/* t with the batch dims of `shape`, whose last two dims do not matter. */
static light_tensor *with_batch(light_step *s, light_tensor *t, light_shape shape)
{
    shape.dims[shape.ndim - 2] = t->shape[t->ndim - 2];
    shape.dims[shape.ndim - 1] = t->shape[t->ndim - 1];
    return light_step_expanded(s, t, shape);
}

/* out (+)= a b, and sums (+)= those of a's rows, if they are wanted. a, b and out are windows of the caller's, which are let
 * go. A NULL among them: memory ran out. */
static light_status product_with_sums(light_step *s, light_tensor *a, light_tensor *b, light_tensor *bias,
                                      light_tensor *out, light_tensor *sums, uint32_t accumulate)
{
    light_status status = LIGHT_ERR_MEMORY;
    if (a && b && out)
        status = LIGHT_RUN(s, MATMUL, .in = {a, b, bias}, .out = {out, sums}, .accumulate = accumulate);
    light_step_release(s, a);
    light_step_release(s, b);
    light_step_release(s, out);
    return status;
}

static light_status product(light_step *s, light_tensor *a, light_tensor *b, light_tensor *bias,
                            light_tensor *out, uint32_t accumulate)
{
    return product_with_sums(s, a, b, bias, out, NULL, accumulate);
}

/* ---- linear ------------------------------------------------------------- */

static light_status linear_infer(light_step *s, light_node *node, light_spec *specs)
{
    const light_tensor *x = node->in[0], *weight = node->in[1], *bias = node->in[2];
    LIGHT_TRY(check_dtypes(s, node));
    if (weight->ndim != 2 || x->ndim < 1)
        return light_op_fail(s, node, LIGHT_ERR_SHAPE, "input %s and weight %s: the weight must be [out, in]",
                             light_shape_text(x), light_shape_text(weight));
    if (x->shape[x->ndim - 1] != weight->shape[1])
        return light_op_fail(s, node, LIGHT_ERR_SHAPE, "input %s has %lld features, weight %s takes %lld",
                             light_shape_text(x), (long long)x->shape[x->ndim - 1], light_shape_text(weight),
                             (long long)weight->shape[1]);
    if (bias && (bias->ndim != 1 || bias->shape[0] != weight->shape[0]))
        return light_op_fail(s, node, LIGHT_ERR_SHAPE, "bias %s does not fit weight %s",
                             light_shape_text(bias), light_shape_text(weight));
    save_for_gradients(node);
    specs[0] = (light_spec){.dtype = (light_dtype)x->dtype, .shape = light_shape_of(x)};
    specs[0].shape.dims[x->ndim - 1] = weight->shape[0];
    if (!x->contiguous && !(node->in[0] = light_contiguous(s, node->in[0]))) return LIGHT_ERR_MEMORY;
    if (bias && !bias->contiguous && !(node->in[2] = light_contiguous(s, node->in[2])))
        return LIGHT_ERR_MEMORY;
    return LIGHT_OK;
}

static light_status linear_forward(light_step *s, light_node *node)
{
    return product(s, as_rows(s, node->in[0]), transposed(s, node->in[1]), node->in[2],
                   as_rows(s, node->out[0]), 0);
}

/* The bias' gradient: g summed over its rows. */
static light_status give_row_sums(light_step *s, light_slot slot, light_tensor *rows)
{
    light_reduce_attrs attrs = {.code = LIGHT_REDUCE_SUM, .dims = 1};
    light_tensor *out = light_step_view(s, slot.tensor, LIGHT_SHAPE(1, slot.tensor->numel), NULL, 0);
    if (!out) return LIGHT_ERR_MEMORY;
    light_status status =
        LIGHT_RUN(s, REDUCE, .in = {rows}, .out = {out}, .attrs = &attrs, .accumulate = slot.accumulate);
    light_step_release(s, out);
    return status;
}

static light_status linear_backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    light_tensor *g = light_step_contiguous(s, grads[0]), *rows = g ? as_rows(s, g) : NULL;
    if (!rows) return LIGHT_ERR_MEMORY;
    light_slot gx = light_grad_slot(s, node, 0);
    if (gx.tensor)
        LIGHT_TRY(product(s, as_rows(s, g), light_alias_view(s, node->in[1]), NULL, as_rows(s, gx.tensor),
                          gx.accumulate));
    light_slot gw = light_grad_slot(s, node, 1), gb = light_grad_slot(s, node, 2);
    if (gw.tensor) /* g is read for both */
        LIGHT_TRY(product_with_sums(s, transposed(s, rows), as_rows(s, node->in[0]), NULL,
                                    light_alias_view(s, gw.tensor), gb.tensor,
                                    gw.accumulate | gb.accumulate << 1));
    else if (gb.tensor)
        LIGHT_TRY(give_row_sums(s, gb, rows));
    light_step_release(s, rows);
    light_step_release(s, g);
    return LIGHT_OK;
}

static const light_op linear_op = {
    .name = "linear",
    .infer = linear_infer,
    .forward = linear_forward,
    .backward = linear_backward,
    .saves_in = 3,
    .precision = LIGHT_OP_LOWER,
    .wide_grads = 7,
};

light_tensor *light_linear_op(light_step *s, light_tensor *x, light_tensor *weight, light_tensor *bias)
{
    return light_apply(s, &linear_op, (light_tensor *[]){x, weight, bias}, 3, 1u << 2, NULL, 0, NULL, 1);
}

/* ---- matmul of tensors with two dims and more --------------------------- */

/* b is one matrix for all of a: one product of all rows. */
static bool is_flat(const light_node *node)
{
    return node->in[1]->ndim == 2 && node->in[0]->contiguous;
}

static light_status matmul_infer(light_step *s, light_node *node, light_spec *specs)
{
    const light_tensor *a = node->in[0], *b = node->in[1];
    light_shape batch_a = light_shape_of(a), batch_b = light_shape_of(b);
    int64_t m = a->shape[a->ndim - 2], k = a->shape[a->ndim - 1], n = b->shape[b->ndim - 1];
    LIGHT_TRY(check_dtypes(s, node));
    if (b->shape[b->ndim - 2] != k)
        return light_op_fail(s, node, LIGHT_ERR_SHAPE, "shapes %s and %s: %lld columns do not meet %lld rows",
                             light_shape_text(a), light_shape_text(b), (long long)k,
                             (long long)b->shape[b->ndim - 2]);
    batch_a.ndim -= 2;
    batch_b.ndim -= 2;
    specs[0] = (light_spec){.dtype = (light_dtype)a->dtype};
    if (!light_broadcast(batch_a, batch_b, &specs[0].shape) || specs[0].shape.ndim + 2 > LIGHT_MAX_DIMS)
        return light_op_fail(s, node, LIGHT_ERR_SHAPE, "batch dims of %s and %s do not fit together",
                             light_shape_text(a), light_shape_text(b));
    specs[0].shape.dims[specs[0].shape.ndim++] = m;
    specs[0].shape.dims[specs[0].shape.ndim++] = n;
    save_for_gradients(node);
    return LIGHT_OK;
}

static light_status matmul_forward(light_step *s, light_node *node)
{
    light_tensor *a = node->in[0], *b = node->in[1], *y = node->out[0];
    light_shape shape = light_shape_of(y);
    if (is_flat(node)) return product(s, as_rows(s, a), light_alias_view(s, b), NULL, as_rows(s, y), 0);
    return product(s, with_batch(s, a, shape), with_batch(s, b, shape), NULL, light_alias_view(s, y), 0);
}

static bool has_batch_of(const light_tensor *t, const light_tensor *y)
{
    return t->ndim == y->ndim && !memcmp(t->shape, y->shape, (size_t)(t->ndim - 2) * sizeof *t->shape);
}

/* The gradient of in[i], p q with the batch of the output; summed where in[i] was broadcast. */
static light_status give_batched(light_step *s, light_node *node, int i, light_tensor *p, light_tensor *q)
{
    light_tensor *y = node->out[0], *t = node->in[i];
    if (!p || !q) return LIGHT_ERR_MEMORY;
    if (has_batch_of(t, y)) {
        light_slot slot = light_grad_slot(s, node, i);
        if (!slot.tensor) return light_step_status(s);
        return product(s, p, q, NULL, light_alias_view(s, slot.tensor), slot.accumulate);
    }
    light_spec spec = {.dtype = (light_dtype)t->dtype, .shape = light_shape_of(y)};
    spec.shape.dims[y->ndim - 2] = p->shape[p->ndim - 2];
    spec.shape.dims[y->ndim - 1] = q->shape[q->ndim - 1];
    light_tensor *full = light_step_tensor(s, spec);
    LIGHT_TRY(product(s, p, q, NULL, full ? light_alias_view(s, full) : NULL, 0));
    LIGHT_TRY(light_grad_give(s, node, i, full));
    light_step_release(s, full);
    return LIGHT_OK;
}

static light_status matmul_backward_flat(light_step *s, light_node *node, light_tensor *g)
{
    light_tensor *a = node->in[0], *b = node->in[1];
    light_slot ga = light_grad_slot(s, node, 0);
    if (ga.tensor)
        LIGHT_TRY(product(s, as_rows(s, g), transposed(s, b), NULL, as_rows(s, ga.tensor), ga.accumulate));
    light_slot gb = light_grad_slot(s, node, 1);
    if (!gb.tensor) return light_step_status(s);
    light_tensor *rows = as_rows(s, a);
    if (!rows) return LIGHT_ERR_MEMORY;
    LIGHT_TRY(
        product(s, transposed(s, rows), as_rows(s, g), NULL, light_alias_view(s, gb.tensor), gb.accumulate));
    light_step_release(s, rows);
    return LIGHT_OK;
}

static light_status matmul_backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    light_tensor *a = node->in[0], *b = node->in[1], *g = light_step_contiguous(s, grads[0]);
    light_shape shape = light_shape_of(node->out[0]);
    if (!g) return LIGHT_ERR_MEMORY;
    if (is_flat(node)) {
        LIGHT_TRY(matmul_backward_flat(s, node, g));
        light_step_release(s, g);
        return LIGHT_OK;
    }
    light_tensor *wide_a = with_batch(s, a, shape), *wide_b = with_batch(s, b, shape);
    if (!wide_a || !wide_b) return LIGHT_ERR_MEMORY;
    if (light_grad_needed(node, 0))
        LIGHT_TRY(give_batched(s, node, 0, light_alias_view(s, g), transposed(s, wide_b)));
    if (light_grad_needed(node, 1))
        LIGHT_TRY(give_batched(s, node, 1, transposed(s, wide_a), light_alias_view(s, g)));
    light_step_release(s, wide_a);
    light_step_release(s, wide_b);
    light_step_release(s, g);
    return LIGHT_OK;
}

static const light_op matmul_op = {
    .name = "matmul",
    .infer = matmul_infer,
    .forward = matmul_forward,
    .backward = matmul_backward,
    .saves_in = 3,
    .precision = LIGHT_OP_LOWER,
    .wide_grads = 3,
};

light_tensor *light_matmul(light_step *s, light_tensor *a, light_tensor *b)
{
    if (!a || !b) return NULL;
    if (a->ndim == 0 || b->ndim == 0)
        return light_step_fail(s, LIGHT_ERR_SHAPE, "matmul: shapes %s and %s: a scalar is no matrix",
                               light_shape_text(a), light_shape_text(b));
    bool row = a->ndim == 1, column = b->ndim == 1;
    if (row) a = light_unsqueeze(s, a, 0);
    if (column) b = light_unsqueeze(s, b, 1);
    light_tensor *y = light_apply(s, &matmul_op, (light_tensor *[]){a, b}, 2, 0, NULL, 0, NULL, 1);
    if (row) y = light_squeeze(s, y, -2);
    if (column) y = light_squeeze(s, y, -1);
    return y;
}

const light_op *const light_matmul_ops[] = {&linear_op, &matmul_op, NULL};
