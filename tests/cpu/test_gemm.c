/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products of the CPU backend against sums in double, for every instruction set that this machine has. */
#include "cpu/once/gemm.h"
#include "cpu/once/team.h"
#include "support/tensors.h"

#include <stdlib.h>
#include <string.h>

enum { GUARD = 37 }; /* elements around a buffer, so that data are not aligned either */

static uint32_t random_state = 1;

/* A multiple of 1/64 in [-1, 1]: exact in every dtype. */
static double random_value(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (double)((int)((random_state >> 8) % 129) - 64) / 64;
}

static double get(light_dtype dtype, const void *data, int64_t i)
{
    if (dtype == LIGHT_F64) return ((const double *)data)[i];
    if (dtype == LIGHT_F32) return (double)((const float *)data)[i];
    const uint16_t h = ((const uint16_t *)data)[i];
    if (dtype == LIGHT_BF16) {
        const uint32_t bits = (uint32_t)h << 16;
        float f;
        memcpy(&f, &bits, sizeof f);
        return (double)f;
    }
    const int exponent = h >> 10 & 31, mantissa = h & 1023;
    const double v = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
    if (exponent == 31) return mantissa ? (double)NAN : (double)INFINITY;
    return h & 0x8000 ? -v : v;
}

/* For values that the dtype holds exactly. */
static void put(light_dtype dtype, void *data, int64_t i, double value)
{
    const float f = (float)value;
    uint32_t bits;
    memcpy(&bits, &f, sizeof f);
    const uint32_t half = value == 0 ? 0 : (bits >> 16 & 0x8000) | ((bits & 0x7fffffff) - 0x38000000) >> 13;
    if (dtype == LIGHT_F64)
        ((double *)data)[i] = value;
    else if (dtype == LIGHT_F32)
        ((float *)data)[i] = f;
    else
        ((uint16_t *)data)[i] = (uint16_t)(dtype == LIGHT_BF16 ? bits >> 16 : half);
}

typedef struct {
    light_dtype dtype;
    void *block, *data;
    int64_t count;
} buffer;

static size_t block_bytes(const buffer *b)
{
    return (size_t)(b->count + 2 * GUARD) * light_dtype_size(b->dtype);
}

static buffer new_buffer(light_dtype dtype, int64_t count)
{
    buffer b = {.dtype = dtype, .count = count};
    b.block = malloc(block_bytes(&b));
    assert_non_null(b.block);
    b.data = (char *)b.block + GUARD * light_dtype_size(dtype);
    for (int64_t i = 0; i < count + 2 * GUARD; i++) put(dtype, b.block, i, random_value());
    return b;
}

static buffer copy_buffer(const buffer *from)
{
    buffer b = new_buffer(from->dtype, from->count);
    memcpy(b.block, from->block, block_bytes(&b));
    return b;
}

typedef struct {
    light_dtype in, out, bias;
    bool trans_a, trans_b, accumulate, with_bias;
    int64_t m, n, k, pad, batch;
    bool same_a, same_b, sum_c;
    double alpha;
} setup;

typedef struct {
    buffer a, b, c, bias;
    light_gemm_args args;
} problem;

static problem new_problem(const setup *s)
{
    problem p;
    const int64_t last = s->batch ? s->batch - 1 : 0;
    light_gemm_args g = {
        .dtype = s->in,
        .out_dtype = s->out,
        .trans_a = s->trans_a,
        .trans_b = s->trans_b,
        .m = s->m,
        .n = s->n,
        .k = s->k,
        .lda = (s->trans_a ? s->m : s->k) + s->pad,
        .ldb = (s->trans_b ? s->k : s->n) + s->pad,
        .ldc = s->n + s->pad,
        .batch = s->batch,
        .bias_dtype = s->bias,
        .accumulate = s->accumulate,
        .alpha = s->alpha,
    };
    const int64_t size_a = g.lda * (s->trans_a ? s->k : s->m), size_b = g.ldb * (s->trans_b ? s->n : s->k);
    g.stride_a = s->same_a ? 0 : size_a + s->pad;
    g.stride_b = s->same_b ? 0 : size_b + s->pad;
    g.stride_c = s->sum_c ? 0 : g.ldc * s->m + s->pad;
    p.a = new_buffer(s->in, size_a + g.stride_a * last);
    p.b = new_buffer(s->in, size_b + g.stride_b * last);
    p.c = new_buffer(s->out, g.ldc * s->m + g.stride_c * last);
    p.bias = new_buffer(s->bias ? s->bias : s->out, s->n);
    g.a = p.a.data, g.b = p.b.data, g.c = p.c.data;
    g.bias = s->with_bias ? p.bias.data : NULL;
    p.args = g;
    return p;
}

