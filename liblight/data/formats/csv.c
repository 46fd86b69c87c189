/* SPDX-License-Identifier: Apache-2.0 */
/* CSV files of numbers, read into memory when they are opened. */
#include "data/dataset.h"

#include "base/file.h"
#include "base/memory.h"

#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *path;
    char delimiter;
    locale_t c_locale; /* a decimal point is a point, whatever the program's language */
    const char *at, *end;
    int64_t line; /* of `at`, from 1 */
    int columns;  /* of the first line */
    const char *header;
} csv_reader;

typedef struct {
    const char *text;
    int length;
    bool last; /* in its line */
} csv_cell;

/* The cell at reader->at, without blanks and quotes around it; moves behind its delimiter. */
static light_status read_cell(csv_reader *reader, csv_cell *cell)
{
    const char *p = reader->at;

    while (p < reader->end && (*p == ' ' || *p == '\t') && *p != reader->delimiter) p++;
    if (p < reader->end && *p == '"') {
        const char *close = memchr(p + 1, '"', (size_t)(reader->end - p - 1));
        if (!close || memchr(p, '\n', (size_t)(close - p))) {
            return light_fail(LIGHT_ERR_FORMAT, "%s:%" PRId64 ": a quote is not closed", reader->path,
                              reader->line);
        }
        cell->text = p + 1;
        cell->length = (int)(close - p - 1);
        p = close + 1;
        while (p < reader->end && *p != reader->delimiter && *p != '\n') p++;
    } else {
        cell->text = p;
        while (p < reader->end && *p != reader->delimiter && *p != '\n') p++;
        cell->length = (int)(p - cell->text);
    }
    while (cell->length > 0 && strchr(" \t\r", cell->text[cell->length - 1])) cell->length--;
    cell->last = p >= reader->end || *p == '\n';
    reader->at = p < reader->end ? p + 1 : p;
    return LIGHT_OK;
}

/* Passes empty lines; false at the end of the file. */
static bool next_line(csv_reader *reader)
{
    while (reader->at < reader->end && (*reader->at == '\n' || *reader->at == '\r')) {
        reader->line += *reader->at == '\n';
        reader->at++;
    }
    return reader->at < reader->end;
}

static bool read_number(const csv_reader *reader, const csv_cell *cell, double *value)
{
    char *stop;

    /* The file has a NUL behind it, so this ends; a number may not go on behind its cell. */
    *value = cell->length ? strtod_l(cell->text, &stop, reader->c_locale) : NAN;
    return cell->length && stop == cell->text + cell->length && isfinite(*value);
}

/* Counts the columns of the first line, and looks whether it is a header. */
static light_status read_first_line(csv_reader *reader, light_switch header)
{
    const char *start;
    int64_t line;
    csv_cell cell = {0};
    double value;
    bool all_numbers = true;

    if (!next_line(reader)) return light_fail(LIGHT_ERR_FORMAT, "%s: the file is empty", reader->path);
    start = reader->at;
    line = reader->line;
    while (!cell.last) {
        LIGHT_TRY(read_cell(reader, &cell));
        reader->columns++;
        if (!read_number(reader, &cell, &value)) all_numbers = false;
    }
    if (header == LIGHT_ON || (header == LIGHT_DEFAULT && !all_numbers)) {
        reader->header = start;
        reader->line++;
    } else {
        reader->at = start;
        reader->line = line;
    }
    return LIGHT_OK;
}

/* The name of a column, or its number. */
static csv_cell column_name(const csv_reader *reader, int column)
{
    csv_reader again = *reader;
    csv_cell cell = {.text = "", .length = 0};

    if (!reader->header) return cell;
    again.at = reader->header;
    for (int i = 0; i <= column; i++) read_cell(&again, &cell);
    return cell;
}

static light_status find_target(const csv_reader *reader, const light_csv_options *options, int *target)
{
    *target = options->no_target ? -1 : reader->columns - 1;
    if (!options->no_target && reader->columns < 2) {
        return light_fail(LIGHT_ERR_FORMAT,
                          "%s: there is one column, so nothing is left beside the target (.no_target)",
                          reader->path);
    }
    if (options->no_target || !options->target) return LIGHT_OK;
    if (!reader->header) {
        return light_fail(LIGHT_ERR_NOT_FOUND, "%s: there is no column '%s': the file has no header",
                          reader->path, options->target);
    }
    for (int i = 0; i < reader->columns; i++) {
        csv_cell name = column_name(reader, i);
        if ((size_t)name.length == strlen(options->target) &&
            memcmp(name.text, options->target, (size_t)name.length) == 0) {
            *target = i;
            return LIGHT_OK;
        }
    }
    csv_cell first = column_name(reader, 0);
    return light_fail(LIGHT_ERR_NOT_FOUND,
                      "%s: there is no column '%s' among the %d; the first one is '%.*s'", reader->path,
                      options->target, reader->columns, first.length, first.text);
}

static light_status bad_cell(const csv_reader *reader, const csv_cell *cell, int column, const char *wanted)
{
    csv_cell name = column_name(reader, column);

    if (cell->length == 0) {
        return light_fail(LIGHT_ERR_FORMAT, "%s:%" PRId64 ": column %d%s%.*s is empty; %s must stand there",
                          reader->path, reader->line, column + 1, name.length ? " " : "", name.length,
                          name.text, wanted);
    }
    return light_fail(LIGHT_ERR_FORMAT, "%s:%" PRId64 ": column %d%s%.*s: '%.*s' is not %s", reader->path,
                      reader->line, column + 1, name.length ? " " : "", name.length, name.text,
                      cell->length < 40 ? cell->length : 40, cell->text, wanted);
}

