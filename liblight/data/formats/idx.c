/* SPDX-License-Identifier: Apache-2.0 */
/* IDX files, plain or compressed by gzip: two zero bytes, the type, the number of dims, the dims, the data; all
 * big-endian. The whole file is checked when it is opened. */
#include "data/dataset.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/string.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

enum { IDX_U8 = 0x08, IDX_I8 = 0x09, IDX_I16 = 0x0B, IDX_I32 = 0x0C, IDX_F32 = 0x0D, IDX_F64 = 0x0E };

/* Deflate cannot do better than this, so a header that promises more is wrong. */
#define GZIP_LARGEST_RATIO 1040

typedef struct {
    char *path;
    gzFile file;
    off_t file_bytes;
    int type, ndim;
    size_t element;
    int64_t dims[255];
    uint8_t *data;
    size_t data_bytes;
} idx_file;

static void idx_close(idx_file *idx)
{
    if (idx->file) gzclose(idx->file);
    light_free(idx->path);
    light_free(idx->data);
    *idx = (idx_file){0};
}

/* Sets idx->path to root/name or root/name.gz, whichever is there. */
static light_status find(idx_file *idx, const char *root, const char *name)
{
    idx->path = light_path_join(root, name);
    if (!idx->path) return LIGHT_ERR_MEMORY;
    if (light_file_exists(idx->path)) return LIGHT_OK;

    char *zipped = light_format("%s.gz", idx->path);
    if (!zipped) return LIGHT_ERR_MEMORY;
    light_free(idx->path);
    idx->path = zipped;
    if (light_file_exists(idx->path)) return LIGHT_OK;
    if (!light_directory_exists(root)) {
        return light_fail(LIGHT_ERR_NOT_FOUND, "the folder %s, which should hold %s, is not there", root,
                          name);
    }
    return light_fail(LIGHT_ERR_NOT_FOUND, "there is no file %s or %s.gz in the folder %s", name, name, root);
}

static light_status read_failure(idx_file *idx, size_t done, size_t wanted)
{
    int code;
    const char *text = gzerror(idx->file, &code);

    if (code == Z_ERRNO)
        return light_fail(LIGHT_ERR_IO, "%s: cannot be read: %s", idx->path, strerror(errno));
    if (code == Z_MEM_ERROR)
        return light_fail(LIGHT_ERR_MEMORY, "%s: out of memory while reading", idx->path);
    if (code != Z_OK && code != Z_BUF_ERROR) {
        return light_fail(LIGHT_ERR_FORMAT, "%s: the gzip data is damaged: %s", idx->path, text);
    }
    return light_fail(LIGHT_ERR_FORMAT,
                      "%s: the file ends after %zu bytes where its header promises %zu; it is truncated",
                      idx->path, done, wanted);
}

static light_status read_bytes(idx_file *idx, void *to, size_t bytes, size_t before, size_t total)
{
    size_t done = 0;

    while (done < bytes) {
        size_t part = bytes - done < (64u << 20) ? bytes - done : (64u << 20);
        int got = gzread(idx->file, (char *)to + done, (unsigned)part);
        if (got <= 0) return read_failure(idx, before + done, total);
        done += (size_t)got;
    }
    return LIGHT_OK;
}

static size_t element_bytes(int type)
{
    switch (type) {
    case IDX_U8:
    case IDX_I8: return 1;
    case IDX_I16: return 2;
    case IDX_I32:
    case IDX_F32: return 4;
    case IDX_F64: return 8;
    default: return 0;
    }
}

