/* SPDX-License-Identifier: Apache-2.0 */
/* A program like a user's, for the scripts beside this file: a small network whose training needs everything that several
 * processes must agree on (dropout, clipping, a schedule, shuffling, a last batch and a last window that are short, tied
 * and frozen parameters), on data made up in memory. Command line as for all programs. */
#include <light/light.h>

#include <stdlib.h>
#include <string.h>

enum { FEATURES = 24, CLASSES = 5, HIDDEN = 37 };

/* ---- data ----------------------------------------------------------------- */

typedef struct numbers {
    light_datamodule base;
    int64_t samples, batch_size;
    float *x;
    int64_t *y;
    light_dataset *train, *val;
} numbers;

static const light_option numbers_options[] = {
    LIGHT_OPTION(numbers, samples, 203, "samples to train on"),
    LIGHT_OPTION(numbers, batch_size, 4, "samples in a batch"),
    LIGHT_OPTIONS_END,
};

static light_status numbers_setup(light_datamodule *base, light_stage stage)
{
    numbers *d = (numbers *)base;
    const light_field fields[] = {{"x", LIGHT_F32, LIGHT_SHAPE(FEATURES)}, {"y", LIGHT_I64, LIGHT_SCALAR}};
    uint32_t random = 12345;
    (void)stage;
    if (d->x) return LIGHT_OK;
    d->x = malloc((size_t)d->samples * FEATURES * sizeof *d->x);
    d->y = malloc((size_t)d->samples * sizeof *d->y);
    if (!d->x || !d->y) return light_fail(LIGHT_ERR_MEMORY, "numbers: out of memory");
    for (int64_t i = 0; i < d->samples; i++) {
        d->y[i] = i % CLASSES;
        for (int j = 0; j < FEATURES; j++) {
            random = random * 1664525u + 1013904223u;
            d->x[i * FEATURES + j] =
                (float)(random >> 8) / (float)(1 << 24) - 0.5f + (j % CLASSES == d->y[i]);
        }
    }
    const void *const arrays[] = {d->x, d->y};
    LIGHT_TRY(light_memory_dataset_open(&d->train, fields, 2, d->samples, arrays));
    return light_memory_dataset_open(&d->val, fields, 2, d->samples / 3, arrays);
}

static light_loader *numbers_train(light_datamodule *base)
{
    numbers *d = (numbers *)base;
    return light_loader_new(d->train, .batch_size = d->batch_size, .shuffle = true);
}

static light_loader *numbers_val(light_datamodule *base)
{
    numbers *d = (numbers *)base;
    return light_loader_new(d->val, .batch_size = d->batch_size);
}

static void numbers_teardown(light_datamodule *base, light_stage stage)
{
    numbers *d = (numbers *)base;
    (void)stage;
    light_dataset_free(d->train);
    light_dataset_free(d->val);
    free(d->x);
    free(d->y);
    d->train = d->val = NULL;
    d->x = NULL;
    d->y = NULL;
}

static const light_datamodule_vtable numbers_vtable = {
    LIGHT_DATAMODULE(numbers),         .options = numbers_options,    .setup = numbers_setup,
    .train_dataloader = numbers_train, .val_dataloader = numbers_val, .test_dataloader = numbers_val,
    .teardown = numbers_teardown};

/* ---- network --------------------------------------------------------------- */

typedef struct network {
    light_module base;
    light_linear in, middle, again, out;
    light_layer_norm norm;
    light_tensor *gain; /* read by no product: in f32 in mixed precision */
    double dropout, lr;
    bool leave_out;
    bool skips; /* the layer `again`, in this batch */
    const char *astray;
    int rank;
    int64_t batches;
} network;

static const light_option network_options[] = {
    LIGHT_OPTION(network, dropout, 0.1, "share of activations dropped"),
    LIGHT_OPTION(network, lr, 0.01, "learning rate"),
    LIGHT_OPTION(network, leave_out, false, "odd batches do not use the layer `again`"),
    LIGHT_OPTION(network, astray, "", "what rank 1 does differently, later on: order, skip, call"),
    LIGHT_OPTIONS_END,
};

