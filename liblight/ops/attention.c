/* SPDX-License-Identifier: Apache-2.0 */
/* Scaled dot product attention: shapes and gradients. The result lies in memory as [B, T, H, d], so that the heads can be
 * joined again without a copy. */
#include "ops/layout.h"
#include "ops/table.h"

#include <light/ops.h>

#include <math.h>

enum { Q, K, V, MASK };

static light_status fail_shapes(light_step *s, const light_node *node, const char *what)
{
    char text[3][256];

    return light_op_fail(s, node, LIGHT_ERR_SHAPE, "%s: q %s, k %s, v %s", what,
                         light_shape_format(light_shape_of(node->in[Q]), text[0], 256),
                         light_shape_format(light_shape_of(node->in[K]), text[1], 256),
                         light_shape_format(light_shape_of(node->in[V]), text[2], 256));
}

static light_status check_mask(light_step *s, const light_node *node)
{
    light_tensor *mask = node->in[MASK];
    light_shape scores = light_shape_of(node->in[Q]), whole;

    if (!mask) return LIGHT_OK;
    scores.dims[3] = light_dim(node->in[K], 2);
    if (light_dtype_of(mask) != LIGHT_BOOL && !light_dtype_is_floating(light_dtype_of(mask)))
        return light_op_fail(s, node, LIGHT_ERR_DTYPE, "the mask must be bool or floating, it is %s",
                             light_dtype_name(light_dtype_of(mask)));
    if (!light_broadcast(scores, light_shape_of(mask), &whole) || !light_shape_equal(scores, whole))
        return light_op_fail(s, node, LIGHT_ERR_SHAPE, "a mask %s does not fit scores %s",
                             light_shape_format(light_shape_of(mask), (char[256]){0}, 256),
                             light_shape_format(scores, (char[256]){0}, 256));
    return LIGHT_OK;
}

static light_status sdpa_infer(light_step *s, light_node *node, light_spec *specs)
{
    light_tensor *const *in = node->in;
    light_dtype dtype =
        light_promote(light_promote(light_dtype_of(in[Q]), light_dtype_of(in[K])), light_dtype_of(in[V]));

    for (int i = Q; i <= V; i++)
        if (light_ndim(in[i]) != 4 || !light_dtype_is_floating(light_dtype_of(in[i])) ||
            light_numel(in[i]) == 0)
            return fail_shapes(s, node, "floating tensors [.., heads, T, d] that are not empty are needed");
    if (light_dim(in[Q], 0) != light_dim(in[K], 0) || light_dim(in[Q], 3) != light_dim(in[K], 3) ||
        !light_shape_equal(light_shape_of(in[K]), light_shape_of(in[V])))
        return fail_shapes(s, node, "k and v must be alike, with q's batch and head size");
    if (light_dim(in[Q], 1) % light_dim(in[K], 1))
        return fail_shapes(s, node, "the heads of q must be a multiple of those of k");
    LIGHT_TRY(check_mask(s, node));
    for (int i = Q; i <= V; i++) {
        if (light_dtype_of(in[i]) != dtype) node->in[i] = light_to_dtype(s, in[i], dtype);
        if (in[i] && !light_has_rows(in[i])) node->in[i] = light_contiguous(s, in[i]);
        if (!in[i]) return light_step_status(s);
    }
    specs[0] = (light_spec){.dtype = dtype,
                            .shape = LIGHT_SHAPE(light_dim(in[Q], 0), light_dim(in[Q], 2),
                                                 light_dim(in[Q], 1), light_dim(in[Q], 3))};
    return LIGHT_OK;
}

/* [B, T, H, d] seen as [B, H, T, d]. */
static light_tensor *heads_first(light_step *s, light_tensor *t)
{
    light_shape shape = LIGHT_SHAPE(t->shape[0], t->shape[2], t->shape[1], t->shape[3]);
    int64_t strides[] = {t->strides[0], t->strides[2], t->strides[1], t->strides[3]};

    return light_step_view(s, t, shape, strides, 0);
}

static light_tensor *expanded_mask(light_step *s, const light_node *node)
{
    light_shape scores = light_shape_of(node->in[Q]);

    scores.dims[3] = light_dim(node->in[K], 2);
    return node->in[MASK] ? light_step_expanded(s, node->in[MASK], scores) : NULL;
}

/* The memory for the mask's gradient with dims of size 1 in front, as the kernel wants it. */
static light_tensor *with_four_dims(light_step *s, light_tensor *t)
{
    light_shape shape = LIGHT_SHAPE(1, 1, 1, 1);
    int64_t strides[4] = {0};

    for (int d = 0, first = 4 - t->ndim; d < t->ndim; d++) {
        shape.dims[first + d] = t->shape[d];
        strides[first + d] = t->strides[d];
    }
    return light_step_view(s, t, shape, strides, 0);
}

