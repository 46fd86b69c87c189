/* SPDX-License-Identifier: Apache-2.0 */
/* Windows of bytes, characters and tokens. */
#include "data/fixture.h"

static void windows_are_cut_one_token_apart(void **state)
{
    static const char text[] = "the quick brown fox";
    int64_t x[4], y[4];
    light_dataset *dataset;

    (void)state;
    put_file("a.txt", text, sizeof text - 1);
    for (int64_t stride = 1; stride <= 5; stride++) {
        assert_ok(light_text_dataset_open(&dataset, in_folder("a.txt"), .block_size = 4, .stride = stride));
        int64_t n = light_dataset_length(dataset);
        /* The last window has its last target within the text; one more would not. */
        assert_true((n - 1) * stride + 4 < (int64_t)sizeof text - 1);
        assert_true(n * stride + 4 >= (int64_t)sizeof text - 1);
        for (int64_t i = 0; i < n; i++) {
            assert_ok(light_dataset_get(dataset, i, (void *[]){x, y}));
            for (int k = 0; k < 4; k++) {
                assert_int_equal(x[k], text[i * stride + k]);
                assert_int_equal(y[k], text[i * stride + k + 1]);
            }
        }
        light_dataset_free(dataset);
    }
    /* By default every token is an x once. */
    assert_ok(light_text_dataset_open(&dataset, in_folder("a.txt"), .block_size = 6));
    assert_int_equal(light_dataset_length(dataset), 3);
    light_dataset_free(dataset);
}

static void characters_get_numbers_in_the_whole_file(void **state)
{
    light_dataset *train, *val;
    uint8_t bytes[256], val_bytes[256];
    int64_t x[2], y[2];

    (void)state;
    put_file("a.txt", "banana\nxbanb", 12);
    assert_ok(
        light_text_dataset_open(&train, in_folder("a.txt"), .block_size = 2, .characters = true, .end = 0.5));
    assert_ok(
        light_text_dataset_open(&val, in_folder("a.txt"), .block_size = 2, .characters = true, .start = 0.5));
    assert_int_equal(light_text_dataset_vocabulary(train, bytes), 5);
    assert_memory_equal(bytes, "\nabnx", 5);
    assert_int_equal(light_text_dataset_vocabulary(val, val_bytes), 5);
    assert_memory_equal(val_bytes, bytes, 5);
    assert_int_equal(light_dataset_length(train), 2);
    assert_ok(light_dataset_get(train, 1, (void *[]){x, y}));
    assert_true(x[0] == 3 && x[1] == 1 && y[0] == 1 && y[1] == 3);
    assert_ok(light_dataset_get(val, 0, (void *[]){x, y}));
    assert_true(x[0] == 0 && x[1] == 4 && y[1] == 2);
    light_dataset_free(train);
    light_dataset_free(val);
}

static void wide_tokens_and_long_windows_are_read(void **state)
{
    enum { TOKENS = 9000, BLOCK = 5000 };
    static uint8_t tokens[4 * TOKENS];
    static int64_t x[BLOCK], y[BLOCK];
    light_dataset *dataset;

    (void)state;
    for (uint32_t width = 2; width <= 4; width += 2) {
        for (uint32_t i = 0; i < TOKENS; i++) {
            uint32_t value = width == 2 ? i * 7 : i * 400001;
            for (uint32_t b = 0; b < width; b++) tokens[width * i + b] = (uint8_t)(value >> 8 * b);
        }
        put_file("a.bin", tokens, width * TOKENS);
        assert_ok(light_text_dataset_open(&dataset, in_folder("a.bin"), .block_size = BLOCK, .stride = 3000,
                                          .token_bytes = (int)width));
        assert_int_equal(light_dataset_length(dataset), 2);
        assert_ok(light_dataset_get(dataset, 1, (void *[]){x, y}));
        for (uint32_t i = 0; i < BLOCK; i++) {
            uint32_t at = 3000 + i;
            assert_int_equal(x[i], width == 2 ? (at * 7 & 0xFFFF) : at * 400001);
            assert_int_equal(y[i], width == 2 ? ((at + 1) * 7 & 0xFFFF) : (at + 1) * 400001);
        }
        light_dataset_free(dataset);
    }
}

static void mistakes_are_told(void **state)
{
    light_dataset *dataset;
    int64_t x[4], y[4];

    (void)state;
    put_file("a.txt", "hello", 5);
    assert_fails(light_text_dataset_open(&dataset, in_folder("none.txt"), .block_size = 4),
                 LIGHT_ERR_NOT_FOUND, "none.txt");
    assert_fails(light_text_dataset_open(&dataset, folder, .block_size = 4), LIGHT_ERR_IO, folder, "no file");
    assert_fails(light_text_dataset_open(&dataset, in_folder("a.txt"), .stride = 4), LIGHT_ERR_ARGUMENT,
                 "block_size is 0");
    assert_fails(light_text_dataset_open(&dataset, in_folder("a.txt"), .block_size = 5), LIGHT_ERR_FORMAT,
                 "a.txt", "5 tokens", "block_size is 5");
    assert_fails(light_text_dataset_open(&dataset, in_folder("a.txt"), .block_size = INT64_MAX),
                 LIGHT_ERR_FORMAT, "5 tokens");
    assert_fails(light_text_dataset_open(&dataset, in_folder("a.txt"), .block_size = 1, .token_bytes = 2),
                 LIGHT_ERR_FORMAT, "5 bytes", "2 bytes", "truncated");
    assert_fails(light_text_dataset_open(&dataset, in_folder("a.txt"), .block_size = 1, .token_bytes = 3),
                 LIGHT_ERR_ARGUMENT, "token_bytes is 3");
    assert_fails(
        light_text_dataset_open(&dataset, in_folder("a.txt"), .block_size = 1, .start = 0.5, .end = 0.25),
        LIGHT_ERR_ARGUMENT, "0.5 .. 0.25");
    assert_fails(light_text_dataset_open(&dataset, in_folder("a.txt"), .block_size = 1, .token_bytes = 4,
                                         .characters = true),
                 LIGHT_ERR_ARGUMENT, "single bytes");

    /* The file shrinks while it is in use. */
    assert_ok(light_text_dataset_open(&dataset, in_folder("a.txt"), .block_size = 4));
    put_file("a.txt", "hel", 3);
    assert_fails(light_dataset_get(dataset, 0, (void *[]){x, y}), LIGHT_ERR_IO, "sample 0", "a.txt",
                 "shorter than 5");
    light_dataset_free(dataset);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(windows_are_cut_one_token_apart),
        TEST(characters_get_numbers_in_the_whole_file),
        TEST(wide_tokens_and_long_windows_are_read),
        TEST(mistakes_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
