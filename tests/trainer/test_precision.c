/* SPDX-License-Identifier: Apache-2.0 */
/* Runs in every precision: what operations see, what is kept in f32, how f16 overflows and recovers, and that the 16-bit
 * copies of parameters are never stale. */
#include "trainer/lab.h"

#include "optim/optimizer.h"
#include "tensor/device.h"
#include "trainer/trainer.h"

/* ---- a model with products, norms, an embedding and a layer used twice --- */

enum { WIDTH = 16 };

typedef struct net {
    light_module base;
    light_embedding table;
    light_linear fc1, mix, fc2;
    light_batch_norm batch_norm;
    light_layer_norm norm;
    double loss_factor;
    bool exposed;             /* somebody has the parameters' addresses */
    light_dtype hidden, loss; /* as training_step saw them */
} net;

static const light_option net_options[] = {
    LIGHT_OPTION(net, loss_factor, 1.0, "the loss is multiplied by it"),
    LIGHT_OPTION(net, exposed, false, "ask for the parameters' addresses"), LIGHT_OPTIONS_END};

static light_status net_init(light_module *self)
{
    net *m = (net *)self;
    LIGHT_TRY(light_embedding_init(&m->table, self, "table", .rows = 2, .width = WIDTH));
    LIGHT_TRY(light_linear_init(&m->fc1, self, "fc1", .in_features = LAB_FEATURES, .out_features = WIDTH));
    LIGHT_TRY(light_batch_norm_init(&m->batch_norm, self, "batch_norm", .features = WIDTH));
    LIGHT_TRY(light_linear_init(&m->mix, self, "mix", .in_features = WIDTH, .out_features = WIDTH));
    LIGHT_TRY(light_layer_norm_init(&m->norm, self, "norm", .features = WIDTH));
    return light_linear_init(&m->fc2, self, "fc2", .in_features = WIDTH, .out_features = LAB_CLASSES);
}

static light_tensor *net_forward(light_module *self, light_step *s, light_tensor *x)
{
    net *m = (net *)self;
    light_tensor *rows = light_zeros(s, LIGHT_SHAPE(light_dim(x, 0)), LIGHT_I64);
    x = light_forward(s, &m->batch_norm.base, light_forward(s, &m->fc1.base, x));
    x = light_relu(s, light_add(s, x, light_forward(s, &m->table.base, rows)));
    m->hidden = light_dtype_of(x);
    for (int i = 0; i < 2; i++)
        x = light_add(s, x,
                      light_relu(s, light_forward(s, &m->mix.base, light_forward(s, &m->norm.base, x))));
    return light_forward(s, &m->fc2.base, x);
}

static light_tensor *net_training_step(light_module *self, light_step *s, const light_batch *batch)
{
    net *m = (net *)self;
    if (m->exposed) assert_non_null(light_data(m->fc1.weight));
    light_tensor *loss = light_cross_entropy(s, light_forward(s, self, batch->fields[0]), batch->fields[1]);
    m->loss = light_dtype_of(loss);
    light_log(s, "train_loss", loss, .on_step = LIGHT_OFF, .on_epoch = true);
    return light_mul_scalar(s, loss, m->loss_factor);
}

static light_status net_optimizers(light_module *self, light_optimizers *out)
{
    return light_optimizers_add(out, light_adamw(light_parameters(self), .lr = 2e-3), NULL);
}

static const light_module_vtable net_vtable = {
    LIGHT_MODULE(net),
    .options = net_options,
    .init = net_init,
    .forward = net_forward,
    .training_step = net_training_step,
    .configure_optimizers = net_optimizers,
};

/* ---- runs ---------------------------------------------------------------- */

static const char *const precisions[] = {"32-true",  "64-true",   "bf16-mixed",
                                         "16-mixed", "bf16-true", "16-true"};
enum { PRECISIONS = sizeof precisions / sizeof *precisions };

static lab run_with(const light_module_vtable *module, light_trainer_options options)
{
    options.default_root_dir = folder;
    options.enable_checkpointing = LIGHT_OFF;
    options.enable_model_summary = options.enable_progress_bar = LIGHT_OFF;
    if (!options.max_epochs) options.max_epochs = 4;
    lab l = lab_new(module, light_trainer_new_with(&options));
    l.data->batch_size = 8;
    return l;
}

