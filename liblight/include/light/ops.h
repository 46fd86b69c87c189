/* SPDX-License-Identifier: Apache-2.0 */
/* The operations. Names and meanings are PyTorch's.
 *
 * Every operation takes the step first, returns a tensor of that step, and returns NULL after a failure: the step
 * keeps the first one (light_step_status), later operations see NULL and do nothing. Inputs are never changed, except
 * by operations whose name ends in `_`. Binary operations broadcast, and promote dtypes as PyTorch does (bool < u8 <
 * i32 < i64 < f16, bf16 < f32 < f64; f16 with bf16 gives f32). Negative dims count from the end. All floating
 * operations have gradients; comparisons, arg*, one_hot and random numbers have none.
 */
#ifndef LIGHT_OPS_H
#define LIGHT_OPS_H

#include <light/step.h>

/* ---- making tensors (f32 unless said) ----------------------------------- */
LIGHT_API light_tensor *light_zeros(light_step *s, light_shape shape, light_dtype dtype);
LIGHT_API light_tensor *light_ones(light_step *s, light_shape shape, light_dtype dtype);
LIGHT_API light_tensor *light_full(light_step *s, light_shape shape, double value, light_dtype dtype);
LIGHT_API light_tensor *light_arange(light_step *s, double start, double end, double step, light_dtype dtype);
/* Uniform in [0, 1), standard normal, whole numbers in [low, high). Keyed by (seed, step, call number, element). */
LIGHT_API light_tensor *light_rand(light_step *s, light_shape shape, light_dtype dtype);
LIGHT_API light_tensor *light_randn(light_step *s, light_shape shape, light_dtype dtype);
LIGHT_API light_tensor *light_randint(light_step *s, int64_t low, int64_t high, light_shape shape,
                                      light_dtype dtype);
/* A copy of host memory, row-major. */
LIGHT_API light_tensor *light_from_host(light_step *s, light_shape shape, light_dtype dtype,
                                        const void *data);

/* ---- elementwise -------------------------------------------------------- */
LIGHT_API light_tensor *light_add(light_step *s, light_tensor *a, light_tensor *b);
LIGHT_API light_tensor *light_sub(light_step *s, light_tensor *a, light_tensor *b);
LIGHT_API light_tensor *light_mul(light_step *s, light_tensor *a, light_tensor *b);
LIGHT_API light_tensor *light_div(light_step *s, light_tensor *a, light_tensor *b);
LIGHT_API light_tensor *light_pow(light_step *s, light_tensor *a, light_tensor *b);
LIGHT_API light_tensor *light_maximum(light_step *s, light_tensor *a, light_tensor *b);
LIGHT_API light_tensor *light_minimum(light_step *s, light_tensor *a, light_tensor *b);
LIGHT_API light_tensor *light_add_scalar(light_step *s, light_tensor *x, double value);
LIGHT_API light_tensor *light_mul_scalar(light_step *s, light_tensor *x, double value);
LIGHT_API light_tensor *light_pow_scalar(light_step *s, light_tensor *x, double exponent);
LIGHT_API light_tensor *light_neg(light_step *s, light_tensor *x);
LIGHT_API light_tensor *light_abs(light_step *s, light_tensor *x);
LIGHT_API light_tensor *light_exp(light_step *s, light_tensor *x);
LIGHT_API light_tensor *light_log_e(light_step *s,
                                    light_tensor *x); /* natural logarithm; light_log logs metrics */
