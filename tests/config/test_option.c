/* SPDX-License-Identifier: Apache-2.0 */
/* Options: defaults, from text and back, ranges, choices, merging. */
#include "base/memory.h"
#include "base/string.h"

#include <light/light.h>

#include <float.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

typedef struct thing {
    bool flag;
    int small;
    int64_t large;
    float single;
    double wide;
    light_switch toggle;
    const char *text, *choice, *none;
    double bounded, endless;
    int64_t from_one;
} thing;

enum { FLAG, SMALL, LARGE, SINGLE, WIDE, TOGGLE, TEXT, CHOICE, NONE, BOUNDED, ENDLESS, FROM_ONE };

static const light_option table[] = {
    [FLAG] = LIGHT_OPTION(thing, flag, true, "a flag"),
    [SMALL] = LIGHT_OPTION(thing, small, -3, "an int"),
    [LARGE] = LIGHT_OPTION(thing, large, INT64_C(1) << 40, "an int64_t"),
    [SINGLE] = LIGHT_OPTION(thing, single, 0.1, "a float"),
    [WIDE] = LIGHT_OPTION(thing, wide, 1e-3, "a double"),
    [TOGGLE] = LIGHT_OPTION(thing, toggle, LIGHT_ON, "a switch"),
    [TEXT] = LIGHT_OPTION(thing, text, "hello", "text"),
    [CHOICE] = LIGHT_OPTION_CHOICE(thing, choice, "adam", "adam|sgd|lion", "a choice"),
    [NONE] = LIGHT_OPTION(thing, none, (const char *)NULL, "no default"),
    [BOUNDED] = LIGHT_OPTION_RANGE(thing, bounded, 0.5, 0, 1, "between 0 and 1"),
    [ENDLESS] = LIGHT_OPTION(thing, endless, INFINITY, "infinite"),
    [FROM_ONE] = LIGHT_OPTION_RANGE(thing, from_one, 1, 1, INFINITY, "at least 1"),
    LIGHT_OPTIONS_END,
};

static thing object;

static int defaults(void **state)
{
    (void)state;
    memset(&object, 0x5a, sizeof object);
    light_options_default(table, &object);
    return 0;
}

static const char *get(int i)
{
    static char text[64];
    return light_option_get(&table[i], &object, text, sizeof text);
}

static void set(int i, const char *text)
{
    if (light_option_set(&table[i], &object, text, "--x")) fail_msg("%s: %s", text, light_error_message());
}

static void set_fails(int i, const char *text, const char *message)
{
    thing before;
    memcpy(&before, &object, sizeof before);
    assert_int_equal(light_option_set(&table[i], &object, text, "--x"), LIGHT_ERR_ARGUMENT);
    assert_string_equal(light_error_message(), message);
    assert_memory_equal(&before, &object, sizeof object);
}

static void test_defaults_are_written(void **state)
{
    (void)state;
    assert_true(object.flag);
    assert_int_equal(object.small, -3);
    assert_true(object.large == INT64_C(1) << 40);
    assert_true(object.single == 0.1f);
    assert_true(object.wide == 1e-3);
    assert_int_equal(object.toggle, LIGHT_ON);
    assert_string_equal(object.text, "hello");
    assert_string_equal(object.choice, "adam");
    assert_null(object.none);
    assert_true(object.bounded == 0.5);
    assert_true(isinf(object.endless));
    assert_true(object.from_one == 1);
}

static void test_every_default_comes_back_from_its_text(void **state)
{
    (void)state;
    char text[64];
    for (int i = 0; table[i].name; i++) {
        if (i == NONE) continue;
        snprintf(text, sizeof text, "%s", get(i));
        set(i, text);
        assert_string_equal(get(i), text);
    }
    assert_true(object.single == 0.1f && object.wide == 1e-3 && isinf(object.endless));
}

