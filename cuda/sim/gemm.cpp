/* SPDX-License-Identifier: Apache-2.0 */
/* Products on the simulated device: plain loops, as work of the stream. Sums go through k in order. */
#include "cuda/number.cuh"
#include "cuda/vendor/gemm.h"

#include <vector>

namespace light
{

/* Rows of op(b) that are used for all of y before the next ones. */
enum { K_BLOCK = 64 };

/* A matrix of the batch, as the numbers that are computed with, row-major. */
template <class T>
static void widen_matrix(const T *from, int64_t ld, bool transposed, int64_t rows, int64_t cols,
                         std::vector<real_of<T>> &to)
{
    to.resize((size_t)(rows * cols));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            to[(size_t)(i * cols + j)] = widen(from[transposed ? j * ld + i : i * ld + j]);
}

template <class R> static void add_products(int64_t m, int64_t n, int64_t k, const R *a, const R *b, R *sums)
{
    for (int64_t from = 0; from < k; from += K_BLOCK) {
        int64_t to = from + K_BLOCK < k ? from + K_BLOCK : k;
        for (int64_t i = 0; i < m; i++)
            for (int64_t p = from; p < to; p++) {
                const R x = a[i * k + p], *row = b + p * n;
                R *sum = sums + i * n;
                for (int64_t j = 0; j < n; j++) sum[j] += x * row[j];
            }
    }
}

template <class T, class Y> static void product(const gemm_args &g)
{
    using R = real_of<T>;
    std::vector<R> a, b, sums;
    for (int64_t z = 0; z < g.batch; z++) {
        Y *y = (Y *)g.y + z * g.stride_y;
        widen_matrix((const T *)g.a + z * g.stride_a, g.lda, g.trans_a, g.m, g.k, a);
        widen_matrix((const T *)g.b + z * g.stride_b, g.ldb, g.trans_b, g.k, g.n, b);
        sums.assign((size_t)(g.m * g.n), 0);
        add_products(g.m, g.n, g.k, a.data(), b.data(), sums.data());
        for (int64_t i = 0; i < g.m; i++)
            for (int64_t j = 0; j < g.n; j++) {
                Y *to_y = y + i * g.ldy + j;
                R sum = (R)g.alpha * sums[(size_t)(i * g.n + j)];
                if (g.accumulate) sum += (R)widen(*to_y);
                if (g.bias) sum += (R)widen(((const Y *)g.bias)[j]);
                *to_y = to<Y>(sum);
            }
    }
    for (int64_t i = 0; g.sums && i < g.m; i++) {
        double sum = 0;
        for (int64_t p = 0; p < g.k; p++) sum += a[(size_t)(i * g.k + p)];
        ((Y *)g.sums)[i] = to<Y>(sum);
    }
}

/* Nothing but the work memory, so that it is asked for when a library would. */
struct gemm_plans {
    void *workspace;
};

light_status prepare_gemm(const light_device *device)
{
    device_state *s = state_of(device);
    if (!s->gemms) s->gemms = (gemm_plans *)calloc(1, sizeof *s->gemms);
    if (!s->gemms) return light_fail(LIGHT_ERR_MEMORY, "out of memory on the host");
    if (s->gemms->workspace) return LIGHT_OK;
    return cuda_status(device, cudaMalloc(&s->gemms->workspace, 256), "work memory for products");
}

/* A bias of f64 is not added here, and sums are not made, so that this case is played too. */
light_status library_gemm(const light_device *device, const gemm_args &g, bool *done)
{
    LIGHT_TRY(prepare_gemm(device));
    *done = !((g.bias || g.sums) && g.dtype == LIGHT_F64);
    if (!*done) return LIGHT_OK;
    return by_float(g.dtype, [&](auto type) {
        using T = decltype(type);
        bool wide = g.out_dtype != g.dtype;
        auto work = [g, wide] {
            if (wide)
                product<T, real_of<T>>(g);
            else
                product<T, T>(g);
        };
        return launched(device, sim::enqueue(stream_of(device), work));
    });
}

void close_gemm(light_device *device)
{
    gemm_plans *plans = state_of(device)->gemms;
    if (!plans) return;
    if (plans->workspace) cudaFree(plans->workspace);
    free(plans);
    state_of(device)->gemms = NULL;
}

} // namespace light
