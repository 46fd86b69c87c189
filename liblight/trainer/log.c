/* SPDX-License-Identifier: Apache-2.0 */
/* light_log: what is logged when, under which name, and how an epoch's values come together.
 *
 * Every name is a light_logged of its loop (training or evaluation). What monitors, the progress bar and loggers see are
 * the entries of light_metrics: NAME, and NAME_step with NAME_epoch where both are asked for.
 *
 * A value that a device has yet to compute is not waited for: it is fetched, and taken in when it has arrived or when
 * somebody reads metrics. Values are taken in in the order in which they were logged, so nothing depends on when. */
#include "trainer/trainer.h"

#include "base/log.h"
#include "base/memory.h"
#include "base/state.h"
#include "base/string.h"

#include <light/message.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- the entries -------------------------------------------------------- */

static int find_entry(const light_metrics *m, const char *name)
{
    for (int i = 0; i < m->n; i++)
        if (!strcmp(m->entries[i].name, name)) return i;
    return -1;
}

/* The entry called `name`, new when it is not there; -1 when out of memory. */
static int make_entry(light_metrics *m, const char *name)
{
    int found = find_entry(m, name);
    if (found >= 0) return found;
    if (m->n == m->capacity) {
        int capacity = m->capacity ? 2 * m->capacity : 16;
        light_metric_entry *entries = light_realloc(m->entries, (size_t)capacity * sizeof *entries);
        if (!entries) return -1;
        m->entries = entries;
        light_metric *row = light_realloc(m->row, ((size_t)capacity + 1) * sizeof *row);
        if (!row) return -1;
        m->row = row;
        m->capacity = capacity;
    }
    char *copy = light_strdup(name);
    if (!copy) return -1;
    m->entries[m->n] = (light_metric_entry){.name = copy};
    return m->n++;
}

static void set_entry(light_metrics *m, int at, double value, bool prog_bar, bool logger)
{
    light_metric_entry *e = &m->entries[at];
    e->value = value;
    e->known = true;
    e->pending = logger;
    e->prog_bar = prog_bar;
    e->logger = logger;
}

void light_metrics_free(light_metrics *m)
{
    for (int which = 0; which < 2; which++) {
        for (int i = 0; i < m->n_logged[which]; i++) {
            light_free(m->logged[which][i].name);
            light_free(m->logged[which][i].exact);
        }
        light_free(m->logged[which]);
    }
    for (int i = 0; i < m->n; i++) light_free(m->entries[i].name);
    light_free(m->entries);
    light_free(m->row);
    *m = (light_metrics){0};
}

void light_metrics_clear(light_trainer *t)
{
    light_metrics_settle(t, true); /* the device's tickets go back; what failed has been told or will be */
    light_metrics_free(&t->metrics);
}

static void reset_logged(light_logged *l)
{
    l->has_step = l->has_epoch = false;
    l->sum = l->weight = 0;
    if (l->exact) *l->exact = (light_exact_sum){0};
    l->extreme = l->options.reduce_fx == LIGHT_FX_MIN ? INFINITY : -INFINITY;
}

light_status light_metrics_reset(light_trainer *t, int which)
{
    LIGHT_TRY(light_metrics_settle(t, true));
    for (int i = 0; i < t->metrics.n_logged[which]; i++) reset_logged(&t->metrics.logged[which][i]);
    return LIGHT_OK;
}

/* Who asks gets the value that was logged last, so it is waited for. */
static void settle_for(const light_trainer *t)
{
    light_trainer *mutable = (light_trainer *)(uintptr_t)t;
    if (t->metrics.n_arrivals && light_metrics_settle(mutable, true) != LIGHT_OK)
        light_trainer_fail(mutable, light_error_status(), "%s", light_error_message());
}

bool light_trainer_metric(const light_trainer *t, const char *name, double *value)
{
    settle_for(t);
    int at = find_entry(&t->metrics, name);
    if (at < 0 || !t->metrics.entries[at].known) return false;
    *value = t->metrics.entries[at].value;
    return true;
}

bool light_trainer_metric_at(const light_trainer *t, int i, light_metric *metric, bool *prog_bar)
{
    settle_for(t);
    for (int at = 0; at < t->metrics.n; at++) {
        const light_metric_entry *e = &t->metrics.entries[at];
        if (!e->known || i-- > 0) continue;
        *metric = (light_metric){e->name, e->value};
        if (prog_bar) *prog_bar = e->prog_bar;
        return true;
    }
    return false;
}

