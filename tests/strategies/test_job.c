/* SPDX-License-Identifier: Apache-2.0 */
/* The Trainer on the processes of a launcher: the same weights and metrics, to the bit, as one of them alone. Started without
 * a launcher it is a job of one. */
#include "strategies/fake.h"

#include "strategies/communicators.h"

#include <float.h>

typedef struct noisy {
    light_module base;
    light_linear layer, head;
} noisy;

static light_status noisy_init(light_module *self)
{
    noisy *m = (noisy *)self;
    LIGHT_TRY(light_linear_init(&m->layer, self, "layer", .in_features = LAB_FEATURES, .out_features = 4));
    return light_linear_init(&m->head, self, "head", .in_features = 4, .out_features = LAB_CLASSES);
}

static light_tensor *noisy_forward(light_module *self, light_step *s, light_tensor *x)
{
    noisy *m = (noisy *)self;
    x = light_dropout(s, light_relu(s, light_forward(s, &m->layer.base, x)), 0.3);
    return light_forward(s, &m->head.base, x);
}

static light_tensor *noisy_training_step(light_module *self, light_step *s, const light_batch *batch)
{
    light_tensor *loss = light_cross_entropy(s, light_forward(s, self, batch->fields[0]), batch->fields[1]);
    light_log(s, "loss", loss, .on_step = true, .on_epoch = true);
    return loss;
}

static void noisy_validation_step(light_module *self, light_step *s, const light_batch *batch)
{
    light_log(s, "val_loss",
              light_cross_entropy(s, light_forward(s, self, batch->fields[0]), batch->fields[1]));
}

static light_status noisy_optimizers(light_module *self, light_optimizers *out)
{
    return light_optimizers_add(out, light_adam(light_parameters(self), .lr = 0.02), NULL);
}

static const light_module_vtable noisy_vtable = {
    LIGHT_MODULE(noisy),
    .init = noisy_init,
    .forward = noisy_forward,
    .training_step = noisy_training_step,
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
    float *to = o.weights;
    light_trainer_options options = {.max_epochs = epochs,
                                     .accumulate_grad_batches = 4,
                                     .default_root_dir = folder,
                                     .enable_progress_bar = LIGHT_OFF,
                                     .enable_model_summary = LIGHT_OFF,
                                     .enable_learning_curve = LIGHT_OFF,
                                     .enable_checkpointing = LIGHT_OFF};
    lab l = lab_new(&noisy_vtable, fake_trainer(&options));
    l.trainer->options.deterministic = "elastic";
    l.data->batch_size = 3;
    l.data->shuffle = true;
    o.status = lab_fit(&l);
    o.steps = light_trainer_global_step(l.trainer);
    light_trainer_metric(l.trainer, "loss_epoch", &o.loss);
    light_trainer_metric(l.trainer, "val_loss", &o.val_loss);
    for (light_parameter *p = light_next_parameter(l.module, NULL); p;
         p = light_next_parameter(l.module, p)) {
        assert_ok(light_tensor_read(p->tensor, LIGHT_F32, to, (size_t)p->tensor->numel * sizeof *to));
        to += p->tensor->numel;
    }
    lab_free(&l);
    return o;
}

static light_communicator *host;

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

typedef struct normed {
    light_module base;
    light_linear layer;
    light_batch_norm norm;
    light_linear head;
} normed;

static light_status normed_init(light_module *self)
{
    normed *m = (normed *)self;
    LIGHT_TRY(light_linear_init(&m->layer, self, "layer", .in_features = LAB_FEATURES, .out_features = 6));
    LIGHT_TRY(light_batch_norm_init(&m->norm, self, "norm", .features = 6));
    return light_linear_init(&m->head, self, "head", .in_features = 6, .out_features = LAB_CLASSES);
}

static light_tensor *normed_forward(light_module *self, light_step *s, light_tensor *x)
{
    normed *m = (normed *)self;
    x = light_relu(s, light_forward(s, &m->norm.base, light_forward(s, &m->layer.base, x)));
    return light_forward(s, &m->head.base, x);
}

static light_status normed_optimizers(light_module *self, light_optimizers *out)
{
    return light_optimizers_add(out, light_sgd(light_parameters(self), .lr = 0.05), NULL);
}

static const light_module_vtable normed_vtable = {
    LIGHT_MODULE(normed),
    .init = normed_init,
    .forward = normed_forward,
    .training_step = noisy_training_step,
    .configure_optimizers = normed_optimizers,
};

