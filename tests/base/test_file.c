/* SPDX-License-Identifier: Apache-2.0 */
/* Files: the old content or the new after any failure, and nothing left lying about. */
#include "base/file.h"

#include "base/memory.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/light-test-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    light_file_fail_nth(0, 0);
    light_memory_fail_nth(0);
    return light_remove_tree(folder) == LIGHT_OK && !light_file_exists(folder) ? 0 : -1;
}

/* A path in the test's folder; four of them can be in use at a time. */
static const char *in_folder(const char *name)
{
    static char paths[4][256];
    static int next;

    next = (next + 1) % 4;
    snprintf(paths[next], sizeof paths[next], "%s/%s", folder, name);
    return paths[next];
}

static int count_entries(const char *path)
{
    DIR *d = opendir(path);
    int count = 0;

    assert_non_null(d);
    while (readdir(d)) count++;
    closedir(d);
    return count - 2;
}

static void assert_content(const char *path, const char *expected)
{
    char *data;
    size_t bytes;

    assert_int_equal(light_file_read(path, &data, &bytes), LIGHT_OK);
    assert_int_equal(bytes, strlen(expected));
    assert_string_equal(data, expected);
    light_free(data);
}

static void write_and_read(void **state)
{
    const char *path = in_folder("a");

    (void)state;
    assert_int_equal(light_file_write_atomic(path, "first", 5), LIGHT_OK);
    assert_content(path, "first");
    assert_int_equal(light_file_write_atomic(path, "the second", 10), LIGHT_OK);
    assert_content(path, "the second");
    assert_int_equal(light_file_write_atomic(path, NULL, 0), LIGHT_OK);
    assert_content(path, "");
    assert_int_equal(count_entries(folder), 1);
}

static void read_large(void **state)
{
    enum { BYTES = 300000 };
    const char *path = in_folder("large");
    char *data, *read;
    size_t bytes;

    (void)state;
    data = malloc(BYTES);
    for (int i = 0; i < BYTES; i++) data[i] = (char)(i * 31 / 7);
    assert_int_equal(light_file_write_atomic(path, data, BYTES), LIGHT_OK);
    assert_int_equal(light_file_read(path, &read, &bytes), LIGHT_OK);
    assert_int_equal(bytes, BYTES);
    assert_memory_equal(data, read, BYTES);
    light_free(read);
    free(data);
}

/* Files in /proc have no size, so reading has to go on until the end. */
static void read_file_without_a_size(void **state)
{
    char *data;
    size_t bytes;

    (void)state;
    assert_int_equal(light_file_read("/proc/self/status", &data, &bytes), LIGHT_OK);
    assert_true(bytes > 0);
    assert_int_equal(strlen(data), bytes);
    light_free(data);
}

static void read_failures(void **state)
{
    char *data;
    size_t bytes;

    (void)state;
    assert_int_equal(light_file_read(in_folder("missing"), &data, &bytes), LIGHT_ERR_NOT_FOUND);
    assert_non_null(strstr(light_error_message(), "/missing: No such file"));
    assert_null(data);
    assert_int_equal(light_file_read(folder, &data, &bytes), LIGHT_ERR_IO);
    assert_non_null(strstr(light_error_message(), folder));
    assert_int_equal(light_file_write_atomic(in_folder("no/such/folder"), "x", 1), LIGHT_ERR_NOT_FOUND);
}

/* Open, write, flush, rename, flush the folder: whichever fails, the file is the old one or the new one. */
static void every_disk_failure(void **state)
{
    const char *path = in_folder("a");
    int failures = 0;

    (void)state;
    for (int n = 1;; n++) {
        assert_int_equal(light_file_write_atomic(path, "old", 3), LIGHT_OK);
        light_file_fail_nth(n, ENOSPC);
        light_status status = light_file_write_atomic(path, "new", 3);
        light_file_fail_nth(0, 0);
        assert_int_equal(count_entries(folder), 1);
        if (status == LIGHT_OK) break;
        failures++;
        assert_int_equal(status, LIGHT_ERR_IO);
        assert_non_null(strstr(light_error_message(), "No space left on device"));
        assert_non_null(strstr(light_error_message(), folder));
        assert_content(path, n < 5 ? "old" : "new");
    }
    assert_int_equal(failures, 5);
    assert_content(path, "new");
}

