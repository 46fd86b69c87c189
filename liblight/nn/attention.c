/* SPDX-License-Identifier: Apache-2.0 */
/* light_multihead_attention and light_transformer_block. Vaswani et al.: Attention is all you need. 2017. */
#include "nn/modules.h"

/* ---- attention ---------------------------------------------------------- */

static light_status attention_init(light_module *self)
{
    light_multihead_attention *m = (light_multihead_attention *)self;
    const light_multihead_attention_options *o = &m->options;
    LIGHT_TRY(light_nn_positive(self, "embed_dim", o->embed_dim));
    LIGHT_TRY(light_nn_positive(self, "heads", o->heads));
    LIGHT_TRY(light_nn_probability(self, "dropout", o->dropout));
    int64_t e = o->embed_dim;
    if (e % o->heads)
        return light_nn_refuse(self, "%lld heads do not divide embed_dim %lld", (long long)o->heads,
                               (long long)e);
    double bound = sqrt(6.0 / (double)(3 * e + e)); /* Glorot, Bengio 2010 */
    LIGHT_TRY(light_add_parameter(self, &m->in_proj_weight, "in_proj_weight", LIGHT_SHAPE(3 * e, e),
                                  LIGHT_INIT_UNIFORM(-bound, bound)));
    if (o->bias != LIGHT_OFF)
        LIGHT_TRY(light_add_parameter(self, &m->in_proj_bias, "in_proj_bias", LIGHT_SHAPE(3 * e),
                                      LIGHT_INIT_ZEROS));
    LIGHT_TRY(light_linear_init(&m->out_proj, self, "out_proj", .in_features = e, .out_features = e,
                                .bias = o->bias));
    return o->bias == LIGHT_OFF ? LIGHT_OK
                                : light_init_parameter(&m->out_proj.base, "bias", LIGHT_INIT_ZEROS);
}

/* [N, T, E] to [N, heads, T, E / heads], a view. */
static light_tensor *split_heads(light_step *s, light_tensor *x, int64_t heads)
{
    int64_t size = light_dim(x, 2) / heads;
    x = light_reshape(s, x, LIGHT_SHAPE(light_dim(x, 0), light_dim(x, 1), heads, size));
    return light_transpose(s, x, 1, 2);
}

static light_tensor *project(light_step *s, light_multihead_attention *m, light_tensor *x, int which)
{
    int64_t e = m->options.embed_dim;
    light_tensor *weight = light_slice(s, m->in_proj_weight, 0, which * e, (which + 1) * e, 1);
    light_tensor *bias =
        m->in_proj_bias ? light_slice(s, m->in_proj_bias, 0, which * e, (which + 1) * e, 1) : NULL;
    return light_linear_op(s, x, weight, bias);
}

static light_tensor *attention(light_step *s, light_multihead_attention *m, light_tensor *query,
                               light_tensor *key, light_tensor *value, light_tensor *mask)
{
    char text[256];
    light_tensor *inputs[3] = {query, key, value}, *parts[3] = {NULL};
    const light_multihead_attention_options *o = &m->options;
    for (int i = 0; i < 3; i++)
        if (light_ndim(inputs[i]) != 3 || light_dim(inputs[i], 2) != o->embed_dim)
            return light_step_fail(s, LIGHT_ERR_SHAPE, "multihead_attention: input %s must be [N, T, %lld]",
                                   light_shape_format(light_shape_of(inputs[i]), text, sizeof text),
                                   (long long)o->embed_dim);
    if (query == key && key == value) {
        light_tensor *all = light_linear_op(s, query, m->in_proj_weight, m->in_proj_bias);
        if (!light_split(s, all, o->embed_dim, 2, parts, 3)) return NULL;
    } else {
        for (int i = 0; i < 3; i++) parts[i] = project(s, m, inputs[i], i);
    }
    for (int i = 0; i < 3; i++) {
        if (!parts[i]) return NULL;
        parts[i] = split_heads(s, parts[i], o->heads);
    }
    light_sdpa_params params = {.causal = o->causal, .dropout_p = o->dropout};
    light_tensor *y = light_scaled_dot_product_attention(s, parts[0], parts[1], parts[2], mask, params);
    y = light_reshape(s, light_transpose(s, y, 1, 2), light_shape_of(query));
    return light_forward(s, &m->out_proj.base, y);
}

