/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers that agree up to a tolerance. cmocka.h comes first. */
#ifndef LIGHT_TESTS_NEAR_H
#define LIGHT_TESTS_NEAR_H

#include <math.h>

#define assert_near(have, want, tolerance) light_assert_near(have, want, tolerance, __FILE__, __LINE__)

static inline void light_assert_near(double have, double want, double tolerance, const char *file, int line)
{
    if (fabs(have - want) <= tolerance) return; /* false for NaN */
    print_error("%.17g, should be %.17g within %g\n", have, want, tolerance);
    _fail(file, line);
}

#endif
