/* SPDX-License-Identifier: Apache-2.0 */
/* The Trainer's loops on several ranks: who gets which batch, that all come to the same weights, and do the same things. */
#include "strategies/fake.h"

/* ---- a model that draws random numbers ------------------------------------- */

enum { MOST_WEIGHTS = 256 };

/* What a rank reports. */
typedef struct report {
    float weights[MOST_WEIGHTS];
    int64_t steps, epochs, trained, validated, tested, predicted;
    int64_t batches[64]; /* trained on */
    int64_t samples[LAB_SAMPLES];
    int64_t validations, validated_after[16], saves, stepped_hooks;
    double mean, largest, total, step_value;
    light_status status;
    char message[256];
} report;

static report *mine(void)
{
    _Static_assert(sizeof(report) <= sizeof fake->results[0], "a report does not fit");
    return (report *)(void *)fake->results[fake_rank];
}

static const report *of(int rank)
{
    return (const report *)(const void *)fake->results[rank];
}

static light_tensor *noisy_training_step(light_module *self, light_step *s, const light_batch *batch)
{
    report *r = mine();
    light_tensor *loss = class_loss(self, s, batch);
    r->batches[r->trained % 64] = batch->index;
    r->trained++;
    for (int64_t i = 0; i < batch->size; i++) r->samples[batch->indices[i]]++;
    light_log(s, "train_loss", loss, .on_step = true, .on_epoch = true);
    return loss;
}

static void noisy_validation_step(light_module *self, light_step *s, const light_batch *batch)
{
    if (!light_trainer_sanity_checking(light_step_trainer(s))) mine()->validated++;
    light_log(s, "val_loss", class_loss(self, s, batch));
}

static void noisy_test_step(light_module *self, light_step *s, const light_batch *batch)
{
    mine()->tested++;
    light_log(s, "test_loss", class_loss(self, s, batch));
    for (int64_t i = 0; i < batch->size; i++) mine()->samples[batch->indices[i]]++;
}

static light_tensor *noisy_predict_step(light_module *self, light_step *s, const light_batch *batch)
{
    mine()->predicted++;
    return light_forward(s, self, batch->fields[0]);
}

static void noisy_on_validation_start(light_module *self, light_trainer *t)
{
    report *r = mine();
    (void)self;
    if (!light_trainer_sanity_checking(t)) r->validated_after[r->validations++] = t->batch.processed;
}

static void noisy_on_before_optimizer_step(light_module *self, light_trainer *t)
{
    (void)self, (void)t;
    mine()->stepped_hooks++;
}

static light_status noisy_optimizers(light_module *self, light_optimizers *out)
{
    return light_optimizers_add(out, light_adam(light_parameters(self), .lr = 0.02),
                                light_cosine_schedule(.warmup_steps = 2));
}

static const light_module_vtable noisy_vtable = {
    LIGHT_MODULE(noisy),
    .init = noisy_init,
    .forward = noisy_forward,
    .training_step = noisy_training_step,
    .validation_step = noisy_validation_step,
    .test_step = noisy_test_step,
    .predict_step = noisy_predict_step,
    .configure_optimizers = noisy_optimizers,
    .on_validation_start = noisy_on_validation_start,
    .on_before_optimizer_step = noisy_on_before_optimizer_step,
};

/* Without a schedule. */
static light_status plain_optimizers(light_module *self, light_optimizers *out)
{
    return light_optimizers_add(out, light_adam(light_parameters(self), .lr = 0.02), NULL);
}

static const light_module_vtable plain_vtable = {
    LIGHT_MODULE(noisy),
    .init = noisy_init,
    .forward = noisy_forward,
    .training_step = noisy_training_step,
    .validation_step = noisy_validation_step,
    .on_validation_start = noisy_on_validation_start,
    .configure_optimizers = plain_optimizers,
};

/* ---- a run ------------------------------------------------------------------ */

typedef struct plan {
    light_trainer_options options;
    const light_module_vtable *module;
    const light_datamodule_vtable *data;
    int64_t samples, batch_size;
    bool elastic;
    light_stage stage; /* 0: fit */
} plan;

