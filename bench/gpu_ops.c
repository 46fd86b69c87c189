/* SPDX-License-Identifier: Apache-2.0 */
/* Operations on a GPU, one at a time; a name ending in _grad is forward and backward.
 *
 * kernels    bound by memory: on tensors of 256 MiB in f32 and bf16; `bytes` are those that have to be moved when every
 *            tensor is read or written once
 * norms      the same for batch norm, which cuDNN may do
 * products   bf16: 8192^3, and those of GPT-2 124M with 32 rows of 1024 tokens
 * attention  bf16, 8 x 16 heads x 4096 tokens; backward counts 2.5 times forward, causal half */
#include "common/gpu.h"

#include <stdio.h>
#include <string.h>

enum { WIDTH = 1024, TOKENS = 50304, PARAMETERS = 124475904 };

typedef struct op_case op_case;
typedef struct op_bench {
    const bench_gpu *gpu;
    const op_case *kind;
    light_dtype dtype;
    light_step *step;
    light_tensor *in[3];
    light_tensor *grad; /* of the result, for backward */
    light_module *model;
    light_optimizer *optimizer;
    bench_work work;
} op_bench;

struct op_case {
    const char *name, *group;
    light_status (*prepare)(op_bench *b);
    light_tensor *(*forward)(light_step *s, light_tensor **in);
    light_status (*step)(void *user);
    double passes;   /* over in[0], or over the rows that an embedding gives */
    int64_t m, n, k; /* products: [m, k] by [n, k]; attention: k is the head size */
};

static light_status forward_step(void *user);
static light_status backward_step(void *user);
static light_status adamw_step(void *user);
static light_status clip_step(void *user);

/* ---- what the cases compute --------------------------------------------- */

static light_tensor *copy(light_step *s, light_tensor **in)
{
    return light_cat(s, in, 1, 0);
}

static light_tensor *add(light_step *s, light_tensor **in)
{
    return light_add(s, in[0], in[1]);
}

static light_tensor *gelu(light_step *s, light_tensor **in)
{
    return light_gelu_tanh(s, in[0]);
}

static light_tensor *layer_norm(light_step *s, light_tensor **in)
{
    return light_layer_norm_op(s, in[0], 1, in[1], in[2], 1e-5);
}

static light_tensor *batch_norm(light_step *s, light_tensor **in)
{
    return light_batch_norm_op(s, in[0], in[1], in[2], NULL, NULL, true, 0.1, 1e-5);
}

static light_tensor *rms_norm(light_step *s, light_tensor **in)
{
    return light_rms_norm_op(s, in[0], 1, in[1], 1e-5);
}

static light_tensor *softmax(light_step *s, light_tensor **in)
{
    return light_softmax(s, in[0], -1);
}

static light_tensor *dropout(light_step *s, light_tensor **in)
{
    return light_dropout(s, in[0], 0.1);
}

static light_tensor *rope(light_step *s, light_tensor **in)
{
    return light_rope(s, in[0], 0, 10000, false);
}

static light_tensor *sum_rows(light_step *s, light_tensor **in)
{
    return light_sum(s, in[0], LIGHT_DIMS(1), false);
}

static light_tensor *sum_columns(light_step *s, light_tensor **in)
{
    return light_sum(s, in[0], LIGHT_DIMS(0), false);
}

static light_tensor *cross_entropy(light_step *s, light_tensor **in)
{
    return light_cross_entropy(s, in[0], in[1]);
}

static light_tensor *embedding(light_step *s, light_tensor **in)
{
    return light_embedding_op(s, in[0], in[1], -1);
}

static light_tensor *product(light_step *s, light_tensor **in)
{
    return light_linear_op(s, in[0], in[1], NULL);
}

static light_tensor *attention(light_step *s, light_tensor **in)
{
    return light_scaled_dot_product_attention(s, in[0], in[1], in[2], NULL,
                                              (light_sdpa_params){.causal = false});
}

static light_tensor *causal(light_step *s, light_tensor **in)
{
    return light_scaled_dot_product_attention(s, in[0], in[1], in[2], NULL,
                                              (light_sdpa_params){.causal = true});
}

