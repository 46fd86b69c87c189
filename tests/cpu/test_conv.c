/* SPDX-License-Identifier: Apache-2.0 */
/* Convolutions of the CPU backend against sums in double: all passes, dtypes and tiles. */
#include "cpu/once/gemm.h"
#include "cpu/once/team.h"
#include "support/conv.h"
#include "support/tensors.h"

#include <stdlib.h>
#include <string.h>

enum { GUARD = 37 };

static uint32_t random_state = 1;

/* A multiple of 1/32 in [-1, 1]: exact in every dtype. */
static float random_value(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (float)((int)((random_state >> 8) % 65) - 32) / 32;
}

/* A buffer in its dtype, and its values in double. */
typedef struct {
    light_dtype dtype;
    int64_t count;
    void *block, *data;
    double *value;
} buffer;

static size_t block_bytes(const buffer *b)
{
    return (size_t)(b->count + 2 * GUARD) * light_dtype_size(b->dtype);
}

static void encode(const buffer *b, const float *from)
{
    const int64_t n = b->count + 2 * GUARD;
    if (b->dtype == LIGHT_F32)
        memcpy(b->block, from, (size_t)n * 4);
    else if (b->dtype == LIGHT_F64)
        for (int64_t i = 0; i < n; i++) ((double *)b->block)[i] = (double)from[i];
    else
        light_cpu_narrow(b->dtype, n, from, b->block, false);
}

/* Reads the data into `value`. */
static void decode(buffer *b)
{
    float *wide = malloc((size_t)(b->count + 1) * sizeof *wide);
    assert_non_null(wide);
    if (light_dtype_size(b->dtype) == 2) light_cpu_widen(b->dtype, b->count, b->data, wide);
    for (int64_t i = 0; i < b->count; i++)
        b->value[i] = b->dtype == LIGHT_F64   ? ((double *)b->data)[i]
                      : b->dtype == LIGHT_F32 ? (double)((float *)b->data)[i]
                                              : (double)wide[i];
    free(wide);
}

static buffer new_buffer(light_dtype dtype, int64_t count)
{
    buffer b = {.dtype = dtype, .count = count};
    float *values = malloc((size_t)(count + 2 * GUARD) * sizeof *values);
    b.block = malloc(block_bytes(&b));
    b.value = malloc((size_t)(count + 1) * sizeof *b.value);
    assert_true(values && b.block && b.value);
    b.data = (char *)b.block + GUARD * light_dtype_size(dtype);
    for (int64_t i = 0; i < count + 2 * GUARD; i++) values[i] = random_value();
    encode(&b, values);
    decode(&b);
    free(values);
    return b;
}

static buffer copy_buffer(const buffer *from)
{
    buffer b = new_buffer(from->dtype, from->count);
    memcpy(b.block, from->block, block_bytes(&b));
    memcpy(b.value, from->value, (size_t)b.count * sizeof *b.value);
    return b;
}

static void free_buffer(buffer *b)
{
    free(b->block);
    free(b->value);
}

typedef struct {
    light_conv_shape s;
    buffer x, w, y, bias;
} problem;

static problem new_problem(light_conv_shape s, light_dtype dtype, light_dtype weight_dtype)
{
    s.dtype = dtype;
    problem p = {.s = s};
    p.x = new_buffer(dtype, s.n * s.h * s.w * s.c);
    p.y = new_buffer(dtype, s.n * s.oh * s.ow * s.o);
    p.w = new_buffer(weight_dtype, s.o * (s.c / s.groups) * s.kh * s.kw);
    p.bias = new_buffer(dtype, s.o);
    return p;
}

static void free_problem(problem *p)
{
    free_buffer(&p->x), free_buffer(&p->w), free_buffer(&p->y), free_buffer(&p->bias);
}

