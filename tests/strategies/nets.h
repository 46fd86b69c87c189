/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of training on several ranks share: two small networks, a trainer that prints and saves nothing, a
 * network's numbers in one array. */
#ifndef TESTS_STRATEGIES_NETS_H
#define TESTS_STRATEGIES_NETS_H

#include "trainer/lab.h"

#include "nn/parameter.h"
#include "tensor/tensor.h"
#include "trainer/trainer.h"

/* ---- with dropout ------------------------------------------------------------ */

typedef struct noisy {
    light_module base;
    light_linear layer, head;
} noisy;

MAYBE_UNUSED static light_status noisy_init(light_module *self)
{
    noisy *m = (noisy *)self;
    LIGHT_TRY(light_linear_init(&m->layer, self, "layer", .in_features = LAB_FEATURES, .out_features = 4));
    return light_linear_init(&m->head, self, "head", .in_features = 4, .out_features = LAB_CLASSES);
}

MAYBE_UNUSED static light_tensor *noisy_forward(light_module *self, light_step *s, light_tensor *x)
{
    noisy *m = (noisy *)self;
    x = light_dropout(s, light_relu(s, light_forward(s, &m->layer.base, x)), 0.3);
    return light_forward(s, &m->head.base, x);
}

/* ---- with batch norm ----------------------------------------------------------- */

typedef struct normed {
    light_module base;
    light_linear layer;
    light_batch_norm norm;
    light_linear head;
} normed;

MAYBE_UNUSED static light_status normed_init(light_module *self)
{
    normed *m = (normed *)self;
    LIGHT_TRY(light_linear_init(&m->layer, self, "layer", .in_features = LAB_FEATURES, .out_features = 6));
    LIGHT_TRY(light_batch_norm_init(&m->norm, self, "norm", .features = 6));
    return light_linear_init(&m->head, self, "head", .in_features = 6, .out_features = LAB_CLASSES);
}

MAYBE_UNUSED static light_tensor *normed_forward(light_module *self, light_step *s, light_tensor *x)
{
    normed *m = (normed *)self;
    x = light_relu(s, light_forward(s, &m->norm.base, light_forward(s, &m->layer.base, x)));
    return light_forward(s, &m->head.base, x);
}

/* ---- their steps ----------------------------------------------------------------- */

MAYBE_UNUSED static light_tensor *class_loss(light_module *self, light_step *s, const light_batch *batch)
{
    return light_cross_entropy(s, light_forward(s, self, batch->fields[0]), batch->fields[1]);
}

MAYBE_UNUSED static light_tensor *logged_step(light_module *self, light_step *s, const light_batch *batch)
{
    light_tensor *loss = class_loss(self, s, batch);
    light_log(s, "loss", loss, .on_step = true, .on_epoch = true);
    return loss;
}

/* ---- runs ------------------------------------------------------------------------ */

/* Works in the test's folder. */
MAYBE_UNUSED static light_trainer *quiet_trainer(light_trainer_options o)
{
    o.default_root_dir = folder;
    o.enable_progress_bar = o.enable_model_summary = o.enable_learning_curve = LIGHT_OFF;
    if (!o.enable_checkpointing) o.enable_checkpointing = LIGHT_OFF;
    light_trainer *t = light_trainer_new_with(&o);
    if (!t) fail_msg("%s", light_error_message());
    return t;
}

/* Parameters and running statistics, one behind the other. */
MAYBE_UNUSED static void read_numbers(light_module *module, float *to, int64_t room)
{
    for (light_parameter *p = light_next_parameter(module, NULL); p; p = light_next_parameter(module, p)) {
        const int64_t n = p->tensor->numel;
        if (p->tensor->dtype != LIGHT_F32) continue;
        assert_true(n <= room);
        assert_ok(light_tensor_read(p->tensor, LIGHT_F32, to, (size_t)n * sizeof *to));
        to += n;
        room -= n;
    }
}

#endif
