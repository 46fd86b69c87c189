/* SPDX-License-Identifier: Apache-2.0 */
/* Running statistics of batch norm that are the same bits for any number of processes.
 *
 * A batch norm in training changes its running statistics by r = (1 - m) r + m s. While they are looked after here, each
 * micro-batch of a window leaves a block of its own instead: c and d of all layers, such that the change is r = d r + c.
 * When the window ends all ranks make the changes of all its micro-batches in the order of their numbers. */
#ifndef LIGHT_NN_BATCH_STATISTICS_H
#define LIGHT_NN_BATCH_STATISTICS_H

#include "tensor/communicator.h"

#include <light/nn.h>

typedef struct light_batch_statistics light_batch_statistics;

/* *out is NULL where `module` has no batch norm. `mine`: micro-batches of a window that rank `rank` of `ranks` has, a run of
 * neighbours; memory is on `device`. */
light_status light_batch_statistics_new(light_module *module, int64_t mine, int rank, int ranks,
                                        light_device *device, light_batch_statistics **out);
void light_batch_statistics_free(light_batch_statistics *b);

/* What comes is micro-batch i of this rank's, 0 .. mine - 1. */
light_status light_batch_statistics_begin(light_batch_statistics *b, light_step *s, int64_t i);

/* Whether it looks after this layer. b may be NULL. */
bool light_batch_statistics_has(light_batch_statistics *b, const light_batch_norm *layer);
/* For the forward pass of such a layer: what its kernel writes instead of running_mean and running_var; afterwards that it has. */
typedef struct light_running {
    light_tensor *mean, *var;
} light_running;
light_running light_batch_statistics_divert(light_batch_statistics *b, const light_batch_norm *layer);
light_status light_batch_statistics_note(light_batch_statistics *b, light_step *s,
                                         const light_batch_norm *layer);

/* The end of a window of `batches` micro-batches over all ranks. All ranks call it: `tensors` and `host` are the
 * communicators for the device's memory and the host's. */
light_status light_batch_statistics_apply(light_batch_statistics *b, light_step *s,
                                          light_communicator *tensors, light_communicator *host,
                                          int64_t batches);

#endif
