/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks that are about to do different things find it out before they begin, and say where they differ. */
#include "strategies/fake.h"

typedef struct report {
    light_status status;
    char message[512];
} report;

static const report *of(int rank)
{
    return (const report *)(const void *)fake->results[rank];
}

/* What is different on which ranks. */
typedef enum difference {
    NOTHING,
    AN_OPTION,
    MANY_OPTIONS,
    A_DATA_OPTION,
    THE_SEED,
    A_CALLBACK,
    A_SHAPE,
    A_PARAMETER,
    THE_LENGTH,
    THE_VALIDATION
} difference;

/* On rank 2 the layer is wider, or there is one more. */
typedef struct odd {
    light_module base;
    light_linear layer, more;
} odd;

static difference kind;

static light_status odd_init(light_module *self)
{
    odd *o = (odd *)self;
    int64_t out = kind == A_SHAPE && fake_rank == 2 ? LAB_CLASSES + 1 : LAB_CLASSES;
    LIGHT_TRY(light_linear_init(&o->layer, self, "layer", .in_features = LAB_FEATURES, .out_features = out));
    if (kind != A_PARAMETER || fake_rank != 2) return LIGHT_OK;
    return light_linear_init(&o->more, self, "more", .in_features = 3, .out_features = 3);
}

static light_module_vtable odd_vtable(void)
{
    light_module_vtable v = boring_vtable;
    v.name = "odd";
    v.instance_size = sizeof(odd);
    v.init = odd_init;
    return v;
}

/* A sample less on rank 2, which no option says. */
static light_loader *short_train(light_datamodule *self)
{
    return lab_loader((lab_data *)self, 16 - (kind == THE_LENGTH && fake_rank == 2), false);
}

static light_loader *short_val(light_datamodule *self)
{
    return lab_loader((lab_data *)self, 16 - (kind == THE_VALIDATION && fake_rank == 2), false);
}

static const light_datamodule_vtable short_data = {
    LIGHT_DATAMODULE(lab_data),
    .options = lab_data_options,
    .train_dataloader = short_train,
    .val_dataloader = short_val,
};

static void rank_of(void *argument)
{
    light_module_vtable v = odd_vtable();
    bool odd_one = fake_rank == 2, upper = fake_rank >= 2;
    kind = *(difference *)argument;
    light_trainer_options options = {.max_epochs = kind == AN_OPTION && odd_one             ? 3
                                                   : kind == MANY_OPTIONS && fake_rank == 1 ? 5
                                                   : kind == MANY_OPTIONS && upper          ? 2
                                                                                            : 1,
                                     .seed = kind == THE_SEED && odd_one ? 8 : 7};
    options.callbacks[0] = light_early_stopping(.monitor = "val_loss", .patience = 100);
    if (kind == A_CALLBACK && odd_one)
        options.callbacks[1] = light_learning_rate_monitor(.log_momentum = false);
    lab l = lab_new_with(&v, &short_data, fake_trainer(options));
    if (kind == A_DATA_OPTION && upper) l.data->batch_size = 2;
    report *r = (report *)(void *)fake->results[fake_rank];
    r->status = lab_fit(&l);
    if (r->status != LIGHT_OK) snprintf(r->message, sizeof r->message, "%s", light_error_message());
    lab_free(&l);
}

static void differ(difference d, const char *message)
{
    fake_run(4, rank_of, &d);
    for (int rank = 0; rank < 4; rank++) {
        assert_int_equal(of(rank)->status, message ? LIGHT_ERR_ARGUMENT : LIGHT_OK);
        if (message && !strstr(of(rank)->message, message)) fail_msg("%s", of(rank)->message);
        assert_null(strchr(of(rank)->message, '\n'));
    }
}

static void the_same_on_all_ranks_runs(void **state)
{
    (void)state;
    differ(NOTHING, NULL);
}

static void the_first_difference_is_named_with_its_ranks(void **state)
{
    (void)state;
    differ(AN_OPTION, "rank 2 has trainer.max_epochs 3, rank 0 has 1");
    differ(MANY_OPTIONS, "rank 1 has trainer.max_epochs 5, rank 0 has 1");
    differ(A_DATA_OPTION, "ranks 2, 3 have data.batch_size 2, rank 0 has 1");
    differ(THE_SEED, "rank 2 has trainer.seed 8, rank 0 has 7");
    differ(A_CALLBACK, "rank 2 has callback 1 learning_rate_monitor, rank 0 has nothing there");
}

static void models_and_data_are_compared(void **state)
{
    (void)state;
    differ(A_SHAPE, "rank 2 has parameter layer.weight f32 [3, 32], rank 0 has f32 [2, 32]");
    differ(A_PARAMETER, "rank 2 has parameter more.weight f32 [3, 3], rank 0 has train_dataloader's dataset");
    differ(THE_LENGTH, "rank 2 has train_dataloader's batches 15, rank 0 has 16");
    differ(THE_VALIDATION, "rank 2 has val_dataloader 0's batches 15, rank 0 has 16");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fake_test(the_same_on_all_ranks_runs),
        fake_test(the_first_difference_is_named_with_its_ranks),
        fake_test(models_and_data_are_compared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
