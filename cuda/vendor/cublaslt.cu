/* SPDX-License-Identifier: Apache-2.0 */
/* Products by cuBLASLt. The descriptors and the algorithm of each kind of product are found once and kept.
 *
 * cuBLASLt's matrices are column-major, so it gets y' = op(b)' op(a)': the same memory, with a and b exchanged. */
#include "cuda/vendor/gemm.h"
#include "cuda/vendor/table.h"

#include <cublasLt.h>

namespace light
{

enum { WORKSPACE = 32 << 20 }; /* what NVIDIA advises for sm_90 */

/* All that the choice of an algorithm depends on. */
struct gemm_key {
    int64_t m, n, k, lda, ldb, ldy, stride_a, stride_b, stride_y, batch;
    int32_t dtype, out_dtype;
    uint8_t trans_a, trans_b, align_a, align_b, align_y;
    uint8_t align_bias, align_sums; /* 0: none */
    uint8_t unused;
};
static_assert(sizeof(gemm_key) == 10 * 8 + 2 * 4 + 8, "gemm_key has gaps");

struct gemm_plan {
    gemm_key key;
    bool used;  /* see table.h */
    bool found; /* there is an algorithm */
    cublasLtMatmulDescOpaque_t product;
    cublasLtMatrixLayoutOpaque_t a, b, y;
    cublasLtMatmulAlgo_t algorithm;
};

struct gemm_plans {
    cublasLtHandle_t handle;
    void *workspace;
    plan_table<gemm_plan> table;
};

static light_status check(const light_device *device, const gemm_args &g, cublasStatus_t status,
                          const char *doing)
{
    if (status == CUBLAS_STATUS_SUCCESS) return LIGHT_OK;
    return light_fail(status == CUBLAS_STATUS_ALLOC_FAILED ? LIGHT_ERR_MEMORY : LIGHT_ERR_INTERNAL,
                      "%s: cuBLASLt: %s a product [%lld, %lld] x [%lld, %lld] of %s: %s", device->name, doing,
                      (long long)g.m, (long long)g.k, (long long)g.k, (long long)g.n,
                      light_dtype_name(g.dtype), cublasLtGetStatusString(status));
}

/* ---- keys ----------------------------------------------------------------------- */

static uint8_t alignment(const void *data)
{
    uintptr_t low = (uintptr_t)data & 15;
    return (uint8_t)(low ? low & (~low + 1) : 16);
}

static gemm_key key_of(const gemm_args &g)
{
    gemm_key key = {};
    key.m = g.m, key.n = g.n, key.k = g.k;
    key.lda = g.lda, key.ldb = g.ldb, key.ldy = g.ldy;
    key.stride_a = g.stride_a, key.stride_b = g.stride_b, key.stride_y = g.stride_y;
    key.batch = g.batch;
    key.dtype = g.dtype, key.out_dtype = g.out_dtype;
    key.trans_a = g.trans_a, key.trans_b = g.trans_b;
    key.align_a = alignment(g.a), key.align_b = alignment(g.b), key.align_y = alignment(g.y);
    key.align_bias = g.bias ? alignment(g.bias) : 0;
    key.align_sums = g.sums ? alignment(g.sums) : 0;
    return key;
}

/* ---- opening and closing ---------------------------------------------------------- */

light_status prepare_gemm(const light_device *device)
{
    device_state *s = state_of(device);
    if (!s->gemms) s->gemms = (gemm_plans *)calloc(1, sizeof *s->gemms);
    if (!s->gemms) return light_fail(LIGHT_ERR_MEMORY, "out of memory on the host");
    cublasStatus_t status = s->gemms->handle ? CUBLAS_STATUS_SUCCESS : cublasLtCreate(&s->gemms->handle);
    if (status != CUBLAS_STATUS_SUCCESS)
        return light_fail(LIGHT_ERR_INTERNAL, "%s: cuBLASLt cannot be opened: %s", device->name,
                          cublasLtGetStatusString(status));
    if (s->gemms->workspace) return LIGHT_OK;
    return cuda_status(device, cudaMalloc(&s->gemms->workspace, WORKSPACE), "work memory for products");
}

void close_gemm(light_device *device)
{
    gemm_plans *plans = state_of(device)->gemms;
    if (!plans) return;
    if (plans->workspace) cudaFree(plans->workspace);
    if (plans->handle) cublasLtDestroy(plans->handle);
    free(plans->table.slots);
    free(plans);
    state_of(device)->gemms = NULL;
}

/* ---- making a plan ----------------------------------------------------------- */

static cudaDataType data_type(int dtype)
{
    return dtype == LIGHT_F64    ? CUDA_R_64F
           : dtype == LIGHT_F32  ? CUDA_R_32F
           : dtype == LIGHT_BF16 ? CUDA_R_16BF
                                 : CUDA_R_16F;
}

/* A row-major matrix [rows, cols]. cuBLASLt wants a leading dimension also where it is not used. */
static cublasStatus_t describe(cublasLtMatrixLayout_t layout, int dtype, int64_t rows, int64_t cols,
                               int64_t ld, int64_t batch, int64_t stride)
{
    int32_t count = (int32_t)batch;
    if (rows == 1 && ld < cols) ld = cols;
    cublasStatus_t status =
        cublasLtMatrixLayoutInit(layout, data_type(dtype), (uint64_t)cols, (uint64_t)rows, ld);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count,
                                                  sizeof count);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    return cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride,
                                            sizeof stride);
}

