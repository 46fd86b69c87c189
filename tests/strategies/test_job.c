/* SPDX-License-Identifier: Apache-2.0 */
/* The Trainer on the processes of a launcher: the same weights and metrics, to the bit, as one of them alone. Started without
 * a launcher it is a job of one. */
#include "strategies/fake.h"
#include "strategies/launched.h"

#include <float.h>

static void noisy_validation_step(light_module *self, light_step *s, const light_batch *batch)
{
    light_log(s, "val_loss", class_loss(self, s, batch));
}

static light_status noisy_optimizers(light_module *self, light_optimizers *out)
{
    return light_optimizers_add(out, light_adam(light_parameters(self), .lr = 0.02), NULL);
}

static const light_module_vtable noisy_vtable = {
    LIGHT_MODULE(noisy),
    .init = noisy_init,
    .forward = noisy_forward,
    .training_step = logged_step,
    .validation_step = noisy_validation_step,
    .configure_optimizers = noisy_optimizers,
};

typedef struct outcome {
    float weights[256];
    double loss, val_loss;
    int64_t steps;
    light_status status;
} outcome;

/* 22 batches in windows of 4. `epochs` may be another number on one rank. */
static outcome train(int64_t epochs)
{
    outcome o = {.loss = NAN};
    lab l =
        lab_new(&noisy_vtable,
                fake_trainer((light_trainer_options){.max_epochs = epochs, .accumulate_grad_batches = 4}));
    l.trainer->options.deterministic = "elastic";
    l.data->batch_size = 3;
    l.data->shuffle = true;
    o.status = lab_fit(&l);
    o.steps = light_trainer_global_step(l.trainer);
    light_trainer_metric(l.trainer, "loss_epoch", &o.loss);
    light_trainer_metric(l.trainer, "val_loss", &o.val_loss);
    read_numbers(l.module, o.weights, sizeof o.weights / sizeof *o.weights);
    lab_free(&l);
    return o;
}

static void as_job(void)
{
    fake_host = host;
    fake_rank = host->rank;
    fake_size = host->size;
}

static void as_process_alone(void)
{
    fake_host = NULL;
    fake_rank = 0;
    fake_size = 1;
}

static void a_job_trains_to_the_bits_of_one_process(void **state)
{
    (void)state;
    as_process_alone();
    outcome alone = host->rank == 0 ? train(3) : (outcome){0};
    assert_ok(light_broadcast_bytes(host, &alone, sizeof alone, 0, "reference"));
    as_job();
    outcome together = train(3);
    assert_ok(alone.status);
    assert_ok(together.status);
    assert_int_equal(together.steps, 18);
    assert_memory_equal(together.weights, alone.weights, sizeof alone.weights);
    assert_memory_equal(&together.loss, &alone.loss, sizeof alone.loss);
    assert_memory_equal(&together.val_loss, &alone.val_loss, sizeof alone.val_loss);
}

static void ranks_that_differ_say_so_before_they_train(void **state)
{
    (void)state;
    as_job();
    if (host->size == 1) return;
    outcome o = train(host->rank == host->size - 1 ? 2 : 1);
    char expected[64];
    snprintf(expected, sizeof expected, "rank %d has trainer.max_epochs 2, rank 0 has 1", host->size - 1);
    assert_int_equal(o.status, LIGHT_ERR_ARGUMENT);
    assert_non_null(strstr(light_error_message(), expected));
    assert_int_equal(o.steps, 0);
}

/* ---- batch norm over the ranks, with the strategies that ship ------------------------ */

static light_status normed_optimizers(light_module *self, light_optimizers *out)
{
    return light_optimizers_add(out, light_sgd(light_parameters(self), .lr = 0.05), NULL);
}

static const light_module_vtable normed_vtable = {
    LIGHT_MODULE(normed),
    .init = normed_init,
    .forward = normed_forward,
    .training_step = logged_step,
    .configure_optimizers = normed_optimizers,
};

enum { MOST_NUMBERS = 512 };

/* 22 batches in windows of 3 for each rank, so that ranks end the last one in different turns. strategy NULL: the fake. */
static void train_normed(const char *strategy, float *to)
{
    light_trainer_options options = {
        .max_epochs = 2, .accumulate_grad_batches = 3, .strategy = strategy, .sync_batchnorm = true};
    lab l = lab_new(&normed_vtable, strategy ? quiet_trainer(options) : fake_trainer(options));
    l.data->batch_size = 3;
    l.data->shuffle = true;
    assert_ok(lab_fit(&l));
    read_numbers(l.module, to, MOST_NUMBERS);
    lab_free(&l);
}

static void all_strategies_sync_batch_norm_alike(void **state)
{
    static const char *const strategies[] = {"ddp", "zero1", "zero2", "zero3"};
    float expected[MOST_NUMBERS] = {0};
    (void)state;
    as_job();
    if (host->size == 1) return;
    train_normed(NULL, expected);
    for (size_t i = 0; i < sizeof strategies / sizeof *strategies; i++) {
        float weights[MOST_NUMBERS] = {0};
        train_normed(strategies[i], weights);
        for (int k = 0; k < MOST_NUMBERS; k++) /* 16 steps, values below 10 */
            if (fabsf(weights[k] - expected[k]) > 16 * 16 * FLT_EPSILON * fmaxf(1, fabsf(expected[k])))
                fail_msg("%s: weight %d is %.9g, not %.9g", strategies[i], k, (double)weights[k],
                         (double)expected[k]);
    }
}

