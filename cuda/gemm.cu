/* SPDX-License-Identifier: Apache-2.0 */
/* Products before a library is asked: nothing to compute, nothing to sum over, a bias that the library does not add. */
#include "cuda/vendor/gemm.h"

#include "cuda/call.h"

namespace light
{

/* The bias goes to y first, and the product is added to it. */
static light_status spread_bias(const light_device *device, gemm_args *g)
{
    const light_tensor bias = window<3>(g->bias_dtype, g->bias, {g->batch, g->m, g->n}, {0, 0, 1});
    light_tensor y = window<3>(g->out_dtype, g->y, {g->batch, g->m, g->n}, {g->stride_y, g->ldy, 1});
    LIGHT_TRY(call_copy(device, &bias, &y, g->accumulate));
    g->bias = NULL;
    g->accumulate = true;
    return LIGHT_OK;
}

static light_status without_terms(const light_device *device, gemm_args *g)
{
    light_tensor y = window<3>(g->out_dtype, g->y, {g->batch, g->m, g->n}, {g->stride_y, g->ldy, 1});
    if (g->bias) return spread_bias(device, g);
    return g->accumulate ? LIGHT_OK : call_fill(device, &y, 0);
}

light_status gemm(const light_device *device, gemm_args g)
{
    bool done = false;
    if (g.m == 0 || g.n == 0 || g.batch == 0) return LIGHT_OK;
    if (g.k == 0 || g.alpha == 0) return without_terms(device, &g);
    if (g.bias && g.bias_dtype != g.out_dtype) LIGHT_TRY(spread_bias(device, &g));
    LIGHT_TRY(library_gemm(device, g, &done));
    if (!done && g.bias) {
        LIGHT_TRY(spread_bias(device, &g));
        LIGHT_TRY(library_gemm(device, g, &done));
    }
    if (done) return LIGHT_OK;
    return light_fail(LIGHT_ERR_UNSUPPORTED,
                      "%s: there is no product [%lld, %lld] x [%lld, %lld] of %s to %s", device->name,
                      (long long)g.m, (long long)g.k, (long long)g.k, (long long)g.n,
                      light_dtype_name(g.dtype), light_dtype_name(g.out_dtype));
}

} // namespace light