enum { MOST_WEIGHTS = 2048 };

static size_t weights_of(light_module *module, float to[MOST_WEIGHTS])
{
    size_t n = 0;
    for (light_parameter *p = light_next_parameter(module, NULL); p; p = light_next_parameter(module, p)) {
        size_t numel = (size_t)light_numel(p->tensor);
        assert_true(n + numel <= MOST_WEIGHTS);
        assert_ok(light_tensor_read(p->tensor, LIGHT_F32, to + n, numel * sizeof(float)));
        n += numel;
    }
    return n;
}

static void expect_same_weights(const lab *a, const lab *b)
{
    float x[MOST_WEIGHTS], y[MOST_WEIGHTS];
    size_t n = weights_of(a->module, x);
    assert_int_equal(weights_of(b->module, y), n);
    assert_memory_equal(x, y, n * sizeof(float));
}

static double epsilon_of(const char *precision)
{
    return strstr(precision, "bf16") ? 0x1p-8 : strstr(precision, "16") ? 0x1p-11 : 0;
}

/* ---- what every precision comes to --------------------------------------- */

/* The mean loss of the fourth epoch, within four roundings of the 16-bit dtype and one of f32 for each of 32 steps. */
static void every_precision_learns_the_same(void **state)
{
    double exact = 0;
    (void)state;
    for (int i = 0; i < PRECISIONS; i++) {
        lab l = run_with(&net_vtable, (light_trainer_options){.precision = precisions[i]});
        assert_ok(lab_fit(&l));
        double loss = metric_of(l.trainer, "train_loss");
        if (i == 0) exact = loss;
        if (!(fabs(loss - exact) <= (4 * epsilon_of(precisions[i]) + 32 * 0x1p-24) * exact) || exact > 0.5)
            fail_msg("%s: loss %.9g, %.9g in f32", precisions[i], loss, exact);
        lab_free(&l);
    }
}

static void operations_see_the_dtype_of_the_precision(void **state)
{
    static const light_dtype hidden[PRECISIONS] = {LIGHT_F32, LIGHT_F64,  LIGHT_F32,
                                                   LIGHT_F32, LIGHT_BF16, LIGHT_F16};
    (void)state;
    for (int i = 0; i < PRECISIONS; i++) {
        lab l = run_with(&net_vtable, (light_trainer_options){.precision = precisions[i], .max_steps = 1});
        assert_ok(lab_fit(&l));
        const net *m = (const net *)l.module;
        assert_int_equal(m->hidden, hidden[i]);
        assert_int_equal(m->loss, hidden[i]);
        light_dtype kept = hidden[i] == LIGHT_F64 ? LIGHT_F64 : LIGHT_F32;
        for (light_parameter *p = light_next_parameter(l.module, NULL); p;
             p = light_next_parameter(l.module, p)) {
            if (p->is_buffer) continue;
            assert_int_equal(light_dtype_of(p->tensor), kept);
            assert_int_equal(light_dtype_of(p->tensor->grad), kept);
        }
        light_optimizer_state moment;
        assert_true(light_optimizer_state_at(light_trainer_optimizer(l.trainer, 0), 0, &moment));
        assert_int_equal(light_dtype_of(&moment.tensor), kept);
        lab_free(&l);
    }
}

static void a_16_bit_checkpoint_holds_f32_for_any_precision(void **state)
{
    (void)state;
    lab low = run_with(&net_vtable, (light_trainer_options){.precision = "bf16-true"});
    assert_ok(lab_fit(&low));
    assert_ok(light_trainer_save_checkpoint(low.trainer, at("low")));
    lab high = run_with(&net_vtable, (light_trainer_options){.precision = "32-true"});
    assert_ok(lab_fit(&high, .ckpt_path = at("low"))); /* its four epochs are done */
    expect_same_weights(&low, &high);
    assert_int_equal(light_trainer_global_step(high.trainer), light_trainer_global_step(low.trainer));
    lab_free(&low);
    lab_free(&high);
}

