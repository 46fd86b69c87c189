/* SPDX-License-Identifier: Apache-2.0 */
/* Seconds per training step through the Trainer (barebones, bf16-mixed) on a GPU. The batch is one that the model holds
 * on the device, as the twin's does; the device is waited for at the ends of a span of steps only.
 *
 * FLOPs of a step, for the model FLOP utilisation: GPT-2 6 N + 6 L C T a token (N parameters, causal attention counted
 * half), ResNet-50 3 x 4.1 G an image, the MLP 6 N a sample. */
#include "common/gpu.h"
#include "common/models.h"
#include "common/repeat.h"

#include <string.h>

typedef struct {
    const char *name;
    const light_module_vtable *model;
    enum { ADAM, ADAMW, SGD } optimizer;
    int64_t batch;
    light_shape sample;    /* of images; text where there are none */
    int64_t layers, width; /* of text: L and C */
    int64_t classes;       /* or tokens */
    bool graphs;
    int warmup, steps;
} training_case;

enum { CONTEXT = 1024 };

static const training_case cases[] = {
    {"gpt2_124m_b16", &bench_gpt2_124m, ADAMW, 16, LIGHT_SCALAR, 12, 768, 50304, false, 5, 10},
    {"gpt2_124m_b32", &bench_gpt2_124m, ADAMW, 32, LIGHT_SCALAR, 12, 768, 50304, false, 5, 10},
    {"gpt2_124m_b64", &bench_gpt2_124m, ADAMW, 64, LIGHT_SCALAR, 12, 768, 50304, false, 5, 5},
    {"gpt2_350m_b16", &bench_gpt2_350m, ADAMW, 16, LIGHT_SCALAR, 24, 1024, 50304, false, 5, 5},
    {"resnet50_b128", &bench_resnet50, SGD, 128, {3, {3, 224, 224}}, 0, 0, 1000, false, 5, 10},
    {"mlp64_gpu", &bench_mlp, ADAM, 64, {1, {784}}, 0, 0, 10, false, 50, 500},
    {"mlp64_gpu_graphs", &bench_mlp, ADAM, 64, {1, {784}}, 0, 0, 10, true, 50, 500},
};
enum { CASES = sizeof(cases) / sizeof(*cases) };

typedef struct {
    light_module base;
    const training_case *kind; /* set before it is built, and so are gpu and run */
    const bench_gpu *gpu;
    const bench_run *run;
    light_module *net;
    light_tensor *x, *y;
    light_tensor *loss; /* of the last step that was not launched as a graph */
    double first_loss, last_loss;
    double begin, samples[BENCH_SPANS], step_mb;
    int64_t count;
} training;

static bool is_text(const training *t)
{
    return t->kind->sample.ndim == 0;
}

static light_status make_batch(training *t)
{
    const training_case *kind = t->kind;
    int64_t batch = bench_gpu_size(t->gpu, kind->batch, 2);
    light_shape shape = {.ndim = kind->sample.ndim + 1, .dims = {batch}};
    if (is_text(t)) {
        int64_t tokens = bench_gpu_size(t->gpu, CONTEXT, 8);
        LIGHT_TRY(bench_gpu_randint(&t->x, LIGHT_SHAPE(batch, tokens), kind->classes));
        return bench_gpu_randint(&t->y, LIGHT_SHAPE(batch * tokens), kind->classes);
    }
    memcpy(shape.dims + 1, kind->sample.dims, (size_t)kind->sample.ndim * sizeof(int64_t));
    LIGHT_TRY(bench_gpu_randn(&t->x, shape, LIGHT_F32));
    return bench_gpu_randint(&t->y, LIGHT_SHAPE(batch), kind->classes);
}

static light_status training_init(light_module *self)
{
    training *t = (training *)self;
    t->net = light_module_calloc(self, 1, t->kind->model->instance_size);
    if (!t->net) return LIGHT_ERR_MEMORY;
    LIGHT_TRY(light_module_add(t->net, t->kind->model, self, "net"));
    return make_batch(t);
}

static void training_free(light_module *self)
{
    training *t = (training *)self;
    light_tensor_free(t->x);
    light_tensor_free(t->y);
}

static light_tensor *training_training_step(light_module *self, light_step *s, const light_batch *batch)
{
    training *t = (training *)self;
    (void)batch;
    light_tensor *logits = light_forward(s, t->net, t->x);
    if (is_text(t)) logits = light_reshape(s, logits, LIGHT_SHAPE(-1, t->kind->classes));
    t->loss = light_cross_entropy(s, logits, t->y);
    if (t->count == 0 && t->loss && light_item(t->loss, &t->first_loss) != LIGHT_OK)
        return light_step_fail(s, light_error_status(), "%s", light_error_message());
    t->step_mb = (double)light_step_peak_bytes(s) / 1048576;
    return t->loss;
}

