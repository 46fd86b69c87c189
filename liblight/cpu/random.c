/* SPDX-License-Identifier: Apache-2.0 */
/* Random tensors: uniform, normal, whole numbers. light_random_attrs in kernels.h says which bits an element is made of. */
#include "cpu/convert.h"
#include "cpu/isa.h"
#include "cpu/once/backend.h"
#include "cpu/parallel.h"
#include "cpu/random.h"

enum { BLOCK = 512 };

/* n numbers (a multiple of four, at most BLOCK) in double from as many words. */
static void draw(const light_random_attrs *attrs, const uint32_t *bits, int64_t n, double *to)
{
    double a = attrs->a, b = attrs->b;

    if (attrs->kind == LIGHT_RANDOM_UNIFORM) {
        for (int64_t i = 0; i < n; i++) to[i] = a + (b - a) * (double)light_uniform(bits[i]);
    } else if (attrs->kind == LIGHT_RANDOM_INTEGER) {
        uint64_t range = (uint64_t)(b - a);
        for (int64_t i = 0; i < n; i++) to[i] = a + (double)(int64_t)light_uniform_below(bits[i], 0, range);
    } else {
        for (int64_t i = 0; i < n; i += 2) {
            float pair[2];
            light_normal(bits[i], bits[i + 1], pair);
            to[i] = a + b * (double)pair[0];
            to[i + 1] = a + b * (double)pair[1];
        }
    }
}

static void draw_part(void *context, int64_t from, int64_t to)
{
    const light_kernel_args *args = context;
    light_tensor *out = args->out[0];
    size_t size = light_dtype_size((light_dtype)out->dtype);
    uint32_t bits[BLOCK];
    double numbers[BLOCK];

    for (int64_t block = from; block < to; block++) {
        int64_t first = block * BLOCK, n = out->numel - first < BLOCK ? out->numel - first : BLOCK;
        light_random_bits(args->rng, (uint64_t)first / 4, (n + 3) / 4, bits);
        draw(args->attrs, bits, (n + 3) / 4 * 4, numbers);
        LIGHT_ISA(light_convert)
        (out->data + (size_t)first * size, (light_dtype)out->dtype, numbers, LIGHT_F64, n);
    }
}

static light_status random_numbers(const light_kernel_args *args)
{
    int64_t blocks = (args->out[0]->numel + BLOCK - 1) / BLOCK;
    light_parallel(blocks, (int64_t)BLOCK * 16, draw_part, (void *)args);
    return LIGHT_OK;
}

const light_cpu_kernel LIGHT_ISA(light_random_kernels)[] = {
    {LIGHT_KERNEL_RANDOM, random_numbers},
    {LIGHT_KERNEL_COUNT, NULL},
};
