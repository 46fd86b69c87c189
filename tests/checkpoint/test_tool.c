/* SPDX-License-Identifier: Apache-2.0 */
/* light-checkpoint as its user sees it: what it prints, how it exits, and that others read what it merges. */
#include "group.h"

#include <sys/wait.h>

/* Runs the tool with arguments, into `said`: what it printed, both streams. Its exit code. */
static char said[1 << 16];
static int tool(const char *arguments)
{
    char command[2000];
    snprintf(command, sizeof command, "cd '%s' && '%s/light-checkpoint' %s 2>&1", folder,
             LIGHT_TEST_BINARY_DIR, arguments);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    said[fread(said, 1, sizeof said - 1, pipe)] = '\0';
    int status = pclose(pipe);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

#define assert_tool(code, arguments, ...)                                                                    \
    do {                                                                                                     \
        const char *const parts[] = {__VA_ARGS__};                                                           \
        int code_of_this = tool(arguments);                                                                  \
        if (code_of_this != (code)) fail_msg("%s: exit code %d:\n%s", arguments, code_of_this, said);        \
        for (size_t part = 0; part < sizeof parts / sizeof *parts; part++)                                   \
            if (!strstr(said, parts[part]))                                                                  \
                fail_msg("%s: '%s' is not in\n%s", arguments, parts[part], said);                            \
    } while (0)

static int make_some(void **state)
{
    if (make_quick_folder(state) != 0) return -1;
    save_shared(at("runs/one"), 1, 0, 5);
    save_shared(at("runs/three"), 3, 1, 5);
    save_shared(at("runs/later"), 2, 3, 6);
    return 0;
}

static void wrong_usage(void **unused)
{
    (void)unused;
    assert_tool(0, "--help", "usage: light-checkpoint COMMAND", "exit codes");
    assert_tool(0, "diff --help", "usage: light-checkpoint COMMAND");
    assert_tool(2, "", "usage: light-checkpoint COMMAND");
    assert_tool(2, "lst runs", "there is no command 'lst': it is list, verify, diff or merge");
    assert_tool(2, "list", "it is list PATH");
    assert_tool(2, "list a b", "it is list PATH");
    assert_tool(2, "diff runs/one", "it is diff A B");
    assert_tool(2, "merge runs/one", "it is merge PATH FILE");
    assert_tool(2, "verify", "it is verify PATH...");
    assert_tool(3, "list nowhere", "light-checkpoint: nowhere is no folder");
    assert_tool(3, "list runs/one/common.h5", "is no folder");
    assert_tool(3, "verify nowhere", "there is no checkpoint nowhere");
    assert_tool(3, "diff runs/one nowhere", "there is no checkpoint nowhere");
}

static void lists(void **unused)
{
    (void)unused;
    assert_tool(0, "list runs", "runs/one: step 5, epoch 0, ", ", 1 writer, ", "runs/three: step 5",
                ", 3 writers, ", "runs/later: step 6");
    assert_tool(0, "list runs/three", "step 5, epoch 0", "f32   [5, 7, 3]             model/weight",
                "f32   [0, 3]                model/empty", "4 tensors, 21109 elements");
    assert_ok(light_make_directories(at("empty")));
    assert_tool(3, "list empty", "empty is no checkpoint, and there is none in it");
}

static void verifies(void **unused)
{
    (void)unused;
    assert_tool(0, "verify runs/one runs/three", "runs/one: good\n", "runs/three: good\n");
    char byte = 'x';
    save_shared(at("runs/bad"), 2, 0, 1);
    int file = open(at("runs/bad/model-00001-of-00002.h5"), O_WRONLY);
    assert_int_equal(pwrite(file, &byte, 1, 100), 1);
    close(file);
    assert_tool(1, "verify runs/one runs/bad runs/three", "runs/one: good\n",
                "model-00001-of-00002.h5 is damaged", "runs/three: good\n");
    assert_tool(3, "verify runs/bad nowhere", "is damaged", "there is no checkpoint nowhere");
    assert_ok(light_checkpoint_remove(at("runs/bad")));
}

static void tells_differences(void **unused)
{
    (void)unused;
    assert_tool(0, "diff runs/one runs/three", "4 tensors are equal to the bit, 0 are not\n");
    assert_tool(1, "diff runs/one runs/later", "model/weight: 105 of 105 elements differ, by 100000 at most",
                "model/scalar: 1 of 1 elements differ", "1 tensors are equal to the bit, 3 are not\n");
    /* One element, a NaN, another shape, names on one side. */
    float values[6] = {1, 2, 3, 4, 5, 6}, others[6] = {1, 2, 3.5f, 4, 5, 6};
    uint32_t nan_bits = 0x7fc00001;
    light_tensor *t;
    light_checkpoint_writer *writer;
    assert_ok(light_checkpoint_writer_new(&writer));
    for (int i = 0; i < 2; i++) {
        light_checkpoint_list list = {0};
        assert_ok(light_tensor_wrap(&t, LIGHT_SHAPE(2, 3), LIGHT_F32, i ? others : values));
        light_tensor flat = *t;
        light_tensor_set_shape(&flat, LIGHT_SHAPE(6));
        if (i) memcpy(&others[5], &nan_bits, sizeof nan_bits);
        assert_ok(light_checkpoint_list_add(&list, "w", t, NULL, NULL));
        assert_ok(light_checkpoint_list_add(&list, "shape", i ? &flat : t, NULL, NULL));
        assert_ok(light_checkpoint_list_add(&list, i ? "right" : "left", t, NULL, NULL));
        assert_ok(light_checkpoint_save(
            writer, &(light_checkpoint_request){.path = at(i ? "b" : "a"), .tensors = &list}));
        light_checkpoint_list_free(&list);
        light_tensor_free(t);
    }
    light_checkpoint_writer_free(writer);
    assert_tool(1, "diff a b", "w: 2 of 6 elements differ, by nan at most", "shape: f32 [2, 3] and f32 [6]",
                "left: only in a", "right: only in b", "0 tensors are equal to the bit, 4 are not");
}

static const char *output_of(const char *command)
{
    static char text[1 << 20];
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    text[fread(text, 1, sizeof text - 1, pipe)] = '\0';
    assert_int_equal(pclose(pipe), 0);
    return text;
}

/* The file that is merged from three writers has, to the byte, what one writer's file has. */
static void merges(void **unused)
{
    (void)unused;
    char command[1000];
    assert_tool(0, "merge runs/three three.h5", "");
    sleep(1); /* HDF5 notes the second where it is not kept from it */
    assert_tool(0, "merge runs/one one.h5", "");
    assert_string_equal(said, "");
    char *three, *one;
    size_t bytes, other;
    assert_ok(light_file_read(at("one.h5"), &one, &other));
    assert_ok(light_file_read(at("three.h5"), &three, &bytes));
    assert_int_equal(bytes, other);
    assert_memory_equal(one, three, bytes);
    light_free(one);
    light_free(three);
    if (system("h5dump --version >/dev/null 2>&1") != 0) {
        print_message("h5dump is not installed (Debian: hdf5-tools), so what it reads is not tested\n");
        skip();
    }
    snprintf(command, sizeof command, "h5dump -y -w 0 -d /model/weight '%s'", at("three.h5"));
    const char *text = output_of(command);
    assert_non_null(strstr(text, "SIMPLE { ( 5, 7, 3 ) / ( 5, 7, 3 ) }"));
    assert_non_null(strstr(text, "500000, 500001, 500002,"));
    assert_non_null(strstr(text, "500104"));
    assert_null(strstr(text, "global_shape"));
    snprintf(command, sizeof command, "h5dump -y -w 0 -d /optimizer/0/state/weight/exp_avg '%s'",
             at("three.h5"));
    text = output_of(command);
    for (int i = 0; i < 3 * 7001; i += 500) {
        char number[32];
        snprintf(number, sizeof number, "%d", 530000 + i);
        if (!strstr(text, number)) fail_msg("%s is not there", number);
    }
}

static void merges_or_leaves_alone(void **unused)
{
    (void)unused;
    assert_ok(light_file_write_atomic(at("mine.h5"), "mine", 4));
    save_shared(at("runs/bad"), 2, 0, 1);
    char *text;
    size_t bytes;
    int file = open(at("runs/bad/model-00001-of-00002.h5"), O_RDWR);
    struct stat about;
    assert_int_equal(fstat(file, &about), 0);
    char *data = light_alloc((size_t)about.st_size);
    assert_int_equal(pread(file, data, (size_t)about.st_size, 0), about.st_size);
    float value = shared_value(MOMENT, 1, 3 * 7001 - 5);
    char *place = memmem(data, (size_t)about.st_size, &value, sizeof value);
    assert_non_null(place);
    *place ^= 1;
    assert_int_equal(pwrite(file, place, 1, place - data), 1);
    close(file);
    light_free(data);
    int before = count_entries(folder);
    assert_tool(3, "merge runs/bad mine.h5", "model-00001-of-00002.h5 is damaged", "exp_avg");
    assert_tool(3, "merge runs/one nowhere/x.h5", "nowhere/x.h5");
    assert_tool(3, "merge runs/one runs", "runs");
    assert_int_equal(count_entries(folder), before);
    assert_ok(light_file_read(at("mine.h5"), &text, &bytes));
    assert_int_equal(bytes, 4);
    light_free(text);
    assert_ok(light_checkpoint_remove(at("runs/bad")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_usage), cmocka_unit_test(lists),
        cmocka_unit_test(verifies),    cmocka_unit_test(tells_differences),
        cmocka_unit_test(merges),      cmocka_unit_test(merges_or_leaves_alone),
    };
    return cmocka_run_group_tests(tests, make_some, remove_folder);
}