LIGHT_API light_tensor *light_sqrt(light_step *s, light_tensor *x);
LIGHT_API light_tensor *light_rsqrt(light_step *s, light_tensor *x);
LIGHT_API light_tensor *light_reciprocal(light_step *s, light_tensor *x);
LIGHT_API light_tensor *light_square(light_step *s, light_tensor *x);
LIGHT_API light_tensor *light_sin(light_step *s, light_tensor *x);
LIGHT_API light_tensor *light_cos(light_step *s, light_tensor *x);
LIGHT_API light_tensor *light_tanh(light_step *s, light_tensor *x);
LIGHT_API light_tensor *light_sigmoid(light_step *s, light_tensor *x);
LIGHT_API light_tensor *light_relu(light_step *s, light_tensor *x);
LIGHT_API light_tensor *light_leaky_relu(light_step *s, light_tensor *x, double negative_slope);
LIGHT_API light_tensor *light_elu(light_step *s, light_tensor *x, double alpha);
LIGHT_API light_tensor *light_gelu(light_step *s, light_tensor *x); /* x Phi(x), by erf */
LIGHT_API light_tensor *light_gelu_tanh(light_step *s,
                                        light_tensor *x); /* the tanh approximation, as GPT-2 has it */
LIGHT_API light_tensor *light_silu(light_step *s, light_tensor *x);
LIGHT_API light_tensor *light_softplus(light_step *s, light_tensor *x);
/* NAN as a bound means none. */
LIGHT_API light_tensor *light_clamp(light_step *s, light_tensor *x, double low, double high);

/* In place: the input's memory becomes the result, and the input is not to be used again (an error says so). */
LIGHT_API light_tensor *light_relu_(light_step *s, light_tensor *x);
LIGHT_API light_tensor *light_add_(light_step *s, light_tensor *a, light_tensor *b);

/* Results are bool. */
LIGHT_API light_tensor *light_eq(light_step *s, light_tensor *a, light_tensor *b);
LIGHT_API light_tensor *light_ne(light_step *s, light_tensor *a, light_tensor *b);
LIGHT_API light_tensor *light_lt(light_step *s, light_tensor *a, light_tensor *b);
LIGHT_API light_tensor *light_le(light_step *s, light_tensor *a, light_tensor *b);
LIGHT_API light_tensor *light_gt(light_step *s, light_tensor *a, light_tensor *b);
LIGHT_API light_tensor *light_ge(light_step *s, light_tensor *a, light_tensor *b);
LIGHT_API light_tensor *light_logical_not(light_step *s, light_tensor *x);
LIGHT_API light_tensor *light_logical_and(light_step *s, light_tensor *a, light_tensor *b);
LIGHT_API light_tensor *light_logical_or(light_step *s, light_tensor *a, light_tensor *b);
LIGHT_API light_tensor *light_isfinite(light_step *s, light_tensor *x);

LIGHT_API light_tensor *light_where(light_step *s, light_tensor *condition, light_tensor *a, light_tensor *b);
LIGHT_API light_tensor *light_masked_fill(light_step *s, light_tensor *x, light_tensor *mask, double value);
LIGHT_API light_tensor *light_to_dtype(light_step *s, light_tensor *x, light_dtype dtype);

/* ---- reductions --------------------------------------------------------- */
/* Which dims: LIGHT_DIMS(0, 2), or LIGHT_ALL for all of them. */
typedef struct light_dims {
    int n; /* 0: all */
    int dims[LIGHT_MAX_DIMS];
} light_dims;
#define LIGHT_DIMS(...)                                                                                      \
    ((light_dims){.n = (int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int)), .dims = {__VA_ARGS__}})
#define LIGHT_ALL ((light_dims){.n = 0})

LIGHT_API light_tensor *light_sum(light_step *s, light_tensor *x, light_dims dims, bool keepdim);
LIGHT_API light_tensor *light_mean(light_step *s, light_tensor *x, light_dims dims, bool keepdim);
/* `correction` is subtracted from the count: 1 for the unbiased estimate. */
LIGHT_API light_tensor *light_var(light_step *s, light_tensor *x, light_dims dims, double correction,
                                  bool keepdim);
