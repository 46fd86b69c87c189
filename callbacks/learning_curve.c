/* SPDX-License-Identifier: Apache-2.0 */
/* The learning curve: when fit ends, metrics.csv of the run's folder becomes learning_curve.svg. Metrics whose names end
 * alike (train_loss, val_loss) share a panel. */
#include "callbacks/builtin.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/string.h"

#include <light/message.h>
#include <light/trainer.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CURVES   64
#define MAX_PANELS   8
#define PANEL_WIDTH  460
#define PANEL_HEIGHT 300
#define LEFT         62
#define RIGHT        16
#define TOP          44
#define BOTTOM       44

typedef struct learning_curve {
    light_callback base;
} learning_curve;

typedef struct curve {
    char name[64];
    int column; /* in the file */
    int panel;
} curve;

typedef struct panel {
    char title[64];
    double x_low, x_high, y_low, y_high;
    double left, top; /* in the picture */
} panel;

typedef struct picture {
    const char *csv; /* behind the header */
    curve curves[MAX_CURVES];
    int n_curves;
    panel panels[MAX_PANELS];
    int n_panels;
} picture;

static const char *const colors[] = {"#1f6fb2", "#d1495b", "#2e8b57", "#e08e0b",
                                     "#6a4c93", "#3a3a3a", "#00838f", "#8d6e63"};
#define COLORS (int)(sizeof colors / sizeof *colors)

/* ---- reading ------------------------------------------------------------ */

/* "val_loss_epoch" belongs to "loss". */
static void title_of(const char *name, char title[64])
{
    char plain[64];
    snprintf(plain, sizeof plain, "%s", name);
    char *slash = strchr(plain, '/');
    if (slash && strncmp(plain, "lr-", 3)) *slash = '\0';
    static const char *const endings[] = {"_epoch", "_step"};
    for (int i = 0; i < 2; i++)
        if (light_ends_with(plain, endings[i])) plain[strlen(plain) - strlen(endings[i])] = '\0';
    const char *last = strrchr(plain, '_');
    snprintf(title, 64, "%s",
             !strncmp(plain, "lr-", 3) ? "learning rate"
             : last && last[1]         ? last + 1
                                       : plain);
}

static int panel_called(picture *p, const char *title)
{
    for (int i = 0; i < p->n_panels; i++)
        if (!strcmp(p->panels[i].title, title)) return i;
    if (p->n_panels == MAX_PANELS) return -1;
    p->panels[p->n_panels] =
        (panel){.x_low = INFINITY, .x_high = -INFINITY, .y_low = INFINITY, .y_high = -INFINITY};
    snprintf(p->panels[p->n_panels].title, sizeof p->panels->title, "%s", title);
    return p->n_panels++;
}

static void read_header(picture *p, const char *text)
{
    const char *at = text + strcspn(text, ",\n");
    for (int column = 1; *at == ',' && p->n_curves < MAX_CURVES; column++) {
        size_t length = strcspn(at + 1, ",\n");
        curve *c = &p->curves[p->n_curves];
        char title[64];
        snprintf(c->name, sizeof c->name, "%.*s", (int)(length < 63 ? length : 63), at + 1);
        at += 1 + length;
        if (!strcmp(c->name, "epoch")) continue;
        title_of(c->name, title);
        c->column = column;
        c->panel = panel_called(p, title);
        if (c->panel >= 0) p->n_curves++;
    }
    p->csv = *at == '\n' ? at + 1 : at;
}

/* The next finite value of a column from *at on. */
static bool next_point(const char **at, int column, double *x, double *y)
{
    while (**at) {
        const char *line = *at, *cell = line;
        const char *end = line + strcspn(line, "\n");
        *at = *end ? end + 1 : end;
        for (int i = 0; i < column && cell; i++) {
            cell = memchr(cell, ',', (size_t)(end - cell));
            if (cell) cell++;
        }
        if (!cell || cell == end || *cell == ',' || *cell == '\n') continue;
        *x = strtod(line, NULL);
        *y = strtod(cell, NULL);
        if (isfinite(*y)) return true;
    }
    return false;
}

static void find_ranges(picture *p)
{
    for (int i = 0; i < p->n_curves; i++) {
        panel *panel = &p->panels[p->curves[i].panel];
        const char *at = p->csv;
        double x, y;
        while (next_point(&at, p->curves[i].column, &x, &y)) {
            panel->x_low = fmin(panel->x_low, x);
            panel->x_high = fmax(panel->x_high, x);
            panel->y_low = fmin(panel->y_low, y);
            panel->y_high = fmax(panel->y_high, y);
        }
    }
    for (int i = 0; i < p->n_panels; i++) {
        panel *panel = &p->panels[i];
        if (!isfinite(panel->x_low)) *panel = (struct panel){.x_high = 1, .y_high = 1};
        if (panel->x_high == panel->x_low) panel->x_high = panel->x_low + 1;
        double margin = 0.05 * (panel->y_high - panel->y_low);
        if (margin == 0) margin = fabs(panel->y_high) * 0.1 + 1e-12;
        panel->y_low -= margin;
        panel->y_high += margin;
    }
}

/* ---- drawing ------------------------------------------------------------ */

/* A round step that cuts `span` into about five. */
static double tick_step(double span)
{
    double raw = span / 5, power = pow(10, floor(log10(raw))), digit = raw / power;
    return (digit < 1.5 ? 1 : digit < 3.5 ? 2 : digit < 7.5 ? 5 : 10) * power;
}

static double to_x(const panel *p, double x)
{
    return p->left + LEFT + (x - p->x_low) / (p->x_high - p->x_low) * (PANEL_WIDTH - LEFT - RIGHT);
}