static void run(const problem *p, light_conv_pass pass, bool bias, bool accumulate)
{
    light_status status;
    if (pass == LIGHT_CONV_FORWARD)
        status = light_cpu_conv_forward(&p->s, p->x.data, p->w.data, bias ? p->bias.data : NULL, p->s.dtype,
                                        p->y.data, accumulate);
    else if (pass == LIGHT_CONV_BACKWARD_DATA)
        status = light_cpu_conv_backward_data(&p->s, p->y.data, p->w.data, p->x.data, accumulate);
    else
        status =
            light_cpu_conv_backward_weight(&p->s, p->y.data, p->x.data, p->w.data, p->w.dtype, accumulate);
    assert_int_equal(status, LIGHT_OK);
}

static buffer *result_of(problem *p, light_conv_pass pass)
{
    return pass == LIGHT_CONV_FORWARD ? &p->y : pass == LIGHT_CONV_BACKWARD_DATA ? &p->x : &p->w;
}

static void check(light_conv_shape s, light_dtype dtype, light_conv_pass pass, bool bias, bool accumulate)
{
    /* A weight gradient of a 16-bit convolution goes to f32 when it accumulates, as in mixed precision. */
    const bool wide = pass == LIGHT_CONV_BACKWARD_WEIGHT && accumulate && light_dtype_size(dtype) == 2;
    problem p = new_problem(s, dtype, wide ? LIGHT_F32 : dtype);
    buffer *out = result_of(&p, pass), before = copy_buffer(out);
    double *sums = calloc((size_t)out->count + 1, sizeof *sums),
           *sizes = calloc((size_t)out->count + 1, sizeof *sizes);
    assert_true(sums && sizes);
    conv_products(&s, pass, true, p.x.value, p.w.value, p.y.value, sums, sizes);
    run(&p, pass, bias, accumulate);
    decode(out);
    /* Sums in parts may lose a little more than a plain one; 16 bits round once (twice when adding). */
    const double eps = dtype == LIGHT_F64 ? 0x1p-52 : 0x1p-23;
    for (int64_t i = 0; i < out->count; i++) {
        double want = sums[i] + (bias ? p.bias.value[i % s.o] : 0);
        const double part = fabs(want);
        if (accumulate) want += before.value[i];
        const double limit = 16 * eps * (sizes[i] + 2) + 2 * dtype_epsilon(out->dtype) * (fabs(want) + part);
        if (!(fabs(out->value[i] - want) <= limit))
            fail_msg(
                "%s pass %d n %d c %d h %d o %d k %d stride %d padding %d dilation %d groups %d: [%d] is %.9g, not %.9g",
                light_dtype_name(dtype), (int)pass, (int)s.n, (int)s.c, (int)s.h, (int)s.o, (int)s.kh,
                (int)s.stride[0], (int)s.padding[0], (int)s.dilation[0], (int)s.groups, (int)i, out->value[i],
                want);
    }
    const size_t guard = GUARD * light_dtype_size(out->dtype);
    assert_memory_equal(out->block, before.block, guard);
    assert_memory_equal((char *)out->block + block_bytes(out) - guard,
                        (char *)before.block + block_bytes(out) - guard, guard);
    free(sums), free(sizes), free_buffer(&before), free_problem(&p);
}

static const light_dtype dtypes[] = {LIGHT_F32, LIGHT_F64, LIGHT_BF16, LIGHT_F16};

/* With the tiles of every instruction set: their sizes decide how the work is cut. */
static void check_all(light_conv_shape s)
{
    for (int isa = 0; isa < 3; isa++) {
        if (!light_cpu_gemm_isa(isa)) continue;
        for (int d = 0; d < 4; d++)
            for (int pass = 0; pass < 3; pass++)
                for (int accumulate = 0; accumulate < 2; accumulate++)
                    check(s, dtypes[d], (light_conv_pass)pass, pass == 0 && !accumulate, accumulate);
    }
    light_cpu_gemm_isa(-1);
}

static void test_plain(void **state)
{
    (void)state;
    check_all(conv_shape(2, 16, 7, 32, 3, 1, 1, 1, 1));
    check_all(conv_shape(3, 5, 6, 7, 3, 1, 0, 1, 1)); /* odd numbers of channels */
    check_all(conv_shape(2, 1, 9, 20, 5, 1, 2, 1, 1));
}

