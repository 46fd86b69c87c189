/* SPDX-License-Identifier: Apache-2.0 */
/* Bringing tensors to a memory layout, for operations whose kernels want their tensors alike. */
#ifndef LIGHT_OPS_LAYOUT_H
#define LIGHT_OPS_LAYOUT_H

#include "autograd/op.h"

/* Row-major or channels-last: x itself, or a contiguous copy made on the tape. */
light_tensor *light_dense(light_step *s, light_tensor *x);

/* t itself (one reference more) when it lies in memory as `like` does, else a copy that does. Not on the tape. `like` is
 * row-major or channels-last. */
light_tensor *light_step_like(light_step *s, light_tensor *t, const light_tensor *like);

/* A slot for the gradient of in[i] that lies in memory as `like` does: the slot itself, or memory that
 * light_slot_finish brings there. */
typedef struct light_like_slot {
    light_tensor *tensor; /* NULL: none needed, or memory ran out */
    uint32_t accumulate;
    light_slot slot;
} light_like_slot;
light_like_slot light_grad_slot_like(light_step *s, light_node *node, int i, const light_tensor *like);

/* The same for kernels that want no more than that the last dim's elements are neighbours. */
bool light_has_rows(const light_tensor *t);
light_tensor *light_step_rows(light_step *s, light_tensor *t);
light_like_slot light_grad_slot_rows(light_step *s, light_node *node, int i);

light_status light_slot_finish(light_step *s, light_like_slot *slot);

#endif
