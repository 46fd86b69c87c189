/* SPDX-License-Identifier: Apache-2.0 */
/* Saves one after another: replacing, several names, removing old ones, in the background while the tensors change;
 * and finding, removing and cleaning up afterwards. */
#include "common.h"

#include "checkpoint/folder.h"

#include <sys/file.h>

typedef struct outcome {
    int calls;
    light_status status;
    uint64_t bytes;
    char path[600], message[600];
} outcome;

static void remember(void *user, const light_checkpoint_result *result)
{
    outcome *o = user;
    o->calls++;
    o->status = result->status;
    o->bytes = result->bytes;
    snprintf(o->path, sizeof o->path, "%s", result->path);
    snprintf(o->message, sizeof o->message, "%s", result->message);
    assert_true(result->blocked_seconds >= 0 && result->total_seconds >= result->blocked_seconds);
}

static light_status save_state(light_checkpoint_writer *writer, light_checkpoint_request request, int mark)
{
    LIGHT_TRY(small_state(mark, &request.state));
    request.step = mark;
    return light_checkpoint_save(writer, &request);
}

static int state_mark(const char *path)
{
    light_checkpoint *checkpoint;
    int mark = -1;
    if (light_checkpoint_open(path, &checkpoint) != LIGHT_OK) return -1;
    assert_ok(
        light_state_get(light_state_find_group(light_checkpoint_state(checkpoint), "loops"), "step", &mark));
    light_checkpoint_close(checkpoint);
    return mark;
}

static void replacing_leaves_one(void **unused)
{
    (void)unused;
    light_checkpoint_writer *writer;
    assert_ok(light_checkpoint_writer_new(&writer));
    const char *path = at("replace/deeper/last");
    for (int mark = 1; mark <= 4; mark++) {
        assert_ok(small_save(writer, path, mark, mark % 2));
        assert_ok(light_checkpoint_wait(writer));
        assert_int_equal(small_mark(path), mark);
        assert_int_equal(count_entries(at("replace/deeper")), 1);
        assert_int_equal(count_entries(path), 3);
    }
    light_checkpoint_writer_free(writer);
}

/* A checkpoint that is open goes on being what it was. */
static void open_ones_survive_replacement(void **unused)
{
    (void)unused;
    float values[SMALL_ELEMENTS];
    light_checkpoint *checkpoint;
    light_tensor *t;
    assert_ok(small_save_now(at("open"), 1));
    assert_ok(light_checkpoint_open(at("open"), &checkpoint));
    assert_ok(small_save_now(at("open"), 2));
    assert_ok(light_tensor_wrap(&t, LIGHT_SHAPE(4, 6), LIGHT_F32, values));
    assert_ok(light_checkpoint_read(checkpoint, "model/weight", t, NULL));
    assert_true(values[1] == 1001);
    light_tensor_free(t);
    light_checkpoint_close(checkpoint);
    assert_int_equal(small_mark(at("open")), 2);
}

static void other_folders_are_left_alone(void **unused)
{
    (void)unused;
    assert_ok(light_make_directories(at("mine")));
    assert_ok(light_file_write_atomic(at("mine/thesis.txt"), "text", 4));
    assert_int_equal(small_save_now(at("mine"), 1), LIGHT_ERR_ARGUMENT);
    assert_message("no checkpoint");
    assert_int_equal(light_checkpoint_remove(at("mine")), LIGHT_ERR_ARGUMENT);
    assert_int_equal(light_checkpoint_remove(at("mine/thesis.txt")), LIGHT_ERR_ARGUMENT);
    assert_int_equal(small_save_now(at("mine/thesis.txt"), 1), LIGHT_ERR_ARGUMENT);
    assert_int_not_equal(small_save_now(at("mine/thesis.txt/below"), 1), LIGHT_OK);
    assert_int_equal(count_entries(at("mine")), 1);
    assert_true(light_file_exists(at("mine/thesis.txt")));
    /* An empty one may be used. */
    assert_ok(light_make_directories(at("empty")));
    assert_ok(small_save_now(at("empty"), 5));
    assert_int_equal(small_mark(at("empty")), 5);
}

