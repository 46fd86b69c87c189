/* SPDX-License-Identifier: Apache-2.0 */
/* Datasets in memory and what is made of them: splits, subsets, concatenations. */
#include "data/fixture.h"

static int64_t labels[1000];
static float points[1000][2];

static light_dataset *make_points(int64_t n)
{
    static const light_field fields[2] = {{"x", LIGHT_F32, {1, {2}}}, {"y", LIGHT_I64, {0}}};
    light_dataset *dataset;

    for (int i = 0; i < 1000; i++) {
        labels[i] = i;
        points[i][0] = (float)i;
        points[i][1] = (float)-i;
    }
    assert_ok(light_memory_dataset_open(&dataset, fields, 2, n, (const void *[]){points, labels}));
    return dataset;
}

/* All labels through one fetch; the points must go with them. */
static void read_all(light_dataset *dataset, int64_t *y)
{
    int64_t n = light_dataset_length(dataset);
    int64_t *indices = test_malloc((size_t)n * sizeof *indices);
    float(*x)[2] = test_malloc((size_t)n * sizeof *x);

    for (int64_t i = 0; i < n; i++) indices[i] = i;
    assert_ok(light_dataset_fetch(dataset, indices, n, (void *[]){x, y}));
    for (int64_t i = 0; i < n; i++) {
        assert_true(x[i][0] == (float)y[i] && x[i][1] == (float)-y[i]);
        float one[2];
        int64_t label;
        assert_ok(light_dataset_get(dataset, i, (void *[]){one, &label}));
        assert_int_equal(label, y[i]);
    }
    test_free(indices);
    test_free(x);
}

static void a_split_keeps_the_order(void **state)
{
    light_dataset *all = make_points(700), *a, *b;
    int64_t y[700];

    (void)state;
    assert_ok(light_dataset_split(all, 600, &a, &b));
    light_dataset_free(all);
    assert_int_equal(light_dataset_length(a), 600);
    assert_int_equal(light_dataset_length(b), 100);
    read_all(a, y);
    read_all(b, y + 600);
    for (int i = 0; i < 700; i++) assert_int_equal(y[i], i);
    light_dataset_free(a);
    light_dataset_free(b);
}

static void a_random_split_is_a_function_of_the_seed(void **state)
{
    light_dataset *all = make_points(700), *a, *b;
    int64_t y[3][700];

    (void)state;
    for (int k = 0; k < 3; k++) {
        bool seen[700] = {false};
        assert_ok(light_dataset_random_split(all, 600, k == 2 ? 8 : 7, &a, &b));
        read_all(a, y[k]);
        read_all(b, y[k] + 600);
        for (int i = 0; i < 700; i++) {
            assert_false(seen[y[k][i]]);
            seen[y[k][i]] = true;
        }
        light_dataset_free(a);
        light_dataset_free(b);
    }
    assert_memory_equal(y[0], y[1], sizeof y[0]);
    assert_memory_not_equal(y[0], y[2], sizeof y[0]);
    light_dataset_free(all);
}

static void subsets_and_concatenations_combine(void **state)
{
    light_dataset *all = make_points(400), *odd, *part, *both;
    int64_t indices[3] = {5, 5, 399}, y[406];

    (void)state;
    assert_ok(light_dataset_subset(&odd, all, indices, 3));
    indices[0] = 77; /* they were copied */
    assert_ok(light_dataset_subset(&part, odd, (int64_t[]){2, 0, 1}, 3));
    assert_ok(light_dataset_concat(&both, (light_dataset *[]){odd, all, part}, 3));
    light_dataset_free(all);
    light_dataset_free(odd);
    light_dataset_free(part);
    assert_int_equal(light_dataset_length(both), 406);
    read_all(both, y);
    assert_memory_equal(y, ((int64_t[]){5, 5, 399}), 3 * sizeof y[0]);
    for (int i = 0; i < 400; i++) assert_int_equal(y[3 + i], i);
    assert_memory_equal(y + 403, ((int64_t[]){399, 5, 5}), 3 * sizeof y[0]);
    light_dataset_free(both);
}

static void misfits_are_told(void **state)
{
    light_dataset *all = make_points(10), *other, *a, *b;
    light_field field = {"z", LIGHT_F32, {1, {3}}};
    float x[2];
    int64_t y;

    (void)state;
    assert_fails(light_dataset_split(all, 11, &a, &b), LIGHT_ERR_ARGUMENT, "11 samples", "has 10");
    assert_fails(light_dataset_split(NULL, 1, &a, &b), LIGHT_ERR_ARGUMENT, "NULL");
    assert_fails(light_dataset_subset(&a, all, (int64_t[]){0, 10}, 2), LIGHT_ERR_ARGUMENT,
                 "index 10 at place 1", "0..9");
    assert_fails(light_dataset_get(all, 10, (void *[]){x, &y}), LIGHT_ERR_ARGUMENT, "no sample 10", "has 10");
    assert_fails(light_dataset_get(all, -1, (void *[]){x, &y}), LIGHT_ERR_ARGUMENT, "no sample -1");

    assert_ok(light_memory_dataset_open(&other, &field, 1, 1, (const void *[]){points}));
    assert_fails(light_dataset_concat(&a, (light_dataset *[]){all, other}, 2), LIGHT_ERR_SHAPE, "dataset 1",
                 "f32 [3]", "f32 [2], i64 []");
    assert_fails(light_dataset_concat(&a, NULL, 0), LIGHT_ERR_ARGUMENT, "at least one");
    light_dataset_free(other);

    field.shape.dims[0] = 0;
    assert_fails(light_memory_dataset_open(&other, &field, 1, 1, (const void *[]){points}), LIGHT_ERR_SHAPE,
                 "dim 0");
    field = (light_field){"z", LIGHT_DTYPE_DEFAULT, {0}};
    assert_fails(light_memory_dataset_open(&other, &field, 1, 1, (const void *[]){points}), LIGHT_ERR_DTYPE,
                 "field 0");
    light_dataset_free(all);
    light_dataset_free(NULL);
}

static light_status describe_nothing(light_dataset *self, light_field *fields, int *num_fields)
{
    (void)self;
    (void)fields;
    (void)num_fields;
    return LIGHT_OK;
}

static void broken_vtables_are_refused(void **state)
{
    light_dataset *dataset;
    light_dataset_vtable vtable = {
        .size = sizeof vtable, .name = "mine", .instance_size = sizeof(light_dataset)};

    (void)state;
    assert_fails(light_dataset_new(&dataset, NULL), LIGHT_ERR_ARGUMENT, "LIGHT_DATASET");
    assert_fails(light_dataset_new(&dataset, &vtable), LIGHT_ERR_ARGUMENT, "mine", "length");
    vtable.describe = describe_nothing;
    assert_fails(light_dataset_new(&dataset, &vtable), LIGHT_ERR_ARGUMENT, "mine", "stream_next");
    vtable.instance_size = 1;
    assert_fails(light_dataset_new(&dataset, &vtable), LIGHT_ERR_ARGUMENT, "LIGHT_DATASET");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, count_memory, no_leak)
    const struct CMUnitTest tests[] = {
        TEST(a_split_keeps_the_order),
        TEST(a_random_split_is_a_function_of_the_seed),
        TEST(subsets_and_concatenations_combine),
        TEST(misfits_are_told),
        TEST(broken_vtables_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
