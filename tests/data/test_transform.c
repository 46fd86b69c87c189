/* SPDX-License-Identifier: Apache-2.0 */
/* Transforms: their values, and that augmentation is a function of seed, epoch and sample alone. */
#include "data/fixture.h"

#include <float.h>

#define N      60
#define H      5
#define W      4
#define PIXELS (3 * H * W)

static uint8_t pixels[N][3][H][W];
static int64_t numbers[N];

static light_dataset *make_images(void)
{
    static const light_field fields[2] = {{"image", LIGHT_U8, {3, {3, H, W}}}, {"label", LIGHT_I64, {0}}};
    light_dataset *dataset;

    for (int i = 0; i < N; i++) {
        numbers[i] = i;
        for (int p = 0; p < PIXELS; p++) (&pixels[i][0][0][0])[p] = (uint8_t)(1 + (i * 37 + p * 11) % 255);
    }
    assert_ok(light_memory_dataset_open(&dataset, fields, 2, N, (const void *[]){pixels, numbers}));
    return dataset;
}

static light_loader *make_loader(light_transform transform, bool shuffle, int workers, int64_t batch_size)
{
    light_dataset *dataset = make_images();
    light_loader *loader = light_loader_new(dataset, .batch_size = batch_size, .shuffle = shuffle,
                                            .num_workers = workers, .seed = 11, .transform = transform);

    light_dataset_free(dataset);
    return loader;
}

/* Field 0 of the whole epoch, each sample at the place of its index. Returns a sample's elements. */
static int64_t read_epoch(light_loader *loader, int64_t epoch, void *all, light_dtype dtype)
{
    size_t bytes = 0;

    assert_non_null(loader);
    assert_ok(light_loader_begin(loader, epoch, 0));
    for (;;) {
        light_host_batch batch;
        light_batch about;
        assert_ok(light_loader_next_host(loader, &batch, &about));
        if (batch.size == 0) break;
        assert_int_equal(batch.fields[0].dtype, dtype);
        bytes = light_field_bytes(&batch.fields[0]) / (size_t)batch.size;
        for (int64_t i = 0; i < batch.size; i++) {
            memcpy((char *)all + (size_t)about.indices[i] * bytes, (char *)batch.data[0] + (size_t)i * bytes,
                   bytes);
        }
    }
    return (int64_t)(bytes / light_dtype_size(dtype));
}

static void normalize_scales_and_shifts(void **state)
{
    static float all[N][3][H * W];
    light_loader *loader = make_loader(light_normalize(0, .mean = 0.286f, .std = 0.353f), false, 0, 7);

    (void)state;
    assert_int_equal(read_epoch(loader, 0, all, LIGHT_F32), PIXELS);
    for (int i = 0; i < N; i++) {
        for (int p = 0; p < PIXELS; p++) {
            double expected = ((&pixels[i][0][0][0])[p] / 255.0 - (double)0.286f) / (double)0.353f;
            /* Scale and shift are rounded once each, and so are product and sum: values are below 3. */
            assert_float_equal((&all[i][0][0])[p], expected, 4 * 3 * FLT_EPSILON);
        }
    }
    light_loader_free(loader);

    static const double means[] = {0.485, 0.456, 0.406}, stds[] = {0.229, 0.224, 0.225};
    loader = make_loader(
        light_normalize(0, .means = {0.485f, 0.456f, 0.406f}, .stds = {0.229f, 0.224f, 0.225f}), true, 2, 8);
    assert_int_equal(read_epoch(loader, 0, all, LIGHT_F32), PIXELS);
    for (int i = 0; i < N; i++) {
        for (int c = 0; c < 3; c++) {
            for (int p = 0; p < H * W; p++) {
                double expected = ((&pixels[i][c][0][0])[p] / 255.0 - means[c]) / stds[c];
                assert_float_equal(all[i][c][p], expected, 8 * 3 * FLT_EPSILON);
            }
        }
    }
    light_loader_free(loader);

    assert_null(make_loader(light_normalize(0, .means = {0.5f, 0.5f}, .stds = {1, 1}), false, 0, 4));
    assert_message((const char *[]){"2 means", "3 channels", NULL});
    assert_null(make_loader(light_normalize(1, .means = {0.5f, 0.5f}, .stds = {1, 1}), false, 0, 4));
    assert_message((const char *[]){"2 means", "0 channels", NULL});
}

