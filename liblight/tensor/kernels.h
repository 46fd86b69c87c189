/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels of a backend: one list, one calling form.
 *
 * A kernel gets tensors and an attribute struct, all checked by the operation before: dtypes and shapes fit, outputs are
 * allocated. It computes, allocates nothing but through `scratch`, and fails only on what cannot be known before
 * (device errors, an index out of range). Strided tensors must be accepted wherever the list does not say "dense".
 * `accumulate` has bit i set when out[i] is to be added to instead of written.
 *
 * The list tells inputs > outputs; [x] may be NULL. A name means its attribute struct below, light_<name>_attrs. */
#ifndef LIGHT_TENSOR_KERNELS_H
#define LIGHT_TENSOR_KERNELS_H

#include "tensor/tensor.h"

/* clang-format off */
#define LIGHT_KERNEL_MAP(X)                                                                                              \
    /* memory */                                                                                                         \
    X(FILL)            /* > out                      fill: every element = value */                                      \
    X(COPY)            /* x > out                    same shape, any strides and dtypes, converts; may accumulate */     \
    X(ARANGE)          /* > out                      arange: out[i] = start + i step */                                  \
    X(RANDOM)          /* > out                      random; contiguous */                                               \
    /* elementwise */                                                                                                    \
    X(UNARY)           /* x > y                      unary; same dtype (bool for predicates) */                          \
    X(UNARY_BACKWARD)  /* gy, saved > gx             unary; saved is y or x as light_unary_saves_output says */          \
    X(BINARY)          /* a, b > y                   binary; a and b expanded to y's shape by zero strides */            \
    X(WHERE)           /* condition, a, b > y        expanded likewise */                                                \
    /* reductions */                                                                                                     \
    X(REDUCE)          /* x > y                      reduce; y has x's ndim with 1 in the reduced dims; a sum of 16-bit   \
                          numbers may be f32 */                                                                          \
    X(REDUCE_BACKWARD) /* gy, x, y > gx              reduce; gy, y have 1 in the reduced dims. max, min: gy where x is y \
                          (gy is shared among equals before); var: y is the mean; logsumexp */                           \
    X(ARG_REDUCE)      /* x > y(i64)                 arg_reduce; y has 1 in dim */                                       \
    X(TOPK)            /* x > values, indices(i64)   topk */                                                             \
    X(CUMSUM)          /* x > y                      cumsum (reverse: from the end, for the gradient) */                 \
    X(SOFTMAX)         /* x > y                      softmax: along dim; log: log_softmax */                             \
    X(SOFTMAX_BACKWARD) /* gy, y > gx                softmax */                                                          \
    /* products */                                                                                                       \
    X(MATMUL)          /* a, b, [bias] > y, [sums]   matmul: [batch.., m, k] [batch.., k, n]; strides say transposed; \
                          sums[m], contiguous: of the rows of a; then there is no batch and no bias */                   \
    X(CONV2D)          /* x, w, [bias] > y           conv2d: x, y channels-last, w contiguous OIHW */                    \
    X(CONV2D_BACKWARD_DATA)   /* gy, w > gx          conv2d; gx, gy channels-last */                                     \
    X(CONV2D_BACKWARD_WEIGHT) /* gy, x > gw, [gbias] conv2d; gw, gbias may be f32 where gy, x are 16-bit */              \
    /* pooling; fast where all tensors are channels-last */                                                              \
    X(MAX_POOL2D)      /* x > y, [index(i32)]        pool2d: index is h W + w of the maximum within its plane */         \
    X(MAX_POOL2D_BACKWARD) /* gy, index > gx         pool2d */                                                           \
    X(AVG_POOL2D)      /* x > y                      pool2d */                                                           \
    X(AVG_POOL2D_BACKWARD) /* gy > gx                pool2d */                                                           \
    /* normalisation; mean and rstd are f32 (f64 for f64). x, y and their gradients lie alike in memory, row-major or \
       channels-last; w and b are contiguous, f64 when x is, else f32 or 16-bit */                                      \
    X(BATCH_NORM)      /* x[N, C, ..], [w], [b], [rmean], [rvar] > y, mean[C], rstd[C]  batch_norm: running ones are    \
                          updated in training, used else */                                                             \
    X(BATCH_NORM_BACKWARD) /* gy, x, [w], mean, rstd > [gx], [gw], [gb]  batch_norm */                                   \
    X(LAYER_NORM)      /* x, [w], [b] > y, mean[rows], rstd[rows]    norm; all contiguous */                            \
    X(LAYER_NORM_BACKWARD) /* gy, x, [w], mean, rstd > [gx], [gw], [gb]  norm */                                         \
    X(RMS_NORM)        /* x, [w] > y, rstd[rows]                     norm */                                             \
    X(RMS_NORM_BACKWARD) /* gy, x, [w], rstd > [gx], [gw]            norm */                                             \
    X(GROUP_NORM)      /* x[N, C, ..], [w], [b] > y, mean[N, groups], rstd[N, groups]  group_norm */                    \
    X(GROUP_NORM_BACKWARD) /* gy, x, [w], mean, rstd > [gx], [gw], [gb]  group_norm */                                   \
    /* indexing; an index out of range is an error that names it */                                                      \
    X(EMBEDDING)       /* w, index > y               embedding; all contiguous */                                                        \
    X(EMBEDDING_BACKWARD) /* gy, index > gw          embedding; gw may be f32 where gy is 16-bit */                      \
    X(GATHER)          /* x, index > y               gather */                                                           \
    X(SCATTER_ADD)     /* src, index > out           gather: out[.. index ..] += src (out is ready) */                   \
    X(INDEX_SELECT)    /* x, index > y               gather */                                                           \
    X(INDEX_ADD)       /* src, index > out           gather: out[.. index ..] += src (out is ready) */                   \
    X(ONE_HOT)         /* index > y(i64)             one_hot */                                                          \
    /* dropout, attention */                                                                                             \
    X(DROPOUT)         /* x > y                      dropout; its own backward with gy > gx; same dense layout */        \
    X(SDPA)            /* q, k, v, [mask] > y, lse   sdpa: q [B, H, T, d], k v [B, KH, S, d], lse f32 [B, H, T]; any strides,  \
                          but the elements of a row (d) are neighbours */                                               \
    X(SDPA_BACKWARD)   /* gy, q, k, v, [mask], y, lse > [gq], [gk], [gv], [gmask]  sdpa; gmask: any floating dtype, 4-d, \
                          1 in the dims that the mask was broadcast over, which are summed in a fixed order; rows as above */ \
    X(ROPE)            /* x > y                      rope; inverse for the gradient; rows as above */                          \
    /* losses */                                                                                                         \
    /* loss and g: a scalar, or one element a row (LIGHT_NONE). total and lse are f32, f64 for f64 */                    \
    X(CROSS_ENTROPY)   /* logits[rows, C], target[rows], [weight] > loss, lse[rows], total  cross_entropy: total is what \
                          a mean divides by; rows apart by strides[0], dense within; targets i64, i32, u8, contiguous */ \
    X(CROSS_ENTROPY_BACKWARD) /* g, logits, target, [weight], lse, total > glogits  cross_entropy; may be in place */    \
    X(NLL)             /* log_probs[rows, C], target, [weight] > loss, total        cross_entropy */                     \
    X(NLL_BACKWARD)    /* g, target, [weight], total > gx[rows, C]                  cross_entropy */                     \
    X(LOSS)            /* x, target, [weight] > y    loss: y is a scalar, or has x's shape for LIGHT_NONE; all inputs    \
                          have one shape (zero strides where expanded) and dtype */                                      \
    X(LOSS_BACKWARD)   /* g, x, target, [weight] > [gx], [gtarget], [gweight]   loss */                                  \
    X(ACCURACY)        /* logits[rows, C], target[rows] > out (f32 scalar) */                                            \
    /* flat buffers: gradients and optimizers; contiguous, one segment a call in `flat` */                               \
    X(SUM_SQUARES)     /* x > out (f64 or f32 scalar) adds the sum of squares when accumulating */                       \
    X(EXACT_SQUARES)   /* x > out (i64[LIGHT_EXACT_SIZE], base/exact.h) adds when accumulating; groups of 64 bytes from x's \
                          first are summed in f64, pairwise, and the groups exactly: x may be cut between groups */      \
    X(EXACT_VALUE)     /* x (i64[LIGHT_EXACT_SIZE]) > out (f64 scalar) */                                                \
    X(SCALE)           /* x, factor(f32 scalar) > x  in place */                                                         \
    X(CLAMP_FLAT)      /* x > x                      fill: value is the bound, to [-value, value] */                     \
    X(ALL_FINITE)      /* x > out (f32 scalar)       1 when every element is finite, else 0; accumulate: and */          \
    X(LOSS_SCALE)      /* state(f32[4]) > state      loss_scale: see there; in place */                                  \
    X(OPTIMIZER)       /* optimizer: see there */                                                                        \
    /* between processes */                                                                                              \
    X(COMBINE)         /* x[leaves, n], [own[n]] > y[n]  combine: contiguous, one dtype; own stands for a row of x */

