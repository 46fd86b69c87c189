/* SPDX-License-Identifier: Apache-2.0 */
/* Values that several ranks log: the same doubles on all of them, and for any number of them. */
#include "strategies/fake.h"

#define VALUES 12

typedef struct report {
    double values[VALUES];
    bool known[VALUES];
    light_status status;
    char message[512];
    double monitored;
} report;

static report *mine(void)
{
    return (report *)(void *)fake->results[fake_rank];
}

static const report *of(int rank)
{
    return (const report *)(const void *)fake->results[rank];
}

static const char *const names[VALUES] = {"loss_epoch", "largest",  "least", "total",    "wide",   "few",
                                          "at_end",     "val_wide", "own",   "step_sum", "step_0", "val_few"};

/* Sums of these lose digits in any order but an exact one. */
static double wide(int64_t index)
{
    return (index % 2 ? -1 : 1) * ldexp(1 + (double)index / 7, (int)(index * 37 % 90));
}

static light_tensor *training_step(light_module *self, light_step *s, const light_batch *batch)
{
    light_trainer *t = light_step_trainer(s);
    light_tensor *loss = boring_loss(self, s, batch);
    light_log(s, "loss", loss, .on_step = true, .on_epoch = true);
    light_log_value(t, "largest", wide(batch->index), .on_step = LIGHT_OFF, .on_epoch = true,
                    .reduce_fx = LIGHT_FX_MAX);
    light_log_value(t, "least", wide(batch->index), .on_step = LIGHT_OFF, .on_epoch = true,
                    .reduce_fx = LIGHT_FX_MIN);
    light_log_value(t, "total", wide(batch->index), .on_step = LIGHT_OFF, .on_epoch = true,
                    .reduce_fx = LIGHT_FX_SUM);
    light_log_value(t, "wide", wide(batch->index), .on_step = LIGHT_OFF, .on_epoch = true);
    if (batch->index == 5)
        light_log_value(t, "few", 7.25, .on_step = LIGHT_OFF, .on_epoch = true, .reduce_fx = LIGHT_FX_SUM);
    light_log_value(t, "own", (double)fake_rank, .on_step = LIGHT_OFF, .on_epoch = true,
                    .sync_dist = LIGHT_OFF);
    light_log_value(t, "step_sum", 1.0 + (double)batch->index, .reduce_fx = LIGHT_FX_SUM, .sync_dist = true);
    light_log_value(t, "step_0", (double)batch->index);
    return loss;
}

static void validation_step(light_module *self, light_step *s, const light_batch *batch)
{
    (void)self;
    light_log_value(light_step_trainer(s), "val_wide", wide(batch->index));
    if (batch->index == 1) light_log_value(light_step_trainer(s), "val_few", 3.5);
}

static void on_train_epoch_end(light_module *self, light_trainer *t)
{
    (void)self;
    light_log_value(t, "at_end", 0.1);
}

static light_module_vtable module_vtable(void)
{
    light_module_vtable v = boring_vtable;
    v.training_step = training_step;
    v.validation_step = validation_step;
    v.on_train_epoch_end = on_train_epoch_end;
    return v;
}

typedef struct plan {
    const light_module_vtable *module;
    int64_t samples, accumulate;
    int64_t stop_at;
    const char *resume;
} plan;

static void rank_of_plan(void *argument)
{
    const plan *p = argument;
    report *r = mine();
    light_trainer_options options = {
        .max_epochs = 1, .accumulate_grad_batches = p->accumulate, .log_every_n_steps = 1, .name = "metrics"};
    lab l = lab_new(p->module, fake_trainer(options));
    l.data->train_samples = l.data->val_samples = p->samples;
    l.data->batch_size = 3;
    l.data->shuffle = true;
    if (p->accumulate % fake_size == 0) l.trainer->options.deterministic = "elastic";
    r->status = lab_fit(&l);
    if (r->status != LIGHT_OK) snprintf(r->message, sizeof r->message, "%s", light_error_message());
    for (int i = 0; i < VALUES; i++) r->known[i] = light_trainer_metric(l.trainer, names[i], &r->values[i]);
    lab_free(&l);
}

static void assert_same(double a, double b, const char *name)
{
    if (memcmp(&a, &b, sizeof a)) fail_msg("%s: %a is not %a", name, a, b);
}

/* 20 batches, the last one of one sample; windows of 4. */
static void epochs_come_to_the_same_doubles_for_any_number_of_ranks(void **state)
{
    report expected;
    light_module_vtable v = module_vtable();
    (void)state;
    for (int size = 1; size <= 4; size *= 2) {
        fake_run(size, rank_of_plan, &(plan){.module = &v, .samples = 58, .accumulate = 4});
        if (size == 1) expected = *of(0);
        for (int rank = 0; rank < size; rank++) {
            if (of(rank)->status != LIGHT_OK) fail_msg("%s", of(rank)->message);
            for (int i = 0; i <= 7; i++) {
                if (!of(rank)->known[i]) fail_msg("rank %d does not know %s", rank, names[i]);
                assert_same(of(rank)->values[i], expected.values[i], names[i]);
            }
            assert_same(of(rank)->values[11], 3.5, "val_few");
        }
    }
    /* Against sums in another arithmetic, where those are exact enough. */
    double least = INFINITY, largest = -INFINITY;
    long double total = 0;
    for (int64_t i = 0; i < 20; i++) {
        total += (long double)wide(i);
        least = fmin(least, wide(i));
        largest = fmax(largest, wide(i));
    }
    assert_same(expected.values[1], largest, "largest");
    assert_same(expected.values[2], least, "least");
    assert_true(fabsl((long double)expected.values[3] - total) <=
                fabsl(total) * 0x1p-52L + ldexpl(1, 90 - 60));
    assert_same(expected.values[5], 7.25, "few");
    assert_same(expected.values[6], 0.1, "at_end");
}

