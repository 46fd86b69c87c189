/* SPDX-License-Identifier: Apache-2.0 */
/* Training on the device: how often the host waits in a step, and steps that are launched as graphs, which must be the
 * steps that they were recorded from. */
#include "trainer/lab.h"

#include "tensor/device.h"

static light_device *cuda(void)
{
    light_device *device;
    assert_ok(light_device_get("cuda", &device));
    return device;
}

/* ---- a record by itself ------------------------------------------------------- */

enum { SIDE = 3, WIDE = 64 };

/* n x n numbers on the device, element i is i. */
static light_tensor *square(int64_t n)
{
    light_tensor *t;
    float numbers[WIDE * WIDE];
    for (int i = 0; i < n * n; i++) numbers[i] = (float)i;
    assert_ok(light_tensor_new(&t, LIGHT_SHAPE(n, n), LIGHT_F32, cuda()));
    assert_ok(light_tensor_write(t, LIGHT_F32, numbers, sizeof *numbers * (size_t)(n * n)));
    return t;
}

/* y = x x. With `apart`, x is taken to be its every other column, twice: no matrix for a library, so that it goes through
 * work memory. */
static light_status multiply(light_tensor *y, light_tensor *x, bool apart)
{
    light_tensor view = *x, result = *y;
    if (apart) {
        light_tensor_set_shape(&view, LIGHT_SHAPE(x->shape[0] / 2, x->shape[1] / 2));
        view.strides[0] = 2 * x->shape[1], view.strides[1] = 2;
        light_tensor_refresh(&view);
        light_tensor_set_shape(&result, light_shape_of(&view));
    }
    light_kernel_args args = {.device = cuda(), .in = {&view, &view}, .out = {&result}};
    return cuda()->backend->kernels[LIGHT_KERNEL_MATMUL](&args);
}

static void *recorded(light_tensor *y, light_tensor *x, bool apart)
{
    void *graph;
    assert_ok(cuda()->backend->graph_begin(cuda()));
    assert_ok(multiply(y, x, apart));
    assert_ok(cuda()->backend->graph_end(cuda(), &graph));
    return graph;
}

/* The first product of the program and of its shape; no test before has made one. */
static void the_first_product_may_be_recorded(void **state)
{
    static const float product[SIDE * SIDE] = {15, 18, 21, 42, 54, 66, 69, 90, 111};
    float have[SIDE * SIDE];
    light_tensor *x = square(SIDE), *y = square(SIDE);
    (void)state;
    void *graph = recorded(y, x, false);
    assert_ok(cuda()->backend->graph_launch(cuda(), graph, 0, NULL, 0));
    assert_ok(light_tensor_read(y, LIGHT_F32, have, sizeof have));
    assert_memory_equal(have, product, sizeof have);
    cuda()->backend->graph_free(cuda(), graph);
    light_tensor_free(x);
    light_tensor_free(y);
}

/* Work memory that grows does not take from graphs what they were recorded with. */
static void graphs_keep_their_work_memory(void **state)
{
    static const float product[4] = {16, 20, 80, 116}; /* {{0, 2}, {8, 10}} squared */
    float have[4] = {0};
    light_tensor *x = square(4), *y = square(2), *wide = square(WIDE);
    (void)state;
    assert_ok(multiply(y, x, true));
    void *graph = recorded(y, x, true);
    assert_ok(multiply(wide, wide, true)); /* takes more */
    assert_ok(light_tensor_write(y, LIGHT_F32, have, sizeof have));
    assert_ok(cuda()->backend->graph_launch(cuda(), graph, 0, NULL, 0));
    assert_ok(light_tensor_read(y, LIGHT_F32, have, sizeof have));
    assert_memory_equal(have, product, sizeof have);
    cuda()->backend->graph_free(cuda(), graph);
    light_tensor_free(x);
    light_tensor_free(y);
    light_tensor_free(wide);
}

/* ---- a model with everything that changes from step to step ------------------ */

typedef struct model {
    light_module base;
    light_linear in, out;
    light_dropout_layer drop;
    int calls;  /* of training_step */
    bool peeks; /* training_step reads its loss */
} model;

static light_status model_init(light_module *self)
{
    model *m = (model *)self;
    LIGHT_TRY(light_linear_init(&m->in, self, "in", .in_features = LAB_FEATURES, .out_features = 16));
    LIGHT_TRY(light_dropout_layer_init(&m->drop, self, "drop", .p = 0.25));
    return light_linear_init(&m->out, self, "out", .in_features = 16, .out_features = LAB_CLASSES);
}

static light_tensor *model_forward(light_module *self, light_step *s, light_tensor *x)
{
    model *m = (model *)self;
    x = light_forward(s, &m->drop.base, light_relu(s, light_forward(s, &m->in.base, x)));
    return light_forward(s, &m->out.base, x);
}

