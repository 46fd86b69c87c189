/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints that several ranks write together: any number of them reads what any number has written, and a save that
 * cannot be is told to all. */
#include "group.h"

#include <sys/wait.h>

/* ---- any number to any number ----------------------------------------------------- */

static void any_number_loads_any(void **unused)
{
    (void)unused;
    int mark = 0;
    for (int writers = 1; writers <= 4; writers++)
        for (int way = 0; way < WAYS; way++) {
            save_shared(at("any/last"), writers, way, ++mark);
            for (int readers = 1; readers <= 4; readers++)
                for (int other = 0; other < WAYS; other++)
                    assert_int_equal(shared_mark(at("any/last"), readers, other), mark);
            assert_int_equal(count_entries(at("any")), 1);
            assert_int_equal(count_entries(at("any/last")), writers + 2);
        }
}

/* One writer after another save of the same processes, with further names and removals. */
static void names_are_for_rank_0(void **unused)
{
    (void)unused;
    enum { SIZE = 3 };
    socket_group groups[SIZE];
    light_checkpoint_writer *writers[SIZE];
    make_groups(groups, SIZE);
    for (int rank = 0; rank < SIZE; rank++) assert_ok(light_checkpoint_writer_new(&writers[rank]));
    for (int mark = 1; mark <= 3; mark++) {
        char path[100], before[100];
        rank_run runs[SIZE] = {{0}};
        snprintf(path, sizeof path, "names/step%d", mark);
        snprintf(before, sizeof before, "names/step%d", mark - 1);
        light_checkpoint_request request = {.path = at(path),
                                            .also = (const char *const[]){at("names/last"), NULL},
                                            .remove = (const char *const[]){at(before), NULL},
                                            .background = true};
        for (int rank = 0; rank < SIZE; rank++)
            runs[rank] = (rank_run){.group = &groups[rank],
                                    .way = mark % WAYS,
                                    .mark = mark,
                                    .request = request,
                                    .writer = writers[rank]};
        save_together(runs, SIZE);
        for (int rank = 0; rank < SIZE; rank++) {
            if (runs[rank].status != LIGHT_OK) fail_msg("rank %d: %s", rank, runs[rank].message);
            assert_int_equal(runs[rank].done_calls, 1);
        }
        assert_int_equal(shared_mark(at(path), 2, 1), mark);
        assert_int_equal(shared_mark(at("names/last"), 1, 0), mark);
        assert_int_equal(count_entries(at("names")), 2);
    }
    for (int rank = 0; rank < SIZE; rank++) light_checkpoint_writer_free(writers[rank]);
    close_groups(groups, SIZE);
}

static void h5dump_reads_each_part(void **unused)
{
    (void)unused;
    char command[700], text[65536];
    if (system("h5dump --version >/dev/null 2>&1") != 0) {
        print_message("h5dump is not installed (Debian: hdf5-tools), so what it reads is not tested\n");
        skip();
    }
    save_shared(at("dump"), 2, 1, 1);
    snprintf(command, sizeof command, "h5dump -y -w 200 -g /model '%s'", at("dump/model-00001-of-00002.h5"));
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    text[fread(text, 1, sizeof text - 1, pipe)] = '\0';
    assert_int_equal(pclose(pipe), 0);
    /* 105 elements are cut at 53: [2, 3, 2] on its own, the rest of its slab, two slabs. */
    assert_non_null(strstr(text, "DATASET \"weight\""));
    assert_non_null(strstr(text, "DATASET \"weight@1\""));
    assert_non_null(strstr(text, "DATASET \"weight@2\""));
    assert_non_null(strstr(text, "100053"));
    assert_non_null(strstr(text, "5, 7, 3"));
    assert_non_null(strstr(text, "2, 3, 2"));
}

/* ---- saves that cannot be ----------------------------------------------------------- */

/* Runs a save over mark 1 that `change` spoils on one rank; all are told the same, and the old one stays. */
static void expect_failure(int size, light_status expected, const char *message,
                           void (*change)(rank_run *runs))
{
    socket_group groups[MOST_RANKS];
    rank_run runs[MOST_RANKS] = {{0}};
    for (int background = 0; background < 2; background++) {
        assert_ok(light_remove_tree(at("bad")));
        save_shared(at("bad/last"), 2, 0, 1);
        make_groups(groups, size);
        for (int rank = 0; rank < size; rank++)
            runs[rank] = (rank_run){.group = &groups[rank],
                                    .mark = 2,
                                    .request = {.path = at("bad/last"), .background = background}};
        change(runs);
        save_together(runs, size);
        close_groups(groups, size);
        for (int rank = 0; rank < size; rank++) {
            assert_int_equal(runs[rank].status, expected);
            assert_int_equal(runs[rank].done_calls, 1);
            assert_int_equal(runs[rank].done_status, expected);
            if (!strstr(runs[rank].message, message))
                fail_msg("'%s' is not in '%s'", message, runs[rank].message);
            assert_string_equal(runs[rank].message, runs[0].message);
        }
        assert_int_equal(shared_mark(at("bad/last"), 3, 1), 1);
        assert_int_equal(count_entries(at("bad")), 1);
    }
}

static void other_step(rank_run *runs)
{
    runs[2].request.step = 9;
}

static void overlapping(rank_run *runs)
{
    runs[1].way = 1; /* an element more than its share */
}

static void missing(rank_run *runs)
{
    runs[2].way = 2; /* three elements less */
    runs[1].way = 0;
    runs[0].way = 2;
}

