/* SPDX-License-Identifier: Apache-2.0 */
/* Saves that fail: every call that changes the disk in turn, every allocation in turn, full disks, folders without
 * permission, and processes killed at any time. The checkpoint that was there stays good, nothing is left behind. */
#include "common.h"

#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

/* ---- one call fails ----------------------------------------------------------- */

/* Saves mark 2 over mark 1 with the nth call failing, for every n until a save ends before its nth call. */
static void fail_every_call(const char *name, int error, bool background, bool replace)
{
    light_checkpoint_writer *writer;
    char inside[100];
    snprintf(inside, sizeof inside, "%s/last", name);
    assert_ok(light_checkpoint_writer_new(&writer));
    assert_ok(light_make_directories(at(name)));
    int64_t live = 0;
    int failures = 0;
    for (int64_t n = 1;; n++) {
        assert_ok(light_remove_tree(at(inside)));
        if (replace) assert_ok(small_save_now(at(inside), 1));
        if (n == 2) live = light_memory_count().live;
        light_file_fail_nth(n, error);
        light_status status = small_save(writer, at(inside), 2, background);
        if (background && status == LIGHT_OK) status = light_checkpoint_wait(writer);
        bool over = light_file_may_write(); /* the failure is behind us, or ahead */
        light_file_fail_nth(0, 0);
        if (n > 2) assert_int_equal(light_memory_count().live, live);

        assert_int_equal(count_entries(at(name)), replace || status == LIGHT_OK);
        if (status != LIGHT_OK) {
            failures++;
            assert_true(over);
            assert_message("cannot ");
            assert_message(strerror(error));
        }
        assert_int_equal(small_mark(at(inside)), status == LIGHT_OK ? 2 : replace ? 1 : -1);
        if (n > 60) break;
    }
    /* With these errors, one for each call that there is: more than the files' alone, and they came to an end. */
    if (error == ENOSPC || error == EIO) assert_in_range(failures, 20, 50);
    if (error == 0 || error == EINTR) assert_true(failures < 20);
    light_checkpoint_writer_free(writer);
}

static void no_space_at_any_call(void **unused)
{
    (void)unused;
    fail_every_call("enospc", ENOSPC, false, true);
}

static void errors_at_any_call_in_the_background(void **unused)
{
    (void)unused;
    fail_every_call("eio", EIO, true, true);
}

static void errors_at_any_call_of_the_first_save(void **unused)
{
    (void)unused;
    fail_every_call("first", EIO, false, false);
}

/* Short writes and interruptions are no failures, where a call can be taken up again. */
static void interrupted_writes_go_on(void **unused)
{
    (void)unused;
    assert_ok(small_save_now(at("short/last"), 1));
    for (int error = 0; error <= EINTR; error += EINTR) {
        int failed = 0;
        for (int64_t n = 1; n <= 45; n++) {
            light_file_fail_nth(n, error);
            light_status status = small_save_now(at("short/last"), (int)n);
            light_file_fail_nth(0, 0);
            failed += status != LIGHT_OK;
            assert_int_equal(count_entries(at("short")), 1);
            assert_int_not_equal(small_mark(at("short/last")), -1);
            if (status == LIGHT_OK) assert_int_equal(small_mark(at("short/last")), n);
        }
        /* What is left are calls that the kernel does not interrupt: making folders and files, renaming. */
        assert_in_range(failed, 0, 16);
    }
}

static void failed_removal_and_links(void **unused)
{
    (void)unused;
    light_checkpoint_writer *writer;
    assert_ok(light_checkpoint_writer_new(&writer));
    light_message_set_level(LIGHT_MESSAGE_OFF);
    for (int64_t n = 1; n <= 60; n++) {
        light_state *state = NULL;
        assert_ok(light_remove_tree(at("links")));
        assert_ok(small_save_now(at("links/last"), 1));
        assert_ok(small_save_now(at("links/old"), 1));
        assert_ok(small_state(2, &state));
        light_file_fail_nth(n, ENOSPC);
        light_status status = light_checkpoint_save(
            writer, &(light_checkpoint_request){.path = at("links/new"),
                                                .also = (const char *const[]){at("links/last"), NULL},
                                                .remove = (const char *const[]){at("links/old"), NULL},
                                                .state = state});
        light_file_fail_nth(0, 0);
        /* Whatever happens, `last` opens, and there are at most these three. */
        light_checkpoint *checkpoint;
        assert_ok(light_checkpoint_open(at("links/last"), &checkpoint));
        light_checkpoint_close(checkpoint);
        assert_in_range(count_entries(at("links")), 2, 3);
        if (status != LIGHT_OK) assert_int_equal(small_mark(at("links/old")), 1);
    }
    light_message_set_level(LIGHT_MESSAGE_ERROR);
    light_checkpoint_writer_free(writer);
}

