/* SPDX-License-Identifier: Apache-2.0 */
/* HDF5 datasets: every layout and type gives the same samples; damage is told. */
#include "data/fixture.h"

#include <hdf5.h>

#define N 20

static const char *const both[] = {"/images", "/labels"};

/* Element i of a dataset of shape [N, ...] is i % 100, converted to `type`. */
static void put_dataset(hid_t file, const char *name, hid_t type, int ndim, const hsize_t *dims, hid_t plist)
{
    hsize_t total = 1;
    hid_t space = H5Screate_simple(ndim, dims, NULL);
    hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, plist, H5P_DEFAULT);

    for (int i = 0; i < ndim; i++) total *= dims[i];
    int *values = test_malloc(total * sizeof *values);
    for (hsize_t i = 0; i < total; i++) values[i] = (int)(i % 100);
    assert_true(H5Dwrite(set, H5T_NATIVE_INT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
    test_free(values);
    H5Dclose(set);
    H5Sclose(space);
}

static hid_t chunked(int deflate)
{
    hid_t plist = H5Pcreate(H5P_DATASET_CREATE);

    H5Pset_chunk(plist, 3, (hsize_t[]){6, 2, 3});
    if (deflate) H5Pset_deflate(plist, 4);
    return plist;
}

static void put_pair(const char *name, hid_t type, hid_t plist, hsize_t labels)
{
    hid_t file = H5Fcreate(in_folder(name), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);

    assert_true(file >= 0);
    put_dataset(file, "images", type, 3, (hsize_t[]){N, 2, 3}, plist);
    put_dataset(file, "labels", H5T_STD_I16BE, 1, &labels, H5P_DEFAULT);
    assert_true(H5Fclose(file) >= 0);
    if (plist != H5P_DEFAULT) H5Pclose(plist);
}

/* All samples, by two threads at once, against what put_dataset wrote. */
static void assert_samples(const char *name, light_dtype dtype)
{
    light_dataset *dataset;
    light_field fields[LIGHT_MAX_FIELDS];
    int num_fields;
    light_host_batch batch;
    light_batch about;

    assert_ok(light_hdf5_dataset_open(&dataset, in_folder(name), both, 2));
    assert_int_equal(light_dataset_length(dataset), N);
    assert_ok(light_dataset_describe(dataset, fields, &num_fields));
    assert_int_equal(fields[0].dtype, dtype);
    assert_true(light_shape_equal(fields[0].shape, LIGHT_SHAPE(2, 3)));
    assert_int_equal(fields[1].dtype, LIGHT_I32);
    light_loader *loader = light_loader_new(dataset, .batch_size = 3, .shuffle = true, .num_workers = 2,
                                            .transform = light_convert_field(0, LIGHT_F64));
    light_dataset_free(dataset);
    assert_ok(light_loader_begin(loader, 0, 0));
    for (int64_t seen = 0; seen < N; seen += batch.size) {
        assert_ok(light_loader_next_host(loader, &batch, &about));
        assert_true(batch.size > 0);
        for (int64_t i = 0; i < batch.size; i++) {
            int64_t index = about.indices[i];
            for (int64_t p = 0; p < 6; p++) {
                assert_true(((double *)batch.data[0])[6 * i + p] == (double)((6 * index + p) % 100));
            }
            assert_int_equal(((int32_t *)batch.data[1])[i], index);
        }
    }
    light_loader_free(loader);
}

static void every_layout_and_type_gives_the_same_samples(void **state)
{
    (void)state;
    put_pair("a.h5", H5T_NATIVE_UINT8, H5P_DEFAULT, N);
    assert_samples("a.h5", LIGHT_U8);
    put_pair("a.h5", H5T_NATIVE_FLOAT, H5P_DEFAULT, N);
    assert_samples("a.h5", LIGHT_F32);
    put_pair("a.h5", H5T_IEEE_F32BE, H5P_DEFAULT, N);
    assert_samples("a.h5", LIGHT_F32);
    put_pair("a.h5", H5T_IEEE_F64LE, chunked(0), N);
    assert_samples("a.h5", LIGHT_F64);
    put_pair("a.h5", H5T_STD_I8LE, chunked(1), N);
    assert_samples("a.h5", LIGHT_I32);
    put_pair("a.h5", H5T_STD_U32LE, chunked(1), N);
    assert_samples("a.h5", LIGHT_I64);
}

static void bools_are_read_as_h5py_writes_them(void **state)
{
    int8_t no = 0, yes = 1, values[3] = {1, 0, 1};
    hid_t file = H5Fcreate(in_folder("b.h5"), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hid_t type = H5Tenum_create(H5T_NATIVE_INT8), space = H5Screate_simple(1, (hsize_t[]){3}, NULL);
    light_dataset *dataset;
    light_field fields[LIGHT_MAX_FIELDS];
    int num_fields;
    uint8_t value;

    (void)state;
    H5Tenum_insert(type, "FALSE", &no);
    H5Tenum_insert(type, "TRUE", &yes);
    hid_t set = H5Dcreate2(file, "b", type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
    H5Dclose(set);
    H5Sclose(space);
    H5Tclose(type);
    H5Fclose(file);
    assert_ok(light_hdf5_dataset_open(&dataset, in_folder("b.h5"), (const char *[]){"b"}, 1));
    assert_ok(light_dataset_describe(dataset, fields, &num_fields));
    assert_int_equal(fields[0].dtype, LIGHT_BOOL);
    assert_ok(light_dataset_get(dataset, 2, (void *[]){&value}));
    assert_int_equal(value, 1);
    light_dataset_free(dataset);
}

static void damage_is_told(void **state)
{
    light_dataset *dataset;
    char bytes[16384];

    (void)state;
    assert_fails(light_hdf5_dataset_open(&dataset, in_folder("none.h5"), both, 2), LIGHT_ERR_NOT_FOUND,
                 "none.h5");
    put_file("text.h5", "no such format", 14);
    assert_fails(light_hdf5_dataset_open(&dataset, in_folder("text.h5"), both, 2), LIGHT_ERR_FORMAT,
                 "text.h5", "no HDF5 file");

    put_pair("a.h5", H5T_NATIVE_UINT8, H5P_DEFAULT, N - 1);
    assert_fails(light_hdf5_dataset_open(&dataset, in_folder("a.h5"), both, 2), LIGHT_ERR_FORMAT, "a.h5",
                 "/labels has 19 samples", "/images has 20");
    assert_fails(light_hdf5_dataset_open(&dataset, in_folder("a.h5"), (const char *[]){"/images", "/x"}, 2),
                 LIGHT_ERR_NOT_FOUND, "a.h5", "/x");
    assert_fails(light_hdf5_dataset_open(&dataset, in_folder("a.h5"), both, 0), LIGHT_ERR_ARGUMENT, "not 0");

    put_pair("a.h5", H5T_NATIVE_UINT8, H5P_DEFAULT, N);
    FILE *file = fopen(in_folder("a.h5"), "rb");
    size_t whole = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    assert_true(whole < sizeof bytes);
    for (size_t cut = 1; cut < whole; cut += whole / 7) {
        put_file("cut.h5", bytes, whole - cut);
        light_status status = light_hdf5_dataset_open(&dataset, in_folder("cut.h5"), both, 2);
        assert_int_equal(status, LIGHT_ERR_FORMAT);
        assert_message((const char *[]){"cut.h5", NULL});
        assert_null(dataset);
    }
}

static void each_failing_allocation_is_reported_and_leaks_nothing(void **state)
{
    light_dataset *dataset;
    light_status status = LIGHT_ERR_MEMORY;

    (void)state;
    put_pair("a.h5", H5T_NATIVE_UINT8, chunked(0), N);
    for (int nth = 1; status != LIGHT_OK; nth++) {
        light_memory_fail_nth(nth);
        status = light_hdf5_dataset_open(&dataset, in_folder("a.h5"), both, 2);
        light_memory_fail_nth(0);
        if (status != LIGHT_OK) assert_int_equal(status, LIGHT_ERR_MEMORY);
    }
    light_dataset_free(dataset);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(every_layout_and_type_gives_the_same_samples),
        TEST(bools_are_read_as_h5py_writes_them),
        TEST(damage_is_told),
        TEST(each_failing_allocation_is_reported_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
