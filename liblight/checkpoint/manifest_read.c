/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the manifest. A checksum is no proof of a friendly author, so every number is checked before it is used. */
#include "checkpoint/manifest.h"

#include "checkpoint/manifest_tail.h"
#include "checkpoint/name.h"

#include "base/hash.h"
#include "base/memory.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- members ------------------------------------------------------------ */

static light_status fail_member(const char *path, const char *key)
{
    return light_fail(LIGHT_ERR_FORMAT, "%s: \"%s\" is missing or not what it should be", path, key);
}

static light_status get_number(const char *path, const json_t *object, const char *key, int64_t *out)
{
    const json_t *number = json_object_get(object, key);
    if (!json_is_integer(number)) return fail_member(path, key);
    *out = json_integer_value(number);
    return LIGHT_OK;
}

static light_status get_size(const char *path, const json_t *object, const char *key, uint64_t *out)
{
    int64_t number = 0;
    LIGHT_TRY(get_number(path, object, key, &number));
    if (number < 0) return fail_member(path, key);
    *out = (uint64_t)number;
    return LIGHT_OK;
}

static light_status get_text(const char *path, const json_t *object, const char *key, char **out)
{
    const char *text = json_string_value(json_object_get(object, key));
    if (!text || !text[0]) return fail_member(path, key);
    *out = light_strdup(text);
    return *out ? LIGHT_OK : LIGHT_ERR_MEMORY;
}

static bool read_hex(const char *text, uint32_t *out)
{
    char digits[9] = {0};
    memcpy(digits, text, 8);
    *out = (uint32_t)strtoul(digits, NULL, 16);
    return strspn(digits, "0123456789abcdef") == 8;
}

static light_status get_crc(const char *path, const json_t *object, uint32_t *out)
{
    const char *text = json_string_value(json_object_get(object, "crc32c"));
    if (!text || strlen(text) != 8 || !read_hex(text, out)) return fail_member(path, "crc32c");
    return LIGHT_OK;
}

/* An array of at most LIGHT_MAX_DIMS numbers, none negative. */
static light_status get_dims(const char *path, const json_t *object, const char *key, int64_t *dims, int *n)
{
    const json_t *array = json_object_get(object, key);
    if (!json_is_array(array) || json_array_size(array) > LIGHT_MAX_DIMS) return fail_member(path, key);
    *n = (int)json_array_size(array);
    for (int i = 0; i < *n; i++) {
        const json_t *number = json_array_get(array, (size_t)i);
        dims[i] = json_integer_value(number);
        if (!json_is_integer(number) || dims[i] < 0) return fail_member(path, key);
    }
    return LIGHT_OK;
}

/* The checksums of an extent's pieces, which older checkpoints do not have. */
static light_status get_pieces(const char *path, const json_t *object, light_extent *out)
{
    const json_t *member = json_object_get(object, "pieces");
    const char *text = json_string_value(member);
    size_t count = light_extent_pieces(out->bytes);
    if (!member) return LIGHT_OK;
    if (!text || out->bytes <= LIGHT_PIECE_BYTES || json_string_length(member) / 8 != count ||
        json_string_length(member) % 8 != 0)
        return fail_member(path, "pieces");
    out->pieces = light_alloc(count * sizeof *out->pieces);
    if (!out->pieces) return LIGHT_ERR_MEMORY;
    for (size_t i = 0; i < count; i++)
        if (!read_hex(text + 8 * i, &out->pieces[i])) return fail_member(path, "pieces");
    return LIGHT_OK;
}

static light_status get_extent(const char *path, const json_t *object, const light_manifest *m,
                               light_extent *out)
{
    uint64_t file = 0;
    LIGHT_TRY(get_size(path, object, "file", &file));
    LIGHT_TRY(get_size(path, object, "offset", &out->offset));
    LIGHT_TRY(get_size(path, object, "bytes", &out->bytes));
    LIGHT_TRY(get_crc(path, object, &out->crc));
    if (file >= m->file_count || out->offset > m->files[file].bytes ||
        out->bytes > m->files[file].bytes - out->offset)
        return light_fail(LIGHT_ERR_FORMAT, "%s: it speaks of bytes that no file has", path);
    out->file = (size_t)file;
    return get_pieces(path, object, out);
}

/* ---- the parts ----------------------------------------------------------- */

typedef light_status (*part_reader)(const char *path, const json_t *object, light_manifest *m);

/* Reads an array of objects; `read` appends to the manifest's array, which is made here for all of them. */
static light_status each(const char *path, const json_t *root, const char *key, void **array, size_t size,
                         light_manifest *m, part_reader read)
{
    const json_t *list = json_object_get(root, key);
    if (!json_is_array(list)) return fail_member(path, key);
    *array = light_calloc(json_array_size(list) + 1, size);
    if (!*array) return LIGHT_ERR_MEMORY;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *object = json_array_get(list, i);
        if (!json_is_object(object)) return fail_member(path, key);
        LIGHT_TRY(read(path, object, m));
    }
    return LIGHT_OK;
}

