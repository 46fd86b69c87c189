/* SPDX-License-Identifier: Apache-2.0 */
/* Seconds per full training step (forward, loss, backward, optimizer, zero_grad) on one fixed random batch. */
#include "common/bench.h"
#include "common/models.h"

#include <string.h>

typedef struct {
    const char *name;
    const light_module_vtable *model;
    enum { SGD, ADAM, ADAMW } optimizer;
    light_shape shape; /* of a batch */
    int64_t classes;   /* or tokens: then the batch is of tokens, and every one has a target */
    bool text;
    int warmup, steps;
} training_case;

static const training_case cases[] = {
    {"mlp64", &bench_mlp, ADAM, {2, {64, 784}}, 10, false, 100, 500},
    {"mlp1024", &bench_mlp, ADAM, {2, {1024, 784}}, 10, false, 20, 100},
    {"lenet", &bench_lenet, ADAM, {4, {64, 1, 28, 28}}, 10, false, 50, 300},
    {"resnet18", &bench_resnet18, SGD, {4, {128, 3, 32, 32}}, 10, false, 2, 4},
    {"chargpt", &bench_chargpt, ADAMW, {2, {12, 256}}, 65, true, 2, 6},
    {"gpt2_t64", &bench_gpt2, ADAMW, {2, {4, 64}}, 50257, true, 2, 6},
    {"gpt2_t256", &bench_gpt2, ADAMW, {2, {4, 256}}, 50257, true, 1, 4},
};
enum { CASES = sizeof(cases) / sizeof(*cases) };

typedef struct {
    const training_case *kind;
    light_step *step;
    light_module *model;
    light_optimizer *optimizer;
    light_tensor *x, *y;
    light_tensor *loss; /* of the last step */
    double first_loss;
    int count;
} training;

static light_optimizer *new_optimizer(const training *t)
{
    light_parameter_set set = light_parameters(t->model);
    if (t->kind->optimizer == SGD) return light_sgd(set, .lr = 0.01, .momentum = 0.9, .weight_decay = 5e-4);
    if (t->kind->optimizer == ADAM) return light_adam(set, .lr = 1e-3);
    return light_adamw(set, .lr = 3e-4, .betas = {0.9, 0.95}, .weight_decay = 0.1);
}

static light_status prepare(training *t)
{
    const training_case *kind = t->kind;
    LIGHT_TRY(light_step_new(&t->step, .seed = 1));
    t->model = light_module_new(kind->model);
    if (!t->model) return LIGHT_ERR_MEMORY;
    LIGHT_TRY(light_module_build(t->model, 1));
    light_train(t->model);
    t->optimizer = new_optimizer(t);
    if (!t->optimizer) return LIGHT_ERR_MEMORY;
    if (kind->text) {
        LIGHT_TRY(bench_randint(&t->x, kind->shape, kind->classes));
        return bench_randint(&t->y, LIGHT_SHAPE(light_shape_numel(kind->shape)), kind->classes);
    }
    LIGHT_TRY(bench_randn(&t->x, kind->shape));
    return bench_randint(&t->y, LIGHT_SHAPE(kind->shape.dims[0]), kind->classes);
}

static light_status train(void *user)
{
    training *t = user;
    light_step *s = t->step;
    LIGHT_TRY(light_step_begin(s));
    light_tensor *logits = light_forward(s, t->model, t->x);
    if (t->kind->text) logits = light_reshape(s, logits, LIGHT_SHAPE(-1, t->kind->classes));
    t->loss = light_cross_entropy(s, logits, t->y);
    LIGHT_TRY(light_backward(s, t->loss));
    LIGHT_TRY(light_optimizer_step_now(t->optimizer, NULL));
    light_optimizer_zero_grad(t->optimizer);
    return t->count++ == 0 ? light_item(t->loss, &t->first_loss) : LIGHT_OK;
}

/* The figures count only if it was training. */
static light_status check(const training *t)
{
    double loss;
    LIGHT_TRY(light_item(t->loss, &loss));
    if (t->count > 1 && !(loss < t->first_loss))
        return light_fail(LIGHT_ERR_NUMERIC, "%s: the loss has not fallen: %g at first, now %g",
                          t->kind->name, t->first_loss, loss);
    return LIGHT_OK;
}

int main(int argc, char **argv)
{
    const char *names[CASES + 1] = {NULL};
    for (int i = 0; i < CASES; i++) names[i] = cases[i].name;
    bench_run run = bench_arguments(argc, argv, names);

    training t = {.kind = cases};
    while (strcmp(t.kind->name, run.name)) t.kind++;
    bench_defaults(&run, t.kind->warmup, t.kind->steps);
    light_status status = prepare(&t);
    if (status == LIGHT_OK) status = bench_steps(&run, train, &t, 1);
    if (status == LIGHT_OK) status = check(&t);
    light_tensor_free(t.x);
    light_tensor_free(t.y);
    light_optimizer_free(t.optimizer);
    light_module_free(t.model);
    light_step_free(t.step);
    return bench_exit(status);
}
