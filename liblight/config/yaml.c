/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration files: sections of scalars in YAML, read with libyaml. Every message begins with FILE:LINE. */
#include "config/config.h"

#include "base/file.h"
#include "base/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

#define MAX_SEEN 512

typedef struct reader {
    light_config *config;
    const char *path;
    const char *text; /* of the file */
    size_t bytes;
    yaml_parser_t parser;
    yaml_event_t event;
    bool has_event;
    char *seen[MAX_SEEN]; /* names that this file has set */
    int n_seen;
} reader;

static size_t line_of(const reader *r)
{
    return r->event.start_mark.line + 1;
}

/* Bytes that are no UTF-8 are reported by their offset, everything else by its line. */
static size_t line_of_problem(const reader *r)
{
    size_t line = r->parser.problem_mark.line;
    if (r->parser.error == YAML_READER_ERROR) {
        line = 0;
        for (size_t i = 0; i < r->parser.problem_offset && i < r->bytes; i++) line += r->text[i] == '\n';
    } else if (r->parser.context_mark.line > line) {
        line = r->parser.context_mark.line;
    }
    return line + 1;
}

static light_status next(reader *r)
{
    if (r->has_event) yaml_event_delete(&r->event);
    r->has_event = yaml_parser_parse(&r->parser, &r->event);
    if (r->has_event) return LIGHT_OK;
    if (r->parser.error == YAML_MEMORY_ERROR)
        return light_fail(LIGHT_ERR_MEMORY, "%s: out of memory", r->path);
    return light_fail(LIGHT_ERR_FORMAT, "%s:%zu: broken YAML: %s%s%s", r->path, line_of_problem(r),
                      r->parser.context ? r->parser.context : "", r->parser.context ? ", " : "",
                      r->parser.problem ? r->parser.problem : "cannot be read");
}

static light_status expected(const reader *r, const char *name, const char *what)
{
    const char *found = r->event.type == YAML_SEQUENCE_START_EVENT  ? "a list"
                        : r->event.type == YAML_MAPPING_START_EVENT ? "a section"
                        : r->event.type == YAML_SCALAR_EVENT        ? "a value"
                        : r->event.type == YAML_ALIAS_EVENT         ? "an alias"
                                                                    : "nothing";
    return light_fail(LIGHT_ERR_FORMAT, "%s:%zu: %s: expected %s, found %s", r->path, line_of(r), name, what,
                      found);
}

static const char *scalar(const reader *r)
{
    return (const char *)r->event.data.scalar.value;
}

/* Null, written in one of YAML's ways: the option keeps its default. */
static bool is_null(const reader *r)
{
    static const char *const words[] = {"", "~", "null", "Null", "NULL"};
    bool found = false;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) found |= !strcmp(scalar(r), words[i]);
    return found && r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

static light_status note_seen(reader *r, const char *name, size_t line)
{
    if (!strcmp(name, "trainer.seed")) name = "seed_everything"; /* two names of one option */
    for (int i = 0; i < r->n_seen; i++)
        if (!strcmp(r->seen[i], name))
            return light_fail(LIGHT_ERR_FORMAT, "%s:%zu: %s is set twice in this file", r->path, line, name);
    if (r->n_seen == MAX_SEEN) return light_fail(LIGHT_ERR_FORMAT, "%s:%zu: too many options", r->path, line);
    if (!(r->seen[r->n_seen] = light_strdup(name))) return LIGHT_ERR_MEMORY;
    r->n_seen++;
    return LIGHT_OK;
}

/* The value of `name`, whose key stood at `line`. */
static light_status set_value(reader *r, const char *name, size_t line)
{
    char where[512];
    LIGHT_TRY(note_seen(r, name, line));
    if (r->event.type != YAML_SCALAR_EVENT) return expected(r, name, "one value");
    if (is_null(r)) return LIGHT_OK;
    snprintf(where, sizeof where, "%s:%zu: %s", r->path, line_of(r), name);
    return light_config_set(r->config, name, scalar(r), where);
}

static light_status unknown(const reader *r, const char *name, size_t line)
{
    char where[512];
    snprintf(where, sizeof where, "\"%s\"", name);
    light_config_unknown(r->config, name, where, "");
    return light_fail_in(LIGHT_ERR_ARGUMENT, "%s:%zu", r->path, line);
}

static light_status read_section(reader *r, const char *section)
{
    char name[256];
    for (;;) {
        LIGHT_TRY(next(r));
        if (r->event.type == YAML_MAPPING_END_EVENT) return LIGHT_OK;
        if (r->event.type != YAML_SCALAR_EVENT) return expected(r, section, "the name of an option");
        light_config_section *found;
        size_t line = line_of(r);
        snprintf(name, sizeof name, "%.63s.%.180s", section, scalar(r));
        if (!light_config_find(r->config, name, &found)) return unknown(r, name, line);
        LIGHT_TRY(next(r));
        LIGHT_TRY(set_value(r, name, line));
    }
}

static light_status read_sections(reader *r)
{
    char name[256];
    for (;;) {
        LIGHT_TRY(next(r));
        if (r->event.type == YAML_MAPPING_END_EVENT) return LIGHT_OK;
        if (r->event.type != YAML_SCALAR_EVENT) return expected(r, "top level", "the name of a section");
        size_t line = line_of(r);
        snprintf(name, sizeof name, "%.250s", scalar(r));
        light_config_section *section = light_config_section_find(r->config, name), *ignored;
        bool option = light_config_find(r->config, name, &ignored) != NULL;
        if (!section && !option) {
            light_nearest nearest = {.wanted = name};
            for (int i = 0; i < r->config->n; i++) light_nearest_offer(&nearest, r->config->sections[i].name);
            if (!nearest.best) return unknown(r, name, line);
            return light_fail(LIGHT_ERR_ARGUMENT, "%s:%zu: unknown section \"%s\" (did you mean %s?)",
                              r->path, line, name, nearest.best);
        }
        LIGHT_TRY(next(r));
        if (option) {
            LIGHT_TRY(set_value(r, name, line));
        } else if (r->event.type == YAML_MAPPING_START_EVENT) {
            LIGHT_TRY(note_seen(r, name, line));
            LIGHT_TRY(read_section(r, name));
        } else if (r->event.type != YAML_SCALAR_EVENT || !is_null(r)) {
            return expected(r, name, "options, indented, one a line");
        }
    }
}

