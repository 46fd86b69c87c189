/* SPDX-License-Identifier: Apache-2.0 */
/* The models of the training cases. */
#include "common/models.h"

/* ---- MLP ---------------------------------------------------------------- */

typedef struct {
    light_module base;
    light_linear fc1, fc2, fc3;
} mlp;

static light_status mlp_init(light_module *self)
{
    mlp *m = (mlp *)self;
    LIGHT_TRY(light_linear_init(&m->fc1, self, "fc1", .in_features = 784, .out_features = 512));
    LIGHT_TRY(light_linear_init(&m->fc2, self, "fc2", .in_features = 512, .out_features = 256));
    return light_linear_init(&m->fc3, self, "fc3", .in_features = 256, .out_features = 10);
}

static light_tensor *mlp_forward(light_module *self, light_step *s, light_tensor *x)
{
    mlp *m = (mlp *)self;
    x = light_relu(s, light_forward(s, &m->fc1.base, x));
    x = light_relu(s, light_forward(s, &m->fc2.base, x));
    return light_forward(s, &m->fc3.base, x);
}

const light_module_vtable bench_mlp = {LIGHT_MODULE(mlp), .init = mlp_init, .forward = mlp_forward};

/* ---- LeNet -------------------------------------------------------------- */

typedef struct {
    light_module base;
    light_conv2d conv1, conv2;
    light_linear fc1, fc2, fc3;
} lenet;

static light_status lenet_init(light_module *self)
{
    lenet *m = (lenet *)self;
    LIGHT_TRY(light_conv2d_init(&m->conv1, self, "conv1", .in_channels = 1, .out_channels = 6, .kernel = 5,
                                .padding = 2));
    LIGHT_TRY(light_conv2d_init(&m->conv2, self, "conv2", .in_channels = 6, .out_channels = 16, .kernel = 5));
    LIGHT_TRY(light_linear_init(&m->fc1, self, "fc1", .in_features = 400, .out_features = 120));
    LIGHT_TRY(light_linear_init(&m->fc2, self, "fc2", .in_features = 120, .out_features = 84));
    return light_linear_init(&m->fc3, self, "fc3", .in_features = 84, .out_features = 10);
}

static light_tensor *lenet_forward(light_module *self, light_step *s, light_tensor *x)
{
    lenet *m = (lenet *)self;
    x = light_max_pool2d(s, light_relu(s, light_forward(s, &m->conv1.base, x)), 2);
    x = light_max_pool2d(s, light_relu(s, light_forward(s, &m->conv2.base, x)), 2);
    x = light_relu(s, light_forward(s, &m->fc1.base, light_flatten(s, x, 1)));
    x = light_relu(s, light_forward(s, &m->fc2.base, x));
    return light_forward(s, &m->fc3.base, x);
}

const light_module_vtable bench_lenet = {LIGHT_MODULE(lenet), .init = lenet_init, .forward = lenet_forward};

/* ---- ResNet-18 ---------------------------------------------------------- */

typedef struct {
    light_module base;
    int64_t in_channels, channels, stride;
    light_conv2d conv1, conv2, shortcut;
    light_batch_norm bn1, bn2, shortcut_bn;
} basic_block;

static bool has_shortcut(const basic_block *m)
{
    return m->stride != 1 || m->in_channels != m->channels;
}

static light_status basic_block_init(light_module *self)
{
    basic_block *m = (basic_block *)self;
    LIGHT_TRY(light_conv2d_init(&m->conv1, self, "conv1", .in_channels = m->in_channels,
                                .out_channels = m->channels, .kernel = 3, .stride = m->stride, .padding = 1,
                                .bias = LIGHT_OFF));
    LIGHT_TRY(light_batch_norm_init(&m->bn1, self, "bn1", .features = m->channels));
    LIGHT_TRY(light_conv2d_init(&m->conv2, self, "conv2", .in_channels = m->channels,
                                .out_channels = m->channels, .kernel = 3, .padding = 1, .bias = LIGHT_OFF));
    LIGHT_TRY(light_batch_norm_init(&m->bn2, self, "bn2", .features = m->channels));
    if (!has_shortcut(m)) return LIGHT_OK;
    LIGHT_TRY(light_conv2d_init(&m->shortcut, self, "shortcut", .in_channels = m->in_channels,
                                .out_channels = m->channels, .kernel = 1, .stride = m->stride,
                                .bias = LIGHT_OFF));
    return light_batch_norm_init(&m->shortcut_bn, self, "shortcut_bn", .features = m->channels);
}

static light_tensor *basic_block_forward(light_module *self, light_step *s, light_tensor *x)
{
    basic_block *m = (basic_block *)self;
    light_tensor *y = light_relu_(s, light_forward(s, &m->bn1.base, light_forward(s, &m->conv1.base, x)));
    y = light_forward(s, &m->bn2.base, light_forward(s, &m->conv2.base, y));
    if (has_shortcut(m)) x = light_forward(s, &m->shortcut_bn.base, light_forward(s, &m->shortcut.base, x));
    return light_relu_(s, light_add_(s, y, x));
}

