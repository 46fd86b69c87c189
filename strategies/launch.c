/* SPDX-License-Identifier: Apache-2.0 */
/* From one process to a job: whether, with which command, and how often. */
#include "strategies/launch.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/world.h"
#include "checkpoint/folder.h"

#include <light/message.h>

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- whether ------------------------------------------------------------------------ */

/* 0: auto. */
static light_status wanted_devices(const light_trainer_options *options, int *devices)
{
    char *end;
    const char *text = options->devices;
    *devices = 0;
    if (!text || !strcmp(text, "auto")) return LIGHT_OK;
    long number = strtol(text, &end, 10);
    if (*end || end == text || number < 1 || number > 1 << 16)
        return light_fail(LIGHT_ERR_ARGUMENT, "trainer.devices \"%s\": expected auto or a number from 1 on",
                          text);
    *devices = (int)number;
    return LIGHT_OK;
}

/* The job that this process is part of is the one that the flags ask for. */
static light_status check_job(const light_world *w, int devices, int64_t nodes)
{
    if (devices > 0 && devices != w->local_size)
        return light_fail(LIGHT_ERR_ARGUMENT,
                          "trainer.devices %d, but %s has started %d processes on %s; leave the flag out, or "
                          "start as many",
                          devices, w->launcher, w->local_size, w->host);
    if (nodes > 1 && nodes != w->nodes)
        return light_fail(
            LIGHT_ERR_ARGUMENT,
            "trainer.num_nodes %lld, but %s has started processes on %d; leave the flag out, or "
            "start on as many",
            (long long)nodes, w->launcher, w->nodes);
    return LIGHT_OK;
}

/* ---- the command ----------------------------------------------------------------------- */

static light_status find_mpirun(int processes, char **path)
{
    const char *at = getenv("PATH");
    for (*path = NULL; at && *at;) {
        size_t length = strcspn(at, ":");
        char *folder = light_strndup(at, length), *file = folder ? light_path_join(folder, "mpirun") : NULL;
        light_free(folder);
        if (!file) return LIGHT_ERR_MEMORY;
        if (access(file, X_OK) == 0) {
            *path = file;
            return LIGHT_OK;
        }
        light_free(file);
        at += length + (at[length] == ':');
    }
    return light_fail(LIGHT_ERR_UNSUPPORTED,
                      "trainer.devices %d needs mpirun, which is not in PATH (on Debian: openmpi-bin); srun "
                      "starts such a job too",
                      processes);
}

typedef struct command {
    char *mpirun, *own; /* own: /proc/self/cmdline, arguments that end with NUL */
    size_t own_bytes;
    char program[PATH_MAX], processes[16];
    char **words;
} command;

static void free_command(command *c)
{
    light_free(c->mpirun);
    light_free(c->own);
    light_free(c->words);
}

/* Options of mpirun. Binding would put two threads of a process on one core. The keepalives make it notice a host
 * that is cut off, after the control channel has said which process is missing; its default is minutes. Slots are no
 * matter: who asks for four processes gets four. */
static const char *const mpirun_options[] = {
    "--quiet", "--oversubscribe", "--bind-to",
    "none",    "--mca",           "oob_tcp_keepalive_time",
    "7",       "--mca",           "oob_tcp_keepalive_intvl",
    "1",       "--mca",           "oob_tcp_keepalive_probes",
    "3",
};
enum { OPTIONS = sizeof mpirun_options / sizeof *mpirun_options };

static light_status read_own_command(command *c)
{
    ssize_t n = readlink("/proc/self/exe", c->program, sizeof c->program - 1);
    if (n < 0) return light_fail(LIGHT_ERR_IO, "cannot tell which program this is: %s", strerror(errno));
    c->program[n] = '\0';
    return light_file_read("/proc/self/cmdline", &c->own, &c->own_bytes);
}

