/* SPDX-License-Identifier: Apache-2.0 */
/* CSV files: what is read, and the line that each mistake is told with. */
#include "data/fixture.h"

#include <locale.h>

static void put_text(const char *name, const char *text)
{
    put_file(name, text, strlen(text));
}

static void the_last_column_is_the_target(void **state)
{
    light_dataset *dataset;
    light_field fields[LIGHT_MAX_FIELDS];
    int num_fields;
    float x[2], y;

    (void)state;
    put_text("a.csv", "width, height ,weight\r\n1,2.5,-3e2\r\n\r\n \"4\" ,+5,6\r\n7,8,9");
    assert_ok(light_csv_dataset_open(&dataset, in_folder("a.csv")));
    assert_int_equal(light_dataset_length(dataset), 3);
    assert_ok(light_dataset_describe(dataset, fields, &num_fields));
    assert_int_equal(num_fields, 2);
    assert_true(light_shape_equal(fields[0].shape, LIGHT_SHAPE(2)));
    assert_int_equal(fields[1].dtype, LIGHT_F32);
    assert_ok(light_dataset_get(dataset, 0, (void *[]){x, &y}));
    assert_true(x[0] == 1 && x[1] == 2.5f && y == -300);
    assert_ok(light_dataset_get(dataset, 1, (void *[]){x, &y}));
    assert_true(x[0] == 4 && x[1] == 5 && y == 6);
    assert_ok(light_dataset_get(dataset, 2, (void *[]){x, &y}));
    assert_true(x[0] == 7 && x[1] == 8 && y == 9);
    light_dataset_free(dataset);
}

static void a_target_is_found_by_its_name(void **state)
{
    light_dataset *dataset;
    float x[2];
    int64_t y;

    (void)state;
    put_text("a.csv", "width;\"kind; of thing\";height\n1;2;3\n4;0;6\n");
    assert_ok(light_csv_dataset_open(&dataset, in_folder("a.csv"), .delimiter = ';',
                                     .target = "kind; of thing", .target_dtype = LIGHT_I64,
                                     .num_classes = 3));
    assert_ok(light_dataset_get(dataset, 0, (void *[]){x, &y}));
    assert_true(x[0] == 1 && x[1] == 3);
    assert_int_equal(y, 2);
    light_dataset_free(dataset);

    assert_fails(light_csv_dataset_open(&dataset, in_folder("a.csv"), .delimiter = ';', .target = "kin"),
                 LIGHT_ERR_NOT_FOUND, "a.csv", "no column 'kin'", "'width'");
    assert_fails(light_csv_dataset_open(&dataset, in_folder("a.csv"), .delimiter = ';', .target = "height",
                                        .target_dtype = LIGHT_I64, .num_classes = 5),
                 LIGHT_ERR_FORMAT, "a.csv:3", "label 6 is not in 0..4");
    assert_null(dataset);
}

static void a_file_without_header_or_target_is_read_too(void **state)
{
    light_dataset *dataset;
    light_field fields[LIGHT_MAX_FIELDS];
    int num_fields;
    float x[2];

    (void)state;
    put_text("a.csv", "1\t2\n3\t4\n");
    assert_ok(light_csv_dataset_open(&dataset, in_folder("a.csv"), .delimiter = '\t', .no_target = true));
    assert_int_equal(light_dataset_length(dataset), 2);
    assert_ok(light_dataset_describe(dataset, fields, &num_fields));
    assert_int_equal(num_fields, 1);
    assert_ok(light_dataset_get(dataset, 1, (void *[]){x}));
    assert_true(x[0] == 3 && x[1] == 4);
    light_dataset_free(dataset);

    /* Years as names of columns. */
    put_text("a.csv", "2001,2002\n3,4\n");
    assert_ok(light_csv_dataset_open(&dataset, in_folder("a.csv"), .header = LIGHT_ON));
    assert_int_equal(light_dataset_length(dataset), 1);
    light_dataset_free(dataset);
    assert_fails(light_csv_dataset_open(&dataset, in_folder("a.csv"), .target = "2001"), LIGHT_ERR_NOT_FOUND,
                 "no header");
}

/* What opening a file with this text is refused with. */
static void assert_refused(const char *text, const char *why)
{
    light_dataset *dataset;

    put_text("bad.csv", text);
    assert_int_equal(light_csv_dataset_open(&dataset, in_folder("bad.csv"), .target_dtype = LIGHT_I64),
                     LIGHT_ERR_FORMAT);
    assert_message((const char *[]){"bad.csv", why, NULL});
    assert_null(dataset);
}

static void mistakes_are_told_with_file_and_line(void **state)
{
    light_dataset *dataset;

    (void)state;
    assert_refused("", "the file is empty");
    assert_refused("\n\n\r\n", "the file is empty");
    assert_refused("a,b\n", "no lines of numbers");
    assert_refused("a\n1\n", "one column");
    assert_refused("a,b\n1,2\n\n3\n", "bad.csv:4: 1 columns, where the first line has 2");
    assert_refused("a,b\n1,2\n3,4,5\n", "bad.csv:3: 3 columns, where the first line has 2");
    assert_refused("a,b\n1,2\n3,4,5,6\n", "bad.csv:3: 4 columns, where the first line has 2");
    assert_refused("1,2\n3,4,\n", "bad.csv:2: 3 columns");
    assert_refused("a,b\n1,2\nx1,4\n", "bad.csv:3: column 1 a: 'x1' is not a finite number");
    assert_refused("1,2\n3,4x\n", "bad.csv:2: column 2: '4x' is not a finite number");
    assert_refused("a,b\n1,2\n,4\n", "bad.csv:3: column 1 a is empty");
    assert_refused("a,b\nnan,2\n", "bad.csv:2: column 1 a: 'nan' is not");
    assert_refused("a,b\n1e999,2\n", "bad.csv:2: column 1 a: '1e999' is not");
    assert_refused("a,b\n1,2.5\n", "bad.csv:2: column 2 b: '2.5' is not a whole number");
    assert_refused("a,b\n\"1,2\n", "bad.csv:2: a quote is not closed");
    assert_fails(light_csv_dataset_open(&dataset, in_folder("none.csv")), LIGHT_ERR_NOT_FOUND, "none.csv");
    assert_fails(light_csv_dataset_open(&dataset, in_folder("bad.csv"), .target_dtype = LIGHT_U8),
                 LIGHT_ERR_DTYPE, "u8");
}

static void each_failing_allocation_is_reported_and_leaks_nothing(void **state)
{
    light_dataset *dataset;
    light_status status = LIGHT_ERR_MEMORY;

    (void)state;
    put_text("a.csv", "a,b\n1,2\n");
    for (int nth = 1; status != LIGHT_OK; nth++) {
        light_memory_fail_nth(nth);
        status = light_csv_dataset_open(&dataset, in_folder("a.csv"));
        light_memory_fail_nth(0);
        if (status != LIGHT_OK) assert_int_equal(status, LIGHT_ERR_MEMORY);
    }
    light_dataset_free(dataset);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(the_last_column_is_the_target),
        TEST(a_target_is_found_by_its_name),
        TEST(a_file_without_header_or_target_is_read_too),
        TEST(mistakes_are_told_with_file_and_line),
        TEST(each_failing_allocation_is_reported_and_leaks_nothing),
    };
    setlocale(LC_ALL, "");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
