/* SPDX-License-Identifier: Apache-2.0 */
/* The modules that ship. Names of parameters, defaults and first values are PyTorch's.
 *
 * A module is a struct that stands inside the user's own; light_X_init, called in the owner's init, makes it a child:
 *
 *     LIGHT_TRY(light_linear_init(&m->fc1, self, "fc1", .in_features = 784, .out_features = m->hidden));
 *     ...
 *     x = light_forward(s, &m->fc1.base, x);
 *
 * In the options zero means the default (LIGHT_ZERO is a zero that is meant); .bias = LIGHT_OFF leaves a bias out. With
 * a parent of NULL the module is a root of its own, to be built with light_module_build. Fields after `base` are for
 * reading. */
#ifndef LIGHT_NN_H
#define LIGHT_NN_H

#include <light/module.h>
#include <light/ops.h>

#define light_module_init_call_(type, module, parent, name, ...)                                             \
    light_##type##_init_with(module, parent, name, &(light_##type##_options){__VA_ARGS__})

/* ---- linear ------------------------------------------------------------- */
/* x W^T + b on the last dim. weight [out, in] and bias [out] from U(-1/sqrt(in), 1/sqrt(in)). */
typedef struct light_linear_options {
    int64_t in_features, out_features;
    light_switch bias;
} light_linear_options;
typedef struct light_linear {
    light_module base;
    light_linear_options options;
    light_tensor *weight, *bias; /* bias may be NULL */
} light_linear;
#define light_linear_init(module, parent, name, ...)                                                         \
    light_module_init_call_(linear, module, parent, name, __VA_ARGS__)
LIGHT_API light_status light_linear_init_with(light_linear *module, light_module *parent, const char *name,
                                              const light_linear_options *options);

/* ---- convolution -------------------------------------------------------- */
/* x [N, C, H, W]. weight [out, in / groups, kH, kW] and bias from U(-1/sqrt(f), 1/sqrt(f)), f = in / groups kH kW. */
typedef struct light_conv2d_options {
    int64_t in_channels, out_channels;
    int64_t kernel, stride, padding, dilation;                         /* for both directions */
    int64_t kernel_hw[2], stride_hw[2], padding_hw[2], dilation_hw[2]; /* height and width, instead */
    int64_t groups;
    light_switch bias;
} light_conv2d_options;
typedef struct light_conv2d {
    light_module base;
    light_conv2d_options options;
    light_conv2d_params params;
    light_tensor *weight, *bias;
} light_conv2d;
#define light_conv2d_init(module, parent, name, ...)                                                         \
    light_module_init_call_(conv2d, module, parent, name, __VA_ARGS__)
LIGHT_API light_status light_conv2d_init_with(light_conv2d *module, light_module *parent, const char *name,
                                              const light_conv2d_options *options);

/* weight [in, out / groups, kH, kW]; first values as above with f = out / groups kH kW. */
typedef struct light_conv_transpose2d_options {
    int64_t in_channels, out_channels;
    int64_t kernel, stride, padding, output_padding, dilation;
    int64_t kernel_hw[2], stride_hw[2], padding_hw[2], output_padding_hw[2], dilation_hw[2];
    int64_t groups;
    light_switch bias;
} light_conv_transpose2d_options;
typedef struct light_conv_transpose2d {
    light_module base;
    light_conv_transpose2d_options options;
    light_conv2d_params params;
    light_tensor *weight, *bias;
} light_conv_transpose2d;
#define light_conv_transpose2d_init(module, parent, name, ...)                                               \
    light_module_init_call_(conv_transpose2d, module, parent, name, __VA_ARGS__)
LIGHT_API light_status light_conv_transpose2d_init_with(light_conv_transpose2d *module, light_module *parent,
                                                        const char *name,
                                                        const light_conv_transpose2d_options *options);

/* ---- normalisation; weight 1, bias 0 ------------------------------------ */
/* x [N, C, ..], C = features. In train mode by the batch's statistics, which move running_mean and running_var by
 * `momentum` (0.1; 1 keeps the last batch's); in eval mode by those. eps 1e-5. affine LIGHT_OFF: no weight and bias. */
typedef struct light_batch_norm_options {
    int64_t features;
    double eps, momentum;
    light_switch affine;
} light_batch_norm_options;
typedef struct light_batch_norm {
    light_module base;
    light_batch_norm_options options;
    light_tensor *weight, *bias;
    light_tensor *running_mean, *running_var, *num_batches_tracked;
} light_batch_norm;
#define light_batch_norm_init(module, parent, name, ...)                                                     \
    light_module_init_call_(batch_norm, module, parent, name, __VA_ARGS__)
LIGHT_API light_status light_batch_norm_init_with(light_batch_norm *module, light_module *parent,
                                                  const char *name, const light_batch_norm_options *options);

