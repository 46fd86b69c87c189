/* SPDX-License-Identifier: Apache-2.0 */
/* Two optimizers under manual optimization, as a generative adversarial network needs (Goodfellow et al. 2014). The
 * datamodule is that of ../fashion_mnist; predict writes what the discriminator thinks of the test images.
 *
 *   ./gan fit --trainer.max_epochs 20
 *   ./gan fit --model.latent 32 --model.lr 1e-4
 *   ./gan predict --ckpt_path last
 */
#include <light/light.h>

extern const light_datamodule_vtable fashion_vtable; /* fashion_mnist.c */

/* ---- noise to images: [N, latent] to [N, 1, 28, 28] --------------------- */

typedef struct {
    light_module base;
    light_linear fc;
    light_batch_norm norm1, norm2;
    light_conv_transpose2d up1, up2;
    int64_t latent; /* set before it is added */
} generator;

/* What fashion_mnist.c normalizes with: images as the discriminator sees them. */
#define MEAN 0.2860
#define STD  0.3530

static light_tensor *generator_forward(light_module *self, light_step *s, light_tensor *z)
{
    generator *g = (generator *)self;
    int64_t n = light_dim(z, 0);
    light_tensor *x = light_reshape(s, light_forward(s, &g->fc.base, z), LIGHT_SHAPE(n, 32, 7, 7));
    x = light_relu(s, light_forward(s, &g->norm1.base, x));
    x = light_relu(s, light_forward(s, &g->norm2.base, light_forward(s, &g->up1.base, x)));
    x = light_sigmoid(s, light_forward(s, &g->up2.base, x));
    return light_mul_scalar(s, light_add_scalar(s, x, -MEAN), 1 / STD);
}

static light_status generator_init(light_module *self)
{
    generator *g = (generator *)self;
    LIGHT_TRY(light_linear_init(&g->fc, self, "fc", .in_features = g->latent, .out_features = 32 * 7 * 7));
    LIGHT_TRY(light_batch_norm_init(&g->norm1, self, "norm1", .features = 32));
    LIGHT_TRY(light_conv_transpose2d_init(&g->up1, self, "up1", .in_channels = 32, .out_channels = 16,
                                          .kernel = 4, .stride = 2, .padding = 1));
    LIGHT_TRY(light_batch_norm_init(&g->norm2, self, "norm2", .features = 16));
    return light_conv_transpose2d_init(&g->up2, self, "up2", .in_channels = 16, .out_channels = 1,
                                       .kernel = 4, .stride = 2, .padding = 1);
}

static const light_module_vtable generator_vtable = {
    LIGHT_MODULE(generator),
    .init = generator_init,
    .forward = generator_forward,
};

/* ---- images to one logit: [N, 1, 28, 28] to [N, 1], positive for real ---- */

typedef struct {
    light_module base;
    light_conv2d conv1, conv2;
    light_linear fc;
} discriminator;

static light_tensor *discriminator_forward(light_module *self, light_step *s, light_tensor *x)
{
    discriminator *d = (discriminator *)self;
    x = light_leaky_relu(s, light_forward(s, &d->conv1.base, x), 0.2);
    x = light_leaky_relu(s, light_forward(s, &d->conv2.base, x), 0.2);
    return light_forward(s, &d->fc.base, light_flatten(s, x, 1));
}

static light_status discriminator_init(light_module *self)
{
    discriminator *d = (discriminator *)self;
    LIGHT_TRY(light_conv2d_init(&d->conv1, self, "conv1", .in_channels = 1, .out_channels = 16, .kernel = 4,
                                .stride = 2, .padding = 1));
    LIGHT_TRY(light_conv2d_init(&d->conv2, self, "conv2", .in_channels = 16, .out_channels = 32, .kernel = 4,
                                .stride = 2, .padding = 1));
    return light_linear_init(&d->fc, self, "fc", .in_features = 32 * 7 * 7, .out_features = 1);
}

static const light_module_vtable discriminator_vtable = {
    LIGHT_MODULE(discriminator),
    .init = discriminator_init,
    .forward = discriminator_forward,
};

