/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that runs out: a step that is too large ends with one clear line and the program goes on; every single
 * allocation may fail. */
#include "trainer/lab.h"

/* ---- a step that is too large ------------------------------------------- */

/* Twice what this machine has, in floats. */
static int64_t too_many(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    assert_true(pages > 0 && page > 0);
    return 2 * (int64_t)pages * page / 4;
}

static void assert_step_works(light_step *s)
{
    double sum = 0;
    assert_ok(light_step_begin(s));
    light_tensor *x = light_full(s, LIGHT_SHAPE(1000), 2, LIGHT_F32);
    assert_ok(light_item(light_sum(s, light_mul(s, x, x), LIGHT_ALL, false), &sum));
    assert_true(sum == 4000);
}

static void test_a_step_too_large(void **state)
{
    (void)state;
    const light_shape shapes[] = {LIGHT_SHAPE(too_many()), LIGHT_SHAPE((int64_t)1 << 20, (int64_t)1 << 38)};
    light_step *s;
    assert_ok(light_step_new(&s, .seed = 1));
    for (int i = 0; i < 2; i++) {
        assert_step_works(s);
        light_tensor *x = light_zeros(s, shapes[i], LIGHT_F32);
        assert_null(x);
        assert_null(light_sum(s, x, LIGHT_ALL, false));
        assert_fails(light_step_status(s), LIGHT_ERR_MEMORY, "out of memory", "cpu", "MiB");
        assert_step_works(s);
    }
    light_step_free(s);
}

static void test_a_parameter_too_large(void **state)
{
    (void)state;
    light_linear layer = {0};
    assert_ok(light_linear_init(&layer, NULL, NULL, .in_features = too_many(), .out_features = 1));
    assert_fails(light_module_build(&layer.base, 1), LIGHT_ERR_MEMORY, "out of memory", "MiB");
    light_module_free(&layer.base);
}

/* The boring model, which asks for too much at its third batch. */
static bool greedy;

static light_tensor *greedy_training_step(light_module *self, light_step *s, const light_batch *batch)
{
    light_tensor *loss = boring_loss(self, s, batch);
    if (greedy && batch->index == 2)
        loss = light_add(s, loss,
                         light_sum(s, light_rand(s, LIGHT_SHAPE(too_many()), LIGHT_F32), LIGHT_ALL, false));
    return loss;
}

static const light_module_vtable greedy_vtable = {
    LIGHT_MODULE(boring),
    .init = boring_init,
    .forward = boring_forward,
    .training_step = greedy_training_step,
    .configure_optimizers = boring_optimizers,
};

static void test_a_run_that_asks_for_too_much(void **state)
{
    (void)state;
    lab l = lab_new(&greedy_vtable, light_trainer_new(.barebones = true, .max_steps = 4));
    greedy = true;
    assert_fails(lab_fit(&l), LIGHT_ERR_MEMORY, "out of memory", "rand");
    assert_int_equal(light_trainer_global_step(l.trainer), 2);
    greedy = false;
    assert_ok(lab_fit(&l));
    assert_int_equal(light_trainer_global_step(l.trainer), 4);
    lab_free(&l);
}

/* ---- every allocation, one by one --------------------------------------- */

typedef struct {
    light_module base;
    light_conv2d conv;
    light_batch_norm norm;
    light_linear out;
    light_lstm lstm;
} net;

static light_status net_init(light_module *self)
{
    net *m = (net *)self;
    LIGHT_TRY(light_conv2d_init(&m->conv, self, "conv", .in_channels = 1, .out_channels = 4, .kernel = 3));
    LIGHT_TRY(light_batch_norm_init(&m->norm, self, "norm", .features = 4));
    LIGHT_TRY(light_lstm_init(&m->lstm, self, "lstm", .input_size = 6, .hidden_size = 5));
    return light_linear_init(&m->out, self, "out", .in_features = 2 * 4 * 5, .out_features = LAB_CLASSES);
}