typedef struct {
    float *x;
    void *y;
    int target;
    light_dtype dtype;
    int64_t num_classes;
} csv_table;

static light_status put_target(const csv_reader *reader, csv_table *table, int64_t row, double value,
                               const csv_cell *cell)
{
    if (table->dtype == LIGHT_F32) {
        ((float *)table->y)[row] = (float)value;
    } else if (table->dtype == LIGHT_F64) {
        ((double *)table->y)[row] = value;
    } else {
        if (value != floor(value) || fabs(value) > 0x1p53) {
            return bad_cell(reader, cell, table->target, "a whole number");
        }
        if (table->num_classes > 0 && !(value >= 0 && value < (double)table->num_classes)) {
            return light_fail(LIGHT_ERR_FORMAT, "%s:%" PRId64 ": label %.*s is not in 0..%" PRId64,
                              reader->path, reader->line, cell->length, cell->text, table->num_classes - 1);
        }
        ((int64_t *)table->y)[row] = (int64_t)value;
    }
    return LIGHT_OK;
}

static light_status read_row(csv_reader *reader, csv_table *table, int64_t row)
{
    csv_cell cell = {0};
    int column = 0;
    float *x = table->x + row * (reader->columns - (table->target >= 0));

    while (!cell.last) {
        double value;
        LIGHT_TRY(read_cell(reader, &cell));
        if (column++ >= reader->columns) continue; /* counted for the message below */
        if (!read_number(reader, &cell, &value))
            return bad_cell(reader, &cell, column - 1, "a finite number");
        if (column - 1 == table->target) {
            LIGHT_TRY(put_target(reader, table, row, value, &cell));
        } else {
            *x++ = (float)value;
        }
    }
    if (column != reader->columns) {
        return light_fail(LIGHT_ERR_FORMAT, "%s:%" PRId64 ": %d columns, where the first line has %d",
                          reader->path, reader->line, column, reader->columns);
    }
    reader->line++;
    return LIGHT_OK;
}

static light_status read_table(csv_reader *reader, csv_table *table, int64_t *rows)
{
    *rows = 0;
    while (next_line(reader)) LIGHT_TRY(read_row(reader, table, (*rows)++));
    if (*rows == 0) return light_fail(LIGHT_ERR_FORMAT, "%s: there are no lines of numbers", reader->path);
    return LIGHT_OK;
}

static int64_t count_lines(const csv_reader *reader)
{
    int64_t lines = 1;

    for (const char *p = reader->at; p < reader->end && (p = memchr(p, '\n', (size_t)(reader->end - p))); p++)
        lines++;
    return lines;
}

static light_status open_csv(light_dataset **out, csv_reader *reader, const light_csv_options *options)
{
    csv_table table = {.dtype = options->target_dtype ? options->target_dtype : LIGHT_F32,
                       .num_classes = options->num_classes};
    int64_t rows;

    if (table.dtype != LIGHT_F32 && table.dtype != LIGHT_F64 && table.dtype != LIGHT_I64) {
        return light_fail(LIGHT_ERR_DTYPE, "%s: the target may be f32, f64 or i64, not %s", reader->path,
                          light_dtype_name(table.dtype));
    }
    LIGHT_TRY(read_first_line(reader, options->header));
    LIGHT_TRY(find_target(reader, options, &table.target));
    int columns = reader->columns - (table.target >= 0);
    int64_t lines = count_lines(reader);
    table.x = light_alloc((size_t)lines * (size_t)columns * sizeof(float));
    table.y = table.target >= 0 ? light_alloc((size_t)lines * light_dtype_size(table.dtype)) : NULL;
    light_status status = !table.x || (table.target >= 0 && !table.y) ? LIGHT_ERR_MEMORY : LIGHT_OK;
    if (status == LIGHT_OK) status = read_table(reader, &table, &rows);
    if (status != LIGHT_OK) {
        light_free(table.x);
        light_free(table.y);
        return status;
    }
    light_field fields[2] = {{.name = "x", .dtype = LIGHT_F32, .shape = LIGHT_SHAPE(columns)},
                             {.name = "y", .dtype = table.dtype}};
    return light_memory_dataset_own(out, fields, table.target >= 0 ? 2 : 1, rows,
                                    (void *[]){table.x, table.y});
}

light_status light_csv_dataset_open_with(light_dataset **out, const char *path,
                                         const light_csv_options *options)
{
    char *data;
    size_t bytes;

    *out = NULL;
    LIGHT_TRY(light_file_read(path, &data, &bytes));
    csv_reader reader = {.path = path,
                         .delimiter = options->delimiter ? options->delimiter : ',',
                         .c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0),
                         .at = data,
                         .end = data + bytes,
                         .line = 1};
    light_status status = LIGHT_ERR_MEMORY;
    if (reader.c_locale) {
        status = open_csv(out, &reader, options);
        freelocale(reader.c_locale);
    } else {
        light_fail(status, "%s: out of memory", path);
    }
    light_free(data);
    return status;
}
