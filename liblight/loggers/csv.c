/* SPDX-License-Identifier: Apache-2.0 */
/* The CSV logger: metrics.csv, one row a step. The last row stays open: what is logged at the same step joins it. */
#include "loggers/builtin.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/string.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct csv_logger {
    light_logger base;
    char *path;
    FILE *file;
    char **columns; /* after "step" */
    double *values; /* of the open row */
    bool *filled;
    int n, capacity;
    int64_t step; /* of the open row; -1: there is none */
    long row_at;  /* where it begins */
    size_t row_length;
} csv_logger;

static light_status io_error(const csv_logger *c, const char *what)
{
    return light_fail(LIGHT_ERR_IO, "cannot %s %s: %s", what, c->path, strerror(errno));
}

static void close_file(csv_logger *c)
{
    if (c->file) fclose(c->file);
    for (int i = 0; i < c->n; i++) light_free(c->columns[i]);
    light_free(c->columns);
    light_free(c->values);
    light_free(c->filled);
    light_free(c->path);
    light_logger base = c->base;
    *c = (csv_logger){.base = base, .step = -1};
}

static void free_logger(light_logger *self)
{
    close_file((csv_logger *)self);
}

/* ---- columns ------------------------------------------------------------ */

/* No quoting: any reader can split a line at its commas. */
static char plain(char letter)
{
    return letter && strchr(",\"\n\r", letter) ? '_' : letter;
}

static int find_column(const csv_logger *c, const char *name)
{
    for (int i = 0; i < c->n; i++) {
        const char *at = name;
        size_t same = 0;
        while (*at && c->columns[i][same] == plain(*at)) same++, at++;
        if (!*at && !c->columns[i][same]) return i;
    }
    return -1;
}

static light_status add_column(csv_logger *c, const char *name, size_t length)
{
    if (c->n == c->capacity) {
        int capacity = c->capacity ? 2 * c->capacity : 16;
        char **columns = light_realloc(c->columns, (size_t)capacity * sizeof *columns);
        if (!columns) return LIGHT_ERR_MEMORY;
        c->columns = columns;
        double *values = light_realloc(c->values, (size_t)capacity * sizeof *values);
        if (!values) return LIGHT_ERR_MEMORY;
        c->values = values;
        bool *filled = light_realloc(c->filled, (size_t)capacity * sizeof *filled);
        if (!filled) return LIGHT_ERR_MEMORY;
        c->filled = filled;
        c->capacity = capacity;
    }
    char *copy = light_strndup(name, length);
    if (!copy) return LIGHT_ERR_MEMORY;
    for (char *p = copy; *p; p++) *p = plain(*p);
    c->columns[c->n] = copy;
    c->filled[c->n++] = false;
    return LIGHT_OK;
}

static void append_header(const csv_logger *c, light_string *out)
{
    light_string_append(out, "step");
    for (int i = 0; i < c->n; i++) light_string_printf(out, ",%s", c->columns[i]);
    light_string_append(out, "\n");
}

static void drop_columns(csv_logger *c, int n)
{
    while (c->n > n) light_free(c->columns[--c->n]);
}

/* With as many cells as there are columns. There are more when a header could be renamed into place, but not flushed: they
 * are empty. */
static void append_old_row(const csv_logger *c, light_string *out, const char *row, const char *end)
{
    int cells = 0;
    const char *p = row;
    for (; p < end && (*p != ',' || cells < c->n); p++) cells += *p == ',';
    light_string_append_bytes(out, row, (size_t)(p - row));
    for (; cells < c->n; cells++) light_string_append(out, ",");
    light_string_append(out, "\n");
}

/* The file as it should be: header, old rows up to `last_step` with empty cells for new columns. */
static light_status compose(const csv_logger *c, int64_t last_step, light_string *out, long *last_row)
{
    char *old;
    size_t bytes;
    light_status status = light_file_read(c->path, &old, &bytes);
    if (status == LIGHT_ERR_NOT_FOUND)
        old = NULL;
    else
        LIGHT_TRY(status);
    append_header(c, out);
    const char *line = old ? strchr(old, '\n') : NULL;
    while (line && line[1]) {
        const char *row = line + 1, *end = strchr(row, '\n');
        if (!end) break; /* cut off by a crash */
        if (strtoll(row, NULL, 10) <= last_step) {
            *last_row = (long)out->length;
            append_old_row(c, out, row, end);
        }
        line = end;
    }
    light_free(old);
    return out->failed ? LIGHT_ERR_MEMORY : LIGHT_OK;
}

/* Puts the file in place anew and opens it; after a failure the next row tries again. */
static light_status rewrite(csv_logger *c, int64_t last_step)
{
    light_string text = {0};
    long last_row = -1; /* none */
    light_status status = compose(c, last_step, &text, &last_row);
    if (status == LIGHT_OK) status = light_file_write_atomic(c->path, text.text, text.length);
    size_t length = text.length;
    light_string_free(&text);
    if (c->file) fclose(c->file);
    c->file = NULL;
    LIGHT_TRY(status);
    c->row_at = last_row;
    c->row_length = last_row < 0 ? 0 : length - (size_t)last_row;
    c->file = fopen(c->path, "r+");
    return LIGHT_OK;
}

