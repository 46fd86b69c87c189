/* SPDX-License-Identifier: Apache-2.0 */
/* The order matters: files and their flush, then the manifest and its flush, then the folder's flush, then its name and
 * the flush of that. A checkpoint that can be seen is complete and on disk. */
#include "checkpoint/write.h"

#include "checkpoint/folder.h"
#include "checkpoint/io.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "data is written as it lies in memory");

/* Small enough that what was summed is still in the cache when it is written. */
#define PIECE ((size_t)LIGHT_PIECE_BYTES)

/* ---- one file ------------------------------------------------------------- */

typedef struct output {
    int file;
    const char *path;
    uint64_t at;
    uint32_t crc; /* of everything up to `at` */
    char *buffer; /* PIECE bytes */
    const light_file_plan *plan;
} output;

/* The bytes of a piece, in memory. */
static light_status get_piece(const output *out, const light_dataset *dataset, uint64_t at, size_t bytes,
                              const char **piece)
{
    *piece = dataset->data ? (const char *)dataset->data + at : out->buffer;
    return dataset->data ? LIGHT_OK : out->plan->fetch(out->plan->user, dataset, at, bytes, out->buffer);
}

static light_status write_data(output *out, light_dataset *dataset)
{
    const char *piece;

    dataset->crc = 0;
    for (uint64_t done = 0; done < dataset->bytes;) {
        size_t part = dataset->bytes - done < PIECE ? (size_t)(dataset->bytes - done) : PIECE;
        LIGHT_TRY(get_piece(out, dataset, done, part, &piece));
        uint32_t crc = light_crc32c(0, piece, part);
        if (dataset->pieces) dataset->pieces[done / PIECE] = crc;
        dataset->crc = light_crc32c_combine(dataset->crc, crc, part);
        LIGHT_TRY(light_io_write(out->file, out->path, piece, part, out->at + done));
        done += part;
    }
    out->crc = light_crc32c_combine(out->crc, dataset->crc, dataset->bytes);
    out->at += dataset->bytes;
    return LIGHT_OK;
}

/* What HDF5 has written, up to `end`. */
static light_status write_structure(output *out, const light_layout *layout, uint64_t end)
{
    while (out->at < end) {
        size_t part = end - out->at < PIECE ? (size_t)(end - out->at) : PIECE;
        LIGHT_TRY(light_io_read(layout->file, "a file in memory", out->buffer, part, out->at));
        out->crc = light_crc32c(out->crc, out->buffer, part);
        LIGHT_TRY(light_io_write(out->file, out->path, out->buffer, part, out->at));
        out->at += part;
    }
    return LIGHT_OK;
}