static light_status network_init(light_module *base)
{
    network *n = (network *)base;
    LIGHT_TRY(light_linear_init(&n->in, base, "in", .in_features = FEATURES, .out_features = HIDDEN));
    LIGHT_TRY(light_layer_norm_init(&n->norm, base, "norm", .features = HIDDEN));
    LIGHT_TRY(light_linear_init(&n->middle, base, "middle", .in_features = HIDDEN, .out_features = HIDDEN));
    LIGHT_TRY(light_linear_init(&n->again, base, "again", .in_features = HIDDEN, .out_features = HIDDEN));
    LIGHT_TRY(light_linear_init(&n->out, base, "out", .in_features = HIDDEN, .out_features = CLASSES));
    LIGHT_TRY(light_add_parameter(base, &n->gain, "gain", LIGHT_SHAPE(CLASSES), LIGHT_INIT_ONES));
    light_set_requires_grad(n->in.bias, false);
    return light_tie_parameter(&n->again.base, &n->again.weight, "weight", n->middle.weight);
}

static bool goes_astray(const network *n, const char *how)
{
    return n->rank == 1 && n->batches >= 3 && !strcmp(n->astray, how);
}

static light_tensor *network_forward(light_module *base, light_step *s, light_tensor *x)
{
    network *n = (network *)base;
    light_tensor *h = light_relu(s, light_forward(s, &n->in.base, x));
    bool early = goes_astray(n, "order");
    if (early) h = light_gelu(s, light_forward(s, &n->middle.base, h));
    h = light_dropout(s, light_forward(s, &n->norm.base, h), n->dropout);
    if (!early && !goes_astray(n, "skip")) h = light_gelu(s, light_forward(s, &n->middle.base, h));
    if (!n->skips && !goes_astray(n, "skip")) h = light_gelu(s, light_forward(s, &n->again.base, h));
    return light_mul(s, light_forward(s, &n->out.base, h), n->gain);
}

static light_tensor *loss_of(light_module *base, light_step *s, const light_batch *batch, const char *name)
{
    light_tensor *logits = light_forward(s, base, batch->fields[0]);
    light_tensor *loss = light_cross_entropy(s, logits, batch->fields[1]);
    light_log(s, name, loss, .on_epoch = LIGHT_ON);
    return loss;
}

static light_tensor *network_training_step(light_module *base, light_step *s, const light_batch *batch)
{
    network *n = (network *)base;
    n->skips = n->leave_out && batch->indices[0] % 2;
    light_tensor *loss = loss_of(base, s, batch, "train_loss");
    n->skips = false;
    return loss;
}

static void network_train_start(light_module *base, light_trainer *t)
{
    ((network *)base)->rank = light_trainer_global_rank(t);
}

static void network_train_batch_end(light_module *base, light_trainer *t, const light_batch *batch)
{
    network *n = (network *)base;
    double said = 1;
    (void)batch;
    n->batches++;
    if (goes_astray(n, "call") && light_trainer_broadcast(t, &said, sizeof said) != LIGHT_OK)
        light_trainer_fail(t, LIGHT_ERR_STATE, "%s", light_error_message());
}

static void network_validation_step(light_module *base, light_step *s, const light_batch *batch)
{
    loss_of(base, s, batch, "val_loss");
}

static light_status network_optimizers(light_module *base, light_optimizers *out)
{
    network *n = (network *)base;
    light_optimizer *adamw = light_adamw(light_parameters(base), .lr = n->lr, .weight_decay = 0.05);
    return light_optimizers_add(out, adamw, light_cosine_schedule(.warmup_steps = 10));
}

static const light_module_vtable network_vtable = {LIGHT_MODULE(network),
                                                   .options = network_options,
                                                   .init = network_init,
                                                   .forward = network_forward,
                                                   .training_step = network_training_step,
                                                   .validation_step = network_validation_step,
                                                   .test_step = network_validation_step,
                                                   .configure_optimizers = network_optimizers,
                                                   .on_train_start = network_train_start,
                                                   .on_train_batch_end = network_train_batch_end};

int main(int argc, char **argv)
{
    return light_cli(argc, argv, &network_vtable, &numbers_vtable,
                     .description = "Trains a small network, for tests of several processes.");
}
