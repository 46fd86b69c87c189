/* SPDX-License-Identifier: Apache-2.0 */
/* The flat memory behind a built module: one long buffer of values and one of gradients per dtype.
 *
 * Parameters lie in the order of creation, each at a multiple of 64 bytes; the gradient of a parameter lies at the same
 * offset of the gradients' buffer. The gaps hold zeros and nobody reads them, so whoever works on a run of
 * neighbouring parameters may take it, gaps included, as one array. */
#ifndef LIGHT_NN_FLAT_H
#define LIGHT_NN_FLAT_H

#include "tensor/tensor.h"

#include <light/module.h>

#define LIGHT_FLAT_ALIGNMENT 64

typedef struct light_flat_entry {
    light_parameter *parameter;
    size_t offset; /* bytes */
} light_flat_entry;

typedef struct light_flat_buffer {
    light_dtype dtype;
    light_storage *values;
    light_storage *grads;  /* the same size; memory that nobody writes stays unmapped on the CPU */
    light_lowered lowered; /* the values in 16 bits, at the same elements; storage NULL: there is none */
    size_t bytes;
    int64_t n;
    light_flat_entry *entries; /* by rising offset */
} light_flat_buffer;

typedef struct light_flat {
    int n;
    light_flat_buffer buffers[LIGHT_DTYPE_COUNT];
} light_flat;

/* Moves the parameters below `root` to flat memory. What light_module_build calls. */
light_status light_flat_new(light_flat **out, light_module *root);
/* Keeps a copy of all f32 parameters in a 16-bit dtype, which operations read under mixed precision;
 * LIGHT_DTYPE_DEFAULT: none any more. */
light_status light_flat_lower(light_flat *flat, light_dtype dtype);
/* Before the parameters' tensors go, their memory may not. NULL is fine. */
void light_flat_free(light_flat *flat);

/* The bytes a parameter takes with the gap behind it. */
static inline size_t light_flat_padded(size_t bytes)
{
    return (bytes + LIGHT_FLAT_ALIGNMENT - 1) / LIGHT_FLAT_ALIGNMENT * LIGHT_FLAT_ALIGNMENT;
}

#endif