static light_tensor *net_training_step(light_module *self, light_step *s, const light_batch *batch)
{
    net *m = (net *)self;
    light_tensor *x = light_reshape(s, batch->fields[0], LIGHT_SHAPE(batch->size, 1, 4, 8));
    x = light_relu(s, light_forward(s, &m->norm.base, light_forward(s, &m->conv.base, x)));
    x = light_forward(s, &m->lstm.base, light_reshape(s, x, LIGHT_SHAPE(8, batch->size, 6)));
    x = light_reshape(s, light_dropout(s, x, 0.2), LIGHT_SHAPE(batch->size, 40));
    light_tensor *loss = light_cross_entropy(s, light_forward(s, &m->out.base, x), batch->fields[1]);
    light_log(s, "train_loss", loss, .on_epoch = LIGHT_ON, .on_step = true);
    return loss;
}

static light_status net_optimizers(light_module *self, light_optimizers *out)
{
    return light_optimizers_add(out, light_adamw(light_parameters(self), .lr = 0.01),
                                light_cosine_schedule(.warmup_steps = 1));
}

static const light_module_vtable net_vtable = {
    LIGHT_MODULE(net),
    .init = net_init,
    .training_step = net_training_step,
    .configure_optimizers = net_optimizers,
};

/* Module and data made, a run of two steps, all freed. */
static light_status whole_run(light_trainer *(*new_trainer)(void))
{
    light_status status = LIGHT_ERR_MEMORY;
    light_module *m = light_module_new(&net_vtable);
    light_datamodule *d = light_datamodule_new(&lab_data_vtable);
    light_trainer *t = m && d ? new_trainer() : NULL;
    if (t) {
        ((lab_data *)d)->batch_size = 4;
        status = light_trainer_fit(t, m, d);
    }
    light_trainer_free(t);
    light_datamodule_free(d);
    light_module_free(m);
    return status;
}

/* Every stride-th of a run's allocations fails. `warns`: the run may go on, as it does when a logger fails. */
static void fail_each(light_trainer *(*new_trainer)(void), int64_t stride, bool warns)
{
    assert_ok(whole_run(new_trainer)); /* fills what lasts as long as the process */
    light_memory_counters before = light_memory_count();
    assert_ok(whole_run(new_trainer));
    int64_t count = (int64_t)(light_memory_count().calls - before.calls);
    assert_true(count > 50);
    for (int64_t n = 1; n <= count; n += stride) {
        light_memory_fail_nth(n);
        light_status status = whole_run(new_trainer);
        light_memory_fail_nth(0);
        if (light_memory_count().live != before.live)
            fail_msg("allocation %lld: %lld blocks are left", (long long)n,
                     (long long)(light_memory_count().live - before.live));
        if (warns && status == LIGHT_OK) continue;
        if (status != LIGHT_ERR_MEMORY || !strstr(light_error_message(), "out of memory"))
            fail_msg("allocation %lld: status %d: %s", (long long)n, status, light_error_message());
    }
}

static light_trainer *barebones(void)
{
    return light_trainer_new(.barebones = true, .max_steps = 2);
}

static void test_each_allocation_of_a_bare_run(void **state)
{
    (void)state;
    fail_each(barebones, 1, false);
}

/* Runs in a folder of its own each time. */
static light_trainer *with_everything(void)
{
    static int run;
    return light_trainer_new(.max_steps = 2, .default_root_dir = at("%d", run++), .log_every_n_steps = 1);
}

static void test_each_allocation_of_a_whole_run(void **state)
{
    (void)state;
    fail_each(with_everything, 7, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        lab_test(test_a_step_too_large),
        lab_test(test_a_parameter_too_large),
        lab_test(test_a_run_that_asks_for_too_much),
        lab_test(test_each_allocation_of_a_bare_run),
        lab_test(test_each_allocation_of_a_whole_run),
    };
    return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
