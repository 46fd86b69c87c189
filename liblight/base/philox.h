/* SPDX-License-Identifier: Apache-2.0 */
/* Philox4x32-10, a random function without state: (key, counter) -> 128 random bits.
 * J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw: Parallel Random Numbers: As Easy as 1, 2, 3. SC 2011.
 * Inline and free of branches, so that a loop over counters vectorises. */
#ifndef LIGHT_BASE_PHILOX_H
#define LIGHT_BASE_PHILOX_H

#include <stdint.h>

static inline void light_philox4x32(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4])
{
    uint32_t k0 = key[0], k1 = key[1];
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];

    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        uint32_t n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* The same with a counter made of two numbers: `index` counts blocks of four, `stream` is for example the step. */
static inline void light_philox_at(const uint32_t key[2], uint64_t index, uint64_t stream, uint32_t out[4])
{
    const uint32_t counter[4] = {(uint32_t)index, (uint32_t)(index >> 32), (uint32_t)stream,
                                 (uint32_t)(stream >> 32)};

    light_philox4x32(key, counter, out);
}

/* 24 bits of `bits`: [0, 1), every value exact in float. */
static inline float light_uniform(uint32_t bits)
{
    return (float)(bits >> 8) * 0x1p-24f;
}

/* 24 bits of `bits`: (0, 1], fit for a logarithm. */
static inline float light_uniform_positive(uint32_t bits)
{
    return (float)((bits >> 8) + 1) * 0x1p-24f;
}

/* 53 bits of the pair: [0, 1). */
static inline double light_uniform_double(uint32_t high, uint32_t low)
{
    return (double)(((uint64_t)high << 21) ^ (uint64_t)(low >> 11)) * 0x1p-53;
}

/* A whole number in [0, n), n > 0; its bias is below n / 2^64. */
static inline uint64_t light_uniform_below(uint32_t high, uint32_t low, uint64_t n)
{
    uint64_t bits = ((uint64_t)high << 32) | low;

    return (uint64_t)(((unsigned __int128)bits * n) >> 64);
}

/* Two independent standard normal numbers from two words (Box and Muller, 1958). Computed in double, so that the
 * tails reach 5.7 and rounding happens once. */
void light_normal(uint32_t a, uint32_t b, float out[2]);

/* The same with 53 bits for each of the two uniform numbers. */
void light_normal_double(const uint32_t bits[4], double out[2]);

/* What random numbers are for. The numbers are part of what makes a run repeatable: never change one. */
typedef enum light_rng_purpose {
    LIGHT_RNG_USER = 0, /* rand, randn and the like in a user's code */
    LIGHT_RNG_INIT = 1, /* parameters */
    LIGHT_RNG_STEP = 2, /* dropout and random operations inside a step */
    LIGHT_RNG_SHUFFLE = 3,
    LIGHT_RNG_SPLIT = 4,
    LIGHT_RNG_TRANSFORM = 5, /* augmentation */
    LIGHT_RNG_WORKER = 6,
} light_rng_purpose;

/* The key for one purpose of a run. Keys of different seeds, purposes or indices (layer, rank, epoch; 0 when there
 * is none) have nothing to do with each other. */
void light_rng_key(uint64_t seed, light_rng_purpose purpose, uint64_t index, uint32_t key[2]);

#endif