/* ---- parameters that hooks read ------------------------------------------------------ */

static light_status read_status, grad_status;
static int64_t reads;

/* They are summed by now. */
static void read_gradient(light_module *self, light_trainer *t)
{
    float values[4 * LAB_FEATURES];
    (void)t;
    grad_status =
        light_tensor_read(light_grad(((noisy *)self)->layer.weight), LIGHT_F32, values, sizeof values);
}

/* After the optimizer's step, whose values are on their way to the others. */
static void read_weight(light_module *self, light_trainer *t, const light_batch *batch)
{
    const light_tensor *weight = ((noisy *)self)->layer.weight;
    float values[4 * LAB_FEATURES];
    (void)t, (void)batch;
    read_status = light_tensor_read(weight, LIGHT_F32, values, sizeof values);
    assert_true((light_data(weight) != NULL) == (read_status == LIGHT_OK));
    if (read_status != LIGHT_OK) return;
    char *all;
    size_t sizes[8];
    assert_ok(light_gather_bytes(host, values, sizeof values, &all, sizes, "values that a hook has read"));
    for (int r = 0; r < host->size; r++)
        assert_memory_equal(all + (size_t)r * sizeof values, values, sizeof values);
    light_free(all);
    reads++;
}

static light_status read_in_hook(const char *strategy)
{
    light_module_vtable reading = noisy_vtable;
    reading.on_train_batch_end = read_weight;
    reading.on_before_optimizer_step = read_gradient;
    lab l = lab_new(&reading, quiet_trainer((light_trainer_options){.max_epochs = 1, .strategy = strategy}));
    reads = 0;
    assert_ok(lab_fit(&l));
    lab_free(&l);
    return read_status;
}

static void hooks_read_whole_values_or_none(void **state)
{
    (void)state;
    as_job();
    assert_ok(read_in_hook("ddp"));
    assert_ok(grad_status);
    assert_ok(read_in_hook("zero1"));
    assert_true(reads > 0);
    if (host->size > 1) assert_int_equal(grad_status, LIGHT_ERR_STATE);
    assert_ok(read_in_hook("zero2"));
    if (host->size > 1) assert_int_equal(read_in_hook("zero3"), LIGHT_ERR_STATE);
}

/* ---- what zero3 sends ---------------------------------------------------------------- */

static uint64_t sent, gathered; /* gathered: what a rank sends for all f32 values once in each step */

/* Large beside what units are filled up with. */
static light_status broad_init(light_module *self)
{
    noisy *m = (noisy *)self;
    LIGHT_TRY(light_linear_init(&m->layer, self, "layer", .in_features = LAB_FEATURES, .out_features = 64));
    return light_linear_init(&m->head, self, "head", .in_features = 64, .out_features = LAB_CLASSES);
}

static void begin_counting(light_module *self, light_trainer *t)
{
    (void)self;
    sent = t->strategy->tensors->bytes;
}

static void end_counting(light_module *self, light_trainer *t)
{
    uint64_t n = (uint64_t)host->size, unit = self->flat->buffers[0].bytes;
    sent = t->strategy->tensors->bytes - sent;
    gathered = (uint64_t)light_trainer_global_step(t) * unit * (n - 1) / n;
}

static uint64_t bytes_sent(const char *precision)
{
    light_module_vtable counting = noisy_vtable;
    light_trainer *t = quiet_trainer((light_trainer_options){
        .max_epochs = 1, .strategy = "zero3", .precision = precision, .limit_val_batches = "0"});
    counting.init = broad_init;
    counting.on_train_start = begin_counting;
    counting.on_train_end = end_counting;
    lab l = lab_new(&counting, t);
    assert_ok(lab_fit(&l));
    lab_free(&l);
    return sent;
}

/* The model is one unit, and small enough to stay from forward to backward. Gradients are reduced in f32 always. */
static void zero3_gathers_16_bits_where_these_are_read(void **state)
{
    (void)state;
    as_job();
    if (host->size == 1) return;
    uint64_t full = bytes_sent("32-true"), lowered = bytes_sent("bf16-true");
    assert_true(gathered > 0);
    assert_int_equal(full - lowered, gathered / 2);
    /* Biases are gathered in f32. */
    uint64_t mixed = bytes_sent("bf16-mixed");
    assert_true(mixed < full && mixed > lowered);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_trains_to_the_bits_of_one_process),
        cmocka_unit_test(all_strategies_sync_batch_norm_alike),
        cmocka_unit_test(hooks_read_whole_values_or_none),
        cmocka_unit_test(zero3_gathers_16_bits_where_these_are_read),
        cmocka_unit_test(ranks_that_differ_say_so_before_they_train),
    };
    return cmocka_run_group_tests(tests, launched_begin, launched_end);
}