char *light_trainer_metric_names(const light_trainer *t, char *text, size_t bytes)
{
    size_t used = 0;
    light_metric metric;
    snprintf(text, bytes, "nothing");
    for (int i = 0; used < bytes && light_trainer_metric_at(t, i, &metric, NULL); i++)
        used += (size_t)snprintf(text + used, bytes - used, "%s%s", i ? ", " : "", metric.name);
    return text;
}

/* ---- light_log ---------------------------------------------------------- */

static light_switch or_default(light_switch given, bool otherwise)
{
    return given == LIGHT_DEFAULT ? (otherwise ? LIGHT_ON : LIGHT_OFF) : given;
}

static light_log_options resolve(const light_trainer *t, const light_log_options *given)
{
    light_log_options o = *given;
    bool train_step = t->moment == LIGHT_LOG_TRAIN_STEP;
    o.logger = or_default(o.logger, true);
    o.on_step = or_default(o.on_step, train_step);
    o.on_epoch = or_default(o.on_epoch, !train_step);
    o.add_dataloader_idx = or_default(o.add_dataloader_idx, true);
    o.batch_size = 0;
    return o;
}

static bool same_options(const light_log_options *a, const light_log_options *b)
{
    return a->prog_bar == b->prog_bar && a->logger == b->logger && a->on_step == b->on_step &&
           a->on_epoch == b->on_epoch && a->reduce_fx == b->reduce_fx &&
           a->add_dataloader_idx == b->add_dataloader_idx && a->sync_dist == b->sync_dist;
}

/* The entries that a logged name feeds. */
static light_status name_entries(light_trainer *t, light_logged *l)
{
    light_metrics *m = &t->metrics;
    char suffix[48] = "";
    bool both = l->options.on_step == LIGHT_ON && l->options.on_epoch == LIGHT_ON;
    if (l->dataloader_idx >= 0) snprintf(suffix, sizeof suffix, "/dataloader_idx_%d", l->dataloader_idx);
    l->step_metric = l->epoch_metric = l->plain_metric = -1;
    for (int kind = 0; kind < 3; kind++) {
        if ((kind == 0 && l->options.on_step != LIGHT_ON) || (kind == 1 && l->options.on_epoch != LIGHT_ON) ||
            (kind == 2 && !both))
            continue;
        char *name = light_format("%s%s%s", l->name,
                                  !both || kind == 2 ? ""
                                  : kind == 0        ? "_step"
                                                     : "_epoch",
                                  suffix);
        int at = name ? make_entry(m, name) : -1;
        light_free(name);
        if (at < 0) return LIGHT_ERR_MEMORY;
        *(kind == 0 ? &l->step_metric : kind == 1 ? &l->epoch_metric : &l->plain_metric) = at;
    }
    return LIGHT_OK;
}

static light_status new_logged(light_trainer *t, int which, const char *name, int dataloader_idx,
                               const light_log_options *options, light_logged **out)
{
    light_metrics *m = &t->metrics;
    if (m->n_logged[which] == m->capacity_logged[which]) {
        int capacity = m->capacity_logged[which] ? 2 * m->capacity_logged[which] : 8;
        light_logged *logged = light_realloc(m->logged[which], (size_t)capacity * sizeof *logged);
        if (!logged) return LIGHT_ERR_MEMORY;
        m->logged[which] = logged;
        m->capacity_logged[which] = capacity;
    }
    light_logged *l = &m->logged[which][m->n_logged[which]];
    *l = (light_logged){.name = light_strdup(name), .options = *options, .dataloader_idx = dataloader_idx};
    if (!l->name) return LIGHT_ERR_MEMORY;
    m->n_logged[which]++;
    if (t->strategy && !(l->exact = light_alloc(sizeof *l->exact))) return LIGHT_ERR_MEMORY;
    reset_logged(l);
    *out = l;
    return name_entries(t, l);
}

