/* SPDX-License-Identifier: Apache-2.0 */
/* Exact sums of doubles: a number wide enough to hold any of them without rounding (Kulisch's accumulator). Integers are
 * added, so a sum is the same in whatever order and in however many parts it is taken; it is rounded once, at the end.
 *
 * Limb i counts units of 2^(32 i - 1074). Limbs are signed and wider than 32 bits, so that carries can wait: between two
 * calls of light_exact_carry there may be 2^30 additions. The last ones count what is not finite. */
#ifndef LIGHT_BASE_EXACT_H
#define LIGHT_BASE_EXACT_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Backends whose code runs elsewhere define it to say so. */
#ifndef LIGHT_EXACT
#define LIGHT_EXACT static inline
#endif

enum {
    LIGHT_EXACT_LIMBS = 67,
    LIGHT_EXACT_NAN = 67,
    LIGHT_EXACT_INFINITY,
    LIGHT_EXACT_MINUS_INFINITY,
    LIGHT_EXACT_SIZE = 72 /* numbers in all, two of them unused; all 0: the sum is 0 */
};

/* What a number adds: units[i] to limb at + i. */
typedef struct light_exact_place {
    int at;
    int64_t units[3];
} light_exact_place;

LIGHT_EXACT light_exact_place light_exact_place_of(double x)
{
    light_exact_place place = {0, {1, 0, 0}};
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int exponent = (int)(bits >> 52 & 0x7ff);
    uint64_t mantissa = bits & 0xfffffffffffffull;
    if (exponent == 0x7ff) {
        place.at = mantissa     ? LIGHT_EXACT_NAN
                   : bits >> 63 ? LIGHT_EXACT_MINUS_INFINITY
                                : LIGHT_EXACT_INFINITY;
        return place;
    }
    if (exponent) /* else subnormal, which has the units of the least exponent */
        mantissa |= 1ull << 52;
    else
        exponent = 1;
    int shift = (exponent - 1) % 32;
    place.at = (exponent - 1) / 32;
    place.units[0] = (int64_t)((mantissa << shift) & 0xffffffff);
    place.units[1] = (int64_t)((mantissa >> (32 - shift)) & 0xffffffff);
    place.units[2] = shift ? (int64_t)(mantissa >> 32 >> (32 - shift)) : 0;
    for (int i = 0; i < 3 && bits >> 63; i++) place.units[i] = -place.units[i];
    return place;
}

LIGHT_EXACT void light_exact_add(int64_t *limbs, double x)
{
    light_exact_place place = light_exact_place_of(x);
    limbs[place.at] += place.units[0];
    limbs[place.at + 1] += place.units[1];
    limbs[place.at + 2] += place.units[2];
}

/* Leaves the sum as it is, and room for more additions. */
LIGHT_EXACT void light_exact_carry(int64_t *limbs)
{
    for (int i = 0; i + 1 < LIGHT_EXACT_LIMBS; i++) {
        int64_t carry = limbs[i] >> 32; /* rounds down, so what is left is not negative */
        limbs[i] -= carry * ((int64_t)1 << 32);
        limbs[i + 1] += carry;
    }
}

/* to += from. Both have been carried, or are far from 2^30 additions together. */
LIGHT_EXACT void light_exact_merge(int64_t *to, const int64_t *from)
{
    for (int i = 0; i < LIGHT_EXACT_SIZE; i++) to[i] += from[i];
}

/* Rounds `m` units of 2^exponent, where less than one unit may be `more`. */
LIGHT_EXACT double light_exact_round(unsigned __int128 m, int exponent, bool more)
{
    int bits = 0;
    while (bits < 128 && m >> bits) bits++;
    if (bits <= 53) return ldexp((double)(uint64_t)m, exponent);
    int drop = bits - 53;
    unsigned __int128 rest = m & (((unsigned __int128)1 << drop) - 1),
                      half = (unsigned __int128)1 << (drop - 1);
    uint64_t kept = (uint64_t)(m >> drop);
    if (rest > half || (rest == half && (more || (kept & 1)))) kept++;
    return ldexp((double)kept, exponent + drop);
}

/* The sum, rounded to the nearest double, ties to even. The limbs are lost. */
LIGHT_EXACT double light_exact_take(int64_t *sum)
{
    bool up = sum[LIGHT_EXACT_INFINITY] > 0, down = sum[LIGHT_EXACT_MINUS_INFINITY] > 0;
    if (sum[LIGHT_EXACT_NAN] > 0 || (up && down)) return NAN;
    if (up || down) return up ? INFINITY : -INFINITY;

    light_exact_carry(sum);
    bool negative = sum[LIGHT_EXACT_LIMBS - 1] < 0;
    if (negative) {
        for (int i = 0; i < LIGHT_EXACT_LIMBS; i++) sum[i] = -sum[i];
        light_exact_carry(sum);
    }
    int top = LIGHT_EXACT_LIMBS - 1;
    while (top > 0 && sum[top] == 0) top--;
    int low = top < 2 ? 0 : top - 2;
    unsigned __int128 m = 0;
    bool more = false;
    for (int i = top; i >= low; i--) m = m << 32 | (uint64_t)sum[i];
    for (int i = 0; i < low; i++) more |= sum[i] != 0;
    /* With three limbs there are 65 bits or more, so `more` is less than what is dropped. */
    double value = light_exact_round(m, 32 * low - 1074, more);
    return negative ? -value : value;
}

LIGHT_EXACT double light_exact_value(const int64_t *limbs)
{
    int64_t sum[LIGHT_EXACT_SIZE];
    memcpy(sum, limbs, sizeof sum);
    return light_exact_take(sum);
}

/* A sum that carries by itself. Starts as {0}. */
typedef struct light_exact_sum {
    int64_t limbs[LIGHT_EXACT_SIZE];
    int64_t waiting; /* additions since the last carry */
} light_exact_sum;

static inline void light_exact_sum_add(light_exact_sum *sum, double x)
{
    light_exact_add(sum->limbs, x);
    if (++sum->waiting < 1 << 29) return;
    light_exact_carry(sum->limbs);
    sum->waiting = 0;
}

static inline void light_exact_sum_merge(light_exact_sum *sum, light_exact_sum other)
{
    light_exact_carry(sum->limbs);
    light_exact_carry(other.limbs);
    light_exact_merge(sum->limbs, other.limbs);
    sum->waiting = 2;
}

#endif
