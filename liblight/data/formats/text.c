/* SPDX-License-Identifier: Apache-2.0 */
/* Windows of a file of bytes or tokens. Nothing is kept in memory: a window is read when it is asked for, with one
 * call, from the page cache as a rule. */
#include "data/dataset.h"

#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK 4096 /* bytes read at a time, on the stack */

typedef struct {
    light_dataset base;
    char *path;
    int file;
    int64_t block_size, stride, n;
    int64_t first; /* token of the part in use */
    int token_bytes;
    int vocabulary;
    uint8_t bytes[256];   /* by number */
    uint8_t numbers[256]; /* by byte */
} text_dataset;

static light_status describe(light_dataset *self, light_field *fields, int *num_fields)
{
    int64_t block_size = ((text_dataset *)self)->block_size;

    fields[0] = (light_field){.name = "x", .dtype = LIGHT_I64, .shape = LIGHT_SHAPE(block_size)};
    fields[1] = (light_field){.name = "y", .dtype = LIGHT_I64, .shape = LIGHT_SHAPE(block_size)};
    *num_fields = 2;
    return LIGHT_OK;
}

static int64_t length(light_dataset *self)
{
    return ((text_dataset *)self)->n;
}

static light_status read_at(const text_dataset *d, void *to, size_t bytes, int64_t at)
{
    size_t done = 0;

    while (done < bytes) {
        ssize_t got = pread(d->file, (char *)to + done, bytes - done, (off_t)(at + (int64_t)done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return light_fail(LIGHT_ERR_IO, "%s: cannot be read: %s", d->path, strerror(errno));
        if (got == 0) {
            return light_fail(LIGHT_ERR_IO, "%s: the file has become shorter than %" PRId64 " bytes", d->path,
                              at + (int64_t)bytes);
        }
        done += (size_t)got;
    }
    return LIGHT_OK;
}

static int64_t token(const text_dataset *d, const uint8_t *p)
{
    switch (d->token_bytes) {
    case 1: return d->numbers[p[0]];
    case 2: return p[0] | p[1] << 8;
    default: return p[0] | p[1] << 8 | p[2] << 16 | (int64_t)p[3] << 24;
    }
}

/* x gets tokens 0 .. block_size - 1 of the window, y tokens 1 .. block_size. */
static light_status get(light_dataset *self, int64_t index, void *const *to)
{
    text_dataset *d = (text_dataset *)self;
    int64_t *x = to[0], *y = to[1];
    int64_t start = d->first + index * d->stride, per_chunk = CHUNK / d->token_bytes;
    uint8_t chunk[CHUNK];

    for (int64_t done = 0; done <= d->block_size; done += per_chunk) {
        int64_t count = d->block_size + 1 - done < per_chunk ? d->block_size + 1 - done : per_chunk;
        LIGHT_TRY(read_at(d, chunk, (size_t)(count * d->token_bytes), (start + done) * d->token_bytes));
        for (int64_t i = 0; i < count; i++) {
            int64_t value = token(d, chunk + i * d->token_bytes);
            if (done + i < d->block_size) x[done + i] = value;
            if (done + i > 0) y[done + i - 1] = value;
        }
    }
    return LIGHT_OK;
}

static void close_text(light_dataset *self)
{
    text_dataset *d = (text_dataset *)self;

    if (d->file >= 0) close(d->file);
    light_free(d->path);
}

static const light_dataset_vtable text_vtable = {
    LIGHT_DATASET(text_dataset), .describe = describe, .free = close_text, .length = length, .get = get,
};

static light_status check_options(const char *path, const light_text_options *o)
{
    if (o->block_size < 1) {
        return light_fail(LIGHT_ERR_ARGUMENT, "%s: block_size is %" PRId64 "; it must be at least 1", path,
                          o->block_size);
    }
    if (o->stride < 0) return light_fail(LIGHT_ERR_ARGUMENT, "%s: stride is %" PRId64, path, o->stride);
    if (o->token_bytes != 0 && o->token_bytes != 1 && o->token_bytes != 2 && o->token_bytes != 4) {
        return light_fail(LIGHT_ERR_ARGUMENT, "%s: token_bytes is %d; tokens have 1, 2 or 4 bytes", path,
                          o->token_bytes);
    }
    if (o->characters && o->token_bytes > 1) {
        return light_fail(LIGHT_ERR_ARGUMENT, "%s: only single bytes can be numbered as characters", path);
    }
    double end = o->end == 0 ? 1 : o->end;
    if (!(o->start >= 0 && end <= 1 && o->start < end)) {
        return light_fail(LIGHT_ERR_ARGUMENT, "%s: the part %g .. %g is not within 0 .. 1", path, o->start,
                          end);
    }
    return LIGHT_OK;
}

/* Numbers the bytes that occur anywhere in the file, so that every part of it has the same numbers. */
static light_status number_characters(text_dataset *d, int64_t file_bytes)
{
    bool occurs[256] = {false};
    uint8_t chunk[CHUNK];

    for (int64_t at = 0; at < file_bytes; at += CHUNK) {
        size_t count = file_bytes - at < CHUNK ? (size_t)(file_bytes - at) : CHUNK;
        LIGHT_TRY(read_at(d, chunk, count, at));
        for (size_t i = 0; i < count; i++) occurs[chunk[i]] = true;
    }
    d->vocabulary = 0;
    for (int b = 0; b < 256; b++) {
        if (!occurs[b]) continue;
        d->bytes[d->vocabulary] = (uint8_t)b;
        d->numbers[b] = (uint8_t)d->vocabulary++;
    }
    return LIGHT_OK;
}

static light_status open_text(text_dataset *d, const char *path, const light_text_options *o)
{
    struct stat about;

    d->path = light_strdup(path);
    if (!d->path) return LIGHT_ERR_MEMORY;
    d->file = open(path, O_RDONLY | O_CLOEXEC);
    if (d->file < 0) {
        return light_fail(errno == ENOENT ? LIGHT_ERR_NOT_FOUND : LIGHT_ERR_IO, "%s: cannot be opened: %s",
                          path, strerror(errno));
    }
    if (fstat(d->file, &about) != 0 || !S_ISREG(about.st_mode)) {
        return light_fail(LIGHT_ERR_IO, "%s: this is no file", path);
    }
    d->block_size = o->block_size;
    d->stride = o->stride ? o->stride : o->block_size;
    d->token_bytes = o->token_bytes ? o->token_bytes : 1;
    if (about.st_size % d->token_bytes != 0) {
        return light_fail(LIGHT_ERR_FORMAT,
                          "%s: %lld bytes are no whole number of tokens of %d bytes; truncated?", path,
                          (long long)about.st_size, d->token_bytes);
    }
    double tokens = (double)(about.st_size / d->token_bytes);
    d->first = (int64_t)(tokens * o->start);
    int64_t count = (int64_t)(tokens * (o->end == 0 ? 1 : o->end)) - d->first;
    /* In this form nothing overflows, however large a block_size somebody asks for. */
    if (count <= d->block_size) {
        return light_fail(LIGHT_ERR_FORMAT,
                          "%s: there are %" PRId64
                          " tokens; one sample takes block_size + 1, and block_size is %" PRId64,
                          path, count, d->block_size);
    }
    d->n = (count - 1 - d->block_size) / d->stride + 1;
    d->vocabulary = 256;
    for (int b = 0; b < 256; b++) d->bytes[b] = d->numbers[b] = (uint8_t)b;
    return o->characters ? number_characters(d, about.st_size) : LIGHT_OK;
}

light_status light_text_dataset_open_with(light_dataset **out, const char *path,
                                          const light_text_options *options)
{
    light_dataset *base;

    *out = NULL;
    LIGHT_TRY(check_options(path, options));
    LIGHT_TRY(light_dataset_new(&base, &text_vtable));
    ((text_dataset *)base)->file = -1;
    light_status status = open_text((text_dataset *)base, path, options);
    if (status != LIGHT_OK) {
        light_dataset_free(base);
        return status;
    }
    *out = base;
    return LIGHT_OK;
}

int light_text_dataset_vocabulary(light_dataset *dataset, uint8_t bytes[256])
{
    text_dataset *d = (text_dataset *)dataset;

    if (dataset->vtable != &text_vtable) {
        light_fail(LIGHT_ERR_ARGUMENT, "the dataset %s is no text", dataset->vtable->name);
        return 0;
    }
    memcpy(bytes, d->bytes, sizeof d->bytes);
    return d->vocabulary;
}