static void expect_copies_up_to_date(const lab *l)
{
    for (light_parameter *p = light_next_parameter(l->module, NULL); p;
         p = light_next_parameter(l->module, p)) {
        if (p->is_buffer) continue;
        const light_lowered *copy = p->tensor->storage->lowered;
        assert_non_null(copy);
        assert_true(copy->made);
        assert_int_equal(copy->version, p->tensor->storage->version);
        light_tensor *want;
        uint16_t have[512], rounded[512];
        size_t bytes = (size_t)light_numel(p->tensor) * 2;
        assert_true(bytes <= sizeof have);
        assert_ok(light_tensor_new(&want, light_shape_of(p->tensor), copy->dtype, NULL));
        assert_ok(light_device_copy(p->tensor->storage->device, want, p->tensor));
        assert_ok(light_tensor_read(want, copy->dtype, rounded, bytes));
        assert_ok(light_tensor_read(p->tensor->lowered, copy->dtype, have, bytes));
        assert_memory_equal(have, rounded, bytes);
        light_tensor_free(want);
    }
}

/* ---- all kinds of layers -------------------------------------------------- */

typedef struct zoo {
    light_module base;
    light_conv2d conv;
    light_conv_transpose2d back;
    light_group_norm group_norm;
    light_transformer_block block;
    light_lstm lstm;
    light_linear fc;
} zoo;

static light_status zoo_init(light_module *self)
{
    zoo *m = (zoo *)self;
    LIGHT_TRY(light_conv2d_init(&m->conv, self, "conv", .in_channels = 1, .out_channels = 8, .kernel = 3,
                                .padding = 1));
    LIGHT_TRY(light_group_norm_init(&m->group_norm, self, "group_norm", .groups = 2, .channels = 8));
    LIGHT_TRY(light_conv_transpose2d_init(&m->back, self, "back", .in_channels = 8, .out_channels = 8,
                                          .kernel = 1));
    LIGHT_TRY(
        light_transformer_block_init(&m->block, self, "block", .embed_dim = 8, .heads = 2, .hidden = 16));
    LIGHT_TRY(
        light_lstm_init(&m->lstm, self, "lstm", .input_size = 8, .hidden_size = 8, .batch_first = true));
    return light_linear_init(&m->fc, self, "fc", .in_features = 8, .out_features = LAB_CLASSES);
}

static light_tensor *zoo_forward(light_module *self, light_step *s, light_tensor *x)
{
    zoo *m = (zoo *)self;
    int64_t n = light_dim(x, 0);
    x = light_forward(s, &m->conv.base, light_reshape(s, x, LIGHT_SHAPE(n, 1, 4, 8)));
    x = light_forward(s, &m->group_norm.base, light_avg_pool2d(s, light_gelu(s, x), 2));
    x = light_add(s, x, light_forward(s, &m->back.base, x));
    x = light_transpose(s, light_reshape(s, x, LIGHT_SHAPE(n, 8, 8)), 1, 2);
    x = light_lstm_forward(s, &m->lstm, light_forward(s, &m->block.base, x), NULL, NULL, NULL, NULL);
    return light_forward(s, &m->fc.base, light_mean(s, x, LIGHT_DIMS(1), false));
}

static light_tensor *zoo_training_step(light_module *self, light_step *s, const light_batch *batch)
{
    light_tensor *loss = light_cross_entropy(s, light_forward(s, self, batch->fields[0]), batch->fields[1]);
    light_log(s, "train_loss", loss, .on_step = LIGHT_OFF, .on_epoch = true);
    return loss;
}

static const light_module_vtable zoo_vtable = {
    LIGHT_MODULE(zoo),
    .init = zoo_init,
    .forward = zoo_forward,
    .training_step = zoo_training_step,
    .configure_optimizers = net_optimizers,
};

static void all_kinds_of_layers_run_in_every_precision(void **state)
{
    double exact = 0;
    (void)state;
    for (int i = 0; i < PRECISIONS; i++) {
        lab l = run_with(&zoo_vtable, (light_trainer_options){.precision = precisions[i]});
        assert_ok(lab_fit(&l));
        double loss = metric_of(l.trainer, "train_loss");
        if (i == 0) exact = loss;
        if (!(fabs(loss - exact) <= (4 * epsilon_of(precisions[i]) + 32 * 0x1p-24) * exact))
            fail_msg("%s: loss %.9g, %.9g in f32", precisions[i], loss, exact);
        if (i >= 2) expect_copies_up_to_date(&l);
        lab_free(&l);
    }
}

/* ---- the copies ----------------------------------------------------------- */