/* Equal largest (smallest) elements share the gradient, as in torch.amax. */
LIGHT_API light_tensor *light_max(light_step *s, light_tensor *x, light_dims dims, bool keepdim);
LIGHT_API light_tensor *light_min(light_step *s, light_tensor *x, light_dims dims, bool keepdim);
LIGHT_API light_tensor *light_logsumexp(light_step *s, light_tensor *x, light_dims dims, bool keepdim);
/* Index (i64) of the largest, smallest element along `dim`; the first one of equals. */
LIGHT_API light_tensor *light_argmax(light_step *s, light_tensor *x, int dim);
LIGHT_API light_tensor *light_argmin(light_step *s, light_tensor *x, int dim);
/* The k largest along `dim`, in falling order, first of equals first; their indices (i64) into *indices unless NULL. */
LIGHT_API light_tensor *light_topk(light_step *s, light_tensor *x, int64_t k, int dim,
                                   light_tensor **indices);
LIGHT_API light_tensor *light_cumsum(light_step *s, light_tensor *x, int dim);
LIGHT_API light_tensor *light_softmax(light_step *s, light_tensor *x, int dim);
LIGHT_API light_tensor *light_log_softmax(light_step *s, light_tensor *x, int dim);

/* ---- products ----------------------------------------------------------- */
/* [.., m, k] by [.., k, n]; leading dims broadcast; one-dimensional arguments as in PyTorch. */
LIGHT_API light_tensor *light_matmul(light_step *s, light_tensor *a, light_tensor *b);
/* x [.., in] by weight [out, in], plus bias [out] unless NULL: [.., out]. */
LIGHT_API light_tensor *light_linear_op(light_step *s, light_tensor *x, light_tensor *weight,
                                        light_tensor *bias);

/* ---- convolution and pooling; x is [N, C, H, W] ------------------------- */
typedef struct light_conv2d_params {
    int64_t stride[2], padding[2], dilation[2]; /* 0 means 1, 0, 1 */
    int64_t output_padding[2];                  /* conv_transpose2d only */
    int64_t groups;                             /* 0 means 1 */
} light_conv2d_params;
/* weight [out, in / groups, kH, kW], bias [out] or NULL. */
LIGHT_API light_tensor *light_conv2d_op(light_step *s, light_tensor *x, light_tensor *weight,
                                        light_tensor *bias, light_conv2d_params params);
/* weight [in, out / groups, kH, kW]. */
LIGHT_API light_tensor *light_conv_transpose2d_op(light_step *s, light_tensor *x, light_tensor *weight,
                                                  light_tensor *bias, light_conv2d_params params);
typedef struct light_pool2d_params {
    int64_t kernel[2], stride[2], padding[2],
        dilation[2]; /* stride 0 means the kernel; dilation for max only */
    bool ceil_mode;
    bool
        exclude_padding; /* average: divide by the elements inside the image only (count_include_pad=False) */
} light_pool2d_params;
/* Square window of `kernel`, stride the same. */
LIGHT_API light_tensor *light_max_pool2d(light_step *s, light_tensor *x, int64_t kernel);
LIGHT_API light_tensor *light_avg_pool2d(light_step *s, light_tensor *x, int64_t kernel);
LIGHT_API light_tensor *light_max_pool2d_with(light_step *s, light_tensor *x, light_pool2d_params params);
LIGHT_API light_tensor *light_avg_pool2d_with(light_step *s, light_tensor *x, light_pool2d_params params);
LIGHT_API light_tensor *light_adaptive_avg_pool2d(light_step *s, light_tensor *x, int64_t height,
                                                  int64_t width);
LIGHT_API light_tensor *light_adaptive_max_pool2d(light_step *s, light_tensor *x, int64_t height,
                                                  int64_t width);

/* ---- normalisation; weight and bias may be NULL ------------------------- */
/* x [N, C, ..]. In training the batch's statistics are used and the running ones (f32 [C]) updated in place:
 * running = (1 - momentum) running + momentum batch, with the unbiased variance. */
LIGHT_API light_tensor *light_batch_norm_op(light_step *s, light_tensor *x, light_tensor *weight,
                                            light_tensor *bias, light_tensor *running_mean,
                                            light_tensor *running_var, bool training, double momentum,
                                            double eps);