/* Over the last dim, of `features`, or over the last dims, of `shape`. eps 1e-5. */
typedef struct light_layer_norm_options {
    int64_t features;
    light_shape shape;
    double eps;
    light_switch affine, bias;
} light_layer_norm_options;
typedef struct light_layer_norm {
    light_module base;
    light_layer_norm_options options;
    light_tensor *weight, *bias;
} light_layer_norm;
#define light_layer_norm_init(module, parent, name, ...)                                                     \
    light_module_init_call_(layer_norm, module, parent, name, __VA_ARGS__)
LIGHT_API light_status light_layer_norm_init_with(light_layer_norm *module, light_module *parent,
                                                  const char *name, const light_layer_norm_options *options);

/* The same without mean and bias. eps: the machine epsilon of the input's dtype (of f32 for 16 bit). */
typedef struct light_rms_norm_options {
    int64_t features;
    light_shape shape;
    double eps;
    light_switch affine;
} light_rms_norm_options;
typedef struct light_rms_norm {
    light_module base;
    light_rms_norm_options options;
    light_tensor *weight;
} light_rms_norm;
#define light_rms_norm_init(module, parent, name, ...)                                                       \
    light_module_init_call_(rms_norm, module, parent, name, __VA_ARGS__)
LIGHT_API light_status light_rms_norm_init_with(light_rms_norm *module, light_module *parent,
                                                const char *name, const light_rms_norm_options *options);

/* x [N, channels, ..], in `groups` groups of channels. eps 1e-5. */
typedef struct light_group_norm_options {
    int64_t groups, channels;
    double eps;
    light_switch affine;
} light_group_norm_options;
typedef struct light_group_norm {
    light_module base;
    light_group_norm_options options;
    light_tensor *weight, *bias;
} light_group_norm;
#define light_group_norm_init(module, parent, name, ...)                                                     \
    light_module_init_call_(group_norm, module, parent, name, __VA_ARGS__)
LIGHT_API light_status light_group_norm_init_with(light_group_norm *module, light_module *parent,
                                                  const char *name, const light_group_norm_options *options);

/* ---- embedding, dropout, functions -------------------------------------- */
/* Rows of weight [rows, width], from N(0, 1). padding_idx: that row starts as zeros and gets no gradient; for row 0
 * give LIGHT_PADDING_ZERO. */
#define LIGHT_PADDING_ZERO INT64_MIN
typedef struct light_embedding_options {
    int64_t rows, width;
    int64_t padding_idx; /* 0: none */
} light_embedding_options;
typedef struct light_embedding {
    light_module base;
    light_embedding_options options;
    light_tensor *weight;
} light_embedding;
#define light_embedding_init(module, parent, name, ...)                                                      \
    light_module_init_call_(embedding, module, parent, name, __VA_ARGS__)
LIGHT_API light_status light_embedding_init_with(light_embedding *module, light_module *parent,
                                                 const char *name, const light_embedding_options *options);

/* light_dropout as a module. p 0.5. */
typedef struct light_dropout_layer_options {
    double p;
} light_dropout_layer_options;
typedef struct light_dropout_layer {
    light_module base;
    light_dropout_layer_options options;
} light_dropout_layer;
#define light_dropout_layer_init(module, parent, name, ...)                                                  \
    light_module_init_call_(dropout_layer, module, parent, name, __VA_ARGS__)
LIGHT_API light_status light_dropout_layer_init_with(light_dropout_layer *module, light_module *parent,
                                                     const char *name,
                                                     const light_dropout_layer_options *options);

/* ---- containers --------------------------------------------------------- */
/* Children get their index as name when it is NULL. light_sequential runs its children in the order they were added;
 * light_module_list only holds them.
 *
 *     LIGHT_TRY(light_sequential_init(&m->net, self, "net"));
 *     LIGHT_TRY(light_linear_init(&m->fc1, &m->net.base, NULL, .in_features = 8, .out_features = 4));
 *     LIGHT_TRY(light_sequential_add_function(&m->net, light_relu));
 */
typedef struct light_sequential {
    light_module base;
} light_sequential;
LIGHT_API light_status light_sequential_init(light_sequential *module, light_module *parent,
                                             const char *name);
/* Adds a function of one tensor as the next child. */
LIGHT_API light_status light_sequential_add_function(light_sequential *module,
                                                     light_tensor *(*function)(light_step *, light_tensor *));
typedef struct light_module_list {
    light_module base;
} light_module_list;
LIGHT_API light_status light_module_list_init(light_module_list *module, light_module *parent,
                                              const char *name);
LIGHT_API int light_module_list_length(const light_module_list *module);
LIGHT_API light_module *light_module_list_at(const light_module_list *module,
                                             int index); /* NULL when out of range */

/* ---- attention ---------------------------------------------------------- */
/* x [N, T, embed_dim] (PyTorch with batch_first=True). in_proj_weight [3 embed_dim, embed_dim] by Xavier's uniform
 * rule, in_proj_bias 0, out_proj with bias 0. light_forward is self-attention. */