static cublasStatus_t describe_matrices(gemm_plan *p, const gemm_args &g)
{
    cublasStatus_t status = g.trans_a ? describe(&p->a, g.dtype, g.k, g.m, g.lda, g.batch, g.stride_a)
                                      : describe(&p->a, g.dtype, g.m, g.k, g.lda, g.batch, g.stride_a);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    status = g.trans_b ? describe(&p->b, g.dtype, g.n, g.k, g.ldb, g.batch, g.stride_b)
                       : describe(&p->b, g.dtype, g.k, g.n, g.ldb, g.batch, g.stride_b);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    return describe(&p->y, g.out_dtype, g.m, g.n, g.ldy, g.batch, g.stride_y);
}

/* The bias that is read, or the sums of our a, which are called the gradient of one and are written. */
static cublasStatus_t set_bias(gemm_plan *p, const gemm_args &g)
{
    const void *bias = g.sums ? g.sums : g.bias;
    return cublasLtMatmulDescSetAttribute(&p->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
}

static cublasStatus_t describe_product(gemm_plan *p, const gemm_args &g, bool tf32)
{
    const cublasOperation_t of[2] = {CUBLAS_OP_N, CUBLAS_OP_T};
    const cublasLtEpilogue_t epilogue = g.sums ? CUBLASLT_EPILOGUE_BGRADB : CUBLASLT_EPILOGUE_BIAS;
    const cudaDataType bias = data_type(g.out_dtype);
    cublasComputeType_t compute = g.dtype == LIGHT_F64           ? CUBLAS_COMPUTE_64F
                                  : g.dtype == LIGHT_F32 && tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                                 : CUBLAS_COMPUTE_32F;
    cublasStatus_t status =
        cublasLtMatmulDescInit(&p->product, compute, g.dtype == LIGHT_F64 ? CUDA_R_64F : CUDA_R_32F);
    if (status == CUBLAS_STATUS_SUCCESS) /* the library's first operand is our b */
        status = cublasLtMatmulDescSetAttribute(&p->product, CUBLASLT_MATMUL_DESC_TRANSA, &of[g.trans_b],
                                                sizeof of[0]);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulDescSetAttribute(&p->product, CUBLASLT_MATMUL_DESC_TRANSB, &of[g.trans_a],
                                                sizeof of[0]);
    if (status != CUBLAS_STATUS_SUCCESS || (!g.bias && !g.sums)) return status;
    status = cublasLtMatmulDescSetAttribute(&p->product, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                            sizeof epilogue);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulDescSetAttribute(&p->product, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bias,
                                                sizeof bias);
    return status == CUBLAS_STATUS_SUCCESS ? set_bias(p, g) : status;
}

/* How algorithms are looked for. Parts of k are summed in the type of the sums and in order, or not cut at all: the same
 * bits in every run. */
static cublasStatus_t describe_choice(cublasLtMatmulPreference_t choice, const gemm_key &key)
{
    const uint64_t workspace = WORKSPACE;
    const uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const uint32_t a = key.align_a, b = key.align_b, y = key.align_y;
    const struct {
        cublasLtMatmulPreferenceAttributes_t name;
        const void *value;
        size_t bytes;
    } settings[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace},
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof schemes},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &b, sizeof b},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &a, sizeof a},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &y, sizeof y},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &y, sizeof y},
    };
    cublasStatus_t status = cublasLtMatmulPreferenceInit(choice);
    for (size_t i = 0; i < sizeof settings / sizeof *settings && status == CUBLAS_STATUS_SUCCESS; i++)
        status = cublasLtMatmulPreferenceSetAttribute(choice, settings[i].name, settings[i].value,
                                                      settings[i].bytes);
    return status;
}

