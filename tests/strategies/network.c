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
    int64_t samples, batch_size, shards;
    float *x;
    int64_t *y;
    light_dataset *train, *val;
} numbers;

static const light_option numbers_options[] = {
    LIGHT_OPTION(numbers, samples, 203, "samples to train on"),
    LIGHT_OPTION(numbers, batch_size, 4, "samples in a batch"),
    LIGHT_OPTION(numbers, shards, 0, "of a stream; 0: the samples are known beforehand"),
    LIGHT_OPTIONS_END,
};

/* Samples as a stream. Shard 1 has most of them, so that ranks end at different times, and rank 0 not last. */
typedef struct source {
    light_dataset base;
    const numbers *of;
    int64_t samples;
} source;

typedef struct source_stream {
    light_stream base;
    int64_t next;
} source_stream;

static light_status source_describe(light_dataset *self, light_field *fields, int *n)
{
    (void)self;
    fields[0] = (light_field){"x", LIGHT_F32, LIGHT_SHAPE(FEATURES)};
    fields[1] = (light_field){"y", LIGHT_I64, LIGHT_SCALAR};
    *n = 2;
    return LIGHT_OK;
}

static light_status source_open(light_dataset *self, light_stream *stream)
{
    (void)self;
    ((source_stream *)stream)->next = 0;
    return LIGHT_OK;
}

static int64_t shard_of(int64_t sample, int shards)
{
    int64_t k = sample % 8;
    return k == 0 || shards == 1 ? 0 : k + 1 < shards ? k + 1 : 1;
}

static light_status source_next(light_dataset *self, light_stream *stream, void *const *to, bool *end)
{
    const source *d = (const source *)self;
    source_stream *s = (source_stream *)stream;
    while (s->next < d->samples && shard_of(s->next, stream->num_shards) != stream->shard) s->next++;
    if ((*end = s->next >= d->samples)) return LIGHT_OK;
    memcpy(to[0], d->of->x + s->next * FEATURES, FEATURES * sizeof *d->of->x);
    memcpy(to[1], d->of->y + s->next, sizeof *d->of->y);
    s->next++;
    return LIGHT_OK;
}

static const light_dataset_vtable source_vtable = {LIGHT_DATASET(source), .describe = source_describe,
                                                   .stream_size = sizeof(source_stream),
                                                   .stream_open = source_open, .stream_next = source_next};

static light_loader *stream_of(const numbers *d, int64_t samples)
{
    light_dataset *dataset;
    if (light_dataset_new(&dataset, &source_vtable) != LIGHT_OK) return NULL;
    ((source *)dataset)->of = d;
    ((source *)dataset)->samples = samples;
    return light_loader_new(dataset, .batch_size = d->batch_size, .shards = (int)d->shards);
}

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
    if (d->shards) return stream_of(d, d->samples);
    return light_loader_new(d->train, .batch_size = d->batch_size, .shuffle = true);
}

static light_loader *numbers_val(light_datamodule *base)
{
    numbers *d = (numbers *)base;
    if (d->shards) return stream_of(d, d->samples / 3);
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
    light_batch_norm batch;
    light_tensor *gain; /* read by no product: in f32 in mixed precision */
    double dropout, lr;
    bool leave_out, batch_norm;
    bool skips; /* the layer `again`, in this batch */
    const char *astray;
    int rank;
    int64_t batches;
} network;

static const light_option network_options[] = {
    LIGHT_OPTION(network, dropout, 0.1, "share of activations dropped"),
    LIGHT_OPTION(network, lr, 0.01, "learning rate"),
    LIGHT_OPTION(network, leave_out, false, "odd batches do not use the layer `again`"),
    LIGHT_OPTION(network, batch_norm, false, "a batch norm, which is used twice"),
    LIGHT_OPTION(network, astray, "", "what rank 1 does differently, later on: order, skip, call"),
    LIGHT_OPTIONS_END,
};

static light_status network_init(light_module *base)
{
    network *n = (network *)base;
    LIGHT_TRY(light_linear_init(&n->in, base, "in", .in_features = FEATURES, .out_features = HIDDEN));
    LIGHT_TRY(light_layer_norm_init(&n->norm, base, "norm", .features = HIDDEN));
    if (n->batch_norm) LIGHT_TRY(light_batch_norm_init(&n->batch, base, "batch", .features = HIDDEN));
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
    if (n->batch_norm)
        h = light_forward(s, &n->batch.base, light_gelu(s, light_forward(s, &n->batch.base, h)));
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

/* ---- the same, optimized by hand ------------------------------------------ */

static bool in_front(const light_parameter *p, void *user)
{
    const char *path = p->path;
    (void)user;
    return !strncmp(path, "in.", 3) || !strncmp(path, "norm.", 5);
}

static bool in_back(const light_parameter *p, void *user)
{
    return !in_front(p, user);
}

/* Two optimizers: the first one's gradients add up over three batches, while the second one's are made and used between.
 * So three batches make four steps. Both clip, one by norm, one by value. */
static light_tensor *manual_training_step(light_module *base, light_step *s, const light_batch *batch)
{
    bool third = light_trainer_global_step(light_step_trainer(s)) % 4 == 2;
    light_optimizer *front = light_optimizer_at(s, 0), *back = light_optimizer_at(s, 1);
    light_toggle_optimizer(s, front);
    light_manual_backward(s, loss_of(base, s, batch, "front_loss"));
    light_untoggle_optimizer(s, front);
    if (third) {
        light_tensor *norm = light_clip_grad_norm(s, light_parameters_where(base, in_front, NULL), 0.05);
        light_log(s, "front_norm", norm);
        light_optimizer_step(s, front);
        light_zero_grad(s, front);
    }
    light_toggle_optimizer(s, back);
    light_manual_backward(s, loss_of(base, s, batch, "back_loss"));
    light_clip_grad_value(s, light_parameters_where(base, in_back, NULL), 0.01);
    light_optimizer_step(s, back);
    light_zero_grad(s, back);
    light_untoggle_optimizer(s, back);
    return NULL;
}

static light_status manual_optimizers(light_module *base, light_optimizers *out)
{
    network *n = (network *)base;
    LIGHT_TRY(light_optimizers_add(
        out, light_adamw(light_parameters_where(base, in_front, NULL), .lr = n->lr), NULL));
    return light_optimizers_add(
        out, light_sgd(light_parameters_where(base, in_back, NULL), .lr = n->lr, .momentum = 0.9), NULL);
}

static const light_module_vtable manual_vtable = {LIGHT_MODULE(network),
                                                  .options = network_options,
                                                  .init = network_init,
                                                  .forward = network_forward,
                                                  .training_step = manual_training_step,
                                                  .validation_step = network_validation_step,
                                                  .configure_optimizers = manual_optimizers,
                                                  .manual_optimization = true};

/* A last argument "manual" is not a flag: it chooses how the module is optimized. */
int main(int argc, char **argv)
{
    bool manual = !strcmp(argv[argc - 1], "manual");
    return light_cli(argc - manual, argv, manual ? &manual_vtable : &network_vtable, &numbers_vtable,
                     .description = "Trains a small network, for tests of several processes.");
}