typedef enum light_kernel_id {
#define X(name) LIGHT_KERNEL_##name,
    LIGHT_KERNEL_MAP(X)
#undef X
    LIGHT_KERNEL_COUNT
} light_kernel_id;

#define LIGHT_KERNEL_MAX_IN 8
#define LIGHT_KERNEL_MAX_OUT 6

typedef struct light_kernel_args {
    light_device *device;
    const light_tensor *in[LIGHT_KERNEL_MAX_IN];
    light_tensor       *out[LIGHT_KERNEL_MAX_OUT];
    uint32_t            accumulate;
    const void         *attrs;
    const uint64_t     *rng; /* {key, counter} for RANDOM, DROPOUT and SDPA: see light_random_attrs */
} light_kernel_args;

/* rng[1] is the step's counter times this, and which random call of the step it is. */
#define LIGHT_RNG_CALLS ((uint64_t)1 << 24)

typedef light_status (*light_kernel)(const light_kernel_args *args);

/* ---- attributes --------------------------------------------------------- */

typedef struct { double value; } light_fill_attrs;
typedef struct { double start, step; } light_arange_attrs;

/* Element i of a random tensor is made from Philox4x32-10 with key = rng[0] and the 128-bit counter
 * {i / 4 (64 bits), rng[1]}, lane i % 4: the same on every backend and for any number of threads. Uniform numbers take
 * the highest 32 bits for f64, 24 for f32, 11 for f16, 8 for bf16, so that none is rounded up to 1. Normal numbers come
 * in pairs (i, i + 1), i even, as light_normal in base/philox.h makes them from their two lanes (within rounding; f64 with
 * 32 bits each). Whole numbers are low + (bits range >> 32); ranges from 2^32 on take lanes 0 and 1 of counter i. */