/* ---- the two against each other ----------------------------------------- */

typedef struct {
    light_module base;
    generator gen;
    discriminator dis;
    int64_t latent;
    float lr;
} gan;

static const light_option gan_options[] = {
    LIGHT_OPTION_RANGE(gan, latent, 64, 1, 1 << 20, "random numbers that an image is made from"),
    LIGHT_OPTION_RANGE(gan, lr, 2e-4, 1e-12, INFINITY, "learning rate of both optimizers"),
    LIGHT_OPTIONS_END,
};

static light_status gan_init(light_module *self)
{
    gan *m = (gan *)self;
    m->gen.latent = m->latent;
    LIGHT_TRY(light_module_add(&m->gen.base, &generator_vtable, self, "gen"));
    return light_module_add(&m->dis.base, &discriminator_vtable, self, "dis");
}

static light_tensor *gan_training_step(light_module *self, light_step *s, const light_batch *batch)
{
    gan *m = (gan *)self;
    light_tensor *real = batch->fields[0];
    int64_t n = light_dim(real, 0);
    light_optimizer *opt_g = light_optimizer_at(s, 0);
    light_optimizer *opt_d = light_optimizer_at(s, 1);

    light_tensor *z = light_randn(s, LIGHT_SHAPE(n, m->latent), LIGHT_DTYPE_DEFAULT);
    light_tensor *fake = light_forward(s, &m->gen.base, z);

    light_toggle_optimizer(s, opt_g);
    light_tensor *g_loss = light_bce_with_logits(s, light_forward(s, &m->dis.base, fake),
                                                 light_ones(s, LIGHT_SHAPE(n, 1), LIGHT_DTYPE_DEFAULT));
    light_manual_backward(s, g_loss);
    light_optimizer_step(s, opt_g);
    light_zero_grad(s, opt_g);
    light_untoggle_optimizer(s, opt_g);

    light_toggle_optimizer(s, opt_d);
    light_tensor *on_real = light_bce_with_logits(s, light_forward(s, &m->dis.base, real),
                                                  light_ones(s, LIGHT_SHAPE(n, 1), LIGHT_DTYPE_DEFAULT));
    light_tensor *on_fake = light_bce_with_logits(s, light_forward(s, &m->dis.base, light_detach(s, fake)),
                                                  light_zeros(s, LIGHT_SHAPE(n, 1), LIGHT_DTYPE_DEFAULT));
    light_tensor *d_loss = light_mul_scalar(s, light_add(s, on_real, on_fake), 0.5);
    light_manual_backward(s, d_loss);
    light_optimizer_step(s, opt_d);
    light_zero_grad(s, opt_d);
    light_untoggle_optimizer(s, opt_d);

    light_log(s, "g_loss", g_loss, .prog_bar = true);
    light_log(s, "d_loss", d_loss, .prog_bar = true);
    return NULL; /* manual optimization returns no loss */
}

static light_tensor *gan_predict_step(light_module *self, light_step *s, const light_batch *batch)
{
    gan *m = (gan *)self;
    return light_sigmoid(s, light_forward(s, &m->dis.base, batch->fields[0]));
}

/* Each optimizer has the parameters below one of the two modules. */
static light_status gan_configure_optimizers(light_module *self, light_optimizers *out)
{
    gan *m = (gan *)self;
    LIGHT_TRY(light_optimizers_add(
        out, light_adam(light_parameters(&m->gen.base), .lr = m->lr, .betas = {0.5, 0.999}), NULL));
    return light_optimizers_add(
        out, light_adam(light_parameters(&m->dis.base), .lr = m->lr, .betas = {0.5, 0.999}), NULL);
}

static const light_module_vtable gan_vtable = {
    LIGHT_MODULE(gan),
    .options = gan_options,
    .manual_optimization = true,
    .init = gan_init,
    .training_step = gan_training_step,
    .predict_step = gan_predict_step,
    .configure_optimizers = gan_configure_optimizers,
};

int main(int argc, char **argv)
{
    return light_cli(argc, argv, &gan_vtable, &fashion_vtable);
}
