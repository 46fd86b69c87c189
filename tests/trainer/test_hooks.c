/* SPDX-License-Identifier: Apache-2.0 */
/* The order in which hooks are called. "C" is a callback, "W" one that watches metrics, "M" the module, "D" the
 * datamodule. */
#include "trainer/lab.h"

static char calls[1 << 14];

static void record(char who, const char *hook, const char *more)
{
    size_t used = strlen(calls);
    snprintf(calls + used, sizeof calls - used, "%c %s%s\n", who, hook, more);
}

static const char *stage_of(light_stage stage)
{
    static const char *const names[] = {"", " fit", " validate", " test", " predict"};
    return names[stage];
}

static const char *batch_of(const light_batch *batch)
{
    static char text[4][48];
    static int next;
    next = (next + 1) % 4;
    snprintf(text[next], sizeof *text, " %d", (int)batch->index);
    return text[next];
}

/* ---- who records -------------------------------------------------------- */

/* clang-format off */
#define MOMENTS(X) \
    X(on_fit_start) X(on_fit_end) X(on_train_start) X(on_train_end) X(on_train_epoch_start) \
    X(on_train_epoch_end) X(on_validation_start) X(on_validation_end) X(on_validation_epoch_start) \
    X(on_validation_epoch_end) X(on_test_start) X(on_test_end) X(on_test_epoch_start) \
    X(on_test_epoch_end) X(on_predict_start) X(on_predict_end) X(on_predict_epoch_start) \
    X(on_predict_epoch_end) X(on_before_zero_grad) X(on_after_backward) X(on_before_optimizer_step)
#define BATCH_MOMENTS(X) \
    X(on_train_batch_end) X(on_validation_batch_start) X(on_validation_batch_end) X(on_test_batch_start) \
    X(on_test_batch_end) X(on_predict_batch_start)
/* clang-format on */

typedef struct recorder {
    light_callback base;
    char who;
} recorder;

