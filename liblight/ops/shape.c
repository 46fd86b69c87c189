/* SPDX-License-Identifier: Apache-2.0 */
/* Windows on a tensor: other shapes and parts of it over the same memory. */
#include "ops/common.h"
#include "ops/table.h"

#include <light/ops.h>

#include <string.h>

typedef struct view_attrs {
    light_shape shape;         /* reshape, expand */
    int order[LIGHT_MAX_DIMS]; /* permute */
    int dim;                   /* slice, select, split */
    int64_t start, step, count;
    int64_t size; /* split: of a piece */
    bool drop;    /* select: the dim goes */
} view_attrs;

/* A window: what light_step_view wants to know. */
typedef struct window {
    light_shape shape;
    int64_t strides[LIGHT_MAX_DIMS];
    int64_t offset;
} window;

static light_tensor *view_of(light_step *s, light_tensor *t, const window *w)
{
    return light_step_view(s, t, w->shape, w->strides, w->offset);
}

static light_status set_view(light_step *s, light_node *node, int i, const window *w)
{
    node->out[i] = view_of(s, node->in[0], w);
    return node->out[i] ? LIGHT_OK : LIGHT_ERR_MEMORY;
}

static light_status check_dim(light_step *s, const light_node *node, int *dim)
{
    int given = *dim, ndim = node->in[0]->ndim;
    if (light_normalize_dim(dim, ndim)) return LIGHT_OK;
    return light_op_fail(s, node, LIGHT_ERR_ARGUMENT, "dim %d of a tensor of shape %s", given,
                         light_shape_text(node->in[0]));
}

/* ---- reshape ------------------------------------------------------------ */

/* The strides under which t's memory has this shape, when there are such; element counts agree. */
static bool strides_for(const light_tensor *t, light_shape shape, int64_t *strides)
{
    int d = shape.ndim - 1;
    int64_t group = 1, wanted = 1, base = 1;
    if (t->numel == 0 || t->contiguous) {
        for (int64_t step = 1; d >= 0; d--) {
            strides[d] = step;
            step *= shape.dims[d] > 0 ? shape.dims[d] : 1;
        }
        return true;
    }
    /* From the last dim on, groups of dims of t that lie without gaps must be made of whole dims of the new shape. */
    for (int i = t->ndim - 1; i >= 0; i--) {
        if (group == 1) base = t->strides[i];
        group *= t->shape[i];
        if (i > 0 && (t->shape[i - 1] == 1 || t->strides[i - 1] == group * base)) continue;
        if (i > 0 && group == 1) continue;
        for (; d >= 0 && (wanted < group || shape.dims[d] == 1); d--) {
            strides[d] = wanted * base;
            wanted *= shape.dims[d];
        }
        if (wanted != group) return false;
        group = wanted = 1;
    }
    for (; d >= 0; d--) strides[d] = 1; /* only ones are left */
    return true;
}

/* Puts a number where shape says -1. False when the shapes do not fit. */
static bool resolve(const light_tensor *x, light_shape *shape)
{
    int64_t known = 1;
    int open = -1;
    if (shape->ndim < 0 || shape->ndim > LIGHT_MAX_DIMS) return false;
    for (int i = 0; i < shape->ndim; i++) {
        if (shape->dims[i] == -1 && open < 0)
            open = i;
        else if (shape->dims[i] < 0 || __builtin_mul_overflow(known, shape->dims[i], &known))
            return false;
    }
    if (open < 0) return known == x->numel;
    if (known == 0 || x->numel % known) return false;
    shape->dims[open] = x->numel / known;
    return true;
}

static light_status reshape_infer(light_step *s, light_node *node, light_spec *specs)
{
    view_attrs *attrs = node->attrs;
    light_shape asked = attrs->shape;
    char text[256];
    if (!resolve(node->in[0], &attrs->shape))
        return light_op_fail(s, node, LIGHT_ERR_SHAPE, "%s cannot become %s", light_shape_text(node->in[0]),
                             light_shape_format(asked, text, sizeof text));
    specs[0] = (light_spec){.dtype = (light_dtype)node->in[0]->dtype, .shape = attrs->shape};
    return LIGHT_OK;
}

