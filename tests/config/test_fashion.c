/* SPDX-License-Identifier: Apache-2.0 */
/* The first example on data that is missing or damaged: one clear line, exit code 1, no folder of a run
 * left behind. */
#include "program.h"

#include <zlib.h>

enum { SAMPLES = 60000, PIXELS = 28 * 28 };
static const char *const example = LIGHT_TEST_BINARY_DIR "/examples/fashion_mnist";

static void put_number(unsigned char *to, uint32_t value)
{
    for (int i = 0; i < 4; i++) to[i] = (unsigned char)(value >> (24 - 8 * i));
}

/* An IDX file of zeros: LeCun's header, then the bytes. */
static void put_idx(const char *name, unsigned char magic_dims, int samples)
{
    unsigned char header[16] = {0, 0, 8, magic_dims};
    static unsigned char zeros[PIXELS];
    size_t length = magic_dims == 3 ? 16 : 8;
    put_number(header + 4, SAMPLES);
    put_number(header + 8, 28);
    put_number(header + 12, 28);
    bool packed = light_ends_with(name, ".gz");
    gzFile file = gzopen(at(name), packed ? "wb1" : "wbT"); /* T: as it is */
    assert_non_null(file);
    assert_int_equal(gzwrite(file, header, (unsigned)length), (int)length);
    for (int i = 0; i < samples; i++) {
        unsigned n = magic_dims == 3 ? PIXELS : 1;
        assert_int_equal(gzwrite(file, zeros, n), (int)n);
    }
    assert_int_equal(gzclose(file), Z_OK);
}

/* The example's exit code, with data from a folder of its own. */
static int fit(const char *root, const char *const *more)
{
    const char *arguments[32] = {"fit", "--data.root", root};
    for (int i = 0; more && more[i]; i++) arguments[i + 3] = more[i];
    start(example, NULL, arguments);
    return finish();
}

/* One line, which begins like this and says all of it. */
static void assert_one_line(const char *const *parts)
{
    assert_true(light_starts_with(err, "error: fashion_mnist: fashion: setup: "));
    for (int i = 0; parts[i]; i++) assert_says(err, parts[i]);
    assert_ptr_equal(strchr(err, '\n'), err + strlen(err) - 1);
    assert_string_equal(out, "");
    assert_false(
        light_directory_exists(at("runs/convnet/version_0"))); /* no folder of a run that never began */
}
#define assert_fails_with(...)                                                                               \
    do {                                                                                                     \
        assert_int_equal(fit("data", NULL), 1);                                                              \
        assert_one_line((const char *const[]){__VA_ARGS__, NULL});                                           \
    } while (0)

static int fresh(void **state)
{
    (void)state;
    if (light_remove_tree(at("data")) || light_remove_tree(at("runs")) || mkdir(at("data"), 0777)) return -1;
    return 0;
}

static bool no_example(void)
{
    return access(example, X_OK) != 0;
}

static void test_missing_folder_and_files(void **state)
{
    (void)state;
    if (no_example()) skip();
    assert_int_equal(fit("none", NULL), 1);
    assert_one_line((const char *const[]){"none", "is not there", NULL});
    assert_fails_with("data", "train-labels-idx1-ubyte");
    put_idx("data/train-labels-idx1-ubyte", 1, SAMPLES);
    assert_fails_with("data", "train-images-idx3-ubyte");
}

static void test_truncated_files(void **state)
{
    (void)state;
    struct stat info;
    if (no_example()) skip();
    put_idx("data/train-labels-idx1-ubyte", 1, SAMPLES - 1);
    put_idx("data/train-images-idx3-ubyte.gz", 3, SAMPLES);
    assert_fails_with("data/train-labels-idx1-ubyte", "truncated");
    put_idx("data/train-labels-idx1-ubyte", 1, SAMPLES);
    assert_int_equal(stat(at("data/train-images-idx3-ubyte.gz"), &info), 0);
    assert_int_equal(truncate(at("data/train-images-idx3-ubyte.gz"), info.st_size / 2), 0);
    assert_fails_with("data/train-images-idx3-ubyte.gz", "truncated");
}

static void test_wrong_magic(void **state)
{
    (void)state;
    if (no_example()) skip();
    put_idx("data/train-labels-idx1-ubyte", 1, SAMPLES);
    put("data/train-images-idx3-ubyte", "\x89PNG this is no IDX file at all");
    assert_fails_with("data/train-images-idx3-ubyte");
    put("data/train-images-idx3-ubyte", "");
    assert_fails_with("data/train-images-idx3-ubyte");
}

static void test_mistakes_on_the_line(void **state)
{
    (void)state;
    if (no_example()) skip();
    assert_int_equal(fit("data", (const char *const[]){"--data.batch_size", "0", NULL}), 2);
    assert_string_equal(err, "error: fashion_mnist: --data.batch_size 0: must be at least 1\n");
    assert_int_equal(fit("data", (const char *const[]){"--model.dropuot", "0.5", NULL}), 2);
    assert_string_equal(
        err, "error: fashion_mnist: unknown option --model.dropuot (did you mean --model.dropout?)\n");
    assert_int_equal(fit("data", (const char *const[]){"--model.dropout", "1.5", NULL}), 2);
    assert_string_equal(err, "error: fashion_mnist: --model.dropout 1.5: must be between 0 and 1\n");
    assert_false(light_directory_exists(at("runs")));
}

static int all_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_missing_folder_and_files, fresh),
        cmocka_unit_test_setup(test_truncated_files, fresh),
        cmocka_unit_test_setup(test_wrong_magic, fresh),
        cmocka_unit_test_setup(test_mistakes_on_the_line, fresh),
    };
    return cmocka_run_group_tests_name("fashion_mnist on damaged data", tests, make_folder, remove_folder);
}

PROGRAM_MAIN(.description = "A tiny program.")
