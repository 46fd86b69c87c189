/* SPDX-License-Identifier: Apache-2.0 */
/* Running a datamodule's hooks: what the trainer calls instead of the vtable. A hook that is not there is fine. While
 * one runs, the datasets opened by its thread become the datamodule's. */
#ifndef LIGHT_DATA_DATAMODULE_H
#define LIGHT_DATA_DATAMODULE_H

#include <light/data.h>

light_status light_datamodule_prepare_data(light_datamodule *data);
light_status light_datamodule_setup(light_datamodule *data, light_stage stage);
void light_datamodule_teardown(light_datamodule *data, light_stage stage);

/* Which *_dataloader hook. FIT is train_dataloader; the other stages are those of their names (VALIDATE: val). */
bool light_datamodule_has_loader(const light_datamodule *data, light_stage which);
/* A new loader (or chain), for the caller to free; *out is NULL without a failure when the datamodule has none. */
light_status light_datamodule_loader(light_datamodule *data, light_stage which, light_loader **out);

/* before, transfer, after. */
light_status light_datamodule_transfer(light_datamodule *data, light_step *s, light_batch *batch);
void light_datamodule_on_exception(light_datamodule *data, light_status status);
light_status light_datamodule_save_state(light_datamodule *data, light_state *state);
light_status light_datamodule_load_state(light_datamodule *data, const light_state *state);

#endif