typedef enum light_random_kind { LIGHT_RANDOM_UNIFORM, LIGHT_RANDOM_NORMAL, LIGHT_RANDOM_INTEGER } light_random_kind;
typedef struct { int kind; double a, b; } light_random_attrs; /* bounds; mean and std; low and high (not included) */

/* name, saves its output for backward (else its input, or nothing), has a gradient, takes integers */
#define LIGHT_UNARY_MAP(X)                                                                                   \
    X(NEG, "neg", 2, 1, 1)                                                                                   \
    X(ABS, "abs", 0, 1, 1)                                                                                   \
    X(EXP, "exp", 1, 1, 0)                                                                                   \
    X(LOG, "log", 0, 1, 0)                                                                                   \
    X(SQRT, "sqrt", 1, 1, 0)                                                                                 \
    X(RSQRT, "rsqrt", 1, 1, 0)                                                                               \
    X(RECIPROCAL, "reciprocal", 1, 1, 0)                                                                     \
    X(SQUARE, "square", 0, 1, 1)                                                                             \
    X(SIN, "sin", 0, 1, 0)                                                                                   \
    X(COS, "cos", 0, 1, 0)                                                                                   \
    X(TANH, "tanh", 1, 1, 0)                                                                                 \
    X(SIGMOID, "sigmoid", 1, 1, 0)                                                                           \
    X(RELU, "relu", 1, 1, 1)                                                                                 \
    X(LEAKY_RELU, "leaky_relu", 0, 1, 0)                                                                     \
    X(ELU, "elu", 0, 1, 0)                                                                                   \
    X(GELU, "gelu", 0, 1, 0)                                                                                 \
    X(GELU_TANH, "gelu_tanh", 0, 1, 0)                                                                       \
    X(SILU, "silu", 0, 1, 0)                                                                                 \
    X(SOFTPLUS, "softplus", 0, 1, 0)                                                                         \
    X(CLAMP, "clamp", 0, 1, 1)                                                                               \
    X(ADD_SCALAR, "add_scalar", 2, 1, 1)                                                                     \
    X(MUL_SCALAR, "mul_scalar", 2, 1, 1)                                                                     \
    X(POW_SCALAR, "pow_scalar", 0, 1, 0)                                                                     \
    X(LOGICAL_NOT, "logical_not", 2, 0, 1)                                                                   \
    X(ISFINITE, "isfinite", 2, 0, 1)
