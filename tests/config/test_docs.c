/* SPDX-License-Identifier: Apache-2.0 */
/* docs/configuration.md and README.md say what the tables of options say. Between the comments "options of SECTION" and
 * "end" the page must have exactly the table that is made here; a failure prints it, to be pasted. */
#include "program.h"

#include "callbacks/builtin.h"

static char *page(const char *name)
{
    char path[1024];
    char *text;
    size_t bytes;
    snprintf(path, sizeof path, "%s/../%s", LIGHT_TEST_SOURCE_DIR, name);
    if (light_file_read(path, &text, &bytes)) fail_msg("%s", light_error_message());
    return text;
}

/* "a|b" as "`a`, `b`". */
static void append_choices(light_string *table, const char *choices)
{
    while (*choices) {
        size_t length = strcspn(choices, "|");
        light_string_printf(table, "`%.*s`%s", (int)length, choices, choices[length] ? ", " : "");
        choices += length + (choices[length] == '|');
    }
}

static void append_accepted(light_string *table, const light_option *o)
{
    bool whole = o->type == LIGHT_OPTION_INT || o->type == LIGHT_OPTION_INT64;
    if (o->choices) {
        append_choices(table, o->choices);
    } else if (o->type == LIGHT_OPTION_BOOL || o->type == LIGHT_OPTION_SWITCH) {
        light_string_append(table, "`true`, `false`");
    } else if (o->type == LIGHT_OPTION_STRING) {
        light_string_append(table, "text");
    } else {
        light_string_append(table, whole ? "whole number" : "number");
        if (o->low == 0 && o->high == 0) return;
        if (isinf(o->high))
            light_string_printf(table, ", at least %.15g", o->low);
        else
            light_string_printf(table, ", %.15g to %.15g", o->low, o->high);
    }
}

static void expected_table(const char *section, const light_option *options, void *object,
                           light_string *table)
{
    char text[256];
    light_string_printf(
        table, "<!-- options of %s -->\n| option | accepted | default | meaning |\n|---|---|---|---|\n",
        section);
    light_options_default(options, object);
    for (const light_option *o = options; o->name; o++) {
        light_string_printf(table, "| `%s` | ", o->name);
        append_accepted(table, o);
        light_option_get(o, object, text, sizeof text);
        light_string_printf(table, " | %s%s%s | %s |\n", text[0] ? "`" : "empty", text, text[0] ? "`" : "",
                            o->help);
    }
    light_string_append(table, "<!-- end -->\n");
}

static void assert_table(const char *text, const char *section, const light_option *options, size_t bytes)
{
    light_string table = {0};
    void *object = calloc(1, bytes);
    assert_non_null(object);
    expected_table(section, options, object, &table);
    if (!strstr(text, light_string_text(&table))) {
        fprintf(stderr, "%s", light_string_text(&table)); /* longer than cmocka prints */
        fail_msg("docs/configuration.md has not this table of %s", section);
    }
    light_string_free(&table);
    free(object);
}

static void test_every_option_is_in_the_page(void **state)
{
    (void)state;
    char *text = page("docs/configuration.md");
    int tables = 1;
    assert_table(text, "trainer", light_trainer_option_table, sizeof(light_trainer_options));
    for (const light_extension *e = light_extensions; e->name; e++)
        if (e->callback && e->callback->options) {
            assert_table(text, e->name, e->callback->options, e->callback->instance_size);
            tables++;
        }
    for (const char *p = text; (p = strstr(p, "<!-- options of ")); p++) tables--;
    assert_int_equal(tables, 0); /* none of a section that is gone */
    light_free(text);
}

/* Every --SECTION.OPTION that a page shows is one. Sections of programs are those of the example. */
static void assert_flags_exist(const char *name)
{
    char *text = page(name), flag[128];
    light_config *config;
    light_config_section *section;
    int found = 0;
    assert_int_equal(
        light_config_new(&config, &tiny_vtable, &points_vtable, &(light_cli_options){.description = NULL}),
        LIGHT_OK);
    for (const char *p = text; (p = strstr(p, "--trainer.")); p++) {
        snprintf(flag, sizeof flag, "%.*s", (int)strspn(p + 2, "abcdefghijklmnopqrstuvwxyz_."), p + 2);
        if (light_ends_with(flag, ".help")) continue;
        if (p - text > 15 && light_starts_with(p - 15, "unknown option ")) continue;
        if (!light_config_find(config, flag, &section))
            fail_msg("%s shows --%s, which is no option", name, flag);
        found++;
    }
    assert_true(found > 0);
    light_config_free(config);
    light_free(text);
}

static void test_flags_in_pages_exist(void **state)
{
    (void)state;
    assert_flags_exist("docs/configuration.md");
    assert_flags_exist("docs/distributed.md");
    assert_flags_exist("README.md");
}

/* The YAML of the page reads, by the program of the first example. */
static void test_example_file_reads(void **state)
{
    (void)state;
    static const char *const example = LIGHT_TEST_BINARY_DIR "/examples/fashion_mnist";
    if (access(example, X_OK)) skip();
    char *text = page("docs/configuration.md");
    char *begin = strstr(text, "```yaml\n"), *end = begin ? strstr(begin + 8, "```") : NULL;
    assert_non_null(end);
    *end = '\0';
    put("fashion.yaml", begin + 8);
    start(example, NULL, (const char *const[]){"fit", "--config", "fashion.yaml", "--print_config", NULL});
    int code = finish();
    if (code) fail_msg("%s", err);
    light_free(text);
}

static int all_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_option_is_in_the_page),
        cmocka_unit_test(test_flags_in_pages_exist),
        cmocka_unit_test(test_example_file_reads),
    };
    return cmocka_run_group_tests_name("pages about options", tests, make_folder, remove_folder);
}

PROGRAM_MAIN(.description = "A tiny program.")
