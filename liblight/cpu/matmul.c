/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel MATMUL: reads strides as transposes and batches, and leaves the arithmetic to once/gemm.c. */
#include "cpu/isa.h"
#include "cpu/once/backend.h"
#include "cpu/once/gemm.h"
#include "cpu/once/scratch.h"

/* The last two dims of a tensor as a row-major matrix, or as the transpose of one. */
typedef struct matrix {
    bool fits, transposed;
    int64_t ld;
} matrix;

static matrix read_matrix(const light_tensor *t)
{
    int64_t rows = t->shape[t->ndim - 2], cols = t->shape[t->ndim - 1];
    int64_t row_step = t->strides[t->ndim - 2], col_step = t->strides[t->ndim - 1];
    if (col_step == 1 || cols <= 1) return (matrix){true, false, row_step};
    if (row_step == 1 || rows <= 1) return (matrix){true, true, col_step};
    return (matrix){0};
}

/* A row-major tensor of t's shape, without memory yet; returns how much it takes. */
static size_t plan_copy(light_tensor *copy, const light_tensor *t)
{
    light_shape shape = {.ndim = t->ndim};
    for (int d = 0; d < t->ndim; d++) shape.dims[d] = t->shape[d];
    *copy = (light_tensor){.dtype = t->dtype};
    light_tensor_set_shape(copy, shape);
    return ((size_t)copy->numel * light_dtype_size((light_dtype)t->dtype) + 63) / 64 * 64;
}

static light_status copy(const light_kernel_args *args, const light_tensor *from, light_tensor *to,
                         bool accumulate)
{
    light_kernel_args call = {.device = args->device, .in = {from}, .out = {to}, .accumulate = accumulate};
    return light_cpu_backend.kernels[LIGHT_KERNEL_COPY](&call);
}

/* Batch dims, merged where all three tensors step evenly. The last is the product's own. */
typedef struct batch {
    int ndim;
    int64_t size[LIGHT_MAX_DIMS], step[LIGHT_MAX_DIMS][3];
} batch;

static batch read_batch(const light_tensor *const t[3])
{
    batch b = {0};
    for (int d = 0; d < t[2]->ndim - 2; d++) {
        if (t[2]->shape[d] == 1) continue;
        bool even = b.ndim > 0;
        for (int i = 0; i < 3 && even; i++) even = b.step[b.ndim - 1][i] == t[i]->strides[d] * t[i]->shape[d];
        if (!even) b.size[b.ndim++] = 1;
        b.size[b.ndim - 1] *= t[2]->shape[d];
        for (int i = 0; i < 3; i++) b.step[b.ndim - 1][i] = t[i]->strides[d];
    }
    return b;
}

static light_status run_batches(light_gemm_args *g, const batch *b)
{
    int64_t at[LIGHT_MAX_DIMS] = {0}, outer = 1;
    const int last = b->ndim - 1;
    if (b->ndim > 0) {
        g->batch = b->size[last];
        g->stride_a = b->step[last][0], g->stride_b = b->step[last][1], g->stride_c = b->step[last][2];
        if (g->batch == 0) return LIGHT_OK;
    }
    for (int d = 0; d < last; d++) outer *= b->size[d];
    const char *a = g->a, *p = g->b;
    char *c = g->c;
    const int64_t in = (int64_t)light_dtype_size(g->dtype), out = (int64_t)light_dtype_size(g->out_dtype);
    for (int64_t i = 0; i < outer; i++) {
        int64_t offset[3] = {0};
        for (int d = 0; d < last; d++)
            for (int k = 0; k < 3; k++) offset[k] += at[d] * b->step[d][k];
        g->a = a + offset[0] * in, g->b = p + offset[1] * in, g->c = c + offset[2] * out;
        LIGHT_TRY(light_cpu_gemm(g));
        for (int d = last - 1; d >= 0 && ++at[d] == b->size[d]; d--) at[d] = 0;
    }
    return LIGHT_OK;
}

