/* SPDX-License-Identifier: Apache-2.0 */
/* A convolutional network on Fashion-MNIST: a module and a datamodule against the vtables, then one line of main.
 * Everything else is the framework's work.
 *
 *   ./fashion_mnist fit
 *   ./fashion_mnist fit --config fashion.yaml --trainer.max_epochs 5 --model.lr 3e-4
 *   ./fashion_mnist fit --ckpt_path last
 *   ./fashion_mnist test --ckpt_path best
 */
#include <light/light.h>

/* ---- the module ------------------------------------------------------- */

typedef struct {
    light_module base;
    light_conv2d conv1, conv2;
    light_linear fc1, fc2;
    int64_t hidden;
    float lr;
    float dropout;
} convnet;

static const light_option convnet_options[] = {
    LIGHT_OPTION_RANGE(convnet, hidden, 128, 1, 1 << 20, "width of the hidden layer"),
    LIGHT_OPTION_RANGE(convnet, lr, 1e-3, 1e-12, INFINITY, "peak learning rate"),
    LIGHT_OPTION_RANGE(convnet, dropout, 0.25, 0, 1, "dropout probability before each linear layer"),
    LIGHT_OPTIONS_END,
};

static light_status convnet_init(light_module *self)
{
    convnet *m = (convnet *)self;
    LIGHT_TRY(light_conv2d_init(&m->conv1, self, "conv1", .in_channels = 1, .out_channels = 32, .kernel = 3,
                                .padding = 1));
    LIGHT_TRY(light_conv2d_init(&m->conv2, self, "conv2", .in_channels = 32, .out_channels = 64, .kernel = 3,
                                .padding = 1));
    LIGHT_TRY(light_linear_init(&m->fc1, self, "fc1", .in_features = 64 * 7 * 7, .out_features = m->hidden));
    LIGHT_TRY(light_linear_init(&m->fc2, self, "fc2", .in_features = m->hidden, .out_features = 10));
    return LIGHT_OK;
}

/* Operations never need checking one by one: the first that fails is remembered
 * by the step, those after it do nothing, and the trainer reports the failure
 * with the operation, the shapes and the module path ("fc1: linear: ..."). */
static light_tensor *convnet_forward(light_module *self, light_step *s, light_tensor *x)
{
    convnet *m = (convnet *)self;
    x = light_max_pool2d(s, light_relu(s, light_forward(s, &m->conv1.base, x)), 2);
    x = light_max_pool2d(s, light_relu(s, light_forward(s, &m->conv2.base, x)), 2);
    x = light_dropout(s, light_flatten(s, x, 1), m->dropout);
    x = light_dropout(s, light_relu(s, light_forward(s, &m->fc1.base, x)), m->dropout);
    return light_forward(s, &m->fc2.base, x);
}

static light_tensor *convnet_training_step(light_module *self, light_step *s, const light_batch *batch)
{
    light_tensor *logits = light_forward(s, self, batch->fields[0]);
    light_tensor *loss = light_cross_entropy(s, logits, batch->fields[1]);
    light_log(s, "train_loss", loss, .on_step = true, .prog_bar = true);
    return loss;
}

static void convnet_validation_step(light_module *self, light_step *s, const light_batch *batch)
{
    light_tensor *logits = light_forward(s, self, batch->fields[0]);
    light_log(s, "val_loss", light_cross_entropy(s, logits, batch->fields[1]), .prog_bar = true);
    light_log(s, "val_acc", light_accuracy(s, logits, batch->fields[1]), .prog_bar = true);
}

static void convnet_test_step(light_module *self, light_step *s, const light_batch *batch)
{
    light_tensor *logits = light_forward(s, self, batch->fields[0]);
    light_log(s, "test_loss", light_cross_entropy(s, logits, batch->fields[1]));
    light_log(s, "test_acc", light_accuracy(s, logits, batch->fields[1]));
}

static light_tensor *convnet_predict_step(light_module *self, light_step *s, const light_batch *batch)
{
    return light_argmax(s, light_forward(s, self, batch->fields[0]), 1);
}

static light_status convnet_configure_optimizers(light_module *self, light_optimizers *out)
{
    convnet *m = (convnet *)self;
    light_optimizer *adamw = light_adamw(light_parameters(self), .lr = m->lr, .weight_decay = 1e-2);
    return light_optimizers_add(out, adamw, light_cosine_schedule(.warmup_steps = 100));
}

const light_module_vtable convnet_vtable = {
    LIGHT_MODULE(convnet),
    .options = convnet_options,
    .init = convnet_init,
    .forward = convnet_forward,
    .training_step = convnet_training_step,
    .validation_step = convnet_validation_step,
    .test_step = convnet_test_step,
    .predict_step = convnet_predict_step,
    .configure_optimizers = convnet_configure_optimizers,
};

/* ---- the datamodule --------------------------------------------------- */

typedef struct {
    light_datamodule base;
    light_dataset *train, *val, *test;
    const char *root;
    int64_t batch_size;
    int num_workers;
} fashion;

static const light_option fashion_options[] = {
    LIGHT_OPTION(fashion, root, "/usr/share/datasets/fashion-mnist",
                 "folder with the four IDX files (.gz or plain)"),
    LIGHT_OPTION_RANGE(fashion, batch_size, 128, 1, INFINITY, "samples a rank takes in one step"),
    LIGHT_OPTION_RANGE(fashion, num_workers, 2, 0, 256, "loader threads; 0 loads in the training thread"),
    LIGHT_OPTIONS_END,
};

static light_status fashion_setup(light_datamodule *self, light_stage stage)
{
    fashion *d = (fashion *)self;
    if (stage == LIGHT_STAGE_FIT || stage == LIGHT_STAGE_VALIDATE) {
        light_dataset *all;
        LIGHT_TRY(
            light_idx_dataset_open(&all, d->root, "train-images-idx3-ubyte", "train-labels-idx1-ubyte"));
        LIGHT_TRY(light_dataset_split(all, 55000, &d->train, &d->val));
    }
    if (stage == LIGHT_STAGE_TEST || stage == LIGHT_STAGE_PREDICT)
        LIGHT_TRY(
            light_idx_dataset_open(&d->test, d->root, "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"));
    return LIGHT_OK;
}

static light_loader *fashion_loader(fashion *d, light_dataset *from, bool shuffle)
{
    return light_loader_new(from, .batch_size = d->batch_size, .shuffle = shuffle,
                            .num_workers = d->num_workers,
                            .transform = light_normalize(0, .mean = 0.2860f, .std = 0.3530f));
}

static light_loader *fashion_train(light_datamodule *self)
{
    fashion *d = (fashion *)self;
    return fashion_loader(d, d->train, true);
}
static light_loader *fashion_val(light_datamodule *self)
{
    fashion *d = (fashion *)self;
    return fashion_loader(d, d->val, false);
}
static light_loader *fashion_test(light_datamodule *self)
{
    fashion *d = (fashion *)self;
    return fashion_loader(d, d->test, false);
}

const light_datamodule_vtable fashion_vtable = {
    LIGHT_DATAMODULE(fashion),          .options = fashion_options,    .setup = fashion_setup,
    .train_dataloader = fashion_train,  .val_dataloader = fashion_val, .test_dataloader = fashion_test,
    .predict_dataloader = fashion_test,
};

#ifndef WITHOUT_MAIN /* examples/embed takes module and datamodule from this file */
int main(int argc, char **argv)
{
    return light_cli(argc, argv, &convnet_vtable, &fashion_vtable);
}
#endif