typedef struct light_multihead_attention_options {
    int64_t embed_dim, heads;
    double dropout; /* of the attention weights */
    light_switch bias;
    bool causal;
} light_multihead_attention_options;
typedef struct light_multihead_attention {
    light_module base;
    light_multihead_attention_options options;
    light_tensor *in_proj_weight, *in_proj_bias;
    light_linear out_proj;
} light_multihead_attention;
#define light_multihead_attention_init(module, parent, name, ...)                                            \
    light_module_init_call_(multihead_attention, module, parent, name, __VA_ARGS__)
LIGHT_API light_status light_multihead_attention_init_with(light_multihead_attention *module,
                                                           light_module *parent, const char *name,
                                                           const light_multihead_attention_options *options);
/* query [N, T, E], key and value [N, S, E]; mask as in light_scaled_dot_product_attention, or NULL. */
LIGHT_API light_tensor *light_multihead_attention_forward(light_step *s, light_multihead_attention *module,
                                                          light_tensor *query, light_tensor *key,
                                                          light_tensor *value, light_tensor *mask);

/* x + self_attn(norm1(x)), then x + linear2(activation(linear1(norm2(x)))), with dropout after the activation and before each sum; with
 * norm_last (PyTorch's default) norm1 and norm2 stand behind the sums instead. Parts have the names of PyTorch's
 * TransformerEncoderLayer. hidden 4 embed_dim, dropout 0, activation light_gelu, eps 1e-5. */
typedef struct light_transformer_block_options {
    int64_t embed_dim, heads, hidden;
    double dropout, eps;
    light_tensor *(*activation)(light_step *s, light_tensor *x);
    light_switch bias;
    bool norm_last, causal;
} light_transformer_block_options;
typedef struct light_transformer_block {
    light_module base;
    light_transformer_block_options options;
    light_multihead_attention self_attn;
    light_linear linear1, linear2;
    light_layer_norm norm1, norm2;
} light_transformer_block;
#define light_transformer_block_init(module, parent, name, ...)                                              \
    light_module_init_call_(transformer_block, module, parent, name, __VA_ARGS__)
LIGHT_API light_status light_transformer_block_init_with(light_transformer_block *module,
                                                         light_module *parent, const char *name,
                                                         const light_transformer_block_options *options);

/* ---- recurrent ---------------------------------------------------------- */
/* x [T, N, input_size], or [N, T, input_size] with batch_first; gives [T, N, directions hidden_size] likewise. All
 * parameters (weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, .._l0_reverse, .._l1 ..) from U(-1/sqrt(hidden_size),
 * 1/sqrt(hidden_size)). Gates in the order i, f, g, o (LSTM) and r, z, n (GRU). dropout: between layers. */
typedef struct light_recurrent_options {
    int64_t input_size, hidden_size;
    int64_t num_layers; /* 1 */
    double dropout;
    light_switch bias;
    bool batch_first, bidirectional;
} light_recurrent_options;
typedef light_recurrent_options light_lstm_options;
typedef light_recurrent_options light_gru_options;
/* One layer in one direction. */
typedef struct light_recurrent_cell {
    light_tensor *weight_ih, *weight_hh, *bias_ih, *bias_hh;
} light_recurrent_cell;
typedef struct light_lstm {
    light_module base;
    light_lstm_options options;
    light_recurrent_cell *cells; /* [layer * directions + direction] */
    light_tensor **scratch;      /* for the outputs of the time steps, while forward runs */
    int64_t scratch_length;
} light_lstm;
typedef struct light_gru {
    light_module base;
    light_gru_options options;
    light_recurrent_cell *cells;
    light_tensor **scratch;
    int64_t scratch_length;
} light_gru;
#define light_lstm_init(module, parent, name, ...)                                                           \
    light_module_init_call_(lstm, module, parent, name, __VA_ARGS__)
#define light_gru_init(module, parent, name, ...)                                                            \
    light_module_init_call_(gru, module, parent, name, __VA_ARGS__)
LIGHT_API light_status light_lstm_init_with(light_lstm *module, light_module *parent, const char *name,
                                            const light_lstm_options *options);
LIGHT_API light_status light_gru_init_with(light_gru *module, light_module *parent, const char *name,
                                           const light_gru_options *options);
/* The same with states: h and c [layers directions, N, hidden_size], NULL for zeros; the last ones into *h_last and
 * *c_last unless NULL. */
LIGHT_API light_tensor *light_lstm_forward(light_step *s, light_lstm *module, light_tensor *x,
                                           light_tensor *h, light_tensor *c, light_tensor **h_last,
                                           light_tensor **c_last);
LIGHT_API light_tensor *light_gru_forward(light_step *s, light_gru *module, light_tensor *x, light_tensor *h,
                                          light_tensor **h_last);

#endif