typedef enum light_unary {
#define X(code, name, saves, gradient, integers) LIGHT_UNARY_##code,
    LIGHT_UNARY_MAP(X)
#undef X
    LIGHT_UNARY_COUNT
} light_unary;
/* a, b: slope; alpha; low and high; the scalar; the exponent */
typedef struct { int code; double a, b; } light_unary_attrs;

#define LIGHT_BINARY_MAP(X)                                                                                  \
    X(ADD, "add") X(SUB, "sub") X(MUL, "mul") X(DIV, "div") X(POW, "pow") X(MAXIMUM, "maximum")              \
    X(MINIMUM, "minimum") X(EQ, "eq") X(NE, "ne") X(LT, "lt") X(LE, "le") X(GT, "gt") X(GE, "ge")            \
    X(AND, "logical_and") X(OR, "logical_or")                                                                \
    /* the gradients' own: a b^(e-1)-like products that would else be three passes */                        \
    X(DIV_GRAD_B, "div_grad_b") /* a = y, b: -a / b */                                                       \
    X(POW_GRAD_A, "pow_grad_a") X(POW_GRAD_B, "pow_grad_b") /* b a^(b-1), 0 where b = 0; a^b ln a, 0 where a = 0 <= b */ \
    X(MASK_GE, "mask_ge") X(MASK_GT, "mask_gt") X(MASK_EQ_HALF, "mask_eq_half") /* f32: a >= b, a > b, (a == b) / 2 */
typedef enum light_binary {
#define X(code, name) LIGHT_BINARY_##code,
    LIGHT_BINARY_MAP(X)
#undef X
    LIGHT_BINARY_COUNT
} light_binary;
/* a and b have one dtype; y has it too, or bool (comparisons, and, or). */
typedef struct { int code; } light_binary_attrs;

typedef enum light_reduce {
    LIGHT_REDUCE_SUM, LIGHT_REDUCE_MEAN, LIGHT_REDUCE_MAX, LIGHT_REDUCE_MIN, LIGHT_REDUCE_VAR, LIGHT_REDUCE_LOGSUMEXP
} light_reduce;
typedef struct { int code; uint32_t dims; /* bit mask */ double correction; } light_reduce_attrs;
typedef struct { int dim; bool min; } light_arg_reduce_attrs;
typedef struct { int64_t k; int dim; } light_topk_attrs;
typedef struct { int dim; bool reverse; } light_cumsum_attrs;
typedef struct { int dim; bool log; } light_softmax_attrs;

/* y = alpha a b + bias, or y += alpha a b when accumulating. All [batch.., m, k] with equal batch dims (stride 0
 * where broadcast). bias [n], dense. y's dtype may be f32 while a and b are 16-bit. Sums are in f32 (f64 for f64). */
typedef struct { double alpha; } light_matmul_attrs;
typedef struct { int64_t stride[2], padding[2], dilation[2], groups; } light_conv2d_attrs;
typedef struct { int64_t kernel[2], stride[2], padding[2], dilation[2]; bool exclude_padding;
                 bool adaptive; /* windows [floor(i H / oH), ceil((i + 1) H / oH)) instead */ } light_pool2d_attrs;
