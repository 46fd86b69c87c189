/* SPDX-License-Identifier: Apache-2.0 */
/* Messages: levels, the program's own sink, and the environment. */
#include "base/log.h"
#include "base/time.h"

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

static const char *program;

typedef struct {
    int count;
    light_message_level level;
    char text[5000];
} heard;

static void listen(void *user, light_message_level level, const char *text)
{
    heard *h = user;

    h->count++;
    h->level = level;
    strcpy(h->text, text);
}

static void sink_gets_what_passes_the_level(void **state)
{
    heard h = {0};

    (void)state;
    light_message_set_sink(listen, &h);
    light_message_set_level(LIGHT_MESSAGE_WARNING);
    light_message(LIGHT_MESSAGE_INFO, "not heard");
    assert_int_equal(h.count, 0);
    light_message(LIGHT_MESSAGE_WARNING, "%s: %d", "epoch", 3);
    assert_int_equal(h.count, 1);
    assert_int_equal(h.level, LIGHT_MESSAGE_WARNING);
    assert_string_equal(h.text, "epoch: 3");
    light_message(LIGHT_MESSAGE_ERROR, "worse");
    assert_int_equal(h.count, 2);
    light_message_set_level(LIGHT_MESSAGE_DEBUG);
    assert_true(light_message_enabled(LIGHT_MESSAGE_DEBUG));
    light_message(LIGHT_MESSAGE_DEBUG, "detail");
    assert_int_equal(h.count, 3);
    light_message_set_level(LIGHT_MESSAGE_OFF);
    assert_false(light_message_enabled(LIGHT_MESSAGE_ERROR));
    assert_false(light_message_enabled(LIGHT_MESSAGE_OFF));
    light_message(LIGHT_MESSAGE_ERROR, "silence");
    assert_int_equal(h.count, 3);
    light_message_set_sink(NULL, NULL);
}

static void long_text_is_cut(void **state)
{
    static char text[9000];
    heard h = {0};

    (void)state;
    memset(text, 'x', sizeof text - 1);
    light_message_set_sink(listen, &h);
    light_message_set_level(LIGHT_MESSAGE_INFO);
    light_message(LIGHT_MESSAGE_INFO, "%s", text);
    assert_int_equal(strlen(h.text), 4095);
    light_message_set_sink(NULL, NULL);
}

/* What a fresh process prints under these settings. */
static void said(const char *settings, char *out, size_t bytes)
{
    char command[600];

    snprintf(command, sizeof command, "%s '%s' speak 2>&1", settings, program);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t length = fread(out, 1, bytes - 1, pipe);
    out[length] = '\0';
    assert_int_equal(pclose(pipe), 0);
}

static int speak(void)
{
    light_message(LIGHT_MESSAGE_ERROR, "one");
    light_message(LIGHT_MESSAGE_WARNING, "two");
    light_message(LIGHT_MESSAGE_INFO, "three");
    light_message(LIGHT_MESSAGE_DEBUG, "four");
    light_output("five\n");
    return 0;
}

static void environment_sets_the_level(void **state)
{
    char text[1000];

    (void)state;
    said("LIGHT_LOG=", text, sizeof text);
    assert_string_equal(text, "error: one\nwarning: two\nthree\nfive\n");
    said("LIGHT_LOG=debug", text, sizeof text);
    assert_string_equal(text, "error: one\nwarning: two\nthree\ndebug: four\nfive\n");
    said("LIGHT_LOG=error", text, sizeof text);
    assert_string_equal(text, "error: one\nfive\n");
    said("LIGHT_LOG=off", text, sizeof text);
    assert_string_equal(text, "five\n");
}

static void one_of_many_processes_speaks(void **state)
{
    static const char *const first =
        "OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_LOCAL_RANK=0 OMPI_COMM_WORLD_SIZE=3 "
        "OMPI_COMM_WORLD_LOCAL_SIZE=3 LIGHT_LOG=debug";
    static const char *const last =
        "OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_LOCAL_RANK=2 OMPI_COMM_WORLD_SIZE=3 "
        "OMPI_COMM_WORLD_LOCAL_SIZE=3 LIGHT_LOG=debug";
    char text[1000];

    (void)state;
    said(first, text, sizeof text);
    assert_string_equal(text, "error: one\nwarning: two\nthree\ndebug: four\nfive\n");
    said(last, text, sizeof text);
    assert_string_equal(text, "error: [rank 2] one\nwarning: [rank 2] two\n");
}

static void time_goes_forward(void **state)
{
    double last = light_now();

    (void)state;
    for (int i = 0; i < 1000; i++) {
        double now = light_now();
        assert_true(now >= last);
        last = now;
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sink_gets_what_passes_the_level),
        cmocka_unit_test(long_text_is_cut),
        cmocka_unit_test(environment_sets_the_level),
        cmocka_unit_test(one_of_many_processes_speaks),
        cmocka_unit_test(time_goes_forward),
    };

    program = argv[0];
    if (argc > 1 && strcmp(argv[1], "speak") == 0) return speak();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