static void bad_requests(void **unused)
{
    (void)unused;
    light_checkpoint_writer *writer;
    outcome o = {0};
    assert_ok(light_checkpoint_writer_new(&writer));
    assert_int_equal(
        save_state(writer, (light_checkpoint_request){.path = "", .done = remember, .user = &o}, 1),
        LIGHT_ERR_ARGUMENT);
    assert_int_equal(save_state(writer, (light_checkpoint_request){.done = remember, .user = &o}, 1),
                     LIGHT_ERR_ARGUMENT);
    assert_int_equal(o.calls, 0);
    assert_ok(light_checkpoint_poll(writer));
    assert_ok(light_checkpoint_wait(writer));
    light_checkpoint_writer_free(writer);
    light_checkpoint_writer_free(NULL);
}

static void callbacks_come_once(void **unused)
{
    (void)unused;
    light_checkpoint_writer *writer;
    outcome first = {0}, second = {0}, third = {0};
    assert_ok(light_checkpoint_writer_new(&writer));
    light_checkpoint_request request = {
        .path = at("calls/a"), .background = true, .done = remember, .user = &first};
    assert_ok(save_state(writer, request, 1));
    /* The second waits for the first, and tells how that ended. */
    request.path = at("calls/b"), request.user = &second;
    assert_ok(save_state(writer, request, 2));
    assert_int_equal(first.calls, 1);
    assert_int_equal(first.status, LIGHT_OK);
    assert_string_equal(first.path, at("calls/a"));
    assert_string_equal(first.message, "");
    assert_true(first.bytes > 1000);
    assert_ok(light_checkpoint_wait(writer));
    assert_int_equal(second.calls, 1);
    assert_ok(light_checkpoint_wait(writer));
    assert_int_equal(second.calls, 1);
    /* A failure in the background is told to the callback, and by the call that finds it. */
    assert_ok(light_file_write_atomic(at("calls/file"), "", 0));
    request.path = at("calls/file"), request.user = &third;
    assert_ok(save_state(writer, request, 3));
    assert_int_equal(light_checkpoint_wait(writer), LIGHT_ERR_ARGUMENT);
    assert_message("calls/file");
    assert_int_equal(third.calls, 1);
    assert_int_equal(third.status, LIGHT_ERR_ARGUMENT);
    assert_non_null(strstr(third.message, "calls/file"));
    /* Polling finds the end too, and freeing does. */
    request.path = at("calls/c"), request.user = &third;
    assert_ok(save_state(writer, request, 4));
    while (third.calls < 2) assert_ok(light_checkpoint_poll(writer));
    request.path = at("calls/d");
    assert_ok(save_state(writer, request, 5));
    light_checkpoint_writer_free(writer);
    assert_int_equal(third.calls, 3);
    assert_int_equal(state_mark(at("calls/d")), 5);
}