static light_status read_header(idx_file *idx)
{
    uint8_t magic[4], dims[255][4];

    LIGHT_TRY(read_bytes(idx, magic, sizeof magic, 0, sizeof magic));
    idx->type = magic[2];
    idx->ndim = magic[3];
    idx->element = element_bytes(idx->type);
    if (magic[0] != 0 || magic[1] != 0 || idx->element == 0 || idx->ndim == 0) {
        return light_fail(
            LIGHT_ERR_FORMAT,
            "%s: this is no IDX file: it begins with %02x %02x %02x %02x, images with 00 00 08 03 and "
            "labels with 00 00 08 01",
            idx->path, magic[0], magic[1], magic[2], magic[3]);
    }
    size_t header = 4 + 4 * (size_t)idx->ndim;
    LIGHT_TRY(read_bytes(idx, dims, 4 * (size_t)idx->ndim, 4, header));
    idx->data_bytes = idx->element;
    for (int d = 0; d < idx->ndim; d++) {
        idx->dims[d] = (int64_t)dims[d][0] << 24 | dims[d][1] << 16 | dims[d][2] << 8 | dims[d][3];
        if (__builtin_mul_overflow(idx->data_bytes, (size_t)idx->dims[d], &idx->data_bytes)) {
            return light_fail(LIGHT_ERR_FORMAT, "%s: the sizes in the header are too large", idx->path);
        }
    }
    size_t possible = (size_t)idx->file_bytes * (gzdirect(idx->file) ? 1 : GZIP_LARGEST_RATIO);
    if (idx->data_bytes > possible) {
        return light_fail(
            LIGHT_ERR_FORMAT,
            "%s: the header promises %zu bytes of data, more than a file of %lld bytes can hold; it is "
            "truncated or damaged",
            idx->path, idx->data_bytes, (long long)idx->file_bytes);
    }
    return LIGHT_OK;
}

/* Reads to the end, so that gzip's checksum is checked too. */
static light_status read_data(idx_file *idx)
{
    char extra;
    size_t header = 4 + 4 * (size_t)idx->ndim;

    idx->data = light_alloc(idx->data_bytes);
    if (!idx->data) return LIGHT_ERR_MEMORY;
    LIGHT_TRY(read_bytes(idx, idx->data, idx->data_bytes, header, header + idx->data_bytes));
    int more = gzread(idx->file, &extra, 1);
    if (more < 0) return read_failure(idx, header + idx->data_bytes, header + idx->data_bytes);
    if (more > 0) {
        return light_fail(LIGHT_ERR_FORMAT, "%s: there are more bytes than the %zu that its header promises",
                          idx->path, header + idx->data_bytes);
    }
    if (!gzdirect(idx->file)) {
        /* A file cut off inside the checksum leaves a note here, though gzread only says that there is no more. */
        int code;
        gzerror(idx->file, &code);
        if (code != Z_OK) return read_failure(idx, header + idx->data_bytes, header + idx->data_bytes);
    }
    return LIGHT_OK;
}

static light_status idx_read(idx_file *idx, const char *root, const char *name)
{
    struct stat about;

    LIGHT_TRY(find(idx, root, name));
    idx->file = gzopen(idx->path, "rb");
    if (!idx->file || stat(idx->path, &about) != 0) {
        return light_fail(LIGHT_ERR_IO, "%s: cannot be opened: %s", idx->path, strerror(errno));
    }
    idx->file_bytes = about.st_size;
    gzbuffer(idx->file, 1 << 18);
    LIGHT_TRY(read_header(idx));
    return read_data(idx);
}

/* The images' field, and their bytes in the machine's order. */
static light_status take_images(idx_file *idx, light_field *field)
{
    *field = (light_field){.name = "image"};
    switch (idx->type) {
    case IDX_U8: field->dtype = LIGHT_U8; break;
    case IDX_I32: field->dtype = LIGHT_I32; break;
    case IDX_F32: field->dtype = LIGHT_F32; break;
    case IDX_F64: field->dtype = LIGHT_F64; break;
    default:
        return light_fail(
            LIGHT_ERR_UNSUPPORTED,
            "%s: samples of type 0x%02x cannot be used; unsigned bytes, 32-bit integers, floats and "
            "doubles can",
            idx->path, (unsigned)idx->type);
    }
    if (idx->ndim > LIGHT_MAX_DIMS) {
        return light_fail(LIGHT_ERR_UNSUPPORTED, "%s: %d dims, at most %d are possible", idx->path, idx->ndim,
                          LIGHT_MAX_DIMS);
    }
    /* Gray images get their one channel. */
    if (idx->ndim == 3) field->shape.dims[field->shape.ndim++] = 1;
    for (int d = 1; d < idx->ndim; d++) field->shape.dims[field->shape.ndim++] = idx->dims[d];

    if (idx->element == 4) {
        for (size_t i = 0; i < idx->data_bytes; i += 4) {
            uint32_t word;
            memcpy(&word, idx->data + i, 4);
            word = __builtin_bswap32(word);
            memcpy(idx->data + i, &word, 4);
        }
    } else if (idx->element == 8) {
        for (size_t i = 0; i < idx->data_bytes; i += 8) {
            uint64_t word;
            memcpy(&word, idx->data + i, 8);
            word = __builtin_bswap64(word);
            memcpy(idx->data + i, &word, 8);
        }
    }
    return LIGHT_OK;
}

