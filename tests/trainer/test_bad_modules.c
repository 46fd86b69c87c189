/* SPDX-License-Identifier: Apache-2.0 */
/* Modules, datamodules and checkpoints that do not fit: one clear line each, and nothing is lost or leaked. */
#include "trainer/lab.h"

/* ---- a module that is bad in one way ------------------------------------ */

static light_status bad_init(light_module *self)
{
    return light_linear_init(&((boring *)self)->layer, self, "layer", .in_features = LAB_FEATURES - 1,
                             .out_features = LAB_CLASSES);
}

static light_tensor *vector_step(light_module *self, light_step *s, const light_batch *batch)
{
    return light_forward(s, self, batch->fields[0]);
}

static light_tensor *constant_step(light_module *self, light_step *s, const light_batch *batch)
{
    (void)self, (void)batch;
    return light_full(s, LIGHT_SCALAR, 1, LIGHT_F32);
}

static light_tensor *nan_step(light_module *self, light_step *s, const light_batch *batch)
{
    light_tensor *loss = boring_loss(self, s, batch);
    return batch->index == 3 ? light_sqrt(s, light_neg(s, loss)) : loss;
}

static light_tensor *failing_step(light_module *self, light_step *s, const light_batch *batch)
{
    (void)self;
    return light_step_fail(s, LIGHT_ERR_USER, "batch %d is not to my taste", (int)batch->index);
}

static light_tensor *label_step(light_module *self, light_step *s, const light_batch *batch)
{
    light_tensor *labels = light_full(s, LIGHT_SHAPE(batch->size), 2, LIGHT_I64);
    return light_cross_entropy(s, light_forward(s, self, batch->fields[0]), labels);
}

static light_status no_optimizer(light_module *self, light_optimizers *out)
{
    (void)self, (void)out;
    return LIGHT_OK;
}

static light_status two_optimizers(light_module *self, light_optimizers *out)
{
    LIGHT_TRY(boring_optimizers(self, out));
    return boring_optimizers(self, out);
}

static light_status bad_optimizer(light_module *self, light_optimizers *out)
{
    return light_optimizers_add(out, light_sgd(light_parameters(self), .lr = -1), NULL);
}

static light_status watching_schedule(light_module *self, light_optimizers *out)
{
    return light_optimizers_add(out, light_sgd(light_parameters(self), .lr = 0.1),
                                light_reduce_on_plateau(.monitor = "val_acc"));
}

static light_status failing_init(light_module *self)
{
    (void)self;
    return light_fail(LIGHT_ERR_USER, "no file of words");
}

static light_status fit_of(light_module_vtable vtable, light_trainer_options options)
{
    static light_module_vtable kept[32]; /* modules point at it */
    static int n;
    light_module_vtable *v = &kept[n++ % 32];
    *v = vtable;
    options.default_root_dir = folder;
    if (!options.max_epochs) options.max_epochs = 1;
    options.enable_checkpointing = LIGHT_OFF;
    lab l = lab_new(v, light_trainer_new_with(&options));
    l.data->batch_size = 4;
    light_status status = lab_fit(&l);
    lab_free(&l);
    return status;
}

static light_module_vtable like_boring(void)
{
    return boring_vtable;
}

/* ---- modules ------------------------------------------------------------ */

static void shapes_that_do_not_fit_name_operation_shapes_and_module(void **state)
{
    light_module_vtable v = like_boring();
    (void)state;
    v.init = bad_init;
    assert_fails(fit_of(v, (light_trainer_options){0}), LIGHT_ERR_SHAPE, "layer: linear", "[4, 32]",
                 "[2, 31]");
}

static void a_loss_must_be_a_scalar_that_depends_on_parameters(void **state)
{
    light_module_vtable v = like_boring();
    (void)state;
    v.training_step = vector_step;
    assert_fails(fit_of(v, (light_trainer_options){0}), LIGHT_ERR_SHAPE, "boring.training_step", "[4, 2]",
                 "a scalar is needed");
    v.training_step = constant_step;
    assert_fails(fit_of(v, (light_trainer_options){0}), LIGHT_ERR_ARGUMENT, "boring.training_step",
                 "depends on no parameter");
}