static void several_names_and_old_ones_removed(void **unused)
{
    (void)unused;
    light_checkpoint_writer *writer;
    assert_ok(light_checkpoint_writer_new(&writer));
    const char *last = at("names/last"), *other = at("names/other"), *old = at("names/old");
    assert_ok(save_state(writer, (light_checkpoint_request){.path = old}, 1));
    assert_ok(save_state(writer, (light_checkpoint_request){.path = last}, 1));
    light_checkpoint_request request = {.path = at("names/step2"),
                                        .also = (const char *const[]){last, other, at("names/step2"), NULL},
                                        .remove = (const char *const[]){old, at("names/never was"), NULL},
                                        .background = true};
    assert_ok(save_state(writer, request, 2));
    assert_ok(light_checkpoint_wait(writer));
    assert_int_equal(state_mark(at("names/step2")), 2);
    assert_int_equal(state_mark(last), 2);
    assert_int_equal(state_mark(other), 2);
    assert_false(light_directory_exists(old));
    assert_int_equal(count_entries(at("names")), 3);
    /* One goes, the others stay. */
    assert_ok(light_checkpoint_remove(at("names/step2")));
    assert_int_equal(state_mark(last), 2);
    assert_int_equal(state_mark(other), 2);
    assert_int_equal(count_entries(at("names")), 2);
    /* A failure of the second name leaves the first in place and the old ones too. */
    assert_ok(light_file_write_atomic(at("names/file"), "", 0));
    request = (light_checkpoint_request){.path = at("names/step3"),
                                         .also = (const char *const[]){at("names/file"), NULL},
                                         .remove = (const char *const[]){last, NULL}};
    assert_int_equal(save_state(writer, request, 3), LIGHT_ERR_ARGUMENT);
    assert_message("names/step3 is saved");
    assert_int_equal(state_mark(at("names/step3")), 3);
    assert_int_equal(state_mark(last), 2);
    light_checkpoint_writer_free(writer);
}

/* Training goes on while the file is written: what is saved is what was there at the call. */
static void later_changes_are_not_saved(void **unused)
{
    (void)unused;
    enum { N = 1 << 20 };
    light_checkpoint_writer *writer;
    light_checkpoint *checkpoint;
    light_checkpoint_list list = {0};
    light_tensor *t;
    float *values = light_alloc(N * sizeof *values);
    assert_non_null(values);
    assert_ok(light_checkpoint_writer_new(&writer));
    assert_ok(light_tensor_wrap(&t, LIGHT_SHAPE(N), LIGHT_F32, values));
    assert_ok(light_checkpoint_list_add(&list, "w", t, NULL, NULL));
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N; i++) values[i] = (float)(i + round);
        assert_ok(light_checkpoint_save(
            writer, &(light_checkpoint_request){.path = at("moving"), .tensors = &list, .background = true}));
        for (int i = 0; i < N; i++) values[i] = -1;
        assert_ok(light_checkpoint_wait(writer));
        assert_ok(light_checkpoint_open(at("moving"), &checkpoint));
        assert_ok(light_checkpoint_read(checkpoint, "w", t, NULL));
        light_checkpoint_close(checkpoint);
        for (int i = 0; i < N; i++)
            if (values[i] != (float)(i + round))
                fail_msg("element %d of round %d: %g", i, round, (double)values[i]);
    }
    light_checkpoint_list_free(&list);
    light_tensor_free(t);
    light_free(values);
    light_checkpoint_writer_free(writer);
}

/* Many pieces, which several threads check. */
static void large_ones(void **unused)
{
    (void)unused;
    enum { N = 9 << 20 };
    light_checkpoint_list list = {0};
    light_checkpoint_writer *writer;
    light_checkpoint *checkpoint;
    light_tensor *t, *row;
    uint8_t *values = light_alloc(N), *back = light_alloc(N);
    assert_true(values && back);
    for (int i = 0; i < N; i++) values[i] = (uint8_t)((uint32_t)i * 2654435761u >> 24);
    assert_ok(light_checkpoint_writer_new(&writer));
    assert_ok(light_tensor_wrap(&t, LIGHT_SHAPE(3, N / 3), LIGHT_U8, values));
    assert_ok(light_tensor_wrap(&row, LIGHT_SHAPE(2, N / 3 - 5), LIGHT_U8, back));
    assert_ok(light_checkpoint_list_add(&list, "a/w", t, NULL, NULL));
    assert_ok(light_checkpoint_list_add(&list, "b/w", t, NULL, NULL));
    assert_ok(
        light_checkpoint_save(writer, &(light_checkpoint_request){.path = at("large"), .tensors = &list}));
    assert_ok(light_checkpoint_open(at("large"), &checkpoint));
    assert_ok(light_checkpoint_read(checkpoint, "b/w", row, (int64_t[]){1, 3}));
    assert_memory_equal(back, values + N / 3 + 3, N / 3 - 5);
    assert_memory_equal(back + N / 3 - 5, values + 2 * (N / 3) + 3, N / 3 - 5);
    light_checkpoint_close(checkpoint);
    /* One bit in the middle. */
    int file = open(at("large/model-00000-of-00001.h5"), O_RDWR);
    unsigned char byte;
    assert_int_equal(pread(file, &byte, 1, 5 << 20), 1);
    byte ^= 16;
    assert_int_equal(pwrite(file, &byte, 1, 5 << 20), 1);
    close(file);
    assert_int_equal(light_checkpoint_open(at("large"), &checkpoint), LIGHT_ERR_FORMAT);
    assert_message("'a/w'");
    light_checkpoint_list_free(&list);
    light_tensor_free(t);
    light_tensor_free(row);
    light_free(values);
    light_free(back);
    light_checkpoint_writer_free(writer);
}