static void normalize_takes_any_plain_dtype(void **state)
{
    static float from_f32[N * PIXELS], from_f64[N * PIXELS], from_i32[N * PIXELS];
    light_transform last = light_normalize(0, .mean = 100, .std = 50);

    (void)state;
    light_loader *a = make_loader(light_compose(light_convert_field(0, LIGHT_F32), last), false, 1, 8);
    light_loader *b = make_loader(light_compose(light_convert_field(0, LIGHT_F64), last), false, 1, 8);
    light_loader *c = make_loader(light_compose(light_convert_field(0, LIGHT_I32), last), false, 1, 8);
    read_epoch(a, 0, from_f32, LIGHT_F32);
    read_epoch(b, 0, from_f64, LIGHT_F32);
    read_epoch(c, 0, from_i32, LIGHT_F32);
    for (int i = 0; i < N * PIXELS; i++) {
        double expected = ((&pixels[0][0][0][0])[i] - 100.0) / 50.0;
        assert_float_equal(from_f32[i], expected, 8 * 3 * FLT_EPSILON);
        assert_float_equal(from_f64[i], expected, 4 * FLT_EPSILON);
        assert_float_equal(from_i32[i], expected, 4 * FLT_EPSILON);
    }
    light_loader_free(a);
    light_loader_free(b);
    light_loader_free(c);
}

static void convert_cuts_off_and_keeps_in_range(void **state)
{
    static const double values[] = {-3.7, 0.9, 255.5, 1e30, -1e30, 0};
    static const light_field field = {"x", LIGHT_F64, {0}};
    static const light_dtype dtypes[] = {LIGHT_U8, LIGHT_I32, LIGHT_I64, LIGHT_BOOL, LIGHT_F32};
    static const double expected[][6] = {{0, 0, 255, 255, 0, 0},
                                         {-3, 0, 255, INT32_MAX, INT32_MIN, 0},
                                         {-3, 0, 255, 0x1.fffffffffffffp62, -0x1p63, 0},
                                         {1, 1, 1, 1, 1, 0},
                                         {-3.7f, 0.9f, 255.5f, 1e30f, -1e30f, 0}};
    light_dataset *dataset;

    (void)state;
    assert_ok(light_memory_dataset_open(&dataset, &field, 1, 6, (const void *[]){values}));
    for (int k = 0; k < 5; k++) {
        /* And back, to compare. */
        light_loader *loader = light_loader_new(
            dataset, .batch_size = 6,
            .transform = light_compose(light_convert_field(0, dtypes[k]), light_convert_field(0, LIGHT_F64)));
        light_host_batch batch;
        light_batch about;
        assert_ok(light_loader_begin(loader, 0, 0));
        assert_ok(light_loader_next_host(loader, &batch, &about));
        for (int i = 0; i < 6; i++) assert_true(((double *)batch.data[0])[i] == expected[k][i]);
        light_loader_free(loader);
    }
    assert_null(light_loader_new(dataset, .batch_size = 6, .transform = light_convert_field(0, LIGHT_F16)));
    assert_message((const char *[]){"transform 0 (convert_field)", "f16", NULL});
    light_dataset_free(dataset);
}

static bool is_flipped(const uint8_t *sample, int i, bool flipped)
{
    for (int c = 0; c < 3; c++) {
        for (int y = 0; y < H; y++) {
            for (int x = 0; x < W; x++) {
                if (sample[(c * H + y) * W + x] != pixels[i][c][y][flipped ? W - 1 - x : x]) return false;
            }
        }
    }
    return true;
}

static void about_half_of_the_images_are_mirrored(void **state)
{
    static uint8_t all[N][PIXELS];
    int flipped[3] = {0};
    double probabilities[] = {0, 0.5, 1};

    (void)state;
    for (int k = 0; k < 3; k++) {
        light_loader *loader = make_loader(light_random_horizontal_flip(0, probabilities[k]), true, 1, 8);
        assert_int_equal(read_epoch(loader, 0, all, LIGHT_U8), PIXELS);
        for (int i = 0; i < N; i++) {
            bool mirrored = is_flipped(all[i], i, true);
            assert_true(mirrored || is_flipped(all[i], i, false));
            flipped[k] += mirrored;
        }
        light_loader_free(loader);
    }
    assert_int_equal(flipped[0], 0);
    /* 60 throws of a coin: outside of this with probability 1e-6, and the throws are always the same. */
    assert_in_range(flipped[1], 12, 48);
    assert_int_equal(flipped[2], N);
    assert_null(make_loader(light_random_horizontal_flip(0, 1.5), true, 1, 8));
    assert_message((const char *[]){"1.5", "0..1", NULL});
    assert_null(make_loader(light_random_horizontal_flip(1, 0.5), true, 1, 8));
}