static light_tensor *model_training_step(light_module *self, light_step *s, const light_batch *batch)
{
    model *m = (model *)self;
    m->calls++;
    light_tensor *loss = light_cross_entropy(s, light_forward(s, self, batch->fields[0]), batch->fields[1]);
    double value;
    if (m->peeks && light_item(loss, &value) != LIGHT_OK)
        return light_step_fail(s, light_error_status(), "%s", light_error_message());
    light_log(s, "train_loss", loss, .on_step = true, .on_epoch = true);
    return loss;
}

static void model_validation_step(light_module *self, light_step *s, const light_batch *batch)
{
    light_log(s, "val_loss",
              light_cross_entropy(s, light_forward(s, self, batch->fields[0]), batch->fields[1]));
}

static light_status model_optimizers(light_module *self, light_optimizers *out)
{
    light_optimizer *adamw = light_adamw(light_parameters(self), .lr = 1e-2);
    return light_optimizers_add(out, adamw, light_cosine_schedule(.warmup_steps = 5));
}

static const light_module_vtable model_vtable = {
    LIGHT_MODULE(model),
    .init = model_init,
    .forward = model_forward,
    .training_step = model_training_step,
    .validation_step = model_validation_step,
    .configure_optimizers = model_optimizers,
};

/* ---- a run --------------------------------------------------------------------- */

typedef struct setting {
    const char *precision;
    int64_t accumulate, batch_size;
    double clip;
    bool graphs, peeks;
} setting;

typedef struct outcome {
    float weights[LAB_FEATURES * 16 + 16 * LAB_CLASSES];
    double train_loss, val_loss;
    int calls;
    char *csv;
} outcome;

static outcome train(setting s)
{
    static int run;
    outcome o = {0};
    lab l =
        lab_new(&model_vtable,
                light_trainer_new(.accelerator = "cuda", .max_epochs = 3, .precision = s.precision,
                                  .accumulate_grad_batches = s.accumulate, .gradient_clip_val = s.clip,
                                  .cuda_graphs = s.graphs, .log_every_n_steps = 2, .name = at("%d", run++),
                                  .default_root_dir = folder, .enable_progress_bar = LIGHT_OFF));
    l.data->batch_size = s.batch_size;
    l.data->shuffle = true;
    ((model *)l.module)->peeks = s.peeks;
    assert_ok(lab_fit(&l));
    model *m = (model *)l.module;
    assert_ok(light_tensor_read(m->in.weight, LIGHT_F32, o.weights, LAB_FEATURES * 16 * sizeof(float)));
    assert_ok(light_tensor_read(m->out.weight, LIGHT_F32, o.weights + LAB_FEATURES * 16,
                                16 * LAB_CLASSES * sizeof(float)));
    o.train_loss = metric_of(l.trainer, "train_loss_epoch");
    o.val_loss = metric_of(l.trainer, "val_loss");
    o.calls = m->calls;
    char path[512];
    snprintf(path, sizeof path, "%s/metrics.csv", light_trainer_log_dir(l.trainer));
    o.csv = read_text(path);
    lab_free(&l);
    return o;
}

static void expect_equal(const outcome *a, const outcome *b)
{
    assert_memory_equal(a->weights, b->weights, sizeof a->weights);
    assert_true(a->train_loss == b->train_loss);
    assert_true(a->val_loss == b->val_loss);
    assert_true(a->csv[0]);
    assert_string_equal(a->csv, b->csv);
}

static void compare(setting s, int most_calls)
{
    outcome eager = train(s);
    s.graphs = true;
    outcome graphs = train(s);
    expect_equal(&eager, &graphs);
    assert_true(graphs.calls <= most_calls);
    assert_true(graphs.calls < eager.calls);
    light_free(eager.csv);
    light_free(graphs.csv);
}

/* Dropout, a schedule, clipping, logging, validation in between: 16 batches an epoch, three of them eager or recorded. */
static void launched_steps_are_those_that_were_recorded(void **state)
{
    (void)state;
    compare((setting){.precision = "32-true", .batch_size = 4, .clip = 0.1}, 3);
}

/* Windows of 3 batches, the last one shorter: the kinds are first, middle, end; first and end of the short one. */
static void windows_of_several_batches(void **state)
{
    (void)state;
    compare((setting){.precision = "32-true", .batch_size = 4, .accumulate = 3}, 3 * 5);
}

static void mixed_precision(void **state)
{
    (void)state;
    compare((setting){.precision = "16-mixed", .batch_size = 4, .clip = 1}, 3);
    compare((setting){.precision = "bf16-mixed", .batch_size = 4}, 3);
}

/* The last batch of an epoch is shorter: a kind of its own, which comes too seldom to be recorded. */
static void batches_of_two_sizes(void **state)
{
    (void)state;
    compare((setting){.precision = "32-true", .batch_size = 5}, 3 + 3);
}