light_tensor *light_multihead_attention_forward(light_step *s, light_multihead_attention *module,
                                                light_tensor *query, light_tensor *key, light_tensor *value,
                                                light_tensor *mask)
{
    light_module_scope scope;
    if (!query || !key || !value || !light_module_enter(s, &module->base, &scope)) return NULL;
    light_tensor *y = attention(s, module, query, key, value, mask);
    light_module_leave(s, &scope);
    return y;
}

static light_tensor *self_attention(light_module *self, light_step *s, light_tensor *x)
{
    return attention(s, (light_multihead_attention *)self, x, x, x, NULL);
}

static const light_module_vtable attention_vtable = {
    LIGHT_NN_VTABLE(light_multihead_attention, "multihead_attention"),
    .init = attention_init,
    .forward = self_attention,
};

light_status light_multihead_attention_init_with(light_multihead_attention *module, light_module *parent,
                                                 const char *name,
                                                 const light_multihead_attention_options *options)
{
    module->options = *options;
    return light_module_add(&module->base, &attention_vtable, parent, name);
}

/* ---- block -------------------------------------------------------------- */

static light_status block_init(light_module *self)
{
    light_transformer_block *m = (light_transformer_block *)self;
    light_transformer_block_options *o = &m->options;
    LIGHT_TRY(light_nn_probability(self, "dropout", o->dropout));
    o->hidden = light_int_or_default(o->hidden, 4 * o->embed_dim);
    if (!o->activation) o->activation = light_gelu;
    LIGHT_TRY(light_multihead_attention_init(&m->self_attn, self, "self_attn", .embed_dim = o->embed_dim,
                                             .heads = o->heads, .dropout = o->dropout, .bias = o->bias,
                                             .causal = o->causal));
    LIGHT_TRY(light_linear_init(&m->linear1, self, "linear1", .in_features = o->embed_dim,
                                .out_features = o->hidden, .bias = o->bias));
    LIGHT_TRY(light_linear_init(&m->linear2, self, "linear2", .in_features = o->hidden,
                                .out_features = o->embed_dim, .bias = o->bias));
    LIGHT_TRY(light_layer_norm_init(&m->norm1, self, "norm1", .features = o->embed_dim, .eps = o->eps,
                                    .bias = o->bias));
    return light_layer_norm_init(&m->norm2, self, "norm2", .features = o->embed_dim, .eps = o->eps,
                                 .bias = o->bias);
}

static light_tensor *attend(light_transformer_block *m, light_step *s, light_tensor *x)
{
    return light_dropout(s, light_forward(s, &m->self_attn.base, x), m->options.dropout);
}

static light_tensor *feed_forward(light_transformer_block *m, light_step *s, light_tensor *x)
{
    x = m->options.activation(s, light_forward(s, &m->linear1.base, x));
    x = light_forward(s, &m->linear2.base, light_dropout(s, x, m->options.dropout));
    return light_dropout(s, x, m->options.dropout);
}

static light_tensor *block_forward(light_module *self, light_step *s, light_tensor *x)
{
    light_transformer_block *m = (light_transformer_block *)self;
    if (m->options.norm_last) {
        x = light_forward(s, &m->norm1.base, light_add(s, x, attend(m, s, x)));
        return light_forward(s, &m->norm2.base, light_add(s, x, feed_forward(m, s, x)));
    }
    x = light_add(s, x, attend(m, s, light_forward(s, &m->norm1.base, x)));
    return light_add(s, x, feed_forward(m, s, light_forward(s, &m->norm2.base, x)));
}

static const light_module_vtable block_vtable = {
    LIGHT_NN_VTABLE(light_transformer_block, "transformer_block"),
    .init = block_init,
    .forward = block_forward,
};

light_status light_transformer_block_init_with(light_transformer_block *module, light_module *parent,
                                               const char *name,
                                               const light_transformer_block_options *options)
{
    module->options = *options;
    return light_module_add(&module->base, &block_vtable, parent, name);
}
