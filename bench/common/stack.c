/* SPDX-License-Identifier: Apache-2.0 */
/* The model of the benchmarks with several processes: layers of one size, so that units and buckets are too. */
#include "common/models.h"
#include "common/repeat.h"

#include <stdio.h>

enum { LAYERS = 16, WIDTH = 768, LAYER_PARAMETERS = WIDTH * WIDTH + WIDTH };

const int64_t bench_stack_layer_parameters = LAYER_PARAMETERS;
const int64_t bench_stack_parameters = (int64_t)LAYERS * LAYER_PARAMETERS;

typedef struct {
    light_module base;
    light_linear layers[LAYERS];
} stack;

static light_status stack_init(light_module *self)
{
    stack *m = (stack *)self;
    for (int i = 0; i < LAYERS; i++) {
        char name[16];
        snprintf(name, sizeof name, "fc%d", i + 1);
        LIGHT_TRY(light_linear_init(&m->layers[i], self, name, .in_features = WIDTH, .out_features = WIDTH));
    }
    return LIGHT_OK;
}

static light_tensor *stack_forward(light_module *self, light_step *s, light_tensor *x)
{
    stack *m = (stack *)self;
    for (int i = 0; i < LAYERS; i++) {
        if (i > 0) x = light_relu(s, x);
        x = light_forward(s, &m->layers[i].base, x);
    }
    return x;
}

static light_tensor *stack_training_step(light_module *self, light_step *s, const light_batch *batch)
{
    return light_cross_entropy(s, light_forward(s, self, batch->fields[0]), batch->fields[1]);
}

static light_status stack_configure_optimizers(light_module *self, light_optimizers *out)
{
    return light_optimizers_add(out, light_adamw(light_parameters(self), .lr = 1e-4), NULL);
}

const light_module_vtable bench_stack = {
    LIGHT_MODULE(stack),
    .init = stack_init,
    .forward = stack_forward,
    .training_step = stack_training_step,
    .configure_optimizers = stack_configure_optimizers,
};

void bench_stack_data(struct bench_repeat *data, int64_t batch_size, int64_t batches)
{
    data->fields[0] = (light_field){"x", LIGHT_F32, LIGHT_SHAPE(WIDTH)};
    data->fields[1] = (light_field){"y", LIGHT_I64, LIGHT_SCALAR};
    data->batch_size = batch_size;
    data->batches = batches;
}