/* ---- a run -------------------------------------------------------------- */

/* The columns and the last row of a file that a run goes on with. */
static light_status read_columns(csv_logger *c)
{
    char *text;
    size_t bytes;
    light_status status = light_file_read(c->path, &text, &bytes);
    if (status == LIGHT_ERR_NOT_FOUND) return LIGHT_OK;
    LIGHT_TRY(status);
    const char *at = text + strcspn(text, ",\n");
    while (status == LIGHT_OK && *at == ',') {
        size_t length = strcspn(at + 1, ",\n");
        status = add_column(c, at + 1, length);
        at += 1 + length;
    }
    light_free(text);
    return status;
}

/* The last row kept becomes the open one again. */
static light_status reopen_row(csv_logger *c)
{
    char line[16384];
    if (c->row_at < 0) return LIGHT_OK;
    if (fseek(c->file, c->row_at, SEEK_SET) || !fgets(line, sizeof line, c->file)) return io_error(c, "read");
    char *at;
    c->step = strtoll(line, &at, 10);
    for (int i = 0; i < c->n && *at == ','; i++) {
        char *end;
        double value = strtod(at + 1, &end);
        c->values[i] = value;
        c->filled[i] = end != at + 1;
        at = end;
    }
    return LIGHT_OK;
}

static light_status begin(light_logger *self, light_trainer *t, const char *folder, int64_t resumed_step)
{
    csv_logger *c = (csv_logger *)self;
    (void)t;
    close_file(c);
    if (!folder[0]) return LIGHT_OK; /* this run leaves nothing behind */
    if (!(c->path = light_path_join(folder, "metrics.csv"))) return LIGHT_ERR_MEMORY;
    if (resumed_step < 0) return LIGHT_OK; /* the file comes with the first row */
    LIGHT_TRY(read_columns(c));
    LIGHT_TRY(rewrite(c, resumed_step));
    if (!c->file) return io_error(c, "open");
    return reopen_row(c);
}

static void append_row(const csv_logger *c, light_string *out)
{
    light_string_printf(out, "%lld", (long long)c->step);
    for (int i = 0; i < c->n; i++) {
        if (!c->filled[i])
            light_string_append(out, ",");
        else if (isnan(c->values[i])) /* without a sign, which some machines set */
            light_string_append(out, ",nan");
        else
            light_string_printf(out, ",%.9g", c->values[i]);
    }
    light_string_append(out, "\n");
}

static light_status write_row(csv_logger *c)
{
    light_string row = {0};
    append_row(c, &row);
    light_status status = row.failed ? LIGHT_ERR_MEMORY : LIGHT_OK;
    if (status == LIGHT_OK && (fseek(c->file, c->row_at, SEEK_SET) ||
                               fwrite(row.text, 1, row.length, c->file) != row.length || fflush(c->file)))
        status = io_error(c, "write");
    /* A value that is logged again may be shorter than it was. */
    if (status == LIGHT_OK && row.length < c->row_length &&
        ftruncate(fileno(c->file), c->row_at + (long)row.length))
        status = io_error(c, "write");
    c->row_length = row.length;
    light_string_free(&row);
    return status;
}

/* All columns that the metrics need, on disk too; or none of those that are new. */
static light_status have_columns(csv_logger *c, const light_metric *metrics, int n)
{
    int before = c->n;
    light_status status = LIGHT_OK;
    for (int i = 0; status == LIGHT_OK && i < n; i++)
        if (find_column(c, metrics[i].name) < 0)
            status = add_column(c, metrics[i].name, strlen(metrics[i].name));
    if (status == LIGHT_OK && (c->n > before || !c->file)) status = rewrite(c, INT64_MAX);
    if (status != LIGHT_OK) drop_columns(c, before);
    return status;
}

static light_status log_metrics(light_logger *self, int64_t step, const light_metric *metrics, int n)
{
    csv_logger *c = (csv_logger *)self;
    if (!c->path) return LIGHT_OK;
    LIGHT_TRY(have_columns(c, metrics, n));
    if (!c->file) return io_error(c, "open");
    if (step != c->step) {
        if (fseek(c->file, 0, SEEK_END) || (c->row_at = ftell(c->file)) < 0) return io_error(c, "write");
        c->step = step;
        c->row_length = 0;
        for (int i = 0; i < c->n; i++) c->filled[i] = false;
    }
    for (int i = 0; i < n; i++) {
        int column = find_column(c, metrics[i].name);
        c->values[column] = metrics[i].value;
        c->filled[column] = true;
    }
    return write_row(c);
}

static light_status save(light_logger *self)
{
    csv_logger *c = (csv_logger *)self;
    if (c->file && (fflush(c->file) || fsync(fileno(c->file)))) return io_error(c, "write");
    return LIGHT_OK;
}

static light_status finalize(light_logger *self, light_status status)
{
    (void)status;
    light_status saved = save(self);
    close_file((csv_logger *)self);
    return saved;
}

const light_logger_vtable light_csv_logger_vtable = {
    LIGHT_LOGGER(csv_logger),   .free = free_logger, .begin = begin,
    .log_metrics = log_metrics, .save = save,        .finalize = finalize,
};

light_logger *light_csv_logger(void)
{
    return light_logger_new(&light_csv_logger_vtable);
}