static light_status training_configure_optimizers(light_module *self, light_optimizers *out)
{
    light_parameter_set set = light_parameters(self);
    switch (((training *)self)->kind->optimizer) {
    case SGD:
        return light_optimizers_add(out, light_sgd(set, .lr = 0.01, .momentum = 0.9, .weight_decay = 5e-5),
                                    NULL);
    case ADAM: return light_optimizers_add(out, light_adam(set, .lr = 1e-3), NULL);
    default:
        return light_optimizers_add(
            out, light_adamw(set, .lr = 3e-4, .betas = {0.9, 0.95}, .weight_decay = 0.1), NULL);
    }
}

/* Ends a span and begins the next one, where one ends. */
static void training_on_train_batch_end(light_module *self, light_trainer *trainer, const light_batch *batch)
{
    training *t = (training *)self;
    (void)batch;
    int64_t timed = ++t->count - t->run->warmup;
    if (timed < 0 || timed % t->run->steps) return;
    light_status status = light_device_synchronize(t->gpu->device);
    double now = bench_now();
    int64_t span = timed / t->run->steps;
    if (span > 0) t->samples[span - 1] = (now - t->begin) / t->run->steps;
    if (status == LIGHT_OK && span == BENCH_SPANS && !t->kind->graphs)
        status = light_item(t->loss, &t->last_loss);
    if (status != LIGHT_OK) light_trainer_fail(trainer, status, "%s", light_error_message());
    t->begin = bench_now();
}

static const light_module_vtable training_vtable = {
    LIGHT_MODULE(training),
    .init = training_init,
    .free = training_free,
    .training_step = training_training_step,
    .configure_optimizers = training_configure_optimizers,
    .on_train_batch_end = training_on_train_batch_end,
};

static bench_work work_of(const training *t)
{
    double parameters = (double)light_count_parameters(t->net, false), items = (double)light_numel(t->y);
    double each = 6 * parameters;
    if (is_text(t))
        each += 6.0 * (double)(t->kind->layers * t->kind->width * CONTEXT);
    else if (t->kind->model == &bench_resnet50)
        each = 3 * 4.1e9;
    return (bench_work){.flops = each * items, .items = items, .step_mb = t->step_mb};
}

/* The figures count only if it was training. A launched step leaves no loss to look at. */
static light_status check(const training *t)
{
    if (t->kind->graphs || t->gpu->smoke || t->last_loss < t->first_loss) return LIGHT_OK;
    return light_fail(LIGHT_ERR_NUMERIC, "%s: the loss has not fallen: %g at first, now %g", t->kind->name,
                      t->first_loss, t->last_loss);
}

static light_status measure(training *t, bench_repeat *data)
{
    data->fields[0] = (light_field){"none", LIGHT_F32, LIGHT_SHAPE(1)};
    data->fields[1] = data->fields[0];
    data->batch_size = 1;
    data->batches = t->run->warmup + BENCH_SPANS * t->run->steps;
    light_trainer *trainer =
        light_trainer_new(.accelerator = "cuda", .precision = "bf16-mixed", .max_epochs = 1,
                          .barebones = true, .cuda_graphs = t->kind->graphs);
    light_status status = trainer ? light_trainer_fit(trainer, &t->base, &data->base) : light_error_status();
    if (status == LIGHT_OK) status = check(t);
    bench_work work = work_of(t);
    if (status == LIGHT_OK) bench_gpu_report(t->gpu, t->kind->name, t->samples, BENCH_SPANS, &work);
    light_trainer_free(trainer);
    return status;
}

int main(int argc, char **argv)
{
    const char *names[CASES + 1] = {NULL};
    for (int i = 0; i < CASES; i++) names[i] = cases[i].name;
    bench_gpu gpu;
    light_status status = bench_gpu_open(&gpu, &argc, argv);
    if (status != LIGHT_OK) return bench_exit(status);
    bench_run run = bench_arguments(argc, argv, names);
    const training_case *kind = cases;
    while (strcmp(kind->name, run.name)) kind++;
    bench_defaults(&run, gpu.smoke ? 1 : kind->warmup, gpu.smoke ? 1 : kind->steps);

    training *t = (training *)light_module_new(&training_vtable);
    light_datamodule *data = light_datamodule_new(&bench_repeat_vtable);
    status = LIGHT_ERR_MEMORY;
    if (t && data) {
        t->kind = kind;
        t->gpu = &gpu;
        t->run = &run;
        status = measure(t, (bench_repeat *)data);
    }
    light_datamodule_free(data);
    light_module_free(t ? &t->base : NULL);
    return bench_exit(status);
}
