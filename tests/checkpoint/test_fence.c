/* SPDX-License-Identifier: Apache-2.0 */
/* The fence around a run's folder: attempts of one job, two jobs, writers that wake up late. */
#include "checkpoint/fence.h"

#include "common.h"

#include <signal.h>
#include <sys/wait.h>

/* As attempt `attempt` of `job`: a process of its own, because a process belongs to one job. Exits with what fn returns. */
static pid_t start_as(const char *job, int attempt, int (*fn)(void))
{
    char number[16];
    pid_t pid = fork();
    if (pid > 0) return pid;
    snprintf(number, sizeof number, "%d", attempt);
    if (job) setenv("LIGHT_JOB", job, 1);
    setenv("LIGHT_ATTEMPT", number, 1);
    _exit(fn());
}

static int end_of(pid_t pid)
{
    int status = -1;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static int run_as(const char *job, int attempt, int (*fn)(void))
{
    return end_of(start_as(job, attempt, fn));
}

static void note(const char *name)
{
    FILE *f = fopen(at(name), "w");
    if (f) fclose(f);
}

static void await(const char *name)
{
    while (!light_file_exists(at(name))) usleep(1000);
}

static int save_checkpoint(void)
{
    light_checkpoint_writer *writer;
    if (light_checkpoint_writer_new(&writer) != LIGHT_OK) return 90;
    light_status status =
        light_checkpoint_save(writer, &(light_checkpoint_request){.path = at("run/step_1"), .step = 1});
    light_checkpoint_writer_free(writer);
    return status == LIGHT_OK ? 0 : strstr(light_error_message(), "was taken over by job") ? 7 : 8;
}

static int take_and_save(void)
{
    light_fence *fence;
    if (light_fence_take(&fence, at("run")) != LIGHT_OK)
        return strstr(light_error_message(), "another run is writing there") ? 5
               : strstr(light_error_message(), "attempt 1 of this job")      ? 6
                                                                             : 4;
    int code = save_checkpoint();
    light_fence_release(fence);
    return code;
}

/* Holds the folder, and saves when it is told to. */
static int hold_and_save(void)
{
    light_fence *fence;
    if (light_fence_take(&fence, at("run")) != LIGHT_OK) return 4;
    note("holds");
    await("go");
    return save_checkpoint();
}

static int is_ours(void)
{
    return light_fence_is_ours(at("run")) ? 1 : 0;
}

static void begin_folder(void)
{
    assert_int_equal(light_remove_tree(at("run")), LIGHT_OK);
    assert_int_equal(light_make_directories(at("run")), LIGHT_OK);
    remove(at("holds"));
    remove(at("go"));
}

static void one_after_another_is_fine(void **state)
{
    (void)state;
    begin_folder();
    assert_int_equal(run_as("a", 0, take_and_save), 0);
    assert_int_equal(run_as("a", 1, take_and_save), 0);
    assert_int_equal(run_as("b", 0, take_and_save), 0);
    assert_int_equal(run_as(NULL, 0, take_and_save), 0);
    assert_int_equal(run_as(NULL, 0, take_and_save), 0);
}

static void a_job_knows_its_folder(void **state)
{
    (void)state;
    begin_folder();
    assert_int_equal(run_as("a", 0, is_ours), 0);
    assert_int_equal(run_as("a", 0, take_and_save), 0);
    assert_int_equal(run_as("a", 1, is_ours), 1);
    assert_int_equal(run_as("b", 1, is_ours), 0);
    assert_int_equal(run_as(NULL, 1, is_ours), 0);
}

static void two_jobs_do_not_share(void **state)
{
    (void)state;
    begin_folder();
    pid_t first = start_as("a", 0, hold_and_save);
    await("holds");
    assert_int_equal(run_as("b", 0, take_and_save), 5);
    assert_int_equal(run_as(NULL, 0, take_and_save), 5);
    note("go");
    assert_int_equal(end_of(first), 0); /* nobody has disturbed it */
    assert_int_equal(run_as("b", 0, take_and_save), 0);
}

/* The earlier attempt is stopped, the next one runs and saves; then the earlier one wakes up. */
static void a_late_writer_commits_nothing(void **state)
{
    (void)state;
    begin_folder();
    pid_t first = start_as("a", 0, hold_and_save);
    await("holds");
    assert_int_equal(kill(first, SIGSTOP), 0);
    assert_int_equal(run_as("a", 1, take_and_save), 0);
    char *manifest;
    size_t bytes, bytes_after;
    assert_int_equal(light_file_read(at("run/step_1/manifest.json"), &manifest, &bytes), LIGHT_OK);
    note("go");
    assert_int_equal(kill(first, SIGCONT), 0);
    assert_int_equal(end_of(first), 7);
    char *after;
    assert_int_equal(light_file_read(at("run/step_1/manifest.json"), &after, &bytes_after), LIGHT_OK);
    assert_int_equal(bytes, bytes_after);
    assert_memory_equal(manifest, after, bytes);
    light_free(manifest);
    light_free(after);
    /* Nor does it take the folder back. */
    assert_int_equal(run_as("a", 0, take_and_save), 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_after_another_is_fine),
        cmocka_unit_test(a_job_knows_its_folder),
        cmocka_unit_test(two_jobs_do_not_share),
        cmocka_unit_test(a_late_writer_commits_nothing),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
