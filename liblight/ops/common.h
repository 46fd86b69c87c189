/* SPDX-License-Identifier: Apache-2.0 */
/* What several families of operations share. */
#ifndef LIGHT_OPS_COMMON_H
#define LIGHT_OPS_COMMON_H

#include "autograd/op.h"

/* PyTorch's rule for the dtype of a result: the wider one, but a tensor without dims does not widen one with dims
 * unless it is of a higher kind (bool < integer < floating). */
light_dtype light_result_dtype(const light_tensor *a, const light_tensor *b);
bool light_same_shape(const light_tensor *a, const light_tensor *b);
/* "[2, 3]" in one of a few buffers that take turns, for messages. */
const char *light_shape_text(const light_tensor *t);

/* Memory for a gradient that is computed in the shape of `like`, for in[i], which may have been broadcast to it.
 *     light_target t = light_target_for(s, node, 0, y);
 *     if (t.tensor) {
 *         LIGHT_TRY(LIGHT_RUN(s, .., .out = {t.tensor}, .accumulate = t.accumulate));
 *         LIGHT_TRY(light_target_deliver(s, node, 0, t));
 *     } */
typedef struct light_target {
    light_tensor *tensor; /* NULL: no gradient is needed, or memory ran out */
    uint32_t accumulate;
    bool temporary;
} light_target;
light_target light_target_for(light_step *s, light_node *node, int i, const light_tensor *like);
light_status light_target_deliver(light_step *s, light_node *node, int i, light_target target);

/* y (+)= a <code> b, with a and b broadcast to y's shape. */
light_status light_run_binary(light_step *s, int code, light_tensor *a, light_tensor *b, light_tensor *y,
                              uint32_t accumulate);
/* For the forward of operations in place: makes out[0] a window on in[0], whose memory is taken over. Fails when somebody
 * still needs the old values. */
light_status light_take_in_place(light_step *s, light_node *node);
/* A scalar of the step with this value; the caller lets it go. */
light_tensor *light_step_scalar(light_step *s, light_dtype dtype, double value);

#endif