static light_status find_logged(light_trainer *t, const char *name, const light_log_options *options,
                                light_logged **out)
{
    light_metrics *m = &t->metrics;
    int which = t->stage != LIGHT_STAGE_FIT;
    bool several = which && t->eval_loader && light_loader_following(t->eval_loader);
    int idx = several && t->running_batch && options->add_dataloader_idx == LIGHT_ON
                  ? t->running_batch->dataloader_idx
                  : -1;
    int n = m->n_logged[which];
    light_logged *logged = m->logged[which];
    for (int i = 0, at = m->next_logged; i < n; i++, at++) {
        if (at >= n) at = 0;
        light_logged *l = &logged[at];
        if (l->dataloader_idx != idx || (l->name != name && strcmp(l->name, name))) continue;
        m->next_logged = at + 1 < n ? at + 1 : 0; /* names come in the same order each step */
        *out = l;
        return LIGHT_OK;
    }
    return new_logged(t, which, name, idx, options, out);
}

static void add_to_sum(light_logged *l, double value)
{
    if (l->exact)
        light_exact_sum_add(l->exact, value);
    else
        l->sum += value;
}

void light_logged_add(light_logged *l, double value, double weight)
{
    switch (l->options.reduce_fx) {
    case LIGHT_FX_MEAN:
        add_to_sum(l, value * weight);
        l->weight += weight;
        break;
    case LIGHT_FX_SUM: add_to_sum(l, value); break;
    case LIGHT_FX_MIN:
        if (value < l->extreme || isnan(value)) l->extreme = value;
        break;
    case LIGHT_FX_MAX:
        if (value > l->extreme || isnan(value)) l->extreme = value;
        break;
    }
    l->has_epoch = true;
}

double light_logged_value(const light_logged *l)
{
    if (l->options.reduce_fx == LIGHT_FX_MIN || l->options.reduce_fx == LIGHT_FX_MAX) return l->extreme;
    double sum = l->exact ? light_exact_value(l->exact->limbs) : l->sum;
    return l->options.reduce_fx == LIGHT_FX_MEAN ? sum / l->weight : sum;
}

/* The light_logged of `name`, checked; *options: resolved. */
static light_status open_logged(light_trainer *t, const char *name, const light_log_options *given,
                                light_logged **out)
{
    if (t->moment == LIGHT_LOG_FORBIDDEN)
        return light_fail(
            LIGHT_ERR_STATE,
            "light_log(\"%s\"): nothing can be logged here; log in steps, batch hooks and at the start and "
            "end of epochs",
            name);
    light_log_options options = resolve(t, given);
    if (t->moment == LIGHT_LOG_EPOCH && options.on_step == LIGHT_ON)
        return light_fail(LIGHT_ERR_ARGUMENT,
                          "light_log(\"%s\", .on_step = true): there is no step in an epoch's hook", name);
    light_logged *l;
    LIGHT_TRY(find_logged(t, name, &options, &l));
    if (!same_options(&l->options, &options)) {
        if (l->last_step == t->step->serial)
            return light_fail(LIGHT_ERR_ARGUMENT,
                              "light_log(\"%s\") was called before in this step with other options", name);
        LIGHT_TRY(light_metrics_settle(t, true)); /* what was logged with the old ones */
        l->options = options;
        LIGHT_TRY(name_entries(t, l));
    }
    l->last_step = t->step->serial;
    l->of_epoch = t->moment == LIGHT_LOG_EPOCH;
    *out = l;
    return LIGHT_OK;
}

static double weight_of(const light_trainer *t, const light_log_options *given)
{
    if (given->batch_size > 0) return (double)given->batch_size;
    return t->running_batch ? (double)t->running_batch->size : 1;
}

/* The entries of the step are there at once, with the value they have so far. */
static void set_step_entries(light_trainer *t, light_logged *l, double value)
{
    const light_log_options *o = &l->options;
    l->step_value = value;
    l->has_step = true;
    set_entry(&t->metrics, l->step_metric, value, o->prog_bar, o->logger == LIGHT_ON);
    if (l->plain_metric >= 0) set_entry(&t->metrics, l->plain_metric, value, false, false);
}

static light_status log_value(light_trainer *t, const char *name, double value,
                              const light_log_options *given)
{
    light_logged *l;
    LIGHT_TRY(open_logged(t, name, given, &l));
    LIGHT_TRY(light_metrics_settle(t, true)); /* values before this one */
    l->step_weight = weight_of(t, given);
    if (l->options.on_step == LIGHT_ON) set_step_entries(t, l, value);
    if (l->options.on_epoch == LIGHT_ON) light_logged_add(l, value, l->step_weight);
    return LIGHT_OK;
}