static light_status reshape_forward(light_step *s, light_node *node)
{
    window w = {.shape = ((const view_attrs *)node->attrs)->shape};
    strides_for(node->in[0], w.shape, w.strides); /* light_reshape has made sure of it */
    return set_view(s, node, 0, &w);
}

static light_status reshape_backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    window w = {.shape = light_shape_of(node->in[0])};
    light_tensor *copy = NULL, *g = grads[0];
    if (!light_grad_needed(node, 0)) return LIGHT_OK;
    if (!strides_for(g, w.shape, w.strides)) {
        if (!(g = copy = light_step_contiguous(s, g))) return LIGHT_ERR_MEMORY;
        strides_for(g, w.shape, w.strides);
    }
    light_tensor *view = view_of(s, g, &w);
    light_status status = light_grad_give(s, node, 0, view);
    light_step_release(s, view);
    light_step_release(s, copy);
    return status;
}

static const light_op reshape_op = {.name = "reshape",
                                    .infer = reshape_infer,
                                    .forward = reshape_forward,
                                    .backward = reshape_backward,
                                    .view = true};

light_tensor *light_reshape(light_step *s, light_tensor *x, light_shape shape)
{
    view_attrs attrs = {.shape = shape};
    int64_t strides[LIGHT_MAX_DIMS];
    if (x && resolve(x, &shape) && !strides_for(x, shape, strides)) x = light_contiguous(s, x);
    return LIGHT_APPLY1(s, &reshape_op, &attrs, x);
}

static light_tensor *bad_dim(light_step *s, const char *name, const light_tensor *x, int dim)
{
    return light_step_fail(s, LIGHT_ERR_ARGUMENT, "%s: dim %d of a tensor of shape %s", name, dim,
                           light_shape_text(x));
}

light_tensor *light_flatten(light_step *s, light_tensor *x, int start_dim)
{
    light_shape shape = {0};
    int dim = start_dim;
    if (x) {
        if (x->ndim == 0 && (dim == 0 || dim == -1)) return light_reshape(s, x, LIGHT_SHAPE(1));
        if (!light_normalize_dim(&dim, x->ndim)) return bad_dim(s, "flatten", x, start_dim);
        shape = light_shape_of(x);
        shape.ndim = dim + 1;
        for (int i = dim + 1; i < x->ndim; i++) shape.dims[dim] *= x->shape[i];
    }
    return light_reshape(s, x, shape);
}

light_tensor *light_squeeze(light_step *s, light_tensor *x, int dim)
{
    light_shape shape = light_shape_of(x);
    int at = dim;
    if (x) {
        if (!light_normalize_dim(&at, x->ndim)) return bad_dim(s, "squeeze", x, dim);
        if (x->shape[at] != 1) return x;
        for (int i = at; i + 1 < x->ndim; i++) shape.dims[i] = shape.dims[i + 1];
        shape.ndim--;
    }
    return light_reshape(s, x, shape);
}

light_tensor *light_unsqueeze(light_step *s, light_tensor *x, int dim)
{
    light_shape shape = light_shape_of(x);
    int at = dim;
    if (x) {
        if (x->ndim == LIGHT_MAX_DIMS || !light_normalize_dim(&at, x->ndim + 1))
            return bad_dim(s, "unsqueeze", x, dim);
        for (int i = x->ndim; i > at; i--) shape.dims[i] = shape.dims[i - 1];
        shape.dims[at] = 1;
        shape.ndim++;
    }
    return light_reshape(s, x, shape);
}

/* ---- permute ------------------------------------------------------------ */

static void permuted(const light_tensor *t, const int *order, window *w)
{
    *w = (window){.shape.ndim = t->ndim};
    for (int i = 0; i < t->ndim; i++) {
        w->shape.dims[i] = t->shape[order[i]];
        w->strides[i] = t->strides[order[i]];
    }
}

