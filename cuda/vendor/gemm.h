/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products on raw device memory. gemm.cu settles what needs no product at all; the products themselves come from
 * cuBLASLt (cublaslt.cu), or from plain loops on the simulated device (sim/gemm.cpp). */
#ifndef LIGHT_CUDA_GEMM_H
#define LIGHT_CUDA_GEMM_H

#include "cuda/device.h"

namespace light
{

/* y = alpha op(a) op(b) (+ y) (+ bias); row-major, once for every element of the batch.
 * op(a) is m x k: a is [m, k] with rows lda apart, or with trans_a [k, m]. op(b) is k x n: b is [k, n], or with trans_b
 * [n, k]. Strides are in elements; a stride_a or stride_b of 0 repeats the operand. Rows do not overlap: a leading
 * dimension is at least the length of a row, unless there is one row only. */
struct gemm_args {
    light_dtype dtype;     /* of a and b */
    light_dtype out_dtype; /* of y: that of a and b, or f32 for 16-bit ones, which are summed in f32 */
    bool trans_a, trans_b;
    int64_t m, n, k;
    const void *a;
    int64_t lda, stride_a;
    const void *b;
    int64_t ldb, stride_b;
    void *y;
    int64_t ldy, stride_y;
    int64_t batch;
    const void *bias; /* n elements, added to every row, or NULL */
    light_dtype bias_dtype;
    void *
        sums; /* NULL, or for the library only: gets the sums of op(a)'s rows, in y's dtype; one batch and no bias then */
    double alpha;
    bool accumulate;
};

/* Any sizes, 0 among them. The same bits in every run. */
light_status gemm(const light_device *device, gemm_args args);

/* Gets the memory that products need, which cannot be had while a graph is recorded. The first product does it too. */
light_status prepare_gemm(const light_device *device);
/* The library's part: no size is 0, and a bias has y's dtype. `done` is false where the library has no way to compute
 * this, with a bias or sums perhaps only for that. */
light_status library_gemm(const light_device *device, const gemm_args &args, bool *done);
void close_gemm(light_device *device);

} // namespace light

#endif
