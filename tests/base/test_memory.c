/* SPDX-License-Identifier: Apache-2.0 */
/* Alignment, counting, and failure on demand. */
#include "base/memory.h"

#include <light/status.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void large_blocks_are_aligned(void **state)
{
    (void)state;
    for (size_t bytes = LIGHT_ALIGN_FROM; bytes < 100000; bytes = bytes * 3 + 1) {
        void *a = light_alloc(bytes), *b = light_calloc(bytes, 1), *c = light_realloc(light_alloc(10), bytes);
        assert_int_equal((uintptr_t)a % LIGHT_ALIGNMENT, 0);
        assert_int_equal((uintptr_t)b % LIGHT_ALIGNMENT, 0);
        assert_int_equal((uintptr_t)c % LIGHT_ALIGNMENT, 0);
        light_free(a);
        light_free(b);
        light_free(c);
    }
}

static void calloc_is_zero_and_checks_overflow(void **state)
{
    (void)state;
    for (size_t count = 0; count < 3000; count = 2 * count + 1) {
        /* Dirty memory of the same size first, which the allocator is likely to hand out again. */
        void *dirty = light_alloc(8 * count);
        memset(dirty, 0xff, 8 * count);
        light_free(dirty);
        uint64_t *block = light_calloc(count, 8);
        for (size_t i = 0; i < count; i++) assert_int_equal(block[i], 0);
        light_free(block);
    }
    assert_null(light_calloc(SIZE_MAX / 2, 3));
    assert_non_null(strstr(light_error_message(), "out of memory"));
}

static void realloc_keeps_content(void **state)
{
    (void)state;
    unsigned char *block = light_realloc(NULL, 1);
    block[0] = 0;
    size_t bytes = 1;
    while (bytes < 5000) {
        size_t larger = bytes * 2 + 7;
        block = light_realloc(block, larger);
        for (size_t i = 0; i < bytes; i++) assert_int_equal(block[i], (unsigned char)(i * 7));
        for (size_t i = 0; i < larger; i++) block[i] = (unsigned char)(i * 7);
        bytes = larger;
    }
    block = light_realloc(block, 100);
    for (size_t i = 0; i < 100; i++) assert_int_equal(block[i], (unsigned char)(i * 7));
    light_free(block);
}

static void zero_bytes_is_a_block(void **state)
{
    (void)state;
    void *a = light_alloc(0), *b = light_calloc(0, 8), *c = light_realloc(light_alloc(5), 0);
    assert_non_null(a);
    assert_non_null(b);
    assert_non_null(c);
    light_free(a);
    light_free(b);
    light_free(c);
    light_free(NULL);
}

static void duplicates(void **state)
{
    char *a = light_strdup("weights"), *b = light_strndup("weights", 3), *c = light_strdup("");

    (void)state;
    assert_string_equal(a, "weights");
    assert_string_equal(b, "wei");
    assert_string_equal(c, "");
    light_free(a);
    light_free(b);
    light_free(c);
}

static void counters(void **state)
{
    light_memory_counters before = light_memory_count();
    void *a = light_alloc(10), *b = light_calloc(4, 400);
    light_memory_counters during = light_memory_count();

    (void)state;
    assert_int_equal(during.calls - before.calls, 2);
    assert_int_equal(during.live - before.live, 2);
    a = light_realloc(a, 1000);
    light_free(NULL);
    assert_int_equal(light_memory_count().calls - before.calls, 3);
    assert_int_equal(light_memory_count().live - before.live, 2);
    light_free(a);
    light_free(b);
    assert_int_equal(light_memory_count().live, before.live);
}

static void the_nth_allocation_fails_once(void **state)
{
    (void)state;
    for (int n = 1; n <= 5; n++) {
        int64_t live = light_memory_count().live;
        void *first = light_alloc(8);
        light_memory_fail_nth(n);
        void *blocks[5] = {light_alloc(8), light_calloc(1, 8), light_calloc(100, 8), light_strdup("x"),
                           light_realloc(first, 900)};
        light_memory_fail_nth(0);
        for (int i = 0; i < 5; i++) {
            if (i == n - 1) {
                assert_null(blocks[i]);
            } else {
                assert_non_null(blocks[i]);
            }
        }
        assert_non_null(strstr(light_error_message(), "out of memory"));
        light_free(blocks[4] ? blocks[4] : first);
        for (int i = 0; i < 4; i++) light_free(blocks[i]);
        assert_int_equal(light_memory_count().live, live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_blocks_are_aligned),
        cmocka_unit_test(calloc_is_zero_and_checks_overflow),
        cmocka_unit_test(realloc_keeps_content),
        cmocka_unit_test(zero_bytes_is_a_block),
        cmocka_unit_test(duplicates),
        cmocka_unit_test(counters),
        cmocka_unit_test(the_nth_allocation_fails_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