static void every_allocation_failure(void **state)
{
    const char *path = in_folder("a");
    int64_t live = light_memory_count().live;
    int failures = 0;

    (void)state;
    for (int n = 1;; n++) {
        light_memory_fail_nth(n);
        light_status status = light_file_write_atomic(path, "new", 3);
        if (status == LIGHT_OK) status = light_make_directories(in_folder("x/y"));
        light_memory_fail_nth(0);
        assert_int_equal(light_memory_count().live, live);
        if (status == LIGHT_OK) break;
        assert_int_equal(status, LIGHT_ERR_MEMORY);
        failures++;
    }
    assert_int_equal(failures, 3);
}

static void publish_a_folder(void **state)
{
    const char *temporary = in_folder("best.tmp"), *path = in_folder("best");

    (void)state;
    assert_int_equal(light_make_directories(temporary), LIGHT_OK);
    assert_int_equal(light_file_write_atomic(in_folder("best.tmp/model"), "m", 1), LIGHT_OK);
    assert_int_equal(light_file_write_atomic(in_folder("best.tmp/loops"), "l", 1), LIGHT_OK);
    for (int n = 1; n <= 4; n++) {
        light_file_fail_nth(n, EIO); /* two files, the folder, the rename */
        assert_int_equal(light_file_publish(temporary, path), LIGHT_ERR_IO);
        light_file_fail_nth(0, 0);
        assert_false(light_file_exists(path));
        assert_true(light_directory_exists(temporary));
    }
    assert_int_equal(light_file_publish(temporary, path), LIGHT_OK);
    assert_false(light_file_exists(temporary));
    assert_content(in_folder("best/model"), "m");
}

static void temporary_names_differ(void **state)
{
    char *a = light_file_temporary_name("x/y"), *b = light_file_temporary_name("x/y");

    (void)state;
    assert_memory_equal(a, "x/y.tmp-", 8);
    assert_string_not_equal(a, b);
    light_free(a);
    light_free(b);
}

static void directories(void **state)
{
    (void)state;
    assert_int_equal(light_make_directories(in_folder("a/b//c/")), LIGHT_OK);
    assert_true(light_directory_exists(in_folder("a/b/c")));
    assert_int_equal(light_make_directories(in_folder("a/b/c")), LIGHT_OK);
    assert_int_equal(light_make_directories(""), LIGHT_OK);
    assert_int_equal(light_make_directories("/"), LIGHT_OK);
    assert_int_equal(light_make_directories("."), LIGHT_OK);

    assert_int_equal(light_file_write_atomic(in_folder("a/file"), "x", 1), LIGHT_OK);
    assert_false(light_directory_exists(in_folder("a/file")));
    assert_int_equal(light_make_directories(in_folder("a/file")), LIGHT_ERR_IO);
    assert_int_equal(light_make_directories(in_folder("a/file/x")), LIGHT_ERR_IO);
    assert_non_null(strstr(light_error_message(), "a/file"));

    light_file_fail_nth(1, EROFS);
    assert_int_equal(light_make_directories(in_folder("new")), LIGHT_ERR_IO);
    assert_non_null(strstr(light_error_message(), "Read-only file system"));
}

static void remove_follows_no_links(void **state)
{
    (void)state;
    assert_int_equal(light_make_directories(in_folder("keep")), LIGHT_OK);
    assert_int_equal(light_file_write_atomic(in_folder("keep/file"), "x", 1), LIGHT_OK);
    assert_int_equal(light_make_directories(in_folder("gone/deep")), LIGHT_OK);
    assert_int_equal(symlink(in_folder("keep"), in_folder("gone/deep/link")), 0);
    assert_int_equal(light_remove_tree(in_folder("gone")), LIGHT_OK);
    assert_false(light_file_exists(in_folder("gone")));
    assert_content(in_folder("keep/file"), "x");
    assert_int_equal(light_remove_tree(in_folder("gone")), LIGHT_OK);
    assert_int_equal(light_remove_tree(in_folder("keep/file")), LIGHT_OK);
    assert_false(light_file_exists(in_folder("keep/file")));
}

static void check_path(char *made, const char *expected)
{
    assert_string_equal(made, expected);
    light_free(made);
}

static void paths(void **state)
{
    (void)state;
    check_path(light_path_join("a", "b"), "a/b");
    check_path(light_path_join("a/", "b"), "a/b");
    check_path(light_path_join("", "b"), "b");
    check_path(light_path_join("a", "/b"), "/b");
    check_path(light_path_parent("a/b/c"), "a/b");
    check_path(light_path_parent("a"), ".");
    check_path(light_path_parent("/a"), "/");
}

int main(void)
{
#define test(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        test(write_and_read),           test(read_large),
        test(read_file_without_a_size), test(read_failures),
        test(every_disk_failure),       test(publish_a_folder),
        test(temporary_names_differ),   test(directories),
        test(every_allocation_failure), test(paths),
        test(remove_follows_no_links),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