static light_status log_later(light_trainer *t, light_step *s, const char *name, light_tensor *value,
                              const light_log_options *given)
{
    light_logged *l;
    int which = t->stage != LIGHT_STAGE_FIT;
    LIGHT_TRY(open_logged(t, name, given, &l));
    bool on_step = l->options.on_step == LIGHT_ON, on_epoch = l->options.on_epoch == LIGHT_ON;
    l->step_weight = weight_of(t, given);
    if (on_step) set_step_entries(t, l, t->metrics.entries[l->step_metric].value);
    return light_arrival_start(t, s, value,
                               (light_arrival){.which = which,
                                               .logged = (int)(l - t->metrics.logged[which]),
                                               .on_step = on_step,
                                               .on_epoch = on_epoch,
                                               .weight = l->step_weight});
}

light_status light_log_again(light_trainer *t, const light_graph_log *log)
{
    light_logged *l = &t->metrics.logged[log->arrival.which][log->arrival.logged];
    l->last_step = t->step->serial;
    if (log->arrival.on_step) set_step_entries(t, l, t->metrics.entries[l->step_metric].value);
    return light_arrival_fetch(t, log);
}

static light_status log_tensor(light_trainer *t, light_step *s, const char *name, light_tensor *value,
                               const light_log_options *options)
{
    double number;
    if (!value->storage->device->is_host && value->numel == 1) return log_later(t, s, name, value, options);
    light_status status = light_item(value, &number);
    return status == LIGHT_OK ? log_value(t, name, number, options)
                              : light_fail_in(status, "light_log(\"%s\")", name);
}

void light_log_with(light_step *s, const char *name, light_tensor *value, const light_log_options *options)
{
    light_trainer *t = light_step_trainer(s);
    if (!t || !value || s->status != LIGHT_OK) return;
    light_step_record(s, log_tensor(t, s, name, value, options));
}

void light_log_value_with(light_trainer *t, const char *name, double value, const light_log_options *options)
{
    light_status status = log_value(t, name, value, options);
    if (status != LIGHT_OK) light_trainer_fail(t, status, "%s", light_error_message());
}

/* ---- ends of epochs, and writing ---------------------------------------- */

static void end_epoch_of(light_metrics *m, light_logged *l, double value)
{
    if (l->epoch_metric < 0) return;
    set_entry(m, l->epoch_metric, value, l->options.prog_bar, l->options.logger == LIGHT_ON);
    if (l->plain_metric >= 0) set_entry(m, l->plain_metric, value, false, false);
    reset_logged(l);
}

/* The name that another rank has logged; this one may not have. */
static light_status find_merged(light_trainer *t, int which, const light_logged *merged, light_logged **out)
{
    light_metrics *m = &t->metrics;
    for (int i = 0; i < m->n_logged[which]; i++) {
        *out = &m->logged[which][i];
        if ((*out)->dataloader_idx == merged->dataloader_idx && !strcmp((*out)->name, merged->name))
            return LIGHT_OK;
    }
    return new_logged(t, which, merged->name, merged->dataloader_idx, &merged->options, out);
}

void light_logged_take_step(light_trainer *t, const light_logged *merged, double value)
{
    light_logged *l;
    if (find_merged(t, 0, merged, &l) == LIGHT_OK) set_step_entries(t, l, value);
}

static light_status end_epoch_together(light_trainer *t, int which)
{
    light_merged merged;
    LIGHT_TRY(light_merge_epoch(t, which, &merged));
    light_status status = LIGHT_OK;
    for (int i = 0; status == LIGHT_OK && i < merged.n; i++) {
        light_logged *l;
        status = find_merged(t, which, &merged.logged[i], &l);
        if (status == LIGHT_OK) end_epoch_of(&t->metrics, l, light_logged_value(&merged.logged[i]));
    }
    light_merged_free(&merged);
    return status;
}

light_status light_metrics_end_epoch(light_trainer *t, int which)
{
    light_metrics *m = &t->metrics;
    LIGHT_TRY(light_metrics_settle(t, true));
    if (t->strategy) return end_epoch_together(t, which);
    for (int i = 0; i < m->n_logged[which]; i++) {
        light_logged *l = &m->logged[which][i];
        if (l->has_epoch) end_epoch_of(m, l, light_logged_value(l));
    }
    return LIGHT_OK;
}

int64_t light_trainer_logged_step(const light_trainer *t)
{
    int64_t step = t->stepped ? t->batches_that_stepped : t->batches_that_stepped - 1;
    return step > 0 ? step : 0;
}

