/* SPDX-License-Identifier: Apache-2.0 */
/* Images in work memory; see conv_axis.h. */
#include "cpu/once/conv_axis.h"

#include "cpu/once/backend.h"

#include <string.h>

extern const light_conv_kernels light_conv_kernels_generic;
#ifdef LIGHT_CPU_X86_64
extern const light_conv_kernels light_conv_kernels_avx2, light_conv_kernels_avx512;
#endif

const light_conv_kernels *light_cpu_conv_kernels(void)
{
#ifdef LIGHT_CPU_X86_64
    if (light_cpu_isa() == 2) return &light_conv_kernels_avx512;
    if (light_cpu_isa() == 1) return &light_conv_kernels_avx2;
#endif
    return &light_conv_kernels_generic;
}

int64_t light_conv_side_by_side(int64_t n, int64_t columns, int64_t channels)
{
    enum { WIDE = 17, ROWS = 14, FEW = 32 };
    if (columns >= WIDE || channels < FEW || n < 2) return 1;
    return light_conv_ceil(n, light_conv_ceil(n, ROWS));
}

/* The columns [from, to) of one image row, of which those in the image are copied. */
static void fill_row(const light_conv_strip *s, int64_t images, const char *row, char *to)
{
    const int64_t size = s->dtype == LIGHT_F64 ? 8 : 4, in_size = (int64_t)light_dtype_size(s->dtype);
    const int64_t phases = images > 1 ? s->phases : 1, each = light_conv_ceil(s->columns, phases);
    const int64_t step = images * s->pixel;
    for (int64_t phase = 0; phase < phases; phase++) {
        /* Columns left + phase, left + phase + phases, ...: `before` of them left of the image, `inside` in it. */
        const int64_t start = s->left + phase;
        const int64_t before = light_conv_min(each, light_conv_max(0, light_conv_ceil(-start, phases)));
        const int64_t end =
            light_conv_max(before, light_conv_min(each, light_conv_ceil(s->w - start, phases)));
        char *at = to + phase * each * step * size;
        const light_conv_pixels inside = {.pixels = end - before,
                                          .channels = s->channels,
                                          .from_step = phases * s->pixel_step,
                                          .to_step = step};
        for (int64_t q = 0; q < each; q++)
            if (q < before || q >= end) memset(at + q * step * size, 0, (size_t)(s->channels * size));
        if (end > before)
            s->kernels->take(s->dtype, &inside, row + (start + before * phases) * s->pixel_step * in_size,
                             at + before * step * size);
    }
}

void light_conv_strip_fill(const light_conv_strip *s, int64_t first, int64_t images, int64_t channel,
                           int64_t from, int64_t to, void *room)
{
    const int64_t size = s->dtype == LIGHT_F64 ? 8 : 4, in_size = (int64_t)light_dtype_size(s->dtype);
    const int64_t row = light_conv_strip_row(s, images);
    for (int64_t r = from; r < to; r++)
        for (int64_t i = 0; i < images; i++)
            fill_row(s, images, s->data + ((first + i) * s->image_step + r * s->row_step + channel) * in_size,
                     (char *)room + ((r - from) * row + i * s->pixel) * size);
}