static light_status permute_infer(light_step *s, light_node *node, light_spec *specs)
{
    view_attrs *attrs = node->attrs;
    const light_tensor *x = node->in[0];
    uint32_t seen = 0;
    window w;
    for (int i = 0; i < x->ndim; i++) {
        LIGHT_TRY(check_dim(s, node, &attrs->order[i]));
        seen |= 1u << attrs->order[i];
    }
    if (attrs->shape.ndim != x->ndim || seen != (1u << x->ndim) - 1)
        return light_op_fail(s, node, LIGHT_ERR_ARGUMENT, "each dim of shape %s must be named once",
                             light_shape_text(x));
    permuted(x, attrs->order, &w);
    specs[0] = (light_spec){.dtype = (light_dtype)x->dtype, .shape = w.shape};
    return LIGHT_OK;
}

static light_status permute_forward(light_step *s, light_node *node)
{
    window w;
    permuted(node->in[0], ((const view_attrs *)node->attrs)->order, &w);
    return set_view(s, node, 0, &w);
}

static light_status permute_backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    const int *order = ((const view_attrs *)node->attrs)->order;
    int back[LIGHT_MAX_DIMS];
    window w;
    if (!light_grad_needed(node, 0)) return LIGHT_OK;
    for (int i = 0; i < grads[0]->ndim; i++) back[order[i]] = i;
    permuted(grads[0], back, &w);
    light_tensor *view = view_of(s, grads[0], &w);
    light_status status = light_grad_give(s, node, 0, view);
    light_step_release(s, view);
    return status;
}

static const light_op permute_op = {.name = "permute",
                                    .infer = permute_infer,
                                    .forward = permute_forward,
                                    .backward = permute_backward,
                                    .view = true};

light_tensor *light_permute(light_step *s, light_tensor *x, light_dims order)
{
    view_attrs attrs = {.shape.ndim = order.n};
    memcpy(attrs.order, order.dims, sizeof attrs.order);
    return LIGHT_APPLY1(s, &permute_op, &attrs, x);
}

light_tensor *light_transpose(light_step *s, light_tensor *x, int dim0, int dim1)
{
    light_dims order = {.n = x ? x->ndim : 0};
    int a = dim0, b = dim1;
    for (int i = 0; i < order.n; i++) order.dims[i] = i;
    if (x) {
        if (!light_normalize_dim(&a, x->ndim)) return bad_dim(s, "transpose", x, dim0);
        if (!light_normalize_dim(&b, x->ndim)) return bad_dim(s, "transpose", x, dim1);
        order.dims[a] = b;
        order.dims[b] = a;
    }
    return light_permute(s, x, order);
}

/* ---- expand ------------------------------------------------------------- */

static light_status expand_infer(light_step *s, light_node *node, light_spec *specs)
{
    view_attrs *attrs = node->attrs;
    const light_tensor *x = node->in[0];
    light_shape asked = attrs->shape;
    int shift = asked.ndim - x->ndim;
    bool fits = shift >= 0 && asked.ndim <= LIGHT_MAX_DIMS;
    for (int i = 0; fits && i < asked.ndim; i++) {
        int64_t size = i < shift ? 1 : x->shape[i - shift];
        if (i >= shift && asked.dims[i] == -1) attrs->shape.dims[i] = size;
        fits = attrs->shape.dims[i] >= 0 && (size == 1 || attrs->shape.dims[i] == size);
    }
    char text[256];
    if (!fits)
        return light_op_fail(s, node, LIGHT_ERR_SHAPE, "%s cannot be repeated to %s", light_shape_text(x),
                             light_shape_format(asked, text, sizeof text));
    specs[0] = (light_spec){.dtype = (light_dtype)x->dtype, .shape = attrs->shape};
    return LIGHT_OK;
}

static light_status expand_forward(light_step *s, light_node *node)
{
    node->out[0] = light_step_expanded(s, node->in[0], ((const view_attrs *)node->attrs)->shape);
    return node->out[0] ? LIGHT_OK : LIGHT_ERR_MEMORY;
}