/* The memory for copies is kept: a second save of the same size allocates none of it. */
static void staging_is_reused(void **unused)
{
    (void)unused;
    light_checkpoint_writer *writer;
    assert_ok(light_checkpoint_writer_new(&writer));
    int64_t live[3];
    for (int i = 0; i < 3; i++) {
        assert_ok(small_save(writer, at("staging"), i, true));
        assert_ok(light_checkpoint_wait(writer));
        live[i] = light_memory_count().live;
    }
    assert_int_equal(live[1], live[0]);
    assert_int_equal(live[2], live[0]);
    light_checkpoint_writer_free(writer);
}

/* ---- folders ---------------------------------------------------------------- */

static void newest_that_is_good(void **unused)
{
    (void)unused;
    char *path;
    light_checkpoint_about about;
    assert_int_equal(light_checkpoint_newest(at("nowhere"), &path), LIGHT_ERR_NOT_FOUND);
    assert_ok(light_make_directories(at("newest")));
    assert_int_equal(light_checkpoint_newest(at("newest"), &path), LIGHT_ERR_NOT_FOUND);
    /* Names say nothing about age, and steps do not either. */
    assert_ok(small_save_now(at("newest/c"), 30));
    assert_ok(small_save_now(at("newest/a"), 10));
    assert_ok(small_save_now(at("newest/b"), 20));
    assert_ok(light_make_directories(at("newest/no checkpoint")));
    assert_ok(light_file_write_atomic(at("newest/file"), "", 0));
    assert_ok(light_checkpoint_newest(at("newest"), &path));
    assert_string_equal(path, at("newest/b"));
    light_free_text(path);
    assert_ok(light_checkpoint_peek(at("newest/b"), &about));
    assert_int_equal(about.step, 20);
    assert_true(about.created_ns > INT64_C(1700000000000000000));
    /* A temporary one is none, however new. */
    assert_int_equal(rename(at("newest/b"), at("newest/b.tmp.0123456789abcdef.0")), 0);
    assert_ok(light_checkpoint_newest(at("newest"), &path));
    assert_string_equal(path, at("newest/a"));
    light_free_text(path);
    /* Damaged ones are passed over: first the data, then the manifest. */
    assert_int_equal(truncate(at("newest/a/common.h5"), 100), 0);
    light_message_set_level(LIGHT_MESSAGE_OFF);
    assert_ok(light_checkpoint_newest(at("newest"), &path));
    assert_string_equal(path, at("newest/c"));
    light_free_text(path);
    assert_int_equal(truncate(at("newest/c/manifest.json"), 100), 0);
    assert_int_equal(light_checkpoint_newest(at("newest"), &path), LIGHT_ERR_NOT_FOUND);
    assert_null(path);
    light_message_set_level(LIGHT_MESSAGE_ERROR);
}

