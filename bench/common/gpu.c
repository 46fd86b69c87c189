/* SPDX-License-Identifier: Apache-2.0 */
/* The device of the benchmarks on a GPU, their clock and their data. */
#include "common/gpu.h"

#include <stdio.h>
#include <string.h>

static bool is_simulated(const light_device *device)
{
    return strstr(light_device_name(device), "simulated") != NULL;
}

light_status bench_gpu_open(bench_gpu *gpu, int *argc, char **argv)
{
    gpu->smoke = *argc > 1 && !strcmp(argv[*argc - 1], "--smoke");
    if (gpu->smoke) --*argc;
    LIGHT_TRY(light_device_get("cuda", &gpu->device));
    if (is_simulated(gpu->device) && !gpu->smoke)
        return light_fail(
            LIGHT_ERR_UNSUPPORTED,
            "%s: no benchmark runs on the simulated device, its speed means nothing; --smoke as the "
            "last argument tries the cases in small",
            light_device_name(gpu->device));
    light_set_default_device(gpu->device);
    return LIGHT_OK;
}

int64_t bench_gpu_size(const bench_gpu *gpu, int64_t full, int64_t tiny)
{
    return gpu->smoke ? tiny : full;
}

void bench_gpu_report(const bench_gpu *gpu, const char *name, double *samples, int n, const bench_work *work)
{
    if (!gpu->smoke) {
        bench_report(name, samples, n, work);
        return;
    }
    printf("{\"case\": \"%s\", \"side\": \"light\", \"smoke\": true, \"simulated\": %s}\n", name,
           is_simulated(gpu->device) ? "true" : "false");
    fflush(stdout);
}

static light_status call(light_status (*step)(void *user), void *user, int times)
{
    for (int i = 0; i < times; i++) LIGHT_TRY(step(user));
    return LIGHT_OK;
}

light_status bench_gpu_steps(const bench_gpu *gpu, const char *name, const bench_run *run,
                             light_status (*step)(void *user), void *user, const bench_work *work)
{
    double samples[BENCH_SPANS];
    LIGHT_TRY(call(step, user, run->warmup));
    for (int i = 0; i < BENCH_SPANS; i++) {
        LIGHT_TRY(light_device_synchronize(gpu->device));
        double begin = bench_now();
        LIGHT_TRY(call(step, user, run->steps));
        LIGHT_TRY(light_device_synchronize(gpu->device));
        samples[i] = (bench_now() - begin) / run->steps;
    }
    bench_gpu_report(gpu, name, samples, BENCH_SPANS, work);
    return LIGHT_OK;
}

static light_status keep(light_tensor **out, light_step *s, light_tensor *t)
{
    return t ? light_keep(out, t) : light_step_status(s);
}

light_status bench_gpu_randn(light_tensor **out, light_shape shape, light_dtype dtype)
{
    light_step *s;
    LIGHT_TRY(light_step_new(&s, .seed = 1, .inference = true));
    light_status status = keep(out, s, light_randn(s, shape, dtype));
    light_step_free(s);
    return status;
}

light_status bench_gpu_randint(light_tensor **out, light_shape shape, int64_t high)
{
    light_step *s;
    LIGHT_TRY(light_step_new(&s, .seed = 1, .inference = true));
    light_status status = keep(out, s, light_randint(s, 0, high, shape, LIGHT_I64));
    light_step_free(s);
    return status;
}
