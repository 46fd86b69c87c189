/* SPDX-License-Identifier: Apache-2.0 */
/* The manifest: what a checkpoint is made of, and the mark that it is complete. Its last member is the checksum of all
 * bytes before it. The format is described in docs/checkpoint-format.md. */
#ifndef LIGHT_CHECKPOINT_MANIFEST_H
#define LIGHT_CHECKPOINT_MANIFEST_H

#include "base/state.h"
#include "base/string.h"

#include <light/tensor.h>

#define LIGHT_MANIFEST_NAME    "manifest.json"
#define LIGHT_MANIFEST_FORMAT  "liblight-ckpt"
#define LIGHT_MANIFEST_VERSION 1
#define LIGHT_MANIFEST_WRITER  "liblight " LIGHT_VERSION_TEXT

/* Longer extents have a checksum for each piece of this size too, so that reading a little of one does not mean summing
 * up all of it. Part of the format. */
#define LIGHT_PIECE_BYTES ((uint64_t)1 << 20)

/* Bytes of a file, with their checksum. */
typedef struct light_extent {
    size_t file; /* index in the manifest's files */
    uint64_t offset, bytes;
    uint32_t crc;
    uint32_t *pieces; /* NULL: it is one piece, or was written before there were any */
} light_extent;

static inline size_t light_extent_pieces(uint64_t bytes)
{
    return (size_t)((bytes + LIGHT_PIECE_BYTES - 1) / LIGHT_PIECE_BYTES);
}

typedef struct light_manifest_file {
    char *name;
    uint64_t bytes;
    uint32_t crc;
} light_manifest_file;

typedef struct light_manifest_chunk {
    char *dataset; /* its path in the HDF5 file, encoded */
    light_extent extent;
    int64_t start[LIGHT_MAX_DIMS];
    light_shape shape;
} light_manifest_chunk;

typedef struct light_manifest_tensor {
    char *name; /* as the program calls it, not encoded */
    light_dtype dtype;
    light_shape shape;
    light_manifest_chunk *chunks;
    size_t chunk_count;
} light_manifest_tensor;

/* A value of the state tree; an empty group is one without bytes. */
typedef struct light_manifest_value {
    char *path; /* in the tree and in the file, encoded */
    light_state_type type;
    uint64_t count;
    light_extent extent;
} light_manifest_value;

typedef struct light_manifest {
    char *run;
    int64_t created_ns, step, epoch;
    light_manifest_file *files;
    size_t file_count;
    light_manifest_tensor *tensors;
    size_t tensor_count;
    light_manifest_value *values;
    size_t value_count;
} light_manifest;

void light_manifest_free(light_manifest *manifest);

/* Appends the manifest as JSON text. */
light_status light_manifest_format(const light_manifest *manifest, light_string *out);

/* The opposite. Checks the checksum, and that everything fits together: extents inside their files, chunks inside
 * their tensors and covering each element once, names used once. `path` begins the errors. */
light_status light_manifest_parse(light_manifest *out, const char *path, const char *text, size_t bytes);

/* The same for what one of several writers knows: its tensors need not be whole. */
light_status light_manifest_parse_part(light_manifest *out, const char *path, const char *text, size_t bytes);

/* Moves the files and tensors of `parts` to `to`, in their order; chunks of one name go to one tensor. Whether they fit
 * together is for light_manifest_check_chunks. What is left of the parts is to be freed still. */
light_status light_manifest_join(light_manifest *to, light_manifest *parts, size_t count);

/* Do the chunks of a tensor cover each of its elements exactly once? Else light_fail, with `path` in front. */
light_status light_manifest_check_chunks(const char *path, const light_manifest_tensor *tensor);

/* The name that a manifest has for a type of state value, such as "i64s". */
const char *light_manifest_type_name(light_state_type type);

#endif
