/* SPDX-License-Identifier: Apache-2.0 */
/* What every benchmark program shares: the command line, timing, random data, the JSON line. The twins in bench/peers/
 * print the same line; bench/run.py reads both. */
#ifndef BENCH_COMMON_BENCH_H
#define BENCH_COMMON_BENCH_H

#include <light/light.h>

typedef struct bench_run {
    const char *name; /* of the case */
    int steps;        /* timed steps; 0: the case's own number */
    int warmup;       /* steps before timing starts; -1: the case's own number */
    const char *dir;  /* for files that a case writes */
} bench_run;

/* Reads "CASE --steps N --warmup N --dir DIR"; CASE must be one of `cases` (ends with NULL). Exits with one line when it
 * is not. `steps` and `warmup` are what the case takes by default; call it first thing in main. */
bench_run bench_arguments(int argc, char **argv, const char *const *cases);
/* Fills in the case's own numbers. */
void bench_defaults(bench_run *run, int warmup, int steps);

/* Seconds of the monotonic clock; since the process was started (as the driver saw it, or the kernel). */
double bench_now(void);
double bench_since_start(void);

/* What the seconds of one sample were spent on; zero leaves a field out. */
typedef struct bench_work {
    double bytes;   /* of a file, or read and written on a device */
    double flops;   /* the model's or the product's own, nothing recomputed */
    double items;   /* tokens, images */
    double step_mb; /* the most that a step's tensors took */
} bench_work;

/* Prints the line: n samples in seconds, which it sorts. `work` may be NULL. */
void bench_report(const char *name, double *samples, int n, const bench_work *work);
/* Calls step(user) warmup + steps times and reports the times of the last ones, each divided by `per_step`. */
light_status bench_steps(const bench_run *run, light_status (*step)(void *user), void *user, double per_step);

/* Owned tensors with fixed random contents: (nearly) standard normal numbers, whole numbers in [0, high). */
light_status bench_randn(light_tensor **out, light_shape shape);
light_status bench_randint(light_tensor **out, light_shape shape, int64_t high);

/* A new folder below `dir` for files of the run; removes it with all that is in it. */
light_status bench_folder(char *path, size_t bytes, const char *dir);
void bench_remove(const char *path);

/* What main returns: says what went wrong, if anything did. */
int bench_exit(light_status status);

#endif