/* ---- what they compute it on -------------------------------------------- */

static int64_t rows_of(const op_bench *b)
{
    return bench_gpu_size(b->gpu, ((int64_t)256 << 20) / (WIDTH * (int64_t)light_dtype_size(b->dtype)), 8);
}

static light_status inputs(op_bench *b, light_shape x, light_shape y, light_shape z)
{
    const light_shape shapes[] = {x, y, z};
    for (int i = 0; i < 3; i++)
        if (shapes[i].ndim) LIGHT_TRY(bench_gpu_randn(&b->in[i], shapes[i], b->dtype));
    b->work.bytes = b->kind->passes * (double)light_numel(b->in[0]) * (double)light_dtype_size(b->dtype);
    return LIGHT_OK;
}

static light_status one(op_bench *b)
{
    return inputs(b, LIGHT_SHAPE(rows_of(b), WIDTH), LIGHT_SCALAR, LIGHT_SCALAR);
}

static light_status two(op_bench *b)
{
    return inputs(b, LIGHT_SHAPE(rows_of(b), WIDTH), LIGHT_SHAPE(rows_of(b), WIDTH), LIGHT_SCALAR);
}

static light_status norm(op_bench *b)
{
    return inputs(b, LIGHT_SHAPE(rows_of(b), WIDTH), LIGHT_SHAPE(WIDTH), LIGHT_SHAPE(WIDTH));
}

static light_status heads(op_bench *b)
{
    return inputs(b, LIGHT_SHAPE(rows_of(b) * WIDTH / (64 * 64), 64, 64), LIGHT_SCALAR, LIGHT_SCALAR);
}

static light_status logits(op_bench *b)
{
    int64_t rows = bench_gpu_size(b->gpu, 8192, 4), classes = bench_gpu_size(b->gpu, TOKENS, 50);
    LIGHT_TRY(inputs(b, LIGHT_SHAPE(rows, classes), LIGHT_SCALAR, LIGHT_SCALAR));
    return bench_gpu_randint(&b->in[1], LIGHT_SHAPE(rows), classes);
}

static light_status table(op_bench *b)
{
    int64_t tokens = bench_gpu_size(b->gpu, TOKENS, 50);
    double size = (double)light_dtype_size(b->dtype);
    LIGHT_TRY(inputs(b, LIGHT_SHAPE(tokens, WIDTH), LIGHT_SCALAR, LIGHT_SCALAR));
    b->work.bytes = b->kind->passes * (double)rows_of(b) * WIDTH * size;
    if (b->kind->step == backward_step)
        b->work.bytes += (double)tokens * WIDTH * size; /* the weight's gradient */
    return bench_gpu_randint(&b->in[1], LIGHT_SHAPE(rows_of(b)), tokens);
}

static light_status factors(op_bench *b)
{
    const op_case *c = b->kind;
    int64_t m = bench_gpu_size(b->gpu, c->m, 32), n = bench_gpu_size(b->gpu, c->n, 48),
            k = bench_gpu_size(b->gpu, c->k, 16);
    LIGHT_TRY(inputs(b, LIGHT_SHAPE(m, k), LIGHT_SHAPE(n, k), LIGHT_SCALAR));
    b->work = (bench_work){.flops = 2.0 * (double)m * (double)n * (double)k};
    return LIGHT_OK;
}

static light_status queries(op_bench *b)
{
    const op_case *c = b->kind;
    int64_t batch = bench_gpu_size(b->gpu, 8, 1), count = bench_gpu_size(b->gpu, 16, 2),
            tokens = bench_gpu_size(b->gpu, 4096, 32);
    light_shape shape = LIGHT_SHAPE(batch, count, tokens, c->k);
    LIGHT_TRY(inputs(b, shape, shape, shape));
    double forward = 4.0 * (double)(batch * count * c->k) * (double)tokens * (double)tokens;
    b->work = (bench_work){.flops = forward * (c->step == backward_step ? 3.5 : 1) *
                                    (c->forward == causal ? 0.5 : 1)};
    return LIGHT_OK;
}

