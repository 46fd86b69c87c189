/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products of the CPU backend, on raw memory. */
#ifndef LIGHT_CPU_ONCE_GEMM_H
#define LIGHT_CPU_ONCE_GEMM_H

#include <light/tensor.h>

/* C = alpha * op(A) op(B) (+ C) (+ bias); row-major, once for every element of the batch.
 * op(A) is m x k: A is [m, k] with rows lda apart, or with trans_a [k, m]. op(B) is k x n: B is [k, n], or with
 * trans_b [n, k]. Strides are in elements; a stride_a or stride_b of 0 repeats the operand, a stride_c of 0 sums the
 * batch, in order, into one C. */
typedef struct {
    light_dtype dtype;     /* of A and B */
    light_dtype out_dtype; /* of C: f64 for f64; f32, bf16 or f16 for the others, which sum in f32 */
    bool trans_a, trans_b;
    int64_t m, n, k;
    const void *a;
    int64_t lda;
    const void *b;
    int64_t ldb;
    void *c;
    int64_t ldc;
    int64_t batch; /* 0 means 1 */
    int64_t stride_a, stride_b, stride_c;
    const void *bias;       /* n elements, or NULL */
    light_dtype bias_dtype; /* LIGHT_DTYPE_DEFAULT: out_dtype */
    bool accumulate;        /* add to C */
    double alpha;           /* 0 means 1 */
} light_gemm_args;

/* Fails only when work memory is out. Any number of threads gives the same bits. Called from one thread at a
 * time. Operands must not overlap C. */
light_status light_cpu_gemm(const light_gemm_args *args);

/* The kernels of the instruction set in use. */
const struct light_gemm_kernels *light_cpu_gemm_kernels(void);

/* n elements of bf16 or f16 to f32, and back (to nearest even), the latter added to what is there if asked. */
void light_cpu_widen(light_dtype from, int64_t n, const void *in, float *out);
void light_cpu_narrow(light_dtype to, int64_t n, const float *in, void *out, bool accumulate);

/* The instruction set in use can be held down, for tests: 0 generic, 1 avx2, 2 avx512; -1 the best there is.
 * Returns false where the machine lacks it. */
bool light_cpu_gemm_isa(int isa);

#endif