/* ---- out of memory ------------------------------------------------------------ */

static void every_allocation_of_a_save(void **unused)
{
    (void)unused;
    assert_ok(small_save_now(at("memory/last"), 1));
    int64_t live = light_memory_count().live;
    for (int64_t n = 1;; n++) {
        light_memory_fail_nth(n);
        light_status status = small_save_now(at("memory/last"), 2);
        light_memory_fail_nth(0);
        assert_int_equal(light_memory_count().live, live);
        if (status == LIGHT_OK) {
            assert_true(n > 50);
            break;
        }
        assert_int_equal(count_entries(at("memory")), 1);
        assert_int_equal(small_mark(at("memory/last")), 1);
    }
    assert_int_equal(small_mark(at("memory/last")), 2);
}

static void every_allocation_of_opening(void **unused)
{
    (void)unused;
    assert_ok(small_save_now(at("opening"), 1));
    int64_t live = light_memory_count().live;
    for (int64_t n = 1;; n++) {
        light_checkpoint *checkpoint = NULL;
        light_memory_fail_nth(n);
        light_status status = light_checkpoint_open(at("opening"), &checkpoint);
        light_memory_fail_nth(0);
        if (status == LIGHT_OK) {
            assert_true(n > 20);
            light_checkpoint_close(checkpoint);
            assert_int_equal(light_memory_count().live, live);
            break;
        }
        assert_int_equal(status, LIGHT_ERR_MEMORY);
        assert_null(checkpoint);
        assert_int_equal(light_memory_count().live, live);
    }
}

/* ---- the real thing ------------------------------------------------------------ */

/* A file system of one megabyte takes one small checkpoint and not the large one. */
static void full_disk(void **unused)
{
    (void)unused;
    const char *disk = at("disk");
    assert_ok(light_make_directories(disk));
    if (mount("none", disk, "tmpfs", 0, "size=1m") != 0) {
        print_message(
            "mounting a small file system is not allowed here (%s): a full disk is tested with injected "
            "errors only\n",
            strerror(errno));
        skip();
    }
    enum { N = 400 << 10 };
    light_checkpoint_writer *writer;
    light_checkpoint_list list = {0};
    light_tensor *t;
    float *values = light_calloc(N, sizeof *values);
    assert_ok(light_tensor_wrap(&t, LIGHT_SHAPE(N), LIGHT_F32, values));
    assert_ok(light_checkpoint_list_add(&list, "w", t, NULL, NULL));
    assert_ok(light_checkpoint_writer_new(&writer));
    light_status first = small_save_now(at("disk/last"), 1), large[2], second;
    for (int background = 0; background < 2; background++) {
        large[background] = light_checkpoint_save(
            writer,
            &(light_checkpoint_request){.path = at("disk/last"), .tensors = &list, .background = background});
        if (background && large[background] == LIGHT_OK) large[background] = light_checkpoint_wait(writer);
    }
    const bool told = strstr(light_error_message(), "No space left on device") != NULL;
    int entries = count_entries(disk), mark = small_mark(at("disk/last"));
    second = small_save_now(at("disk/last"), 2);
    int later = small_mark(at("disk/last"));
    light_checkpoint_writer_free(writer);
    light_checkpoint_list_free(&list);
    light_tensor_free(t);
    light_free(values);
    assert_int_equal(umount(disk), 0);
    assert_int_equal(first, LIGHT_OK);
    assert_int_equal(large[0], LIGHT_ERR_IO);
    assert_int_equal(large[1], LIGHT_ERR_IO);
    assert_true(told);
    assert_int_equal(entries, 1);
    assert_int_equal(mark, 1);
    assert_int_equal(second, LIGHT_OK);
    assert_int_equal(later, 2);
}

/* Runs `child` in a process of its own; its exit code. */
static int in_child(int (*child)(void))
{
    int result;
    pid_t pid = fork();
    if (pid == 0) _exit(child());
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &result, 0), pid);
    assert_true(WIFEXITED(result));
    return WEXITSTATUS(result);
}

