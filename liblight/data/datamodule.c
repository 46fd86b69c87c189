/* SPDX-License-Identifier: Apache-2.0 */
/* Datamodules: making and freeing them, running their hooks, owning the datasets that the hooks open. */
#include "data/datamodule.h"

#include "base/memory.h"
#include "data/dataset.h"

#define HOOK(data, hook) LIGHT_HOOK((data)->vtable, hook)

light_datamodule *light_datamodule_new(const light_datamodule_vtable *vtable)
{
    if (!vtable || vtable->size < offsetof(light_datamodule_vtable, options) ||
        vtable->instance_size < sizeof(light_datamodule)) {
        light_fail(LIGHT_ERR_ARGUMENT, "a datamodule needs a vtable that begins with LIGHT_DATAMODULE(type)");
        return NULL;
    }
    light_datamodule *data = light_calloc(1, vtable->instance_size);
    if (!data) return NULL;
    data->vtable = vtable;
    if (LIGHT_HOOK(vtable, options)) light_options_default(vtable->options, data);
    return data;
}

/* Lets go of the datasets with this stage, or of all. */
static void free_datasets(light_datamodule *data, int stage, bool all)
{
    light_dataset **link = &data->datasets;

    while (*link) {
        light_dataset *dataset = *link;
        if (!all && dataset->stage != stage) {
            link = &dataset->next_owned;
            continue;
        }
        *link = dataset->next_owned;
        dataset->owner = NULL;
        light_dataset_free(dataset);
    }
}

void light_datamodule_free(light_datamodule *data)
{
    if (!data) return;
    if (HOOK(data, free)) data->vtable->free(data);
    free_datasets(data, 0, true);
    light_free(data);
}

/* ---- hooks ------------------------------------------------------------------- */

static light_data_scope enter(light_datamodule *data, int stage)
{
    light_data_scope *scope = light_data_scope_current();
    light_data_scope before = *scope;

    *scope = (light_data_scope){.data = data, .stage = stage};
    return before;
}

static light_status leave(light_data_scope before)
{
    light_data_scope *scope = light_data_scope_current();
    light_status failure = scope->failure;

    *scope = before;
    return failure;
}

light_status light_datamodule_prepare_data(light_datamodule *data)
{
    if (!HOOK(data, prepare_data)) return LIGHT_OK;
    light_data_scope before = enter(data, 0);
    light_status status = data->vtable->prepare_data(data);
    leave(before);
    if (status != LIGHT_OK) return light_fail_in(status, "%s: prepare_data", data->vtable->name);
    return LIGHT_OK;
}

/* While setup runs, what it opens has the stage's negative number: so it can be told from what was there before. */
static void settle(light_datamodule *data, int stage)
{
    bool opened = false;

    for (light_dataset *d = data->datasets; d; d = d->next_owned) opened |= d->stage == -stage;
    if (!opened) return;
    free_datasets(data, stage, false);
    for (light_dataset *d = data->datasets; d; d = d->next_owned) {
        if (d->stage == -stage) d->stage = stage;
    }
}

light_status light_datamodule_setup(light_datamodule *data, light_stage stage)
{
    if (!HOOK(data, setup)) return LIGHT_OK;
    light_data_scope before = enter(data, -(int)stage);
    light_status status = data->vtable->setup(data, stage);
    leave(before);
    if (status != LIGHT_OK) {
        free_datasets(data, -(int)stage, false);
        return light_fail_in(status, "%s: setup", data->vtable->name);
    }
    settle(data, stage);
    return LIGHT_OK;
}

void light_datamodule_teardown(light_datamodule *data, light_stage stage)
{
    if (HOOK(data, teardown)) data->vtable->teardown(data, stage);
}

typedef light_loader *(*loader_hook)(light_datamodule *self);

static loader_hook hook_of(const light_datamodule *data, light_stage which)
{
    switch (which) {
    case LIGHT_STAGE_FIT: return HOOK(data, train_dataloader);
    case LIGHT_STAGE_VALIDATE: return HOOK(data, val_dataloader);
    case LIGHT_STAGE_TEST: return HOOK(data, test_dataloader);
    case LIGHT_STAGE_PREDICT: return HOOK(data, predict_dataloader);
    }
    return NULL;
}

static const char *hook_name(light_stage which)
{
    switch (which) {
    case LIGHT_STAGE_FIT: return "train_dataloader";
    case LIGHT_STAGE_VALIDATE: return "val_dataloader";
    case LIGHT_STAGE_TEST: return "test_dataloader";
    default: return "predict_dataloader";
    }
}

bool light_datamodule_has_loader(const light_datamodule *data, light_stage which)
{
    return hook_of(data, which) != NULL;
}

light_status light_datamodule_loader(light_datamodule *data, light_stage which, light_loader **out)
{
    loader_hook hook = hook_of(data, which);

    *out = NULL;
    if (!hook) return LIGHT_OK;
    light_data_scope before = enter(data, 0);
    /* A hook can only return NULL, for "none" and for a failure alike: a message tells them apart. */
    light_fail(LIGHT_OK, "%s", "");
    *out = hook(data);
    light_status status = leave(before);
    if (*out || (status == LIGHT_OK && light_error_message()[0] == 0)) return LIGHT_OK;
    if (status == LIGHT_OK) status = light_error_status();
    return light_fail_in(status, "%s: %s", data->vtable->name, hook_name(which));
}

light_status light_datamodule_transfer(light_datamodule *data, light_step *s, light_batch *batch)
{
    if (HOOK(data, on_before_batch_transfer))
        LIGHT_TRY(data->vtable->on_before_batch_transfer(data, s, batch));
    if (HOOK(data, transfer_batch_to_device))
        LIGHT_TRY(data->vtable->transfer_batch_to_device(data, s, batch));
    if (HOOK(data, on_after_batch_transfer)) LIGHT_TRY(data->vtable->on_after_batch_transfer(data, s, batch));
    return light_step_status(s);
}

void light_datamodule_on_exception(light_datamodule *data, light_status status)
{
    if (HOOK(data, on_exception)) data->vtable->on_exception(data, status);
}

light_status light_datamodule_save_state(light_datamodule *data, light_state *state)
{
    return HOOK(data, save_state) ? data->vtable->save_state(data, state) : LIGHT_OK;
}

light_status light_datamodule_load_state(light_datamodule *data, const light_state *state)
{
    return HOOK(data, load_state) ? data->vtable->load_state(data, state) : LIGHT_OK;
}