/* Over the last `ndim` dims, whose shape weight and bias have. */
LIGHT_API light_tensor *light_layer_norm_op(light_step *s, light_tensor *x, int ndim, light_tensor *weight,
                                            light_tensor *bias, double eps);
LIGHT_API light_tensor *light_rms_norm_op(light_step *s, light_tensor *x, int ndim, light_tensor *weight,
                                          double eps);
LIGHT_API light_tensor *light_group_norm_op(light_step *s, light_tensor *x, int64_t groups,
                                            light_tensor *weight, light_tensor *bias, double eps);

/* ---- embedding, dropout, attention -------------------------------------- */
/* indices (i32, i64) of any shape into weight [rows, width]: [.., width]. `padding_idx` gets no gradient; -1: none. */
LIGHT_API light_tensor *light_embedding_op(light_step *s, light_tensor *weight, light_tensor *indices,
                                           int64_t padding_idx);
/* Zeroes with probability p and scales the rest by 1 / (1 - p) while the running module is in train mode; else x. */
LIGHT_API light_tensor *light_dropout(light_step *s, light_tensor *x, double p);

typedef struct light_sdpa_params {
    bool causal;
    double scale;     /* 0: 1 / sqrt(head size) */
    double dropout_p; /* in train mode */
} light_sdpa_params;
/* q [.., heads, T, d], k and v [.., kv_heads, S, d] with heads a multiple of kv_heads (grouped heads). mask: NULL, bool
 * (true takes part) or floating (added), broadcast to [.., heads, T, S]. causal: the last query sees all keys, so query t
 * sees keys up to t + S - T (with T = S as in PyTorch, whose triangle begins at the first key otherwise). A row with
 * nothing to attend to gives 0. */
LIGHT_API light_tensor *light_scaled_dot_product_attention(light_step *s, light_tensor *q, light_tensor *k,
                                                           light_tensor *v, light_tensor *mask,
                                                           light_sdpa_params params);
/* Rotary positions on x [.., T, d] from position `offset` on; `interleaved`: pairs (0,1), (2,3).., else (0, d/2).. */
LIGHT_API light_tensor *light_rope(light_step *s, light_tensor *x, int64_t offset, double base,
                                   bool interleaved);

/* ---- shapes ------------------------------------------------------------- */
/* Views where strides allow it. One dim of reshape may be -1. */
LIGHT_API light_tensor *light_reshape(light_step *s, light_tensor *x, light_shape shape);
LIGHT_API light_tensor *light_flatten(light_step *s, light_tensor *x, int start_dim);
LIGHT_API light_tensor *light_permute(light_step *s, light_tensor *x, light_dims order);
LIGHT_API light_tensor *light_transpose(light_step *s, light_tensor *x, int dim0, int dim1);
LIGHT_API light_tensor *light_squeeze(light_step *s, light_tensor *x, int dim);
LIGHT_API light_tensor *light_unsqueeze(light_step *s, light_tensor *x, int dim);
LIGHT_API light_tensor *light_expand(light_step *s, light_tensor *x, light_shape shape); /* -1 keeps a dim */
LIGHT_API light_tensor *light_select(light_step *s, light_tensor *x, int dim, int64_t index);
LIGHT_API light_tensor *light_slice(light_step *s, light_tensor *x, int dim, int64_t start, int64_t end,
                                    int64_t step);
/* Pieces of `size` along `dim`, the last maybe smaller, into parts[0..n); n must be their number. False on failure. */
LIGHT_API bool light_split(light_step *s, light_tensor *x, int64_t size, int dim, light_tensor **parts,
                           int n);
LIGHT_API light_tensor *light_contiguous(light_step *s, light_tensor *x);
LIGHT_API light_tensor *light_cat(light_step *s, light_tensor **parts, int n, int dim);
LIGHT_API light_tensor *light_stack(light_step *s, light_tensor **parts, int n, int dim);
/* Constant padding; pads[2 * i], pads[2 * i + 1] before and after the i-th dim from the last, as torch.nn.functional.pad. */
LIGHT_API light_tensor *light_pad(light_step *s, light_tensor *x, const int64_t *pads, int n, double value);

