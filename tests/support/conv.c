/* SPDX-License-Identifier: Apache-2.0 */
/* Shapes of convolutions, and their products one by one. */
#include "support/conv.h"

#include <math.h>

void conv_fit(light_conv_shape *s)
{
    s->oh = (s->h + 2 * s->padding[0] - s->dilation[0] * (s->kh - 1) - 1) / s->stride[0] + 1;
    s->ow = (s->w + 2 * s->padding[1] - s->dilation[1] * (s->kw - 1) - 1) / s->stride[1] + 1;
}

light_conv_shape conv_shape(int64_t n, int64_t c, int64_t size, int64_t o, int64_t k, int64_t stride,
                            int64_t padding, int64_t dilation, int64_t groups)
{
    light_conv_shape s = {.dtype = LIGHT_F32,
                          .n = n,
                          .c = c,
                          .h = size,
                          .w = size + 1,
                          .o = o,
                          .kh = k,
                          .kw = k > 1 ? k - 1 : k};
    s.groups = groups;
    for (int i = 0; i < 2; i++) s.stride[i] = stride, s.padding[i] = padding, s.dilation[i] = dilation;
    conv_fit(&s);
    return s;
}

typedef struct products {
    const light_conv_shape *s;
    light_conv_pass pass;
    bool channels_last;
    const double *x, *w, *y;
    double *sums, *sizes;
} products;

/* Where the element of an image lies, of c channels of h x w. */
static int64_t place(const products *p, int64_t c, int64_t h, int64_t w, const int64_t at[4])
{
    return p->channels_last ? ((at[0] * h + at[2]) * w + at[3]) * c + at[1]
                            : ((at[0] * c + at[1]) * h + at[2]) * w + at[3];
}

static void add(const products *p, int64_t at_x, int64_t at_w, int64_t at_y)
{
    const bool forward = p->pass == LIGHT_CONV_FORWARD, data = p->pass == LIGHT_CONV_BACKWARD_DATA;
    const int64_t to = forward ? at_y : data ? at_x : at_w;
    const double product = forward ? p->x[at_x] * p->w[at_w]
                           : data  ? p->y[at_y] * p->w[at_w]
                                   : p->y[at_y] * p->x[at_x];
    p->sums[to] += product;
    p->sizes[to] += fabs(product);
}

/* The window of the output at[image, channel, row, column]. */
static void add_window(const products *p, const int64_t at[4])
{
    const light_conv_shape *s = p->s;
    const int64_t cg = s->c / s->groups, og = s->o / s->groups;
    const int64_t at_y = place(p, s->o, s->oh, s->ow, at);
    for (int64_t k = 0; k < cg; k++)
        for (int64_t i = 0; i < s->kh; i++)
            for (int64_t j = 0; j < s->kw; j++) {
                const int64_t h = at[2] * s->stride[0] - s->padding[0] + i * s->dilation[0];
                const int64_t w = at[3] * s->stride[1] - s->padding[1] + j * s->dilation[1];
                if (h < 0 || h >= s->h || w < 0 || w >= s->w) continue;
                const int64_t from[] = {at[0], at[1] / og * cg + k, h, w};
                add(p, place(p, s->c, s->h, s->w, from), ((at[1] * cg + k) * s->kh + i) * s->kw + j, at_y);
            }
}

void conv_products(const light_conv_shape *s, light_conv_pass pass, bool channels_last, const double *x,
                   const double *w, const double *y, double *sums, double *sizes)
{
    const products p = {s, pass, channels_last, x, w, y, sums, sizes};
    for (int64_t n = 0; n < s->n; n++)
        for (int64_t o = 0; o < s->o; o++)
            for (int64_t a = 0; a < s->oh; a++)
                for (int64_t b = 0; b < s->ow; b++) add_window(&p, (const int64_t[]){n, o, a, b});
}
