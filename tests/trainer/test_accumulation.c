/* SPDX-License-Identifier: Apache-2.0 */
/* Accumulation of gradients and clipping: when weights change, and by how much. */
#include "trainer/lab.h"

#include <float.h>

/* ---- what is observed --------------------------------------------------- */

enum { MAX_BATCHES = 256 };
static float weights[MAX_BATCHES + 1][LAB_WEIGHTS]; /* [0]: before training */
static int batches, zero_grads, optimizer_steps;
static int skipped; /* the batch whose loss is NULL; -1: none */

static light_tensor *training_step(light_module *self, light_step *s, const light_batch *batch)
{
    return batch->index == skipped ? NULL : boring_loss(self, s, batch);
}

static void on_train_start(light_module *self, light_trainer *t)
{
    (void)t;
    lab_read_weights(self, weights[0]);
    batches = zero_grads = optimizer_steps = 0;
}

static void on_train_batch_end(light_module *self, light_trainer *t, const light_batch *batch)
{
    (void)t, (void)batch;
    lab_read_weights(self, weights[++batches]);
}

static void on_before_zero_grad(light_module *self, light_trainer *t)
{
    (void)self, (void)t;
    zero_grads++;
}

static void on_before_optimizer_step(light_module *self, light_trainer *t)
{
    (void)self, (void)t;
    optimizer_steps++;
}

#define OBSERVED                                                                                             \
    .init = boring_init, .forward = boring_forward, .training_step = training_step,                          \
    .on_train_start = on_train_start, .on_train_batch_end = on_train_batch_end,                              \
    .on_before_zero_grad = on_before_zero_grad, .on_before_optimizer_step = on_before_optimizer_step

static const light_module_vtable observed_vtable = {LIGHT_MODULE(boring), OBSERVED,
                                                    .configure_optimizers = boring_optimizers,
                                                    .validation_step = boring_validation_step};

static light_status unit_optimizer(light_module *self, light_optimizers *out)
{
    return light_optimizers_add(out, light_sgd(light_parameters(self), .lr = 1), NULL);
}

static const light_module_vtable unit_vtable = {LIGHT_MODULE(boring), OBSERVED,
                                                .configure_optimizers = unit_optimizer};

static void train(const light_module_vtable *module, const light_datamodule_vtable *data, int64_t samples,
                  int64_t batch_size, light_trainer_options options, float result[LAB_WEIGHTS])
{
    options.default_root_dir = folder;
    options.enable_checkpointing = LIGHT_OFF;
    lab l = lab_new_with(module, data, light_trainer_new_with(&options));
    l.data->train_samples = samples;
    l.data->val_samples = 4;
    l.data->batch_size = batch_size;
    assert_ok(lab_fit(&l));
    assert_int_equal(light_trainer_global_step(l.trainer), optimizer_steps);
    lab_read_weights(l.module, result);
    lab_free(&l);
}

/* Sums of another order: a few roundings of gradients below 1. */
static void assert_near(const float *a, const float *b)
{
    for (int i = 0; i < LAB_WEIGHTS; i++)
        if (fabsf(a[i] - b[i]) > 16 * FLT_EPSILON) fail_msg("weight %d: %.9g, %.9g expected", i, a[i], b[i]);
}

static void assert_same(const float *a, const float *b)
{
    assert_memory_equal(a, b, sizeof(float) * LAB_WEIGHTS);
}

static int begin(void **state)
{
    skipped = -1;
    return lab_begin(state);
}

/* ---- windows ------------------------------------------------------------ */

static void weights_change_at_the_end_of_windows_and_of_epochs(void **state)
{
    float result[LAB_WEIGHTS];
    (void)state;
    for (int k = 1; k <= 5; k++) {
        train(&observed_vtable, &lab_data_vtable, 10, 1,
              (light_trainer_options){.max_epochs = 2, .accumulate_grad_batches = k}, result);
        assert_int_equal(batches, 20);
        for (int i = 1; i <= batches; i++) {
            int in_epoch = (i - 1) % 10 + 1;
            bool changed = memcmp(weights[i], weights[i - 1], sizeof weights[0]) != 0;
            if (changed != (in_epoch % k == 0 || in_epoch == 10)) fail_msg("k = %d, batch %d", k, i);
        }
        assert_int_equal(zero_grads, 2 * ((10 + k - 1) / k));
        assert_int_equal(optimizer_steps, 2 * ((10 + k - 1) / k));
    }
}

static void the_short_last_window_is_averaged_over_its_own_length(void **state)
{
    float accumulated[LAB_WEIGHTS], whole[LAB_WEIGHTS], first[LAB_WEIGHTS];
    (void)state;
    train(&observed_vtable, &lab_data_vtable, 20, 4,
          (light_trainer_options){.max_epochs = 1, .accumulate_grad_batches = 3}, accumulated);
    assert_int_equal(batches, 5);
    memcpy(first, weights[3], sizeof first);
    /* 12 samples and 8. */
    train(&observed_vtable, &lab_data_vtable, 20, 12, (light_trainer_options){.max_epochs = 1}, whole);
    assert_int_equal(batches, 2);
    assert_near(first, weights[1]);
    assert_near(accumulated, whole);
    assert_true(fabsf(whole[0] - weights[0][0]) > 1e-3f);
}