static double to_y(const panel *p, double y)
{
    return p->top + PANEL_HEIGHT - BOTTOM -
           (y - p->y_low) / (p->y_high - p->y_low) * (PANEL_HEIGHT - TOP - BOTTOM);
}

static void append_text(light_string *out, double x, double y, const char *anchor, const char *style,
                        const char *text)
{
    light_string_printf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" %s>", x, y, anchor, style);
    for (; *text; text++) {
        if (*text == '<')
            light_string_append(out, "&lt;");
        else if (*text == '&')
            light_string_append(out, "&amp;");
        else
            light_string_append_bytes(out, text, 1);
    }
    light_string_append(out, "</text>\n");
}

static void draw_axes(light_string *out, const panel *p)
{
    char label[32];
    double bottom = p->top + PANEL_HEIGHT - BOTTOM, right = p->left + PANEL_WIDTH - RIGHT;
    append_text(out, p->left + LEFT, p->top + 18, "start", "font-weight=\"bold\" font-size=\"13\"", p->title);
    double step = tick_step(p->y_high - p->y_low);
    for (double y = ceil(p->y_low / step) * step; y <= p->y_high; y += step) {
        light_string_printf(out,
                            "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#e3e3e3\"/>\n",
                            p->left + LEFT, to_y(p, y), right, to_y(p, y));
        snprintf(label, sizeof label, "%.4g", fabs(y) < step * 1e-9 ? 0 : y);
        append_text(out, p->left + LEFT - 6, to_y(p, y) + 4, "end", "", label);
    }
    step = tick_step(p->x_high - p->x_low);
    for (double x = ceil(p->x_low / step) * step; x <= p->x_high; x += step) {
        snprintf(label, sizeof label, "%.6g", x);
        append_text(out, to_x(p, x), bottom + 16, "middle", "", label);
    }
    append_text(out, (p->left + LEFT + right) / 2, bottom + 34, "middle", "fill=\"#666\"", "optimizer step");
    light_string_printf(out, "<path d=\"M%.1f %.1fV%.1fH%.1f\" fill=\"none\" stroke=\"#888\"/>\n",
                        p->left + LEFT, p->top + TOP, bottom, right);
}

static void draw_curve(light_string *out, const picture *p, int index, int place)
{
    const curve *c = &p->curves[index];
    const panel *panel = &p->panels[c->panel];
    const char *color = colors[place % COLORS], *at = p->csv;
    double x, y, last_x = 0, last_y = 0;
    int points = 0;
    light_string_append(out, "<polyline points=\"");
    while (next_point(&at, c->column, &x, &y)) {
        light_string_printf(out, "%.1f,%.1f ", last_x = to_x(panel, x), last_y = to_y(panel, y));
        points++;
    }
    light_string_printf(
        out, "\" fill=\"none\" stroke=\"%s\" stroke-width=\"1.8\" stroke-linejoin=\"round\"/>\n", color);
    if (points > 0)
        light_string_printf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.6\" fill=\"%s\"/>\n", last_x, last_y,
                            color);
    double legend = panel->left + LEFT + 4 + place % 3 * 130, row = panel->top + 32 + place / 3 * 13;
    light_string_printf(out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"10\" height=\"3\" fill=\"%s\"/>\n", legend,
                        row - 4, color);
    append_text(out, legend + 14, row, "start", "font-size=\"11\"", c->name);
}

static void draw(light_string *out, picture *p)
{
    int columns = p->n_panels > 1 ? 2 : 1, rows = (p->n_panels + columns - 1) / columns;
    light_string_printf(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
        "font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%%\" height=\"100%%\" "
        "fill=\"white\"/>\n",
        columns * PANEL_WIDTH, rows * PANEL_HEIGHT, columns * PANEL_WIDTH, rows * PANEL_HEIGHT);
    for (int i = 0; i < p->n_panels; i++) {
        p->panels[i].left = i % columns * PANEL_WIDTH;
        p->panels[i].top = i / columns * PANEL_HEIGHT;
        draw_axes(out, &p->panels[i]);
        for (int c = 0, place = 0; c < p->n_curves; c++)
            if (p->curves[c].panel == i) draw_curve(out, p, c, place++);
    }
    light_string_append(out, "</svg>\n");
}

static light_status draw_file(const char *csv_path, const char *svg_path)
{
    char *text;
    size_t bytes;
    light_string out = {0};
    light_status status = light_file_read(csv_path, &text, &bytes);
    if (status == LIGHT_ERR_NOT_FOUND) return LIGHT_OK; /* nothing was logged */
    LIGHT_TRY(status);
    picture *p = light_calloc(1, sizeof *p);
    if (p) {
        read_header(p, text);
        find_ranges(p);
        draw(&out, p);
    }
    status = !p || out.failed ? LIGHT_ERR_MEMORY : light_file_write_atomic(svg_path, out.text, out.length);
    light_string_free(&out);
    light_free(p);
    light_free(text);
    return status;
}

static void on_fit_end(light_callback *self, light_trainer *t)
{
    const char *folder = light_trainer_log_dir(t);
    (void)self;
    if (!folder[0] || light_trainer_global_rank(t) > 0) return;
    char *csv = light_path_join(folder, "metrics.csv"), *svg = light_path_join(folder, "learning_curve.svg");
    light_status status = csv && svg ? draw_file(csv, svg) : LIGHT_ERR_MEMORY;
    if (status != LIGHT_OK)
        light_message(LIGHT_MESSAGE_WARNING, "no learning curve: %s", light_error_message());
    light_free(csv);
    light_free(svg);
}

const light_callback_vtable light_learning_curve_vtable = {
    LIGHT_CALLBACK(learning_curve),
    .on_fit_end = on_fit_end,
};

light_callback *light_learning_curve(void)
{
    return light_callback_new(&light_learning_curve_vtable);
}