/* ---- indexing ----------------------------------------------------------- */
LIGHT_API light_tensor *light_gather(light_step *s, light_tensor *x, int dim, light_tensor *index);
LIGHT_API light_tensor *light_index_select(light_step *s, light_tensor *x, int dim, light_tensor *index);
LIGHT_API light_tensor *light_one_hot(light_step *s, light_tensor *index, int64_t classes); /* i64 */

/* ---- losses; means over the elements unless said ------------------------ */
typedef enum light_reduction { LIGHT_MEAN = 0, LIGHT_SUM, LIGHT_NONE } light_reduction;
typedef struct light_loss_options {
    light_tensor *target; /* the macros take it first, without a name */
    light_reduction reduction;
    light_tensor *weight;   /* per class (cross_entropy, nll), pos_weight (bce); NULL: none */
    double label_smoothing; /* cross_entropy */
    int64_t ignore_index;   /* cross_entropy, nll; 0 means -100; to ignore class 0 give LIGHT_IGNORE_ZERO */
    double delta;           /* huber; 0 means 1 */
    bool log_target;        /* kl_div */
} light_loss_options;
#define LIGHT_IGNORE_ZERO INT64_MIN

/* Options follow as designators:  light_cross_entropy(s, logits, target, .label_smoothing = 0.1)
 * cross_entropy: logits [N, C] with target [N], or [N, C, d..] with [N, d..]; integer targets, their range is checked.
 * nll_loss: the same from log-probabilities. kl_div: input holds log-probabilities; LIGHT_MEAN divides by the number of
 * elements, as PyTorch's default does. The others: input and target of one (broadcast) shape. */
#define light_cross_entropy(s, logits, ...) light_loss_call_(light_cross_entropy_with, s, logits, __VA_ARGS__)
#define light_nll_loss(s, log_probs, ...)   light_loss_call_(light_nll_loss_with, s, log_probs, __VA_ARGS__)
#define light_mse_loss(s, input, ...)       light_loss_call_(light_mse_loss_with, s, input, __VA_ARGS__)
#define light_l1_loss(s, input, ...)        light_loss_call_(light_l1_loss_with, s, input, __VA_ARGS__)
#define light_huber_loss(s, input, ...)     light_loss_call_(light_huber_loss_with, s, input, __VA_ARGS__)
#define light_bce_with_logits(s, logits, ...)                                                                \
    light_loss_call_(light_bce_with_logits_with, s, logits, __VA_ARGS__)
#define light_kl_div(s, input, ...) light_loss_call_(light_kl_div_with, s, input, __VA_ARGS__)
#define light_loss_call_(function, s, input, ...)                                                            \
    function(s, input, &(light_loss_options){.target = __VA_ARGS__})
LIGHT_API light_tensor *light_cross_entropy_with(light_step *s, light_tensor *logits,
                                                 const light_loss_options *options);
LIGHT_API light_tensor *light_nll_loss_with(light_step *s, light_tensor *log_probs,
                                            const light_loss_options *options);
LIGHT_API light_tensor *light_mse_loss_with(light_step *s, light_tensor *input,
                                            const light_loss_options *options);
LIGHT_API light_tensor *light_l1_loss_with(light_step *s, light_tensor *input,
                                           const light_loss_options *options);
LIGHT_API light_tensor *light_huber_loss_with(light_step *s, light_tensor *input,
                                              const light_loss_options *options);
LIGHT_API light_tensor *light_bce_with_logits_with(light_step *s, light_tensor *logits,
                                                   const light_loss_options *options);
LIGHT_API light_tensor *light_kl_div_with(light_step *s, light_tensor *input,
                                          const light_loss_options *options);

/* Share of rows whose largest logit is at `target`, f32 scalar; no gradient. */
LIGHT_API light_tensor *light_accuracy(light_step *s, light_tensor *logits, light_tensor *target);

#endif
