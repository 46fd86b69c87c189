/* SPDX-License-Identifier: Apache-2.0 */
/* Growing text, and names that are nearly right. */
#include "base/string.h"

#include "base/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void grows(void **state)
{
    light_string s = {0};
    char expected[8000] = "";
    size_t length = 0;

    (void)state;
    assert_string_equal(light_string_text(&s), "");
    for (int i = 0; i < 900; i++) {
        light_string_printf(&s, "%d,", i);
        length += (size_t)sprintf(expected + length, "%d,", i);
    }
    light_string_append(&s, "end");
    light_string_append_bytes(&s, "!?", 1);
    strcpy(expected + length, "end!");
    assert_int_equal(s.length, length + 4);
    assert_string_equal(light_string_text(&s), expected);
    light_string_clear(&s);
    assert_string_equal(light_string_text(&s), "");
    light_string_free(&s);
}

static void take_hands_over(void **state)
{
    light_string s = {0};
    char *text;

    (void)state;
    assert_int_equal(light_string_take(&s, &text), LIGHT_OK);
    assert_string_equal(text, "");
    light_free(text);
    light_string_append(&s, "abc");
    assert_int_equal(light_string_take(&s, &text), LIGHT_OK);
    assert_string_equal(text, "abc");
    assert_string_equal(light_string_text(&s), "");
    light_free(text);
}

static void failure_sticks(void **state)
{
    int64_t live = light_memory_count().live;

    (void)state;
    for (int n = 1; n <= 3; n++) {
        light_string s = {0};
        char *text;
        light_memory_fail_nth(n);
        for (int i = 0; i < 30; i++)
            light_string_append(&s, "0123456789"); /* three sizes: 64, 128, 256 and 301 */
        light_memory_fail_nth(0);
        assert_int_equal(light_string_take(&s, &text), LIGHT_ERR_MEMORY);
        assert_null(text);
        assert_int_equal(light_memory_count().live, live);
    }
    light_memory_fail_nth(1);
    assert_null(light_format("%d", 1));
    light_memory_fail_nth(0);
}

static void format_and_ends(void **state)
{
    char *text = light_format("%s.%d", "blocks", 3);

    (void)state;
    assert_string_equal(text, "blocks.3");
    assert_true(light_starts_with(text, "blocks"));
    assert_true(light_starts_with(text, ""));
    assert_false(light_starts_with(text, "blocks.34"));
    assert_true(light_ends_with(text, ".3"));
    assert_false(light_ends_with(text, "xblocks.3"));
    light_free(text);
}

static void distances(void **state)
{
    (void)state;
    assert_int_equal(light_edit_distance("", ""), 0);
    assert_int_equal(light_edit_distance("", "abc"), 3);
    assert_int_equal(light_edit_distance("abc", ""), 3);
    assert_int_equal(light_edit_distance("kitten", "sitting"), 3);
    assert_int_equal(light_edit_distance("max_epcohs", "max_epochs"), 1); /* neighbours swapped */
    assert_int_equal(light_edit_distance("ca", "abc"), 3);                /* the restricted distance */
    assert_int_equal(light_edit_distance("lr", "lr"), 0);
}

static void the_nearest_name(void **state)
{
    static const char *const names[] = {"max_epochs", "max_steps", "lr", "limit_train_batches", "precision"};
    size_t count = sizeof names / sizeof names[0];

    (void)state;
    assert_string_equal(light_nearest_of("max_epoch", names, count), "max_epochs");
    assert_string_equal(light_nearest_of("max_stpes", names, count), "max_steps");
    assert_string_equal(light_nearest_of("limit_train_batch", names, count), "limit_train_batches");
    assert_string_equal(light_nearest_of("lrr", names, count), "lr");
    assert_null(light_nearest_of("hidden", names, count));
    assert_null(light_nearest_of("max_epoch", names, 0));
}

static void long_names_are_cut(void **state)
{
    char a[1000], b[1000];

    (void)state;
    memset(a, 'a', 999);
    memset(b, 'a', 999);
    a[999] = b[999] = '\0';
    b[5] = 'b';
    assert_int_equal(light_edit_distance(a, b), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows),
        cmocka_unit_test(take_hands_over),
        cmocka_unit_test(failure_sticks),
        cmocka_unit_test(format_and_ends),
        cmocka_unit_test(distances),
        cmocka_unit_test(the_nearest_name),
        cmocka_unit_test(long_names_are_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