static light_status sdpa_forward(light_step *s, light_node *node)
{
    light_tensor *const *in = node->in, *y = heads_first(s, node->out[0]), *mask = expanded_mask(s, node);
    light_shape shape = light_shape_of(in[Q]);

    shape.ndim = 3;
    node->extra[0] = light_step_tensor(
        s, (light_spec){.dtype = light_dtype_of(in[Q]) == LIGHT_F64 ? LIGHT_F64 : LIGHT_F32, .shape = shape});
    if (!y || !node->extra[0]) return light_step_status(s);
    LIGHT_TRY(LIGHT_RUN(s, SDPA, .in = {in[Q], in[K], in[V], mask}, .out = {y, node->extra[0]},
                        .attrs = node->attrs, .rng = node->rng));
    light_step_release(s, y);
    light_step_release(s, mask);
    return LIGHT_OK;
}

static light_status sdpa_backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    light_tensor *const *in = node->in, *mask = expanded_mask(s, node), *y = heads_first(s, node->out[0]);
    light_tensor *rows = light_step_rows(s, grads[0]), *gy = rows ? heads_first(s, rows) : NULL;
    light_like_slot slots[4] = {0};
    light_kernel_args args = {
        .in = {gy, in[Q], in[K], in[V], mask, y, node->extra[0]}, .attrs = node->attrs, .rng = node->rng};

    if (!gy || !y) return light_step_status(s);
    for (int i = Q; i <= MASK; i++) {
        if (!light_grad_needed(node, i)) continue;
        slots[i] = light_grad_slot_rows(s, node, i);
        if (!slots[i].tensor) return light_step_status(s);
        args.out[i] = i == MASK ? with_four_dims(s, slots[i].tensor) : slots[i].tensor;
        if (!args.out[i]) return light_step_status(s);
        args.accumulate |= slots[i].accumulate << i;
    }
    LIGHT_TRY(light_run(s, LIGHT_KERNEL_SDPA_BACKWARD, &args));
    light_step_release(s, args.out[MASK]);
    light_step_release(s, gy);
    light_step_release(s, rows);
    light_step_release(s, y);
    light_step_release(s, mask);
    for (int i = Q; i <= MASK; i++)
        if (slots[i].tensor) LIGHT_TRY(light_slot_finish(s, &slots[i]));
    return LIGHT_OK;
}

static const light_op sdpa_op = {
    .name = "scaled_dot_product_attention",
    .infer = sdpa_infer,
    .forward = sdpa_forward,
    .backward = sdpa_backward,
    .saves_in = 1u << Q | 1u << K | 1u << V | 1u << MASK,
    .saves_out = 1,
    .precision = LIGHT_OP_LOWER,
    .random = true,
};

/* Leading dims become one, or one is put in front. */
static light_tensor *with_one_batch_dim(light_step *s, light_tensor *t)
{
    light_shape shape = light_shape_of(t);
    int lead = shape.ndim - 3;
    light_shape four = {.ndim = 4, .dims = {1, shape.dims[lead], shape.dims[lead + 1], shape.dims[lead + 2]}};

    for (int i = 0; i < lead; i++) four.dims[0] *= shape.dims[i];
    return light_reshape(s, t, four);
}

/* A mask with leading dims of its own is brought to all of them. */
static light_tensor *mask_with_one_batch_dim(light_step *s, light_tensor *mask, light_tensor *q,
                                             light_tensor *k)
{
    light_shape scores = light_shape_of(q);

    if (!mask || light_ndim(mask) <= 3) return mask;
    scores.dims[scores.ndim - 1] = light_dim(k, -2);
    mask = light_expand(s, mask, scores);
    return mask ? with_one_batch_dim(s, mask) : NULL;
}

light_tensor *light_scaled_dot_product_attention(light_step *s, light_tensor *q, light_tensor *k,
                                                 light_tensor *v, light_tensor *mask,
                                                 light_sdpa_params params)
{
    light_sdpa_attrs attrs = {.scale = params.scale, .causal = params.causal};
    light_shape shape = light_shape_of(q);
    light_tensor *y;

    if (!s || !q || !k || !v) return NULL;
    if (shape.ndim < 3 || light_ndim(k) != shape.ndim || light_ndim(v) != shape.ndim)
        return light_step_fail(
            s, LIGHT_ERR_SHAPE,
            "scaled_dot_product_attention: q, k and v must be [.., heads, T, d] with as many dims each");
    if (!(params.dropout_p >= 0 && params.dropout_p <= 1))
        return light_step_fail(s, LIGHT_ERR_ARGUMENT,
                               "scaled_dot_product_attention: dropout_p must be in [0, 1], it is %g",
                               params.dropout_p);
    if (light_step_training(s)) attrs.dropout_p = params.dropout_p;
    if (attrs.scale == 0) attrs.scale = 1 / sqrt((double)light_dim(q, -1));
    if (shape.ndim != 4) {
        mask = mask_with_one_batch_dim(s, mask, q, k);
        q = with_one_batch_dim(s, q);
        k = with_one_batch_dim(s, k);
        v = with_one_batch_dim(s, v);
    }
    y = light_apply(s, &sdpa_op, (light_tensor *[]){q, k, v, mask}, 4, 1u << MASK, &attrs, sizeof attrs, NULL,
                    1);
    y = light_permute(s, y, LIGHT_DIMS(0, 2, 1, 3));
    return shape.ndim == 4 ? y : light_reshape(s, y, shape);
}

const light_op *const light_attention_ops[] = {&sdpa_op, NULL};
