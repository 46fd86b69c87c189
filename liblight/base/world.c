/* SPDX-License-Identifier: Apache-2.0 */
/* The world as launchers describe it. What was started last counts: mpirun inside of a Slurm job is mpirun. */
#include "base/world.h"

#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const light_world alone = {.size = 1, .local_size = 1, .nodes = 1, .launcher = ""};

/* ---- numbers of the environment -------------------------------------------- */

static light_status read_number(const char *name, const char *text, int low, int *value)
{
    char *end;
    long number = strtol(text, &end, 10);
    if (!isdigit((unsigned char)text[0]) || *end || number < low || number > 1 << 20)
        return light_fail(LIGHT_ERR_ARGUMENT,
                          "%s is \"%s\" in the environment; it should be a whole number from %d on", name,
                          text, low);
    *value = (int)number;
    return LIGHT_OK;
}

/* Leaves the value as it is where the variable is not set. */
static light_status read_optional(const char *name, int low, int *value)
{
    const char *text = getenv(name);
    return text ? read_number(name, text, low, value) : LIGHT_OK;
}

/* A variable that the launcher sets together with `beside`. */
static light_status read_required(const char *name, const char *beside, int low, int *value)
{
    const char *text = getenv(name);
    if (text) return read_number(name, text, low, value);
    return light_fail(LIGHT_ERR_ARGUMENT,
                      "%s is set in the environment but %s is not; start the program with mpirun or srun",
                      beside, name);
}

/* ---- the launchers ------------------------------------------------------------ */

/* Which host this is follows from how ranks lie when all hosts have as many: in blocks, or dealt out in turn. */
static void guess_node(light_world *w)
{
    w->node = w->rank % w->local_size == w->local_rank ? w->rank / w->local_size : w->rank % w->nodes;
    if (w->node >= w->nodes) w->node = w->nodes - 1;
}

static light_status read_open_mpi(light_world *w)
{
    static const char *const rank = "OMPI_COMM_WORLD_RANK";
    w->launcher = "mpirun";
    LIGHT_TRY(read_required(rank, "OMPI_COMM_WORLD_SIZE", 0, &w->rank));
    LIGHT_TRY(read_required("OMPI_COMM_WORLD_SIZE", rank, 1, &w->size));
    LIGHT_TRY(read_required("OMPI_COMM_WORLD_LOCAL_RANK", rank, 0, &w->local_rank));
    LIGHT_TRY(read_required("OMPI_COMM_WORLD_LOCAL_SIZE", rank, 1, &w->local_size));
    w->nodes = (w->size + w->local_size - 1) / w->local_size;
    LIGHT_TRY(read_optional("OMPI_MCA_orte_num_nodes", 1, &w->nodes));
    guess_node(w);
    return LIGHT_OK;
}

/* Of Slurm's "2(x3),1" the tasks of host `node`. */
static light_status tasks_of_node(const char *name, const char *text, int node, int *tasks)
{
    const char *at = text;
    int first = 0, used = 0;
    while (first <= node) {
        int count, repeat = 1;
        if (sscanf(at, "%d%n", &count, &used) != 1 || count < 1) break;
        at += used;
        if (sscanf(at, "(x%d)%n", &repeat, &used) == 1) at += used;
        first += repeat;
        *tasks = count;
        if (*at != ',') break;
        at++;
    }
    if (first > node) return LIGHT_OK;
    return light_fail(LIGHT_ERR_ARGUMENT,
                      "%s is \"%s\" in the environment, which does not say how many tasks node %d has", name,
                      text, node);
}