static light_status read_file(const char *path, const json_t *object, light_manifest *m)
{
    light_manifest_file *file = &m->files[m->file_count++];
    LIGHT_TRY(get_text(path, object, "name", &file->name));
    LIGHT_TRY(get_size(path, object, "bytes", &file->bytes));
    LIGHT_TRY(get_crc(path, object, &file->crc));
    if (strchr(file->name, '/') || file->name[0] == '.' || file->bytes > INT64_MAX)
        return fail_member(path, "files");
    return LIGHT_OK;
}

static bool shape_bytes(light_shape shape, size_t size, uint64_t *out)
{
    uint64_t bytes = size;
    bool good = true;
    /* Zeros last: a dim of zero must not hide an overflow. */
    for (int i = 0; i < shape.ndim; i++) {
        if (shape.dims[i] != 0)
            good = good && !__builtin_mul_overflow(bytes, (uint64_t)shape.dims[i], &bytes);
    }
    for (int i = 0; i < shape.ndim; i++) bytes = shape.dims[i] ? bytes : 0;
    *out = bytes;
    return good && bytes <= INT64_MAX;
}

static light_status read_chunk(const char *path, const json_t *object, const light_manifest *m,
                               light_manifest_tensor *tensor)
{
    light_manifest_chunk *chunk = &tensor->chunks[tensor->chunk_count++];
    int ndim;
    uint64_t bytes;
    LIGHT_TRY(get_text(path, object, "dataset", &chunk->dataset));
    LIGHT_TRY(get_dims(path, object, "start", chunk->start, &ndim));
    LIGHT_TRY(get_dims(path, object, "shape", chunk->shape.dims, &chunk->shape.ndim));
    LIGHT_TRY(get_extent(path, object, m, &chunk->extent));
    bool good = ndim == tensor->shape.ndim && chunk->shape.ndim == ndim &&
                shape_bytes(chunk->shape, light_dtype_size(tensor->dtype), &bytes) &&
                bytes == chunk->extent.bytes;
    for (int i = 0; i < ndim && good; i++)
        good = chunk->start[i] <= tensor->shape.dims[i] &&
               chunk->shape.dims[i] <= tensor->shape.dims[i] - chunk->start[i];
    if (good) return LIGHT_OK;
    return light_fail(LIGHT_ERR_FORMAT, "%s: a chunk of tensor '%s' does not fit in it", path, tensor->name);
}

static light_status read_dtype(const char *path, const json_t *object, light_dtype *out)
{
    const char *text = json_string_value(json_object_get(object, "dtype"));
    for (int i = LIGHT_DTYPE_DEFAULT + 1; text && i < LIGHT_DTYPE_COUNT; i++) {
        *out = (light_dtype)i;
        if (strcmp(text, light_dtype_name(*out)) == 0) return LIGHT_OK;
    }
    return fail_member(path, "dtype");
}

static light_status read_tensor(const char *path, const json_t *object, light_manifest *m)
{
    light_manifest_tensor *tensor = &m->tensors[m->tensor_count++];
    uint64_t bytes;
    LIGHT_TRY(get_text(path, object, "name", &tensor->name));
    if (!light_name_decode(tensor->name)) return fail_member(path, "name");
    LIGHT_TRY(read_dtype(path, object, &tensor->dtype));
    LIGHT_TRY(get_dims(path, object, "shape", tensor->shape.dims, &tensor->shape.ndim));
    if (!shape_bytes(tensor->shape, light_dtype_size(tensor->dtype), &bytes))
        return fail_member(path, "shape");
    const json_t *chunks = json_object_get(object, "chunks");
    if (!json_is_array(chunks)) return fail_member(path, "chunks");
    tensor->chunks = light_calloc(json_array_size(chunks) + 1, sizeof *tensor->chunks);
    if (!tensor->chunks) return LIGHT_ERR_MEMORY;
    for (size_t i = 0; i < json_array_size(chunks); i++)
        LIGHT_TRY(read_chunk(path, json_array_get(chunks, i), m, tensor));
    return LIGHT_OK;
}

static light_status read_value(const char *path, const json_t *object, light_manifest *m)
{
    light_manifest_value *value = &m->values[m->value_count++];
    LIGHT_TRY(get_text(path, object, "path", &value->path));
    LIGHT_TRY(get_size(path, object, "count", &value->count));
    LIGHT_TRY(get_extent(path, object, m, &value->extent));
    const char *text = json_string_value(json_object_get(object, "type"));
    for (int type = LIGHT_STATE_GROUP; text && type <= LIGHT_STATE_BYTES; type++) {
        value->type = (light_state_type)type;
        if (strcmp(text, light_manifest_type_name(value->type)) != 0) continue;
        size_t size = light_state_type_size(value->type);
        bool single = type == LIGHT_STATE_INT64 || type == LIGHT_STATE_DOUBLE;
        if ((size && value->count > INT64_MAX / size) || value->count * size != value->extent.bytes ||
            (single && value->count != 1))
            return fail_member(path, "count");
        return LIGHT_OK;
    }
    return fail_member(path, "type");
}

