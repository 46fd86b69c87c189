/* SPDX-License-Identifier: Apache-2.0 */
/* Random bits of elements, as light_random_attrs in kernels.h says. */
#ifndef LIGHT_CPU_RANDOM_H
#define LIGHT_CPU_RANDOM_H

#include "base/philox.h"

/* The bits of elements 4 first .. 4 (first + blocks) - 1. */
static inline void light_random_bits(const uint64_t rng[2], uint64_t first, int64_t blocks, uint32_t *bits)
{
    const uint32_t key[2] = {(uint32_t)rng[0], (uint32_t)(rng[0] >> 32)};
    const uint64_t stream = rng[1];

    for (int64_t i = 0; i < blocks; i++) {
        uint32_t four[4];
        light_philox_at(key, first + (uint64_t)i, stream, four);
        bits[4 * i] = four[0];
        bits[4 * i + 1] = four[1];
        bits[4 * i + 2] = four[2];
        bits[4 * i + 3] = four[3];
    }
}

/* An element is dropped with probability p when its bits, shifted right by 8, are below this: the uniform number made of
 * them is then below p. */
static inline uint32_t light_drop_threshold(double p)
{
    double scaled = p * 0x1p24;
    uint32_t whole = (uint32_t)scaled;

    return whole < scaled ? whole + 1 : whole;
}

#endif
