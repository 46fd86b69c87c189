/* SPDX-License-Identifier: Apache-2.0 */
/* Elements found by index. */
#include "support/op_check.h"

#include "cpu/once/team.h"

#include <stdlib.h>

static light_tensor *apply_gather(light_step *s, light_tensor **in, const void *user)
{
    return light_gather(s, in[0], *(const int *)user, in[1]);
}

static const double along_rows[] = {0, 3, 3, 1, 2, 2}, along_columns[] = {2, 0, 1, 1, 2, 0, 2, 2};

static void reference_gather(const double *const *in, double *out, const void *user)
{
    if (*(const int *)user == 1)
        for (int i = 0; i < 6; i++) out[i] = in[0][i / 2 * 4 + (int)along_rows[i]];
    else
        for (int i = 0; i < 8; i++) out[i] = in[0][(int)along_columns[i] * 4 + i % 4];
}

static void gathering(void **state)
{
    static const light_dtype dtypes[] = {LIGHT_I32, LIGHT_I64};
    (void)state;
    for (int d = 0; d < 2; d++) {
        for (int dim = 0; dim < 2; dim++)
            check_op(&(op_check){.name = "gather",
                                 .apply = apply_gather,
                                 .reference = reference_gather,
                                 .user = &dim,
                                 .in = {{.shape = LIGHT_SHAPE(3, 4)},
                                        {.shape = dim ? LIGHT_SHAPE(3, 2) : LIGHT_SHAPE(2, 4),
                                         .dtype = dtypes[d],
                                         .values = dim ? along_rows : along_columns}},
                                 .count = 2,
                                 .out = dim ? LIGHT_SHAPE(3, 2) : LIGHT_SHAPE(2, 4)});
    }
}

static light_tensor *apply_select(light_step *s, light_tensor **in, const void *user)
{
    return light_index_select(s, in[0], *(const int *)user, in[1]);
}

static const double chosen[] = {2, 0, 2, 1, 1};

static void reference_select(const double *const *in, double *out, const void *user)
{
    int dim = *(const int *)user, after = dim == 0 ? 9 : dim == 1 ? 3 : 1, before = 27 / after / 3;
    for (int b = 0; b < before; b++)
        for (int k = 0; k < 5; k++)
            for (int a = 0; a < after; a++)
                out[(b * 5 + k) * after + a] = in[0][(b * 3 + (int)chosen[k]) * after + a];
}

static void selecting(void **state)
{
    (void)state;
    for (int dim = 0; dim < 3; dim++) {
        light_shape out = LIGHT_SHAPE(3, 3, 3);
        out.dims[dim] = 5;
        check_op(&(op_check){.name = "index_select",
                             .apply = apply_select,
                             .reference = reference_select,
                             .user = &dim,
                             .in = {{.shape = LIGHT_SHAPE(3, 3, 3)},
                                    {.shape = LIGHT_SHAPE(5), .dtype = LIGHT_I64, .values = chosen}},
                             .count = 2,
                             .out = out});
    }
}

static void one_hot(void **state)
{
    (void)state;
    light_step *s = new_step();
    light_tensor *index = from_doubles(s, LIGHT_SHAPE(2, 2), LIGHT_I32, (double[]){0, 2, 1, 2});
    light_tensor *y = light_one_hot(s, index, 3);
    assert_int_equal(light_dtype_of(y), LIGHT_I64);
    assert_true(light_shape_equal(light_shape_of(y), LIGHT_SHAPE(2, 2, 3)));
    assert_values(y, (double[]){1, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1}, 0);
    y = light_one_hot(s, light_transpose(s, index, 0, 1), 3);
    assert_values(y, (double[]){1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1}, 0);
    assert_step_ok(s);
    light_step_free(s);
}

/* The gradients of gather and index_select, where n indices meet in few places, against sums that are exact in f32. */
static void check_meetings(int64_t lines, int64_t places, int64_t n, bool select)
{
    light_shape shape = LIGHT_SHAPE(lines, places), gshape = LIGHT_SHAPE(lines, n);
    double *zeros = new_doubles(lines * places), *sums = new_doubles(lines * places);
    double *g = new_doubles(lines * n), *index = new_doubles(lines * n);

    for (int64_t i = 0; i < lines * n; i++) {
        index[i] = (double)((select ? i % n : i) * 29 % 101 % places);
        g[i] = (double)(i * 37 % 17 - 8);
        sums[i / n * places + (int64_t)index[i]] += g[i];
    }
    light_step *s = new_step();
    light_tensor *x = new_from_doubles(shape, LIGHT_F32, zeros);
    light_set_requires_grad(x, true);
    light_tensor *at = from_doubles(s, select ? LIGHT_SHAPE(n) : gshape, LIGHT_I64, index);
    light_tensor *y = select ? light_index_select(s, x, 1, at) : light_gather(s, x, 1, at);
    assert_int_equal(light_backward_from(s, y, from_doubles(s, gshape, LIGHT_F32, g)), LIGHT_OK);
    assert_values(light_grad(x), sums, 0);
    light_step_free(s);
    light_tensor_free(x);
    free(zeros);
    free(sums);
    free(g);
    free(index);
}

