/* SPDX-License-Identifier: Apache-2.0 */
/* The state tree: what is put comes back, conversions lose nothing, failures name the value and change nothing. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/state.h"

static void values_come_back(void **unused)
{
    (void)unused;
    light_state *state = light_state_new();
    assert_non_null(state);
    assert_true(light_state_empty(state));
    assert_int_equal(light_state_put(state, "f", 0.1f), LIGHT_OK);
    assert_int_equal(light_state_put(state, "d", 0.1), LIGHT_OK);
    assert_int_equal(light_state_put(state, "i", -3), LIGHT_OK);
    assert_int_equal(light_state_put(state, "big", INT64_MIN), LIGHT_OK);
    assert_int_equal(light_state_put(state, "seed", UINT64_C(0xFFFFFFFFFFFFFFFE)), LIGHT_OK);
    assert_int_equal(light_state_put(state, "yes", true), LIGHT_OK);
    assert_int_equal(light_state_put(state, "text", "a \"b\" / c"), LIGHT_OK);
    assert_int_equal(light_state_put(state, "nan", (double)NAN), LIGHT_OK);

    float f = 0;
    double d = 0;
    int i = 0;
    int64_t big = 0;
    uint64_t seed = 0;
    bool yes = false;
    const char *text = NULL;
    assert_int_equal(light_state_get(state, "f", &f), LIGHT_OK);
    assert_true(f == 0.1f);
    assert_int_equal(light_state_get(state, "d", &d), LIGHT_OK);
    assert_true(d == 0.1);
    assert_int_equal(light_state_get(state, "i", &i), LIGHT_OK);
    assert_int_equal(i, -3);
    assert_int_equal(light_state_get(state, "big", &big), LIGHT_OK);
    assert_true(big == INT64_MIN);
    assert_int_equal(light_state_get(state, "seed", &seed), LIGHT_OK);
    assert_true(seed == UINT64_C(0xFFFFFFFFFFFFFFFE));
    assert_int_equal(light_state_get(state, "yes", &yes), LIGHT_OK);
    assert_true(yes);
    assert_int_equal(light_state_get(state, "text", &text), LIGHT_OK);
    assert_string_equal(text, "a \"b\" / c");
    assert_int_equal(light_state_get(state, "nan", &f), LIGHT_OK);
    assert_true(isnan(f));
    assert_false(light_state_empty(state));
    assert_true(light_state_has(state, "text"));
    assert_false(light_state_has(state, "tex"));
    light_state_free(state);
    light_state_free(NULL);
}

static void arrays_are_copied(void **unused)
{
    (void)unused;
    light_state *state = light_state_new();
    double d[] = {1.5, -0.0, INFINITY};
    int64_t i[] = {1, INT64_MAX};
    unsigned char b[] = {0, 255, 7};
    assert_int_equal(light_state_put_doubles(state, "d", d, 3), LIGHT_OK);
    assert_int_equal(light_state_put_int64s(state, "i", i, 2), LIGHT_OK);
    assert_int_equal(light_state_put_bytes(state, "b", b, sizeof b), LIGHT_OK);
    assert_int_equal(light_state_put_bytes(state, "none", NULL, 0), LIGHT_OK);
    d[0] = 0, i[0] = 0, b[1] = 0;
    const double *dp;
    const int64_t *ip;
    const void *bp;
    size_t n;
    assert_int_equal(light_state_get_doubles(state, "d", &dp, &n), LIGHT_OK);
    assert_int_equal(n, 3);
    assert_true(dp[0] == 1.5 && signbit(dp[1]) && isinf(dp[2]));
    assert_int_equal(light_state_get_int64s(state, "i", &ip, &n), LIGHT_OK);
    assert_int_equal(n, 2);
    assert_true(ip[0] == 1 && ip[1] == INT64_MAX);
    assert_int_equal(light_state_get_bytes(state, "b", &bp, &n), LIGHT_OK);
    assert_int_equal(n, 3);
    assert_memory_equal(bp, "\0\xff\x07", 3);
    assert_int_equal(light_state_get_bytes(state, "none", &bp, &n), LIGHT_OK);
    assert_int_equal(n, 0);
    light_state_free(state);
}

static void conversions_lose_nothing(void **unused)
{
    (void)unused;
    light_state *state = light_state_new();
    light_state_put(state, "three", 3.0);
    light_state_put(state, "half", 0.5);
    light_state_put(state, "tenth", 0.1);
    light_state_put(state, "huge", 1e30);
    light_state_put(state, "max", INT64_MAX);
    light_state_put(state, "two", 2);

    int i = 42;
    int64_t i64 = 42;
    float f = 42;
    double d = 42;
    bool b = true;
    assert_int_equal(light_state_get(state, "three", &i), LIGHT_OK);
    assert_int_equal(i, 3);
    assert_int_equal(light_state_get(state, "two", &d), LIGHT_OK);
    assert_true(d == 2);
    i = 42, d = 42;
    assert_int_equal(light_state_get(state, "half", &i), LIGHT_ERR_ARGUMENT);
    assert_int_equal(light_state_get(state, "huge", &i64), LIGHT_ERR_ARGUMENT);
    assert_int_equal(light_state_get(state, "max", &i), LIGHT_ERR_ARGUMENT);
    assert_int_equal(light_state_get(state, "max", &d), LIGHT_ERR_ARGUMENT);
    assert_int_equal(light_state_get(state, "tenth", &f), LIGHT_ERR_ARGUMENT);
    assert_int_equal(light_state_get(state, "two", &b), LIGHT_ERR_ARGUMENT);
    assert_true(i == 42 && i64 == 42 && f == 42 && d == 42 && b);
    light_state_free(state);
}

static void groups_nest_and_name_failures(void **unused)
{
    (void)unused;
    light_state *state = light_state_new();
    light_state *fit = light_state_group(light_state_group(state, "loops"), "fit");
    assert_non_null(fit);
    assert_ptr_equal(light_state_group(light_state_group(state, "loops"), "fit"), fit);
    assert_ptr_equal(light_state_find_group(light_state_find_group(state, "loops"), "fit"), fit);
    assert_null(light_state_find_group(state, "fit"));
    assert_null(light_state_find_group(NULL, "fit"));
    light_state_put(fit, "epoch", 3);

    int i = 7;
    const char *text = NULL;
    assert_int_equal(light_state_get(fit, "step", &i), LIGHT_ERR_NOT_FOUND);
    assert_non_null(strstr(light_error_message(), "'loops/fit/step'"));
    assert_int_equal(light_state_get(fit, "epoch", &text), LIGHT_ERR_ARGUMENT);
    assert_non_null(strstr(light_error_message(), "'loops/fit/epoch'"));
    assert_int_equal(light_state_get((const light_state *)NULL, "step", &i), LIGHT_ERR_NOT_FOUND);
    assert_int_equal(light_state_get(state, "loops", &i), LIGHT_ERR_ARGUMENT);
    assert_int_equal(light_state_put(state, "loops", 1), LIGHT_ERR_ARGUMENT);
    assert_null(light_state_group(fit, "epoch"));
    assert_int_equal(light_state_put(fit, "", 1), LIGHT_ERR_ARGUMENT);
    assert_int_equal(light_state_put((light_state *)NULL, "x", 1), LIGHT_ERR_ARGUMENT);
    assert_int_equal(light_state_put_string(fit, "null", NULL), LIGHT_ERR_ARGUMENT);
    assert_false(light_state_has(fit, "null"));
    assert_int_equal(i, 7);
    light_state_free(state);
}

static void putting_again_replaces(void **unused)
{
    (void)unused;
    light_state *state = light_state_new();
    light_state_put(state, "x", "text");
    light_state_put(state, "y", 1);
    light_state_put(state, "x", 2.5);
    double d = 0;
    assert_int_equal(light_state_get(state, "x", &d), LIGHT_OK);
    assert_true(d == 2.5);
    assert_int_equal(light_state_count(state), 2);
    assert_string_equal(light_state_at(state, 0).name, "x");
    assert_int_equal(light_state_at(state, 0).type, LIGHT_STATE_DOUBLE);
    light_state_free(state);
}

static light_state *example(void)
{
    light_state *state = light_state_new();
    if (!state) return NULL;
    light_state *group = light_state_group(state, "group");
    light_status status = group ? LIGHT_OK : LIGHT_ERR_MEMORY;
    char name[] = "a";
    for (; status == LIGHT_OK && name[0] < 'm'; name[0]++) status = light_state_put(group, name, "value");
    if (status == LIGHT_OK) status = light_state_put(state, "pi", 3.14);
    if (status == LIGHT_OK) return state;
    assert_int_equal(status, LIGHT_ERR_MEMORY);
    light_state_free(state);
    return NULL;
}

static void every_failed_allocation_is_survived(void **unused)
{
    (void)unused;
    light_state *whole = example();
    int64_t live = light_memory_count().live;
    for (int64_t n = 1;; n++) {
        light_memory_fail_nth(n);
        light_state *state = example();
        light_memory_fail_nth(0);
        if (state) {
            assert_true(n > 20);
            assert_true(light_state_equal(state, whole));
            light_state_free(state);
            break;
        }
        assert_int_equal(light_memory_count().live, live);
    }
    light_state_free(whole);
}

static void equal_sees_every_difference(void **unused)
{
    (void)unused;
    light_state *a = example(), *b = example();
    assert_true(light_state_equal(a, b));
    light_state_put(light_state_group(b, "group"), "c", "valuE");
    assert_false(light_state_equal(a, b));
    light_state_put(light_state_group(b, "group"), "c", "value");
    assert_true(light_state_equal(a, b));
    light_state_put(b, "pi", 3);
    assert_false(light_state_equal(a, b));
    light_state_put(b, "pi", 3.14);
    light_state_group(b, "more");
    assert_false(light_state_equal(a, b));
    assert_false(light_state_equal(a, NULL));
    light_state_free(a);
    light_state_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_come_back),
        cmocka_unit_test(arrays_are_copied),
        cmocka_unit_test(conversions_lose_nothing),
        cmocka_unit_test(groups_nest_and_name_failures),
        cmocka_unit_test(putting_again_replaces),
        cmocka_unit_test(every_failed_allocation_is_survived),
        cmocka_unit_test(equal_sees_every_difference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
