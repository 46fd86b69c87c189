/* SPDX-License-Identifier: Apache-2.0 */
/* What HDF5 does for us: decide where in a file each dataset lies and write everything around the data.
 *
 * HDF5 works on a file in memory (driver.h), whose holes are the datasets, and never touches the disk: after a failed write its
 * library (1.10) crashes the process at the latest when it exits. */
#ifndef LIGHT_CHECKPOINT_LAYOUT_H
#define LIGHT_CHECKPOINT_LAYOUT_H

#include <light/tensor.h>

/* A dataset, or an empty group. Paths are encoded names (name.h). */
typedef struct light_dataset {
    const char *path;
    bool is_group;
    light_dtype dtype;
    bool is_string; /* one text of `bytes` bytes, which is a byte at least in HDF5 */
    light_shape shape;
    /* For a part of a larger tensor: becomes the attributes global_shape and start. NULL: it is all. */
    const light_shape *global_shape;
    const int64_t *start;
    uint64_t bytes;
    const void *data; /* NULL: the plan fetches it */
    uint64_t offset;  /* out: where in the file; 0 for no bytes */
    uint32_t crc;     /* out, when it was written */
    uint32_t *pieces; /* filled then; NULL for one piece (manifest.h) */
} light_dataset;

typedef struct light_layout {
    int file; /* in memory: everything but the datasets' data */
    uint64_t bytes;
} light_layout;

/* Becomes attributes of the root group. */
typedef struct light_layout_about {
    int64_t step, epoch;
    int shard_index, shard_count;
} light_layout_about;

light_status light_layout_new(light_layout *out, light_dataset *datasets, size_t count,
                              const light_layout_about *about);
void light_layout_free(light_layout *layout);

#endif