/* ---- chunks --------------------------------------------------------------- */

static bool overlap(const light_manifest_chunk *a, const light_manifest_chunk *b)
{
    for (int i = 0; i < a->shape.ndim; i++) {
        if (a->start[i] + a->shape.dims[i] <= b->start[i] || b->start[i] + b->shape.dims[i] <= a->start[i])
            return false;
    }
    return true;
}

light_status light_manifest_check_chunks(const char *path, const light_manifest_tensor *tensor)
{
    int64_t covered = 0;
    for (size_t i = 0; i < tensor->chunk_count; i++) {
        const light_manifest_chunk *chunk = &tensor->chunks[i];
        int64_t numel = light_shape_numel(chunk->shape);
        /* Chunks are inside the tensor: a sum that overflows means that some overlap. */
        if (__builtin_add_overflow(covered, numel, &covered)) covered = -1;
        for (size_t k = 0; k < i && numel > 0 && covered > 0; k++) {
            if (light_shape_numel(tensor->chunks[k].shape) > 0 && overlap(chunk, &tensor->chunks[k]))
                covered = -1;
        }
        if (covered < 0)
            return light_fail(LIGHT_ERR_FORMAT, "%s: parts of tensor '%s' are there twice", path,
                              tensor->name);
    }
    if (covered == light_shape_numel(tensor->shape)) return LIGHT_OK;
    return light_fail(LIGHT_ERR_FORMAT, "%s: parts of tensor '%s' are missing", path, tensor->name);
}

/* ---- the whole ------------------------------------------------------------ */

static light_status check_tail(const char *path, const char *text, size_t bytes)
{
    char tail[64];
    if (bytes < LIGHT_MANIFEST_TAIL_BYTES) return light_fail(LIGHT_ERR_FORMAT, "%s is cut off", path);
    size_t before = bytes - LIGHT_MANIFEST_TAIL_BYTES;
    snprintf(tail, sizeof tail, LIGHT_MANIFEST_TAIL, light_crc32c(0, text, before));
    if (memcmp(text + before, tail, LIGHT_MANIFEST_TAIL_BYTES) == 0) return LIGHT_OK;
    return light_fail(LIGHT_ERR_FORMAT, "%s is damaged: it does not agree with its checksum", path);
}

static light_status check_version(const char *path, const json_t *root)
{
    const char *format = json_string_value(json_object_get(root, "format"));
    int64_t version = 0;
    if (!format || strcmp(format, LIGHT_MANIFEST_FORMAT) != 0)
        return light_fail(LIGHT_ERR_FORMAT, "%s is no manifest of a liblight checkpoint", path);
    LIGHT_TRY(get_number(path, root, "version", &version));
    if (version >= 1 && version <= LIGHT_MANIFEST_VERSION) return LIGHT_OK;
    return light_fail(LIGHT_ERR_FORMAT, "%s is of format version %lld; this liblight reads versions up to %d",
                      path, (long long)version, LIGHT_MANIFEST_VERSION);
}

static light_status read_root(light_manifest *m, const char *path, const json_t *root)
{
    LIGHT_TRY(check_version(path, root));
    LIGHT_TRY(get_text(path, root, "run", &m->run));
    LIGHT_TRY(get_number(path, root, "created_ns", &m->created_ns));
    LIGHT_TRY(get_number(path, root, "step", &m->step));
    LIGHT_TRY(get_number(path, root, "epoch", &m->epoch));
    LIGHT_TRY(each(path, root, "files", (void **)&m->files, sizeof *m->files, m, read_file));
    LIGHT_TRY(each(path, root, "tensors", (void **)&m->tensors, sizeof *m->tensors, m, read_tensor));
    return each(path, root, "state", (void **)&m->values, sizeof *m->values, m, read_value);
}

light_status light_manifest_parse_part(light_manifest *out, const char *path, const char *text, size_t bytes)
{
    *out = (light_manifest){0};
    LIGHT_TRY(check_tail(path, text, bytes));
    json_error_t error;
    json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    if (!root && json_error_code(&error) == json_error_out_of_memory)
        return light_fail(LIGHT_ERR_MEMORY, "%s: out of memory", path);
    if (!root) return light_fail(LIGHT_ERR_FORMAT, "%s:%d: %s", path, error.line, error.text);
    light_status status = read_root(out, path, root);
    json_decref(root);
    if (status != LIGHT_OK) light_manifest_free(out);
    return status;
}

light_status light_manifest_parse(light_manifest *out, const char *path, const char *text, size_t bytes)
{
    LIGHT_TRY(light_manifest_parse_part(out, path, text, bytes));
    light_status status = LIGHT_OK;
    for (size_t i = 0; i < out->tensor_count && status == LIGHT_OK; i++)
        status = light_manifest_check_chunks(path, &out->tensors[i]);
    if (status != LIGHT_OK) light_manifest_free(out);
    return status;
}
