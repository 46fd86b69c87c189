/* SPDX-License-Identifier: Apache-2.0 */
/* What several families of operations share: dtypes of results, memory for gradients that were broadcast. */
#include "ops/common.h"

#include <string.h>

static int kind_of(light_dtype dtype)
{
    return dtype == LIGHT_BOOL ? 0 : light_dtype_is_floating(dtype) ? 2 : 1;
}

light_dtype light_result_dtype(const light_tensor *a, const light_tensor *b)
{
    light_dtype x = (light_dtype)a->dtype, y = (light_dtype)b->dtype;
    if (x == y) return x;
    if (a->ndim && !b->ndim && kind_of(y) <= kind_of(x)) return x;
    if (b->ndim && !a->ndim && kind_of(x) <= kind_of(y)) return y;
    return light_promote(x, y);
}

bool light_same_shape(const light_tensor *a, const light_tensor *b)
{
    return a->ndim == b->ndim && a->numel == b->numel &&
           !memcmp(a->shape, b->shape, a->ndim * sizeof *a->shape);
}

const char *light_shape_text(const light_tensor *t)
{
    static _Thread_local char texts[4][256];
    static _Thread_local unsigned turn;
    char *text = texts[turn++ % 4];
    return light_shape_format(light_shape_of(t), text, sizeof texts[0]);
}

light_target light_target_for(light_step *s, light_node *node, int i, const light_tensor *like)
{
    if (!light_grad_needed(node, i)) return (light_target){0};
    if (light_same_shape(node->in[i], like)) {
        light_slot slot = light_grad_slot(s, node, i);
        return (light_target){slot.tensor, slot.accumulate, false};
    }
    light_spec spec = light_spec_like(like);
    spec.dtype = (light_dtype)node->in[i]->dtype;
    return (light_target){light_step_tensor(s, spec), 0, true};
}

light_status light_target_deliver(light_step *s, light_node *node, int i, light_target target)
{
    if (!target.temporary) return LIGHT_OK;
    light_status status = light_grad_give(s, node, i, target.tensor);
    light_step_release(s, target.tensor);
    return status;
}

light_status light_run_binary(light_step *s, int code, light_tensor *a, light_tensor *b, light_tensor *y,
                              uint32_t accumulate)
{
    light_binary_attrs attrs = {.code = code};
    light_tensor *wide_a = light_same_shape(a, y) ? NULL : light_step_expanded(s, a, light_shape_of(y));
    light_tensor *wide_b = light_same_shape(b, y) ? NULL : light_step_expanded(s, b, light_shape_of(y));
    light_status status = LIGHT_RUN(s, BINARY, .in = {wide_a ? wide_a : a, wide_b ? wide_b : b}, .out = {y},
                                    .attrs = &attrs, .accumulate = accumulate);
    light_step_release(s, wide_a);
    light_step_release(s, wide_b);
    return status;
}

light_tensor *light_step_scalar(light_step *s, light_dtype dtype, double value)
{
    light_fill_attrs attrs = {.value = value};
    light_tensor *t = light_step_tensor(s, (light_spec){.dtype = dtype, .shape = LIGHT_SCALAR});
    if (t && LIGHT_RUN(s, FILL, .out = {t}, .attrs = &attrs) != LIGHT_OK) return NULL;
    return t;
}