static void a_window_that_a_limit_cuts_is_averaged_too(void **state)
{
    float cut[LAB_WEIGHTS], whole[LAB_WEIGHTS];
    (void)state;
    train(&observed_vtable, &lab_data_vtable, 20, 4,
          (light_trainer_options){.max_epochs = 1, .accumulate_grad_batches = 3, .limit_train_batches = "2"},
          cut);
    train(&observed_vtable, &lab_data_vtable, 8, 8, (light_trainer_options){.max_epochs = 1}, whole);
    assert_near(cut, whole);
}

static void streams_of_unknown_length_average_the_same(void **state)
{
    float stream[LAB_WEIGHTS], known[LAB_WEIGHTS];
    (void)state;
    for (int samples = 24; samples <= 32; samples += 4) { /* full and short last windows */
        train(&observed_vtable, &lab_stream_vtable, samples, 4,
              (light_trainer_options){.max_epochs = 1, .accumulate_grad_batches = 3}, stream);
        assert_int_equal(batches, samples / 4);
        assert_int_equal(optimizer_steps, (samples / 4 + 2) / 3);
        train(&observed_vtable, &lab_data_vtable, samples, 4,
              (light_trainer_options){.max_epochs = 1, .accumulate_grad_batches = 3}, known);
        assert_near(stream, known);
    }
}

static void skipped_batches_do_not_count_in_the_average(void **state)
{
    float with_gap[LAB_WEIGHTS], whole[LAB_WEIGHTS];
    (void)state;
    skipped = 2; /* the last one of three: the window of two is stepped all the same */
    train(&observed_vtable, &lab_data_vtable, 12, 4,
          (light_trainer_options){.max_epochs = 1, .accumulate_grad_batches = 3}, with_gap);
    assert_int_equal(optimizer_steps, 1);
    skipped = -1;
    train(&observed_vtable, &lab_data_vtable, 8, 8, (light_trainer_options){.max_epochs = 1}, whole);
    assert_near(with_gap, whole);
    skipped = 0;
    train(&observed_vtable, &lab_data_vtable, 4, 4, (light_trainer_options){.max_epochs = 1}, with_gap);
    assert_int_equal(optimizer_steps, 0);
    assert_same(with_gap, weights[0]);
}

static void validation_inside_a_window_keeps_the_gradients(void **state)
{
    float with_validation[LAB_WEIGHTS], without[LAB_WEIGHTS];
    (void)state;
    train(&observed_vtable, &lab_data_vtable, 6, 1,
          (light_trainer_options){.max_epochs = 2, .accumulate_grad_batches = 3, .val_check_interval = "2"},
          with_validation);
    train(&observed_vtable, &lab_data_vtable, 6, 1,
          (light_trainer_options){.max_epochs = 2, .accumulate_grad_batches = 3, .limit_val_batches = "0"},
          without);
    assert_same(with_validation, without);
}

static void max_steps_counts_optimizer_steps(void **state)
{
    float result[LAB_WEIGHTS];
    (void)state;
    train(&observed_vtable, &lab_data_vtable, 64, 1,
          (light_trainer_options){.max_steps = 5, .accumulate_grad_batches = 4}, result);
    assert_int_equal(optimizer_steps, 5);
    assert_int_equal(batches, 20);
}

static int64_t estimated;

static light_status estimating_optimizers(light_module *self, light_optimizers *out)
{
    return light_optimizers_add(out, light_sgd(light_parameters(self), .lr = 1),
                                light_linear_schedule(.start_factor = 1, .end_factor = 0.5));
}

static void read_estimate(light_module *self, light_trainer *t)
{
    (void)self;
    estimated = light_trainer_estimated_stepping_batches(t);
}

static void schedules_go_by_optimizer_steps(void **state)
{
    static const light_module_vtable vtable = {LIGHT_MODULE(boring),
                                               .init = boring_init,
                                               .forward = boring_forward,
                                               .training_step = training_step,
                                               .configure_optimizers = estimating_optimizers,
                                               .on_train_start = read_estimate};
    (void)state;
    lab l =
        lab_new(&vtable, light_trainer_new(.default_root_dir = folder, .max_epochs = 3,
                                           .accumulate_grad_batches = 4, .enable_checkpointing = LIGHT_OFF));
    l.data->train_samples = 10;
    assert_ok(lab_fit(&l));
    assert_int_equal(estimated, 9); /* 3 windows an epoch */
    assert_true(light_optimizer_lr(light_trainer_optimizer(l.trainer, 0), 0) == 0.5);
    lab_free(&l);
}

static light_status plateau_optimizers(light_module *self, light_optimizers *out)
{
    return light_optimizers_add(out, light_sgd(light_parameters(self), .lr = 1),
                                light_reduce_on_plateau(.monitor = "late", .patience = LIGHT_NO_PATIENCE,
                                                        .interval = LIGHT_INTERVAL_EPOCH));
}

