/* SPDX-License-Identifier: Apache-2.0 */
/* Pixels in and out of convolutions, and depthwise convolution. Compiled once per instruction set. */
#include "cpu/conv_kernels.h"

#include "cpu/isa.h"
#include "cpu/real.h"

#if defined(__AVX512F__)
#include <immintrin.h>

/* By hand, since the compiler's loops are slow over a few channels. */
static inline __mmask16 first(int64_t n)
{
    return n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1);
}

static void copy_f32(const light_conv_pixels *p, const float *from, float *to)
{
    for (int64_t i = 0; i < p->pixels; i++, from += p->from_step, to += p->to_step)
        for (int64_t c = 0; c < p->channels; c += 16) {
            const __mmask16 m = first(p->channels - c);
            _mm512_mask_storeu_ps(to + c, m, _mm512_maskz_loadu_ps(m, from + c));
        }
}

static void give_f32(const light_conv_pixels *p, const float *from, const float *bias, bool add, float *to)
{
    for (int64_t c = 0; c < p->channels; c += 16) {
        const __mmask16 m = first(p->channels - c);
        const __m512 b = bias ? _mm512_maskz_loadu_ps(m, bias + c) : _mm512_setzero_ps();
        const float *in = from + c;
        float *out = to + c;
        for (int64_t i = 0; i < p->pixels; i++, in += p->from_step, out += p->to_step) {
            __m512 v = _mm512_add_ps(_mm512_maskz_loadu_ps(m, in), b);
            if (add) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(m, out));
            _mm512_mask_storeu_ps(out, m, v);
        }
    }
}
#endif

#define LIGHT_REAL 32
#include "cpu/real.inc.h"
#include "cpu/conv_kernels.inc.h"
#undef LIGHT_REAL
#define LIGHT_REAL 64
#include "cpu/real.inc.h"
#include "cpu/conv_kernels.inc.h"
#undef LIGHT_REAL

static void take(light_dtype dtype, const light_conv_pixels *pixels, const void *from, void *to)
{
    light_conv_pixels p = *pixels;
    if (p.from_step == p.channels && p.to_step == p.channels) p.channels *= p.pixels, p.pixels = 1;
    if (dtype == LIGHT_F64) {
        copy_f64(&p, from, to);
    } else if (dtype == LIGHT_F32) {
        copy_f32(&p, from, to);
    } else {
        for (int64_t i = 0; i < p.pixels; i++)
            light_to_f32(dtype, (const uint16_t *)from + i * p.from_step, p.channels,
                         (float *)to + i * p.to_step);
    }
}

static void give_16(light_dtype dtype, const light_conv_pixels *p, const float *from, const float *bias,
                    bool add, uint16_t *to)
{
    enum { ROOM = 64 };
    float sum[ROOM];
    for (int64_t i = 0; i < p->pixels; i++, from += p->from_step, to += p->to_step)
        for (int64_t at = 0; at < p->channels; at += ROOM) {
            const int64_t n = p->channels - at < ROOM ? p->channels - at : ROOM;
            for (int64_t c = 0; c < n; c++) sum[c] = from[at + c] + (bias ? bias[at + c] : 0);
            LIGHT_ISA(light_from_f32)(dtype, to + at, n, sum, add);
        }
}

static void give(light_dtype dtype, const light_conv_pixels *p, const void *from, const void *bias, bool add,
                 void *to)
{
    if (dtype == LIGHT_F64)
        give_f64(p, from, bias, add, to);
    else if (dtype == LIGHT_F32)
        give_f32(p, from, bias, add, to);
    else
        give_16(dtype, p, from, bias, add, to);
}

static void sum_pieces(light_dtype real, int64_t taps, int64_t channels, int64_t pieces, int64_t step,
                       const void *in, void *room, light_dtype out_dtype, bool add, void *out)
{
    if (real == LIGHT_F64)
        sum_pieces_f64(taps, channels, pieces, step, in, room, out_dtype, add, out);
    else
        sum_pieces_f32(taps, channels, pieces, step, in, room, out_dtype, add, out);
}

static void depth_row(light_dtype real, const light_conv_depth_row *r, const void *x, const void *w, void *y)
{
    if (real == LIGHT_F64)
        depth_row_f64(r, x, w, y);
    else
        depth_row_f32(r, x, w, y);
}

static void depth_weights(light_dtype real, const light_conv_depth_row *r, const void *x, const void *gy,
                          void *w)
{
    if (real == LIGHT_F64)
        depth_weights_f64(r, x, gy, w);
    else
        depth_weights_f32(r, x, gy, w);
}

const light_conv_kernels LIGHT_ISA(light_conv_kernels) = {
    .take = take,
    .give = give,
    .sum_pieces = sum_pieces,
    .depth_row = depth_row,
    .depth_weights = depth_weights,
};
