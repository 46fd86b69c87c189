/* SPDX-License-Identifier: Apache-2.0 */
/* Views, parts, joining. */
#include "support/op_check.h"

#include "autograd/op.h"

#include <string.h>

/* Every case is given by where each element of the result comes from. */
typedef struct move {
    const char *name;
    light_tensor *(*apply)(light_step *s, light_tensor **in, const void *user);
    light_shape in, out;
    int64_t (*source)(const int64_t *index); /* -1: the constant 0.5 */
} move;

static light_tensor *apply_move(light_step *s, light_tensor **in, const void *user)
{
    return ((const move *)user)->apply(s, in, NULL);
}

static void reference_move(const double *const *in, double *out, const void *user)
{
    const move *m = user;
    int64_t index[LIGHT_MAX_DIMS] = {0};
    for (int64_t i = 0; i < light_shape_numel(m->out); i++) {
        int64_t rest = i, from;
        for (int d = m->out.ndim - 1; d >= 0; d--) {
            index[d] = rest % m->out.dims[d];
            rest /= m->out.dims[d];
        }
        index[7] = i;
        from = m->source(index);
        out[i] = from < 0 ? 0.5 : in[0][from];
    }
}

#define APPLY(name, expression)                                                                              \
    static light_tensor *name(light_step *s, light_tensor **in, const void *user)                            \
    {                                                                                                        \
        (void)user;                                                                                          \
        return expression;                                                                                   \
    }
#define SOURCE(name, expression)                                                                             \
    static int64_t name(const int64_t *i)                                                                    \
    {                                                                                                        \
        return expression;                                                                                   \
    }
/* The input is [2, 3, 4, 5]. */
#define AT(a, b, c, d) ((((a)*3 + (b)) * 4 + (c)) * 5 + (d))
APPLY(reshape, light_reshape(s, in[0], LIGHT_SHAPE(6, -1, 2)))
APPLY(reshape_split, light_reshape(s, in[0], LIGHT_SHAPE(2, 3, 2, 2, 5, 1)))
APPLY(flatten, light_flatten(s, in[0], 1))
APPLY(permute, light_permute(s, in[0], LIGHT_DIMS(2, 0, -1, 1)))
APPLY(transpose, light_transpose(s, in[0], 1, -1))
APPLY(unsqueeze, light_unsqueeze(s, in[0], -2))
APPLY(squeeze, light_squeeze(s, light_reshape(s, in[0], LIGHT_SHAPE(6, 1, 20)), 1))
APPLY(select_one, light_select(s, in[0], 2, -3))
APPLY(slice_some, light_slice(s, in[0], 3, 1, INT64_MAX, 2))
APPLY(slice_negative, light_slice(s, in[0], 1, -2, -1, 1))
APPLY(slice_nothing, light_slice(s, in[0], 1, 2, 1, 1))
APPLY(contiguous, light_contiguous(s, light_permute(s, in[0], LIGHT_DIMS(3, 2, 1, 0))))
APPLY(reshape_permuted, light_reshape(s, light_permute(s, in[0], LIGHT_DIMS(0, 2, 1, 3)), LIGHT_SHAPE(8, 15)))
APPLY(pad, light_pad(s, in[0], (const int64_t[]){1, 0, 0, 2}, 4, 0.5))
APPLY(crop, light_pad(s, in[0], (const int64_t[]){-1, 2, -1, -2}, 4, 0.5))
APPLY(chain, light_transpose(s, light_select(s, light_slice(s, in[0], 3, 0, 4, 3), 0, 1), 0, 2))
SOURCE(same, i[7])
SOURCE(from_permute, AT(i[1], i[3], i[0], i[2]))
SOURCE(from_transpose, AT(i[0], i[3], i[2], i[1]))
SOURCE(from_select, AT(i[0], i[1], 1, i[2]))
SOURCE(from_slice, AT(i[0], i[1], i[2], 1 + 2 * i[3]))
SOURCE(from_negative, AT(i[0], 1 + i[1], i[2], i[3]))
SOURCE(from_contiguous, AT(i[3], i[2], i[1], i[0]))
SOURCE(from_reshape_permuted, AT(i[0] / 4, i[1] / 5, i[0] % 4, i[1] % 5))
SOURCE(from_pad, i[3] < 1 || i[2] >= 4 ? -1 : AT(i[0], i[1], i[2], i[3] - 1))
SOURCE(from_crop, i[3] >= 4 ? -1 : AT(i[0], i[1], i[2] + 1, i[3] + 1))
SOURCE(from_chain, AT(1, i[2], i[1], 3 * i[0]))

