/* SPDX-License-Identifier: Apache-2.0 */
/* Sums of doubles without rounding: the same bits in whatever order, and however the terms were split into sums of their
 * own. A sum is one long integer that has a place for each bit that a double can have; it is rounded once, when it is
 * read. */
#ifndef LIGHT_BASE_EXACT_H
#define LIGHT_BASE_EXACT_H

#include <stdbool.h>
#include <stdint.h>

/* 32 bits each, from 2^-1074 on; the last ones are room for 2^60 terms. */
#define LIGHT_EXACT_LIMBS 68

/* Starts as {0}, which is 0. */
typedef struct light_exact_sum {
    int64_t limbs[LIGHT_EXACT_LIMBS];
    int64_t terms; /* since carries were last brought upwards */
    /* Terms that are no numbers. */
    int64_t nan, positive_infinity, negative_infinity;
} light_exact_sum;

void light_exact_add(light_exact_sum *sum, double value);
void light_exact_add_sum(light_exact_sum *sum, const light_exact_sum *other);
/* The sum, to the nearest double, of two equally near ones the even one. */
double light_exact_value(const light_exact_sum *sum);

#endif
