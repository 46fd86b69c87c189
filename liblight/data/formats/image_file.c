/* SPDX-License-Identifier: Apache-2.0 */
/* Decoding PNG and JPEG files with libpng and libjpeg. */
#include "data/formats/image.h"

#include "base/file.h"
#include "base/memory.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <jpeglib.h>
#include <png.h>

#define MOST_PIXELS (INT64_C(1) << 29)

bool light_image_is_known(const char *path)
{
    const char *dot = strrchr(path, '.');

    return dot &&
           (strcasecmp(dot, ".png") == 0 || strcasecmp(dot, ".jpg") == 0 || strcasecmp(dot, ".jpeg") == 0);
}

light_status light_image_allocate(const char *path, light_image *image)
{
    int64_t pixels = (int64_t)image->height * image->width;

    if (image->height < 1 || image->width < 1 || pixels > MOST_PIXELS) {
        return light_fail(LIGHT_ERR_FORMAT, "%s: an image of %d x %d pixels cannot be used", path,
                          image->height, image->width);
    }
    image->rgb = light_alloc((size_t)pixels * 3);
    return image->rgb ? LIGHT_OK : LIGHT_ERR_MEMORY;
}

light_status light_image_decode_png(const char *path, const char *data, size_t bytes, light_image *image)
{
    png_image png = {.version = PNG_IMAGE_VERSION};
    light_status status;

    if (!png_image_begin_read_from_memory(&png, data, bytes)) {
        return light_fail(LIGHT_ERR_FORMAT, "%s: the PNG image is damaged: %s", path, png.message);
    }
    /* With the alpha channel, which is dropped below: without it libpng would mix colours with a background. */
    png.format = PNG_FORMAT_RGBA;
    png.flags |= PNG_IMAGE_FLAG_16BIT_sRGB;
    *image = (light_image){.height = png.height > INT32_MAX ? 0 : (int)png.height,
                           .width = png.width > INT32_MAX ? 0 : (int)png.width};
    status = light_image_allocate(path, image);
    uint8_t *rgba = status == LIGHT_OK ? light_alloc(PNG_IMAGE_SIZE(png)) : NULL;
    if (status == LIGHT_OK && !rgba) status = LIGHT_ERR_MEMORY;
    if (status == LIGHT_OK && (!png_image_finish_read(&png, NULL, rgba, 0, NULL) || PNG_IMAGE_FAILED(png))) {
        status = light_fail(LIGHT_ERR_FORMAT, "%s: the PNG image is damaged: %s", path, png.message);
    }
    for (size_t i = 0; status == LIGHT_OK && i < (size_t)image->height * (size_t)image->width; i++) {
        for (size_t c = 0; c < 3; c++) image->rgb[3 * i + c] = rgba[4 * i + c];
    }
    png_image_free(&png);
    light_free(rgba);
    if (status != LIGHT_OK) light_free(image->rgb);
    return status;
}

typedef struct {
    struct jpeg_error_mgr manager;
    jmp_buf jump;
    char message[JMSG_LENGTH_MAX];
} jpeg_failure;

static void jpeg_fail(j_common_ptr jpeg)
{
    jpeg_failure *failure = (jpeg_failure *)jpeg->err;

    failure->manager.format_message(jpeg, failure->message);
    longjmp(failure->jump, 1);
}

/* Level -1 is damaged data, which libjpeg would paper over. */
static void jpeg_warn(j_common_ptr jpeg, int level)
{
    if (level < 0) jpeg_fail(jpeg);
}

/* Leaves by longjmp to failure->jump, so it owns nothing: the pixels are in *image from the moment they exist. */
static light_status read_jpeg(struct jpeg_decompress_struct *jpeg, const char *path, const char *data,
                              size_t bytes, light_image *image)
{
    jpeg_mem_src(jpeg, (const unsigned char *)data, (unsigned long)bytes);
    jpeg_read_header(jpeg, TRUE);
    jpeg->out_color_space = JCS_RGB;
    image->height = (int)jpeg->image_height;
    image->width = (int)jpeg->image_width;
    LIGHT_TRY(light_image_allocate(path, image));
    jpeg_start_decompress(jpeg);
    while (jpeg->output_scanline < jpeg->output_height) {
        JSAMPROW row = image->rgb + (size_t)jpeg->output_scanline * (size_t)image->width * 3;
        jpeg_read_scanlines(jpeg, &row, 1);
    }
    jpeg_finish_decompress(jpeg);
    return LIGHT_OK;
}

light_status light_image_decode_jpeg(const char *path, const char *data, size_t bytes, light_image *image)
{
    struct jpeg_decompress_struct jpeg;
    jpeg_failure failure;
    volatile light_status status = LIGHT_ERR_FORMAT;

    *image = (light_image){0};
    jpeg.err = jpeg_std_error(&failure.manager);
    failure.manager.error_exit = jpeg_fail;
    failure.manager.emit_message = jpeg_warn;
    if (setjmp(failure.jump) == 0) {
        jpeg_create_decompress(&jpeg);
        status = read_jpeg(&jpeg, path, data, bytes, image);
    } else {
        status = light_fail(LIGHT_ERR_FORMAT, "%s: the JPEG image is damaged: %s", path, failure.message);
    }
    jpeg_destroy_decompress(&jpeg);
    if (status != LIGHT_OK) {
        light_free(image->rgb);
        image->rgb = NULL;
    }
    return status;
}

light_status light_image_read(const char *path, light_image *image)
{
    char *data;
    size_t bytes;
    light_status status;

    LIGHT_TRY(light_file_read(path, &data, &bytes));
    if (bytes >= 8 && png_sig_cmp((png_const_bytep)data, 0, 8) == 0) {
        status = light_image_decode_png(path, data, bytes, image);
    } else if (bytes >= 3 && memcmp(data, "\xFF\xD8\xFF", 3) == 0) {
        status = light_image_decode_jpeg(path, data, bytes, image);
    } else {
        status = light_fail(LIGHT_ERR_FORMAT, "%s: this is neither a PNG nor a JPEG image", path);
    }
    light_free(data);
    return status;
}