static void windows_and_copies(void **state)
{
    const light_shape x = LIGHT_SHAPE(2, 3, 4, 5);
    const move moves[] = {
        {"reshape", reshape, x, LIGHT_SHAPE(6, 10, 2), same},
        {"reshape", reshape_split, x, LIGHT_SHAPE(2, 3, 2, 2, 5, 1), same},
        {"flatten", flatten, x, LIGHT_SHAPE(2, 60), same},
        {"permute", permute, x, LIGHT_SHAPE(4, 2, 5, 3), from_permute},
        {"transpose", transpose, x, LIGHT_SHAPE(2, 5, 4, 3), from_transpose},
        {"unsqueeze", unsqueeze, x, LIGHT_SHAPE(2, 3, 4, 1, 5), same},
        {"squeeze", squeeze, x, LIGHT_SHAPE(6, 20), same},
        {"select", select_one, x, LIGHT_SHAPE(2, 3, 5), from_select},
        {"slice", slice_some, x, LIGHT_SHAPE(2, 3, 4, 2), from_slice},
        {"slice", slice_negative, x, LIGHT_SHAPE(2, 1, 4, 5), from_negative},
        {"slice", slice_nothing, x, LIGHT_SHAPE(2, 0, 4, 5), same},
        {"contiguous", contiguous, x, LIGHT_SHAPE(5, 4, 3, 2), from_contiguous},
        {"reshape", reshape_permuted, x, LIGHT_SHAPE(8, 15), from_reshape_permuted},
        {"pad", pad, x, LIGHT_SHAPE(2, 3, 6, 6), from_pad},
        {"pad", crop, x, LIGHT_SHAPE(2, 3, 1, 6), from_crop},
        {"chain", chain, x, LIGHT_SHAPE(2, 4, 3), from_chain},
    };
    (void)state;
    for (size_t i = 0; i < sizeof moves / sizeof *moves; i++)
        check_op(&(op_check){.name = moves[i].name,
                             .apply = apply_move,
                             .reference = reference_move,
                             .user = &moves[i],
                             .in = {{.shape = moves[i].in}},
                             .out = moves[i].out});
}

/* ---- expand ------------------------------------------------------------- */

APPLY(expand, light_expand(s, in[0], LIGHT_SHAPE(2, -1, 4)))
static void reference_expand(const double *const *in, double *out, const void *user)
{
    (void)user;
    for (int i = 0; i < 24; i++) out[i] = in[0][i / 4 % 3];
}

static void expanding(void **state)
{
    (void)state;
    check_op(&(op_check){.name = "expand",
                         .apply = expand,
                         .reference = reference_expand,
                         .in = {{.shape = LIGHT_SHAPE(3, 1)}},
                         .out = LIGHT_SHAPE(2, 3, 4),
                         .terms = 8});
}

/* ---- split, cat, stack -------------------------------------------------- */

/* The second piece has no part in the result: its gradient is zero. */
static light_tensor *apply_split(light_step *s, light_tensor **in, const void *user)
{
    light_tensor *parts[3];
    (void)user;
    if (!light_split(s, in[0], 2, 1, parts, 3)) return NULL;
    return light_add(s, parts[0], parts[2]);
}

static void reference_split(const double *const *in, double *out, const void *user)
{
    (void)user;
    for (int i = 0; i < 6; i++) out[i] = in[0][i / 2 * 5 + i % 2] + in[0][i / 2 * 5 + 4];
}

/* More pieces than one operation can have. */
static light_tensor *apply_many(light_step *s, light_tensor **in, const void *user)
{
    light_tensor *parts[40];
    (void)user;
    if (!light_split(s, in[0], 1, 1, parts, 40)) return NULL;
    for (int i = 0; i < 20; i++) {
        light_tensor *swapped = parts[i];
        parts[i] = parts[39 - i];
        parts[39 - i] = swapped;
    }
    return light_cat(s, parts, 40, 1);
}

static void reference_many(const double *const *in, double *out, const void *user)
{
    (void)user;
    for (int i = 0; i < 80; i++) out[i] = in[0][i / 40 * 40 + 39 - i % 40];
}