static int save_without_permission(void)
{
    if (getuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) return 9;
    light_status status = small_save_now(at("locked/last"), 2);
    if (status != LIGHT_ERR_IO || !strstr(light_error_message(), "Permission denied")) return 1;
    if (small_mark(at("locked/last")) != 1) return 2;
    status = small_save_now(at("locked/new"), 2);
    return status == LIGHT_ERR_IO && strstr(light_error_message(), "locked/new") ? 0 : 3;
}

static void folder_without_permission(void **unused)
{
    (void)unused;
    assert_ok(small_save_now(at("locked/last"), 1));
    assert_int_equal(chmod(folder, 0755), 0);
    assert_int_equal(chmod(at("locked"), 0555), 0);
    int result = in_child(save_without_permission);
    assert_int_equal(chmod(at("locked"), 0755), 0);
    assert_int_equal(result, 0);
    assert_int_equal(count_entries(at("locked")), 1);
}

static int save_above_the_limit(void)
{
    struct rlimit limit = {2000, 2000};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 9;
    signal(SIGXFSZ, SIG_IGN);
    if (small_save_now(at("limit/last"), 2) != LIGHT_ERR_IO) return 1;
    if (!strstr(light_error_message(), "limit")) return 2;
    return small_mark(at("limit/last")) == 1 ? 0 : 3;
}

static void limit_on_file_sizes(void **unused)
{
    (void)unused;
    assert_ok(small_save_now(at("limit/last"), 1));
    assert_int_equal(in_child(save_above_the_limit), 0);
    assert_int_equal(count_entries(at("limit")), 1);
}

/* ---- killed --------------------------------------------------------------------- */

/* Saves marks from `from` on until it is killed, telling each that is on disk through the pipe. */
static void save_until_killed(int pipe, int from, bool background)
{
    light_checkpoint_writer *writer;
    if (light_checkpoint_writer_new(&writer) != LIGHT_OK) _exit(1);
    for (int mark = from;; mark++) {
        if (small_save(writer, at("killed/last"), mark, background) != LIGHT_OK) _exit(2);
        if (light_checkpoint_wait(writer) != LIGHT_OK) _exit(3);
        if (write(pipe, &mark, sizeof mark) != sizeof mark) _exit(4);
    }
}

static void killed_at_any_time(void **unused)
{
    (void)unused;
    const char *tries_text = getenv("LIGHT_TEST_KILLS");
    int tries = tries_text ? atoi(tries_text) : 30;
    unsigned seed = 12345;
    int expected = 1;
    assert_ok(small_save_now(at("killed/last"), expected));
    for (int i = 0; i < tries; i++) {
        int ends[2], told, status;
        assert_int_equal(pipe(ends), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            close(ends[0]);
            save_until_killed(ends[1], expected + 1, i % 2);
        }
        close(ends[1]);
        /* After the first one is on disk, some time within the next few saves. */
        assert_int_equal(read(ends[0], &told, sizeof told), sizeof told);
        struct timespec pause = {.tv_nsec = rand_r(&seed) % 15000000};
        nanosleep(&pause, NULL);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        do expected = told;
        while (read(ends[0], &told, sizeof told) == sizeof told);
        close(ends[0]);
        /* The last that was told, or the one after it, which was finished but not told. */
        int mark = small_mark(at("killed/last"));
        assert_in_range(mark, expected, expected + 1);
        expected = mark;
        assert_ok(light_checkpoint_clean(at("killed")));
        assert_int_equal(count_entries(at("killed")), 1);
        assert_int_equal(small_mark(at("killed/last")), expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_space_at_any_call),
        cmocka_unit_test(errors_at_any_call_in_the_background),
        cmocka_unit_test(errors_at_any_call_of_the_first_save),
        cmocka_unit_test(interrupted_writes_go_on),
        cmocka_unit_test(failed_removal_and_links),
        cmocka_unit_test(every_allocation_of_a_save),
        cmocka_unit_test(every_allocation_of_opening),
        cmocka_unit_test(full_disk),
        cmocka_unit_test(folder_without_permission),
        cmocka_unit_test(limit_on_file_sizes),
        cmocka_unit_test(killed_at_any_time),
    };
    return cmocka_run_group_tests(tests, make_quick_folder, remove_folder);
}