static light_status expand_backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    return light_grad_give(s, node, 0, grads[0]);
}

static const light_op expand_op = {.name = "expand",
                                   .infer = expand_infer,
                                   .forward = expand_forward,
                                   .backward = expand_backward,
                                   .view = true};

light_tensor *light_expand(light_step *s, light_tensor *x, light_shape shape)
{
    view_attrs attrs = {.shape = shape};
    return LIGHT_APPLY1(s, &expand_op, &attrs, x);
}

/* ---- parts -------------------------------------------------------------- */

static void part_of(const light_tensor *t, const view_attrs *attrs, window *w)
{
    *w = (window){.offset = attrs->start * t->strides[attrs->dim]};
    for (int i = 0; i < t->ndim; i++) {
        bool cut = i == attrs->dim;
        if (cut && attrs->drop) continue;
        w->shape.dims[w->shape.ndim] = cut ? attrs->count : t->shape[i];
        w->strides[w->shape.ndim++] = cut ? t->strides[i] * attrs->step : t->strides[i];
    }
}

static light_status part_infer(light_step *s, light_node *node, light_spec *specs)
{
    view_attrs *attrs = node->attrs;
    const light_tensor *x = node->in[0];
    window w;
    LIGHT_TRY(check_dim(s, node, &attrs->dim));
    int64_t size = x->shape[attrs->dim], start = attrs->start < 0 ? attrs->start + size : attrs->start;
    if (attrs->drop) {
        if (start < 0 || start >= size)
            return light_op_fail(s, node, LIGHT_ERR_ARGUMENT, "index %lld of dim %d, which has %lld elements",
                                 (long long)attrs->start, attrs->dim, (long long)size);
        attrs->count = 1;
    } else {
        if (attrs->step < 1)
            return light_op_fail(s, node, LIGHT_ERR_ARGUMENT, "the step is %lld, at least 1 is needed",
                                 (long long)attrs->step);
        int64_t end =
            attrs->count < 0 ? attrs->count + size : attrs->count; /* the caller's end stands there */
        start = start < 0 ? 0 : start > size ? size : start;
        end = end < start ? start : end > size ? size : end;
        attrs->count = (end - start + attrs->step - 1) / attrs->step;
    }
    attrs->start = start;
    part_of(x, attrs, &w);
    specs[0] = (light_spec){.dtype = (light_dtype)x->dtype, .shape = w.shape};
    return LIGHT_OK;
}

static light_status part_forward(light_step *s, light_node *node)
{
    window w;
    part_of(node->in[0], node->attrs, &w);
    return set_view(s, node, 0, &w);
}

/* Adds g to the part of `base`, or writes it when nothing is there; no g counts as zeros. */
static light_status write_part(light_step *s, light_tensor *base, const view_attrs *attrs, light_tensor *g,
                               uint32_t accumulate)
{
    light_fill_attrs zero = {0};
    window w;
    if (!g && accumulate) return LIGHT_OK;
    part_of(base, attrs, &w);
    light_tensor *part = view_of(s, base, &w);
    if (!part) return LIGHT_ERR_MEMORY;
    light_status status = g ? LIGHT_RUN(s, COPY, .in = {g}, .out = {part}, .accumulate = accumulate)
                            : LIGHT_RUN(s, FILL, .out = {part}, .attrs = &zero);
    light_step_release(s, part);
    return status;
}

static light_status part_backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    light_fill_attrs zero = {0};
    light_slot slot = light_grad_slot(s, node, 0);
    if (!slot.tensor) return LIGHT_OK;
    if (!slot.accumulate) LIGHT_TRY(LIGHT_RUN(s, FILL, .out = {slot.tensor}, .attrs = &zero));
    return write_part(s, slot.tensor, node->attrs, grads[0], slot.accumulate);
}

static const light_op select_op = {
    .name = "select", .infer = part_infer, .forward = part_forward, .backward = part_backward, .view = true};
static const light_op slice_op = {
    .name = "slice", .infer = part_infer, .forward = part_forward, .backward = part_backward, .view = true};

