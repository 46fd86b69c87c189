/* SPDX-License-Identifier: Apache-2.0 */
/* A program like one that trains, for tests of whole jobs: steps of an all_reduce, a "checkpoint" now and then, stops by
 * signals, and faults at a given rank and step.
 *
 *     worker FOLDER [--devices N] [--max_restarts N] [--timeout SECONDS] [--steps N] [--pause MS]
 *            [--fault RANK STEP die|stop|hang|fail|crash|astray] [--attempts N: faults in the first N attempts only, default 1] */
#include "strategies/communicators.h"
#include "strategies/launch.h"

#include "base/exit.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/string.h"
#include "base/time.h"
#include "base/world.h"
#include "checkpoint/fence.h"

#include <light/message.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FLOATS = 1 << 16, STEPS_PER_SAVE = 5 };

typedef struct worker {
    light_trainer_options options;
    const char *folder, *fault;
    int64_t steps, pause, fault_step, fault_attempts;
    int fault_rank;
    light_communicator *group;
    light_control *control;
    light_fence *fence;
    int64_t step;
} worker;

static volatile sig_atomic_t asked;

static void note(int signal_number)
{
    asked = signal_number;
}

/* ---- the command line -------------------------------------------------------------------- */

static bool is_option(char **argv, int i, const char *name)
{
    return !strcmp(argv[i], name);
}

static bool read_options(worker *w, int argc, char **argv)
{
    if (argc < 2) return false;
    w->folder = argv[1];
    for (int i = 2; i < argc; i += 2) {
        const char *value = argv[i + 1];
        if (i + 1 >= argc) return false;
        if (is_option(argv, i, "--devices")) {
            w->options.devices = value;
        } else if (is_option(argv, i, "--max_restarts")) {
            w->options.max_restarts = atoi(value);
        } else if (is_option(argv, i, "--timeout")) {
            w->options.collective_timeout = atof(value);
        } else if (is_option(argv, i, "--steps")) {
            w->steps = atoi(value);
        } else if (is_option(argv, i, "--pause")) {
            w->pause = atoi(value);
        } else if (is_option(argv, i, "--attempts")) {
            w->fault_attempts = atoi(value);
        } else if (is_option(argv, i, "--fault") && i + 3 < argc) {
            w->fault_rank = atoi(value);
            w->fault_step = atoi(argv[i + 2]);
            w->fault = argv[i + 3];
            i += 2;
        } else {
            return false;
        }
    }
    return true;
}

/* ---- the checkpoint: a file with the number of a step --------------------------------------- */

static light_status save(worker *w)
{
    char text[32], *path = light_path_join(w->folder, "step");
    snprintf(text, sizeof text, "%lld\n", (long long)w->step);
    light_status status = light_fence_check();
    if (status == LIGHT_OK) status = light_file_write_atomic(path, text, strlen(text));
    light_free(path);
    return status;
}

static light_status restore(worker *w)
{
    char *text, *path = light_path_join(w->folder, "step");
    size_t bytes;
    if (w->group->rank == 0) LIGHT_TRY(light_fence_take(&w->fence, w->folder));
    if (light_fence_is_restart() && light_file_read(path, &text, &bytes) == LIGHT_OK) {
        w->step = atoll(text);
        light_free(text);
    }
    light_free(path);
    return light_broadcast_bytes(w->group, &w->step, sizeof w->step, 0, "step to go on from");
}

/* ---- steps -------------------------------------------------------------------------------------- */

/* The time is noted, so that a script can tell how long the others took to notice. */
static bool is_time(const worker *w)
{
    return w->fault && w->group->rank == w->fault_rank && w->step == w->fault_step &&
           light_world_get()->attempt < w->fault_attempts;
}