/* What the optimizer writes is what a cast in each step would give: parameters whose address is known are cast so. */
static void copies_give_the_bits_of_a_cast_in_each_step(void **state)
{
    (void)state;
    for (int i = 2; i < PRECISIONS; i++) {
        const light_trainer_options options = {.precision = precisions[i], .gradient_clip_val = 0.5};
        lab kept = run_with(&net_vtable, options), cast = run_with(&net_vtable, options);
        ((net *)cast.module)->exposed = true;
        assert_ok(lab_fit(&kept));
        assert_ok(lab_fit(&cast));
        expect_copies_up_to_date(&kept);
        assert_false(((net *)kept.module)->fc1.weight->storage->exposed);
        assert_true(((net *)cast.module)->fc1.weight->storage->exposed);
        expect_same_weights(&kept, &cast);
        assert_true(metric_of(kept.trainer, "train_loss") == metric_of(cast.trainer, "train_loss"));
        lab_free(&kept);
        lab_free(&cast);
    }
}

static void another_precision_takes_the_copies_away(void **state)
{
    (void)state;
    lab l = run_with(&net_vtable, (light_trainer_options){.precision = "bf16-mixed", .max_epochs = 1});
    assert_ok(lab_fit(&l));
    assert_non_null(((net *)l.module)->fc1.weight->lowered);
    light_trainer_free(l.trainer);
    l.trainer = light_trainer_new(.precision = "32-true", .max_epochs = 1, .default_root_dir = folder,
                                  .enable_checkpointing = LIGHT_OFF);
    assert_ok(lab_fit(&l));
    assert_null(((net *)l.module)->fc1.weight->lowered);
    assert_null(((net *)l.module)->fc1.weight->storage->lowered);
    lab_free(&l);
}

/* ---- a callback that watches the loss scale ------------------------------- */

enum { MOST_STEPS = 64 };

typedef struct watcher {
    light_callback base;
    int n;
    double scale[MOST_STEPS]; /* after each batch */
    bool moved[MOST_STEPS];   /* weights are others than before */
    float before[MOST_WEIGHTS], after[MOST_WEIGHTS];
} watcher;

static void watcher_batch_start(light_callback *self, light_trainer *t, const light_batch *batch)
{
    (void)batch;
    weights_of(t->module, ((watcher *)self)->before);
}

static void watcher_batch_end(light_callback *self, light_trainer *t, const light_batch *batch)
{
    watcher *w = (watcher *)self;
    (void)batch;
    assert_true(w->n < MOST_STEPS);
    size_t n = 0;
    for (light_parameter *p = light_next_parameter(t->module, NULL); p;
         p = light_next_parameter(t->module, p)) {
        size_t numel = (size_t)light_numel(p->tensor);
        assert_ok(light_tensor_read(p->tensor, LIGHT_F32, w->after + n, numel * sizeof(float)));
        if (!p->is_buffer && memcmp(w->before + n, w->after + n, numel * sizeof(float)))
            w->moved[w->n] = true;
        n += numel;
    }
    if (t->scaler) assert_ok(light_scaler_read(t->scaler, &w->scale[w->n]));
    w->n++;
}

static const light_callback_vtable watcher_vtable = {
    LIGHT_CALLBACK(watcher),
    .on_train_batch_start = watcher_batch_start,
    .on_train_batch_end = watcher_batch_end,
};

/* ---- overflow -------------------------------------------------------------- */

static void an_overflow_skips_steps_until_the_scale_fits(void **state)
{
    watcher w = {.base.vtable = &watcher_vtable};
    int skipped = 0;
    (void)state;
    lab l = run_with(&net_vtable, (light_trainer_options){.precision = "16-mixed", .callbacks = {&w.base}});
    ((net *)l.module)->loss_factor = 1 << 12; /* times 65536 no f16 gradient can be finite */
    assert_ok(lab_fit(&l));
    assert_int_equal(w.n, 32);
    for (int i = 0; i < w.n; i++) {
        skipped += !w.moved[i];
        assert_true(w.scale[i] == ldexp(65536, -skipped));
    }
    assert_false(w.moved[0]);
    assert_true(w.moved[w.n - 1]);
    assert_in_range(skipped, 2, 15);
    assert_int_equal(light_trainer_global_step(l.trainer), 32); /* Lightning counts them all */
    light_optimizer *optimizer = light_trainer_optimizer(l.trainer, 0);
    assert_int_equal(optimizer->groups[0].entries[0].steps, 32);
    assert_ok(light_optimizer_settle(optimizer));
    for (int64_t i = 0; i < optimizer->groups[0].n; i++)
        assert_int_equal(optimizer->groups[0].entries[i].steps, 32 - skipped);
    expect_copies_up_to_date(&l);
    double loss = metric_of(l.trainer, "train_loss");
    assert_true(isfinite(loss) && loss < 0.5);
    lab_free(&l);
}