/* Every cut is a window of the padded image; all offsets occur. */
static void crops_are_windows_of_the_padded_image(void **state)
{
    enum { OUT_H = 4, OUT_W = 5, PADDING = 2, TOPS = H + 4 - OUT_H + 1, LEFTS = W + 4 - OUT_W + 1 };
    static uint8_t all[N][3][OUT_H][OUT_W];
    bool seen_top[TOPS] = {false}, seen_left[LEFTS] = {false};
    light_loader *loader = make_loader(light_random_crop(0, OUT_H, OUT_W, PADDING), true, 2, 8);

    (void)state;
    for (int epoch = 0; epoch < 4; epoch++) {
        assert_int_equal(read_epoch(loader, epoch, all, LIGHT_U8), 3 * OUT_H * OUT_W);
        for (int i = 0; i < N; i++) {
            bool found = false;
            for (int place = 0; place < TOPS * LEFTS && !found; place++) {
                int top = place / LEFTS, left = place % LEFTS;
                found = true;
                for (int k = 0; k < 3 * OUT_H * OUT_W && found; k++) {
                    int c = k / (OUT_H * OUT_W), y = k / OUT_W % OUT_H + top - PADDING,
                        x = k % OUT_W + left - PADDING;
                    int expected = y < 0 || y >= H || x < 0 || x >= W ? 0 : pixels[i][c][y][x];
                    found = (&all[i][0][0][0])[k] == expected;
                }
                if (found) seen_top[top] = seen_left[left] = true;
            }
            assert_true(found);
        }
    }
    for (int i = 0; i < TOPS; i++) assert_true(seen_top[i]);
    for (int i = 0; i < LEFTS; i++) assert_true(seen_left[i]);
    light_loader_free(loader);
}

static light_status add_noise(void *user, light_host_batch *batch)
{
    float *x = batch->data[0];
    int64_t elements = light_shape_numel(batch->fields[0].shape) / batch->size;

    if (user && batch->indices[0] == *(int64_t *)user) return light_fail(LIGHT_ERR_USER, "no noise today");
    for (int64_t i = 0; i < batch->size; i++) {
        for (int64_t e = 0; e < elements; e++) {
            double u = light_sample_uniform(batch, i, (uint32_t)e);
            assert_true(u >= 0 && u < 1);
            x[i * elements + e] += (float)u;
        }
    }
    return LIGHT_OK;
}

static void augmentation_depends_on_seed_epoch_and_sample_alone(void **state)
{
    static float expected[2][N * 3 * 16], all[N * 3 * 16];
    light_transform chain =
        light_compose(light_random_crop(0, 4, 4, 1), light_random_horizontal_flip(0, 0.5),
                      light_normalize(0, .mean = 0.5f, .std = 0.5f), light_transform_with(add_noise, NULL));

    (void)state;
    for (int64_t epoch = 0; epoch < 2; epoch++) {
        light_loader *loader = make_loader(chain, false, 0, N);
        assert_int_equal(read_epoch(loader, epoch, expected[epoch], LIGHT_F32), 3 * 16);
        light_loader_free(loader);
    }
    assert_memory_not_equal(expected[0], expected[1], sizeof expected[0]);
    for (int workers = 0; workers <= 3; workers++) {
        light_loader *loader = make_loader(chain, true, workers, 7);
        for (int64_t epoch = 1; epoch >= 0; epoch--) {
            read_epoch(loader, epoch, all, LIGHT_F32);
            assert_memory_equal(all, expected[epoch], sizeof all);
        }
        light_loader_free(loader);
    }

    /* Two flips in a chain throw coins of their own. */
    static uint8_t twice[N][PIXELS];
    int mirrored = 0;
    light_transform flip = light_random_horizontal_flip(0, 0.5);
    light_loader *loader = make_loader(light_compose(flip, flip), false, 0, N);
    read_epoch(loader, 0, twice, LIGHT_U8);
    for (int i = 0; i < N; i++) mirrored += is_flipped(twice[i], i, true);
    assert_in_range(mirrored, 12, 48);
    light_loader_free(loader);
}

static void a_failing_function_is_named(void **state)
{
    int64_t bad = 8;
    light_host_batch batch;
    light_batch about;
    light_loader *loader =
        make_loader(light_compose(light_normalize(0), light_transform_with(add_noise, &bad)), false, 1, 8);

    (void)state;
    assert_ok(light_loader_begin(loader, 0, 0));
    assert_ok(light_loader_next_host(loader, &batch, &about));
    assert_fails(light_loader_next_host(loader, &batch, &about), LIGHT_ERR_USER, "batch 1",
                 "transform 1 (function)", "no noise today");
    light_loader_free(loader);
    assert_null(make_loader(light_transform_with(NULL, NULL), false, 1, 8));
    assert_null(make_loader((light_transform){.count = 1}, false, 1, 8));
    assert_message((const char *[]){"transform 0 is empty", NULL});
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, count_memory, no_leak)
    const struct CMUnitTest tests[] = {
        TEST(normalize_scales_and_shifts),
        TEST(normalize_takes_any_plain_dtype),
        TEST(convert_cuts_off_and_keeps_in_range),
        TEST(about_half_of_the_images_are_mirrored),
        TEST(crops_are_windows_of_the_padded_image),
        TEST(augmentation_depends_on_seed_epoch_and_sample_alone),
        TEST(a_failing_function_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