static void rank_of_plan(void *argument)
{
    const plan *p = argument;
    report *r = mine();
    lab l = lab_new_with(p->module ? p->module : &noisy_vtable, p->data ? p->data : &lab_data_vtable,
                         fake_trainer(p->options));
    l.data->train_samples = l.data->val_samples = l.data->test_samples =
        p->samples ? p->samples : LAB_SAMPLES;
    l.data->batch_size = p->batch_size ? p->batch_size : 3;
    l.data->shuffle = true;
    if (p->elastic) l.trainer->options.deterministic = "elastic";
    r->status = p->stage == LIGHT_STAGE_TEST      ? lab_run_test(&l, .quiet = true)
                : p->stage == LIGHT_STAGE_PREDICT ? lab_predict(&l)
                                                  : lab_fit(&l);
    if (r->status != LIGHT_OK) snprintf(r->message, sizeof r->message, "%s", light_error_message());
    r->steps = light_trainer_global_step(l.trainer);
    r->epochs = light_trainer_current_epoch(l.trainer);
    read_numbers(l.module, r->weights, MOST_WEIGHTS);
    light_trainer_metric(l.trainer, "val_loss", &r->mean);
    lab_free(&l);
}

static void run(int size, plan p)
{
    fake_run(size, rank_of_plan, &p);
    for (int rank = 0; rank < size; rank++) {
        if (of(rank)->status != of(0)->status) fail_msg("rank %d: %s", rank, of(rank)->message);
        assert_int_equal(of(rank)->steps, of(0)->steps);
        assert_memory_equal(of(rank)->weights, of(0)->weights, sizeof of(0)->weights);
    }
}

static void assert_done(void)
{
    if (of(0)->status != LIGHT_OK) fail_msg("%s", of(0)->message);
}

static bool is_zero(const float *weights)
{
    static const float zero[MOST_WEIGHTS];
    return memcmp(weights, zero, sizeof zero) == 0;
}

/* ---- tests ------------------------------------------------------------------- */

/* 22 batches of 3 samples in windows of 4: the last one has 2. Dropout, order and schedules are those of one process. */
static void the_same_windows_give_the_same_bits_on_any_number_of_ranks(void **state)
{
    float expected[MOST_WEIGHTS] = {0};
    (void)state;
    for (int size = 1; size <= 4; size *= 2) {
        run(size, (plan){.options = {.max_epochs = 3, .accumulate_grad_batches = 4}, .elastic = true});
        assert_done();
        assert_int_equal(of(0)->steps, 18);
        assert_int_equal(of(0)->stepped_hooks, 18);
        assert_false(is_zero(of(0)->weights));
        if (size == 1) memcpy(expected, of(0)->weights, sizeof expected);
        assert_memory_equal(of(0)->weights, expected, sizeof expected);
    }
    /* And without the flag, where it counts the batches of one rank. */
    for (int size = 1; size <= 4; size++) {
        if (size == 3) continue;
        run(size, (plan){.options = {.max_epochs = 3, .accumulate_grad_batches = 4 / size}});
        assert_done();
        assert_memory_equal(of(0)->weights, expected, sizeof expected);
    }
}

static void each_sample_is_trained_on_once_an_epoch(void **state)
{
    (void)state;
    for (int size = 1; size <= 5; size++)
        for (int64_t run_length = 1; run_length <= 3; run_length++) {
            run(size, (plan){.options = {.max_epochs = 2,
                                         .accumulate_grad_batches = run_length,
                                         .limit_val_batches = "0"}});
            assert_done();
            assert_int_equal(of(0)->steps, 2 * ((22 + size * run_length - 1) / (size * run_length)));
            for (int i = 0; i < LAB_SAMPLES; i++) {
                int64_t seen = 0;
                for (int rank = 0; rank < size; rank++) seen += of(rank)->samples[i];
                assert_int_equal(seen, 2);
            }
            for (int rank = 0; rank < size; rank++)
                for (int64_t b = 0; b < of(rank)->trained && b < 64; b++)
                    assert_int_equal(of(rank)->batches[b] % (size * run_length) / run_length, rank);
        }
}

