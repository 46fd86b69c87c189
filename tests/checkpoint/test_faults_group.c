/* SPDX-License-Identifier: Apache-2.0 */
/* Saves of several processes in which one fails or is killed: each call of one of them that changes the disk, each
 * allocation, and death at any time. Whatever is under the name is whole, and all that live are told the same. */
#include "group.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>

/* ---- one call of one process fails ------------------------------------------------- */

/* What a process tells of its save. */
typedef struct report {
    light_status status;
    bool reached; /* the failure was, rather than the save's end before */
    char message[512];
} report;

typedef enum kind { DISK, MEMORY } kind;

static void fail_nth(kind kind, int64_t n)
{
    if (kind == DISK)
        light_file_fail_nth(n, ENOSPC);
    else
        light_memory_fail_nth(n);
}

/* A process: mark 2 with the nth call failing. The writer and the list are made before. */
static report save_in_child(socket_group *group, kind kind, int64_t n)
{
    report r = {0};
    light_checkpoint_writer *writer;
    light_state *state = NULL;
    shared_part *part = light_calloc(1, sizeof *part);
    if (!part || light_checkpoint_writer_new(&writer) != LIGHT_OK || small_state(2, &state) != LIGHT_OK ||
        fill_part(part, group->base.rank, group->base.size, 1, 2) != LIGHT_OK)
        _exit(9);
    fail_nth(kind, n);
    r.status = light_checkpoint_save(writer, &(light_checkpoint_request){.path = at("nth/last"),
                                                                         .group = &group->base,
                                                                         .tensors = &part->list,
                                                                         .state = state,
                                                                         .step = 2,
                                                                         .background = n % 2});
    if (n % 2 && r.status == LIGHT_OK) r.status = light_checkpoint_wait(writer);
    snprintf(r.message, sizeof r.message, "%s", r.status == LIGHT_OK ? "" : light_error_message());
    /* As many more as there can be: the failure is reached by one of them if it was not yet. */
    int64_t more = 0;
    while (kind == DISK && n && more < 1000 && light_file_may_write()) more++;
    r.reached = more == 1000;
    fail_nth(kind, 0);
    light_checkpoint_writer_free(writer);
    free_part(part);
    return r;
}

/* Forks `size` processes that save together; rank `bad` has the failure. */
static void save_with_failure(report *reports, int size, int bad, kind kind, int64_t n)
{
    socket_group groups[MOST_RANKS];
    int pipes[MOST_RANKS][2];
    pid_t pids[MOST_RANKS];
    make_groups(groups, size);
    for (int rank = 0; rank < size; rank++) {
        assert_int_equal(pipe(pipes[rank]), 0);
        pids[rank] = fork();
        assert_true(pids[rank] >= 0);
        if (pids[rank] != 0) continue;
        for (int other = 0; other < size; other++)
            if (other != rank) group_cut_off(&groups[other]);
        light_message_set_level(LIGHT_MESSAGE_OFF);
        report r = save_in_child(&groups[rank], kind, rank == bad ? n : 0);
        _exit(write(pipes[rank][1], &r, sizeof r) == sizeof r ? 0 : 8);
    }
    close_groups(groups, size);
    for (int rank = 0; rank < size; rank++) {
        int status;
        assert_int_equal(waitpid(pids[rank], &status, 0), pids[rank]);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
        assert_int_equal(read(pipes[rank][0], &reports[rank], sizeof *reports), sizeof *reports);
        close(pipes[rank][0]);
        close(pipes[rank][1]);
    }
}

static void no_space_at_any_call_of_any_rank(void **unused)
{
    (void)unused;
    enum { SIZE = 3 };
    for (int bad = 0; bad < SIZE; bad++) {
        char who[32];
        int failures = 0;
        snprintf(who, sizeof who, "rank %d: ", bad);
        save_shared(at("nth/last"), 1, 0, 1);
        for (int64_t n = 1; n < 80; n++) {
            report reports[SIZE];
            save_with_failure(reports, SIZE, bad, DISK, n);
            bool good = reports[bad].status == LIGHT_OK;
            for (int rank = 0; rank < SIZE; rank++) {
                assert_int_equal(reports[rank].status, reports[bad].status);
                assert_string_equal(reports[rank].message, reports[bad].message);
            }
            if (!good) {
                failures++;
                if (strncmp(reports[0].message, who, strlen(who)) != 0 ||
                    !strstr(reports[0].message, at("nth")) ||
                    !strstr(reports[0].message, "No space left on device"))
                    fail_msg("call %d of rank %d: %s", (int)n, bad, reports[0].message);
            }
            assert_int_equal(shared_mark(at("nth/last"), 1, 0), good ? 2 : 1);
            assert_int_equal(count_entries(at("nth")), 1);
            if (!reports[bad].reached) break;
            assert_in_range(n, 1, 78);
        }
        /* A file's calls for the others; for rank 0 a second file, the folder, the manifest and the name too. */
        assert_in_range(failures, bad ? 5 : 15, bad ? 25 : 60);
    }
}

