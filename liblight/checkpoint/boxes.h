/* SPDX-License-Identifier: Apache-2.0 */
/* Ranges of a tensor's elements as boxes. Processes share parameters by ranges in row-major order, which may begin and
 * end anywhere; a checkpoint describes tensors by boxes, which HDF5 and every reader understand. */
#ifndef LIGHT_CHECKPOINT_BOXES_H
#define LIGHT_CHECKPOINT_BOXES_H

#include <light/tensor.h>

#define LIGHT_MAX_BOXES (2 * LIGHT_MAX_DIMS - 1)

typedef struct light_box {
    int64_t start[LIGHT_MAX_DIMS];
    light_shape shape;
} light_box;

/* The elements [begin, end) of a tensor as boxes, in their order; how many there are: at most 2 * ndim - 1, one for
 * a scalar, none for an empty range. The range has to be inside the tensor. */
int light_boxes_of_range(light_shape shape, int64_t begin, int64_t end, light_box boxes[LIGHT_MAX_BOXES]);

#endif
