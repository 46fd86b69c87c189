/* SPDX-License-Identifier: Apache-2.0 */
/* Image files to RGB. */
#ifndef LIGHT_DATA_FORMATS_IMAGE_H
#define LIGHT_DATA_FORMATS_IMAGE_H

#include <light/status.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct light_image {
    int height, width;
    uint8_t *rgb; /* [height][width][3], light_free */
} light_image;

/* By the name's ending: .png, .jpg, .jpeg, in any case. */
bool light_image_is_known(const char *path);

/* Reads a PNG or JPEG file, whatever its name says. Transparency is ignored, gray and palettes become RGB. */
light_status light_image_read(const char *path, light_image *image);
/* The decoders, for a file's content; `path` is for messages. */
light_status light_image_decode_png(const char *path, const char *data, size_t bytes, light_image *image);
light_status light_image_decode_jpeg(const char *path, const char *data, size_t bytes, light_image *image);
/* New memory for image->height x image->width; an error when that is absurd. */
light_status light_image_allocate(const char *path, light_image *image);

/* Planes: to[3][height][width]. Sizes that differ are scaled with a triangle filter as wide as a pixel of the smaller
 * image (bilinear with antialiasing, as Pillow does). keep_aspect: only the middle of the image that has to's
 * proportions. */
light_status light_image_to_planes(const light_image *image, bool keep_aspect, int height, int width,
                                   uint8_t *to);

#endif