light_tensor *light_select(light_step *s, light_tensor *x, int dim, int64_t index)
{
    view_attrs attrs = {.dim = dim, .start = index, .step = 1, .drop = true};
    return LIGHT_APPLY1(s, &select_op, &attrs, x);
}

light_tensor *light_slice(light_step *s, light_tensor *x, int dim, int64_t start, int64_t end, int64_t step)
{
    view_attrs attrs = {.dim = dim, .start = start, .count = end, .step = step};
    return LIGHT_APPLY1(s, &slice_op, &attrs, x);
}

/* ---- split -------------------------------------------------------------- */

/* The attributes of part i. */
static view_attrs piece(const light_tensor *x, const view_attrs *attrs, int i)
{
    view_attrs one = *attrs;
    int64_t left = x->shape[attrs->dim] - i * attrs->size;
    one.start = i * attrs->size;
    one.count = left < attrs->size ? left : attrs->size;
    one.step = 1;
    return one;
}

static light_status split_infer(light_step *s, light_node *node, light_spec *specs)
{
    view_attrs *attrs = node->attrs;
    const light_tensor *x = node->in[0];
    LIGHT_TRY(check_dim(s, node, &attrs->dim));
    int64_t size = x->shape[attrs->dim];
    int64_t pieces = attrs->size > 0 ? (size + attrs->size - 1) / attrs->size : 0;
    if (pieces < 1 || pieces != node->n_out)
        return light_op_fail(s, node, LIGHT_ERR_ARGUMENT,
                             "dim %d of %s gives %lld pieces of %lld, not the %d that were asked for",
                             attrs->dim, light_shape_text(x), (long long)pieces, (long long)attrs->size,
                             node->n_out);
    for (int i = 0; i < node->n_out; i++) {
        view_attrs one = piece(x, attrs, i);
        window w;
        part_of(x, &one, &w);
        specs[i] = (light_spec){.dtype = (light_dtype)x->dtype, .shape = w.shape};
    }
    return LIGHT_OK;
}

static light_status split_forward(light_step *s, light_node *node)
{
    for (int i = 0; i < node->n_out; i++) {
        view_attrs one = piece(node->in[0], node->attrs, i);
        window w;
        part_of(node->in[0], &one, &w);
        LIGHT_TRY(set_view(s, node, i, &w));
    }
    return LIGHT_OK;
}

/* All parts go straight to their places in one gradient. */
static light_status split_backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    light_slot slot = light_grad_slot(s, node, 0);
    if (!slot.tensor) return LIGHT_OK;
    for (int i = 0; i < node->n_out; i++) {
        view_attrs one = piece(node->in[0], node->attrs, i);
        LIGHT_TRY(write_part(s, slot.tensor, &one, grads[i], slot.accumulate));
    }
    return LIGHT_OK;
}

static const light_op split_op = {.name = "split",
                                  .infer = split_infer,
                                  .forward = split_forward,
                                  .backward = split_backward,
                                  .view = true};

bool light_split(light_step *s, light_tensor *x, int64_t size, int dim, light_tensor **parts, int n)
{
    view_attrs attrs = {.dim = dim, .size = size};
    if (n <= LIGHT_OP_MAX_OUT)
        return light_apply(s, &split_op, &x, 1, 0, &attrs, sizeof attrs, parts, n > 0 ? n : 1) != NULL;
    int64_t pieces = x && size > 0 ? (light_dim(x, dim) + size - 1) / size : 0;
    if (x && pieces != n)
        light_step_fail(s, LIGHT_ERR_ARGUMENT,
                        "split: %s gives %lld pieces of %lld, not the %d that were asked for",
                        light_shape_text(x), (long long)pieces, (long long)size, n);
    for (int i = 0; i < n; i++) parts[i] = light_slice(s, x, dim, i * size, (i + 1) * size, 1);
    return parts[n - 1] != NULL;
}

const light_op *const light_shape_ops[] = {&reshape_op, &permute_op, &expand_op, &select_op,
                                           &slice_op,   &split_op,   NULL};
