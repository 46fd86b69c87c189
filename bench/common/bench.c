/* SPDX-License-Identifier: Apache-2.0 */
/* Command line, timing, random data and the JSON line of the benchmark programs. */
#include "common/bench.h"

#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double start_rss_mb;

/* A line of /proc/self/status in MB. */
static double memory_mb(const char *field)
{
    FILE *file = fopen("/proc/self/status", "r");
    if (!file) return 0;
    char line[256];
    double kb = 0;
    size_t n = strlen(field);
    while (fgets(line, sizeof(line), file))
        if (!strncmp(line, field, n) && line[n] == ':') kb = atof(line + n + 1);
    fclose(file);
    return kb / 1024;
}

bench_run bench_arguments(int argc, char **argv, const char *const *cases)
{
    start_rss_mb = memory_mb("VmRSS");
    bench_run run = {.warmup = -1, .dir = "."};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (argv[i][0] != '-') {
            run.name = argv[i];
            continue;
        }
        if (!strcmp(argv[i], "--steps"))
            run.steps = atoi(value);
        else if (!strcmp(argv[i], "--warmup"))
            run.warmup = atoi(value);
        else if (!strcmp(argv[i], "--dir"))
            run.dir = value;
        else {
            fprintf(stderr, "%s: unknown option '%s'; known: --steps --warmup --dir\n", argv[0], argv[i]);
            exit(2);
        }
        i++;
    }
    for (int i = 0; run.name && cases[i]; i++)
        if (!strcmp(run.name, cases[i])) return run;
    fprintf(stderr, "%s: no case '%s'; there are:", argv[0], run.name ? run.name : "");
    for (int i = 0; cases[i]; i++) fprintf(stderr, " %s", cases[i]);
    fprintf(stderr, "\n");
    exit(2);
}

void bench_defaults(bench_run *run, int warmup, int steps)
{
    if (run->warmup < 0) run->warmup = warmup;
    if (run->steps <= 0) run->steps = steps;
}

static double clock_seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

double bench_now(void)
{
    return clock_seconds(CLOCK_MONOTONIC);
}

double bench_since_start(void)
{
    const char *spawned = getenv("LIGHT_BENCH_T0");
    if (spawned) return bench_now() - 1e-9 * atof(spawned);
    FILE *file = fopen("/proc/self/stat", "r");
    char text[1024] = "";
    if (!file) return NAN;
    size_t n = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    text[n] = '\0';
    char *at = strrchr(text, ')'); /* field 2; the start in clock ticks is field 22 */
    for (int field = 2; at && field < 22; field++) at = strchr(at + 1, ' ');
    return at ? clock_seconds(CLOCK_BOOTTIME) - atof(at) / (double)sysconf(_SC_CLK_TCK) : NAN;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_work(const bench_work *work)
{
    const struct {
        const char *name;
        double value;
    } fields[] = {
        {"bytes", work->bytes}, {"flops", work->flops}, {"items", work->items}, {"step_mb", work->step_mb}};
    for (int i = 0; i < 4; i++)
        if (fields[i].value > 0) printf("\"%s\": %.0f, ", fields[i].name, fields[i].value);
}

void bench_report(const char *name, double *samples, int n, const bench_work *work)
{
    qsort(samples, (size_t)n, sizeof(double), compare);
    double median = (samples[(n - 1) / 2] + samples[n / 2]) / 2;
    printf(
        "{\"case\": \"%s\", \"side\": \"light\", \"variant\": \"default\", \"median\": %.9g, \"min\": %.9g, "
        "\"max\": %.9g, \"peak_rss_mb\": %.1f, \"start_rss_mb\": %.1f, ",
        name, median, samples[0], samples[n - 1], memory_mb("VmHWM"), start_rss_mb);
    if (work) print_work(work);
    printf("\"versions\": {\"compiler\": \"%s\"}, \"samples\": [", __VERSION__);
    for (int i = 0; i < n; i++) printf("%s%.4g", i ? ", " : "", samples[i]);
    printf("]}\n");
    fflush(stdout);
}

light_status bench_steps(const bench_run *run, light_status (*step)(void *user), void *user, double per_step)
{
    double *samples = calloc((size_t)run->steps, sizeof(double));
    if (!samples) return light_fail(LIGHT_ERR_MEMORY, "no memory for %d samples", run->steps);
    light_status status = LIGHT_OK;
    for (int i = -run->warmup; i < run->steps && status == LIGHT_OK; i++) {
        double begin = bench_now();
        status = step(user);
        if (i >= 0) samples[i] = (bench_now() - begin) / per_step;
    }
    if (status == LIGHT_OK) bench_report(run->name, samples, run->steps, NULL);
    free(samples);
    return status;
}

static uint64_t next_random(void)
{
    static uint64_t state = 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return state >> 33;
}

static double uniform(void)
{
    return ((double)next_random() + 0.5) / 2147483648.0;
}

/* Fills a new tensor from an array that it frees. */
static light_status filled(light_tensor **out, light_shape shape, light_dtype dtype, void *values)
{
    light_status status = light_tensor_new(out, shape, dtype, NULL);
    if (status == LIGHT_OK)
        status = light_tensor_write(*out, dtype, values,
                                    (size_t)light_shape_numel(shape) * light_dtype_size(dtype));
    free(values);
    return status;
}

light_status bench_randn(light_tensor **out, light_shape shape)
{
    int64_t n = light_shape_numel(shape);
    float *values = malloc((size_t)n * sizeof(float));
    if (!values) return light_fail(LIGHT_ERR_MEMORY, "no memory for %" PRId64 " numbers", n);
    for (int64_t i = 0; i < n; i++) {
        double sum = -6; /* of twelve uniform numbers: mean 0, variance 1, near enough to normal */
        for (int k = 0; k < 12; k++) sum += uniform();
        values[i] = (float)sum;
    }
    return filled(out, shape, LIGHT_F32, values);
}

light_status bench_randint(light_tensor **out, light_shape shape, int64_t high)
{
    int64_t n = light_shape_numel(shape);
    int64_t *values = malloc((size_t)n * sizeof(int64_t));
    if (!values) return light_fail(LIGHT_ERR_MEMORY, "no memory for %" PRId64 " numbers", n);
    for (int64_t i = 0; i < n; i++) values[i] = (int64_t)(next_random() % (uint64_t)high);
    return filled(out, shape, LIGHT_I64, values);
}

light_status bench_folder(char *path, size_t bytes, const char *dir)
{
    snprintf(path, bytes, "%s/run-XXXXXX", dir);
    return mkdtemp(path) ? LIGHT_OK : light_fail(LIGHT_ERR_IO, "%s: %s", path, strerror(errno));
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *where)
{
    (void)info, (void)type, (void)where;
    return remove(path);
}

void bench_remove(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int bench_exit(light_status status)
{
    if (status == LIGHT_OK) return 0;
    fprintf(stderr, "%s\n", light_error_message());
    return 1;
}
