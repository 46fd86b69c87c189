/* SPDX-License-Identifier: Apache-2.0 */
/* No command line: the trainer is embedded in a host program that owns main, brings a callback of its own, and goes on
 * where it was when it is started again. Module and datamodule are those of ../fashion_mnist. */
#include <light/light.h>
#include <stdio.h>

extern const light_module_vtable convnet_vtable; /* fashion_mnist.c */
extern const light_datamodule_vtable fashion_vtable;

/* A callback overrides the hooks it wants and leaves the rest zero. */
typedef struct {
    light_callback base;
    double best;
    int patience, bad_epochs;
} plateau_stop;

static void plateau_on_validation_end(light_callback *self, light_trainer *t)
{
    plateau_stop *p = (plateau_stop *)self;
    double acc;
    if (!light_trainer_metric(t, "val_acc", &acc)) return;
    if (acc > p->best) {
        p->best = acc;
        p->bad_epochs = 0;
    } else if (++p->bad_epochs >= p->patience)
        light_trainer_stop(t, "val_acc has not improved");
}

/* What a callback saves comes back on resume: one named field at a time, into
 * the checkpoint's own group for this callback. */
static light_status plateau_save(light_callback *self, light_state *state)
{
    plateau_stop *p = (plateau_stop *)self;
    LIGHT_TRY(light_state_put(state, "best", p->best));
    return light_state_put(state, "bad_epochs", p->bad_epochs);
}

static light_status plateau_load(light_callback *self, const light_state *state)
{
    plateau_stop *p = (plateau_stop *)self;
    LIGHT_TRY(light_state_get(state, "best", &p->best));
    return light_state_get(state, "bad_epochs", &p->bad_epochs);
}

static const light_callback_vtable plateau_vtable = {
    LIGHT_CALLBACK(plateau_stop),
    .on_validation_end = plateau_on_validation_end,
    .save_state = plateau_save,
    .load_state = plateau_load,
};

int main(void)
{
    plateau_stop stop = {.base.vtable = &plateau_vtable, .patience = 3};

    light_module *model = light_module_new(&convnet_vtable);
    light_datamodule *data = light_datamodule_new(&fashion_vtable);
    light_trainer *trainer = light_trainer_new(.accelerator = "auto", .precision = "bf16-mixed",
                                               .max_epochs = 20, .gradient_clip_val = 1.0,
                                               .callbacks = {
                                                   light_model_checkpoint(.monitor = "val_acc", .mode = "max",
                                                                          .save_top_k = 2, .save_last = true),
                                                   &stop.base,
                                               });

    light_status status = light_trainer_fit(trainer, model, data, .ckpt_path = "last-if-any");
    if (status == LIGHT_OK) status = light_trainer_test(trainer, model, data, .ckpt_path = "best");
    if (status != LIGHT_OK) fprintf(stderr, "training stopped: %s\n", light_error_message());

    light_trainer_free(trainer);
    light_datamodule_free(data);
    light_module_free(model);
    return status == LIGHT_OK ? 0 : 1;
}