static const light_module_vtable basic_block_vtable = {LIGHT_MODULE(basic_block), .init = basic_block_init,
                                                       .forward = basic_block_forward};

enum { RESNET_BLOCKS = 8 };

typedef struct {
    light_module base;
    light_conv2d conv;
    light_batch_norm bn;
    basic_block blocks[RESNET_BLOCKS];
    light_linear fc;
} resnet18;

static light_status resnet18_init(light_module *self)
{
    resnet18 *m = (resnet18 *)self;
    LIGHT_TRY(light_conv2d_init(&m->conv, self, "conv", .in_channels = 3, .out_channels = 64, .kernel = 3,
                                .padding = 1, .bias = LIGHT_OFF));
    LIGHT_TRY(light_batch_norm_init(&m->bn, self, "bn", .features = 64));
    int64_t in_channels = 64;
    for (int i = 0; i < RESNET_BLOCKS; i++) {
        basic_block *block = &m->blocks[i];
        block->in_channels = in_channels;
        block->channels = in_channels = 64 << i / 2;
        block->stride = i > 0 && i % 2 == 0 ? 2 : 1;
        LIGHT_TRY(light_module_add(&block->base, &basic_block_vtable, self, NULL));
    }
    return light_linear_init(&m->fc, self, "fc", .in_features = 512, .out_features = 10);
}

static light_tensor *resnet18_forward(light_module *self, light_step *s, light_tensor *x)
{
    resnet18 *m = (resnet18 *)self;
    x = light_relu_(s, light_forward(s, &m->bn.base, light_forward(s, &m->conv.base, x)));
    for (int i = 0; i < RESNET_BLOCKS; i++) x = light_forward(s, &m->blocks[i].base, x);
    return light_forward(s, &m->fc.base, light_flatten(s, light_adaptive_avg_pool2d(s, x, 1, 1), 1));
}

const light_module_vtable bench_resnet18 = {LIGHT_MODULE(resnet18), .init = resnet18_init,
                                            .forward = resnet18_forward};

/* ---- ResNet-50 ---------------------------------------------------------- */

/* A convolution without bias, and its normalisation. */
typedef struct {
    light_conv2d conv;
    light_batch_norm norm;
} conv_norm;

static light_status add_conv_norm(conv_norm *c, light_module *parent, int64_t in_channels, int64_t channels,
                                  int64_t kernel, int64_t stride)
{
    LIGHT_TRY(light_conv2d_init(&c->conv, parent, NULL, .in_channels = in_channels, .out_channels = channels,
                                .kernel = kernel, .stride = stride, .padding = kernel / 2,
                                .bias = LIGHT_OFF));
    return light_batch_norm_init(&c->norm, parent, NULL, .features = channels);
}

static light_tensor *conv_norm_forward(light_step *s, conv_norm *c, light_tensor *x)
{
    return light_forward(s, &c->norm.base, light_forward(s, &c->conv.base, x));
}

typedef struct {
    light_module base;
    int64_t in_channels, channels, stride; /* set before it is added */
    conv_norm reduce, middle, expand, shortcut;
} bottleneck;

static bool is_projected(const bottleneck *m)
{
    return m->stride != 1 || m->in_channels != 4 * m->channels;
}

static light_status bottleneck_init(light_module *self)
{
    bottleneck *m = (bottleneck *)self;
    LIGHT_TRY(add_conv_norm(&m->reduce, self, m->in_channels, m->channels, 1, 1));
    LIGHT_TRY(add_conv_norm(&m->middle, self, m->channels, m->channels, 3, m->stride));
    LIGHT_TRY(add_conv_norm(&m->expand, self, m->channels, 4 * m->channels, 1, 1));
    if (!is_projected(m)) return LIGHT_OK;
    return add_conv_norm(&m->shortcut, self, m->in_channels, 4 * m->channels, 1, m->stride);
}

static light_tensor *bottleneck_forward(light_module *self, light_step *s, light_tensor *x)
{
    bottleneck *m = (bottleneck *)self;
    light_tensor *y = light_relu_(s, conv_norm_forward(s, &m->reduce, x));
    y = light_relu_(s, conv_norm_forward(s, &m->middle, y));
    y = conv_norm_forward(s, &m->expand, y);
    if (is_projected(m)) x = conv_norm_forward(s, &m->shortcut, x);
    return light_relu_(s, light_add_(s, y, x));
}

static const light_module_vtable bottleneck_vtable = {LIGHT_MODULE(bottleneck), .init = bottleneck_init,
                                                      .forward = bottleneck_forward};

enum { BOTTLENECKS = 16 };

typedef struct {
    light_module base;
    conv_norm stem;
    bottleneck blocks[BOTTLENECKS];
    light_linear fc;
} resnet50;

