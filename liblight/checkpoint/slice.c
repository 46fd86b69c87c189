/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a slice of a global tensor: what each chunk has of it goes to its place, one contiguous run after another. Of a
 * checkpoint that was opened lazily, the pieces with these runs are read whole and compared with their checksums. */
#include "checkpoint/boxes.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/io.h"
#include "checkpoint/read.h"

#include "base/hash.h"
#include "base/memory.h"
#include "tensor/device.h"

#include <stdio.h>
#include <string.h>

/* One call that reads: of one slice, or of the boxes of a part, which often meet inside a piece. */
typedef struct reader {
    const light_checkpoint *checkpoint;
    const light_manifest_tensor *tensor;
    size_t size; /* of an element */
    char *buffer;
    /* What was compared last: chunk and piece, whose bytes are in the buffer; a chunk without pieces as a whole. */
    const light_manifest_chunk *chunk;
    uint64_t piece;
} reader;

typedef struct copy {
    reader *reader;
    const light_manifest_chunk *chunk;
    char *to; /* row-major memory of shape `shape`, which begins at `start` of the global tensor */
    light_shape shape;
    const int64_t *start;
    int64_t low[LIGHT_MAX_DIMS], high[LIGHT_MAX_DIMS]; /* what both have, in global indices */
    int run_dim; /* from this dim on, what both have lies together in both */
} copy;

/* ---- bytes of chunks ------------------------------------------------------- */

/* Reads from byte `at` of a chunk, whatever is there. */
static light_status read_bytes(const reader *r, const light_manifest_chunk *chunk, uint64_t at, size_t bytes,
                               char *to)
{
    char path[1024];
    size_t file = chunk->extent.file;
    light_checkpoint_file_path(r->checkpoint, file, path, sizeof path);
    return light_io_read(r->checkpoint->files[file], path, to, bytes, chunk->extent.offset + at);
}

static light_status reserve_buffer(reader *r)
{
    if (!r->buffer) r->buffer = light_alloc((size_t)LIGHT_PIECE_BYTES);
    return r->buffer ? LIGHT_OK : LIGHT_ERR_MEMORY;
}

static light_status fail_damaged(const reader *r, const light_manifest_chunk *chunk)
{
    return light_checkpoint_fail_damaged(r->checkpoint, chunk->extent.file, "tensor", r->tensor->name);
}

static size_t piece_length(const light_manifest_chunk *chunk, uint64_t piece)
{
    uint64_t left = chunk->extent.bytes - piece * LIGHT_PIECE_BYTES;
    return (size_t)(left < LIGHT_PIECE_BYTES ? left : LIGHT_PIECE_BYTES);
}

static light_status read_piece(const reader *r, const light_manifest_chunk *chunk, uint64_t piece, char *to)
{
    const light_extent *extent = &chunk->extent;
    size_t length = piece_length(chunk, piece);
    LIGHT_TRY(read_bytes(r, chunk, piece * LIGHT_PIECE_BYTES, length, to));
    uint32_t crc = extent->pieces ? extent->pieces[piece] : extent->crc;
    return light_crc32c(0, to, length) == crc ? LIGHT_OK : fail_damaged(r, chunk);
}

/* Compares a chunk that has one checksum only, of an older checkpoint. */
static light_status check_whole(reader *r, const light_manifest_chunk *chunk)
{
    uint32_t crc = 0;
    if (r->chunk == chunk) return LIGHT_OK;
    LIGHT_TRY(reserve_buffer(r));
    for (uint64_t piece = 0; piece < light_extent_pieces(chunk->extent.bytes); piece++) {
        size_t length = piece_length(chunk, piece);
        LIGHT_TRY(read_bytes(r, chunk, piece * LIGHT_PIECE_BYTES, length, r->buffer));
        crc = light_crc32c(crc, r->buffer, length);
    }
    r->chunk = chunk;
    return crc == chunk->extent.crc ? LIGHT_OK : fail_damaged(r, chunk);
}

static light_status read_part_of_piece(reader *r, const light_manifest_chunk *chunk, uint64_t at,
                                       size_t bytes, char *to)
{
    uint64_t piece = at / LIGHT_PIECE_BYTES;
    LIGHT_TRY(reserve_buffer(r));
    if (r->chunk != chunk || r->piece != piece) {
        r->chunk = NULL; /* should it fail, the buffer holds nothing */
        LIGHT_TRY(read_piece(r, chunk, piece, r->buffer));
        r->chunk = chunk;
        r->piece = piece;
    }
    memcpy(to, r->buffer + at % LIGHT_PIECE_BYTES, bytes);
    return LIGHT_OK;
}