static void test_stride_and_dilation(void **state)
{
    (void)state;
    check_all(conv_shape(2, 16, 9, 16, 3, 2, 1, 1, 1));
    check_all(conv_shape(2, 16, 10, 16, 3, 2, 1, 1, 1)); /* a last row that no window reaches */
    check_all(conv_shape(1, 8, 11, 16, 3, 1, 2, 2, 1));
    check_all(conv_shape(2, 3, 12, 16, 4, 4, 0, 1, 1));
}

static void test_padding(void **state)
{
    (void)state;
    check_all(conv_shape(2, 16, 7, 32, 3, 1, 0, 1, 1));
    check_all(conv_shape(2, 32, 9, 16, 4, 1, 1, 1, 1));
    check_all(conv_shape(1, 16, 11, 16, 3, 1, 2, 2, 1));
    check_all(conv_shape(1, 16, 6, 16, 2, 1, 2, 1, 1)); /* more than a window needs */
    check_all(conv_shape(2, 3, 4, 5, 3, 2, 4, 1, 1));
    check_all(conv_shape(1, 4, 1, 4, 3, 1, 1, 1, 1));
}

static void test_windows_apart(void **state)
{
    (void)state;
    check_all(conv_shape(2, 5, 11, 6, 2, 3, 0, 1, 1)); /* pixels between windows that none reaches */
    check_all(conv_shape(1, 4, 10, 8, 1, 3, 1, 1, 1));
    check_all(conv_shape(2, 3, 9, 17, 3, 2, 1, 2,
                         1)); /* strides and dilations with a common divisor, and without */
    check_all(conv_shape(1, 3, 12, 4, 3, 2, 3, 3, 1));
    check_all(conv_shape(1, 2, 13, 3, 3, 1, 7, 6, 1)); /* a window larger than the image */
    check_all(conv_shape(1, 2, 17, 3, 3, 4, 6, 6, 1));
    check_all(conv_shape(2, 2, 5, 3, 3, 90, 100, 100, 1));
}

static void test_groups(void **state)
{
    (void)state;
    check_all(conv_shape(2, 32, 6, 32, 3, 1, 1, 1, 2));
    check_all(conv_shape(2, 16, 6, 16, 3, 1, 1, 1, 16));
    check_all(conv_shape(2, 6, 6, 12, 3, 2, 1, 1, 3));
    check_all(conv_shape(1, 5, 9, 5, 3, 2, 1, 2, 5)); /* depthwise */
    check_all(conv_shape(17, 67, 5, 67, 3, 1, 1, 1, 67));
    check_all(conv_shape(2, 8, 7, 8, 1, 1, 0, 1, 8));
    check_all(conv_shape(2, 3, 7, 6, 3, 1, 1, 1, 3)); /* two outputs to an input */
}

static void test_one_by_one(void **state)
{
    (void)state;
    check_all(conv_shape(2, 16, 5, 24, 1, 1, 0, 1, 1));
    check_all(conv_shape(2, 16, 5, 24, 1, 2, 0, 1, 1));
    check_all(conv_shape(2, 16, 5, 24, 1, 1, 0, 1, 4));
    check_all(conv_shape(1, 3, 1, 2, 1, 1, 0, 1, 1));
}

/* Several images side by side in a tile. */
static void test_small_image_many_channels(void **state)
{
    (void)state;
    check_all(conv_shape(2, 32, 4, 33, 3, 1, 1, 1, 1));
    check_all(conv_shape(15, 33, 4, 20, 3, 1, 1, 1, 1));
    check_all(conv_shape(9, 32, 6, 48, 3, 2, 1, 1, 1));
    check_all(conv_shape(9, 40, 5, 32, 3, 1, 2, 2, 1));
    check_all(conv_shape(8, 64, 3, 32, 3, 3, 1, 1, 2));
    check_all(conv_shape(1, 8, 3, 256, 3, 1, 1, 1, 1));
    check_all(conv_shape(1, 2, 5, 17, 3, 1, 1, 1, 1));
}