/* ---- steps -------------------------------------------------------------- */

static light_status forward_step(void *user)
{
    op_bench *b = user;
    LIGHT_TRY(light_step_begin(b->step));
    b->kind->forward(b->step, b->in);
    return light_step_status(b->step);
}

static light_status backward_step(void *user)
{
    op_bench *b = user;
    LIGHT_TRY(light_step_begin(b->step));
    light_tensor *y = b->kind->forward(b->step, b->in);
    LIGHT_TRY(light_step_status(b->step));
    LIGHT_TRY(b->grad ? light_backward_from(b->step, y, b->grad) : light_backward(b->step, y));
    for (int i = 0; i < 3; i++)
        if (b->in[i]) light_grad_zero(b->in[i]);
    return LIGHT_OK;
}

/* Asks for gradients, and makes the result's own unless it is a loss. */
static light_status prepare_backward(op_bench *b)
{
    for (int i = 0; i < 3; i++)
        if (b->in[i] && light_dtype_is_floating(light_dtype_of(b->in[i])))
            light_set_requires_grad(b->in[i], true);
    LIGHT_TRY(light_step_begin(b->step));
    light_tensor *y = b->kind->forward(b->step, b->in);
    LIGHT_TRY(light_step_status(b->step));
    return light_ndim(y) ? bench_gpu_randn(&b->grad, light_shape_of(y), b->dtype) : LIGHT_OK;
}

/* ---- AdamW and clipping, on as many parameters as GPT-2 124M has ---------- */

typedef struct {
    light_module base;
    light_tensor *weight;
    int64_t count; /* set before it is built */
} flat;

static light_status flat_init(light_module *self)
{
    flat *m = (flat *)self;
    return light_add_parameter(self, &m->weight, "weight", LIGHT_SHAPE(m->count), LIGHT_INIT_ONES);
}

static const light_module_vtable flat_vtable = {LIGHT_MODULE(flat), .init = flat_init};

static light_status parameters(op_bench *b)
{
    flat *m = (flat *)light_module_new(&flat_vtable);
    if (!m) return LIGHT_ERR_MEMORY;
    b->model = &m->base;
    m->count = bench_gpu_size(b->gpu, PARAMETERS, 1000);
    LIGHT_TRY(light_module_build(b->model, 1));
    b->optimizer = light_adamw(light_parameters(b->model), .lr = 3e-4);
    if (!b->optimizer) return LIGHT_ERR_MEMORY;
    b->work.bytes = b->kind->passes * (double)m->count * 4;
    LIGHT_TRY(light_step_begin(b->step));
    return light_backward(b->step, light_sum(b->step, m->weight, LIGHT_ALL, false));
}

static light_status adamw_step(void *user)
{
    return light_optimizer_step_now(((op_bench *)user)->optimizer, NULL);
}

static light_status clip_step(void *user)
{
    op_bench *b = user;
    LIGHT_TRY(light_step_begin(b->step));
    light_clip_grad_norm(b->step, light_parameters(b->model), 1);
    return light_step_status(b->step);
}

/* ---- the cases ---------------------------------------------------------- */

#define KERNEL(name, prepare, passes)                                                                        \
    {                                                                                                        \
#name, "kernels", prepare, name, forward_step, passes, 0, 0, 0                                       \
    }
#define KERNEL_GRAD(name, prepare, passes)                                                                   \
    {                                                                                                        \
#name "_grad", "kernels", prepare, name, backward_step, passes, 0, 0, 0                              \
    }
#define PRODUCT(name, m, n, k)                                                                               \
    {                                                                                                        \
        "product_" name, "products", factors, product, forward_step, 0, m, n, k                              \
    }
#define ATTENTION(suffix, function, step, d)                                                                 \
    {                                                                                                        \
        "attention_d" #d suffix, "attention", queries, function, step, 0, 0, 0, d                            \
    }