/* ---- where it cannot be ---------------------------------------------------------- */

static void a_step_that_waits_stays_eager(void **state)
{
    setting s = {.precision = "32-true", .batch_size = 4, .peeks = true};
    (void)state;
    outcome eager = train(s);
    s.graphs = true;
    lab_listen(LIGHT_MESSAGE_WARNING);
    outcome graphs = train(s);
    lab_stop_listening();
    assert_int_equal(occurrences(lab_messages, "trainer.cuda_graphs: steps are run one by one"), 1);
    assert_non_null(strstr(lab_messages, "recorded as a CUDA graph"));
    expect_equal(&eager, &graphs);
    light_free(eager.csv);
    light_free(graphs.csv);
}

static void a_module_that_was_built_goes_to_the_device(void **state)
{
    (void)state;
    lab l = lab_new(&model_vtable,
                    light_trainer_new(.accelerator = "cuda", .max_epochs = 3, .default_root_dir = folder));
    assert_ok(light_module_build(l.module, 3)); /* on the CPU */
    const light_tensor *weight = ((model *)l.module)->in.weight;
    assert_true(weight->storage->device->is_host);
    l.data->batch_size = 4;
    assert_ok(lab_fit(&l));
    assert_ptr_equal(weight->storage->device, cuda());
    assert_true(metric_of(l.trainer, "train_loss_epoch") < log(LAB_CLASSES)); /* what guessing gives */
    lab_free(&l);
}

static void before_step(light_callback *self, light_trainer *t)
{
    (void)self, (void)t;
}

static void what_cannot_be_recorded_is_refused(void **state)
{
    static const light_callback_vtable looks = {.size = sizeof looks,
                                                .name = "looks",
                                                .instance_size = sizeof(light_callback),
                                                .on_before_optimizer_step = before_step};
    light_callback callback = {.vtable = &looks};
    (void)state;
    lab l =
        lab_new(&model_vtable, light_trainer_new(.accelerator = "cuda", .cuda_graphs = true, .max_epochs = 1,
                                                 .default_root_dir = folder, .callbacks = {&callback}));
    assert_fails(lab_fit(&l), LIGHT_ERR_UNSUPPORTED, "trainer.cuda_graphs", "looks");
    lab_free(&l);
    l = lab_new(&model_vtable, light_trainer_new(.accelerator = "cpu", .cuda_graphs = true, .max_epochs = 1,
                                                 .default_root_dir = folder));
    assert_fails(lab_fit(&l), LIGHT_ERR_UNSUPPORTED, "trainer.cuda_graphs", "cpu has no graphs");
    lab_free(&l);
    l = lab_new(&model_vtable,
                light_trainer_new(.accelerator = "cuda", .strategy = "ddp", .cuda_graphs = true,
                                  .max_epochs = 1, .default_root_dir = folder));
    assert_fails(lab_fit(&l), LIGHT_ERR_UNSUPPORTED, "trainer.cuda_graphs", "trainer.strategy");
    lab_free(&l);
}

/* ---- waiting ----------------------------------------------------------------------- */

static uint64_t waits_of(int64_t samples, const char *precision, bool graphs)
{
    lab l =
        lab_new(&model_vtable,
                light_trainer_new(.accelerator = "cuda", .max_epochs = 1, .precision = precision,
                                  .cuda_graphs = graphs, .gradient_clip_val = 0.5, .log_every_n_steps = 1000,
                                  .default_root_dir = folder, .enable_progress_bar = LIGHT_OFF));
    l.data->train_samples = samples;
    l.data->batch_size = 2;
    uint64_t before = cuda()->synchronizations;
    assert_ok(lab_fit(&l));
    uint64_t waits = cuda()->synchronizations - before;
    lab_free(&l);
    return waits;
}

/* An epoch costs waits (its end reads metrics, a checkpoint reads everything), a step none: 24 steps more, no wait more. */
static void no_step_waits_for_the_device(void **state)
{
    static const char *const precisions[] = {"32-true", "bf16-mixed", "16-mixed"};
    (void)state;
    for (int p = 0; p < 3; p++)
        for (int graphs = 0; graphs < 2; graphs++)
            assert_int_equal(waits_of(64, precisions[p], graphs), waits_of(16, precisions[p], graphs));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_product_may_be_recorded), /* before all others */
        cmocka_unit_test(graphs_keep_their_work_memory),
        lab_test(launched_steps_are_those_that_were_recorded),
        lab_test(windows_of_several_batches),
        lab_test(mixed_precision),
        lab_test(batches_of_two_sizes),
        lab_test(a_step_that_waits_stays_eager),
        lab_test(a_module_that_was_built_goes_to_the_device),
        lab_test(what_cannot_be_recorded_is_refused),
        lab_test(no_step_waits_for_the_device),
    };
    return cmocka_run_group_tests_name("graphs", tests, NULL, NULL);
}