static light_status make_command(command *c, int processes)
{
    size_t arguments = 0, n = 0;
    LIGHT_TRY(find_mpirun(processes, &c->mpirun));
    LIGHT_TRY(read_own_command(c));
    snprintf(c->processes, sizeof c->processes, "%d", processes);
    for (size_t i = 0; i < c->own_bytes; i++) arguments += c->own[i] == '\0';
    c->words = light_calloc(OPTIONS + arguments + 5, sizeof *c->words);
    if (!c->words) return LIGHT_ERR_MEMORY;
    c->words[n++] = c->mpirun;
    c->words[n++] = "-np";
    c->words[n++] = c->processes;
    for (int i = 0; i < OPTIONS; i++) c->words[n++] = (char *)(uintptr_t)mpirun_options[i];
    c->words[n++] = c->program;
    /* What follows the name of the program. */
    for (size_t at = strlen(c->own) + 1; at < c->own_bytes; at += strlen(c->own + at) + 1)
        c->words[n++] = c->own + at;
    return LIGHT_OK;
}

/* ---- how often ------------------------------------------------------------------------------ */

/* The same for all attempts, also for those of a job that Slurm has put into its queue again. */
static light_status name_job(void)
{
    char name[80], run[LIGHT_RUN_BYTES];
    const char *slurm = getenv("SLURM_JOB_ID");
    if (getenv("LIGHT_JOB")) return LIGHT_OK;
    LIGHT_TRY(light_run_new(run));
    if (slurm)
        snprintf(name, sizeof name, "slurm-%.60s", slurm);
    else
        snprintf(name, sizeof name, "%s", run);
    setenv("LIGHT_JOB", name, 1);
    return LIGHT_OK;
}

static int first_attempt(int64_t max_restarts)
{
    const char *requeued = getenv("SLURM_RESTART_COUNT");
    return requeued ? atoi(requeued) * (int)(max_restarts + 1) : light_world_get()->attempt;
}

/* Bad input would be bad again, and who has stopped a job wants it stopped. */
static bool is_worth_another(const light_launch_end *end)
{
    return !end->stopped && end->code != 0 && end->code != LIGHT_EXIT_FAILED &&
           end->code != LIGHT_EXIT_USAGE && end->code != LIGHT_EXIT_REQUEUE &&
           end->code != LIGHT_EXIT_INTERRUPTED;
}

static light_status run_attempts(const command *c, int64_t max_restarts, light_launch_end *end)
{
    int first = first_attempt(max_restarts);
    for (int64_t restarts = 0;; restarts++) {
        char attempt[16];
        snprintf(attempt, sizeof attempt, "%d", first + (int)restarts);
        setenv("LIGHT_ATTEMPT", attempt, 1);
        LIGHT_TRY(light_launch_run(c->words, end));
        if (!is_worth_another(end) || restarts == max_restarts) return LIGHT_OK;
        light_message(LIGHT_MESSAGE_WARNING,
                      "the job has ended with exit code %d; restart %lld of %lld, from its last checkpoint",
                      end->code, (long long)restarts + 1, (long long)max_restarts);
    }
}

static light_status start_job(int processes, int64_t max_restarts)
{
    command c = {0};
    light_launch_end end = {0};
    /* Whoever has this set is started by us, and must not start others if mpirun has not told it its rank. */
    if (getenv("LIGHT_LAUNCHED"))
        return light_fail(LIGHT_ERR_UNSUPPORTED,
                          "mpirun has started this process but not told it its rank; Open MPI's does");
    light_status status = make_command(&c, processes);
    if (status == LIGHT_OK) status = name_job();
    if (status == LIGHT_OK) {
        setenv("LIGHT_LAUNCHED", "1", 1);
        if (geteuid() == 0) {
            setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
            setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
        }
        status = run_attempts(&c, max_restarts, &end);
    }
    free_command(&c);
    LIGHT_TRY(status);
    exit(end.stopped == SIGINT && end.code == LIGHT_EXIT_REQUEUE ? LIGHT_EXIT_INTERRUPTED : end.code);
}

light_status light_launch(const light_trainer_options *options)
{
    const light_world *w = light_world_get();
    int devices;
    LIGHT_TRY(light_world_check());
    LIGHT_TRY(wanted_devices(options, &devices));
    if (w->launcher[0]) return check_job(w, devices, options->num_nodes);
    if (options->num_nodes > 1)
        return light_fail(LIGHT_ERR_ARGUMENT,
                          "trainer.num_nodes %lld: this program starts processes on its own host only; start "
                          "it with srun or mpirun on the others",
                          (long long)options->num_nodes);
    return devices > 1 ? start_job(devices, options->max_restarts) : LIGHT_OK;
}
