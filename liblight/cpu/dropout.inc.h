/* SPDX-License-Identifier: Apache-2.0 */
/* Template of dropout.c in one arithmetic (real.inc.h). */

static void NAME(drop)(const uint32_t *bits, uint32_t threshold, REAL scale, int64_t n, const REAL *x,
                       REAL *y)
{
    for (int64_t i = 0; i < n; i++) y[i] = bits[i] >> 8 >= threshold ? x[i] * scale : 0;
}

static void NAME(dropout_block)(void *context, int64_t b, int rank)
{
    const light_kernel_args *args = context;
    const light_dropout_attrs *attrs = args->attrs;
    const light_tensor *x = args->in[0];
    light_tensor *y = args->out[0];
    int64_t size = light_element_size(x->dtype);
    REAL scale = (REAL)(attrs->p < 1 ? 1 / (1 - attrs->p) : 0);
    uint32_t bits[BLOCK];
    REAL room[2][BLOCK];
    int64_t first = b * BLOCK, n = x->numel - first < BLOCK ? x->numel - first : BLOCK;
    REAL *result = NAME(target)(y->dtype, y->data + first * size, room[1], args->accumulate);

    (void)rank;
    light_random_bits(args->rng, (uint64_t)first / 4, (n + 3) / 4, bits);
    NAME(drop)
    (bits, light_drop_threshold(attrs->p), scale, n, NAME(load)(x->dtype, x->data + first * size, n, room[0]),
     result);
    NAME(store)(y->dtype, y->data + first * size, n, result, args->accumulate);
}

static void NAME(dropout)(const light_kernel_args *args)
{
    int64_t n = args->in[0]->numel;

    light_team_each(n >= LIGHT_PARALLEL_MIN, (n + BLOCK - 1) / BLOCK, NAME(dropout_block), (void *)args);
}
