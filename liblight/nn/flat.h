/* SPDX-License-Identifier: Apache-2.0 */
/* The flat memory behind a built module: long buffers of values, each with one of gradients.
 *
 * A buffer holds parameters of one dtype in the order of creation, each at a multiple of 64 bytes; the gradient of a
 * parameter lies at the same offset of the gradients' buffer. The gaps hold zeros and nobody reads them, so whoever works
 * on a run of neighbouring parameters may take it, gaps included, as one array. There is one buffer per dtype, unless a
 * strategy asks for smaller ones, which it shards. */
#ifndef LIGHT_NN_FLAT_H
#define LIGHT_NN_FLAT_H

#include "tensor/communicator.h"

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
    bool vectors;          /* those that a rule has put apart */
    size_t bytes;
    int64_t n;
    light_flat_entry *entries; /* by rising offset */
} light_flat_buffer;

/* What the sums over all gradients must know of other processes. */
typedef struct light_sharing {
    light_communicator *group; /* those who together have all gradients; NULL: this process has them */
    bool exact;                /* the same bits for any number of processes */
    int copies, copy;          /* so many processes have the same part of everything; which of them this is */
    bool first;                /* rank 0, which saves what all have */
} light_sharing;

typedef struct light_flat {
    int n;
    light_flat_buffer *buffers;
    const light_sharing *sharing; /* of a strategy, while it is attached; NULL: none */
} light_flat;

/* How large buffers become. */
typedef struct light_flat_rule {
    size_t bytes; /* a buffer is closed by the parameter that makes it so large; 0: one per dtype */
    size_t
        multiple; /* of bytes to which a buffer is filled up with zeros; a multiple of LIGHT_FLAT_ALIGNMENT */
    /* Short parameters of one dimension (of norms, biases) lie in buffers of their own, over all modules. */
    bool vectors_apart;
} light_flat_rule;

/* Moves the parameters below `root` to flat memory. What light_module_build calls. */
light_status light_flat_new(light_flat **out, light_module *root);
/* Moves them to other buffers: what points to parameters and gradients stays good, what points to their memory does not.
 * Gradients and 16-bit copies are lost. Modules marked by light_module_shard_unit have buffers of their own. */
light_status light_flat_arrange(light_flat *flat, light_module *root, const light_flat_rule *rule);
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