/* Five batches for four ranks: in the second window only rank 0 has one. */
static void ranks_without_a_batch_step_with_the_others(void **state)
{
    (void)state;
    run(4, (plan){.options = {.max_epochs = 2}, .samples = 15});
    assert_done();
    assert_int_equal(of(0)->steps, 4);
    assert_int_equal(of(0)->trained, 4);
    assert_int_equal(of(3)->trained, 2);
    assert_int_equal(of(3)->stepped_hooks, 4);
    float expected[MOST_WEIGHTS];
    memcpy(expected, of(0)->weights, sizeof expected);
    run(1, (plan){.options = {.max_epochs = 2, .accumulate_grad_batches = 4}, .samples = 15});
    assert_memory_equal(of(0)->weights, expected, sizeof expected);
}

static void limits_and_intervals_count_the_batches_of_all(void **state)
{
    (void)state;
    for (int size = 1; size <= 4; size *= 2) {
        run(size, (plan){.options = {.max_epochs = 1,
                                     .accumulate_grad_batches = 4,
                                     .limit_train_batches = "14",
                                     .limit_val_batches = "5",
                                     .val_check_interval = "6",
                                     .num_sanity_val_steps = LIGHT_ZERO_COUNT},
                         .elastic = true});
        assert_done();
        int64_t trained = 0, validated = 0;
        for (int rank = 0; rank < size; rank++) {
            const report *r = of(rank);
            trained += r->trained;
            validated += r->validated;
            /* At the ends of the windows that reach 6 and 12. */
            assert_int_equal(r->validations, 2);
            assert_int_equal(r->validated_after[0], 8);
            assert_int_equal(r->validated_after[1], 12);
        }
        assert_int_equal(trained, 14);
        assert_int_equal(validated, 10);
        assert_int_equal(of(0)->steps, 4);
    }
    run(3, (plan){.options = {.fast_dev_run = 2}});
    assert_done();
    assert_int_equal(of(2)->trained, 2);
    assert_int_equal(of(2)->validated, 2);
}

static void evaluation_uses_each_sample_once(void **state)
{
    (void)state;
    for (int size = 1; size <= 5; size += 2) {
        run(size, (plan){.stage = LIGHT_STAGE_TEST});
        assert_done();
        for (int rank = 0; rank < size; rank++)
            assert_int_equal(of(rank)->tested, (22 - rank + size - 1) / size);
        for (int i = 0; i < LAB_SAMPLES; i++) {
            int64_t seen = 0;
            for (int rank = 0; rank < size; rank++) seen += of(rank)->samples[i];
            assert_int_equal(seen, 1);
        }
    }
}

/* Each rank has a loader of its own, with all samples. */
static void own_samplers_are_left_alone(void **state)
{
    (void)state;
    run(3, (plan){.options = {.max_epochs = 1,
                              .accumulate_grad_batches = 4,
                              .limit_val_batches = "0",
                              .use_distributed_sampler = LIGHT_OFF}});
    assert_done();
    assert_int_equal(of(0)->steps, 6);
    for (int rank = 0; rank < 3; rank++) {
        assert_int_equal(of(rank)->trained, 22);
        for (int i = 0; i < LAB_SAMPLES; i++) assert_int_equal(of(rank)->samples[i], 1);
    }
}

static void elastic_windows_that_do_not_fit_are_told(void **state)
{
    (void)state;
    run(3, (plan){.options = {.max_epochs = 1, .accumulate_grad_batches = 4}, .elastic = true});
    assert_int_equal(of(0)->status, LIGHT_ERR_ARGUMENT);
    assert_non_null(strstr(of(2)->message,
                           "accumulate_grad_batches 4 counts the batches of all processes; with "
                           "3 of them it must be 3 times a power of two"));
    run(2, (plan){.options = {.max_epochs = 1, .accumulate_grad_batches = 6}, .elastic = true});
    assert_int_equal(of(0)->status, LIGHT_ERR_ARGUMENT);
}

/* ---- streams ------------------------------------------------------------------ */

static light_loader *sharded_stream(light_datamodule *self)
{
    lab_data *d = (lab_data *)self;
    light_dataset *dataset;
    lab_fill();
    if (light_dataset_new(&dataset, &lab_source_vtable) != LIGHT_OK) return NULL;
    ((lab_source *)dataset)->samples = d->train_samples;
    return light_loader_new(dataset, .batch_size = d->batch_size, .shards = 3);
}