static void free_problem(problem *p)
{
    free(p->a.block), free(p->b.block), free(p->c.block), free(p->bias.block);
}

/* Compares one element of C with its sum, and makes it equal in both copies. */
static void check_element(const setup *s, const problem *p, const buffer *before, int64_t q, int64_t i,
                          int64_t j)
{
    const light_gemm_args *g = &p->args;
    const int64_t batch = s->batch ? s->batch : 1, at = q * g->stride_c + i * g->ldc + j;
    const double alpha = s->alpha == 0 ? 1 : s->alpha, eps = s->in == LIGHT_F64 ? 0x1p-52 : 0x1p-23;
    double sum = 0, size = 0;
    for (int64_t r = s->sum_c ? 0 : q; r < (s->sum_c ? batch : q + 1); r++)
        for (int64_t k = 0; k < s->k; k++) {
            const double x =
                get(s->in, g->a, r * g->stride_a + (s->trans_a ? k * g->lda + i : i * g->lda + k));
            const double y =
                get(s->in, g->b, r * g->stride_b + (s->trans_b ? j * g->ldb + k : k * g->ldb + j));
            sum += alpha * x * y;
            size += fabs(alpha * x * y);
        }
    if (s->with_bias) sum += get(p->bias.dtype, g->bias, j), size += 1;
    if (s->accumulate) sum += get(s->out, before->data, at), size += 1;
    const double limit = eps * (double)(s->k + 4) * size + dtype_epsilon(s->out) * (fabs(sum) + 0x1p-14);
    const double got = get(s->out, g->c, at);
    if (!(fabs(got - sum) <= limit))
        fail_msg("%s > %s %c%c m %d n %d k %d pad %d batch %d: [%d, %d, %d] is %.9g, not %.9g (limit %g)",
                 light_dtype_name(s->in), light_dtype_name(s->out), s->trans_a ? 'T' : 'N',
                 s->trans_b ? 'T' : 'N', (int)s->m, (int)s->n, (int)s->k, (int)s->pad, (int)batch, (int)q,
                 (int)i, (int)j, got, sum, limit);
    put(s->out, before->data, at, 0);
    put(s->out, g->c, at, 0);
}

static void check(setup s)
{
    problem p = new_problem(&s);
    buffer before = copy_buffer(&p.c);
    assert_int_equal(light_cpu_gemm(&p.args), LIGHT_OK);
    const int64_t blocks = s.sum_c || !s.batch ? 1 : s.batch;
    for (int64_t q = 0; q < blocks; q++)
        for (int64_t i = 0; i < s.m; i++)
            for (int64_t j = 0; j < s.n; j++) check_element(&s, &p, &before, q, i, j);
    assert_memory_equal(p.c.block, before.block, block_bytes(&before)); /* everything else is as it was */
    free(before.block);
    free_problem(&p);
}

static void check_flags(setup s)
{
    for (int flags = 0; flags < 4; flags++) {
        s.trans_a = flags & 1;
        s.trans_b = flags & 2;
        check(s);
    }
}

