/* SPDX-License-Identifier: Apache-2.0 */
/* One run of mpirun: signals on their way to it, and the wait for all that belongs to it. */
#include "strategies/launch.h"

#include "base/time.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* mpirun returns up to 2 s before its processes are dead. */
#define LEFT_SECONDS 10.0

static const int watched[] = {SIGINT, SIGTERM, SIGUSR1, SIGCHLD};

static void watch(sigset_t *set, sigset_t *before)
{
    sigemptyset(set);
    for (size_t i = 0; i < sizeof watched / sizeof *watched; i++) sigaddset(set, watched[i]);
    pthread_sigmask(SIG_BLOCK, set, before);
}

/* In the child. A group of its own: Ctrl-C reaches us alone, for mpirun would leave its processes one second. */
static void become(char *const *command, const sigset_t *mask)
{
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    sigprocmask(SIG_SETMASK, mask, NULL);
    execv(command[0], command);
    _exit(127);
}

static int exit_code_of(int status)
{
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Takes the children that have ended; false when the job is not among them. */
static bool reap(pid_t job, int *code)
{
    bool ended = false;
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        if (pid != job) continue;
        *code = exit_code_of(status);
        ended = true;
    }
    return ended;
}

static void pass_on(pid_t job, int signal_number, light_launch_end *end)
{
    bool again = end->stopped && signal_number != SIGUSR1;
    if (!end->stopped) end->stopped = signal_number;
    kill(job, again ? SIGTERM : SIGUSR1);
}

static void kill_children(void)
{
    char path[64];
    int pid;
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    FILE *list = fopen(path, "r");
    while (list && fscanf(list, "%d", &pid) == 1) kill(pid, SIGKILL);
    if (list) fclose(list);
}

/* What mpirun has left is ours now. A process that still writes must not meet the next attempt. */
static void wait_for_the_rest(void)
{
    double end = light_now() + LEFT_SECONDS;
    while (waitpid(-1, NULL, WNOHANG) >= 0) {
        if (light_now() > end) kill_children();
        usleep(20000);
    }
}

light_status light_launch_run(char *const *command, light_launch_end *end)
{
    sigset_t set, before;
    *end = (light_launch_end){0};
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    watch(&set, &before);
    pid_t job = fork();
    if (job == 0) become(command, &before);
    light_status status =
        job < 0 ? light_fail(LIGHT_ERR_IO, "cannot start %s: %s", command[0], strerror(errno)) : LIGHT_OK;
    for (bool ended = job < 0; !ended;) {
        int signal_number = sigwaitinfo(&set, NULL);
        if (signal_number == SIGCHLD)
            ended = reap(job, &end->code);
        else if (signal_number > 0)
            pass_on(job, signal_number, end);
    }
    if (job > 0) wait_for_the_rest();
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return status;
}
