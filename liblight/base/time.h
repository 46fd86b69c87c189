/* SPDX-License-Identifier: Apache-2.0 */
/* Time that only goes forward, for measuring. */
#ifndef LIGHT_BASE_TIME_H
#define LIGHT_BASE_TIME_H

/* Seconds since an arbitrary start; never goes back, unaffected by changes of the date. */
double light_now(void);

#endif
