/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a slice of a global tensor: what each chunk has of it goes to its place, one contiguous run after another. */
#include "checkpoint/io.h"
#include "checkpoint/read.h"

#include "base/memory.h"
#include "tensor/device.h"

#include <stdio.h>
#include <string.h>

typedef struct copy {
    int file;
    const char *path;
    const light_manifest_chunk *chunk;
    size_t size; /* of an element */
    char *to;    /* row-major memory of shape `shape`, which begins at `start` of the global tensor */
    light_shape shape;
    const int64_t *start;
    int64_t low[LIGHT_MAX_DIMS], high[LIGHT_MAX_DIMS]; /* what both have, in global indices */
    int run_dim; /* from this dim on, what both have lies together in both */
} copy;

/* False when chunk and slice have nothing in common. */
static bool intersect(copy *c)
{
    const light_manifest_chunk *chunk = c->chunk;
    for (int d = 0; d < c->shape.ndim; d++) {
        int64_t a = c->start[d], b = chunk->start[d];
        int64_t a_end = a + c->shape.dims[d], b_end = b + chunk->shape.dims[d];
        c->low[d] = a > b ? a : b;
        c->high[d] = a_end < b_end ? a_end : b_end;
        if (c->low[d] >= c->high[d]) return false;
    }
    c->run_dim = c->shape.ndim;
    for (int d = c->shape.ndim - 1; d >= 0; d--) {
        c->run_dim = d;
        int64_t both = c->high[d] - c->low[d];
        if (both != c->shape.dims[d] || both != chunk->shape.dims[d]) break;
    }
    return true;
}

/* Copies from dim `d` on; *_index are the elements before it, in the chunk and in the slice. */
static light_status copy_from(const copy *c, int d, int64_t chunk_index, int64_t slice_index)
{
    if (d < c->run_dim) {
        for (int64_t i = c->low[d]; i < c->high[d]; i++)
            LIGHT_TRY(copy_from(c, d + 1, chunk_index * c->chunk->shape.dims[d] + i - c->chunk->start[d],
                                slice_index * c->shape.dims[d] + i - c->start[d]));
        return LIGHT_OK;
    }
    int64_t run = 1;
    for (int k = d; k < c->shape.ndim; k++) {
        chunk_index = chunk_index * c->chunk->shape.dims[k] + c->low[k] - c->chunk->start[k];
        slice_index = slice_index * c->shape.dims[k] + c->low[k] - c->start[k];
        run *= c->high[k] - c->low[k];
    }
    return light_io_read(c->file, c->path, c->to + (size_t)slice_index * c->size, (size_t)run * c->size,
                         c->chunk->extent.offset + (uint64_t)chunk_index * c->size);
}

static light_status read_slice(const light_checkpoint *checkpoint, const light_manifest_tensor *tensor,
                               light_shape shape, const int64_t *start, char *to)
{
    char path[1024];
    for (size_t i = 0; i < tensor->chunk_count; i++) {
        const light_manifest_chunk *chunk = &tensor->chunks[i];
        copy c = {.file = checkpoint->files[chunk->extent.file],
                  .path = light_checkpoint_file_path(checkpoint, chunk->extent.file, path, sizeof path),
                  .chunk = chunk,
                  .size = light_dtype_size(tensor->dtype),
                  .to = to,
                  .shape = shape,
                  .start = start};
        if (chunk->extent.bytes && intersect(&c)) LIGHT_TRY(copy_from(&c, 0, 0, 0));
    }
    return LIGHT_OK;
}

static light_status check_slice(const light_checkpoint *checkpoint, const light_manifest_tensor *tensor,
                                light_shape shape, const int64_t *start, bool whole)
{
    char a[256], b[256];
    bool good = shape.ndim == tensor->shape.ndim;
    for (int d = 0; d < shape.ndim && good; d++)
        good = start[d] >= 0 && start[d] <= tensor->shape.dims[d] &&
               shape.dims[d] <= tensor->shape.dims[d] - start[d];
    if (good && (!whole || light_shape_equal(shape, tensor->shape))) return LIGHT_OK;
    return light_fail(LIGHT_ERR_SHAPE, "checkpoint %s: tensor '%s' has shape %s, %s %s is asked for",
                      checkpoint->path, tensor->name, light_shape_format(tensor->shape, a, sizeof a),
                      whole ? "but" : "a slice out of its bounds of shape",
                      light_shape_format(shape, b, sizeof b));
}

light_status light_checkpoint_read(const light_checkpoint *checkpoint, const char *name, light_tensor *to,
                                   const int64_t *start)
{
    static const int64_t origin[LIGHT_MAX_DIMS];
    if (!to) return light_fail(LIGHT_ERR_ARGUMENT, "checkpoint: '%s' is to be read into no tensor", name);
    const light_manifest_tensor *tensor = light_checkpoint_find_tensor(checkpoint, name);
    if (!tensor)
        return light_fail(LIGHT_ERR_NOT_FOUND, "checkpoint %s: there is no tensor '%s'", checkpoint->path,
                          name);
    light_shape shape = light_shape_of(to);
    LIGHT_TRY(check_slice(checkpoint, tensor, shape, start ? start : origin, start == NULL));

    if (to->contiguous && to->storage->device->is_host && light_dtype_of(to) == tensor->dtype) {
        to->storage->version++;
        return read_slice(checkpoint, tensor, shape, start ? start : origin, to->data);
    }
    size_t bytes = (size_t)light_shape_numel(shape) * light_dtype_size(tensor->dtype);
    char *buffer = light_alloc(bytes);
    if (!buffer) return LIGHT_ERR_MEMORY;
    light_status status = read_slice(checkpoint, tensor, shape, start ? start : origin, buffer);
    if (status == LIGHT_OK) status = light_tensor_write(to, tensor->dtype, buffer, bytes);
    light_free(buffer);
    return status;
}