static void cleaning_up_after_the_dead(void **unused)
{
    (void)unused;
    assert_ok(light_checkpoint_clean(at("nowhere")));
    assert_ok(small_save_now(at("clean/last"), 1));
    const char *const dead[] = {"clean/x.tmp.0123456789abcdef.0", "clean/last.tmp.0123456789abcdef.17",
                                "clean/y.tmp.z.tmp.0123456789abcdef.3"};
    const char *const kept[] = {"clean/x.tmp.0123456789abcde.0", "clean/x.tmp.0123456789abcdef.",
                                "clean/x.tmp.0123456789abcdef.0.more", "clean/.tmp", "clean/x.tmp"};
    for (size_t i = 0; i < 3; i++) assert_ok(light_make_directories(at(dead[i])));
    for (size_t i = 0; i < 5; i++) assert_ok(light_make_directories(at(kept[i])));
    assert_ok(light_file_write_atomic(at("clean/x.tmp.0123456789abcdef.0/common.h5"), "x", 1));
    /* Someone is at work here. */
    const char *busy = at("clean/busy.tmp.0123456789abcdef.0");
    assert_ok(light_make_directories(busy));
    int lock = open(busy, O_RDONLY | O_DIRECTORY);
    assert_int_equal(flock(lock, LOCK_EX | LOCK_NB), 0);
    /* A replacement in two steps that was cut off between them, and one after the second. */
    assert_ok(small_save_now(at("clean/best"), 2));
    assert_int_equal(rename(at("clean/best"), at("clean/best.tmp.0123456789abcdef.0.replaced")), 0);
    assert_ok(light_make_directories(at("clean/last.tmp.0123456789abcdef.0.replaced")));

    assert_ok(light_checkpoint_clean(at("clean")));
    for (size_t i = 0; i < 3; i++) assert_false(light_file_exists(at(dead[i])));
    for (size_t i = 0; i < 5; i++) assert_true(light_file_exists(at(kept[i])));
    assert_true(light_file_exists(busy));
    assert_int_equal(small_mark(at("clean/last")), 1);
    assert_int_equal(small_mark(at("clean/best")), 2);
    assert_false(light_file_exists(at("clean/best.tmp.0123456789abcdef.0.replaced")));
    assert_false(light_file_exists(at("clean/last.tmp.0123456789abcdef.0.replaced")));
    close(lock);
    assert_ok(light_checkpoint_clean(at("clean")));
    assert_false(light_file_exists(busy));
}

/* A writer's own temporary folder is locked while it is at work, so that others let it alone. */
static void writers_lock_their_folder(void **unused)
{
    (void)unused;
    char run[LIGHT_RUN_BYTES];
    light_temporary_folder one, two;
    assert_ok(light_run_new(run));
    assert_ok(light_temporary_folder_new(&one, at("locked/x"), run));
    assert_ok(light_temporary_folder_new(&two, at("locked/x"), run));
    assert_string_not_equal(one.path, two.path);
    assert_ok(light_checkpoint_clean(at("locked")));
    assert_true(light_directory_exists(one.path));
    assert_true(light_directory_exists(two.path));
    light_temporary_folder_free(&one);
    light_temporary_folder_free(&two);
    assert_int_equal(count_entries(at("locked")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replacing_leaves_one),
        cmocka_unit_test(open_ones_survive_replacement),
        cmocka_unit_test(other_folders_are_left_alone),
        cmocka_unit_test(bad_requests),
        cmocka_unit_test(callbacks_come_once),
        cmocka_unit_test(several_names_and_old_ones_removed),
        cmocka_unit_test(later_changes_are_not_saved),
        cmocka_unit_test(large_ones),
        cmocka_unit_test(staging_is_reused),
        cmocka_unit_test(newest_that_is_good),
        cmocka_unit_test(cleaning_up_after_the_dead),
        cmocka_unit_test(writers_lock_their_folder),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