APPLY(cat, light_cat(s, (light_tensor *[]){in[0], in[1], in[0]}, 3, -1))
static void reference_cat(const double *const *in, double *out, const void *user)
{
    (void)user;
    for (int r = 0; r < 3; r++)
        for (int c = 0; c < 8; c++)
            out[r * 8 + c] = c < 2 ? in[0][r * 2 + c] : c < 6 ? in[1][r * 4 + c - 2] : in[0][r * 2 + c - 6];
}

APPLY(stack, light_stack(s, (light_tensor *[]){in[0], in[1]}, 2, 1))
static void reference_stack(const double *const *in, double *out, const void *user)
{
    (void)user;
    for (int i = 0; i < 12; i++) out[i] = in[i / 2 % 2][i / 4 * 2 + i % 2];
}

static void splitting_and_joining(void **state)
{
    (void)state;
    check_op(&(op_check){.name = "split",
                         .apply = apply_split,
                         .reference = reference_split,
                         .in = {{.shape = LIGHT_SHAPE(3, 5)}},
                         .out = LIGHT_SHAPE(3, 2)});
    check_op(&(op_check){.name = "many pieces",
                         .apply = apply_many,
                         .reference = reference_many,
                         .in = {{.shape = LIGHT_SHAPE(2, 40)}},
                         .out = LIGHT_SHAPE(2, 40)});
    check_op(&(op_check){.name = "cat",
                         .apply = cat,
                         .reference = reference_cat,
                         .in = {{.shape = LIGHT_SHAPE(3, 2)}, {.shape = LIGHT_SHAPE(3, 4)}},
                         .count = 2,
                         .out = LIGHT_SHAPE(3, 8)});
    check_op(&(op_check){.name = "stack",
                         .apply = stack,
                         .reference = reference_stack,
                         .in = {{.shape = LIGHT_SHAPE(3, 2)}, {.shape = LIGHT_SHAPE(3, 2)}},
                         .count = 2,
                         .out = LIGHT_SHAPE(3, 2, 2)});
}

/* ---- memory ------------------------------------------------------------- */

static void views_share_memory(void **state)
{
    (void)state;
    light_step *s = new_step();
    light_tensor *x = light_arange(s, 0, 24, 1, LIGHT_F32);
    light_tensor *matrix = light_reshape(s, x, LIGHT_SHAPE(4, 6));
    assert_ptr_equal(light_data(matrix), light_data(x));
    light_tensor *turned = light_transpose(s, matrix, 0, 1);
    assert_ptr_equal(light_data(turned), light_data(x));
    assert_false(light_is_contiguous(turned));
    assert_ptr_equal(light_data(light_slice(s, matrix, 0, 1, 3, 1)), (float *)light_data(x) + 6);
    /* Dims that lie without gaps join even in a permuted tensor. */
    light_tensor *cube = light_permute(s, light_reshape(s, x, LIGHT_SHAPE(2, 3, 4)), LIGHT_DIMS(1, 2, 0));
    assert_ptr_equal(light_data(light_reshape(s, cube, LIGHT_SHAPE(12, 2))), light_data(x));
    light_tensor *copy = light_reshape(s, cube, LIGHT_SHAPE(24));
    assert_ptr_not_equal(light_data(copy), light_data(x));
    assert_values(light_slice(s, copy, 0, 0, 4, 1), (double[]){0, 12, 1, 13}, 0);
    light_tensor *same = light_contiguous(s, matrix);
    assert_ptr_equal(same, matrix);
    assert_step_ok(s);
    light_step_free(s);
}

/* Elements of a channels-last tensor keep their logical order. */
static void channels_last(void **state)
{
    double expected[24];
    (void)state;
    light_step *s = new_step();
    light_tensor *x = light_reshape(s, light_arange(s, 0, 24, 1, LIGHT_F32), LIGHT_SHAPE(1, 3, 4, 2));
    light_tensor *y = light_step_tensor(s, (light_spec){LIGHT_F32, LIGHT_SHAPE(1, 3, 4, 2), true});
    for (int i = 0; i < 24; i++) expected[i] = i;
    assert_int_equal(light_tensor_write(y, LIGHT_F64, expected, sizeof expected), LIGHT_OK);
    assert_values(light_reshape(s, y, LIGHT_SHAPE(24)), expected, 0);
    assert_values(light_flatten(s, y, 1), expected, 0);
    light_tensor *bias = light_ones(s, LIGHT_SHAPE(3, 1, 1), LIGHT_F32);
    assert_int_equal(light_stride(light_relu(s, y), 1), 1);
    assert_int_equal(light_stride(light_add(s, y, y), 1), 1);
    assert_int_equal(light_stride(light_mul(s, bias, y), 1), 1);
    assert_int_equal(light_stride(light_cat(s, (light_tensor *[]){y, y}, 2, 1), 1), 1);
    assert_int_equal(light_stride(light_relu(s, x), 1), 8);
    assert_step_ok(s);
    light_step_free(s);
}