/* 22 batches in windows of 3 for each rank, so that ranks end the last one in different turns. strategy NULL: the fake. */
static void train_normed(const char *strategy, float *to)
{
    light_trainer_options options = {.max_epochs = 2,
                                     .accumulate_grad_batches = 3,
                                     .strategy = strategy,
                                     .sync_batchnorm = true,
                                     .default_root_dir = folder,
                                     .enable_progress_bar = LIGHT_OFF,
                                     .enable_model_summary = LIGHT_OFF,
                                     .enable_learning_curve = LIGHT_OFF,
                                     .enable_checkpointing = LIGHT_OFF};
    light_trainer *t = light_trainer_new_with(&options);
    if (!t) fail_msg("%s", light_error_message());
    if (!strategy) t->strategy_table = &fake_vtable;
    lab l = lab_new(&normed_vtable, t);
    l.data->batch_size = 3;
    l.data->shuffle = true;
    assert_ok(lab_fit(&l));
    for (light_parameter *p = light_next_parameter(l.module, NULL); p;
         p = light_next_parameter(l.module, p)) {
        if (p->is_buffer && p->tensor->dtype != LIGHT_F32) continue;
        assert_ok(light_tensor_read(p->tensor, LIGHT_F32, to, (size_t)p->tensor->numel * sizeof *to));
        to += p->tensor->numel;
    }
    lab_free(&l);
}

static void all_strategies_sync_batch_norm_alike(void **state)
{
    static const char *const strategies[] = {"ddp", "zero1", "zero2", "zero3"};
    float expected[512] = {0};
    (void)state;
    as_job();
    if (host->size == 1) return;
    train_normed(NULL, expected);
    for (size_t i = 0; i < sizeof strategies / sizeof *strategies; i++) {
        float weights[512] = {0};
        train_normed(strategies[i], weights);
        for (int k = 0; k < 512; k++) /* 16 steps, values below 10 */
            if (fabsf(weights[k] - expected[k]) > 16 * 16 * FLT_EPSILON * fmaxf(1, fabsf(expected[k])))
                fail_msg("%s: weight %d is %.9g, not %.9g", strategies[i], k, (double)weights[k],
                         (double)expected[k]);
    }
}

/* ---- parameters that hooks read ------------------------------------------------------ */

static light_status read_status;
static int64_t reads;

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
    light_trainer_options options = {.max_epochs = 1,
                                     .strategy = strategy,
                                     .default_root_dir = folder,
                                     .enable_progress_bar = LIGHT_OFF,
                                     .enable_model_summary = LIGHT_OFF,
                                     .enable_learning_curve = LIGHT_OFF,
                                     .enable_checkpointing = LIGHT_OFF};
    reading.on_train_batch_end = read_weight;
    light_trainer *t = light_trainer_new_with(&options);
    if (!t) fail_msg("%s", light_error_message());
    lab l = lab_new(&reading, t);
    reads = 0;
    assert_ok(lab_fit(&l));
    lab_free(&l);
    return read_status;
}

static void hooks_read_whole_values_or_none(void **state)
{
    (void)state;
    as_job();
    assert_ok(read_in_hook("zero1"));
    assert_true(reads > 0);
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
    light_trainer_options options = {.max_epochs = 1,
                                     .strategy = "zero3",
                                     .precision = precision,
                                     .limit_val_batches = "0",
                                     .default_root_dir = folder,
                                     .enable_progress_bar = LIGHT_OFF,
                                     .enable_model_summary = LIGHT_OFF,
                                     .enable_learning_curve = LIGHT_OFF,
                                     .enable_checkpointing = LIGHT_OFF};
    counting.init = broad_init;
    counting.on_train_start = begin_counting;
    counting.on_train_end = end_counting;
    light_trainer *t = light_trainer_new_with(&options);
    if (!t) fail_msg("%s", light_error_message());
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

/* All processes of the launcher have the same folder. */
static int begin(void **state)
{
    (void)state;
    light_message_set_level(LIGHT_MESSAGE_ERROR);
    snprintf(folder, sizeof folder, "%s/light-job-%d", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp",
             (int)getppid());
    return light_mpi_communicator_new(&host) == LIGHT_OK ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    light_status status = light_barrier(host, "end");
    if (host->rank == 0 && light_directory_exists(folder)) status = light_remove_tree(folder);
    light_communicator_free(host);
    return status == LIGHT_OK ? 0 : -1;
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
    return cmocka_run_group_tests(tests, begin, end);
}