static void a_loss_that_is_nan_stops_where_that_is_asked_for(void **state)
{
    light_module_vtable v = like_boring();
    (void)state;
    v.training_step = nan_step;
    assert_fails(fit_of(v, (light_trainer_options){.detect_anomaly = true}), LIGHT_ERR_NUMERIC, "nan",
                 "epoch 0", "batch 3");
    assert_ok(fit_of(v, (light_trainer_options){0}));
}

static void what_a_step_says_is_what_the_user_reads(void **state)
{
    light_module_vtable v = like_boring();
    (void)state;
    v.training_step = failing_step;
    assert_fails(fit_of(v, (light_trainer_options){0}), LIGHT_ERR_USER, "batch 0 is not to my taste");
    v.training_step = label_step;
    assert_fails(fit_of(v, (light_trainer_options){0}), LIGHT_ERR_ARGUMENT, "cross_entropy", "2");
    v = like_boring();
    v.init = failing_init;
    assert_fails(fit_of(v, (light_trainer_options){0}), LIGHT_ERR_USER, "no file of words");
}

static void hooks_that_are_needed_are_named(void **state)
{
    static const light_module_vtable empty = {LIGHT_MODULE(boring), .init = boring_init};
    light_module_vtable v = like_boring();
    (void)state;
    v.training_step = NULL;
    assert_fails(fit_of(v, (light_trainer_options){0}), LIGHT_ERR_ARGUMENT, "fit needs training_step",
                 "boring");
    v = like_boring();
    v.configure_optimizers = NULL;
    assert_fails(fit_of(v, (light_trainer_options){0}), LIGHT_ERR_ARGUMENT, "fit needs configure_optimizers");
    lab l = lab_new(&empty, light_trainer_new(.default_root_dir = folder));
    assert_fails(lab_validate(&l), LIGHT_ERR_ARGUMENT, "validate needs validation_step");
    assert_fails(lab_run_test(&l), LIGHT_ERR_ARGUMENT, "test needs test_step");
    assert_fails(lab_predict(&l), LIGHT_ERR_ARGUMENT, "predict needs predict_step or forward");
    lab_free(&l);
}

static void optimizers_that_do_not_fit_are_refused(void **state)
{
    light_module_vtable v = like_boring();
    (void)state;
    v.configure_optimizers = two_optimizers;
    assert_fails(fit_of(v, (light_trainer_options){0}), LIGHT_ERR_ARGUMENT, "boring.configure_optimizers",
                 "2 optimizers", "manual_optimization");
    v.configure_optimizers = bad_optimizer;
    assert_fails(fit_of(v, (light_trainer_options){0}), LIGHT_ERR_ARGUMENT, "boring.configure_optimizers",
                 "lr");
    v.configure_optimizers = watching_schedule;
    assert_fails(fit_of(v, (light_trainer_options){0}), LIGHT_ERR_NOT_FOUND, "\"val_acc\"",
                 "has not been logged");
    v.configure_optimizers = no_optimizer;
    lab_listen(LIGHT_MESSAGE_WARNING);
    assert_ok(fit_of(v, (light_trainer_options){0}));
    lab_stop_listening();
    assert_string_equal(lab_messages,
                        "warning: boring.configure_optimizers added no optimizer: nothing will be "
                        "trained\n");
}

static light_tensor *manual_step(light_module *self, light_step *s, const light_batch *batch)
{
    (void)self, (void)batch;
    light_zero_grad(s, light_optimizer_at(s, 1));
    return NULL;
}