static const light_datamodule_vtable stream_data = {
    LIGHT_DATAMODULE(lab_data),
    .options = lab_data_options,
    .train_dataloader = sharded_stream,
    .val_dataloader = lab_val,
};

/* Shards of 22, 21 and 21 samples in batches of 3: 8, 7 and 7 batches. With two ranks the first one has two shards. */
static void a_stream_ends_when_all_ranks_are_at_their_end(void **state)
{
    (void)state;
    for (int size = 1; size <= 3; size++) {
        run(size, (plan){.options = {.max_epochs = 2, .accumulate_grad_batches = 2},
                         .module = &plain_vtable,
                         .data = &stream_data});
        assert_done();
        int64_t trained = 0, most = 0;
        for (int rank = 0; rank < size; rank++) {
            trained += of(rank)->trained;
            most = of(rank)->trained > most ? of(rank)->trained : most;
            assert_int_equal(of(rank)->validations, 2);
        }
        assert_int_equal(trained, 2 * 22);
        assert_int_equal(of(0)->steps, 2 * ((most / 2 + 1) / 2));
    }
    run(4, (plan){.options = {.max_epochs = 1}, .data = &stream_data});
    assert_int_equal(of(0)->status, LIGHT_ERR_ARGUMENT);
    assert_non_null(strstr(of(3)->message, "has 3 shards, but 4 processes read it"));
}

/* ---- manual optimization ------------------------------------------------------- */

static light_tensor *manual_training_step(light_module *self, light_step *s, const light_batch *batch)
{
    light_optimizer *optimizer = light_optimizer_at(s, 0);
    light_tensor *loss = class_loss(self, s, batch);
    mine()->trained++;
    light_zero_grad(s, optimizer);
    light_manual_backward(s, loss);
    light_optimizer_step(s, optimizer);
    return NULL;
}

static const light_module_vtable manual_vtable = {
    LIGHT_MODULE(noisy),
    .init = noisy_init,
    .forward = noisy_forward,
    .training_step = manual_training_step,
    .configure_optimizers = plain_optimizers,
    .manual_optimization = true,
};

static void manual_optimization_takes_the_mean_over_the_ranks(void **state)
{
    (void)state;
    run(4, (plan){.options = {.max_epochs = 1}, .module = &manual_vtable});
    assert_done();
    assert_int_equal(of(0)->steps, 5);
    assert_int_equal(of(3)->trained, 5); /* the last two of 22 batches make no turn */
    float expected[MOST_WEIGHTS];
    memcpy(expected, of(0)->weights, sizeof expected);
    run(4, (plan){.options = {.max_epochs = 1, .limit_train_batches = "20"}, .module = &plain_vtable});
    assert_done();
    assert_memory_equal(of(0)->weights, expected, sizeof expected);
}

/* ---- things that ranks do together ----------------------------------------------- */

/* Stops after the window at whose end any rank was asked to, on all of them. */
static void stop_together(void *argument)
{
    lab l = lab_new(&noisy_vtable,
                    fake_trainer((light_trainer_options){.max_epochs = 9, .limit_val_batches = "0"}));
    (void)argument;
    l.data->batch_size = 3;
    fake->stop_at[2] = 9;
    mine()->status = lab_fit(&l);
    mine()->steps = light_trainer_global_step(l.trainer);
    lab_free(&l);
}

static void a_signal_to_one_rank_stops_all_at_the_same_step(void **state)
{
    (void)state;
    fake_run(3, stop_together, NULL);
    for (int rank = 0; rank < 3; rank++) {
        assert_int_equal(of(rank)->status, LIGHT_ERR_INTERRUPTED);
        assert_int_equal(of(rank)->steps, 10);
    }
    assert_int_equal(fake->failures, 0);
}

/* One run folder and one metrics.csv, which rank 0 writes. */
static void rank_0_alone_writes_the_runs_folder(void **state)
{
    (void)state;
    run(3, (plan){.options = {.max_epochs = 2, .log_every_n_steps = 1, .name = "shared"}});
    assert_done();
    char *text = read_text(at("shared/version_0/metrics.csv"));
    assert_int_equal(occurrences(text, "\n"), 1 + of(0)->steps);
    light_free(text);
    assert_false(light_directory_exists(at("shared/version_1")));
}