/* Large enough for blocks and threads. */
static void large_transposes(void **state)
{
    enum { ROWS = 203, COLUMNS = 411 };
    static double expected[ROWS * COLUMNS];
    static double small[ROWS * COLUMNS];
    static const light_dtype dtypes[] = {LIGHT_F64, LIGHT_F32, LIGHT_I32};
    static const light_dtype small_dtypes[] = {LIGHT_BF16, LIGHT_F16, LIGHT_U8, LIGHT_BOOL};
    (void)state;
    light_step *s = new_step();
    for (int i = 0; i < ROWS * COLUMNS; i++) expected[i] = i % ROWS * COLUMNS + i / ROWS;
    for (int d = 0; d < 3; d++) {
        light_tensor *x =
            light_reshape(s, light_arange(s, 0, ROWS * COLUMNS, 1, dtypes[d]), LIGHT_SHAPE(ROWS, COLUMNS));
        assert_values(light_contiguous(s, light_transpose(s, x, 0, 1)), expected, 0);
    }
    for (int d = 0; d < 4; d++) {
        int most = small_dtypes[d] == LIGHT_BOOL ? 2 : 251;
        for (int i = 0; i < ROWS * COLUMNS; i++) small[i] = i % most;
        light_tensor *x = from_doubles(s, LIGHT_SHAPE(ROWS, COLUMNS), small_dtypes[d], small);
        for (int i = 0; i < ROWS * COLUMNS; i++) small[i] = (int)expected[i] % most;
        assert_values(light_contiguous(s, light_transpose(s, x, 0, 1)), small, 0);
    }
    assert_step_ok(s);
    light_step_free(s);
}

static void errors_are_clear(void **state)
{
    light_tensor *parts[3];
    (void)state;
    light_step *s = new_step();
    light_tensor *x = light_ones(s, LIGHT_SHAPE(2, 3), LIGHT_F32);
    light_reshape(s, x, LIGHT_SHAPE(4, -1));
    assert_step_failed(s, LIGHT_ERR_SHAPE, "reshape: [2, 3] cannot become [4, -1]");
    light_step_begin(s);
    x = light_ones(s, LIGHT_SHAPE(2, 3), LIGHT_F32);
    light_select(s, x, 1, 3);
    assert_step_failed(s, LIGHT_ERR_ARGUMENT, "select: index 3 of dim 1, which has 3 elements");
    light_step_begin(s);
    x = light_ones(s, LIGHT_SHAPE(2, 3), LIGHT_F32);
    assert_false(light_split(s, x, 2, 1, parts, 3));
    assert_step_failed(s, LIGHT_ERR_ARGUMENT, "dim 1 of [2, 3] gives 2 pieces of 2, not the 3");
    light_step_begin(s);
    x = light_ones(s, LIGHT_SHAPE(2, 3), LIGHT_F32);
    light_cat(s, (light_tensor *[]){x, light_ones(s, LIGHT_SHAPE(2, 4), LIGHT_F32)}, 2, 0);
    assert_step_failed(s, LIGHT_ERR_SHAPE, "cat: part 1 has shape [2, 4], part 0 has [2, 3]");
    light_step_begin(s);
    x = light_ones(s, LIGHT_SHAPE(2, 3), LIGHT_F32);
    light_permute(s, x, LIGHT_DIMS(0, 0));
    assert_step_failed(s, LIGHT_ERR_ARGUMENT, "permute: each dim of shape [2, 3] must be named once");
    light_step_begin(s);
    x = light_ones(s, LIGHT_SHAPE(2, 3), LIGHT_F32);
    light_flatten(s, x, 2);
    assert_step_failed(s, LIGHT_ERR_ARGUMENT, "flatten: dim 2 of a tensor of shape [2, 3]");
    light_step_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_and_copies),    cmocka_unit_test(expanding),
        cmocka_unit_test(splitting_and_joining), cmocka_unit_test(views_share_memory),
        cmocka_unit_test(channels_last),         cmocka_unit_test(large_transposes),
        cmocka_unit_test(errors_are_clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
