/* SPDX-License-Identifier: Apache-2.0 */
/* Batch norm over the batches of several processes (the step's batch_group). */
#ifndef LIGHT_OPS_NORM_RANKS_H
#define LIGHT_OPS_NORM_RANKS_H

#include "autograd/op.h"
#include "tensor/communicator.h"

typedef struct light_batch_norm_ranks {
    light_batch_norm_attrs kernel; /* first: kernels read it */
    light_communicator *group;     /* NULL: this process alone */
    int ranks;                     /* the first so many of it have a batch */
    double count;                  /* values of a channel, of all of them */
} light_batch_norm_ranks;

/* node->extra[0 and 1] become mean and 1 / deviation of all batches. */
light_status light_batch_norm_together(light_step *s, light_node *node);
light_status light_batch_norm_together_backward(light_step *s, light_node *node, light_tensor *gy);

#endif