static void a_scale_that_collapses_is_told_once(void **state)
{
    (void)state;
    lab l =
        run_with(&net_vtable,
                 (light_trainer_options){.precision = "16-mixed", .max_epochs = 6, .log_every_n_steps = 1});
    ((net *)l.module)->loss_factor = INFINITY;
    lab_listen(LIGHT_MESSAGE_WARNING);
    assert_ok(lab_fit(&l));
    lab_stop_listening();
    assert_int_equal(occurrences(lab_messages, "the loss scale has fallen to"), 1);
    assert_non_null(strstr(lab_messages, "trainer.precision 16-mixed"));
    lab_free(&l);
}

/* ---- who sees the scale ----------------------------------------------------- */

typedef struct reader {
    light_callback base;
    float first[WIDTH * LAB_CLASSES]; /* gradient of fc2's weight at the first optimizer step */
    int calls;
} reader;

static void reader_before_step(light_callback *self, light_trainer *t)
{
    reader *r = (reader *)self;
    if (r->calls++) return;
    const light_tensor *grad = light_grad(((net *)t->module)->fc2.weight);
    assert_ok(light_tensor_read(grad, LIGHT_F32, r->first, sizeof r->first));
}

static const light_callback_vtable reader_vtable = {
    LIGHT_CALLBACK(reader),
    .on_before_optimizer_step = reader_before_step,
};

static void hooks_see_gradients_without_the_scale(void **state)
{
    (void)state;
    for (int64_t accumulate = 1; accumulate <= 4; accumulate += 3) {
        reader exact = {.base.vtable = &reader_vtable}, scaled = {.base.vtable = &reader_vtable};
        light_trainer_options options = {.max_epochs = 1, .accumulate_grad_batches = accumulate};
        options.callbacks[0] = &exact.base;
        lab a = run_with(&net_vtable, options);
        assert_ok(lab_fit(&a));
        options.precision = "16-mixed";
        options.callbacks[0] = &scaled.base;
        lab b = run_with(&net_vtable, options);
        assert_ok(lab_fit(&b));
        double largest = 0;
        for (int i = 0; i < WIDTH * LAB_CLASSES; i++) largest = fmax(largest, fabs((double)exact.first[i]));
        for (int i = 0; i < WIDTH * LAB_CLASSES; i++) /* six products and their gradients, each rounded */
            if (!(fabs((double)(exact.first[i] - scaled.first[i])) <= 12 * 0x1p-11 * largest))
                fail_msg("%d: %g, %g in f32", i, (double)scaled.first[i], (double)exact.first[i]);
        lab_free(&a);
        lab_free(&b);
    }
}

/* The scale is a power of two, so that a factor with it in has the same digits. */
static void clipping_in_the_optimizer_gives_the_bits_of_clipping_unscaled_gradients(void **state)
{
    (void)state;
    reader r = {.base.vtable = &reader_vtable};
    light_trainer_options options = {.precision = "16-mixed", .gradient_clip_val = 0.05};
    lab folded = run_with(&net_vtable, options);
    options.callbacks[0] = &r.base; /* its hook wants unscaled gradients */
    lab explicit = run_with(&net_vtable, options);
    assert_ok(lab_fit(&folded));
    assert_ok(lab_fit(&explicit));
    assert_int_equal(r.calls, 32);
    expect_same_weights(&folded, &explicit);
    lab_free(&folded);
    lab_free(&explicit);
}

