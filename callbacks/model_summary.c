/* SPDX-License-Identifier: Apache-2.0 */
/* ModelSummary: the layers and their parameters, as a table, when fit starts. */
#include "callbacks/builtin.h"

#include <light/message.h>
#include <light/trainer.h>

#include <stdio.h>
#include <string.h>

typedef struct model_summary {
    light_callback base;
    light_model_summary_options options;
} model_summary;

static const light_option options[] = {
    LIGHT_OPTION_IN(model_summary, options, max_depth, 1, "levels of modules that are shown; -1: all"),
    LIGHT_OPTIONS_END,
};

static int depth_of(const light_module *module, const light_module *root)
{
    int depth = 0;
    for (; module != root; module = module->parent) depth++;
    return depth;
}

/* 1234567 as "1.2 M". */
static const char *format_count(int64_t count, char *text, size_t bytes)
{
    static const char units[] = " KMBT";
    double value = (double)count;
    int unit = 0;
    while (value >= 1000 && unit < 4) {
        value /= 1000;
        unit++;
    }
    if (unit)
        snprintf(text, bytes, "%.1f %c", value, units[unit]);
    else
        snprintf(text, bytes, "%lld", (long long)count);
    return text;
}

static size_t total_bytes(light_module *root)
{
    size_t bytes = 0;
    for (light_parameter *p = light_next_parameter(root, NULL); p; p = light_next_parameter(root, p))
        if (!p->is_buffer)
            bytes += (size_t)light_numel(p->tensor) * light_dtype_size(light_dtype_of(p->tensor));
    return bytes;
}

static void on_fit_start(light_callback *self, light_trainer *t)
{
    const model_summary *s = (const model_summary *)self;
    light_module *root = light_trainer_module(t);
    int name_width = 6, type_width = 4;
    char count[32], trainable[32];
    for (int print = 0; print < 2; print++) {
        if (print)
            light_message(LIGHT_MESSAGE_INFO, "%-*s  %-*s  %10s  mode", name_width, "module", type_width,
                          "type", "params");
        for (light_module *m = root; m; m = light_next_module(root, m)) {
            int depth = depth_of(m, root);
            if (depth == 0 || (s->options.max_depth >= 0 && depth > s->options.max_depth)) continue;
            if (print) {
                light_message(LIGHT_MESSAGE_INFO, "%-*s  %-*s  %10s  %s", name_width, m->path, type_width,
                              m->vtable->name,
                              format_count(light_count_parameters(m, false), count, sizeof count),
                              m->training ? "train" : "eval");
            } else {
                if ((int)strlen(m->path) > name_width) name_width = (int)strlen(m->path);
                if ((int)strlen(m->vtable->name) > type_width) type_width = (int)strlen(m->vtable->name);
            }
        }
    }
    int64_t all = light_count_parameters(root, false), learn = light_count_parameters(root, true);
    light_message(LIGHT_MESSAGE_INFO, "%s parameters, %s of them trainable, %.1f MB",
                  format_count(all, count, sizeof count), format_count(learn, trainable, sizeof trainable),
                  (double)total_bytes(root) / 1e6);
}

const light_callback_vtable light_model_summary_vtable = {
    LIGHT_CALLBACK(model_summary),
    .options = options,
    .on_fit_start = on_fit_start,
};

light_callback *light_model_summary_with(const light_model_summary_options *given)
{
    light_callback *callback = light_callback_new(&light_model_summary_vtable);
    if (callback) light_options_merge(options, callback, given, offsetof(model_summary, options));
    return callback;
}
