/* SPDX-License-Identifier: Apache-2.0 */
/* What the checkpoint tests share: a temporary folder, a small checkpoint, looking at what is on disk. */
#ifndef TESTS_CHECKPOINT_COMMON_H
#define TESTS_CHECKPOINT_COMMON_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/state.h"
#include "checkpoint/checkpoint.h"

#include <light/message.h>

static char folder[256]; /* of this test program */

static int make_folder_below(const char *parent)
{
    snprintf(folder, sizeof folder, "%s/light-checkpoint-XXXXXX", parent);
    light_message_set_level(LIGHT_MESSAGE_ERROR);
    return mkdtemp(folder) ? 0 : -1;
}

__attribute__((unused)) static int make_folder(void **unused)
{
    (void)unused;
    const char *temporary = getenv("TMPDIR");
    return make_folder_below(temporary ? temporary : "/tmp");
}

/* In memory where that is possible: tests that save hundreds of times would wait for the disk. */
__attribute__((unused)) static int make_quick_folder(void **unused)
{
    return access("/dev/shm", W_OK | X_OK) == 0 ? make_folder_below("/dev/shm") : make_folder(unused);
}

__attribute__((unused)) static int remove_folder(void **unused)
{
    (void)unused;
    return light_remove_tree(folder) == LIGHT_OK ? 0 : -1;
}

/* folder/name, in one of a few buffers that are used in turn. */
__attribute__((unused)) static const char *at(const char *name)
{
    static char buffers[64][600];
    static int next;
    char *buffer = buffers[next++ % 64];
    snprintf(buffer, sizeof buffers[0], "%s/%s", folder, name);
    return buffer;
}

/* How many names `path` holds. */
__attribute__((unused)) static int count_entries(const char *path)
{
    int count = 0;
    DIR *open_folder = opendir(path);
    assert_non_null(open_folder);
    for (struct dirent *entry; (entry = readdir(open_folder)) != NULL;) count += entry->d_name[0] != '.';
    closedir(open_folder);
    return count;
}

#define assert_ok(expression)                                                                                \
    do {                                                                                                     \
        light_status status_of_this = (expression);                                                          \
        if (status_of_this != LIGHT_OK) fail_msg("%s", light_error_message());                               \
    } while (0)

#define assert_message(part)                                                                                 \
    do {                                                                                                     \
        if (!strstr(light_error_message(), part))                                                            \
            fail_msg("'%s' is not in '%s'", part, light_error_message());                                    \
    } while (0)

/* Two tensors and a little state; every number depends on `mark`. */
#define SMALL_ELEMENTS 24
typedef struct small {
    float weight[SMALL_ELEMENTS];
    int64_t steps[3];
} small;

__attribute__((unused)) static void small_fill(small *s, int mark)
{
    for (int i = 0; i < SMALL_ELEMENTS; i++) s->weight[i] = (float)mark * 1000 + (float)i;
    for (int i = 0; i < 3; i++) s->steps[i] = mark * 10 + i;
}

__attribute__((unused)) static light_status small_state(int mark, light_state **out)
{
    light_state *state = light_state_new();
    light_state *loops = state ? light_state_group(state, "loops") : NULL;
    light_status status = loops ? light_state_put(loops, "step", mark) : LIGHT_ERR_MEMORY;
    if (status == LIGHT_OK) status = light_state_put(state, "note", "a note");
    if (status != LIGHT_OK) {
        light_state_free(state);
        return status;
    }
    *out = state;
    return LIGHT_OK;
}

/* Saves with `mark`. */
__attribute__((unused)) static light_status small_save(light_checkpoint_writer *writer, const char *path,
                                                       int mark, bool background)
{
    small s;
    light_tensor *weight = NULL, *steps = NULL;
    light_state *state = NULL;
    light_checkpoint_list list = {0};
    small_fill(&s, mark);
    light_status status = light_tensor_wrap(&weight, LIGHT_SHAPE(4, 6), LIGHT_F32, s.weight);
    if (status == LIGHT_OK) status = light_tensor_wrap(&steps, LIGHT_SHAPE(3), LIGHT_I64, s.steps);
    if (status == LIGHT_OK) status = light_checkpoint_list_add(&list, "model/weight", weight, NULL, NULL);
    if (status == LIGHT_OK) status = light_checkpoint_list_add(&list, "optimizer/0/steps", steps, NULL, NULL);
    if (status == LIGHT_OK) status = small_state(mark, &state);
    if (status == LIGHT_OK)
        status = light_checkpoint_save(
            writer,
            &(light_checkpoint_request){
                .path = path, .tensors = &list, .state = state, .step = mark, .background = background});
    light_checkpoint_list_free(&list);
    light_tensor_free(weight);
    light_tensor_free(steps);
    return status;
}

/* Saves at once with a writer of its own. */
__attribute__((unused)) static light_status small_save_now(const char *path, int mark)
{
    light_checkpoint_writer *writer;
    LIGHT_TRY(light_checkpoint_writer_new(&writer));
    light_status status = small_save(writer, path, mark, false);
    light_checkpoint_writer_free(writer);
    return status;
}

/* The mark of a checkpoint after looking at everything in it; -1 when it does not open. */
__attribute__((unused)) static int small_mark(const char *path)
{
    small s, expected;
    light_checkpoint *checkpoint;
    light_tensor *weight, *steps;
    int mark = -1;
    const char *note = NULL;
    if (light_checkpoint_open(path, &checkpoint) != LIGHT_OK) return -1;
    assert_ok(light_tensor_wrap(&weight, LIGHT_SHAPE(4, 6), LIGHT_F32, s.weight));
    assert_ok(light_tensor_wrap(&steps, LIGHT_SHAPE(3), LIGHT_I64, s.steps));
    assert_ok(light_checkpoint_read(checkpoint, "model/weight", weight, NULL));
    assert_ok(light_checkpoint_read(checkpoint, "optimizer/0/steps", steps, NULL));
    const light_state *state = light_checkpoint_state(checkpoint);
    assert_ok(light_state_get(light_state_find_group(state, "loops"), "step", &mark));
    assert_ok(light_state_get(state, "note", &note));
    assert_string_equal(note, "a note");
    assert_int_equal(light_checkpoint_step(checkpoint), mark);
    small_fill(&expected, mark);
    assert_memory_equal(s.weight, expected.weight, sizeof s.weight);
    assert_memory_equal(s.steps, expected.steps, sizeof s.steps);
    light_tensor_free(weight);
    light_tensor_free(steps);
    light_checkpoint_close(checkpoint);
    return mark;
}

#endif