static void manual_optimization_does_its_own_accumulation(void **state)
{
    light_module_vtable v = like_boring();
    (void)state;
    v.manual_optimization = true;
    v.training_step = manual_step;
    assert_fails(fit_of(v, (light_trainer_options){.accumulate_grad_batches = 2}), LIGHT_ERR_ARGUMENT,
                 "boring", "accumulate_grad_batches");
    assert_fails(fit_of(v, (light_trainer_options){.gradient_clip_val = 1}), LIGHT_ERR_ARGUMENT,
                 "gradient_clip_val");
    assert_fails(fit_of(v, (light_trainer_options){0}), LIGHT_ERR_ARGUMENT, "optimizer 1 does not exist",
                 "1");
}

static void fit_inside(light_module *self, light_trainer *t)
{
    assert_fails(light_trainer_fit(t, self, light_trainer_datamodule(t)), LIGHT_ERR_STATE, "fit", "running");
}

static void a_trainer_does_one_thing_at_a_time(void **state)
{
    light_module_vtable v = like_boring();
    (void)state;
    v.on_train_start = fit_inside;
    assert_ok(fit_of(v, (light_trainer_options){0}));
}

static void what_could_not_be_made_is_named(void **state)
{
    (void)state;
    lab l = lab_new(&boring_vtable, light_trainer_new(.default_root_dir = folder));
    assert_fails(light_trainer_fit(l.trainer, NULL, &l.data->base), LIGHT_ERR_ARGUMENT, "fit: no module");
    assert_fails(light_trainer_test(l.trainer, l.module, NULL), LIGHT_ERR_ARGUMENT, "test: no datamodule");
    light_trainer *none = light_trainer_new(.accelerator = "abacus");
    assert_null(none);
    assert_fails(light_trainer_fit(none, l.module, &l.data->base), LIGHT_ERR_ARGUMENT, "no trainer",
                 "abacus");
    lab_free(&l);
}

/* ---- data --------------------------------------------------------------- */

static light_loader *several_train(light_datamodule *self)
{
    return light_loader_chain(lab_train(self), lab_train(self));
}

static light_loader *no_train(light_datamodule *self)
{
    (void)self;
    return NULL;
}

static void datamodules_that_do_not_fit_are_refused(void **state)
{
    static const light_datamodule_vtable several = {LIGHT_DATAMODULE(lab_data), .options = lab_data_options,
                                                    .train_dataloader = several_train};
    static const light_datamodule_vtable none = {LIGHT_DATAMODULE(lab_data), .options = lab_data_options,
                                                 .train_dataloader = no_train};
    static const light_datamodule_vtable empty = {LIGHT_DATAMODULE(lab_data), .options = lab_data_options};
    (void)state;
    lab l = lab_new_with(&boring_vtable, &several, light_trainer_new(.default_root_dir = folder));
    assert_fails(lab_fit(&l), LIGHT_ERR_UNSUPPORTED, "lab_data", "several loaders");
    lab_free(&l);
    l = lab_new_with(&boring_vtable, &none, light_trainer_new(.default_root_dir = folder));
    assert_fails(lab_fit(&l), LIGHT_ERR_ARGUMENT, "lab_data", "gave no loader");
    lab_free(&l);
    l = lab_new_with(&boring_vtable, &empty, light_trainer_new(.default_root_dir = folder));
    assert_fails(lab_fit(&l), LIGHT_ERR_ARGUMENT, "fit needs train_dataloader");
    assert_fails(lab_run_test(&l), LIGHT_ERR_ARGUMENT, "test needs test_dataloader");
    lab_free(&l);
    l = lab_new(&boring_vtable, light_trainer_new(.default_root_dir = folder));
    l.data->batch_size = 100;
    l.data->drop_last = true;
    assert_fails(lab_fit(&l), LIGHT_ERR_ARGUMENT, "train_dataloader", "drop_last leaves no batch");
    l.data->batch_size = 0;
    assert_fails(lab_fit(&l), LIGHT_ERR_ARGUMENT, "lab_data", "batch_size");
    lab_free(&l);
}

/* ---- checkpoints of others ---------------------------------------------- */