typedef struct { bool training; double momentum, eps; } light_batch_norm_attrs;
typedef struct { int64_t n; double eps; } light_norm_attrs; /* n: length of a row */
typedef struct { int64_t groups; double eps; } light_group_norm_attrs;
typedef struct { int64_t padding_idx; } light_embedding_attrs;
typedef struct { int dim; } light_gather_attrs;
typedef struct { int64_t classes; } light_one_hot_attrs;
typedef struct { double p; } light_dropout_attrs; /* element i is kept when its uniform number >= p; order of memory */
/* dropout: weight (b, h, t, s) has random element ((b H + h) T + t) S + s */
typedef struct { double scale, dropout_p; bool causal; /* query t sees keys up to t + S - T */ } light_sdpa_attrs;
typedef struct { int64_t offset; double base; bool interleaved, inverse; } light_rope_attrs;
typedef struct { int reduction; /* light_reduction */ double label_smoothing; int64_t ignore_index; } light_cross_entropy_attrs;
typedef enum light_loss_kind {
    LIGHT_LOSS_MSE, LIGHT_LOSS_L1, LIGHT_LOSS_HUBER, LIGHT_LOSS_BCE_WITH_LOGITS, LIGHT_LOSS_KL_DIV
} light_loss_kind;
typedef struct { int kind, reduction; double delta; bool log_target; } light_loss_attrs;

/* The state of dynamic loss scaling: four f32 numbers, which no host reads inside a step. */
enum {
    LIGHT_LOSS_SCALE_SCALE,   /* losses are multiplied by it */
    LIGHT_LOSS_SCALE_TRACKER, /* finite steps since the scale last changed */
    LIGHT_LOSS_SCALE_FOUND,   /* not 0: the gradients of this step are not finite */
    LIGHT_LOSS_SCALE_SKIPPED, /* optimizer steps that were not done for that */
    LIGHT_LOSS_SCALE_SIZE
};
/* After a step. When found: scale *= backoff_factor, tracker = 0, skipped += 1. Else tracker += 1, and at
 * growth_interval scale *= growth_factor, unless that is beyond f32, and tracker = 0. Found is 0 afterwards. As PyTorch's
 * GradScaler.update. */
typedef struct { double growth_factor, backoff_factor; int64_t growth_interval; } light_loss_scale_attrs;

/* One fused pass: reads gradient, parameter and state, writes parameter and state. Tensors are 1-d and contiguous:
 * in[0] gradient, of any floating dtype, in[1] f32 scalar factor for it (clipping, 1 / loss scale) or NULL, in[2] state
 * of loss scaling or NULL, out[0] parameter (master), out[1..3] state of its dtype; sgd: [momentum_buffer]; adam, adamw:
 * exp_avg, exp_avg_sq, [max_exp_avg_sq]; rmsprop: square_avg, [momentum_buffer], [grad_avg]; adagrad: sum; lion: exp_avg.
 * out[4] a 16-bit copy of the parameter or NULL: the new value, rounded. Formulas stand in optim/kinds.c; with in[2], t is
 * step - skipped, and where found is not 0 the kernel leaves everything as it is. */
typedef enum light_optimizer_kind {
    LIGHT_OPTIMIZER_SGD, LIGHT_OPTIMIZER_ADAM, LIGHT_OPTIMIZER_ADAMW, LIGHT_OPTIMIZER_RMSPROP, LIGHT_OPTIMIZER_ADAGRAD,
    LIGHT_OPTIMIZER_LION
} light_optimizer_kind;
typedef struct {
    int     kind;
    int64_t step; /* t in the formulas, 1 for the first */
    double  lr, weight_decay, momentum, dampening, beta1, beta2, eps, alpha, lr_decay;
    bool    nesterov, amsgrad, centered, maximize;
} light_optimizer_attrs;

/* Combines the rows of x, those of a sum as a binary tree: the largest power of two of them that leaves some, and the
 * rest, each in the same way. Row `own` (-1: none) is not in x but in[1], which y may be. 16-bit floats are summed in f32
 * and rounded once. What is not a number wins over every minimum and maximum. */
typedef enum light_combine { LIGHT_COMBINE_SUM, LIGHT_COMBINE_MIN, LIGHT_COMBINE_MAX } light_combine;
typedef struct { int combine; int64_t own; } light_combine_attrs;

/* clang-format on */

#endif
