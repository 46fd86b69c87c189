/* SPDX-License-Identifier: Apache-2.0 */
/* How kernels reach the CPU backend: each file of cpu/ ends with an array of these, and backend.c lists the arrays. */
#ifndef LIGHT_CPU_ONCE_BACKEND_H
#define LIGHT_CPU_ONCE_BACKEND_H

#include "tensor/device.h"

/* An array ends with {LIGHT_KERNEL_COUNT, NULL}. */
typedef struct light_cpu_kernel {
    light_kernel_id id;
    light_kernel kernel;
} light_cpu_kernel;

/* The instruction set that kernels run in: 0 generic, 1 avx2, 2 avx512. */
int light_cpu_isa(void);

#endif