static void log_late(light_module *self, light_trainer *t)
{
    (void)self;
    if (light_trainer_batches_done(t) == 10) light_log_value(t, "late", 1);
}

/* max_steps ends the run in the middle of an epoch, where there is no metric yet. */
static void an_epoch_cut_short_is_none_for_a_plateau_schedule(void **state)
{
    static const light_module_vtable vtable = {LIGHT_MODULE(boring),
                                               .init = boring_init,
                                               .forward = boring_forward,
                                               .training_step = training_step,
                                               .configure_optimizers = plateau_optimizers,
                                               .on_train_epoch_end = log_late};
    (void)state;
    for (int steps = 7; steps <= 37; steps += 10) {
        lab l = lab_new(&vtable, light_trainer_new(.default_root_dir = folder, .max_steps = steps,
                                                   .enable_checkpointing = LIGHT_OFF));
        l.data->train_samples = 10;
        assert_ok(lab_fit(&l));
        /* The first whole epoch sets the best, each of the others is no better. */
        double lr = steps < 20 ? 1 : steps < 30 ? 0.1 : 0.01;
        assert_true(fabs(light_optimizer_lr(light_trainer_optimizer(l.trainer, 0), 0) - lr) < 1e-9);
        lab_free(&l);
    }
}

/* ---- clipping ----------------------------------------------------------- */

/* With a learning rate of 1 the change of the weights is the clipped gradient. */
static double change(int batch, bool largest)
{
    double sum = 0, most = 0;
    for (int i = 0; i < LAB_WEIGHTS; i++) {
        double d = (double)weights[batch][i] - weights[batch - 1][i];
        sum += d * d;
        if (fabs(d) > most) most = fabs(d);
    }
    return largest ? most : sqrt(sum);
}

static void clipping_by_norm_limits_the_total_norm(void **state)
{
    float result[LAB_WEIGHTS];
    double unclipped;
    (void)state;
    for (int accumulate = 1; accumulate <= 2; accumulate++) {
        train(&unit_vtable, &lab_data_vtable, 8, 1,
              (light_trainer_options){.max_epochs = 1, .accumulate_grad_batches = accumulate}, result);
        unclipped = change(accumulate, false);
        assert_true(unclipped > 0.1);
        train(&unit_vtable, &lab_data_vtable, 8, 1,
              (light_trainer_options){
                  .max_epochs = 1, .gradient_clip_val = 0.05, .accumulate_grad_batches = accumulate},
              result);
        /* The weights, below 0.2, are rounded; norm / (norm + 1e-6) is not quite one. */
        assert_true(fabs(change(accumulate, false) - 0.05) < 1e-6);
        train(&unit_vtable, &lab_data_vtable, 8, 1,
              (light_trainer_options){
                  .max_epochs = 1, .gradient_clip_val = 1000, .accumulate_grad_batches = accumulate},
              result);
        assert_true(fabs(change(accumulate, false) - unclipped) < 1e-6);
    }
}

static void clipping_by_value_limits_each_element(void **state)
{
    float result[LAB_WEIGHTS];
    (void)state;
    train(&unit_vtable, &lab_data_vtable, 2, 1,
          (light_trainer_options){
              .max_epochs = 1, .gradient_clip_val = 0.01, .gradient_clip_algorithm = "value"},
          result);
    assert_true(fabs(change(1, true) - 0.01) < 1e-6);
    assert_true(change(1, false) > 0.02);
}

static light_status clip_to_nothing(light_module *self, light_trainer *t)
{
    (void)t;
    for (light_parameter *p = light_next_parameter(self, NULL); p; p = light_next_parameter(self, p)) {
        float zeros[LAB_WEIGHTS] = {0};
        light_tensor *grad = light_grad(p->tensor);
        assert_non_null(grad);
        LIGHT_TRY(light_tensor_write(grad, LIGHT_F32, zeros, (size_t)light_numel(grad) * sizeof(float)));
    }
    return LIGHT_OK;
}

static void a_module_may_clip_itself(void **state)
{
    static const light_module_vtable vtable = {LIGHT_MODULE(boring), OBSERVED,
                                               .configure_optimizers = boring_optimizers,
                                               .configure_gradient_clipping = clip_to_nothing};
    float result[LAB_WEIGHTS];
    (void)state;
    train(&vtable, &lab_data_vtable, 4, 1, (light_trainer_options){.max_epochs = 1}, result);
    assert_same(result, weights[0]);
}

#define test(name) cmocka_unit_test_setup_teardown(name, begin, lab_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(weights_change_at_the_end_of_windows_and_of_epochs),
        test(the_short_last_window_is_averaged_over_its_own_length),
        test(a_window_that_a_limit_cuts_is_averaged_too),
        test(streams_of_unknown_length_average_the_same),
        test(skipped_batches_do_not_count_in_the_average),
        test(validation_inside_a_window_keeps_the_gradients),
        test(max_steps_counts_optimizer_steps),
        test(schedules_go_by_optimizer_steps),
        test(an_epoch_cut_short_is_none_for_a_plateau_schedule),
        test(clipping_by_norm_limits_the_total_norm),
        test(clipping_by_value_limits_each_element),
        test(a_module_may_clip_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