static light_status other_init(light_module *self)
{
    LIGHT_TRY(light_linear_init(&((boring *)self)->layer, self, "layer", .in_features = LAB_FEATURES,
                                .out_features = LAB_CLASSES + 1));
    light_tensor **slot = light_module_calloc(self, 1, sizeof *slot);
    return slot ? light_add_parameter(self, slot, "extra", LIGHT_SHAPE(3), LIGHT_INIT_ZEROS)
                : LIGHT_ERR_MEMORY;
}

static void a_checkpoint_of_another_model_changes_nothing(void **state)
{
    static light_module_vtable other;
    float before[LAB_CLASSES + 1], after[LAB_CLASSES + 1];
    (void)state;
    lab l = lab_new(&boring_vtable, light_trainer_new(.default_root_dir = folder, .max_epochs = 1));
    assert_ok(lab_fit(&l));
    assert_ok(light_trainer_save_checkpoint(l.trainer, at("other/one")));
    lab_free(&l);
    other = boring_vtable;
    other.init = other_init;
    l = lab_new(&other, light_trainer_new(.default_root_dir = folder, .max_epochs = 2));
    assert_ok(light_module_build(l.module, 1));
    assert_ok(light_tensor_read(((boring *)l.module)->layer.bias, LIGHT_F32, before, sizeof before));
    assert_fails(lab_fit(&l, .ckpt_path = at("other/one")), LIGHT_ERR_FORMAT, at("other/one"), "missing",
                 "extra", "layer.weight", "[2, 32]", "[3, 32]");
    assert_ok(light_tensor_read(((boring *)l.module)->layer.bias, LIGHT_F32, after, sizeof after));
    assert_memory_equal(before, after, sizeof before);
    lab_free(&l);
}

/* ---- out of memory ------------------------------------------------------ */

static void running_out_of_memory_anywhere_is_one_clear_failure(void **state)
{
    uint64_t calls = 0;
    int failures = 0;
    (void)state;
    for (uint64_t n = 0; n == 0 || n <= calls; n += n < 200 ? 1 : 17) {
        lab l =
            lab_new(&boring_vtable,
                    light_trainer_new(.default_root_dir = folder, .max_epochs = 1, .limit_train_batches = "2",
                                      .limit_val_batches = "1", .log_every_n_steps = 1,
                                      .callbacks = {light_model_checkpoint(.dirpath = at("m"))}));
        uint64_t before = light_memory_count().calls;
        light_memory_fail_nth((int64_t)n);
        light_status status = lab_fit(&l);
        light_memory_fail_nth(0);
        if (n == 0) {
            assert_int_equal(status, LIGHT_OK);
            calls = light_memory_count().calls - before;
        }
        /* A checkpoint or a row that could not be written costs a warning. */
        if (status != LIGHT_OK) {
            if (!strstr(light_error_message(), "out of memory")) /* hooks that return NULL lose the status */
                fail_msg("allocation %d of %d: status %d, %s", (int)n, (int)calls, status,
                         light_error_message());
            failures++;
        }
        /* The trainer is as good as before, a module that was built halfway is not. */
        if (lab_fit(&l) != LIGHT_OK && !strstr(light_error_message(), "building it has failed before"))
            fail_msg("after allocation %d failed: %s", (int)n, light_error_message());
        lab_free(&l);
    }
    assert_true(failures > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        lab_test(shapes_that_do_not_fit_name_operation_shapes_and_module),
        lab_test(a_loss_must_be_a_scalar_that_depends_on_parameters),
        lab_test(a_loss_that_is_nan_stops_where_that_is_asked_for),
        lab_test(what_a_step_says_is_what_the_user_reads),
        lab_test(hooks_that_are_needed_are_named),
        lab_test(optimizers_that_do_not_fit_are_refused),
        lab_test(manual_optimization_does_its_own_accumulation),
        lab_test(a_trainer_does_one_thing_at_a_time),
        lab_test(what_could_not_be_made_is_named),
        lab_test(datamodules_that_do_not_fit_are_refused),
        lab_test(a_checkpoint_of_another_model_changes_nothing),
        lab_test(running_out_of_memory_anywhere_is_one_clear_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