static void indices_that_meet(void **state)
{
    (void)state;
    for (int select = 0; select < 2; select++) {
        check_meetings(3, 5, 9, select);
        check_meetings(2, 90, 3000, select);
        check_meetings(300, 1, 40, select);
        check_meetings(1, 2, 5000, select);
    }
}

static void an_index_out_of_range_is_named(void **state)
{
    (void)state;
    light_step *s = new_step();
    light_tensor *x = light_ones(s, LIGHT_SHAPE(3, 4), LIGHT_F32);
    light_gather(s, x, 1, from_doubles(s, LIGHT_SHAPE(1, 3), LIGHT_I64, (double[]){1, 4, 9}));
    assert_index_error(s, "gather: index 4 at position 1 is out of range: there are 4 elements",
                       "is out of range, there are 4");
    light_step_begin(s);
    x = light_ones(s, LIGHT_SHAPE(3, 4), LIGHT_F32);
    light_index_select(s, x, 0, from_doubles(s, LIGHT_SHAPE(2), LIGHT_I64, (double[]){0, -1}));
    assert_index_error(s, "index_select: index -1 at position 1 is out of range: there are 3",
                       "INDEX_SELECT: index -1 is out of range, there are 3");
    light_step_begin(s);
    light_one_hot(s, from_doubles(s, LIGHT_SHAPE(2), LIGHT_I64, (double[]){7, 1}), 7);
    assert_index_error(s, "one_hot: index 7 at position 0 is out of range: there are 7",
                       "ONE_HOT: index 7 is out of range, there are 7");
    light_step_begin(s);
    x = light_ones(s, LIGHT_SHAPE(3, 4), LIGHT_F32);
    light_gather(s, x, 0, x);
    assert_step_failed(s, LIGHT_ERR_DTYPE, "gather: the index is f32, it must be i32 or i64");
    light_step_free(s);
}

/* Many rows are added to few places; the bits do not depend on the number of threads. */
static void same_bits_for_any_threads(void **state)
{
    enum { ROWS = 3000, WIDTH = 40, PLACES = 7 };
    static float first[2][PLACES * WIDTH], again[2][PLACES * WIDTH];
    int most = light_team_size();
    (void)state;
    for (int threads = 1; threads <= 4; threads += 3) {
        light_step *s = new_step();
        light_set_num_threads(threads);
        light_tensor *places = light_randint(s, 0, PLACES, LIGHT_SHAPE(ROWS), LIGHT_I64);
        light_tensor *g = light_randn(s, LIGHT_SHAPE(ROWS, WIDTH), LIGHT_F32);
        for (int k = 0; k < 2; k++) {
            light_tensor *x = light_zeros(s, LIGHT_SHAPE(PLACES, WIDTH), LIGHT_F32);
            light_set_requires_grad(x, true);
            light_tensor *wide = light_expand(s, light_unsqueeze(s, places, 1), LIGHT_SHAPE(ROWS, WIDTH));
            light_tensor *all = light_expand(s, light_unsqueeze(s, x, 0), LIGHT_SHAPE(1, PLACES, WIDTH));
            light_tensor *y =
                k ? light_index_select(s, x, 0, places)
                  : light_gather(s, light_cat(s, (light_tensor *[]){light_squeeze(s, all, 0)}, 1, 0), 0,
                                 light_slice(s, wide, 0, 0, PLACES, 1));
            light_tensor *part = k ? g : light_slice(s, g, 0, 0, PLACES, 1);
            light_step_retain(s, true);
            if (light_backward_from(s, y, part) != LIGHT_OK) fail_msg("%s", light_error_message());
            float *to = threads == 1 ? first[k] : again[k];
            assert_int_equal(light_tensor_read(light_grad(x), LIGHT_F32, to, sizeof first[k]), LIGHT_OK);
            if (threads > 1) assert_memory_equal(first[k], again[k], sizeof first[k]);
        }
        light_step_free(s);
    }
    light_set_num_threads(most);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gathering),
        cmocka_unit_test(selecting),
        cmocka_unit_test(one_hot),
        cmocka_unit_test(indices_that_meet),
        cmocka_unit_test(an_index_out_of_range_is_named),
        cmocka_unit_test(same_bits_for_any_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