/* ---- going on -------------------------------------------------------------------- */

static int64_t stop_after;

typedef struct journey {
    int64_t stop_after; /* so many optimizer steps of this run; 0: to the end */
    bool go_on;
} journey;

static void stop_later(light_module *self, light_trainer *t)
{
    static int64_t steps;
    (void)self;
    if (++steps == stop_after) fake->stop_at[fake_rank] = (int)t->boundaries;
}

static void rank_of_journey(void *argument)
{
    const journey *j = argument;
    light_trainer_options options = {.max_epochs = 3,
                                     .accumulate_grad_batches = 4,
                                     .name = "journey",
                                     .log_every_n_steps = 1,
                                     .enable_checkpointing = LIGHT_ON};
    light_module_vtable stopping = noisy_vtable;
    stopping.on_before_optimizer_step = stop_later;
    lab l = lab_new(&stopping, fake_trainer(options));
    l.data->batch_size = 3;
    l.data->shuffle = true;
    l.trainer->options.deterministic = "elastic";
    stop_after = j->stop_after;
    mine()->status = lab_fit(&l, .ckpt_path = j->go_on ? "last" : NULL);
    if (mine()->status != LIGHT_OK)
        snprintf(mine()->message, sizeof mine()->message, "%s", light_error_message());
    mine()->steps = light_trainer_global_step(l.trainer);
    read_numbers(l.module, mine()->weights, MOST_WEIGHTS);
    light_trainer_metric(l.trainer, "train_loss_epoch", &mine()->mean);
    lab_free(&l);
}

/* Stops in the middle of the second epoch and goes on with another number of ranks, again and again: the weights and epoch
 * values of a run that was never stopped, and every sample as often. */
static void a_run_goes_on_with_another_number_of_ranks_to_the_same_bits(void **state)
{
    (void)state;
    float expected[MOST_WEIGHTS];
    double loss;
    fake_run(1, rank_of_journey, &(journey){0});
    assert_done();
    assert_int_equal(of(0)->steps, 18);
    memcpy(expected, of(0)->weights, sizeof expected);
    loss = of(0)->mean;
    int64_t samples[LAB_SAMPLES] = {0};
    static const struct {
        int size;
        int64_t stop_after, steps;
    } legs[] = {{2, 9, 9}, {4, 2, 11}, {1, 4, 15}, {4, 0, 18}};
    for (size_t leg = 0; leg < sizeof legs / sizeof *legs; leg++) {
        fake_run(legs[leg].size, rank_of_journey, &(journey){legs[leg].stop_after, leg > 0});
        for (int r = 0; r < legs[leg].size; r++) {
            if (of(r)->status != (legs[leg].stop_after ? LIGHT_ERR_INTERRUPTED : LIGHT_OK))
                fail_msg("leg %zu, rank %d, status %d, step %lld: %s", leg, r, of(r)->status,
                         (long long)of(r)->steps, of(r)->message);
            assert_int_equal(of(r)->steps, legs[leg].steps);
            for (int i = 0; i < LAB_SAMPLES; i++) samples[i] += of(r)->samples[i];
        }
    }
    for (int r = 0; r < 4; r++) {
        assert_memory_equal(of(r)->weights, expected, sizeof expected);
        assert_memory_equal(&of(r)->mean, &loss, sizeof loss);
    }
    for (int i = 0; i < LAB_SAMPLES; i++) assert_int_equal(samples[i], 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fake_test(the_same_windows_give_the_same_bits_on_any_number_of_ranks),
        fake_test(each_sample_is_trained_on_once_an_epoch),
        fake_test(ranks_without_a_batch_step_with_the_others),
        fake_test(limits_and_intervals_count_the_batches_of_all),
        fake_test(evaluation_uses_each_sample_once),
        fake_test(own_samplers_are_left_alone),
        fake_test(elastic_windows_that_do_not_fit_are_told),
        fake_test(a_stream_ends_when_all_ranks_are_at_their_end),
        fake_test(manual_optimization_takes_the_mean_over_the_ranks),
        fake_test(a_signal_to_one_rank_stops_all_at_the_same_step),
        fake_test(rank_0_alone_writes_the_runs_folder),
        fake_test(a_run_goes_on_with_another_number_of_ranks_to_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
