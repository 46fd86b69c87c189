/* SPDX-License-Identifier: Apache-2.0 */
/* New tensors from the contents of others: contiguous, cat, stack, pad. */
#include "ops/common.h"
#include "ops/table.h"

#include <light/ops.h>

#include <string.h>

static light_status pass_on(light_step *s, light_node *node, light_tensor *const *grads)
{
    return light_grad_give(s, node, 0, grads[0]);
}

/* ---- contiguous --------------------------------------------------------- */

static light_status contiguous_infer(light_step *s, light_node *node, light_spec *specs)
{
    (void)s;
    specs[0] = (light_spec){.dtype = (light_dtype)node->in[0]->dtype, .shape = light_shape_of(node->in[0])};
    return LIGHT_OK;
}

static light_status contiguous_forward(light_step *s, light_node *node)
{
    return LIGHT_RUN(s, COPY, .in = {node->in[0]}, .out = {node->out[0]});
}

static const light_op contiguous_op = {
    .name = "contiguous", .infer = contiguous_infer, .forward = contiguous_forward, .backward = pass_on};

light_tensor *light_contiguous(light_step *s, light_tensor *x)
{
    if (x && x->contiguous) return x;
    return light_apply(s, &contiguous_op, &x, 1, 0, NULL, 0, NULL, 1);
}

/* ---- cat and stack ------------------------------------------------------ */

typedef struct cat_attrs {
    int dim;
} cat_attrs;

static light_status check_part(light_step *s, const light_node *node, int dim, int i)
{
    const light_tensor *first = node->in[0], *part = node->in[i];
    bool fits = part->ndim == first->ndim;
    for (int d = 0; fits && d < first->ndim; d++) fits = d == dim || part->shape[d] == first->shape[d];
    if (fits) return LIGHT_OK;
    return light_op_fail(s, node, LIGHT_ERR_SHAPE,
                         "part %d has shape %s, part 0 has %s; they may differ in dim %d only", i,
                         light_shape_text(part), light_shape_text(first), dim);
}

static light_status cat_infer(light_step *s, light_node *node, light_spec *specs)
{
    cat_attrs *attrs = node->attrs;
    const light_tensor *first = node->in[0];
    light_dtype dtype = (light_dtype)first->dtype;
    int given = attrs->dim;
    if (!light_normalize_dim(&attrs->dim, first->ndim))
        return light_op_fail(s, node, LIGHT_ERR_ARGUMENT, "dim %d of parts of shape %s", given,
                             light_shape_text(first));
    light_spec spec = light_spec_like(first);
    for (int i = 1; i < node->n_in; i++) {
        LIGHT_TRY(check_part(s, node, attrs->dim, i));
        spec.shape.dims[attrs->dim] += node->in[i]->shape[attrs->dim];
        dtype = light_promote(dtype, (light_dtype)node->in[i]->dtype);
    }
    for (int i = 0; i < node->n_in; i++)
        if (!(node->in[i] = light_to_dtype(s, node->in[i], dtype))) return LIGHT_ERR_MEMORY;
    spec.dtype = dtype;
    specs[0] = spec;
    return LIGHT_OK;
}

/* The part of `whole`, from `start` on along the dim, that has the shape of `part`. */
static light_tensor *place(light_step *s, light_tensor *whole, const light_tensor *part, int dim,
                           int64_t start)
{
    return light_step_view(s, whole, light_shape_of(part), whole->strides, start * whole->strides[dim]);
}

static light_status cat_forward(light_step *s, light_node *node)
{
    int dim = ((const cat_attrs *)node->attrs)->dim;
    int64_t start = 0;
    for (int i = 0; i < node->n_in; i++) {
        light_tensor *to = place(s, node->out[0], node->in[i], dim, start);
        if (!to) return LIGHT_ERR_MEMORY;
        LIGHT_TRY(LIGHT_RUN(s, COPY, .in = {node->in[i]}, .out = {to}));
        light_step_release(s, to);
        start += node->in[i]->shape[dim];
    }
    return LIGHT_OK;
}

static light_status cat_backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    int dim = ((const cat_attrs *)node->attrs)->dim;
    int64_t start = 0;
    for (int i = 0; i < node->n_in; i++) {
        if (light_grad_needed(node, i)) {
            light_tensor *from = place(s, grads[0], node->in[i], dim, start);
            LIGHT_TRY(light_grad_give(s, node, i, from));
            light_step_release(s, from);
        }
        start += node->in[i]->shape[dim];
    }
    return LIGHT_OK;
}

static const light_op cat_op = {
    .name = "cat", .infer = cat_infer, .forward = cat_forward, .backward = cat_backward};

static light_status stack_infer(light_step *s, light_node *node, light_spec *specs)
{
    cat_attrs *attrs = node->attrs;
    int given = attrs->dim, ndim = node->in[0]->ndim + 1;
    if (ndim > LIGHT_MAX_DIMS || !light_normalize_dim(&attrs->dim, ndim))
        return light_op_fail(s, node, LIGHT_ERR_ARGUMENT, "dim %d before parts of shape %s", given,
                             light_shape_text(node->in[0]));
    for (int i = 1; i < node->n_in; i++) LIGHT_TRY(check_part(s, node, -1, i));
    for (int i = 0; i < node->n_in; i++)
        if (!(node->in[i] = light_unsqueeze(s, node->in[i], attrs->dim))) return LIGHT_ERR_MEMORY;
    return cat_infer(s, node, specs);
}

static const light_op stack_op = {
    .name = "stack", .infer = stack_infer, .forward = cat_forward, .backward = cat_backward};