static const op_case cases[] = {
    KERNEL(copy, one, 2), /* the first: its speed is the measure of the others */
    KERNEL(add, two, 3),
    KERNEL(gelu, one, 2),
    KERNEL_GRAD(gelu, one, 5),
    KERNEL(layer_norm, norm, 2),
    KERNEL_GRAD(layer_norm, norm, 5),
    KERNEL(rms_norm, norm, 2),
    KERNEL(softmax, one, 2),
    KERNEL(dropout, one, 2),
    KERNEL(rope, heads, 2),
    KERNEL(sum_rows, one, 1),
    KERNEL(sum_columns, one, 1),
    KERNEL_GRAD(cross_entropy, logits, 3),
    KERNEL(embedding, table, 2),
    KERNEL_GRAD(embedding, table, 3),
    {"batch_norm", "norms", norm, batch_norm, forward_step, 2, 0, 0, 0},
    {"batch_norm_grad", "norms", norm, batch_norm, backward_step, 5, 0, 0, 0},
    {"adamw", "kernels", parameters, NULL, adamw_step, 7, 0, 0, 0},
    {"clip_grad_norm", "kernels", parameters, NULL, clip_step, 3, 0, 0, 0},
    PRODUCT("8192", 8192, 8192, 8192),
    PRODUCT("qkv", 32768, 2304, 768),
    PRODUCT("proj", 32768, 768, 768),
    PRODUCT("fc", 32768, 3072, 768),
    PRODUCT("fcproj", 32768, 768, 3072),
    PRODUCT("head", 32768, TOKENS, 768),
    ATTENTION("", attention, forward_step, 64),
    ATTENTION("_causal", causal, forward_step, 64),
    ATTENTION("_grad", attention, backward_step, 64),
    ATTENTION("_causal_grad", causal, backward_step, 64),
    ATTENTION("", attention, forward_step, 128),
    ATTENTION("_causal", causal, forward_step, 128),
    ATTENTION("_grad", attention, backward_step, 128),
    ATTENTION("_causal_grad", causal, backward_step, 128),
};
enum { CASES = sizeof(cases) / sizeof(*cases) };

static light_status measure(op_bench *b, const char *name, const bench_run *run)
{
    LIGHT_TRY(light_step_new(&b->step, .seed = 1));
    LIGHT_TRY(b->kind->prepare(b));
    if (b->kind->step == backward_step) LIGHT_TRY(prepare_backward(b));
    return bench_gpu_steps(b->gpu, name, run, b->kind->step, b, &b->work);
}

/* Whether it worked. One case that fails does not keep the others from running. */
static bool run_case(const bench_gpu *gpu, const bench_run *run, const op_case *kind, light_dtype dtype)
{
    char name[64];
    snprintf(name, sizeof(name), "%s_%s", kind->name, light_dtype_name(dtype));
    op_bench b = {.gpu = gpu, .kind = kind, .dtype = dtype};
    light_status status = measure(&b, name, run);
    if (status != LIGHT_OK) bench_exit(light_fail_in(status, "%s", name));
    for (int i = 0; i < 3; i++) light_tensor_free(b.in[i]);
    light_tensor_free(b.grad);
    light_optimizer_free(b.optimizer);
    light_module_free(b.model);
    light_step_free(b.step);
    return status == LIGHT_OK;
}

static bool run_group(const bench_gpu *gpu, const bench_run *run)
{
    bool both = !strcmp(run->name, "kernels") || !strcmp(run->name, "norms"), fine = true;
    for (int i = 0; i < CASES; i++) {
        if (strcmp(run->name, cases[i].group)) continue;
        if (both) fine &= run_case(gpu, run, &cases[i], LIGHT_F32);
        if (cases[i].prepare != parameters) fine &= run_case(gpu, run, &cases[i], LIGHT_BF16);
    }
    return fine;
}

int main(int argc, char **argv)
{
    const char *const groups[] = {"kernels", "norms", "products", "attention", NULL};
    bench_gpu gpu;
    light_status status = bench_gpu_open(&gpu, &argc, argv);
    if (status != LIGHT_OK) return bench_exit(status);
    bench_run run = bench_arguments(argc, argv, groups);
    bench_defaults(&run, gpu.smoke ? 1 : 10, gpu.smoke ? 1 : 20);
    return run_group(&gpu, &run) ? 0 : 1;
}