static void values_are_clipped_without_the_scale(void **state)
{
    double loss[2];
    (void)state;
    for (int i = 0; i < 2; i++) {
        lab l = run_with(&net_vtable, (light_trainer_options){.precision = i ? "16-mixed" : "32-true",
                                                              .gradient_clip_val = 1e-3,
                                                              .gradient_clip_algorithm = "value"});
        assert_ok(lab_fit(&l));
        loss[i] = metric_of(l.trainer, "train_loss");
        lab_free(&l);
    }
    assert_true(fabs(loss[1] - loss[0]) <= 4 * 0x1p-11 * loss[0]);
}

/* ---- manual optimization ------------------------------------------------------ */

/* Two optimizers; the gradients of the first overflow in its first steps, those of the second never do. */
static bool in_fc2(const light_parameter *p, void *user)
{
    return (strncmp(p->path, "fc2", 3) == 0) == (user != NULL);
}

static light_status manual_optimizers(light_module *self, light_optimizers *out)
{
    static int yes;
    light_parameter_set body = light_parameters_where(self, in_fc2, NULL),
                        head = light_parameters_where(self, in_fc2, &yes);
    LIGHT_TRY(light_optimizers_add(out, light_adamw(body, .lr = 2e-3), NULL));
    return light_optimizers_add(out, light_adamw(head, .lr = 2e-3), NULL);
}

static light_tensor *manual_step(light_module *self, light_step *s, const light_batch *batch)
{
    const double factors[2] = {((net *)self)->loss_factor, 1};
    for (int i = 0; i < 2; i++) {
        light_optimizer *optimizer = light_optimizer_at(s, i);
        light_tensor *loss;
        light_toggle_optimizer(s, optimizer);
        light_zero_grad(s, optimizer);
        loss = light_cross_entropy(s, light_forward(s, self, batch->fields[0]), batch->fields[1]);
        light_manual_backward(s, light_mul_scalar(s, loss, factors[i]));
        light_optimizer_step(s, optimizer);
        light_untoggle_optimizer(s, optimizer);
        light_log(s, i ? "second_loss" : "first_loss", loss, .on_step = LIGHT_OFF, .on_epoch = true);
    }
    return NULL;
}

static const light_module_vtable manual_vtable = {
    LIGHT_MODULE(net),
    .options = net_options,
    .manual_optimization = true,
    .init = net_init,
    .forward = net_forward,
    .training_step = manual_step,
    .configure_optimizers = manual_optimizers,
};

static void optimizers_skip_their_own_steps_under_one_scale(void **state)
{
    watcher w = {.base.vtable = &watcher_vtable};
    (void)state;
    lab l =
        run_with(&manual_vtable, (light_trainer_options){.precision = "16-mixed", .callbacks = {&w.base}});
    ((net *)l.module)->loss_factor = 1 << 12;
    assert_ok(lab_fit(&l));
    int skipped = 16 - ilogb(w.scale[w.n - 1]);
    assert_in_range(skipped, 2, 15);
    for (int i = 0; i < w.n; i++) {
        assert_true(w.moved[i]); /* the second one goes on */
        assert_true(w.scale[i] == (i == 0 ? 32768 : w.scale[i - 1]) || w.scale[i] == w.scale[i - 1] / 2);
    }
    for (int i = 0; i < 2; i++) {
        light_optimizer *optimizer = light_trainer_optimizer(l.trainer, i);
        assert_ok(light_optimizer_settle(optimizer));
        assert_int_equal(optimizer->groups[0].entries[0].steps, i ? 32 : 32 - skipped);
    }
    assert_int_equal(light_trainer_global_step(l.trainer), 64);
    assert_true(metric_of(l.trainer, "second_loss") < 0.5);
    expect_copies_up_to_date(&l);
    lab_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        lab_test(every_precision_learns_the_same),
        lab_test(operations_see_the_dtype_of_the_precision),
        lab_test(a_16_bit_checkpoint_holds_f32_for_any_precision),
        lab_test(all_kinds_of_layers_run_in_every_precision),
        lab_test(copies_give_the_bits_of_a_cast_in_each_step),
        lab_test(another_precision_takes_the_copies_away),
        lab_test(an_overflow_skips_steps_until_the_scale_fits),
        lab_test(a_scale_that_collapses_is_told_once),
        lab_test(hooks_see_gradients_without_the_scale),
        lab_test(clipping_in_the_optimizer_gives_the_bits_of_clipping_unscaled_gradients),
        lab_test(values_are_clipped_without_the_scale),
        lab_test(optimizers_skip_their_own_steps_under_one_scale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
