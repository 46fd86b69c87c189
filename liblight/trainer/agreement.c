/* SPDX-License-Identifier: Apache-2.0 */
/* Whether all ranks are about to do the same: options, model and data as lists of facts, of which ranks compare checksums. Only
 * where those differ are the lists themselves brought together, and the first difference named. */
#include "trainer/trainer.h"

#include "base/hash.h"
#include "base/memory.h"
#include "base/string.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MOST_NAMED 8 /* ranks in the message */

/* ---- facts ---------------------------------------------------------------------- */

/* A fact is a line: what, a tab, the value. */
static void add_fact(light_string *facts, const char *value, const char *format, ...) LIGHT_PRINTF(3, 4);

static void add_fact(light_string *facts, const char *value, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    light_string_vprintf(facts, format, arguments);
    va_end(arguments);
    light_string_append(facts, "\t");
    for (; *value; value++) light_string_append_bytes(facts, *value == '\n' ? " " : value, 1);
    light_string_append(facts, "\n");
}

static void add_options(light_string *facts, const char *section, const light_option *options,
                        const void *object)
{
    char text[1024];
    for (const light_option *o = options; o && o->name; o++)
        add_fact(facts, light_option_get(o, object, text, sizeof text), "%s.%s", section, o->name);
}

/* All that is set before a run. */
static void add_settings(light_string *facts, const light_trainer *t)
{
    static const char *const stages[] = {"", "fit", "validate", "test", "predict"};
    add_fact(facts, LIGHT_VERSION_TEXT, "liblight");
    add_fact(facts, stages[t->run_stage], "the command");
    add_options(facts, "trainer", light_trainer_option_table, &t->options);
    add_fact(facts, t->module_hooks.name, "the module");
    add_options(facts, "model", t->module_hooks.options, t->module);
    add_fact(facts, t->data->vtable->name, "the datamodule");
    add_options(facts, "data", t->data->vtable->options, t->data);
    for (int i = 0; i < t->n_callbacks; i++) {
        const light_callback_vtable *hooks = &t->callbacks[i].hooks;
        char number[32];
        snprintf(number, sizeof number, "callback %d", i);
        add_fact(facts, hooks->name, "%s", number);
        add_options(facts, hooks->name, hooks->options, t->callbacks[i].callback);
    }
}

static void add_parameters(light_string *facts, light_module *module)
{
    char shape[128], text[256];
    for (light_parameter *p = light_next_parameter(module, NULL); p; p = light_next_parameter(module, p)) {
        snprintf(text, sizeof text, "%s %s%s", light_dtype_name(light_dtype_of(p->tensor)),
                 light_shape_format(light_shape_of(p->tensor), shape, sizeof shape),
                 p->is_buffer || p->tensor->requires_grad ? "" : ", not trained");
        add_fact(facts, text, "%s %s", p->is_buffer ? "buffer" : "parameter", p->path);
    }
}

static void add_loader(light_string *facts, const char *which, const light_loader *loader)
{
    char text[64];
    snprintf(text, sizeof text, "%lld", (long long)light_loader_num_batches(loader));
    add_fact(facts, light_loader_dataset_name(loader), "%s's dataset", which);
    add_fact(facts, text, "%s's batches", which);
    snprintf(text, sizeof text, "%lld", (long long)light_loader_batch_size(loader));
    add_fact(facts, text, "%s's batch_size", which);
    add_fact(facts, light_loader_shuffles(loader) ? "true" : "false", "%s's shuffle", which);
}

/* ---- comparing -------------------------------------------------------------------- */

static size_t line_length(const char *at, const char *end)
{
    const char *newline = at < end ? memchr(at, '\n', (size_t)(end - at)) : NULL;
    return newline ? (size_t)(newline - at) + 1 : (size_t)(end - at);
}

/* The first line in which two lists differ: its places in both. False: there is none. */
static bool first_difference(const char **a, const char *a_end, const char **b, const char *b_end)
{
    while (*a < a_end || *b < b_end) {
        size_t n = line_length(*a, a_end), m = line_length(*b, b_end);
        if (n != m || memcmp(*a, *b, n)) return true;
        *a += n;
        *b += n;
    }
    return false;
}

