/* SPDX-License-Identifier: Apache-2.0 */
/* The world by the variables of each launcher. It is read once, so every case is a process of its own. */
#include "base/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

extern char **environ;

/* Settings apart by spaces; nothing else is in the environment. */
static void set_only(const char *settings)
{
    static char copy[1000];
    snprintf(copy, sizeof copy, "%s", settings);
    clearenv();
    for (char *one = strtok(copy, " "); one; one = strtok(NULL, " ")) putenv(one);
}

/* One line about the world that a process with these settings sees. */
static void describe(const char *settings, char *text, size_t bytes)
{
    const light_world *w;
    set_only(settings);
    light_status status = light_world_check();
    w = light_world_get();
    int used = snprintf(text, bytes, "%s %d/%d local %d/%d node %d/%d attempt %d", w->launcher, w->rank,
                        w->size, w->local_rank, w->local_size, w->node, w->nodes, w->attempt);
    if (status != LIGHT_OK) snprintf(text + used, bytes - (size_t)used, ": %s", light_error_message());
}

static void assert_world(const char *settings, const char *expected)
{
    int ends[2], result;
    char text[1000];
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        describe(settings, text, sizeof text);
        _exit(write(ends[1], text, strlen(text) + 1) != (ssize_t)strlen(text) + 1);
    }
    close(ends[1]);
    ssize_t length = read(ends[0], text, sizeof text);
    close(ends[0]);
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
    assert_true(length > 0);
    assert_string_equal(text, expected);
}

#define ALONE " 0/1 local 0/1 node 0/1 attempt 0"

static void alone_without_a_launcher(void **state)
{
    (void)state;
    assert_world("", ALONE);
    assert_world("LIGHT_ATTEMPT=2", " 0/1 local 0/1 node 0/1 attempt 2");
}

#define OMPI(rank, size, local_rank, local_size)                                                             \
    "OMPI_COMM_WORLD_RANK=" #rank " OMPI_COMM_WORLD_SIZE=" #size " OMPI_COMM_WORLD_LOCAL_RANK=" #local_rank  \
    " OMPI_COMM_WORLD_LOCAL_SIZE=" #local_size

static void open_mpi(void **state)
{
    (void)state;
    assert_world(OMPI(3, 4, 3, 4), "mpirun 3/4 local 3/4 node 0/1 attempt 0");
    assert_world(OMPI(3, 4, 1, 2) " LIGHT_ATTEMPT=1", "mpirun 3/4 local 1/2 node 1/2 attempt 1");
    /* dealt out in turn: hosts have the ranks 0 2 and 1 3 */
    assert_world(OMPI(1, 4, 0, 2) " OMPI_MCA_orte_num_nodes=2", "mpirun 1/4 local 0/2 node 1/2 attempt 0");
    assert_world(OMPI(2, 3, 0, 1) " OMPI_MCA_orte_num_nodes=2", "mpirun 2/3 local 0/1 node 1/2 attempt 0");
}

#define SRUN "SLURM_STEP_ID=0 SLURM_JOB_ID=7 SLURM_PROCID=5 SLURM_NTASKS=7 SLURM_LOCALID=1 SLURM_NODEID=2"

static void slurm(void **state)
{
    (void)state;
    assert_world(SRUN " SLURM_NNODES=4 SLURM_TASKS_PER_NODE=2(x3),1",
                 "srun 5/7 local 1/2 node 2/4 attempt 0");
    assert_world(SRUN " SLURM_NNODES=4 SLURM_TASKS_PER_NODE=1,2(x3)",
                 "srun 5/7 local 1/2 node 2/4 attempt 0");
    assert_world(SRUN " SLURM_NNODES=3 SLURM_TASKS_PER_NODE=2,1,4", "srun 5/7 local 1/4 node 2/3 attempt 0");
    /* a step of some of the job's tasks */
    assert_world(SRUN
                 " SLURM_NNODES=9 SLURM_TASKS_PER_NODE=8(x9) SLURM_STEP_NUM_TASKS=6 SLURM_STEP_NUM_NODES=3 "
                 "SLURM_STEP_TASKS_PER_NODE=2(x3)",
                 "srun 5/6 local 1/2 node 2/3 attempt 0");
    assert_world("SLURM_STEPID=0 SLURM_PROCID=1 SLURM_NTASKS=2 SLURM_LOCALID=1 SLURM_NODEID=0 SLURM_NNODES=1",
                 "srun 1/2 local 1/2 node 0/1 attempt 0");
}

