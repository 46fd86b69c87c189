/* SPDX-License-Identifier: Apache-2.0 */
/* IDX files: plain and compressed, whole and damaged in every way. */
#include "data/fixture.h"

#include <zlib.h>

static void put_gz(const char *name, const void *data, size_t bytes)
{
    gzFile file = gzopen(in_folder(name), "wb");

    assert_non_null(file);
    assert_int_equal(gzwrite(file, data, (unsigned)bytes), (int)bytes);
    assert_int_equal(gzclose(file), Z_OK);
}

/* Five images of 2 x 3; pixel p of image i is 10 i + p. */
static const uint8_t images[] = {0,  0,  8,  3,  0,  0,  0,  5,  0,  0,  0,  2,  0,  0,  0,  3,
                                 0,  1,  2,  3,  4,  5,  10, 11, 12, 13, 14, 15, 20, 21, 22, 23,
                                 24, 25, 30, 31, 32, 33, 34, 35, 40, 41, 42, 43, 44, 45};
static const uint8_t labels[] = {0, 0, 8, 1, 0, 0, 0, 5, 3, 1, 4, 1, 5};

#define OPEN(dataset, ...) light_idx_dataset_open(dataset, folder, "images", "labels", __VA_ARGS__)

static void assert_samples(light_dataset *dataset)
{
    light_field fields[LIGHT_MAX_FIELDS];
    int num_fields;
    uint8_t image[6];
    int64_t label;

    assert_ok(light_dataset_describe(dataset, fields, &num_fields));
    assert_int_equal(num_fields, 2);
    assert_int_equal(fields[0].dtype, LIGHT_U8);
    assert_true(light_shape_equal(fields[0].shape, LIGHT_SHAPE(1, 2, 3)));
    assert_int_equal(fields[1].dtype, LIGHT_I64);
    assert_int_equal(fields[1].shape.ndim, 0);
    assert_int_equal(light_dataset_length(dataset), 5);
    for (int i = 0; i < 5; i++) {
        assert_ok(light_dataset_get(dataset, i, (void *[]){image, &label}));
        for (int p = 0; p < 6; p++) assert_int_equal(image[p], 10 * i + p);
        assert_int_equal(label, labels[8 + i]);
    }
}

static void plain_and_compressed_files_are_the_same(void **state)
{
    light_dataset *dataset;

    (void)state;
    put_file("images", images, sizeof images);
    put_file("labels", labels, sizeof labels);
    assert_ok(light_idx_dataset_open(&dataset, folder, "images", "labels"));
    assert_samples(dataset);
    light_dataset_free(dataset);

    assert_int_equal(remove(in_folder("images")), 0);
    put_gz("images.gz", images, sizeof images);
    assert_ok(OPEN(&dataset, .num_classes = 6));
    assert_samples(dataset);
    light_dataset_free(dataset);
}

static void other_types_and_dims_are_read(void **state)
{
    static const uint8_t floats[] = {0, 0, 0x0D, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0x3F, 0x80, 0, 0, 0xC0, 0, 0, 0};
    static const uint8_t words[] = {0, 0, 0x0C, 1, 0, 0, 0, 1, 0, 1, 0, 2};
    light_dataset *dataset;
    light_field fields[LIGHT_MAX_FIELDS];
    int num_fields;
    float x[2];
    int64_t label;

    (void)state;
    put_file("images", floats, sizeof floats);
    put_file("labels", words, sizeof words);
    assert_ok(light_idx_dataset_open(&dataset, folder, "images", "labels"));
    assert_ok(light_dataset_describe(dataset, fields, &num_fields));
    assert_int_equal(fields[0].dtype, LIGHT_F32);
    assert_true(light_shape_equal(fields[0].shape, LIGHT_SHAPE(2)));
    assert_ok(light_dataset_get(dataset, 0, (void *[]){x, &label}));
    assert_true(x[0] == 1.0f && x[1] == -2.0f);
    assert_int_equal(label, 65538);
    light_dataset_free(dataset);
}