#define X(hook)                                                                                              \
    static void callback_##hook(light_callback *self, light_trainer *t)                                      \
    {                                                                                                        \
        (void)t;                                                                                             \
        record(((recorder *)self)->who, #hook, "");                                                          \
    }                                                                                                        \
    static void module_##hook(light_module *self, light_trainer *t)                                          \
    {                                                                                                        \
        (void)self, (void)t;                                                                                 \
        record('M', #hook, "");                                                                              \
    }
MOMENTS(X)
#undef X
#define X(hook)                                                                                              \
    static void callback_##hook(light_callback *self, light_trainer *t, const light_batch *batch)            \
    {                                                                                                        \
        (void)t;                                                                                             \
        record(((recorder *)self)->who, #hook, batch_of(batch));                                             \
    }                                                                                                        \
    static void module_##hook(light_module *self, light_trainer *t, const light_batch *batch)                \
    {                                                                                                        \
        (void)self, (void)t;                                                                                 \
        record('M', #hook, batch_of(batch));                                                                 \
    }
BATCH_MOMENTS(X)
#undef X

static light_status callback_setup(light_callback *self, light_trainer *t, light_stage stage)
{
    (void)t;
    record(((recorder *)self)->who, "setup", stage_of(stage));
    return LIGHT_OK;
}

static void callback_teardown(light_callback *self, light_trainer *t, light_stage stage)
{
    (void)t;
    record(((recorder *)self)->who, "teardown", stage_of(stage));
}

static void callback_on_train_batch_start(light_callback *self, light_trainer *t, const light_batch *batch)
{
    (void)t;
    record(((recorder *)self)->who, "on_train_batch_start", batch_of(batch));
}

static void callback_on_predict_batch_end(light_callback *self, light_trainer *t, const light_batch *batch,
                                          light_tensor *prediction)
{
    (void)t;
    assert_int_equal(light_dim(prediction, 0), batch->size);
    record(((recorder *)self)->who, "on_predict_batch_end", batch_of(batch));
}

static void callback_on_before_backward(light_callback *self, light_trainer *t, light_tensor *loss)
{
    (void)t;
    assert_int_equal(light_numel(loss), 1);
    record(((recorder *)self)->who, "on_before_backward", "");
}

static void callback_on_sanity_check_start(light_callback *self, light_trainer *t)
{
    assert_true(light_trainer_sanity_checking(t));
    record(((recorder *)self)->who, "on_sanity_check_start", "");
}

static void callback_on_sanity_check_end(light_callback *self, light_trainer *t)
{
    (void)t;
    record(((recorder *)self)->who, "on_sanity_check_end", "");
}

static void callback_on_exception(light_callback *self, light_trainer *t, light_status status)
{
    (void)t;
    assert_int_equal(status, LIGHT_ERR_USER);
    record(((recorder *)self)->who, "on_exception", "");
}

static light_status callback_save_state(light_callback *self, light_state *state)
{
    record(((recorder *)self)->who, "save_state", "");
    return light_state_put(state, "kept", 5);
}

static light_status callback_load_state(light_callback *self, const light_state *state)
{
    int kept;
    LIGHT_TRY(light_state_get(state, "kept", &kept));
    assert_int_equal(kept, 5);
    record(((recorder *)self)->who, "load_state", "");
    return LIGHT_OK;
}

#define X(hook) .hook = callback_##hook,
static const light_callback_vtable recorder_vtable = {LIGHT_CALLBACK(recorder),
                                                      .setup = callback_setup,
                                                      .teardown = callback_teardown,
                                                      .on_train_batch_start = callback_on_train_batch_start,
                                                      .on_predict_batch_end = callback_on_predict_batch_end,
                                                      .on_before_backward = callback_on_before_backward,
                                                      .on_sanity_check_start = callback_on_sanity_check_start,
                                                      .on_sanity_check_end = callback_on_sanity_check_end,
                                                      .on_exception = callback_on_exception,
                                                      .save_state = callback_save_state,
                                                      .load_state = callback_load_state,
                                                      MOMENTS(X) BATCH_MOMENTS(X)};
#undef X

static const light_callback_vtable watcher_vtable = {
    LIGHT_CALLBACK(recorder),
    .watches_metrics = true,
    .on_train_epoch_end = callback_on_train_epoch_end,
};

/* ---- the module --------------------------------------------------------- */

static bool fails;

static void module_setup(light_module *self, light_trainer *t, light_stage stage)
{
    (void)self, (void)t;
    record('M', "setup", stage_of(stage));
}

static void module_teardown(light_module *self, light_trainer *t, light_stage stage)
{
    (void)self, (void)t;
    record('M', "teardown", stage_of(stage));
}

static bool module_on_train_batch_start(light_module *self, light_trainer *t, const light_batch *batch)
{
    (void)self, (void)t;
    record('M', "on_train_batch_start", batch_of(batch));
    return true;
}

static void module_on_predict_batch_end(light_module *self, light_trainer *t, const light_batch *batch)
{
    (void)self, (void)t;
    record('M', "on_predict_batch_end", batch_of(batch));
}

static void module_on_before_backward(light_module *self, light_trainer *t, light_tensor *loss)
{
    (void)self, (void)t, (void)loss;
    record('M', "on_before_backward", "");
}

static light_status module_configure_gradient_clipping(light_module *self, light_trainer *t)
{
    (void)self, (void)t;
    record('M', "configure_gradient_clipping", "");
    return LIGHT_OK;
}

static light_status module_configure_optimizers(light_module *self, light_optimizers *out)
{
    record('M', "configure_optimizers", "");
    return boring_optimizers(self, out);
}

static light_tensor *module_training_step(light_module *self, light_step *s, const light_batch *batch)
{
    record('M', "training_step", batch_of(batch));
    assert_true(self->training);
    if (fails) return light_step_fail(s, LIGHT_ERR_USER, "the step says no");
    return boring_training_step(self, s, batch);
}

static light_tensor *manual_training_step(light_module *self, light_step *s, const light_batch *batch)
{
    light_optimizer *optimizer = light_optimizer_at(s, 0);
    record('M', "training_step", batch_of(batch));
    light_zero_grad(s, optimizer);
    light_manual_backward(s, boring_loss(self, s, batch));
    light_optimizer_step(s, optimizer);
    return NULL;
}

static void module_validation_step(light_module *self, light_step *s, const light_batch *batch)
{
    record('M', "validation_step", batch_of(batch));
    assert_false(self->training);
    boring_validation_step(self, s, batch);
}

static void module_test_step(light_module *self, light_step *s, const light_batch *batch)
{
    record('M', "test_step", batch_of(batch));
    boring_test_step(self, s, batch);
}

static light_tensor *module_predict_step(light_module *self, light_step *s, const light_batch *batch)
{
    record('M', "predict_step", batch_of(batch));
    return light_forward(s, self, batch->fields[0]);
}

static light_status module_save_state(light_module *self, light_state *state)
{
    (void)self;
    record('M', "save_state", "");
    return light_state_put(state, "own", 3);
}

static light_status module_load_state(light_module *self, const light_state *state)
{
    int own;
    (void)self;
    LIGHT_TRY(light_state_get(state, "own", &own));
    assert_int_equal(own, 3);
    record('M', "load_state", "");
    return LIGHT_OK;
}

#define X(hook) .hook = module_##hook,
#define MODULE_HOOKS                                                                                         \
    .init = boring_init, .forward = boring_forward, .setup = module_setup, .teardown = module_teardown,      \
    .on_train_batch_start = module_on_train_batch_start,                                                     \
    .on_predict_batch_end = module_on_predict_batch_end, .on_before_backward = module_on_before_backward,    \
    .configure_optimizers = module_configure_optimizers, .validation_step = module_validation_step,          \
    .test_step = module_test_step, .predict_step = module_predict_step, .save_state = module_save_state,     \
    .load_state = module_load_state, MOMENTS(X) BATCH_MOMENTS(X)
static const light_module_vtable recording_vtable = {
    LIGHT_MODULE(boring),
    MODULE_HOOKS.training_step = module_training_step,
    .configure_gradient_clipping = module_configure_gradient_clipping,
};
static const light_module_vtable manual_vtable = {
    LIGHT_MODULE(boring),
    MODULE_HOOKS.training_step = manual_training_step,
    .manual_optimization = true,
};
#undef X

/* ---- the datamodule ----------------------------------------------------- */

static light_status data_prepare(light_datamodule *self)
{
    (void)self;
    record('D', "prepare_data", "");
    return LIGHT_OK;
}

static light_status data_setup(light_datamodule *self, light_stage stage)
{
    (void)self;
    record('D', "setup", stage_of(stage));
    return LIGHT_OK;
}

static void data_teardown(light_datamodule *self, light_stage stage)
{
    (void)self;
    record('D', "teardown", stage_of(stage));
}

static light_loader *data_train(light_datamodule *self)
{
    record('D', "train_dataloader", "");
    return lab_train(self);
}

static light_loader *data_val(light_datamodule *self)
{
    record('D', "val_dataloader", "");
    return lab_val(self);
}

static light_loader *data_test(light_datamodule *self)
{
    record('D', "test_dataloader", "");
    return lab_test_loader(self);
}

static light_loader *data_predict(light_datamodule *self)
{
    record('D', "predict_dataloader", "");
    return lab_test_loader(self);
}

#define X(hook)                                                                                              \
    static light_status data_##hook(light_datamodule *self, light_step *s, light_batch *batch)               \
    {                                                                                                        \
        (void)self, (void)s, (void)batch;                                                                    \
        record('D', #hook, "");                                                                              \
        return LIGHT_OK;                                                                                     \
    }
X(on_before_batch_transfer)
X(transfer_batch_to_device)
X(on_after_batch_transfer)
#undef X

static void data_on_exception(light_datamodule *self, light_status status)
{
    (void)self, (void)status;
    record('D', "on_exception", "");
}

static light_status data_save_state(light_datamodule *self, light_state *state)
{
    (void)self;
    record('D', "save_state", "");
    return light_state_put(state, "page", 4);
}

static light_status data_load_state(light_datamodule *self, const light_state *state)
{
    int page;
    (void)self;
    LIGHT_TRY(light_state_get(state, "page", &page));
    assert_int_equal(page, 4);
    record('D', "load_state", "");
    return LIGHT_OK;
}

static const light_datamodule_vtable recording_data = {
    LIGHT_DATAMODULE(lab_data),
    .options = lab_data_options,
    .prepare_data = data_prepare,
    .setup = data_setup,
    .teardown = data_teardown,
    .train_dataloader = data_train,
    .val_dataloader = data_val,
    .test_dataloader = data_test,
    .predict_dataloader = data_predict,
    .on_before_batch_transfer = data_on_before_batch_transfer,
    .transfer_batch_to_device = data_transfer_batch_to_device,
    .on_after_batch_transfer = data_on_after_batch_transfer,
    .on_exception = data_on_exception,
    .save_state = data_save_state,
    .load_state = data_load_state,
};

/* ---- what is expected --------------------------------------------------- */

static char expected[1 << 14];

static void expect(const char *lines)
{
    size_t used = strlen(expected);
    snprintf(expected + used, sizeof expected - used, "%s", lines);
}

/* A hook of callback and module. */
static void expect_both(const char *hook)
{
    char lines[300];
    snprintf(lines, sizeof lines, "C %s\nM %s\n", hook, hook);
    expect(lines);
}

static void expect_numbered(const char *format, int i)
{
    char hook[64];
    snprintf(hook, sizeof hook, format, i);
    expect_both(hook);
}

static void expect_transfer(void)
{
    expect("D on_before_batch_transfer\nD transfer_batch_to_device\nD on_after_batch_transfer\n");
}

static void expect_evaluation(const char *stage, const char *loader, int batches)
{
    char text[128];
    if (loader) expect(loader);
    snprintf(text, sizeof text, "on_%s_start", stage);
    expect_both(text);
    snprintf(text, sizeof text, "on_%s_epoch_start", stage);
    expect_both(text);
    for (int i = 0; i < batches; i++) {
        expect_transfer();
        snprintf(text, sizeof text, "on_%s_batch_start %d", stage, i);
        expect_both(text);
        snprintf(text, sizeof text, "M %s_step %d\n", stage, i);
        expect(text);
        snprintf(text, sizeof text, "on_%s_batch_end %d", stage, i);
        expect_both(text);
    }
    snprintf(text, sizeof text, "on_%s_epoch_end", stage);
    expect_both(text);
    snprintf(text, sizeof text, "on_%s_end", stage);
    expect_both(text);
}

static void expect_train_batch(int i, bool manual)
{
    char text[64];
    expect_transfer();
    expect_numbered("on_train_batch_start %d", i);
    snprintf(text, sizeof text, "M training_step %d\n", i);
    expect(text);
    expect_both("on_before_zero_grad");
    expect_both("on_before_backward");
    expect_both("on_after_backward");
    expect_both("on_before_optimizer_step");
    if (!manual) expect("M configure_gradient_clipping\n");
    expect_numbered("on_train_batch_end %d", i);
}

static void expect_fit_setup(void)
{
    expect("D prepare_data\nD setup fit\nC setup fit\nM setup fit\n"
           "D train_dataloader\nM configure_optimizers\n");
}

static void expect_epoch_end(void)
{
    expect("C on_train_epoch_end\nM on_train_epoch_end\nW on_train_epoch_end\n");
}

static void expect_fit_end(void)
{
    expect_both("on_train_end");
    expect_both("on_fit_end");
    expect("D teardown fit\nC teardown fit\nM teardown fit\n");
}

static void compare(void)
{
    const char *a = calls, *b = expected;
    for (int line = 1; *a || *b; line++) {
        size_t n = strcspn(a, "\n"), m = strcspn(b, "\n");
        if (n != m || strncmp(a, b, n))
            fail_msg("call %d is \"%.*s\", \"%.*s\" was expected; all calls:\n%s", line, (int)n, a, (int)m, b,
                     calls);
        a += n + (a[n] != 0);
        b += m + (b[m] != 0);
    }
    calls[0] = expected[0] = '\0';
}

static recorder first, watcher;

static lab recording(const light_module_vtable *module, light_trainer_options options)
{
    calls[0] = expected[0] = '\0';
    fails = false;
    first = (recorder){.base.vtable = &recorder_vtable, .who = 'C'};
    watcher = (recorder){.base.vtable = &watcher_vtable, .who = 'W'};
    options.default_root_dir = folder;
    options.enable_checkpointing = LIGHT_OFF;
    options.callbacks[0] = &watcher.base;
    options.callbacks[1] = &first.base;
    lab l = {.module = light_module_new(module),
             .data = (lab_data *)light_datamodule_new(&recording_data),
             .trainer = light_trainer_new_with(&options)};
    if (!l.trainer) fail_msg("%s", light_error_message());
    l.data->train_samples = l.data->val_samples = l.data->test_samples = 2;
    return l;
}

/* ---- tests -------------------------------------------------------------- */

static void check_fit(const light_module_vtable *module, bool manual)
{
    lab l = recording(module, (light_trainer_options){.max_epochs = 1});
    assert_ok(lab_fit(&l));
    expect_fit_setup();
    expect_both("on_fit_start");
    expect("C on_sanity_check_start\n");
    expect_evaluation("validation", "D val_dataloader\n", 2);
    expect("C on_sanity_check_end\n");
    expect_both("on_train_start");
    expect_both("on_train_epoch_start");
    for (int i = 0; i < 2; i++) expect_train_batch(i, manual);
    expect_evaluation("validation", NULL, 2);
    expect_epoch_end();
    expect_fit_end();
    compare();
    lab_free(&l);
}

static void fit_calls_hooks_in_lightnings_order(void **state)
{
    (void)state;
    check_fit(&recording_vtable, false);
}

static void fit_with_manual_optimization_calls_the_same_hooks(void **state)
{
    (void)state;
    check_fit(&manual_vtable, true);
}

static void fit_accumulates_without_the_optimizers_hooks(void **state)
{
    (void)state;
    lab l = recording(
        &recording_vtable,
        (light_trainer_options){.max_epochs = 1, .accumulate_grad_batches = 2, .limit_val_batches = "0"});
    assert_ok(lab_fit(&l));
    expect_fit_setup();
    expect_both("on_fit_start");
    expect_both("on_train_start");
    expect_both("on_train_epoch_start");
    expect_transfer();
    expect_both("on_train_batch_start 0");
    expect("M training_step 0\n");
    expect_both("on_before_zero_grad");
    expect_both("on_before_backward");
    expect_both("on_after_backward");
    expect_both("on_train_batch_end 0");
    expect_transfer();
    expect_both("on_train_batch_start 1");
    expect("M training_step 1\n");
    expect_both("on_before_backward");
    expect_both("on_after_backward");
    expect_both("on_before_optimizer_step");
    expect("M configure_gradient_clipping\n");
    expect_both("on_train_batch_end 1");
    expect_epoch_end();
    expect_fit_end();
    compare();
    lab_free(&l);
}

static void fit_with_no_batches_calls_no_training_hooks(void **state)
{
    (void)state;
    lab l = recording(
        &recording_vtable,
        (light_trainer_options){.max_epochs = 1, .limit_train_batches = "0", .limit_val_batches = "0"});
    assert_ok(lab_fit(&l));
    expect_fit_setup();
    expect_both("on_fit_start");
    expect_both("on_fit_end");
    expect("D teardown fit\nC teardown fit\nM teardown fit\n");
    compare();
    assert_int_equal(light_trainer_current_epoch(l.trainer), 0);
    assert_int_equal(light_trainer_global_step(l.trainer), 0);
    lab_free(&l);
}

static void validate_test_and_predict_call_their_hooks(void **state)
{
    (void)state;
    lab l = recording(&recording_vtable, (light_trainer_options){0});
    assert_ok(lab_validate(&l, .quiet = true));
    expect("D prepare_data\nD setup validate\nC setup validate\nM setup validate\n");
    expect_evaluation("validation", "D val_dataloader\n", 2);
    expect("D teardown validate\nC teardown validate\nM teardown validate\n");
    compare();
    assert_ok(lab_run_test(&l, .quiet = true));
    expect("D prepare_data\nD setup test\nC setup test\nM setup test\n");
    expect_evaluation("test", "D test_dataloader\n", 2);
    expect("D teardown test\nC teardown test\nM teardown test\n");
    compare();
    assert_ok(lab_predict(&l));
    expect("D prepare_data\nD setup predict\nC setup predict\nM setup predict\n");
    expect_evaluation("predict", "D predict_dataloader\n", 2);
    expect("D teardown predict\nC teardown predict\nM teardown predict\n");
    compare();
    lab_free(&l);
}

static void evaluation_with_no_batches_calls_setup_and_teardown_only(void **state)
{
    (void)state;
    lab l = recording(&recording_vtable, (light_trainer_options){.limit_val_batches = "0",
                                                                 .limit_test_batches = "0",
                                                                 .limit_predict_batches = "0"});
    assert_ok(lab_validate(&l, .quiet = true));
    assert_ok(lab_run_test(&l, .quiet = true));
    assert_ok(lab_predict(&l));
    static const char *const stages[] = {"validate", "test", "predict"};
    for (int i = 0; i < 3; i++) {
        char text[256];
        const char *s = stages[i];
        snprintf(
            text, sizeof text,
            "D prepare_data\nD setup %s\nC setup %s\nM setup %s\nD teardown %s\nC teardown %s\nM teardown %s\n",
            s, s, s, s, s, s);
        expect(text);
    }
    compare();
    lab_free(&l);
}

static void fit_that_goes_on_after_an_epoch_has_no_sanity_check(void **state)
{
    (void)state;
    lab l = recording(&recording_vtable, (light_trainer_options){.max_epochs = 1});
    assert_ok(lab_fit(&l));
    calls[0] = '\0';
    assert_ok(light_trainer_save_checkpoint(l.trainer, at("one")));
    expect("M save_state\nC save_state\nD save_state\n");
    compare();
    lab_free(&l);

    l = recording(&recording_vtable, (light_trainer_options){.max_epochs = 2, .limit_val_batches = "0"});
    assert_ok(lab_fit(&l, .ckpt_path = at("one")));
    expect_fit_setup();
    expect("M load_state\nD load_state\nC load_state\n");
    expect_both("on_fit_start");
    expect_both("on_train_start");
    expect_both("on_train_epoch_start");
    for (int i = 0; i < 2; i++) expect_train_batch(i, false);
    expect_epoch_end();
    expect_fit_end();
    compare();
    assert_int_equal(light_trainer_current_epoch(l.trainer), 2);
    assert_int_equal(light_trainer_global_step(l.trainer), 4);
    lab_free(&l);
}

static void fit_that_goes_on_inside_an_epoch_does_not_start_it_again(void **state)
{
    (void)state;
    light_callback *checkpoints = light_model_checkpoint(.dirpath = at("steps"), .every_n_train_steps = 1,
                                                         .monitor = "", .save_top_k = -1);
    lab l = recording(&recording_vtable, (light_trainer_options){.max_steps = 2,
                                                                 .limit_val_batches = "0",
                                                                 .callbacks = {NULL, NULL, checkpoints}});
    assert_ok(lab_fit(&l));
    lab_free(&l);

    l = recording(&recording_vtable, (light_trainer_options){.max_steps = 3, .limit_val_batches = "0"});
    assert_ok(lab_fit(&l, .ckpt_path = at("steps/epoch=0-step=1")));
    expect_fit_setup();
    expect("M load_state\nD load_state\nC load_state\n");
    expect_both("on_fit_start");
    expect_both("on_train_start");
    expect_train_batch(1, false);
    expect_epoch_end();
    expect_both("on_train_epoch_start");
    expect_train_batch(0, false);
    expect_epoch_end();
    expect_fit_end();
    compare();
    assert_int_equal(light_trainer_global_step(l.trainer), 3);
    lab_free(&l);
}

static void a_failure_tells_everyone_and_tears_down(void **state)
{
    (void)state;
    lab l = recording(&recording_vtable, (light_trainer_options){.max_epochs = 1, .limit_val_batches = "0"});
    fails = true;
    assert_fails(lab_fit(&l), LIGHT_ERR_USER, "the step says no");
    expect_fit_setup();
    expect_both("on_fit_start");
    expect_both("on_train_start");
    expect_both("on_train_epoch_start");
    expect_transfer();
    expect_both("on_train_batch_start 0");
    expect("M training_step 0\nC on_exception\nD on_exception\n"
           "D teardown fit\nC teardown fit\nM teardown fit\n");
    compare();
    lab_free(&l);
}

/* The module's setup is not reached, so nobody is torn down. */
static void a_run_that_cannot_begin_is_not_torn_down(void **state)
{
    static const light_module_vtable empty = {LIGHT_MODULE(boring), .init = boring_init};
    (void)state;
    lab l = recording(&empty, (light_trainer_options){.max_epochs = 1});
    first.base.vtable = &watcher_vtable; /* no on_exception, which expects another status */
    light_trainer_free(l.trainer);
    l.trainer = light_trainer_new(.default_root_dir = folder, .callbacks = {&watcher.base});
    assert_fails(lab_fit(&l), LIGHT_ERR_ARGUMENT, "fit", "configure_optimizers");
    expect("D on_exception\n");
    compare();
    lab_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        lab_test(fit_calls_hooks_in_lightnings_order),
        lab_test(fit_with_manual_optimization_calls_the_same_hooks),
        lab_test(fit_accumulates_without_the_optimizers_hooks),
        lab_test(fit_with_no_batches_calls_no_training_hooks),
        lab_test(validate_test_and_predict_call_their_hooks),
        lab_test(evaluation_with_no_batches_calls_setup_and_teardown_only),
        lab_test(fit_that_goes_on_after_an_epoch_has_no_sanity_check),
        lab_test(fit_that_goes_on_inside_an_epoch_does_not_start_it_again),
        lab_test(a_failure_tells_everyone_and_tears_down),
        lab_test(a_run_that_cannot_begin_is_not_torn_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
