/* SPDX-License-Identifier: Apache-2.0 */
/* What the benchmarks on a GPU share: the device, and times that begin and end with the device at rest. */
#ifndef BENCH_COMMON_GPU_H
#define BENCH_COMMON_GPU_H

#include "common/bench.h"

typedef struct bench_gpu {
    light_device *device;
    bool smoke; /* tiny sizes and no figures: the one thing that a simulated device may do */
} bench_gpu;

enum { BENCH_SPANS = 5 }; /* samples of a case; each is the mean of many steps */

/* Opens "cuda" and makes it the default device. Takes a last argument --smoke off the command line. */
light_status bench_gpu_open(bench_gpu *gpu, int *argc, char **argv);
/* A size, or the tiny one. */
int64_t bench_gpu_size(const bench_gpu *gpu, int64_t full, int64_t tiny);

/* Times BENCH_SPANS spans of run->steps calls, waiting for the device at their ends only, and reports the case. */
light_status bench_gpu_steps(const bench_gpu *gpu, const char *name, const bench_run *run,
                             light_status (*step)(void *user), void *user, const bench_work *work);
/* The line of a case; without figures in a smoke run. */
void bench_gpu_report(const bench_gpu *gpu, const char *name, double *samples, int n, const bench_work *work);

/* Owned tensors with random contents that are made on the device. */
light_status bench_gpu_randn(light_tensor **out, light_shape shape, light_dtype dtype);
light_status bench_gpu_randint(light_tensor **out, light_shape shape, int64_t high);

#endif