/* More than one strip of rows, panel of channels and range of them. */
static void test_large(void **state)
{
    (void)state;
    check_all(conv_shape(1, 1, 90, 7, 5, 1, 2, 1, 1));
    check_all(conv_shape(1, 40, 50, 3, 3, 1, 1, 1, 1));
    check_all(conv_shape(1, 130, 9, 70, 3, 1, 1, 1, 1));
}

static void test_empty(void **state)
{
    (void)state;
    light_conv_shape s = conv_shape(1, 4, 5, 8, 3, 1, 1, 1, 1);
    s.n = 0;
    check_all(s);
}

static void test_threads_give_the_same_bits(void **state)
{
    (void)state;
    const light_conv_shape shapes[] = {
        conv_shape(16, 16, 14, 32, 3, 1, 1, 1, 1), conv_shape(13, 32, 14, 32, 3, 2, 1, 1, 1),
        conv_shape(7, 1, 28, 6, 5, 1, 2, 1, 1),    conv_shape(9, 16, 12, 16, 1, 1, 0, 1, 1),
        conv_shape(8, 3, 20, 32, 3, 1, 1, 1, 1),   conv_shape(4, 64, 4, 256, 3, 1, 1, 1, 1),
        conv_shape(20, 33, 6, 40, 3, 1, 1, 1, 1),  conv_shape(5, 24, 9, 24, 3, 2, 1, 1, 24),
    };
    const int threads = light_team_size();
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int d = 0; d < 4; d++)
            for (int pass = 0; pass < 3; pass++) {
                problem p = new_problem(shapes[i], dtypes[d], dtypes[d]);
                buffer *out = result_of(&p, (light_conv_pass)pass);
                light_set_num_threads(1);
                run(&p, (light_conv_pass)pass, false, false);
                buffer first = copy_buffer(out);
                memcpy(first.block, out->block, block_bytes(out));
                for (int n = 2; n <= 5; n++) {
                    memset(out->data, 0x77, (size_t)out->count * light_dtype_size(out->dtype));
                    light_set_num_threads(n);
                    run(&p, (light_conv_pass)pass, false, false);
                    assert_memory_equal(out->block, first.block, block_bytes(out));
                }
                free_buffer(&first);
                free_problem(&p);
            }
    light_set_num_threads(threads);
}

static void test_column_sums(void **state)
{
    (void)state;
    const int threads = light_team_size();
    static const int64_t sizes[][2] = {{0, 3}, {1, 1}, {5, 7}, {1000, 10}, {333, 257}, {70000, 3}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int d = 0; d < 4; d++)
            for (int accumulate = 0; accumulate < 2; accumulate++) {
                const int64_t m = sizes[i][0], n = sizes[i][1];
                buffer x = new_buffer(dtypes[d], m * n), start = new_buffer(dtypes[d], n),
                       one = copy_buffer(&start);
                light_set_num_threads(1);
                assert_int_equal(
                    light_cpu_column_sums(m, n, dtypes[d], x.data, one.data, dtypes[d], accumulate),
                    LIGHT_OK);
                buffer many = copy_buffer(&start);
                light_set_num_threads(3);
                assert_int_equal(
                    light_cpu_column_sums(m, n, dtypes[d], x.data, many.data, dtypes[d], accumulate),
                    LIGHT_OK);
                assert_memory_equal(one.block, many.block, block_bytes(&one));
                decode(&one);
                for (int64_t j = 0; j < n; j++) {
                    double sum = 0;
                    for (int64_t r = 0; r < m; r++) sum += x.value[r * n + j];
                    const double want = sum + (accumulate ? start.value[j] : 0);
                    const double limit =
                        dtype_epsilon(dtypes[d]) * (fabs(want) + 1) + 1e-6 * (double)m * 0.01;
                    assert_true(fabs(one.value[j] - want) <= limit);
                }
                free_buffer(&x), free_buffer(&start), free_buffer(&one), free_buffer(&many);
            }
    light_set_num_threads(threads);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_stride_and_dilation),
        cmocka_unit_test(test_padding),
        cmocka_unit_test(test_windows_apart),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_one_by_one),
        cmocka_unit_test(test_small_image_many_channels),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_threads_give_the_same_bits),
        cmocka_unit_test(test_column_sums),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
