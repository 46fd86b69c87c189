/* SPDX-License-Identifier: Apache-2.0 */
/* The same batch over and over. */
#include "common/repeat.h"

typedef struct {
    light_dataset base;
    const bench_repeat *repeat;
} repeat_dataset;

static light_status repeat_describe(light_dataset *self, light_field *fields, int *num_fields)
{
    const bench_repeat *r = ((repeat_dataset *)self)->repeat;
    *num_fields = 2;
    fields[0] = r->fields[0];
    fields[1] = r->fields[1];
    return LIGHT_OK;
}

static int64_t repeat_length(light_dataset *self)
{
    const bench_repeat *r = ((repeat_dataset *)self)->repeat;
    return r->batch_size * r->batches;
}

static light_status repeat_get_batch(light_dataset *self, const int64_t *indices, int64_t n, void *const *to)
{
    (void)indices;
    const bench_repeat *r = ((repeat_dataset *)self)->repeat;
    for (int f = 0; f < 2; f++) {
        int64_t count = n * light_shape_numel(r->fields[f].shape);
        if (r->fields[f].dtype == LIGHT_F32)
            for (int64_t i = 0; i < count; i++) ((float *)to[f])[i] = (float)(i & 63) * 0.01f;
        else
            for (int64_t i = 0; i < count; i++) ((int64_t *)to[f])[i] = i & 7;
    }
    return LIGHT_OK;
}

static light_status repeat_get(light_dataset *self, int64_t index, void *const *to)
{
    return repeat_get_batch(self, &index, 1, to);
}

static const light_dataset_vtable repeat_dataset_vtable = {
    LIGHT_DATASET(repeat_dataset), .describe = repeat_describe, .length = repeat_length, .get = repeat_get,
    .get_batch = repeat_get_batch,
};

static light_status open_dataset(light_dataset **out, const bench_repeat *repeat)
{
    LIGHT_TRY(light_dataset_new(out, &repeat_dataset_vtable));
    ((repeat_dataset *)*out)->repeat = repeat;
    return LIGHT_OK;
}

light_loader *bench_repeat_loader(const bench_repeat *repeat)
{
    light_dataset *data;
    if (open_dataset(&data, repeat) != LIGHT_OK) return NULL;
    light_loader *loader = light_loader_new(data, .batch_size = repeat->batch_size, .seed = 1);
    light_dataset_free(data);
    return loader;
}

static light_status repeat_setup(light_datamodule *self, light_stage stage)
{
    bench_repeat *r = (bench_repeat *)self;
    return stage == LIGHT_STAGE_FIT ? open_dataset(&r->data, r) : LIGHT_OK;
}

static light_loader *repeat_train(light_datamodule *self)
{
    const bench_repeat *r = (const bench_repeat *)self;
    return light_loader_new(r->data, .batch_size = r->batch_size);
}

const light_datamodule_vtable bench_repeat_vtable = {
    LIGHT_DATAMODULE(bench_repeat),
    .setup = repeat_setup,
    .train_dataloader = repeat_train,
};
