/* SPDX-License-Identifier: Apache-2.0 */
/* Limits and intervals: "10" is ten batches, "0.25" a quarter of them, "1.0" all, "0" none. */
#include "trainer/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

light_status light_limit_parse(const char *flag, const char *text, light_limit *limit)
{
    char *end;
    *limit = (light_limit){0};
    if (!strpbrk(text, ".eE")) {
        long long batches = strtoll(text, &end, 10);
        if (end != text && !*end && batches >= 0) {
            limit->batches = batches;
            return LIGHT_OK;
        }
    } else {
        double value = strtod(text, &end);
        if (end != text && !*end && value >= 0 && value <= 1) {
            limit->is_fraction = true;
            limit->fraction = value;
            return LIGHT_OK;
        }
        if (end != text && !*end && value > 1 && value == floor(value) && value < 9e15) {
            limit->batches = (int64_t)value;
            return LIGHT_OK;
        }
    }
    return light_fail(
        LIGHT_ERR_ARGUMENT,
        "%s \"%s\": expected a whole number of batches, such as 10, or a share between 0.0 and 1.0", flag,
        text);
}

light_status light_limit_batches(const char *flag, light_limit limit, int64_t available, int64_t *batches)
{
    if (!limit.is_fraction) {
        *batches = available >= 0 && available < limit.batches ? available : limit.batches;
        return LIGHT_OK;
    }
    if (limit.fraction == 1.0 || (available < 0 && limit.fraction == 0.0)) {
        *batches = limit.fraction == 0.0 ? 0 : available;
        return LIGHT_OK;
    }
    if (available < 0)
        return light_fail(
            LIGHT_ERR_ARGUMENT,
            "%s %g is a share, but the dataset is a stream of unknown length: give a number of batches", flag,
            limit.fraction);
    *batches = (int64_t)((double)available * limit.fraction);
    if (*batches == 0 && limit.fraction > 0 && available > 0)
        return light_fail(LIGHT_ERR_ARGUMENT,
                          "%s %g of %lld batches is less than one batch: give at least %g", flag,
                          limit.fraction, (long long)available, 1.0 / (double)available);
    return LIGHT_OK;
}

light_status light_parse_max_time(const char *text, double *seconds)
{
    int days, hours, minutes, secs, used = 0;
    if (!text || !*text) {
        *seconds = INFINITY;
        return LIGHT_OK;
    }
    if (sscanf(text, "%d:%d:%d:%d%n", &days, &hours, &minutes, &secs, &used) != 4 || text[used] || days < 0 ||
        hours < 0 || hours > 23 || minutes < 0 || minutes > 59 || secs < 0 || secs > 59)
        return light_fail(LIGHT_ERR_ARGUMENT, "max_time \"%s\": expected DD:HH:MM:SS, such as 00:12:00:00",
                          text);
    *seconds = ((days * 24.0 + hours) * 60.0 + minutes) * 60.0 + secs;
    return LIGHT_OK;
}