static light_status have_fault(const worker *w)
{
    if (!is_time(w)) return LIGHT_OK;
    fprintf(stderr, "fault: %s of rank %d at %.3f\n", w->fault, w->group->rank, light_now());
    if (!strcmp(w->fault, "die")) kill(getpid(), SIGKILL);
    if (!strcmp(w->fault, "stop")) kill(getpid(), SIGSTOP);
    if (!strcmp(w->fault, "crash")) raise(SIGSEGV);
    while (!strcmp(w->fault, "hang")) pause();
    if (strcmp(w->fault, "fail") != 0) return LIGHT_OK;
    return light_fail(LIGHT_ERR_IO, "cannot read data.bin: it is not there");
}

static light_status run_step(worker *w, float *values)
{
    bool astray = is_time(w) && !strcmp(w->fault, "astray"); /* as many bytes, but of something else */
    LIGHT_TRY(have_fault(w));
    if (w->pause) usleep((useconds_t)w->pause * 1000);
    for (int i = 0; i < FLOATS; i++) values[i] = (float)w->step;
    LIGHT_TRY(light_communicate(w->group, &(light_collective){.kind = LIGHT_ALL_REDUCE,
                                                              .in = values,
                                                              .out = values,
                                                              .count = FLOATS,
                                                              .dtype = LIGHT_F32,
                                                              .what = astray ? "values" : "gradients"}));
    float sum = (float)(w->step * w->group->size);
    for (int i = 0; i < FLOATS; i++)
        if (values[i] != sum)
            return light_fail(LIGHT_ERR_INTERNAL, "sum %d of step %lld is %g, not %g", i, (long long)w->step,
                              (double)values[i], (double)sum);
    w->step++;
    if (w->group->rank == 0 && w->step % STEPS_PER_SAVE == 0) return save(w);
    return LIGHT_OK;
}

static light_status run_steps(worker *w, float *values)
{
    bool stop = false;
    LIGHT_TRY(restore(w));
    while (w->step < w->steps) {
        LIGHT_TRY(light_control_boundary(w->control, w->step, asked, &stop));
        if (!stop) {
            LIGHT_TRY(run_step(w, values));
            continue;
        }
        if (w->group->rank == 0) LIGHT_TRY(save(w));
        light_exit_by_signal(SIGUSR1);
        return light_fail(LIGHT_ERR_INTERRUPTED, "stopped at step %lld", (long long)w->step);
    }
    return LIGHT_OK;
}

static light_status run(worker *w)
{
    float *values = light_calloc(FLOATS, sizeof *values);
    light_status status = values ? light_mpi_communicator_new(&w->group) : LIGHT_ERR_MEMORY;
    if (status == LIGHT_OK) status = light_control_open(&w->control, w->group, w->options.collective_timeout);
    if (status == LIGHT_OK) light_communicator_set_control(w->group, w->control);
    if (status == LIGHT_OK) status = run_steps(w, values);
    if (status == LIGHT_OK && w->group->rank == 0)
        printf("done: step %lld, attempt %d\n", (long long)w->step, light_world_get()->attempt);
    bool failed = status != LIGHT_OK && status != LIGHT_ERR_INTERRUPTED;
    if (failed && !light_control_fail(w->control, status, light_error_message())) status = LIGHT_ERR_PEER;
    if (status != LIGHT_OK && status != LIGHT_ERR_PEER && (failed || light_world_get()->rank == 0))
        light_message(LIGHT_MESSAGE_ERROR, "%s", light_error_message());
    light_fence_release(w->fence);
    light_control_close(w->control);
    light_communicator_free(w->group);
    light_free(values);
    return status;
}

int main(int argc, char **argv)
{
    worker w = {.options = {.devices = "auto", .collective_timeout = 60, .num_nodes = 1},
                .steps = 100,
                .fault_attempts = 1};
    if (!read_options(&w, argc, argv)) {
        fprintf(stderr, "worker: the arguments are in the head of worker.c\n");
        return LIGHT_EXIT_USAGE;
    }
    if (light_launch(&w.options) != LIGHT_OK) {
        light_message(LIGHT_MESSAGE_ERROR, "%s", light_error_message());
        return LIGHT_EXIT_USAGE;
    }
    signal(SIGUSR1, note);
    signal(SIGTERM, note);
    signal(SIGINT, note);
    return light_exit_code(run(&w));
}
