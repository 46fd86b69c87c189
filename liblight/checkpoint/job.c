/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/job.h"

#include "checkpoint/name.h"

#include "base/memory.h"
#include "base/string.h"
#include "tensor/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define STAGING_ALIGNMENT 64
#define HUGE_PAGE         ((size_t)2 << 20)

static size_t padded(size_t bytes)
{
    return (bytes + STAGING_ALIGNMENT - 1) / STAGING_ALIGNMENT * STAGING_ALIGNMENT;
}

static size_t item_bytes(const light_checkpoint_item *item)
{
    return (size_t)item->tensor.numel * light_dtype_size((light_dtype)item->tensor.dtype);
}

/* ---- copies --------------------------------------------------------------- */

void light_staging_free(light_staging *staging)
{
    light_free(staging->memory);
    *staging = (light_staging){0};
}

static light_status staging_reserve(light_staging *staging, size_t bytes)
{
    if (bytes <= staging->bytes) return LIGHT_OK;
    light_staging_free(staging);
    staging->memory = light_alloc(bytes);
    if (!staging->memory) return LIGHT_ERR_MEMORY;
    staging->bytes = bytes;
    /* Fewer page faults in the first copy. Only a hint, so a refusal is fine. */
    uintptr_t from = ((uintptr_t)staging->memory + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    uintptr_t to = ((uintptr_t)staging->memory + bytes) / HUGE_PAGE * HUGE_PAGE;
    if (from < to) madvise((void *)from, to - from, MADV_HUGEPAGE);
    return LIGHT_OK;
}

static bool has_to_copy(const light_checkpoint_item *item, bool background)
{
    return background || !item->tensor.contiguous || !item->tensor.storage->device->is_host;
}

static light_status copy_item(const light_checkpoint_item *item, char *to)
{
    size_t bytes = item_bytes(item);
    if (has_to_copy(item, false)) {
        light_status status = light_tensor_read(&item->tensor, (light_dtype)item->tensor.dtype, to, bytes);
        return status == LIGHT_OK ? status : light_fail_in(status, "checkpoint: '%s'", item->name);
    }
    if (bytes) memcpy(to, item->tensor.data, bytes);
    return LIGHT_OK;
}

static light_status copy_items(light_save_job *job, const light_checkpoint_list *list, bool background,
                               light_staging *staging)
{
    size_t bytes = 0;
    for (size_t i = 0; i < list->count; i++) {
        if (has_to_copy(&list->items[i], background)) bytes += padded(item_bytes(&list->items[i]));
    }
    LIGHT_TRY(staging_reserve(staging, bytes));
    char *at = staging->memory;
    for (size_t i = 0; i < list->count; i++) {
        const light_checkpoint_item *item = &list->items[i];
        light_dataset *dataset = &job->plans[LIGHT_PLAN_TENSORS].datasets[i];
        dataset->data = item->tensor.data;
        if (!has_to_copy(item, background)) continue;
        LIGHT_TRY(copy_item(item, at));
        dataset->data = at;
        at += padded(item_bytes(item));
    }
    return LIGHT_OK;
}

/* ---- tensors --------------------------------------------------------------- */

static light_status plan_reserve(light_file_plan *plan, size_t count)
{
    plan->datasets = light_calloc(count + 1, sizeof *plan->datasets);
    plan->extents = light_calloc(count + 1, sizeof *plan->extents);
    plan->count = count;
    return plan->datasets && plan->extents ? LIGHT_OK : LIGHT_ERR_MEMORY;
}

/* Room for the checksums of a chunk's pieces. */
static light_status reserve_pieces(light_extent *extent, uint64_t bytes)
{
    if (bytes <= LIGHT_PIECE_BYTES) return LIGHT_OK;
    extent->pieces = light_alloc(light_extent_pieces(bytes) * sizeof *extent->pieces);
    return extent->pieces ? LIGHT_OK : LIGHT_ERR_MEMORY;
}

/* Position in the list, by name; of one name in the order of the list. */
typedef struct named {
    const char *name;
    size_t index;
} named;

static int by_name(const void *a, const void *b)
{
    const named *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : x->index < y->index ? -1 : 1;
}

static light_status encoded_path(const char *name, size_t part, char **out)
{
    light_string path = {0};
    bool good = light_name_encode_path(&path, name);
    /* A file has one dataset for each slice; the first has the tensor's name. */
    if (part) light_string_printf(&path, "@%zu", part);
    if (good) return light_string_take(&path, out);
    light_string_free(&path);
    return light_fail(LIGHT_ERR_ARGUMENT, "checkpoint: '%s' is no name for a tensor: a part of it is empty",
                      name);
}

/* Makes manifest tensor `tensor` of the `count` slices that `group` names. */
static light_status add_tensor(light_save_job *job, const light_checkpoint_list *list, const named *group,
                               size_t count, light_manifest_tensor *tensor)
{
    const light_checkpoint_item *first = &list->items[group[0].index];
    light_file_plan *plan = &job->plans[LIGHT_PLAN_TENSORS];
    tensor->dtype = (light_dtype)first->tensor.dtype;
    tensor->shape = first->global_shape;
    tensor->name = light_strdup(first->name);
    tensor->chunks = light_calloc(count, sizeof *tensor->chunks);
    if (!tensor->name || !tensor->chunks) return LIGHT_ERR_MEMORY;
    for (size_t i = 0; i < count; i++) {
        const light_checkpoint_item *item = &list->items[group[i].index];
        light_manifest_chunk *chunk = &tensor->chunks[tensor->chunk_count++];
        if ((light_dtype)item->tensor.dtype != tensor->dtype ||
            !light_shape_equal(item->global_shape, tensor->shape))
            return light_fail(LIGHT_ERR_ARGUMENT,
                              "checkpoint: the slices of '%s' differ in dtype or global shape", first->name);
        chunk->shape = light_shape_of(&item->tensor);
        memcpy(chunk->start, item->start, sizeof chunk->start);
        LIGHT_TRY(encoded_path(item->name, i, &chunk->dataset));
        LIGHT_TRY(reserve_pieces(&chunk->extent, item_bytes(item)));
        bool whole = light_shape_equal(chunk->shape, tensor->shape);
        plan->datasets[group[i].index] = (light_dataset){.path = chunk->dataset,
                                                         .dtype = tensor->dtype,
                                                         .shape = chunk->shape,
                                                         .global_shape = &tensor->shape,
                                                         .start = whole ? NULL : chunk->start,
                                                         .bytes = item_bytes(item),
                                                         .pieces = chunk->extent.pieces};
        plan->extents[group[i].index] = &chunk->extent;
    }
    return LIGHT_OK;
}

/* The tensors in the order of the list. `order` is sorted by name, `lead` tells of each item where its name's run in
 * `order` begins, if it is the first of its name. */
static light_status add_in_order(light_save_job *job, const light_checkpoint_list *list, const named *order,
                                 size_t *lead)
{
    for (size_t i = 0; i < list->count; i++) lead[i] = SIZE_MAX;
    for (size_t i = 0; i < list->count; i++) {
        if (i == 0 || strcmp(order[i].name, order[i - 1].name) != 0) lead[order[i].index] = i;
    }
    for (size_t i = 0; i < list->count; i++) {
        if (lead[i] == SIZE_MAX) continue;
        size_t from = lead[i], to = from + 1;
        while (to < list->count && strcmp(order[to].name, order[from].name) == 0) to++;
        LIGHT_TRY(add_tensor(job, list, order + from, to - from,
                             &job->manifest.tensors[job->manifest.tensor_count++]));
    }
    return LIGHT_OK;
}

static light_status add_tensors(light_save_job *job, const light_checkpoint_list *list)
{
    LIGHT_TRY(plan_reserve(&job->plans[LIGHT_PLAN_TENSORS], list->count));
    job->manifest.tensors = light_calloc(list->count + 1, sizeof *job->manifest.tensors);
    named *order = light_calloc(list->count + 1, sizeof *order);
    size_t *lead = light_calloc(list->count + 1, sizeof *lead);
    light_status status = job->manifest.tensors && order && lead ? LIGHT_OK : LIGHT_ERR_MEMORY;
    if (status == LIGHT_OK) {
        for (size_t i = 0; i < list->count; i++) order[i] = (named){list->items[i].name, i};
        qsort(order, list->count, sizeof *order, by_name);
        status = add_in_order(job, list, order, lead);
    }
    light_free(order);
    light_free(lead);
    return status;
}

/* ---- state ----------------------------------------------------------------- */

/* Values and empty groups: those become datasets and groups of the file. */
static size_t count_leaves(const light_state *state)
{
    size_t count = 0;
    for (size_t i = 0; i < light_state_count(state); i++) {
        light_state_entry entry = light_state_at(state, i);
        count += light_state_empty(entry.group) ? 1 : count_leaves(entry.group);
    }
    return count;
}

static void add_leaf(light_save_job *job, const light_state_entry *entry, char *path)
{
    light_file_plan *plan = &job->plans[LIGHT_PLAN_STATE];
    size_t index = job->manifest.value_count++;
    light_manifest_value *value = &job->manifest.values[index];
    bool array = entry->type == LIGHT_STATE_INT64S || entry->type == LIGHT_STATE_DOUBLES ||
                 entry->type == LIGHT_STATE_BYTES;
    bool floating = entry->type == LIGHT_STATE_DOUBLE || entry->type == LIGHT_STATE_DOUBLES;
    bool bytes = entry->type == LIGHT_STATE_STRING || entry->type == LIGHT_STATE_BYTES;
    *value = (light_manifest_value){.path = path, .type = entry->type, .count = entry->count};
    plan->extents[index] = &value->extent;
    plan->datasets[index] = (light_dataset){.path = path,
                                            .is_group = entry->type == LIGHT_STATE_GROUP,
                                            .is_string = entry->type == LIGHT_STATE_STRING,
                                            .dtype = floating ? LIGHT_F64
                                                     : bytes  ? LIGHT_U8
                                                              : LIGHT_I64,
                                            .bytes = entry->count * light_state_type_size(entry->type),
                                            .data = entry->data};
    if (array) plan->datasets[index].shape = LIGHT_SHAPE((int64_t)entry->count);
}

static light_status walk_state(light_save_job *job, const light_state *state, light_string *path)
{
    for (size_t i = 0; i < light_state_count(state); i++) {
        light_state_entry entry = light_state_at(state, i);
        size_t before = path->length;
        light_string_append(path, before ? "/" : "");
        light_name_encode(path, entry.name);
        if (path->failed) return light_fail(LIGHT_ERR_MEMORY, "out of memory for the state of a checkpoint");
        if (!light_state_empty(entry.group)) {
            LIGHT_TRY(walk_state(job, entry.group, path));
        } else {
            char *copy = light_strdup(light_string_text(path));
            if (!copy) return LIGHT_ERR_MEMORY;
            add_leaf(job, &entry, copy);
        }
        path->length = before;
        if (path->text) path->text[before] = '\0';
    }
    return LIGHT_OK;
}

static light_status add_state(light_save_job *job)
{
    light_string path = {0};
    size_t count = count_leaves(job->state);
    LIGHT_TRY(plan_reserve(&job->plans[LIGHT_PLAN_STATE], count));
    job->manifest.values = light_calloc(count + 1, sizeof *job->manifest.values);
    if (!job->manifest.values) return LIGHT_ERR_MEMORY;
    light_status status = walk_state(job, job->state, &path);
    light_string_free(&path);
    return status;
}

/* ---- the whole ------------------------------------------------------------- */

void light_shard_name(char name[LIGHT_SHARD_NAME_BYTES], int rank, int size)
{
    snprintf(name, LIGHT_SHARD_NAME_BYTES, "model-%05d-of-%05d.h5", rank, size);
}

static light_status add_files(light_save_job *job, const light_checkpoint_request *request, int rank,
                              int size)
{
    char shard[LIGHT_SHARD_NAME_BYTES];
    const char *const names[LIGHT_PLAN_COUNT] = {shard, "common.h5"};
    light_shard_name(shard, rank, size);
    job->manifest.files = light_calloc(LIGHT_PLAN_COUNT, sizeof *job->manifest.files);
    if (!job->manifest.files) return LIGHT_ERR_MEMORY;
    for (size_t i = 0; i < (rank == 0 ? LIGHT_PLAN_COUNT : 1); i++) {
        job->plans[i].about = (light_layout_about){
            .step = request->step, .epoch = request->epoch, .shard_index = rank, .shard_count = size};
        job->manifest.files[i].name = light_strdup(names[i]);
        job->manifest.file_count++;
        if (!job->manifest.files[i].name) return LIGHT_ERR_MEMORY;
    }
    return LIGHT_OK;
}

static light_status check_whole(const light_manifest *manifest)
{
    for (size_t i = 0; i < manifest->tensor_count; i++)
        LIGHT_TRY(light_manifest_check_chunks("checkpoint", &manifest->tensors[i]));
    return LIGHT_OK;
}

light_status light_save_job_init(light_save_job *job, const light_checkpoint_request *request,
                                 const char *run, light_staging *staging)
{
    static const light_checkpoint_list none;
    const light_checkpoint_list *list = request->tensors ? request->tensors : &none;
    const int rank = request->group ? request->group->rank : 0,
              size = request->group ? request->group->size : 1;
    struct timespec now;

    *job = (light_save_job){.state = request->state};
    clock_gettime(CLOCK_REALTIME, &now);
    job->manifest.created_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    job->manifest.step = request->step;
    job->manifest.epoch = request->epoch;
    job->manifest.run = light_strdup(run);
    light_status status = job->manifest.run ? add_files(job, request, rank, size) : LIGHT_ERR_MEMORY;
    if (status == LIGHT_OK) status = add_tensors(job, list);
    if (status == LIGHT_OK && size == 1) status = check_whole(&job->manifest);
    if (status == LIGHT_OK && rank == 0) status = add_state(job);
    if (status == LIGHT_OK) status = copy_items(job, list, request->background, staging);
    if (status != LIGHT_OK) light_save_job_free(job);
    return status;
}

void light_save_job_free(light_save_job *job)
{
    for (size_t i = 0; i < LIGHT_PLAN_COUNT; i++) {
        light_free(job->plans[i].datasets);
        light_free(job->plans[i].extents);
    }
    light_manifest_free(&job->manifest);
    light_state_free(job->state);
    *job = (light_save_job){0};
}