void light_metrics_drop_pending(light_trainer *t)
{
    for (int i = 0; i < t->metrics.n; i++) t->metrics.entries[i].pending = false;
}

static bool anything_pending(const light_metrics *m)
{
    for (int i = 0; i < m->n; i++)
        if (m->entries[i].pending) return true;
    return false;
}

light_status light_metrics_write(light_trainer *t)
{
    LIGHT_TRY(light_watch_loss_scale(t));
    light_metrics *m = &t->metrics;
    int64_t step = light_trainer_logged_step(t);
    int n = 0;
    if (!anything_pending(m)) return LIGHT_OK;
    LIGHT_TRY(light_metrics_settle(t, true));
    for (int i = 0; i < m->n; i++) {
        if (!m->entries[i].pending) continue;
        m->entries[i].pending = false;
        m->row[n++] = (light_metric){m->entries[i].name, m->entries[i].value};
    }
    /* Loggers belong to training; test and validate print what they found. */
    if (!n || t->run_stage != LIGHT_STAGE_FIT || light_trainer_global_rank(t) > 0) return LIGHT_OK;
    m->row[n++] = (light_metric){"epoch", (double)light_trainer_current_epoch(t)};
    for (int i = 0; i < t->n_loggers; i++) {
        const light_logger_entry *e = &t->loggers[i];
        light_status status =
            e->hooks.log_metrics ? e->hooks.log_metrics(e->logger, step, m->row, n) : LIGHT_OK;
        /* Tracking never stops training. */
        if (status != LIGHT_OK)
            light_message(LIGHT_MESSAGE_WARNING, "%s: %s", e->hooks.name, light_error_message());
    }
    return LIGHT_OK;
}

/* ---- checkpoints -------------------------------------------------------- */

static light_status save_logged(const light_logged *l, light_state *state)
{
    char name[32];
    light_state *group;
    snprintf(name, sizeof name, "%d", (int)light_state_count(state));
    if (!(group = light_state_group(state, name))) return LIGHT_ERR_MEMORY;
    LIGHT_TRY(light_state_put(group, "name", (const char *)l->name));
    const double values[] = {l->exact ? light_exact_value(l->exact->limbs) : l->sum, l->weight, l->extreme,
                             l->has_epoch};
    const int64_t settings[] = {l->options.prog_bar,  l->options.logger,    l->options.on_step,
                                l->options.on_epoch,  l->options.reduce_fx, l->options.add_dataloader_idx,
                                l->options.sync_dist, l->of_epoch};
    LIGHT_TRY(light_state_put_doubles(group, "values", values, 4));
    if (l->exact) LIGHT_TRY(light_state_put_bytes(group, "exact", l->exact, sizeof *l->exact));
    return light_state_put_int64s(group, "settings", settings, 8);
}

/* What training has logged of the epoch so far; of several ranks all together. */
static light_status save_running(light_trainer *t, light_state *running)
{
    const light_metrics *m = &t->metrics;
    light_merged merged = {0};
    if (t->strategy && t->running) LIGHT_TRY(light_merge_epoch(t, 0, &merged));
    light_status status = LIGHT_OK;
    for (int i = 0; status == LIGHT_OK && i < merged.n; i++) status = save_logged(&merged.logged[i], running);
    for (int i = 0; status == LIGHT_OK && !t->strategy && i < m->n_logged[0]; i++)
        status = save_logged(&m->logged[0][i], running);
    light_merged_free(&merged);
    return status;
}

/* The epoch so far, and the values that monitors see. */
light_status light_metrics_save(const light_trainer *t, light_state *state)
{
    const light_metrics *m = &t->metrics;
    LIGHT_TRY(light_metrics_settle((light_trainer *)(uintptr_t)t, true));
    light_state *entries = light_state_group(state, "entries"),
                *running = light_state_group(state, "running");
    if (!entries || !running) return LIGHT_ERR_MEMORY;
    for (int i = 0; i < m->n; i++) {
        char name[32];
        snprintf(name, sizeof name, "%d", i);
        light_state *group = light_state_group(entries, name);
        if (!group) return LIGHT_ERR_MEMORY;
        LIGHT_TRY(light_state_put(group, "name", (const char *)m->entries[i].name));
        LIGHT_TRY(light_state_put(group, "value", m->entries[i].value));
        LIGHT_TRY(light_state_put(group, "known", m->entries[i].known));
        LIGHT_TRY(light_state_put(group, "prog_bar", m->entries[i].prog_bar));
    }
    return save_running((light_trainer *)(uintptr_t)t, running);
}