static int by_offset(const void *a, const void *b)
{
    const light_dataset *x = *(light_dataset *const *)a, *y = *(light_dataset *const *)b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static light_status write_contents(output *out, const light_layout *layout, light_dataset **sorted,
                                   size_t count)
{
    LIGHT_TRY(light_io_allocate(out->file, out->path, layout->bytes));
    for (size_t i = 0; i < count; i++) {
        if (sorted[i]->bytes == 0) continue;
        if (sorted[i]->offset < out->at || sorted[i]->bytes > layout->bytes - sorted[i]->offset)
            return light_fail(LIGHT_ERR_INTERNAL, "%s: HDF5 has placed dataset '%s' where it cannot be",
                              out->path, sorted[i]->path);
        LIGHT_TRY(write_structure(out, layout, sorted[i]->offset));
        LIGHT_TRY(write_data(out, sorted[i]));
    }
    LIGHT_TRY(write_structure(out, layout, layout->bytes));
    return light_io_sync(out->file, out->path);
}

static light_status write_sorted(const char *path, const light_file_plan *plan, const light_layout *layout,
                                 light_dataset **sorted, light_manifest_file *about)
{
    output out = {.path = path, .buffer = light_alloc(PIECE), .plan = plan};
    if (!out.buffer) return LIGHT_ERR_MEMORY;
    light_status status = light_io_create(path, &out.file);
    if (status == LIGHT_OK) {
        status = write_contents(&out, layout, sorted, plan->count);
        if (status == LIGHT_OK)
            status = light_io_close(out.file, path);
        else
            close(out.file);
    }
    light_free(out.buffer);
    about->bytes = out.at;
    about->crc = out.crc;
    return status;
}

light_status light_write_file(const char *path, light_file_plan *plan, light_manifest_file *about)
{
    light_layout layout;
    light_dataset **sorted = light_alloc(plan->count * sizeof *sorted);
    if (!sorted) return LIGHT_ERR_MEMORY;
    light_status status = light_layout_new(&layout, plan->datasets, plan->count, &plan->about);
    if (status == LIGHT_OK) {
        for (size_t i = 0; i < plan->count; i++) sorted[i] = &plan->datasets[i];
        if (plan->count) qsort(sorted, plan->count, sizeof *sorted, by_offset);
        status = write_sorted(path, plan, &layout, sorted, about);
        light_layout_free(&layout);
    }
    light_free(sorted);
    return status;
}

/* ---- the folder ------------------------------------------------------------ */

light_status light_write_files(const char *folder, light_manifest *manifest, light_file_plan *plans)
{
    for (size_t i = 0; i < manifest->file_count; i++) {
        char *path = light_path_join(folder, manifest->files[i].name);
        if (!path) return LIGHT_ERR_MEMORY;
        light_status status = light_write_file(path, &plans[i], &manifest->files[i]);
        light_free(path);
        LIGHT_TRY(status);
        for (size_t k = 0; k < plans[i].count; k++) {
            const light_dataset *dataset = &plans[i].datasets[k];
            *plans[i].extents[k] = (light_extent){.file = i,
                                                  .offset = dataset->offset,
                                                  .bytes = dataset->bytes,
                                                  .crc = dataset->crc,
                                                  .pieces = dataset->pieces};
        }
    }
    return LIGHT_OK;
}

static light_status write_text(const char *path, const char *text, size_t bytes)
{
    int file;
    LIGHT_TRY(light_io_create(path, &file));
    light_status status = light_io_write(file, path, text, bytes, 0);
    if (status == LIGHT_OK) status = light_io_sync(file, path);
    if (status == LIGHT_OK) return light_io_close(file, path);
    close(file);
    return status;
}

light_status light_write_manifest(const char *folder, const light_manifest *manifest)
{
    light_string text = {0};
    char *path = light_path_join(folder, LIGHT_MANIFEST_NAME);
    light_status status = path ? light_manifest_format(manifest, &text) : LIGHT_ERR_MEMORY;
    if (status == LIGHT_OK) status = write_text(path, text.text, text.length);
    light_string_free(&text);
    light_free(path);
    return status;
}

light_status light_write_checkpoint(const char *path, const char *run, light_manifest *manifest,
                                    light_file_plan *plans, uint64_t *bytes)
{
    light_temporary_folder folder;
    LIGHT_TRY(light_folder_check_replaceable(path));
    LIGHT_TRY(light_temporary_folder_new(&folder, path, run));
    light_status status = light_write_files(folder.path, manifest, plans);
    if (status == LIGHT_OK) status = light_write_manifest(folder.path, manifest);
    if (status == LIGHT_OK) status = light_temporary_folder_publish(&folder, path);
    light_temporary_folder_free(&folder);
    *bytes = 0;
    for (size_t i = 0; i < manifest->file_count; i++) *bytes += manifest->files[i].bytes;
    return status;
}

/* ---- the same under another name ------------------------------------------- */

static light_status copy_contents(int from, const char *from_path, int to, const char *to_path,
                                  uint64_t bytes)
{
    char *buffer = light_alloc(PIECE);
    if (!buffer) return LIGHT_ERR_MEMORY;
    light_status status = light_io_allocate(to, to_path, bytes);
    for (uint64_t at = 0; at < bytes && status == LIGHT_OK;) {
        size_t part = bytes - at < PIECE ? (size_t)(bytes - at) : PIECE;
        status = light_io_read(from, from_path, buffer, part, at);
        if (status == LIGHT_OK) status = light_io_write(to, to_path, buffer, part, at);
        at += part;
    }
    light_free(buffer);
    return status == LIGHT_OK ? light_io_sync(to, to_path) : status;
}

static light_status copy_file(const char *from, const char *to, uint64_t bytes)
{
    int target, source = open(from, O_RDONLY | O_CLOEXEC);
    if (source < 0) return light_io_fail("open", from);
    light_status status = light_io_create(to, &target);
    if (status == LIGHT_OK) {
        status = copy_contents(source, from, target, to, bytes);
        if (status == LIGHT_OK)
            status = light_io_close(target, to);
        else
            close(target);
    }
    close(source);
    return status;
}

static light_status link_file(const char *from_folder, const char *to_folder, const char *name,
                              uint64_t bytes)
{
    char *from = light_path_join(from_folder, name), *to = light_path_join(to_folder, name);
    light_status status = from && to ? light_io_link(from, to) : LIGHT_ERR_MEMORY;
    if (status == LIGHT_ERR_UNSUPPORTED) status = copy_file(from, to, bytes);
    light_free(from);
    light_free(to);
    return status;
}

light_status light_link_checkpoint(const char *from, const char *path, const char *run,
                                   const light_manifest *manifest)
{
    light_temporary_folder folder;
    LIGHT_TRY(light_folder_check_replaceable(path));
    LIGHT_TRY(light_temporary_folder_new(&folder, path, run));
    light_status status = LIGHT_OK;
    for (size_t i = 0; i < manifest->file_count && status == LIGHT_OK; i++)
        status = link_file(from, folder.path, manifest->files[i].name, manifest->files[i].bytes);
    if (status == LIGHT_OK) status = light_write_manifest(folder.path, manifest);
    if (status == LIGHT_OK) status = light_temporary_folder_publish(&folder, path);
    light_temporary_folder_free(&folder);
    return status;
}