static light_tensor *join(light_step *s, const light_op *op, light_tensor **parts, int n, int dim)
{
    cat_attrs attrs = {.dim = dim};
    if (s && n < 1) return light_step_fail(s, LIGHT_ERR_ARGUMENT, "%s: no parts", op->name);
    return light_apply(s, op, parts, n, 0, &attrs, sizeof attrs, NULL, 1);
}

light_tensor *light_cat(light_step *s, light_tensor **parts, int n, int dim)
{
    return join(s, &cat_op, parts, n, dim);
}

light_tensor *light_stack(light_step *s, light_tensor **parts, int n, int dim)
{
    return join(s, &stack_op, parts, n, dim);
}

/* ---- pad ---------------------------------------------------------------- */

typedef struct pad_attrs {
    int n;
    int64_t pads[2 * LIGHT_MAX_DIMS];
    light_fill_attrs fill;
} pad_attrs;

static int64_t pad_before(const pad_attrs *attrs, int ndim, int d)
{
    int i = ndim - 1 - d;
    return 2 * i < attrs->n ? attrs->pads[2 * i] : 0;
}

static int64_t pad_after(const pad_attrs *attrs, int ndim, int d)
{
    int i = ndim - 1 - d;
    return 2 * i < attrs->n ? attrs->pads[2 * i + 1] : 0;
}

static light_status pad_infer(light_step *s, light_node *node, light_spec *specs)
{
    const pad_attrs *attrs = node->attrs;
    const light_tensor *x = node->in[0];
    specs[0] = light_spec_like(x);
    if (attrs->n < 0 || attrs->n % 2 || attrs->n > 2 * x->ndim)
        return light_op_fail(s, node, LIGHT_ERR_ARGUMENT,
                             "%d pads for shape %s; two for each of its dims are possible", attrs->n,
                             light_shape_text(x));
    for (int d = 0; d < x->ndim; d++) {
        int64_t before = pad_before(attrs, x->ndim, d), after = pad_after(attrs, x->ndim, d);
        specs[0].shape.dims[d] += before + after;
        if (specs[0].shape.dims[d] < 0)
            return light_op_fail(s, node, LIGHT_ERR_SHAPE,
                                 "pads %lld and %lld leave nothing of dim %d of shape %s", (long long)before,
                                 (long long)after, d, light_shape_text(x));
    }
    return LIGHT_OK;
}

/* What the input and the padded tensor have in common, as a window on one of them. Negative pads cut the input. */
static light_tensor *common_part(light_step *s, const pad_attrs *attrs, light_tensor *t,
                                 const light_tensor *x, bool padded)
{
    light_shape shape = light_shape_of(x);
    int64_t offset = 0;
    for (int d = 0; d < x->ndim; d++) {
        int64_t before = pad_before(attrs, x->ndim, d), after = pad_after(attrs, x->ndim, d);
        shape.dims[d] += (before < 0 ? before : 0) + (after < 0 ? after : 0);
        if (shape.dims[d] < 0) shape.dims[d] = 0;
        int64_t start = padded ? (before > 0 ? before : 0) : (before < 0 ? -before : 0);
        offset += start * t->strides[d];
    }
    return light_step_view(s, t, shape, t->strides, light_shape_numel(shape) ? offset : 0);
}

static light_status pad_forward(light_step *s, light_node *node)
{
    const pad_attrs *attrs = node->attrs;
    light_tensor *x = node->in[0], *y = node->out[0];
    LIGHT_TRY(LIGHT_RUN(s, FILL, .out = {y}, .attrs = &attrs->fill));
    light_tensor *from = common_part(s, attrs, x, x, false), *to = common_part(s, attrs, y, x, true);
    if (!from || !to) return LIGHT_ERR_MEMORY;
    light_status status = LIGHT_RUN(s, COPY, .in = {from}, .out = {to});
    light_step_release(s, from);
    light_step_release(s, to);
    return status;
}

static light_status pad_backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    const pad_attrs *attrs = node->attrs;
    light_tensor *x = node->in[0];
    light_fill_attrs zero = {0};
    if (!light_grad_needed(node, 0)) return LIGHT_OK;
    light_tensor *from = common_part(s, attrs, grads[0], x, true);
    if (!from) return LIGHT_ERR_MEMORY;
    if (light_same_shape(from, x)) {
        LIGHT_TRY(light_grad_give(s, node, 0, from));
    } else {
        light_slot slot = light_grad_slot(s, node, 0);
        if (!slot.tensor) return LIGHT_ERR_MEMORY;
        light_tensor *to = common_part(s, attrs, slot.tensor, x, false);
        if (!to) return LIGHT_ERR_MEMORY;
        if (!slot.accumulate) LIGHT_TRY(LIGHT_RUN(s, FILL, .out = {slot.tensor}, .attrs = &zero));
        LIGHT_TRY(LIGHT_RUN(s, COPY, .in = {from}, .out = {to}, .accumulate = slot.accumulate));
        light_step_release(s, to);
    }
    light_step_release(s, from);
    return LIGHT_OK;
}

static const light_op pad_op = {
    .name = "pad", .infer = pad_infer, .forward = pad_forward, .backward = pad_backward};

light_tensor *light_pad(light_step *s, light_tensor *x, const int64_t *pads, int n, double value)
{
    pad_attrs attrs = {.n = n, .fill = {value}};
    if (n > 0 && n <= 2 * LIGHT_MAX_DIMS) memcpy(attrs.pads, pads, (size_t)n * sizeof *pads);
    return LIGHT_APPLY1(s, &pad_op, &attrs, x);
}

const light_op *const light_join_ops[] = {&contiguous_op, &cat_op, &stack_op, &pad_op, NULL};