static void test_words_for_true_and_false(void **state)
{
    (void)state;
    const char *words[][2] = {{"false", "true"}, {"no", "yes"}, {"off", "on"}, {"0", "1"}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        for (int value = 0; value < 2; value++) {
            set(FLAG, words[i][value]);
            set(TOGGLE, words[i][value]);
            assert_int_equal(object.flag, value);
            assert_int_equal(object.toggle, value ? LIGHT_ON : LIGHT_OFF);
            assert_string_equal(get(FLAG), value ? "true" : "false");
            assert_string_equal(get(TOGGLE), value ? "true" : "false");
        }
    set_fails(FLAG, "maybe", "--x \"maybe\": expected true or false");
    set_fails(FLAG, "", "--x \"\": expected true or false");
    set_fails(TOGGLE, "2", "--x \"2\": expected true or false");
}

static void test_whole_numbers(void **state)
{
    (void)state;
    set(SMALL, "-2147483648");
    assert_true(object.small == INT32_MIN);
    set(LARGE, "-9223372036854775808");
    assert_true(object.large == INT64_MIN);
    assert_string_equal(get(LARGE), "-9223372036854775808");
    set(LARGE, "9007199254740993"); /* not a double */
    assert_true(object.large == INT64_C(9007199254740993));
    set(LARGE, "1e6");
    assert_true(object.large == 1000000);
    set_fails(SMALL, "2147483648", "--x 2147483648: is too large");
    set_fails(SMALL, "-1e10", "--x -1e10: is too large");
    set_fails(LARGE, "9223372036854775808", "--x \"9223372036854775808\": expected a whole number");
    set_fails(LARGE, "1.5", "--x \"1.5\": expected a whole number");
    set_fails(LARGE, "12x", "--x \"12x\": expected a whole number");
    set_fails(LARGE, "", "--x \"\": expected a whole number");
    set_fails(LARGE, "inf", "--x \"inf\": expected a whole number");
    set_fails(LARGE, "nan", "--x \"nan\": expected a whole number");
}

static void test_numbers(void **state)
{
    (void)state;
    set(WIDE, "3e-4");
    assert_true(object.wide == 3e-4);
    assert_string_equal(get(WIDE), "0.0003");
    set(SINGLE, "3e-4");
    assert_true(object.single == 3e-4f);
    assert_string_equal(get(SINGLE), "0.0003");
    set_fails(WIDE, "fast", "--x \"fast\": expected a number");
    set_fails(WIDE, "1e-3 ", "--x \"1e-3 \": expected a number");
    set_fails(WIDE, "nan", "--x \"nan\": expected a number");
    set_fails(WIDE, "inf", "--x \"inf\": expected a finite number");
    set_fails(WIDE, "1e999", "--x \"1e999\": expected a finite number");
    set_fails(SINGLE, "1e39", "--x 1e39: is too large");
    set_fails(SINGLE, "", "--x \"\": expected a number");
}

/* A small generator of bit patterns: equal on every machine. */
static uint64_t next_bits(void)
{
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static void test_floats_come_back_to_the_bit(void **state)
{
    (void)state;
    static const double special[] = {0.0, -0.0, 0.1, 1.0 / 3, DBL_MAX, DBL_MIN, 4.9e-324, 1 - DBL_EPSILON / 2,
                                     1e22};
    static const float single[] = {0.0f,    -0.0f,   0.1f,   1.0f / 3,
                                   FLT_MAX, FLT_MIN, 1e-45f, 1 - FLT_EPSILON / 2};
    char text[64];
    for (size_t i = 0; i < 3000; i++) {
        uint64_t bits = next_bits();
        double value;
        memcpy(&value, &bits, sizeof value);
        if (i < sizeof special / sizeof *special) value = special[i];
        if (!isfinite(value)) continue;
        object.wide = value;
        snprintf(text, sizeof text, "%s", get(WIDE));
        object.wide = 7;
        set(WIDE, text);
        assert_memory_equal(&object.wide, &value, sizeof value);
    }
    for (size_t i = 0; i < 3000; i++) {
        uint32_t bits = (uint32_t)next_bits();
        float value;
        memcpy(&value, &bits, sizeof value);
        if (i < sizeof single / sizeof *single) value = single[i];
        if (!isfinite(value)) continue;
        object.single = value;
        snprintf(text, sizeof text, "%s", get(SINGLE));
        object.single = 7;
        set(SINGLE, text);
        assert_memory_equal(&object.single, &value, sizeof value);
    }
}

static void test_numbers_are_written_short(void **state)
{
    (void)state;
    const struct {
        double value;
        const char *text;
    } cases[] = {{0.1, "0.1"}, {1e-3, "0.001"}, {0.25, "0.25"}, {3, "3"}, {1e300, "1e+300"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        object.wide = cases[i].value;
        assert_string_equal(get(WIDE), cases[i].text);
    }
}

static void test_ranges_include_their_ends(void **state)
{
    (void)state;
    set(BOUNDED, "0");
    set(BOUNDED, "1");
    set(FROM_ONE, "1");
    set(FROM_ONE, "1000000000000");
    set_fails(BOUNDED, "1.0000001", "--x 1.0000001: must be between 0 and 1");
    set_fails(BOUNDED, "-0.1", "--x -0.1: must be between 0 and 1");
    set_fails(FROM_ONE, "0", "--x 0: must be at least 1");
}

static void test_choices_suggest_the_nearest(void **state)
{
    (void)state;
    set(CHOICE, "lion");
    assert_string_equal(object.choice, "lion");
    set_fails(CHOICE, "adm", "--x \"adm\": expected one of adam|sgd|lion (did you mean adam?)");
    set_fails(CHOICE, "sdg", "--x \"sdg\": expected one of adam|sgd|lion (did you mean sgd?)");
    set_fails(CHOICE, "rmsprop", "--x \"rmsprop\": expected one of adam|sgd|lion");
    set_fails(CHOICE, "", "--x \"\": expected one of adam|sgd|lion");
    set_fails(CHOICE, "adam|sgd", "--x \"adam|sgd\": expected one of adam|sgd|lion");
}

static void test_texts_are_copied(void **state)
{
    (void)state;
    char text[] = "short lived";
    set(TEXT, text);
    memset(text, 'x', sizeof text - 1);
    assert_string_equal(object.text, "short lived");
    set(TEXT, "");
    assert_string_equal(object.text, "");
}

static void test_options_are_found_by_name(void **state)
{
    (void)state;
    assert_ptr_equal(light_option_find(table, "choice"), &table[CHOICE]);
    assert_null(light_option_find(table, "choic"));
    assert_null(light_option_find(NULL, "choice"));
}

/* Zero means "not given"; the explicit zeros mean zero. */
static void test_merge_takes_what_is_given(void **state)
{
    (void)state;
    struct {
        int before;
        thing thing;
    } holder;
    static const light_option inner[] = {
        {.name = "large", .type = LIGHT_OPTION_INT64, .offset = offsetof(__typeof__(holder), thing.large)},
        {.name = "wide", .type = LIGHT_OPTION_DOUBLE, .offset = offsetof(__typeof__(holder), thing.wide)},
        LIGHT_OPTIONS_END,
    };
    light_options_merge(table, &object, &(thing){0}, 0);
    test_defaults_are_written(NULL);
    light_options_merge(table, &object,
                        &(thing){.large = LIGHT_ZERO_COUNT,
                                 .wide = LIGHT_ZERO,
                                 .single = -0.0f,
                                 .toggle = LIGHT_OFF,
                                 .text = "",
                                 .small = 9},
                        0);
    assert_true(object.large == 0);
    assert_true(object.wide == 0 && !signbit(object.wide));
    assert_true(object.single == 0 && !signbit(object.single));
    assert_int_equal(object.toggle, LIGHT_OFF);
    assert_string_equal(object.text, "");
    assert_int_equal(object.small, 9);
    assert_string_equal(object.choice, "adam");
    memset(&holder, 0, sizeof holder);
    light_options_merge(inner, &holder, &(thing){.large = 5, .wide = 2.5},
                        offsetof(__typeof__(holder), thing));
    assert_true(holder.thing.large == 5 && holder.thing.wide == 2.5);
}

static void test_out_of_memory_is_an_error(void **state)
{
    (void)state;
    thing before;
    memcpy(&before, &object, sizeof before);
    light_memory_fail_nth(1);
    light_status status = light_option_set(&table[TEXT], &object, "a text never set before", "--x");
    light_memory_fail_nth(0);
    assert_int_equal(status, LIGHT_ERR_MEMORY);
    assert_memory_equal(&before, &object, sizeof object);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_defaults_are_written, defaults),
        cmocka_unit_test_setup(test_every_default_comes_back_from_its_text, defaults),
        cmocka_unit_test_setup(test_words_for_true_and_false, defaults),
        cmocka_unit_test_setup(test_whole_numbers, defaults),
        cmocka_unit_test_setup(test_numbers, defaults),
        cmocka_unit_test_setup(test_floats_come_back_to_the_bit, defaults),
        cmocka_unit_test_setup(test_numbers_are_written_short, defaults),
        cmocka_unit_test_setup(test_ranges_include_their_ends, defaults),
        cmocka_unit_test_setup(test_choices_suggest_the_nearest, defaults),
        cmocka_unit_test_setup(test_texts_are_copied, defaults),
        cmocka_unit_test_setup(test_options_are_found_by_name, defaults),
        cmocka_unit_test_setup(test_merge_takes_what_is_given, defaults),
        cmocka_unit_test_setup(test_out_of_memory_is_an_error, defaults),
    };
    return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
