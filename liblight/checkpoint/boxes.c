/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/boxes.h"

/* The largest box of whole slabs that begins at element `at` and ends at `end` or before: elements it has. A slab of dim
 * d is one index of it with everything in the dims behind; the slabs of a box lie in one slab of dim d - 1. */
static int64_t largest_box(light_shape shape, int64_t at, int64_t end, light_box *box)
{
    int64_t slab = light_shape_numel(shape);

    box->shape = shape;
    for (int d = 0; d < shape.ndim; d++) {
        slab /= shape.dims[d];
        int64_t index = at / slab % shape.dims[d];
        int64_t left = shape.dims[d] - index, room = (end - at) / slab;
        box->start[d] = index;
        box->shape.dims[d] = 1;
        if (at % slab != 0 || room == 0) continue;
        for (int k = d + 1; k < shape.ndim; k++) box->start[k] = 0;
        for (int k = d + 1; k < shape.ndim; k++) box->shape.dims[k] = shape.dims[k];
        box->shape.dims[d] = left < room ? left : room;
        return box->shape.dims[d] * slab;
    }
    return 1; /* a scalar */
}

/* Slabs grow on the way to the longest one and shrink behind it, so that each dim has two boxes at most, and the
 * longest has one. */
int light_boxes_of_range(light_shape shape, int64_t begin, int64_t end, light_box boxes[LIGHT_MAX_BOXES])
{
    int count = 0;

    for (int64_t at = begin; at < end; count++) {
        boxes[count] = (light_box){0};
        at += largest_box(shape, at, end, &boxes[count]);
    }
    return count;
}