/* The library's best guess. That it has none is no failure, nor is any refusal to make sums, which there is another way for. */
static cublasStatus_t choose(const gemm_plans *plans, gemm_plan *p)
{
    cublasLtMatmulPreferenceOpaque_t choice;
    cublasLtMatmulHeuristicResult_t best = {};
    int count = 0;
    cublasStatus_t status = describe_choice(&choice, p->key);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    status = cublasLtMatmulAlgoGetHeuristic(plans->handle, &p->product, &p->b, &p->a, &p->y, &p->y, &choice,
                                            1, &best, &count);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || (status != CUBLAS_STATUS_SUCCESS && p->key.align_sums))
        return CUBLAS_STATUS_SUCCESS;
    p->found = status == CUBLAS_STATUS_SUCCESS && count > 0 && best.state == CUBLAS_STATUS_SUCCESS;
    p->algorithm = best.algo;
    return status;
}

static light_status make_plan(const light_device *device, const gemm_args &g, const gemm_key &key,
                              gemm_plan *p)
{
    *p = gemm_plan{};
    p->key = key;
    LIGHT_TRY(check(device, g, describe_matrices(p, g), "describing the matrices of"));
    LIGHT_TRY(check(device, g, describe_product(p, g, state_of(device)->tf32), "describing"));
    LIGHT_TRY(check(device, g, choose(state_of(device)->gemms, p), "choosing how to compute"));
    p->used = true;
    state_of(device)->gemms->table.used++;
    return LIGHT_OK;
}

/* ---- products ---------------------------------------------------------------- */

light_status library_gemm(const light_device *device, const gemm_args &g, bool *done)
{
    const double wide[2] = {g.alpha, g.accumulate ? 1.0 : 0.0};
    const float narrow[2] = {(float)wide[0], (float)wide[1]};
    const bool is_f64 = g.dtype == LIGHT_F64;
    const gemm_key key = key_of(g);
    LIGHT_TRY(prepare_gemm(device));
    gemm_plans *plans = state_of(device)->gemms;
    LIGHT_TRY(make_room(&plans->table));
    gemm_plan *p = find_plan(&plans->table, key);
    if (!p->used) LIGHT_TRY(make_plan(device, g, key, p));
    *done = p->found;
    if (!p->found) return LIGHT_OK;
    if (g.bias || g.sums) LIGHT_TRY(check(device, g, set_bias(p, g), "giving the bias to"));
    LIGHT_TRY(
        check(device, g,
              cublasLtMatmul(plans->handle, &p->product, is_f64 ? (const void *)&wide[0] : &narrow[0], g.b,
                             &p->b, g.a, &p->a, is_f64 ? (const void *)&wide[1] : &narrow[1], g.y, &p->y, g.y,
                             &p->y, &p->algorithm, plans->workspace, WORKSPACE, stream_of(device)),
              "computing"));
    return launched(device, cudaSuccess);
}

} // namespace light
