/* SPDX-License-Identifier: Apache-2.0 */
/* Folders of images: classes, decoding, scaling, damaged images. */
#include "data/fixture.h"

#include "data/formats/image.h"

#include <jpeglib.h>
#include <png.h>

#define H 6
#define W 8

static uint8_t rgb[H][W][3];

static void paint(int seed)
{
    for (int y = 0; y < H; y++) {
        for (int x = 0; x < W; x++) {
            for (int c = 0; c < 3; c++) rgb[y][x][c] = (uint8_t)(seed * 31 + y * 17 + x * 29 + c * 71);
        }
    }
}

static void put_png(const char *name, png_uint_32 format, const void *pixels, int height, int width)
{
    png_image png = {.version = PNG_IMAGE_VERSION, .format = format};

    png.height = (png_uint_32)height;
    png.width = (png_uint_32)width;
    assert_int_equal(png_image_write_to_file(&png, in_folder(name), 0, pixels, 0, NULL), 1);
}

static void put_jpeg(const char *name, J_COLOR_SPACE space, int components)
{
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    FILE *file = fopen(in_folder(name), "wb");

    assert_non_null(file);
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_stdio_dest(&jpeg, file);
    jpeg.image_width = W;
    jpeg.image_height = H;
    jpeg.input_components = components;
    jpeg.in_color_space = space;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, 100, TRUE);
    if (components == 3) jpeg.comp_info[0].h_samp_factor = jpeg.comp_info[0].v_samp_factor = 1;
    jpeg_start_compress(&jpeg, TRUE);
    while (jpeg.next_scanline < H) {
        uint8_t line[4 * W];
        for (int i = 0; i < W * components; i++) line[i] = (uint8_t)(40 + 20 * jpeg.next_scanline + 2 * i);
        jpeg_write_scanlines(&jpeg, &(JSAMPROW){line}, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    fclose(file);
}

static void make_class(const char *name)
{
    assert_ok(light_make_directories(in_folder(name)));
}

static void classes_and_files_come_in_the_order_of_their_names(void **state)
{
    light_dataset *dataset;
    light_field fields[LIGHT_MAX_FIELDS];
    int num_fields;
    const char *const *names;
    uint8_t image[3][H][W];
    int64_t label;

    (void)state;
    make_class("dog");
    make_class("cat");
    make_class("Zebra");
    for (int i = 0; i < 4; i++) {
        static const char *const files[] = {"cat/b.png", "dog/1.PNG", "cat/a.png", "Zebra/x.png"};
        paint(i);
        put_png(files[i], PNG_FORMAT_RGB, rgb, H, W);
    }
    put_file("cat/notes.txt", "no image", 8);
    put_file("cat/.hidden.png", "no image", 8);
    put_file("readme", "no folder", 9);
    assert_ok(light_image_folder_open(&dataset, folder));
    assert_int_equal(light_image_folder_classes(dataset, &names), 3);
    assert_string_equal(names[0], "Zebra");
    assert_string_equal(names[1], "cat");
    assert_string_equal(names[2], "dog");
    assert_int_equal(light_dataset_length(dataset), 4);
    assert_ok(light_dataset_describe(dataset, fields, &num_fields));
    assert_true(light_shape_equal(fields[0].shape, LIGHT_SHAPE(3, H, W)));
    for (int i = 0; i < 4; i++) {
        static const int seeds[] = {3, 2, 0, 1}, labels[] = {0, 1, 1, 2};
        assert_ok(light_dataset_get(dataset, i, (void *[]){image, &label}));
        assert_int_equal(label, labels[i]);
        paint(seeds[i]);
        for (int p = 0; p < 3 * H * W; p++) {
            assert_int_equal((&image[0][0][0])[p], rgb[p / W % H][p % W][p / (H * W)]);
        }
    }
    light_dataset_free(dataset);
}

static void gray_and_transparent_images_become_rgb(void **state)
{
    uint8_t gray[H][W], rgba[H][W][4];
    light_image image;

    (void)state;
    paint(1);
    for (int p = 0; p < H * W; p++) {
        (&gray[0][0])[p] = (uint8_t)(5 * p);
        memcpy(&rgba[p / W][p % W], rgb[p / W][p % W], 3);
        rgba[p / W][p % W][3] = (uint8_t)(3 * p);
    }
    put_png("gray.png", PNG_FORMAT_GRAY, gray, H, W);
    assert_ok(light_image_read(in_folder("gray.png"), &image));
    assert_true(image.height == H && image.width == W);
    for (int i = 0; i < 3 * H * W; i++) assert_int_equal(image.rgb[i], (&gray[0][0])[i / 3]);
    light_free(image.rgb);

    put_png("alpha.png", PNG_FORMAT_RGBA, rgba, H, W);
    assert_ok(light_image_read(in_folder("alpha.png"), &image));
    assert_memory_equal(image.rgb, rgb, sizeof rgb);
    light_free(image.rgb);
}

static void jpeg_images_are_decoded(void **state)
{
    light_image image;

    (void)state;
    put_jpeg("gray.jpg", JCS_GRAYSCALE, 1);
    assert_ok(light_image_read(in_folder("gray.jpg"), &image));
    assert_true(image.height == H && image.width == W);
    for (int y = 0; y < H; y++) {
        for (int x = 0; x < W; x++) {
            /* Quality 100 rounds the cosine transform's coefficients to whole numbers, nothing more. */
            for (int c = 0; c < 3; c++) {
                assert_in_range(image.rgb[(y * W + x) * 3 + c] + 3, 40 + 20 * y + 2 * x,
                                40 + 20 * y + 2 * x + 6);
            }
        }
    }
    light_free(image.rgb);

    put_jpeg("colour.jpeg", JCS_RGB, 3);
    assert_ok(light_image_read(in_folder("colour.jpeg"), &image));
    for (int i = 0; i < 3 * W; i++) assert_in_range(image.rgb[i] + 8, 40 + 2 * i, 40 + 2 * i + 16);
    light_free(image.rgb);

    put_jpeg("print.jpg", JCS_CMYK, 4);
    assert_fails(light_image_read(in_folder("print.jpg"), &image), LIGHT_ERR_FORMAT, "print.jpg");
}

/* One channel of the scaled image by definition: the weighted mean of all pixels, weights of a triangle. */
static double scaled_at(double y0, double used_h, int out_h, double x0, double used_w, int out_w, int y,
                        int x, int c)
{
    double sy = used_h / out_h, sx = used_w / out_w, cy = y0 + (y + 0.5) * sy, cx = x0 + (x + 0.5) * sx;
    double sum = 0, weights = 0;

    for (int i = 0; i < H; i++) {
        for (int j = 0; j < W; j++) {
            double wy = fmax(0, 1 - fabs(i + 0.5 - cy) / fmax(1, sy)),
                   wx = fmax(0, 1 - fabs(j + 0.5 - cx) / fmax(1, sx));
            sum += wy * wx * rgb[i][j][c];
            weights += wy * wx;
        }
    }
    return sum / weights;
}

static void scaling_is_a_triangle_filter(void **state)
{
    static const int sizes[][2] = {{3, 4}, {12, 16}, {5, 5}, {1, 1}, {H, 3}, {2, W}, {13, 7}};
    light_image image = {.height = H, .width = W, .rgb = &rgb[0][0][0]};
    uint8_t to[3 * 16 * 16];

    (void)state;
    paint(5);
    for (int k = 0; k < 7; k++) {
        int h = sizes[k][0], w = sizes[k][1];
        for (int keep = 0; keep < 2; keep++) {
            double scale = fmin((double)H / h, (double)W / w);
            double used_h = keep ? scale * h : H, used_w = keep ? scale * w : W;
            assert_ok(light_image_to_planes(&image, keep, h, w, to));
            for (int p = 0; p < 3 * h * w; p++) {
                double expected = scaled_at((H - used_h) / 2, used_h, h, (W - used_w) / 2, used_w, w,
                                            p / w % h, p % w, p / (h * w));
                /* Half a step by rounding to a byte, a little for float arithmetic. */
                assert_float_equal(to[p], expected, 0.5 + 1e-3);
            }
        }
    }
    /* The same size is the same image. */
    assert_ok(light_image_to_planes(&image, false, H, W, to));
    for (int p = 0; p < 3 * H * W; p++) assert_int_equal(to[p], rgb[p / W % H][p % W][p / (H * W)]);
}

static void images_of_other_sizes_need_scaling(void **state)
{
    light_dataset *dataset;
    uint8_t image[3 * H * W];
    int64_t label;

    (void)state;
    make_class("a");
    paint(0);
    put_png("a/1.png", PNG_FORMAT_RGB, rgb, H, W);
    put_png("a/2.png", PNG_FORMAT_RGB, rgb, H, W - 1);
    assert_ok(light_image_folder_open(&dataset, folder));
    assert_ok(light_dataset_get(dataset, 0, (void *[]){image, &label}));
    assert_fails(light_dataset_get(dataset, 1, (void *[]){image, &label}), LIGHT_ERR_SHAPE, "a/2.png",
                 "6 x 7", "6 x 8", ".height");
    light_dataset_free(dataset);

    assert_ok(light_image_folder_open(&dataset, folder, .height = 4, .width = 4, .keep_aspect = true));
    for (int i = 0; i < 2; i++) assert_ok(light_dataset_get(dataset, i, (void *[]){image, &label}));
    light_dataset_free(dataset);
    assert_fails(light_image_folder_open(&dataset, folder, .height = 4), LIGHT_ERR_ARGUMENT, "4 x 0");
}

static void mistakes_are_told(void **state)
{
    light_dataset *dataset;
    char bytes[4096];

    (void)state;
    assert_fails(light_image_folder_open(&dataset, "/nonexistent/folder"), LIGHT_ERR_NOT_FOUND,
                 "/nonexistent/folder");
    assert_fails(light_image_folder_open(&dataset, folder), LIGHT_ERR_FORMAT, folder, "each class");
    make_class("a");
    assert_fails(light_image_folder_open(&dataset, folder), LIGHT_ERR_FORMAT, "/a", "no PNG or JPEG");
    put_file("a/1.png", "just text", 9);
    assert_fails(light_image_folder_open(&dataset, folder), LIGHT_ERR_FORMAT, "a/1.png",
                 "neither a PNG nor a JPEG");
    assert_null(dataset);

    /* No truncation goes unnoticed. */
    paint(0);
    put_png("a.png", PNG_FORMAT_RGB, rgb, H, W);
    put_jpeg("a.jpg", JCS_RGB, 3);
    for (int k = 0; k < 2; k++) {
        light_image image;
        FILE *file = fopen(in_folder(k ? "a.jpg" : "a.png"), "rb");
        size_t whole = fread(bytes, 1, sizeof bytes, file);
        fclose(file);
        assert_true(whole < sizeof bytes);
        /* libpng does not ask for what stands behind the pixels; of a JPEG the end mark may be missing in part. */
        for (size_t size = 0; size < whole - (k ? 2 : 16); size++) {
            put_file("cut", bytes, size);
            assert_fails(light_image_read(in_folder("cut"), &image), LIGHT_ERR_FORMAT, "/cut");
        }
    }
}

static void each_failing_allocation_is_reported_and_leaks_nothing(void **state)
{
    light_dataset *dataset;
    light_status status = LIGHT_ERR_MEMORY;
    uint8_t image[3 * 16];
    int64_t label;

    (void)state;
    make_class("a");
    paint(0);
    put_png("a/1.png", PNG_FORMAT_RGB, rgb, H, W);
    for (int nth = 1; status != LIGHT_OK; nth++) {
        light_memory_fail_nth(nth);
        status = light_image_folder_open(&dataset, folder, .height = 4, .width = 4);
        if (status == LIGHT_OK) {
            status = light_dataset_get(dataset, 0, (void *[]){image, &label});
            light_dataset_free(dataset);
        }
        light_memory_fail_nth(0);
        if (status != LIGHT_OK) assert_int_equal(status, LIGHT_ERR_MEMORY);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(classes_and_files_come_in_the_order_of_their_names),
        TEST(gray_and_transparent_images_become_rgb),
        TEST(jpeg_images_are_decoded),
        TEST(scaling_is_a_triangle_filter),
        TEST(images_of_other_sizes_need_scaling),
        TEST(mistakes_are_told),
        TEST(each_failing_allocation_is_reported_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