static void occupied(rank_run *runs)
{
    runs[0].request.path = at("bad/last/common.h5");
}

static void saves_that_do_not_fit(void **unused)
{
    (void)unused;
    expect_failure(3, LIGHT_ERR_STATE, "rank 2: it saves step 9 of epoch 0, rank 0 saves step 2", other_step);
    expect_failure(3, LIGHT_ERR_FORMAT, "parts of tensor 'model/weight' are there twice", overlapping);
    expect_failure(4, LIGHT_ERR_FORMAT, "parts of tensor 'model/weight' are missing", missing);
    expect_failure(2, LIGHT_ERR_ARGUMENT, "rank 0: ", occupied);
}

/* A rank whose request is wrong already, which is no reason for the others to wait for ever. */
static void spoil_list(light_checkpoint_list *list, light_tensor *t)
{
    assert_ok(light_checkpoint_list_add(list, "a//b", t, NULL, NULL));
}

typedef struct direct_run {
    socket_group *group;
    const char *path;
    light_checkpoint_list *list;
    light_status status;
    char message[2048];
} direct_run;

static void *save_list(void *argument)
{
    direct_run *run = argument;
    light_checkpoint_writer *writer;
    if (light_checkpoint_writer_new(&writer) != LIGHT_OK) abort();
    run->status = light_checkpoint_save(
        writer, &(light_checkpoint_request){
                    .path = run->path, .group = &run->group->base, .tensors = run->list, .background = true});
    if (run->status == LIGHT_OK) run->status = light_checkpoint_wait(writer);
    snprintf(run->message, sizeof run->message, "%s", light_error_message());
    light_checkpoint_writer_free(writer);
    return NULL;
}

static void bad_request_of_one_rank(void **unused)
{
    (void)unused;
    float value = 1;
    light_tensor *t;
    const char *path = at("spoilt/last");
    light_message_set_level(LIGHT_MESSAGE_OFF);
    assert_ok(light_make_directories(at("spoilt")));
    assert_ok(light_tensor_wrap(&t, LIGHT_SHAPE(1), LIGHT_F32, &value));
    for (int bad = 0; bad < 3; bad++) {
        socket_group groups[3];
        direct_run runs[3];
        pthread_t threads[3];
        light_checkpoint_list lists[3] = {{0}};
        char expected[64];
        make_groups(groups, 3);
        spoil_list(&lists[bad], t);
        for (int rank = 0; rank < 3; rank++) {
            runs[rank] = (direct_run){.group = &groups[rank], .path = path, .list = &lists[rank]};
            assert_int_equal(pthread_create(&threads[rank], NULL, save_list, &runs[rank]), 0);
        }
        for (int rank = 0; rank < 3; rank++) assert_int_equal(pthread_join(threads[rank], NULL), 0);
        snprintf(expected, sizeof expected, "rank %d: checkpoint: 'a//b' is no name", bad);
        for (int rank = 0; rank < 3; rank++) {
            assert_int_equal(runs[rank].status, LIGHT_ERR_ARGUMENT);
            if (!strstr(runs[rank].message, expected)) fail_msg("%s", runs[rank].message);
            light_checkpoint_list_free(&lists[rank]);
        }
        close_groups(groups, 3);
        assert_int_equal(count_entries(at("spoilt")), 0);
    }
    light_message_set_level(LIGHT_MESSAGE_ERROR);
    light_tensor_free(t);
}

/* ---- ranks that are cut off ------------------------------------------------------------ */

/* The nth call of the group fails on one rank, for every n: nobody hangs, and what rank 0 says is so. */
static void every_group_call_fails(void **unused)
{
    (void)unused;
    enum { SIZE = 3 };
    light_message_set_level(LIGHT_MESSAGE_OFF);
    for (int bad = 0; bad < SIZE; bad++) {
        int failures = 0;
        for (int n = 1; n <= 5; n++) {
            socket_group groups[SIZE];
            rank_run runs[SIZE] = {{0}};
            save_shared(at("cut/last"), 1, 0, 1);
            make_groups(groups, SIZE);
            groups[bad].fail_at = n;
            for (int rank = 0; rank < SIZE; rank++)
                runs[rank] = (rank_run){.group = &groups[rank],
                                        .way = 1,
                                        .mark = 2,
                                        .request = {.path = at("cut/last"), .background = true}};
            save_together(runs, SIZE);
            if (groups[bad].calls >= n) failures += runs[bad].status != LIGHT_OK;
            close_groups(groups, SIZE);
            for (int rank = 0; rank < SIZE; rank++) {
                assert_int_equal(runs[rank].done_calls, 1);
                if (runs[rank].status == LIGHT_OK) assert_int_equal(runs[0].status, LIGHT_OK);
            }
            assert_int_equal(shared_mark(at("cut/last"), 1, 0), runs[0].status == LIGHT_OK ? 2 : 1);
            assert_int_equal(count_entries(at("cut")), 1);
        }
        /* Rank 0 announces, receives twice, and announces what is true by then; the others wait, send, wait. */
        assert_int_equal(failures, 3);
    }
    light_message_set_level(LIGHT_MESSAGE_ERROR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_loads_any),    cmocka_unit_test(names_are_for_rank_0),
        cmocka_unit_test(h5dump_reads_each_part),  cmocka_unit_test(saves_that_do_not_fit),
        cmocka_unit_test(bad_request_of_one_rank), cmocka_unit_test(every_group_call_fails),
    };
    return cmocka_run_group_tests(tests, make_quick_folder, remove_folder);
}
