/* SPDX-License-Identifier: Apache-2.0 */
/* Normal numbers and keys from Philox. */
#include "base/philox.h"

#include <math.h>

static void box_muller(double radius_uniform, double angle_uniform, double out[2])
{
    double radius = sqrt(-2.0 * log(radius_uniform));
    double angle = 6.283185307179586476925 * angle_uniform;

    out[0] = radius * cos(angle);
    out[1] = radius * sin(angle);
}

void light_normal(uint32_t a, uint32_t b, float out[2])
{
    double pair[2];

    box_muller(((double)(a >> 8) + 1.0) * 0x1p-24, (double)(b >> 8) * 0x1p-24, pair);
    out[0] = (float)pair[0];
    out[1] = (float)pair[1];
}

void light_normal_double(const uint32_t bits[4], double out[2])
{
    box_muller(1.0 - light_uniform_double(bits[0], bits[1]), light_uniform_double(bits[2], bits[3]), out);
}

void light_rng_key(uint64_t seed, light_rng_purpose purpose, uint64_t index, uint32_t key[2])
{
    const uint32_t seed_key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    /* The last word keeps these blocks apart from any that is drawn with the seed itself as the key. */
    const uint32_t counter[4] = {(uint32_t)index, (uint32_t)(index >> 32), (uint32_t)purpose, 0x6C696768u};
    uint32_t block[4];

    light_philox4x32(seed_key, counter, block);
    key[0] = block[0];
    key[1] = block[1];
}