/* A mean of three equal values is not rounded anew. */
static void what_all_log_at_an_epochs_end_stays_what_it_is(void **state)
{
    light_module_vtable v = module_vtable();
    (void)state;
    fake_run(3, rank_of_plan, &(plan){.module = &v, .samples = 58, .accumulate = 1});
    for (int rank = 0; rank < 3; rank++) {
        assert_same(of(rank)->values[6], 0.1, "at_end");
        assert_same(of(rank)->values[8], rank, "own");
    }
}

/* Seven batches on three ranks: the last step has one, of rank 0. */
static void ranks_without_a_batch_know_the_names_of_the_others(void **state)
{
    light_module_vtable v = module_vtable();
    (void)state;
    fake_run(3, rank_of_plan, &(plan){.module = &v, .samples = 3, .accumulate = 1});
    for (int rank = 0; rank < 3; rank++) {
        if (of(rank)->status != LIGHT_OK) fail_msg("%s", of(rank)->message);
        assert_same(of(rank)->values[3], wide(0), "total");
        assert_same(of(rank)->values[7], wide(0), "val_wide");
        assert_same(of(rank)->values[9], 1, "step_sum");
        assert_int_equal(of(rank)->known[10], rank == 0);
    }
}

/* step_sum is 1 + the batch's number: steps of three ranks have batches 0 1 2, 3 4 5, .. */
static void step_values_are_those_of_rank_0_unless_they_are_synced(void **state)
{
    light_module_vtable v = module_vtable();
    (void)state;
    fake_run(3, rank_of_plan, &(plan){.module = &v, .samples = 21, .accumulate = 1});
    char *text = read_text(at("metrics/version_0/metrics.csv")), *line = text;
    int step_sum = -1, step_0 = -1, rows = 0;
    char header[1024];
    snprintf(header, sizeof header, "%.*s", (int)strcspn(text, "\n"), text);
    int column = 0;
    for (char *cell = strtok(header, ","); cell; cell = strtok(NULL, ","), column++) {
        if (!strcmp(cell, "step_sum")) step_sum = column;
        if (!strcmp(cell, "step_0")) step_0 = column;
    }
    assert_true(step_sum > 0 && step_0 > 0);
    while ((line = strchr(line, '\n')) && line[1]) {
        static const double sums[] = {1 + 2 + 3, 4 + 5 + 6, 7}, firsts[] = {0, 3, 6};
        line++;
        const char *cell = line;
        for (int c = 0; c <= step_sum || c <= step_0; c++) {
            if (c == step_sum) assert_same(strtod(cell, NULL), sums[rows], "step_sum");
            if (c == step_0) assert_same(strtod(cell, NULL), firsts[rows], "step_0");
            cell = strchr(cell, ',');
            if (cell) cell++;
        }
        rows++;
    }
    assert_int_equal(rows, 3);
    light_free(text);
}

static void validation_step_of_another_kind(light_module *self, light_step *s, const light_batch *batch)
{
    (void)self, (void)batch;
    light_log_value(light_step_trainer(s), "val_x", 1,
                    .reduce_fx = fake_rank == 2 ? LIGHT_FX_MAX : LIGHT_FX_MEAN);
}

static void names_of_different_kinds_are_told(void **state)
{
    light_module_vtable v = module_vtable();
    (void)state;
    v.validation_step = validation_step_of_another_kind;
    fake_run(3, rank_of_plan, &(plan){.module = &v, .samples = 21, .accumulate = 1});
    for (int rank = 0; rank < 3; rank++) {
        assert_int_equal(of(rank)->status, LIGHT_ERR_ARGUMENT);
        assert_non_null(strstr(of(rank)->message, "light_log(\"val_x\"): rank 2 logs it with reduce_fx max"));
        assert_non_null(strstr(of(rank)->message, "rank 0 with reduce_fx mean"));
    }
}

static void monitor_it(light_module *self, light_trainer *t)
{
    double value;
    (void)self;
    if (light_trainer_stage(t) != LIGHT_STAGE_FIT) return;
    mine()->monitored = light_trainer_monitor(t, "step_0", &value) ? value : -1;
}

/* Rank 2 has no batch and so no value; it decides by that of rank 0 all the same. */
static void monitors_see_what_rank_0_sees(void **state)
{
    light_module_vtable v = module_vtable();
    (void)state;
    v.on_train_epoch_end = monitor_it;
    fake_run(3, rank_of_plan, &(plan){.module = &v, .samples = 12, .accumulate = 1});
    for (int rank = 0; rank < 3; rank++) assert_same(of(rank)->monitored, 3, "monitored");
    fake_run(3, rank_of_plan, &(plan){.module = &v, .samples = 6, .accumulate = 1});
    for (int rank = 0; rank < 3; rank++) assert_same(of(rank)->monitored, 0, "monitored");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fake_test(epochs_come_to_the_same_doubles_for_any_number_of_ranks),
        fake_test(what_all_log_at_an_epochs_end_stays_what_it_is),
        fake_test(ranks_without_a_batch_know_the_names_of_the_others),
        fake_test(step_values_are_those_of_rank_0_unless_they_are_synced),
        fake_test(names_of_different_kinds_are_told),
        fake_test(monitors_see_what_rank_0_sees),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