/* The sums of all ranks go to rank 0, and the others go on from nothing. */
static light_status load_sums(light_trainer *t, light_logged *l, const light_state *group,
                              const double *values)
{
    const void *exact;
    size_t bytes;
    if (light_trainer_global_rank(t) > 0) return LIGHT_OK;
    l->sum = values[0];
    l->weight = values[1];
    l->extreme = values[2];
    l->has_epoch = values[3] != 0;
    if (!l->exact) return LIGHT_OK;
    if (!light_state_has(group, "exact")) {
        light_exact_sum_add(l->exact, values[0]);
        return LIGHT_OK;
    }
    LIGHT_TRY(light_state_get_bytes(group, "exact", &exact, &bytes));
    if (bytes != sizeof *l->exact)
        return light_fail(LIGHT_ERR_FORMAT, "metric %s: a sum of %zu bytes, %zu expected", l->name, bytes,
                          sizeof *l->exact);
    memcpy(l->exact, exact, bytes);
    return LIGHT_OK;
}

static light_status load_logged(light_trainer *t, const light_state *group)
{
    const char *name;
    const double *values;
    const int64_t *settings;
    size_t n;
    light_logged *l;
    LIGHT_TRY(light_state_get(group, "name", &name));
    LIGHT_TRY(light_state_get_doubles(group, "values", &values, &n));
    if (n != 4) return light_fail(LIGHT_ERR_FORMAT, "metric %s: %zu values, 4 expected", name, n);
    LIGHT_TRY(light_state_get_int64s(group, "settings", &settings, &n));
    if (n != 6 && n != 8) return light_fail(LIGHT_ERR_FORMAT, "metric %s: %zu settings, 8 expected", name, n);
    light_log_options options = {.prog_bar = settings[0] != 0,
                                 .logger = (light_switch)settings[1],
                                 .on_step = (light_switch)settings[2],
                                 .on_epoch = (light_switch)settings[3],
                                 .reduce_fx = (light_reduce_fx)settings[4],
                                 .add_dataloader_idx = (light_switch)settings[5],
                                 .sync_dist = n == 8 ? (light_switch)settings[6] : LIGHT_DEFAULT};
    bool of_epoch = n == 8 && settings[7];
    LIGHT_TRY(new_logged(t, 0, name, -1, &options, &l));
    l->of_epoch = of_epoch;
    return load_sums(t, l, group, values);
}

light_status light_metrics_load(light_trainer *t, const light_state *state)
{
    const light_state *entries = light_state_find_group(state, "entries"),
                      *running = light_state_find_group(state, "running");
    light_metrics_clear(t);
    for (size_t i = 0; entries && i < light_state_count(entries); i++) {
        const light_state *group = light_state_at(entries, i).group;
        const char *name;
        double value;
        bool prog_bar, known;
        LIGHT_TRY(light_state_get(group, "name", &name));
        LIGHT_TRY(light_state_get(group, "value", &value));
        LIGHT_TRY(light_state_get(group, "known", &known));
        LIGHT_TRY(light_state_get(group, "prog_bar", &prog_bar));
        int at = make_entry(&t->metrics, name);
        if (at < 0) return LIGHT_ERR_MEMORY;
        if (known) set_entry(&t->metrics, at, value, prog_bar, false);
    }
    for (size_t i = 0; running && i < light_state_count(running); i++)
        LIGHT_TRY(load_logged(t, light_state_at(running, i).group));
    return LIGHT_OK;
}

/* ---- the table after validate and test ---------------------------------- */

#define RULE "--------------------------------------------------------------------------------"

light_status light_metrics_print(light_trainer *t, const char *title)
{
    light_metric metric;
    int width = (int)strlen(title);
    for (int i = 0; light_trainer_metric_at(t, i, &metric, NULL); i++)
        if ((int)strlen(metric.name) > width) width = (int)strlen(metric.name);
    light_message(LIGHT_MESSAGE_INFO, "%-*s  %12s", width, title, "value");
    light_message(LIGHT_MESSAGE_INFO, "%.*s", width + 14, RULE);
    for (int i = 0; light_trainer_metric_at(t, i, &metric, NULL); i++)
        light_message(LIGHT_MESSAGE_INFO, "%-*s  %12.6g", width, metric.name, metric.value);
    return LIGHT_OK;
}