static light_status read_document(reader *r)
{
    do LIGHT_TRY(next(r));
    while (r->event.type == YAML_STREAM_START_EVENT || r->event.type == YAML_DOCUMENT_START_EVENT);
    if (r->event.type == YAML_STREAM_END_EVENT) return LIGHT_OK; /* an empty file */
    if (r->event.type == YAML_SCALAR_EVENT && is_null(r)) return LIGHT_OK;
    if (r->event.type != YAML_MAPPING_START_EVENT) return expected(r, "top level", "sections");
    LIGHT_TRY(read_sections(r));
    LIGHT_TRY(next(r));
    LIGHT_TRY(next(r));
    if (r->event.type == YAML_STREAM_END_EVENT) return LIGHT_OK;
    return light_fail(LIGHT_ERR_FORMAT, "%s:%zu: a second document; one is expected", r->path, line_of(r));
}

light_status light_config_read_yaml(light_config *config, const char *path)
{
    char *text;
    size_t bytes;
    LIGHT_TRY(light_file_read(path, &text, &bytes));
    reader *r = light_calloc(1, sizeof *r);
    light_status status = LIGHT_ERR_MEMORY;
    if (r && yaml_parser_initialize(&r->parser)) {
        r->config = config;
        r->path = path;
        r->text = text;
        r->bytes = bytes;
        yaml_parser_set_input_string(&r->parser, (const unsigned char *)text, bytes);
        status = read_document(r);
        if (r->has_event) yaml_event_delete(&r->event);
        yaml_parser_delete(&r->parser);
        for (int i = 0; i < r->n_seen; i++) light_free(r->seen[i]);
    }
    light_free(r);
    light_free(text);
    return status;
}

/* ---- writing ------------------------------------------------------------ */

/* The code point that begins at *text, which moves behind it; -1 when it is no UTF-8. */
static int32_t next_code_point(const char **text)
{
    static const int32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *p = (const unsigned char *)*text;
    int length = p[0] < 0x80 ? 1 : p[0] >> 5 == 6 ? 2 : p[0] >> 4 == 14 ? 3 : p[0] >> 3 == 30 ? 4 : 0;
    if (!length) return -1;
    int32_t code = length == 1 ? p[0] : p[0] & (0x7f >> length);
    for (int i = 1; i < length; i++) {
        if (p[i] >> 6 != 2) return -1;
        code = code << 6 | (p[i] & 0x3f);
    }
    if (code < least[length] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return -1;
    *text += length;
    return code;
}

bool light_config_is_text(const char *text)
{
    while (*text)
        if (next_code_point(&text) < 0) return false;
    return true;
}

/* Escapes what YAML would not read back as it is: line breaks of all kinds, controls, byte order marks. */
static void append_quoted(light_string *out, const char *text)
{
    light_string_append(out, "\"");
    while (*text) {
        const char *start = text;
        int32_t code = next_code_point(&text);
        if (code < 0) break; /* light_config_set lets none in */
        if (code == '"' || code == '\\')
            light_string_printf(out, "\\%c", (char)code);
        else if (code < 0x20 || (code >= 0x7f && code < 0xa0))
            light_string_printf(out, "\\x%02x", (unsigned)code);
        else if (code == 0x2028 || code == 0x2029 || code == 0xfeff || code == 0xfffe || code == 0xffff)
            light_string_printf(out, "\\u%04x", (unsigned)code);
        else
            light_string_append_bytes(out, start, (size_t)(text - start));
    }
    light_string_append(out, "\"");
}

static void append_option(light_string *out, const light_option *o, const void *object, const char *indent,
                          bool comments)
{
    char text[64];
    if (comments && o->help) light_string_printf(out, "%s# %s\n", indent, o->help);
    light_string_printf(out, "%s%s: ", indent, o->name);
    if (o->type == LIGHT_OPTION_STRING) {
        const char *value = *(const char *const *)((const char *)object + o->offset);
        if (value)
            append_quoted(out, value);
        else
            light_string_append(out, "null");
    } else {
        light_string_append(out, light_option_get(o, object, text, sizeof text));
    }
    light_string_append(out, "\n");
}

void light_config_write_yaml(const light_config *c, light_string *out, bool comments)
{
    if (comments) light_string_append(out, "# seed of initial values, shuffling and dropout\n");
    light_string_printf(out, "seed_everything: %" PRId64 "\n", c->trainer.seed);
    if (c->ckpt_path[0]) {
        light_string_append(out, "ckpt_path: ");
        append_quoted(out, c->ckpt_path);
        light_string_append(out, "\n");
    }
    for (int i = 0; i < c->n; i++) {
        const light_config_section *s = &c->sections[i];
        if ((s->callback && !s->touched) || !s->options || !s->options->name) continue;
        if (comments && s->help) light_string_printf(out, "\n# %s\n", s->help);
        light_string_printf(out, "%s:\n", s->name);
        for (const light_option *o = s->options; o->name; o++)
            if (i > 0 || strcmp(o->name, "seed")) append_option(out, o, s->object, "  ", comments);
    }
}
