/* SPDX-License-Identifier: Apache-2.0 */
/* One plain HDF5 file from a checkpoint of any number of writers. */
#include "checkpoint/name.h"
#include "checkpoint/read.h"
#include "checkpoint/write.h"

#include "base/file.h"
#include "base/memory.h"

#include <unistd.h>

typedef struct merge {
    light_checkpoint *checkpoint;
    light_file_plan plan;
    char **paths; /* of the datasets, which are in the order of the tensors */
} merge;

/* Bytes of a tensor, as whole elements: a piece is a multiple of any of them. */
static light_status fetch(void *user, const light_dataset *dataset, uint64_t at, size_t bytes, void *to)
{
    const merge *m = user;
    const light_manifest_tensor *tensor = &m->checkpoint->manifest.tensors[dataset - m->plan.datasets];
    const size_t size = light_dtype_size(tensor->dtype);
    light_tensor *part;
    LIGHT_TRY(light_tensor_wrap(&part, LIGHT_SHAPE((int64_t)(bytes / size)), tensor->dtype, to));
    light_status status = light_checkpoint_read_part(m->checkpoint, tensor->name, part, (int64_t)(at / size));
    light_tensor_free(part);
    return status;
}

static light_status make_plan(merge *m)
{
    const light_manifest *manifest = &m->checkpoint->manifest;
    m->plan = (light_file_plan){
        .count = manifest->tensor_count,
        .datasets = light_calloc(manifest->tensor_count + 1, sizeof *m->plan.datasets),
        .about = {.step = manifest->step, .epoch = manifest->epoch, .shard_count = 1},
        .fetch = fetch,
        .user = m,
    };
    m->paths = light_calloc(manifest->tensor_count + 1, sizeof *m->paths);
    if (!m->plan.datasets || !m->paths) return LIGHT_ERR_MEMORY;
    for (size_t i = 0; i < manifest->tensor_count; i++) {
        const light_manifest_tensor *tensor = &manifest->tensors[i];
        light_string path = {0};
        light_name_encode_path(&path, tensor->name);
        LIGHT_TRY(light_string_take(&path, &m->paths[i]));
        m->plan.datasets[i] = (light_dataset){
            .path = m->paths[i],
            .dtype = tensor->dtype,
            .shape = tensor->shape,
            .bytes = (uint64_t)light_shape_numel(tensor->shape) * light_dtype_size(tensor->dtype),
        };
    }
    return LIGHT_OK;
}

static light_status write_merged(merge *m, const char *file)
{
    light_manifest_file about;
    char *temporary = light_file_temporary_name(file);
    if (!temporary) return LIGHT_ERR_MEMORY;
    light_status status = light_write_file(temporary, &m->plan, &about);
    if (status == LIGHT_OK) status = light_file_publish(temporary, file);
    if (status != LIGHT_OK) unlink(temporary);
    light_free(temporary);
    return status;
}

light_status light_checkpoint_merge(const char *path, const char *file)
{
    merge m = {0};
    LIGHT_TRY(light_checkpoint_open_lazily(path, &m.checkpoint));
    light_status status = make_plan(&m);
    if (status == LIGHT_OK) status = write_merged(&m, file);
    for (size_t i = 0; m.paths && i < m.plan.count; i++) light_free(m.paths[i]);
    light_free(m.paths);
    light_free(m.plan.datasets);
    light_checkpoint_close(m.checkpoint);
    return status;
}