/* Every allocation of one rank, until there are none that fail. */
static void no_memory_at_any_rank(void **unused)
{
    (void)unused;
    enum { SIZE = 2 };
    for (int bad = 0; bad < SIZE; bad++) {
        assert_ok(light_remove_tree(
            at("nth"))); /* of the save before, the removal of the old one may have failed */
        save_shared(at("nth/last"), 1, 0, 1);
        for (int64_t n = 1;; n++) {
            report reports[SIZE];
            save_with_failure(reports, SIZE, bad, MEMORY, n);
            int mark = shared_mark(at("nth/last"), 1, 0);
            if (mark != (reports[0].status == LIGHT_OK ? 2 : 1))
                fail_msg("allocation %d of rank %d left mark %d: %s", (int)n, bad, mark, reports[0].message);
            if (reports[bad].status == LIGHT_OK) {
                assert_true(n > 30);
                break;
            }
            assert_int_equal(count_entries(at("nth")), 1);
        }
    }
}

/* ---- killed --------------------------------------------------------------------------- */

/* Saves marks from `from` on until the group breaks; rank 0 tells each that is on disk. */
static void save_until_killed(socket_group *group, int pipe, int from, bool background)
{
    light_checkpoint_writer *writer;
    if (light_checkpoint_writer_new(&writer) != LIGHT_OK) _exit(1);
    for (int mark = from;; mark++) {
        light_checkpoint_request request = {.path = at("killed/last"), .background = background};
        light_status status = save_part(writer, &group->base, mark % WAYS, mark, request);
        if (status == LIGHT_OK) status = light_checkpoint_wait(writer);
        if (status != LIGHT_OK) _exit(2);
        if (group->base.rank == 0 && write(pipe, &mark, sizeof mark) != sizeof mark) _exit(4);
    }
}

/* Kills one of the writers; the last mark that rank 0 told. */
static int kill_one(int size, int victim, int from, long pause_ns, bool background)
{
    socket_group groups[MOST_RANKS];
    pid_t pids[MOST_RANKS];
    int ends[2], told, last, status;
    make_groups(groups, size);
    assert_int_equal(pipe(ends), 0);
    for (int rank = 0; rank < size; rank++) {
        pids[rank] = fork();
        assert_true(pids[rank] >= 0);
        if (pids[rank] != 0) continue;
        light_message_set_level(LIGHT_MESSAGE_OFF);
        close(ends[0]);
        for (int other = 0; other < size; other++)
            if (other != rank) group_cut_off(&groups[other]);
        save_until_killed(&groups[rank], ends[1], from, background);
    }
    close_groups(groups, size);
    close(ends[1]);
    assert_int_equal(read(ends[0], &told, sizeof told), sizeof told);
    nanosleep(&(struct timespec){.tv_nsec = pause_ns}, NULL);
    assert_int_equal(kill(pids[victim], SIGKILL), 0);
    do last = told;
    while (read(ends[0], &told, sizeof told) == sizeof told);
    close(ends[0]);
    for (int rank = 0; rank < size; rank++) {
        assert_int_equal(waitpid(pids[rank], &status, 0), pids[rank]);
        if (rank == victim)
            assert_true(WIFSIGNALED(status));
        else
            assert_int_equal(WEXITSTATUS(status), 2); /* the others were told that it is over */
    }
    return last;
}

static int number_of(const char *variable, int otherwise)
{
    const char *text = getenv(variable);
    return text ? atoi(text) : otherwise;
}

static void killed_at_any_time(void **unused)
{
    (void)unused;
    const int tries = number_of("LIGHT_TEST_KILLS", 20), size = number_of("LIGHT_TEST_RANKS", 4);
    unsigned seed = 54321;
    int expected = 1;
    assert_in_range(size, 1, MOST_RANKS);
    save_shared(at("killed/last"), 1, 0, expected);
    for (int i = 0; i < tries; i++) {
        int last = kill_one(size, i % size, expected + 1, rand_r(&seed) % 30000000, i / size % 2);
        /* The last that was told, or the one after it, which was finished but not told. */
        int mark = shared_mark(at("killed/last"), 1 + i % 4, i % WAYS);
        assert_in_range(mark, last, last + 1);
        expected = mark;
        assert_ok(light_checkpoint_clean(at("killed")));
        assert_int_equal(count_entries(at("killed")), 1);
        assert_int_equal(shared_mark(at("killed/last"), 1, 0), expected);
    }
    if (tries > 20) print_message("%d of %d kills left a whole checkpoint\n", tries, tries);
}

/* With an argument, the test of that name only. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_space_at_any_call_of_any_rank),
        cmocka_unit_test(no_memory_at_any_rank),
        cmocka_unit_test(killed_at_any_time),
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, make_quick_folder, remove_folder);
}