static light_status resnet50_init(light_module *self)
{
    static const int starts[] = {0, 3, 7, 13}; /* the first block of each stage */
    resnet50 *m = (resnet50 *)self;
    LIGHT_TRY(add_conv_norm(&m->stem, self, 3, 64, 7, 2));
    int64_t in_channels = 64;
    for (int i = 0, stage = -1; i < BOTTLENECKS; i++) {
        bool first = stage < 3 && i == starts[stage + 1];
        if (first) stage++;
        bottleneck *block = &m->blocks[i];
        block->in_channels = in_channels;
        block->channels = 64 << stage;
        block->stride = first && stage > 0 ? 2 : 1;
        in_channels = 4 * block->channels;
        LIGHT_TRY(light_module_add(&block->base, &bottleneck_vtable, self, NULL));
    }
    return light_linear_init(&m->fc, self, "fc", .in_features = 2048, .out_features = 1000);
}

static light_tensor *resnet50_forward(light_module *self, light_step *s, light_tensor *x)
{
    const light_pool2d_params pool = {.kernel = {3, 3}, .stride = {2, 2}, .padding = {1, 1}};
    resnet50 *m = (resnet50 *)self;
    x = light_max_pool2d_with(s, light_relu_(s, conv_norm_forward(s, &m->stem, x)), pool);
    for (int i = 0; i < BOTTLENECKS; i++) x = light_forward(s, &m->blocks[i].base, x);
    return light_forward(s, &m->fc.base, light_flatten(s, light_adaptive_avg_pool2d(s, x, 1, 1), 1));
}

const light_module_vtable bench_resnet50 = {LIGHT_MODULE(resnet50), .init = resnet50_init,
                                            .forward = resnet50_forward};

/* ---- GPT ---------------------------------------------------------------- */

typedef struct {
    light_module base;
    light_embedding wte, wpe;
    light_transformer_block *blocks;
    int64_t layers;
    light_layer_norm ln;
} gpt;

static light_status gpt_init(gpt *m, int64_t layers, int64_t width, int64_t heads, int64_t vocab,
                             int64_t context)
{
    light_module *self = &m->base;
    m->layers = layers;
    m->blocks = light_module_calloc(self, (size_t)layers, sizeof(*m->blocks));
    if (!m->blocks) return LIGHT_ERR_MEMORY;
    LIGHT_TRY(light_embedding_init(&m->wte, self, "wte", .rows = vocab, .width = width));
    LIGHT_TRY(light_init_parameter(&m->wte.base, "weight", LIGHT_INIT_NORMAL(0, 0.02)));
    LIGHT_TRY(light_embedding_init(&m->wpe, self, "wpe", .rows = context, .width = width));
    LIGHT_TRY(light_init_parameter(&m->wpe.base, "weight", LIGHT_INIT_NORMAL(0, 0.02)));
    for (int64_t i = 0; i < layers; i++)
        LIGHT_TRY(light_transformer_block_init(&m->blocks[i], self, NULL, .embed_dim = width, .heads = heads,
                                               .activation = light_gelu_tanh, .causal = true));
    return light_layer_norm_init(&m->ln, self, "ln", .features = width);
}

static light_status chargpt_init(light_module *self)
{
    return gpt_init((gpt *)self, 6, 384, 6, 65, 256);
}

static light_status gpt2_init(light_module *self)
{
    return gpt_init((gpt *)self, 12, 768, 12, 50257, 1024);
}

static light_status gpt2_124m_init(light_module *self)
{
    return gpt_init((gpt *)self, 12, 768, 12, 50304, 1024);
}

static light_status gpt2_350m_init(light_module *self)
{
    return gpt_init((gpt *)self, 24, 1024, 16, 50304, 1024);
}

/* The head is the embedding's own weight. */
static light_tensor *gpt_forward(light_module *self, light_step *s, light_tensor *tokens)
{
    gpt *m = (gpt *)self;
    light_tensor *positions = light_arange(s, 0, (double)light_dim(tokens, 1), 1, LIGHT_I64);
    light_tensor *x =
        light_add(s, light_forward(s, &m->wte.base, tokens), light_forward(s, &m->wpe.base, positions));
    for (int64_t i = 0; i < m->layers; i++) x = light_forward(s, &m->blocks[i].base, x);
    return light_linear_op(s, light_forward(s, &m->ln.base, x), m->wte.weight, NULL);
}

const light_module_vtable bench_chargpt = {LIGHT_MODULE(gpt), .init = chargpt_init, .forward = gpt_forward};
const light_module_vtable bench_gpt2 = {LIGHT_MODULE(gpt), .init = gpt2_init, .forward = gpt_forward};
const light_module_vtable bench_gpt2_124m = {LIGHT_MODULE(gpt), .init = gpt2_124m_init,
                                             .forward = gpt_forward};
const light_module_vtable bench_gpt2_350m = {LIGHT_MODULE(gpt), .init = gpt2_350m_init,
                                             .forward = gpt_forward};