/* Reads from byte `at` of a chunk what agrees with its checksum. */
static light_status read_run(reader *r, const light_manifest_chunk *chunk, uint64_t at, size_t bytes,
                             char *to)
{
    bool in_pieces = chunk->extent.pieces || chunk->extent.bytes <= LIGHT_PIECE_BYTES;
    if (r->checkpoint->verified) return read_bytes(r, chunk, at, bytes, to);
    if (!in_pieces) {
        LIGHT_TRY(check_whole(r, chunk));
        return read_bytes(r, chunk, at, bytes, to);
    }
    while (bytes) {
        uint64_t piece = at / LIGHT_PIECE_BYTES;
        size_t length = piece_length(chunk, piece), part = length - (size_t)(at % LIGHT_PIECE_BYTES);
        if (part > bytes) part = bytes;
        LIGHT_TRY(part == length ? read_piece(r, chunk, piece, to)
                                 : read_part_of_piece(r, chunk, at, part, to));
        at += part;
        to += part;
        bytes -= part;
    }
    return LIGHT_OK;
}

/* ---- slices ----------------------------------------------------------------- */

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
    const size_t size = c->reader->size;
    return read_run(c->reader, c->chunk, (uint64_t)chunk_index * size, (size_t)run * size,
                    c->to + (size_t)slice_index * size);
}

static light_status read_slice(reader *r, light_shape shape, const int64_t *start, char *to)
{
    for (size_t i = 0; i < r->tensor->chunk_count; i++) {
        const light_manifest_chunk *chunk = &r->tensor->chunks[i];
        copy c = {.reader = r, .chunk = chunk, .to = to, .shape = shape, .start = start};
        if (chunk->extent.bytes && intersect(&c)) LIGHT_TRY(copy_from(&c, 0, 0, 0));
    }
    return LIGHT_OK;
}

/* ---- tensors ----------------------------------------------------------------- */

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

static light_status open_reader(reader *r, const light_checkpoint *checkpoint, const char *name,
                                const light_tensor *to)
{
    *r = (reader){.checkpoint = checkpoint};
    if (!to) return light_fail(LIGHT_ERR_ARGUMENT, "checkpoint: '%s' is to be read into no tensor", name);
    r->tensor = light_checkpoint_find_tensor(checkpoint, name);
    if (!r->tensor)
        return light_fail(LIGHT_ERR_NOT_FOUND, "checkpoint %s: there is no tensor '%s'", checkpoint->path,
                          name);
    r->size = light_dtype_size(r->tensor->dtype);
    return LIGHT_OK;
}

/* A slice that is inside the tensor. */
static light_status read_into(reader *r, light_tensor *to, const int64_t *start)
{
    const light_dtype dtype = r->tensor->dtype;
    if (to->contiguous && to->storage->device->is_host && light_dtype_of(to) == dtype) {
        to->storage->version++;
        return read_slice(r, light_shape_of(to), start, to->data);
    }
    size_t bytes = (size_t)to->numel * r->size;
    char *buffer = light_alloc(bytes);
    if (!buffer) return LIGHT_ERR_MEMORY;
    light_status status = read_slice(r, light_shape_of(to), start, buffer);
    if (status == LIGHT_OK) status = light_tensor_write(to, dtype, buffer, bytes);
    light_free(buffer);
    return status;
}

light_status light_checkpoint_read(const light_checkpoint *checkpoint, const char *name, light_tensor *to,
                                   const int64_t *start)
{
    static const int64_t origin[LIGHT_MAX_DIMS];
    const int64_t *from = start ? start : origin;
    reader r;
    LIGHT_TRY(open_reader(&r, checkpoint, name, to));
    LIGHT_TRY(check_slice(checkpoint, r.tensor, light_shape_of(to), from, start == NULL));
    light_status status = read_into(&r, to, from);
    light_free(r.buffer);
    return status;
}

static light_status check_part(const light_checkpoint *checkpoint, const light_manifest_tensor *tensor,
                               const light_tensor *to, int64_t begin)
{
    char a[256], b[256];
    const light_shape shape = light_shape_of(to);
    const int64_t numel = light_shape_numel(tensor->shape);
    if (to->contiguous && (shape.ndim == 1 || light_shape_equal(shape, tensor->shape)) && begin >= 0 &&
        begin <= numel && to->numel <= numel - begin)
        return LIGHT_OK;
    return light_fail(LIGHT_ERR_SHAPE,
                      "checkpoint %s: tensor '%s' has shape %s, a part of shape %s from element %lld on is "
                      "asked for",
                      checkpoint->path, tensor->name, light_shape_format(tensor->shape, a, sizeof a),
                      light_shape_format(shape, b, sizeof b), (long long)begin);
}

light_status light_checkpoint_read_part(const light_checkpoint *checkpoint, const char *name,
                                        light_tensor *to, int64_t begin)
{
    light_box boxes[LIGHT_MAX_BOXES];
    reader r;
    LIGHT_TRY(open_reader(&r, checkpoint, name, to));
    LIGHT_TRY(check_part(checkpoint, r.tensor, to, begin));
    light_tensor window = *to;
    light_status status = LIGHT_OK;
    int count = light_boxes_of_range(r.tensor->shape, begin, begin + to->numel, boxes);
    for (int i = 0; i < count && status == LIGHT_OK; i++) {
        light_tensor_set_shape(&window, boxes[i].shape);
        status = read_into(&r, &window, boxes[i].start);
        window.data += (size_t)window.numel * light_dtype_size(light_dtype_of(to));
    }
    light_free(r.buffer);
    return status;
}
