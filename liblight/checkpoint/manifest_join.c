/* SPDX-License-Identifier: Apache-2.0 */
/* One manifest from those of several writers. */
#include "checkpoint/manifest.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

/* A tensor of one of the manifests, in the order of these. */
typedef struct entry {
    light_manifest_tensor *tensor;
    size_t place;
} entry;

static int by_name(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    int order = strcmp(x->tensor->name, y->tensor->name);
    return order ? order : x->place < y->place ? -1 : 1;
}

/* Moves the chunks of `from`, of which nothing is left but its memory in an array. */
static light_status join_tensor(light_manifest_tensor *to, light_manifest_tensor *from)
{
    if (to->dtype != from->dtype || !light_shape_equal(to->shape, from->shape))
        return light_fail(LIGHT_ERR_ARGUMENT,
                          "checkpoint: the processes differ in dtype or global shape of tensor '%s'",
                          to->name);
    size_t count = to->chunk_count + from->chunk_count;
    light_manifest_chunk *larger = light_realloc(to->chunks, (count + 1) * sizeof *larger);
    if (!larger) return LIGHT_ERR_MEMORY;
    memcpy(larger + to->chunk_count, from->chunks, from->chunk_count * sizeof *larger);
    to->chunks = larger;
    to->chunk_count = count;
    light_free(from->chunks);
    light_free(from->name);
    *from = (light_manifest_tensor){0};
    return LIGHT_OK;
}

static light_status join_same_names(entry *entries, size_t count)
{
    size_t first = 0;
    if (count) qsort(entries, count, sizeof *entries, by_name);
    for (size_t i = 1; i < count; i++) {
        if (strcmp(entries[first].tensor->name, entries[i].tensor->name) != 0)
            first = i;
        else
            LIGHT_TRY(join_tensor(entries[first].tensor, entries[i].tensor));
    }
    return LIGHT_OK;
}

/* Appends the files of `part`. */
static void move_files(light_manifest *to, light_manifest *part)
{
    size_t before = to->file_count;
    for (size_t i = 0; i < part->tensor_count; i++)
        for (size_t k = 0; k < part->tensors[i].chunk_count; k++)
            part->tensors[i].chunks[k].extent.file += before;
    for (size_t i = 0; i < part->file_count; i++) to->files[to->file_count++] = part->files[i];
    part->file_count = 0;
}

/* Appends the tensors of `part` that are left. */
static void move_tensors(light_manifest *to, light_manifest *part)
{
    for (size_t i = 0; i < part->tensor_count; i++)
        if (part->tensors[i].name) to->tensors[to->tensor_count++] = part->tensors[i];
    part->tensor_count = 0;
}

static light_status reserve(light_manifest *to, const light_manifest *parts, size_t count)
{
    size_t files = to->file_count, tensors = to->tensor_count;
    for (size_t i = 0; i < count; i++) {
        files += parts[i].file_count;
        tensors += parts[i].tensor_count;
    }
    light_manifest_file *more_files = light_realloc(to->files, (files + 1) * sizeof *more_files);
    if (!more_files) return LIGHT_ERR_MEMORY;
    to->files = more_files;
    light_manifest_tensor *more_tensors = light_realloc(to->tensors, (tensors + 1) * sizeof *more_tensors);
    if (!more_tensors) return LIGHT_ERR_MEMORY;
    to->tensors = more_tensors;
    return LIGHT_OK;
}

light_status light_manifest_join(light_manifest *to, light_manifest *parts, size_t count)
{
    LIGHT_TRY(reserve(to, parts, count));
    size_t tensors = to->tensor_count, n = 0;
    for (size_t i = 0; i < count; i++) tensors += parts[i].tensor_count;
    entry *entries = light_alloc((tensors + 1) * sizeof *entries);
    if (!entries) return LIGHT_ERR_MEMORY;
    for (size_t i = 0; i < to->tensor_count; i++, n++) entries[n] = (entry){&to->tensors[i], n};
    for (size_t i = 0; i < count; i++) {
        move_files(to, &parts[i]);
        for (size_t k = 0; k < parts[i].tensor_count; k++, n++) entries[n] = (entry){&parts[i].tensors[k], n};
    }
    light_status status = join_same_names(entries, n);
    for (size_t i = 0; i < count && status == LIGHT_OK; i++) move_tensors(to, &parts[i]);
    light_free(entries);
    return status;
}