static int64_t label_at(const idx_file *idx, int64_t i)
{
    const uint8_t *p = idx->data + (size_t)i * idx->element;

    switch (idx->type) {
    case IDX_I8: return (int8_t)p[0];
    case IDX_I16: return (int16_t)(p[0] << 8 | p[1]);
    case IDX_I32: return (int32_t)((uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]);
    default: return p[0];
    }
}

static light_status take_labels(const idx_file *idx, int64_t num_classes, int64_t **out)
{
    if (idx->ndim != 1 || idx->type == IDX_F32 || idx->type == IDX_F64) {
        return light_fail(LIGHT_ERR_FORMAT,
                          "%s: labels are whole numbers in one dimension; this file has type 0x%02x in %d",
                          idx->path, (unsigned)idx->type, idx->ndim);
    }
    int64_t n = idx->dims[0];
    int64_t *labels = light_alloc((size_t)n * sizeof *labels);
    if (!labels) return LIGHT_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++) {
        labels[i] = label_at(idx, i);
        if (labels[i] < 0 || (num_classes > 0 && labels[i] >= num_classes)) {
            light_status status =
                num_classes > 0
                    ? light_fail(LIGHT_ERR_FORMAT,
                                 "%s: label %" PRId64 " of sample %" PRId64 " is not in 0..%" PRId64,
                                 idx->path, labels[i], i, num_classes - 1)
                    : light_fail(LIGHT_ERR_FORMAT, "%s: label %" PRId64 " of sample %" PRId64 " is negative",
                                 idx->path, labels[i], i);
            light_free(labels);
            return status;
        }
    }
    *out = labels;
    return LIGHT_OK;
}

static light_status open_idx(light_dataset **out, idx_file *images, idx_file *labels, int64_t num_classes)
{
    light_field fields[2] = {{0}, {.name = "label", .dtype = LIGHT_I64}};
    int64_t *numbers = NULL;

    if (images->dims[0] != labels->dims[0]) {
        return light_fail(LIGHT_ERR_FORMAT,
                          "%s has %" PRId64 " samples, but %s has %" PRId64 " labels; they must be as many",
                          images->path, images->dims[0], labels->path, labels->dims[0]);
    }
    if (images->data_bytes == 0) return light_fail(LIGHT_ERR_FORMAT, "%s: holds no samples", images->path);
    LIGHT_TRY(take_images(images, &fields[0]));
    LIGHT_TRY(take_labels(labels, num_classes, &numbers));
    void *arrays[2] = {images->data, numbers};
    images->data = NULL;
    return light_memory_dataset_own(out, fields, 2, labels->dims[0], arrays);
}

light_status light_idx_dataset_open_with(light_dataset **out, const char *root, const char *images,
                                         const char *labels, const light_idx_options *options)
{
    idx_file image_file = {0}, label_file = {0};
    light_status status;

    *out = NULL;
    if (!root || !images || !labels) {
        return light_fail(LIGHT_ERR_ARGUMENT, "an IDX dataset needs a folder and the names of two files");
    }
    LIGHT_TRY_GOTO(status, idx_read(&label_file, root, labels), done);
    LIGHT_TRY_GOTO(status, idx_read(&image_file, root, images), done);
    status = open_idx(out, &image_file, &label_file, options->num_classes);
done:
    idx_close(&image_file);
    idx_close(&label_file);
    return status;
}