/* y' = b' a' instead of y = a b, for a y whose columns lie contiguous. */
static void transpose_product(light_gemm_args *g, batch *b)
{
    light_gemm_args t = *g;
    t.m = g->n, t.n = g->m;
    t.a = g->b, t.lda = g->ldb, t.trans_a = !g->trans_b;
    t.b = g->a, t.ldb = g->lda, t.trans_b = !g->trans_a;
    *g = t;
    for (int d = 0; d < b->ndim; d++) {
        int64_t step = b->step[d][0];
        b->step[d][0] = b->step[d][1];
        b->step[d][1] = step;
    }
}

/* The sums of a's rows, if they are asked for: those of the columns of a^T. */
static light_status sum_rows(const light_kernel_args *args)
{
    const light_reduce_attrs attrs = {.code = LIGHT_REDUCE_SUM, .dims = 1};
    if (!args->out[1]) return LIGHT_OK;
    light_tensor a = *args->in[0], sums = *args->out[1];
    for (int d = 0; d < 2; d++) {
        a.shape[d] = args->in[0]->shape[1 - d];
        a.strides[d] = args->in[0]->strides[1 - d];
    }
    light_tensor_refresh(&a);
    light_tensor_set_shape(&sums, LIGHT_SHAPE(1, a.shape[1]));
    light_kernel_args call = {.device = args->device,
                              .in = {&a},
                              .out = {&sums},
                              .attrs = &attrs,
                              .accumulate = args->accumulate >> 1 & 1};
    return light_cpu_backend.kernels[LIGHT_KERNEL_REDUCE](&call);
}

static light_status matmul(const light_kernel_args *args)
{
    const light_tensor *t[3] = {args->in[0], args->in[1], args->out[0]}, *bias = args->in[2];
    const double alpha = args->attrs ? ((const light_matmul_attrs *)args->attrs)->alpha : 1;
    bool accumulate = args->accumulate & 1;
    light_tensor copies[3];
    size_t bytes = 0, offsets[3];
    bool copied[3];
    for (int i = 0; i < 3; i++) {
        matrix m = read_matrix(t[i]);
        copied[i] = !m.fits || (i == 2 && m.transposed && bias);
        offsets[i] = bytes;
        if (copied[i]) bytes += plan_copy(&copies[i], t[i]);
    }
    char *work = bytes ? light_cpu_scratch(LIGHT_SCRATCH_CONVERT, bytes) : NULL;
    if (bytes && !work) return LIGHT_ERR_MEMORY;
    for (int i = 0; i < 3; i++) {
        if (!copied[i]) continue;
        copies[i].data = work + offsets[i];
        if (i < 2) LIGHT_TRY(copy(args, t[i], &copies[i], false));
        t[i] = &copies[i];
    }
    if (copied[2]) accumulate = false;

    const int nd = t[2]->ndim;
    const matrix a = read_matrix(t[0]), b = read_matrix(t[1]), y = read_matrix(t[2]);
    light_gemm_args g = {
        .dtype = (light_dtype)t[0]->dtype,
        .out_dtype = (light_dtype)t[2]->dtype,
        .trans_a = a.transposed,
        .trans_b = b.transposed,
        .m = t[2]->shape[nd - 2],
        .n = t[2]->shape[nd - 1],
        .k = alpha == 0 ? 0 : t[0]->shape[nd - 1],
        .a = t[0]->data,
        .lda = a.ld,
        .b = t[1]->data,
        .ldb = b.ld,
        .c = t[2]->data,
        .ldc = y.ld,
        .bias = bias ? bias->data : NULL,
        .bias_dtype = bias ? (light_dtype)bias->dtype : LIGHT_DTYPE_DEFAULT,
        .accumulate = accumulate,
        .alpha = alpha,
    };
    batch dims = read_batch(t);
    if (y.transposed) transpose_product(&g, &dims);
    LIGHT_TRY(run_batches(&g, &dims));
    if (copied[2]) LIGHT_TRY(copy(args, &copies[2], args->out[0], args->accumulate & 1));
    return sum_rows(args);
}

const light_cpu_kernel LIGHT_ISA(light_matmul_kernels)[] = {
    {LIGHT_KERNEL_MATMUL, matmul},
    {LIGHT_KERNEL_COUNT, NULL},
};
