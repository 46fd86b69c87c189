/* SPDX-License-Identifier: Apache-2.0 */
/* What the data tests share: a folder of their own, files in it, messages. */
#ifndef TESTS_DATA_FIXTURE_H
#define TESTS_DATA_FIXTURE_H

#include "base/file.h"
#include "base/memory.h"
#include "data/dataset.h"
#include "data/loader.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

__attribute__((unused)) static char folder[64];
static int64_t live_before;

__attribute__((unused)) static int make_folder(void **state)
{
    (void)state;
    live_before = light_memory_count().live;
    strcpy(folder, "/tmp/light-test-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

/* Also fails a test that leaks. */
__attribute__((unused)) static int remove_folder(void **state)
{
    (void)state;
    if (light_remove_tree(folder) != LIGHT_OK) return -1;
    return light_memory_count().live == live_before ? 0 : -1;
}

__attribute__((unused)) static int count_memory(void **state)
{
    (void)state;
    live_before = light_memory_count().live;
    return 0;
}

__attribute__((unused)) static int no_leak(void **state)
{
    (void)state;
    return light_memory_count().live == live_before ? 0 : -1;
}

/* A path in the test's folder; four of them can be in use at a time. */
__attribute__((unused)) static const char *in_folder(const char *name)
{
    static char paths[4][256];
    static int next;

    next = (next + 1) % 4;
    snprintf(paths[next], sizeof paths[next], "%s/%s", folder, name);
    return paths[next];
}

__attribute__((unused)) static void put_file(const char *name, const void *data, size_t bytes)
{
    FILE *file = fopen(in_folder(name), "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

/* The status, and every one of the texts in the message, which is one line. */
#define assert_fails(expression, expected, ...)                                                              \
    do {                                                                                                     \
        assert_int_equal(expression, expected);                                                              \
        assert_message((const char *[]){__VA_ARGS__, NULL});                                                 \
    } while (0)

__attribute__((unused)) static void assert_message(const char *const *parts)
{
    const char *message = light_error_message();

    assert_null(strchr(message, '\n'));
    for (; *parts; parts++) {
        if (!strstr(message, *parts)) fail_msg("'%s' is not in the message: %s", *parts, message);
    }
}

#define assert_ok(expression)                                                                                \
    do {                                                                                                     \
        light_status status_ = (expression);                                                                 \
        if (status_ != LIGHT_OK) fail_msg("%s: %s", light_status_text(status_), light_error_message());      \
    } while (0)

#endif
