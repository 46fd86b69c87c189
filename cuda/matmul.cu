/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel MATMUL: reads strides as transposes and batches, and leaves the arithmetic to gemm. */
#include "cuda/call.h"
#include "cuda/vendor/gemm.h"

namespace light
{

/* The last two dims of a tensor as a row-major matrix, or as the transpose of one. */
struct matrix {
    bool fits, transposed;
    int64_t ld;
};

/* Rows of `length` elements, `count` of them, `step` apart, do not overlap. */
static bool rows_fit(int64_t count, int64_t length, int64_t step)
{
    return count <= 1 || step >= length;
}

/* Of a column both readings may be right: the one with one long row is better for a library. */
static matrix read_matrix(const light_tensor *t)
{
    int64_t rows = t->shape[t->ndim - 2], cols = t->shape[t->ndim - 1];
    int64_t row_step = t->strides[t->ndim - 2], col_step = t->strides[t->ndim - 1];
    bool plain = (col_step == 1 || cols <= 1) && rows_fit(rows, cols, row_step);
    bool transposed = (row_step == 1 || rows <= 1) && rows_fit(cols, rows, col_step);
    if (transposed && (!plain || cols == 1)) return matrix{true, true, col_step};
    return matrix{plain, false, row_step};
}

/* A row-major tensor of t's shape without memory, and how much that takes. */
static size_t plan_copy(light_tensor *copy, const light_tensor *t)
{
    int64_t step = 1;
    *copy = *t;
    for (int d = t->ndim - 1; d >= 0; d--) {
        copy->strides[d] = step;
        step *= t->shape[d];
    }
    return ((size_t)step * light_dtype_size((light_dtype)t->dtype) + 255) / 256 * 256;
}

/* ---- batches ------------------------------------------------------------------- */

/* Batch dims, merged where all three tensors step evenly. */
struct batch {
    int ndim;
    int64_t size[LIGHT_MAX_DIMS], step[LIGHT_MAX_DIMS][3];
};

static batch read_batch(const light_tensor *const (&t)[3])
{
    batch b = {};
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

/* The largest batch dim goes into the product, the rest is for the host to walk through. */
static void take_batch(gemm_args *g, batch *b)
{
    int most = 0;
    if (b->ndim == 0) return;
    for (int d = 1; d < b->ndim; d++)
        if (b->size[d] > b->size[most]) most = d;
    g->batch = b->size[most];
    g->stride_a = b->step[most][0], g->stride_b = b->step[most][1], g->stride_y = b->step[most][2];
    b->ndim--;
    for (int d = most; d < b->ndim; d++) {
        b->size[d] = b->size[d + 1];
        for (int i = 0; i < 3; i++) b->step[d][i] = b->step[d + 1][i];
    }
}

/* One b for a batch whose rows follow each other evenly: a single product of all rows. */
static void join_rows(gemm_args *g)
{
    bool even = g->stride_a == g->m * g->lda && g->stride_y == g->m * g->ldy && g->lda >= g->k;
    if (g->trans_a || g->stride_b != 0 || !even) return;
    g->m *= g->batch;
    g->batch = 1;
}

static light_status run_batches(const light_device *device, gemm_args g, const batch *b)
{
    int64_t at[LIGHT_MAX_DIMS] = {}, outer = 1;
    const char *p[2] = {(const char *)g.a, (const char *)g.b};
    char *y = (char *)g.y;
    const int64_t in = (int64_t)light_dtype_size(g.dtype), out = (int64_t)light_dtype_size(g.out_dtype);
    for (int d = 0; d < b->ndim; d++) outer *= b->size[d];
    for (int64_t i = 0; i < outer; i++) {
        int64_t offset[3] = {};
        for (int d = 0; d < b->ndim; d++)
            for (int k = 0; k < 3; k++) offset[k] += at[d] * b->step[d][k];
        g.a = p[0] + offset[0] * in, g.b = p[1] + offset[1] * in, g.y = y + offset[2] * out;
        LIGHT_TRY(gemm(device, g));
        for (int d = b->ndim - 1; d >= 0 && ++at[d] == b->size[d]; d--) at[d] = 0;
    }
    return LIGHT_OK;
}

/* y' = b' a' instead of y = a b, for a y whose columns lie contiguous. */
static void transpose_product(gemm_args *g, batch *b)
{
    gemm_args t = *g;
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

/* ---- the kernel ------------------------------------------------------------------ */

/* Operands that are no matrices of the library's go through row-major copies. */
struct operands {
    const light_tensor *t[3]; /* a, b, y */
    light_tensor copies[3];
    bool copied[3];
};

static light_status make_copies(const light_kernel_args *args, operands *o)
{
    size_t bytes = 0, offsets[3];
    void *work;
    for (int i = 0; i < 3; i++) {
        o->t[i] = i < 2 ? args->in[i] : args->out[0];
        o->copied[i] = !read_matrix(o->t[i]).fits;
        offsets[i] = bytes;
        if (o->copied[i]) bytes += plan_copy(&o->copies[i], o->t[i]);
    }
    if (bytes == 0) return LIGHT_OK;
    LIGHT_TRY(scratch(args->device, bytes, &work));
    for (int i = 0; i < 3; i++) {
        if (!o->copied[i]) continue;
        o->copies[i].data = (char *)work + offsets[i];
        if (i < 2) LIGHT_TRY(call_copy(args->device, o->t[i], &o->copies[i], false));
        o->t[i] = &o->copies[i];
    }
    return LIGHT_OK;
}

/* y starts with the bias in every row: where y's columns lie contiguous, a bias would be one of columns. */
static light_status start_with_bias(const light_device *device, const light_tensor *bias, light_tensor y,
                                    gemm_args *g)
{
    light_tensor rows = y;
    rows.data = bias->data;
    rows.dtype = bias->dtype;
    for (int d = 0; d < y.ndim - 1; d++) rows.strides[d] = 0;
    rows.strides[y.ndim - 1] = 1;
    LIGHT_TRY(call_copy(device, &rows, &y, g->accumulate));
    g->bias = NULL;
    g->accumulate = true;
    return LIGHT_OK;
}

static gemm_args describe(const light_kernel_args *args, const operands *o)
{
    const light_tensor *bias = args->in[2];
    const matrix a = read_matrix(o->t[0]), b = read_matrix(o->t[1]), y = read_matrix(o->t[2]);
    const int nd = o->t[2]->ndim;
    gemm_args g = {};
    g.dtype = (light_dtype)o->t[0]->dtype;
    g.out_dtype = (light_dtype)o->t[2]->dtype;
    g.trans_a = a.transposed, g.trans_b = b.transposed;
    g.m = o->t[2]->shape[nd - 2], g.n = o->t[2]->shape[nd - 1], g.k = o->t[0]->shape[nd - 1];
    g.a = o->t[0]->data, g.lda = a.ld;
    g.b = o->t[1]->data, g.ldb = b.ld;
    g.y = o->t[2]->data, g.ldy = y.ld;
    g.batch = 1;
    g.bias = bias ? bias->data : NULL;
    g.bias_dtype = bias ? (light_dtype)bias->dtype : g.out_dtype;
    g.alpha = args->attrs ? ((const light_matmul_attrs *)args->attrs)->alpha : 1;
    g.accumulate = (args->accumulate & 1) && !o->copied[2];
    return g;
}

/* The product together with the sums of a's rows, for which a is not read again. */
static light_status product_with_sums(const light_kernel_args *args, gemm_args g, bool *done)
{
    const light_tensor *sums = args->out[1];
    const bool add = args->accumulate >> 1 & 1, apart = add || sums->dtype != g.out_dtype;
    *done = false;
    if (g.m == 0 || g.n == 0 || g.k == 0 || g.alpha == 0) return LIGHT_OK;
    if (light_dtype_size(g.out_dtype) < light_dtype_size((light_dtype)sums->dtype)) return LIGHT_OK;
    g.sums = sums->data;
    if (apart) LIGHT_TRY(scratch(args->device, (size_t)g.m * light_dtype_size(g.out_dtype), &g.sums));
    LIGHT_TRY(library_gemm(args->device, g, done));
    if (!*done || !apart) return LIGHT_OK;
    const light_tensor from = window<1>(g.out_dtype, g.sums, {g.m}, {1});
    light_tensor to = window<1>((light_dtype)sums->dtype, sums->data, {g.m}, {1});
    return call_copy(args->device, &from, &to, add);
}

/* The sums alone, as those of the columns of a^T. */
static light_status sum_rows(const light_kernel_args *args)
{
    const light_tensor *a = args->in[0], *sums = args->out[1];
    const int64_t m = a->shape[0], k = a->shape[1];
    const light_tensor from =
        window<2>((light_dtype)a->dtype, a->data, {k, m}, {a->strides[1], a->strides[0]});
    light_tensor to = window<2>((light_dtype)sums->dtype, sums->data, {1, m}, {m, 1});
    return call_sum(args->device, &from, &to, 1, args->accumulate >> 1 & 1);
}

static light_status matmul(const light_kernel_args *args)
{
    operands o;
    bool done = false;
    LIGHT_TRY(make_copies(args, &o));
    gemm_args g = describe(args, &o);
    batch b = read_batch(o.t);
    const bool transposed = read_matrix(o.t[2]).transposed,
               copied = o.copied[0] || o.copied[1] || o.copied[2];
    if (args->out[1] && !transposed && !copied) LIGHT_TRY(product_with_sums(args, g, &done));
    if (done) return LIGHT_OK;
    if (transposed) {
        if (g.bias) LIGHT_TRY(start_with_bias(args->device, args->in[2], *o.t[2], &g));
        transpose_product(&g, &b);
    }
    take_batch(&g, &b);
    join_rows(&g);
    LIGHT_TRY(run_batches(args->device, g, &b));
    if (o.copied[2]) LIGHT_TRY(call_copy(args->device, &o.copies[2], args->out[0], args->accumulate & 1));
    return args->out[1] ? sum_rows(args) : LIGHT_OK;
}

extern const kernel_entry matmul_kernels[] = {
    {LIGHT_KERNEL_MATMUL, matmul},
    {LIGHT_KERNEL_COUNT, NULL},
};

} // namespace light