/* "trainer.max_epochs 4"; without the name where it is that of `other`. */
static void append_line(light_string *out, const char *at, const char *end, const char *other)
{
    size_t n = line_length(at, end), name = n ? (size_t)((char *)memchr(at, '\t', n) - at) + 1 : 0;
    size_t i = n && other && !strncmp(at, other, name) ? name : 0;
    if (n == 0) light_string_append(out, "nothing there");
    for (; i + 1 < n; i++) light_string_append_bytes(out, at[i] == '\t' ? " " : at + i, 1);
}

/* Names the first rank that differs from rank 0, with the others that have the same in its place. */
static light_status name_difference(const char *all, const size_t *sizes, int size)
{
    const char *parts[2] = {all, all}, *found = NULL, *of_first = NULL;
    size_t found_length = 0;
    int named = 0;
    light_string ranks = {0}, text = {0};
    for (int r = 1; r < size; r++) {
        const char *a = parts[0], *b = parts[1] += sizes[r - 1], *end = b + sizes[r];
        if (!first_difference(&a, all + sizes[0], &b, end)) continue;
        if (!found) {
            found = b;
            found_length = line_length(b, end);
            of_first = a;
            append_line(&text, b, end, NULL);
        } else if (a != of_first || line_length(b, end) != found_length || memcmp(b, found, found_length)) {
            continue;
        }
        if (named++ < MOST_NAMED) light_string_printf(&ranks, "%s%d", named > 1 ? ", " : "", r);
    }
    if (named > MOST_NAMED) light_string_printf(&ranks, " and %d more", named - MOST_NAMED);
    light_string_append(&text, ", rank 0 has ");
    append_line(&text, of_first, all + sizes[0], found_length ? found : NULL);
    light_fail(LIGHT_ERR_ARGUMENT, "the processes of this job do not agree: rank%s %s ha%s %s",
               named > 1 ? "s" : "", light_string_text(&ranks), named > 1 ? "ve" : "s",
               light_string_text(&text));
    light_string_free(&ranks);
    light_string_free(&text);
    return LIGHT_ERR_ARGUMENT;
}

static light_status compare_lists(light_communicator *host, const light_string *facts)
{
    char *all = NULL;
    size_t *sizes = light_calloc((size_t)host->size, sizeof *sizes);
    if (!sizes) return LIGHT_ERR_MEMORY;
    light_status status = light_gather_bytes(host, facts->text, facts->length, &all, sizes, "what ranks run");
    if (status == LIGHT_OK) status = name_difference(all, sizes, host->size);
    light_free(all);
    light_free(sizes);
    return status;
}

/* Takes `facts` over. */
static light_status compare(const light_trainer *t, light_string *facts)
{
    double sums[2] = {0};
    light_status status = facts->failed ? LIGHT_ERR_MEMORY : LIGHT_OK;
    if (status == LIGHT_OK) {
        /* Least and greatest of the checksums, in one call. */
        uint32_t crc = light_crc32c(0, facts->text, facts->length);
        sums[0] = (double)crc;
        sums[1] = -(double)crc;
        status = light_reduce_doubles(t->strategy->host, sums, 2, LIGHT_COMBINE_MIN, "what ranks run");
    }
    if (status == LIGHT_OK && sums[0] != -sums[1]) status = compare_lists(t->strategy->host, facts);
    light_string_free(facts);
    return status;
}

light_status light_agree_on_settings(const light_trainer *t)
{
    light_string facts = {0};
    if (light_trainer_world_size(t) == 1) return LIGHT_OK;
    add_settings(&facts, t);
    return compare(t, &facts);
}

light_status light_agree_on_model(const light_trainer *t)
{
    light_string facts = {0};
    if (light_trainer_world_size(t) == 1) return LIGHT_OK;
    add_parameters(&facts, t->module);
    if (t->run_stage == LIGHT_STAGE_FIT) add_loader(&facts, "train_dataloader", t->train_loader);
    return compare(t, &facts);
}

light_status light_agree_on_loaders(const light_trainer *t, const char *which, const light_loader *first)
{
    light_string facts = {0};
    char name[64];
    int i = 0;
    if (light_trainer_world_size(t) == 1) return LIGHT_OK;
    for (const light_loader *l = first; l; l = light_loader_following(l)) {
        snprintf(name, sizeof name, "%s %d", which, i++);
        add_loader(&facts, name, l);
    }
    return compare(t, &facts);
}