static light_status read_slurm(light_world *w)
{
    static const char *const rank = "SLURM_PROCID";
    const char *step_tasks = "SLURM_STEP_TASKS_PER_NODE", *job_tasks = "SLURM_TASKS_PER_NODE";
    const char *of_step = getenv("SLURM_STEP_NUM_TASKS") ? "SLURM_STEP_NUM_TASKS" : "SLURM_NTASKS";
    const char *of_nodes = getenv("SLURM_STEP_NUM_NODES") ? "SLURM_STEP_NUM_NODES" : "SLURM_NNODES";
    const char *tasks = getenv(step_tasks) ? step_tasks : job_tasks;
    w->launcher = "srun";
    LIGHT_TRY(read_required(rank, "SLURM_STEP_ID", 0, &w->rank));
    LIGHT_TRY(read_required(of_step, rank, 1, &w->size));
    LIGHT_TRY(read_required("SLURM_LOCALID", rank, 0, &w->local_rank));
    LIGHT_TRY(read_required("SLURM_NODEID", rank, 0, &w->node));
    LIGHT_TRY(read_required(of_nodes, rank, 1, &w->nodes));
    if (getenv(tasks)) return tasks_of_node(tasks, getenv(tasks), w->node, &w->local_size);
    w->local_size = w->nodes == 1 ? w->size : w->local_rank + 1;
    return LIGHT_OK;
}

/* MPICH and what comes from it. Without the local numbers it is taken for one host. */
static light_status read_pmi(light_world *w)
{
    w->launcher = "mpirun";
    LIGHT_TRY(read_required("PMI_RANK", "PMI_SIZE", 0, &w->rank));
    LIGHT_TRY(read_required("PMI_SIZE", "PMI_RANK", 1, &w->size));
    w->local_rank = w->rank;
    w->local_size = w->size;
    LIGHT_TRY(read_optional("MPI_LOCALRANKID", 0, &w->local_rank));
    LIGHT_TRY(read_optional("MPI_LOCALNRANKS", 1, &w->local_size));
    w->nodes = (w->size + w->local_size - 1) / w->local_size;
    guess_node(w);
    return LIGHT_OK;
}

/* Whether a launcher has set one of two variables. */
static bool has(const char *one, const char *other)
{
    return getenv(one) || getenv(other);
}

static light_status read_launcher(light_world *w)
{
    if (has("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE")) return read_open_mpi(w);
    /* A batch script has the variables of the job too, but only srun makes a step. */
    if (has("SLURM_STEP_ID", "SLURM_STEPID") && getenv("SLURM_PROCID")) return read_slurm(w);
    if (has("PMI_RANK", "PMI_SIZE")) return read_pmi(w);
    return LIGHT_OK;
}

/* ---- the world ------------------------------------------------------------------- */

static light_status check_part(const char *what, int part, const char *of, int all)
{
    if (part < all) return LIGHT_OK;
    return light_fail(LIGHT_ERR_ARGUMENT,
                      "the environment contradicts itself: %s %d, counted from 0, of %d %s", what, part, all,
                      of);
}

static light_status check_world(const light_world *w)
{
    LIGHT_TRY(check_part("rank", w->rank, "processes", w->size));
    LIGHT_TRY(check_part("local rank", w->local_rank, "processes on this host", w->local_size));
    LIGHT_TRY(check_part("node", w->node, "nodes", w->nodes));
    if (w->local_size <= w->size && w->nodes <= w->size) return LIGHT_OK;
    return light_fail(LIGHT_ERR_ARGUMENT,
                      "the environment contradicts itself: %d processes on this host, %d nodes, %d processes "
                      "in all",
                      w->local_size, w->nodes, w->size);
}

static light_world world;
static char failure[256]; /* empty: none */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void read_world(void)
{
    world = alone;
    light_status status = read_launcher(&world);
    if (status == LIGHT_OK) status = check_world(&world);
    if (status == LIGHT_OK) status = read_optional("SLURM_RESTART_COUNT", 0, &world.attempt);
    if (status == LIGHT_OK) status = read_optional("LIGHT_ATTEMPT", 0, &world.attempt);
    if (status != LIGHT_OK) {
        world = alone;
        snprintf(failure, sizeof failure, "%s", light_error_message());
    }
    gethostname(world.host, sizeof world.host - 1);
}

const light_world *light_world_get(void)
{
    pthread_once(&once, read_world);
    return &world;
}

light_status light_world_check(void)
{
    light_world_get();
    return failure[0] ? light_fail(LIGHT_ERR_ARGUMENT, "%s", failure) : LIGHT_OK;
}
