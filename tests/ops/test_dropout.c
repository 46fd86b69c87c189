/* SPDX-License-Identifier: Apache-2.0 */
/* Dropout: which elements go, their scale, the gradient's mask, modes. */
#include "support/op_check.h"

#include "base/philox.h"

#include <stdlib.h>

static light_tensor *apply(light_step *s, light_tensor **in, const void *user)
{
    return light_dropout(s, in[0], *(const double *)user);
}

enum { N = 2 * 3 * 4 * 5 };

/* Element i of memory goes when its uniform number is below p: one Philox block for four elements. */
static void keep_mask(double p, bool channels_last, double *scale)
{
    uint32_t key[2], bits[4];
    uint64_t counter = (uint64_t)OP_COUNTER << 24; /* the step's number, first random operation */

    light_rng_key(5, LIGHT_RNG_STEP, 0, key);
    for (int i = 0; i < N; i++) {
        int memory = channels_last ? (i / 60 * 20 + i % 20) * 3 + i / 20 % 3 : i;
        light_philox_at(key, (uint64_t)memory / 4, counter, bits);
        scale[i] = light_uniform(bits[memory % 4]) >= (float)p ? 1 / (1 - p) : 0;
    }
}

static void chosen_elements(void **state)
{
    double x[N], mask[N], expected[N], ps[] = {0.25, 0.5, 0.875};

    (void)state;
    spread_values(x, N, -2, 2, 1);
    for (int k = 0; k < 3; k++) {
        for (int last = 0; last < 2; last++) {
            op_check check = {.name = "dropout",
                              .apply = apply,
                              .user = &ps[k],
                              .count = 1,
                              .in = {{.shape = LIGHT_SHAPE(2, 3, 4, 5), .values = x}},
                              .layouts = 1u << (last ? OP_CHANNELS_LAST : OP_ROW_MAJOR),
                              .out = LIGHT_SHAPE(2, 3, 4, 5),
                              .expected = expected};
            int kept = 0;
            keep_mask(ps[k], last, mask);
            for (int i = 0; i < N; i++) {
                expected[i] = x[i] * mask[i];
                kept += mask[i] > 0;
            }
            assert_true(kept > N * (1 - ps[k]) - 20 && kept < N * (1 - ps[k]) + 20);
            check_op(&check);
        }
    }
}

static void everything_goes(void **state)
{
    double x[N], zeros[N] = {0}, p = 1;
    op_check check = {.name = "dropout",
                      .apply = apply,
                      .user = &p,
                      .count = 1,
                      .in = {{.shape = LIGHT_SHAPE(N), .values = x}},
                      .out = LIGHT_SHAPE(N),
                      .expected = zeros};

    (void)state;
    spread_values(x, N, -2, 2, 1);
    check_op(&check);
}

static void same_bits_for_all_threads(void **state)
{
    int64_t n = 70001;
    double *x = malloc((size_t)n * sizeof *x), p = 0.3;
    op_check check = {.name = "dropout",
                      .apply = apply,
                      .user = &p,
                      .count = 1,
                      .in = {{.shape = LIGHT_SHAPE(n), .values = x}},
                      .out = LIGHT_SHAPE(n)};

    (void)state;
    assert_non_null(x);
    rough_values(x, n, 2);
    check_op_threads(&check);
    free(x);
}

static void other_modes(void **state)
{
    const double x[4] = {1, 2, 3, 4};
    light_tensor *t = new_from_doubles(LIGHT_SHAPE(4), LIGHT_F32, x);
    light_step *s;
    double zero = 0, p = 1.5;
    op_check wrong = {.name = "dropout",
                      .apply = apply,
                      .user = &p,
                      .count = 1,
                      .in = {{.shape = LIGHT_SHAPE(1), .values = &zero}}};

    (void)state;
    check_op_fails(&wrong, LIGHT_F32, LIGHT_ERR_ARGUMENT, "p must be in [0, 1], it is 1.5");
    assert_int_equal(light_step_new(&s, .seed = 1, .inference = true), LIGHT_OK);
    assert_int_equal(light_step_begin(s), LIGHT_OK);
    assert_ptr_equal(light_dropout(s, t, 0.5), t); /* outside training nothing happens */
    light_step_free(s);
    assert_int_equal(light_step_new(&s, .seed = 1), LIGHT_OK);
    assert_int_equal(light_step_begin(s), LIGHT_OK);
    assert_ptr_equal(light_dropout(s, t, 0), t);
    assert_ptr_not_equal(light_dropout(s, t, 0.5), t);
    light_step_free(s);
    light_tensor_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chosen_elements),
        cmocka_unit_test(everything_goes),
        cmocka_unit_test(same_bits_for_all_threads),
        cmocka_unit_test(other_modes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