static void missing_files_are_named(void **state)
{
    light_dataset *dataset;

    (void)state;
    assert_fails(OPEN(&dataset, .num_classes = 0), LIGHT_ERR_NOT_FOUND, "labels", "labels.gz", folder);
    put_file("labels", labels, sizeof labels);
    assert_fails(OPEN(&dataset, .num_classes = 0), LIGHT_ERR_NOT_FOUND, "images", "images.gz", folder);
    assert_null(dataset);
    assert_fails(light_idx_dataset_open(&dataset, "/nonexistent/folder", "images", "labels"),
                 LIGHT_ERR_NOT_FOUND, "the folder /nonexistent/folder");
}

static void every_truncation_is_noticed(void **state)
{
    light_dataset *dataset;
    char zipped[256];

    (void)state;
    put_file("labels", labels, sizeof labels);
    for (size_t bytes = 0; bytes < sizeof images; bytes++) {
        put_file("images", images, bytes);
        assert_fails(OPEN(&dataset, .num_classes = 0), LIGHT_ERR_FORMAT, "/images", "truncated");
    }
    assert_int_equal(remove(in_folder("images")), 0);
    put_gz("images.gz", images, sizeof images);
    FILE *file = fopen(in_folder("images.gz"), "rb");
    size_t whole = fread(zipped, 1, sizeof zipped, file);
    fclose(file);
    for (size_t bytes = 0; bytes < whole; bytes++) {
        put_file("images.gz", zipped, bytes);
        assert_int_equal(OPEN(&dataset, .num_classes = 0), LIGHT_ERR_FORMAT);
        assert_message((const char *[]){"/images.gz", NULL});
        assert_null(dataset);
    }
    /* A damaged checksum. */
    zipped[whole - 6] ^= 1;
    put_file("images.gz", zipped, whole);
    assert_fails(OPEN(&dataset, .num_classes = 0), LIGHT_ERR_FORMAT, "/images.gz", "damaged");
}

static void other_damage_is_noticed(void **state)
{
    light_dataset *dataset;
    uint8_t bytes[sizeof images + 1];

    (void)state;
    put_file("images", images, sizeof images);
    put_file("labels", labels, sizeof labels);

    memcpy(bytes, labels, sizeof labels);
    bytes[8 + 2] = 10;
    put_file("labels", bytes, sizeof labels);
    assert_fails(OPEN(&dataset, .num_classes = 10), LIGHT_ERR_FORMAT, "/labels", "label 10 of sample 2",
                 "0..9");

    bytes[7] = 4;
    put_file("labels", bytes, sizeof labels - 1);
    assert_fails(OPEN(&dataset, .num_classes = 0), LIGHT_ERR_FORMAT, "5 samples", "4 labels");

    /* The two files swapped. */
    assert_fails(light_idx_dataset_open(&dataset, folder, "images", "images"), LIGHT_ERR_FORMAT, "/images",
                 "labels are whole numbers in one dimension");

    put_file("labels", labels, sizeof labels);
    memcpy(bytes, images, sizeof images);
    bytes[sizeof images] = 0;
    put_file("images", bytes, sizeof bytes);
    assert_fails(OPEN(&dataset, .num_classes = 0), LIGHT_ERR_FORMAT, "/images", "more bytes than the 46");

    bytes[0] = 'P';
    put_file("images", bytes, sizeof images);
    assert_fails(OPEN(&dataset, .num_classes = 0), LIGHT_ERR_FORMAT, "/images", "no IDX file", "50 00 08 03");

    bytes[0] = 0;
    memset(bytes + 4, 0xFF, 12);
    put_file("images", bytes, sizeof images);
    assert_fails(OPEN(&dataset, .num_classes = 0), LIGHT_ERR_FORMAT, "/images");

    memset(bytes + 4, 0, 4);
    put_file("images", bytes, 16);
    put_file("labels", "\0\0\10\1\0\0\0", 8);
    assert_fails(OPEN(&dataset, .num_classes = 0), LIGHT_ERR_FORMAT, "/images");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(plain_and_compressed_files_are_the_same),
        TEST(other_types_and_dims_are_read),
        TEST(missing_files_are_named),
        TEST(every_truncation_is_noticed),
        TEST(other_damage_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
