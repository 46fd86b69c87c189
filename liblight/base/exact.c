/* SPDX-License-Identifier: Apache-2.0 */
/* Sums of doubles without rounding. */
#include "base/exact.h"

#include <math.h>
#include <string.h>

#define LIMB       (INT64_C(1) << 32)
#define LOWEST_BIT (-1074)            /* what bit 0 of limb 0 stands for */
#define MOST_TERMS (INT64_C(1) << 30) /* limbs do not overflow before */
#define DIGITS     53                 /* of a double */

/* Brings what is too large for a limb to the next one; the top one has the sign. */
static void carry(light_exact_sum *sum)
{
    int64_t up = 0;
    for (int i = 0; i < LIGHT_EXACT_LIMBS - 1; i++) {
        int64_t all = sum->limbs[i] + up;
        up = all >> 32;
        sum->limbs[i] = all - up * LIMB;
    }
    sum->limbs[LIGHT_EXACT_LIMBS - 1] += up;
    sum->terms = 0;
}

static void add_special(light_exact_sum *sum, double value)
{
    if (isnan(value))
        sum->nan++;
    else if (value > 0)
        sum->positive_infinity++;
    else
        sum->negative_infinity++;
}

void light_exact_add(light_exact_sum *sum, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    int exponent = (int)(bits >> 52 & 0x7ff);
    uint64_t digits = bits & ((UINT64_C(1) << 52) - 1);
    if (exponent == 0x7ff) {
        add_special(sum, value);
        return;
    }
    if (exponent) digits |= UINT64_C(1) << 52; /* else subnormal, at the lowest bits */
    int at = exponent ? exponent - 1 : 0, limb = at / 32, shift = at % 32;
    uint64_t low = digits << shift, high = shift ? digits >> (64 - shift) : 0;
    int64_t sign = bits >> 63 ? -1 : 1;
    sum->limbs[limb] += sign * (int64_t)(low & (LIMB - 1));
    sum->limbs[limb + 1] += sign * (int64_t)(low >> 32);
    sum->limbs[limb + 2] += sign * (int64_t)high;
    if (++sum->terms == MOST_TERMS) carry(sum);
}

void light_exact_add_sum(light_exact_sum *sum, const light_exact_sum *other)
{
    light_exact_sum b = *other;
    carry(sum);
    carry(&b);
    for (int i = 0; i < LIGHT_EXACT_LIMBS; i++) sum->limbs[i] += b.limbs[i];
    carry(sum);
    sum->nan += b.nan;
    sum->positive_infinity += b.positive_infinity;
    sum->negative_infinity += b.negative_infinity;
}

/* The three limbs from the highest one that is not zero, rounded to the digits of a double. */
static double round_limbs(const int64_t *limbs, int highest)
{
    int64_t a = limbs[highest], b = highest > 0 ? limbs[highest - 1] : 0,
            c = highest > 1 ? limbs[highest - 2] : 0;
    bool more = false;
    for (int i = 0; i < highest - 2; i++) more |= limbs[i] != 0;
    /* a b c as one number of up to 96 bits, its first bit moved to the top of 64; what falls out is noted in `more`. */
    unsigned __int128 all = (unsigned __int128)(uint64_t)a << 64 | (uint64_t)b << 32 | (uint64_t)c;
    int length = 0, exponent = LOWEST_BIT + 32 * (highest - 2);
    for (unsigned __int128 rest = all; rest; rest >>= 1) length++;
    int drop = length - DIGITS;
    if (drop > 0) {
        unsigned __int128 dropped = all & (((unsigned __int128)1 << drop) - 1),
                          half = (unsigned __int128)1 << (drop - 1);
        all >>= drop;
        exponent += drop;
        if (dropped > half || (dropped == half && (more || (all & 1)))) all++;
    }
    return ldexp((double)(uint64_t)all, exponent);
}

double light_exact_value(const light_exact_sum *sum)
{
    light_exact_sum s = *sum;
    if (s.nan || (s.positive_infinity && s.negative_infinity)) return (double)NAN;
    if (s.positive_infinity || s.negative_infinity)
        return s.positive_infinity ? (double)INFINITY : -(double)INFINITY;
    carry(&s);
    bool negative = s.limbs[LIGHT_EXACT_LIMBS - 1] < 0;
    if (negative) {
        for (int i = 0; i < LIGHT_EXACT_LIMBS; i++) s.limbs[i] = -s.limbs[i];
        carry(&s);
    }
    int highest = LIGHT_EXACT_LIMBS - 1;
    while (highest > 0 && s.limbs[highest] == 0) highest--;
    double value = round_limbs(s.limbs, highest);
    return negative ? -value : value;
}