static const struct {
    light_dtype in, out;
} dtypes[] = {{LIGHT_F32, LIGHT_F32},   {LIGHT_F64, LIGHT_F64}, {LIGHT_BF16, LIGHT_F32},
              {LIGHT_BF16, LIGHT_BF16}, {LIGHT_F16, LIGHT_F16}, {LIGHT_F32, LIGHT_BF16},
              {LIGHT_F16, LIGHT_F32}};
enum { DTYPES = sizeof dtypes / sizeof *dtypes };

/* Runs `test` once for every instruction set that the machine has. */
static void each_isa(void (*test)(void))
{
    for (int isa = 0; isa < 3; isa++)
        if (light_cpu_gemm_isa(isa)) test();
    light_cpu_gemm_isa(-1);
}

static void odd_shapes(void)
{
    static const int64_t sizes[][3] = {{1, 1, 1},    {0, 3, 4},    {3, 0, 4},    {3, 5, 0},    {1, 17, 70},
                                       {17, 1, 70},  {2, 40, 65},  {40, 2, 65},  {1, 33, 5},   {33, 1, 5},
                                       {13, 7, 3},   {14, 32, 16}, {15, 33, 17}, {29, 65, 31}, {64, 10, 40},
                                       {10, 40, 64}, {57, 16, 9},  {3, 40, 130}, {40, 4, 65}};
    for (int d = 0; d < DTYPES; d++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            for (int64_t pad = 0; pad < 6; pad += 5)
                check_flags((setup){.in = dtypes[d].in,
                                    .out = dtypes[d].out,
                                    .m = sizes[i][0],
                                    .n = sizes[i][1],
                                    .k = sizes[i][2],
                                    .pad = pad,
                                    .with_bias = i % 2 == 1,
                                    .accumulate = i % 3 == 1});
}

static void test_odd_shapes(void **state)
{
    (void)state;
    each_isa(odd_shapes);
}

/* Several blocks of k (odd, for pairs), of columns, and of rows. */
static void many_blocks(void)
{
    for (int d = 0; d < DTYPES; d++) {
        const light_dtype in = dtypes[d].in, out = dtypes[d].out;
        check_flags(
            (setup){.in = in, .out = out, .m = 16, .n = 35, .k = 1603, .alpha = 0.5, .accumulate = true});
        check_flags((setup){.in = in, .out = out, .m = 70, .n = 1061, .k = 19, .with_bias = true, .pad = 3});
    }
    check((setup){.in = LIGHT_F32, .out = LIGHT_F32, .m = 61, .n = 3, .k = 1024}); /* rows 4 KiB apart */
    check((setup){.in = LIGHT_F32, .out = LIGHT_F32, .m = 1201, .n = 17, .k = 40, .trans_b = true});
}

static void test_many_blocks(void **state)
{
    (void)state;
    each_isa(many_blocks);
}

/* More of A than is packed at a time, in both directions. */
static void test_more_than_the_work_memory(void **state)
{
    (void)state;
    check((setup){.in = LIGHT_F32, .out = LIGHT_F32, .m = 900, .n = 36, .k = 4200, .with_bias = true});
    check((setup){.in = LIGHT_F32, .out = LIGHT_BF16, .m = 900, .n = 3, .k = 4200, .accumulate = true});
}

static void test_batches(void **state)
{
    (void)state;
    for (int d = 0; d < DTYPES; d++)
        for (int flags = 0; flags < 16; flags++) {
            setup s = {.in = dtypes[d].in, .out = dtypes[d].out, .m = 9, .n = 21, .k = 12, .batch = 5};
            s.pad = flags & 1 ? 2 : 0, s.same_a = flags & 2, s.same_b = flags & 4;
            s.accumulate = flags & 8, s.with_bias = flags & 2;
            check_flags(s);
            s.m = 64, s.n = 64, s.k = 70;
            check(s);
        }
    for (int d = 0; d < 2; d++)
        check_flags((setup){
            .in = dtypes[d].in, .out = dtypes[d].out, .m = 30, .n = 40, .k = 120, .batch = 6, .sum_c = true});
}

static void test_bias_of_another_dtype(void **state)
{
    (void)state;
    static const light_dtype biases[] = {LIGHT_F32, LIGHT_BF16, LIGHT_F16};
    for (int i = 0; i < 3; i++)
        for (int d = 0; d < DTYPES; d++)
            for (int64_t m = 1; m < 8 && dtypes[d].in != LIGHT_F64; m += 6)
                check_flags((setup){.in = dtypes[d].in,
                                    .out = dtypes[d].out,
                                    .bias = biases[i],
                                    .with_bias = true,
                                    .m = m,
                                    .n = 70,
                                    .k = 66});
}

/* Not a number and infinity come through, also where packed panels are filled up with zeros. */
static void test_specials(void **state)
{
    (void)state;
    enum { M = 17, N = 35, K = 9 };
    static float a[M * K], b[K * N], c[M * N];
    for (int i = 0; i < M * K; i++) a[i] = 1;
    for (int i = 0; i < K * N; i++) b[i] = 1;
    a[16 * K + 8] = NAN;
    b[3 * N + 34] = INFINITY;
    const light_gemm_args g = {.dtype = LIGHT_F32,
                               .out_dtype = LIGHT_F32,
                               .m = M,
                               .n = N,
                               .k = K,
                               .a = a,
                               .lda = K,
                               .b = b,
                               .ldb = N,
                               .c = c,
                               .ldc = N};
    assert_int_equal(light_cpu_gemm(&g), LIGHT_OK);
    for (int i = 0; i < M * N; i++) {
        if (i / N == 16)
            assert_true(isnan(c[i]));
        else if (i % N == 34)
            assert_true(isinf(c[i]));
        else
            assert_true(c[i] == K);
    }
}

static void test_threads_give_the_same_bits(void **state)
{
    (void)state;
    static const setup setups[] = {
        {.m = 64, .n = 512, .k = 784, .trans_b = true, .with_bias = true},
        {.m = 512, .n = 784, .k = 64, .trans_a = true, .accumulate = true},
        {.m = 200, .n = 100, .k = 1500},
        {.m = 33, .n = 1100, .k = 300, .trans_a = true, .trans_b = true},
        {.m = 1, .n = 3000, .k = 500, .trans_b = true},
        {.m = 1, .n = 3000, .k = 500},
        {.m = 4, .n = 1000, .k = 500},
        {.m = 3, .n = 1000, .k = 500, .trans_b = true, .with_bias = true},
        {.m = 3000, .n = 1, .k = 500},
        {.m = 64, .n = 64, .k = 64, .batch = 7},
        {.m = 128, .n = 256, .k = 64, .batch = 3, .trans_b = true},
        {.m = 100, .n = 100, .k = 100, .batch = 3, .sum_c = true},
    };
    const int threads = light_team_size();
    for (size_t i = 0; i < sizeof setups / sizeof *setups; i++)
        for (int d = 0; d < DTYPES; d++) {
            setup s = setups[i];
            s.in = dtypes[d].in, s.out = dtypes[d].out;
            problem p = new_problem(&s);
            buffer start = copy_buffer(&p.c);
            light_set_num_threads(1);
            assert_int_equal(light_cpu_gemm(&p.args), LIGHT_OK);
            for (int n = 2; n <= 5; n++) {
                buffer again = copy_buffer(&start);
                light_gemm_args g = p.args;
                g.c = again.data;
                light_set_num_threads(n);
                assert_int_equal(light_cpu_gemm(&g), LIGHT_OK);
                assert_memory_equal(again.block, p.c.block, block_bytes(&again));
                free(again.block);
            }
            free(start.block);
            free_problem(&p);
        }
    light_set_num_threads(threads);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_odd_shapes),
        cmocka_unit_test(test_many_blocks),
        cmocka_unit_test(test_more_than_the_work_memory),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_bias_of_another_dtype),
        cmocka_unit_test(test_specials),
        cmocka_unit_test(test_threads_give_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