/* sbatch sets the variables of the job, with this process as the first; mpirun inside of it counts. */
static void a_batch_script_is_alone(void **state)
{
    static const char *const batch =
        "SLURM_JOB_ID=7 SLURM_PROCID=0 SLURM_NTASKS=8 SLURM_LOCALID=0 SLURM_NODEID=0 SLURM_NNODES=2";
    char both[500];
    (void)state;
    assert_world(batch, ALONE);
    snprintf(both, sizeof both, "%s SLURM_STEP_ID=0 %s", batch, OMPI(1, 2, 1, 2));
    assert_world(both, "mpirun 1/2 local 1/2 node 0/1 attempt 0");
}

static void process_management_interface(void **state)
{
    (void)state;
    assert_world("PMI_RANK=1 PMI_SIZE=2", "mpirun 1/2 local 1/2 node 0/1 attempt 0");
    assert_world("PMI_RANK=5 PMI_SIZE=6 MPI_LOCALRANKID=1 MPI_LOCALNRANKS=2",
                 "mpirun 5/6 local 1/2 node 2/3 attempt 0");
}

static void contradictions_are_one_line(void **state)
{
    (void)state;
    assert_world("OMPI_COMM_WORLD_RANK=1",
                 ALONE ": OMPI_COMM_WORLD_RANK is set in the environment but "
                       "OMPI_COMM_WORLD_SIZE is not; start the program with mpirun or srun");
    assert_world("PMI_SIZE=2",
                 ALONE ": PMI_SIZE is set in the environment but PMI_RANK is not; start the program "
                       "with mpirun or srun");
    assert_world(OMPI(2, 2, 0, 2),
                 ALONE ": the environment contradicts itself: rank 2, counted from 0, of 2 processes");
    assert_world(
        OMPI(1, 2, 3, 2), ALONE
        ": the environment contradicts itself: local rank 3, counted from 0, of 2 processes on this host");
    assert_world(OMPI(1, 2, 0, 3),
                 ALONE ": the environment contradicts itself: 3 processes on this host, 1 nodes, 2 "
                       "processes in all");
    assert_world("PMI_RANK=-1 PMI_SIZE=2",
                 ALONE ": PMI_RANK is \"-1\" in the environment; it should be a whole number from 0 on");
    assert_world("PMI_RANK=0 PMI_SIZE=2x",
                 ALONE ": PMI_SIZE is \"2x\" in the environment; it should be a whole number from 1 on");
    assert_world("PMI_RANK= PMI_SIZE=2",
                 ALONE ": PMI_RANK is \"\" in the environment; it should be a whole number from 0 on");
    assert_world("LIGHT_ATTEMPT=first", ALONE
                 ": LIGHT_ATTEMPT is \"first\" in the environment; it should be a whole number from 0 on");
    assert_world(
        SRUN " SLURM_NNODES=4 SLURM_TASKS_PER_NODE=2(x2)", ALONE
        ": SLURM_TASKS_PER_NODE is \"2(x2)\" in the environment, which does not say how many tasks node 2 has");
    assert_world(SRUN " SLURM_NNODES=2 SLURM_TASKS_PER_NODE=4(x3)",
                 ALONE ": the environment contradicts itself: node 2, counted from 0, of 2 nodes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alone_without_a_launcher),
        cmocka_unit_test(open_mpi),
        cmocka_unit_test(slurm),
        cmocka_unit_test(a_batch_script_is_alone),
        cmocka_unit_test(process_management_interface),
        cmocka_unit_test(contradictions_are_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
