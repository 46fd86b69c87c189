/* SPDX-License-Identifier: Apache-2.0 */
/* ModelCheckpoint: when to save, which to keep, and the links "best" and "last".
 *
 * Every checkpoint has a folder of its own. One that is the newest and among the best is one folder with both links.
 * What falls out of both is removed only once the newer one is on disk.
 *
 * Of several processes all ask for the same checkpoints, and rank 0 says which: it alone knows what is in the folder, links
 * and removes. */
#include "callbacks/builtin.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/string.h"
#include "base/time.h"
#include "checkpoint/checkpoint.h"

#include <light/message.h>
#include <light/trainer.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct kept {
    char *path;
    double score;   /* NAN: it has none */
    bool top, last; /* why it is kept */
    bool written;   /* on disk */
} kept;

typedef struct model_checkpoint {
    light_callback base;
    light_model_checkpoint_options options;
    char *folder;
    kept *kept;
    size_t n, capacity;
    char *best_path;
    int64_t last_step; /* global step of the newest one */
    double last_time;
    bool deferred;  /* due, but the metric comes with the validation that follows */
    bool validated; /* the metric should be there by now */
} model_checkpoint;

#define OPTION(field, value, help) LIGHT_OPTION_IN(model_checkpoint, options, field, value, help)
static const light_option options[] = {
    OPTION(dirpath, "", "folder of the checkpoints; empty: checkpoints/ in the run's folder"),
    OPTION(filename, "{epoch}-{step}", "name of one; {NAME} and {NAME:.3f} stand for metrics"),
    OPTION(monitor, "auto",
           "metric that says which are best; auto: val_loss if it is logged; empty: the newest"),
    LIGHT_OPTION_IN_CHOICE(model_checkpoint, options, mode, "min", "min|max",
                           "whether smaller or larger is better"),
    OPTION(save_top_k, 1, "how many of the best are kept; -1: all, 0: none"),
    OPTION(save_last, LIGHT_ON, "keep the newest too"),
    OPTION(save_on_exception, LIGHT_ON, "save when the run is interrupted, or a metric is missing"),
    OPTION(save_weights_only, false, "weights only: training cannot go on from them"),
    OPTION(every_n_train_steps, 0, "save every so many optimizer steps; 0: off"),
    OPTION(every_n_epochs, 0, "save every so many epochs; 0: every epoch unless another trigger is set"),
    OPTION(train_time_interval, 0.0, "save every so many seconds; 0: off"),
    OPTION(verbose, false, "tell of each checkpoint"),
    LIGHT_OPTIONS_END,
};

/* ---- names -------------------------------------------------------------- */

/* "{epoch}" to "epoch=3", "{val_acc:.3f}" to "val_acc=0.912". */
static light_status append_value(light_string *out, light_trainer *t, const char *name, size_t length,
                                 const char *format)
{
    char key[64];
    double value;
    if (length >= sizeof key) return light_fail(LIGHT_ERR_ARGUMENT, "filename: a name in braces is too long");
    memcpy(key, name, length);
    key[length] = '\0';
    if (!strcmp(key, "epoch")) {
        light_string_printf(out, "epoch=%lld", (long long)light_trainer_current_epoch(t));
    } else if (!strcmp(key, "step")) {
        light_string_printf(out, "step=%lld", (long long)light_trainer_global_step(t));
    } else if (light_trainer_metric(t, key, &value)) {
        int digits = format && format[0] == '.' ? atoi(format + 1) : 4;
        for (char *p = key; *p; p++)
            if (*p == '/') *p = '_';
        light_string_printf(out, "%s=%.*f", key, digits < 0 || digits > 17 ? 4 : digits, value);
    } else {
        return light_fail(LIGHT_ERR_NOT_FOUND, "filename names the metric \"%s\", which has not been logged",
                          key);
    }
    return LIGHT_OK;
}

static light_status format_name(model_checkpoint *m, light_trainer *t, light_string *out)
{
    for (const char *at = m->options.filename; *at;) {
        const char *open = strchr(at, '{'), *close = open ? strchr(open, '}') : NULL;
        if (!close) {
            light_string_append(out, at);
            break;
        }
        light_string_append_bytes(out, at, (size_t)(open - at));
        size_t length = strcspn(open + 1, ":}");
        const char *format = open[1 + length] == ':' ? open + 2 + length : NULL;
        LIGHT_TRY(append_value(out, t, open + 1, length, format));
        at = close + 1;
    }
    return out->failed ? LIGHT_ERR_MEMORY : LIGHT_OK;
}

static bool path_taken(const model_checkpoint *m, const char *path)
{
    for (size_t i = 0; i < m->n; i++)
        if (!strcmp(m->kept[i].path, path)) return true;
    return light_directory_exists(path);
}

/* A path that nothing has yet: NAME, NAME-v1, NAME-v2 .. */
static char *new_path(model_checkpoint *m, light_trainer *t)
{
    light_string name = {0};
    char *path = NULL;
    if (format_name(m, t, &name) == LIGHT_OK) {
        path = light_path_join(m->folder, light_string_text(&name));
        for (int v = 1; path && path_taken(m, path); v++) {
            light_free(path);
            path = light_format("%s/%s-v%d", m->folder, light_string_text(&name), v);
        }
    }
    light_string_free(&name);
    return path;
}

/* FOLDER/name becomes a link to the checkpoint, in one go. */
static void set_link(model_checkpoint *m, const char *name, const char *path)
{
    char *link = light_path_join(m->folder, name), *temporary = link ? light_file_temporary_name(link) : NULL;
    const char *base = strrchr(path, '/');
    bool done = temporary && symlink(base ? base + 1 : path, temporary) == 0 && rename(temporary, link) == 0;
    if (!done) {
        light_message(LIGHT_MESSAGE_WARNING, "cannot make the link %s/%s: %s", m->folder, name,
                      strerror(errno));
        if (temporary) unlink(temporary);
    }
    light_free(temporary);
    light_free(link);
}

/* ---- which are kept ----------------------------------------------------- */

/* Any score is better than none. */
static bool better(const model_checkpoint *m, double a, double b)
{
    if (isnan(a) || isnan(b)) return !isnan(a) && isnan(b);
    return strcmp(m->options.mode, "max") ? a < b : a > b;
}

/* The metric that is watched, or NULL: then the newest is the best. */
static const char *monitored(const model_checkpoint *m, light_trainer *t)
{
    double value;
    const char *monitor = m->options.monitor;
    if (!strcmp(monitor, "auto")) return light_trainer_monitor(t, "val_loss", &value) ? "val_loss" : NULL;
    return monitor[0] ? monitor : NULL;
}

/* Of those that are (or are going to be) among the best, how many are at least as good as `score`. */
static int64_t count_as_good(const model_checkpoint *m, double score)
{
    int64_t n = 0;
    for (size_t i = 0; i < m->n; i++) n += m->kept[i].top && !better(m, score, m->kept[i].score);
    return n;
}

/* Without a metric the newest replaces the oldest. */
static bool joins_top(const model_checkpoint *m, double score)
{
    int64_t k = m->options.save_top_k;
    if (k <= 0) return k < 0;
    return isnan(score) || count_as_good(m, score) < k;
}

static kept *add_kept(model_checkpoint *m, char *path)
{
    if (m->n == m->capacity) {
        size_t capacity = m->capacity ? 2 * m->capacity : 8;
        kept *grown = light_realloc(m->kept, capacity * sizeof *grown);
        if (!grown) return NULL;
        m->kept = grown;
        m->capacity = capacity;
    }
    m->kept[m->n] = (kept){.path = path};
    return &m->kept[m->n++];
}

static void drop_kept(model_checkpoint *m, size_t i)
{
    light_free(m->kept[i].path);
    memmove(&m->kept[i], &m->kept[i + 1], (m->n - i - 1) * sizeof *m->kept);
    m->n--;
}

/* The best of those on disk; of those without a score the newest. */
static void note_best(model_checkpoint *m)
{
    const kept *best = NULL;
    for (size_t i = 0; i < m->n; i++) {
        const kept *k = &m->kept[i];
        if (!k->top || !k->written) continue;
        if (!best || better(m, k->score, best->score) || (isnan(k->score) && isnan(best->score))) best = k;
    }
    if (!best || (m->best_path && !strcmp(m->best_path, best->path))) return;
    char *copy = light_strdup(best->path);
    if (!copy) return;
    light_free(m->best_path);
    m->best_path = copy;
}

/* Takes the rank from those that newer ones on disk have overtaken; the oldest of equals goes first. */
static void settle(model_checkpoint *m)
{
    int64_t top = 0;
    size_t newest = 0;
    for (size_t i = 0; i < m->n; i++) {
        top += m->kept[i].top && m->kept[i].written;
        if (m->kept[i].last && m->kept[i].written) newest = i;
    }
    for (size_t i = 0; i < newest; i++) m->kept[i].last = false;
    for (; m->options.save_top_k > 0 && top > m->options.save_top_k; top--) {
        kept *worst = NULL;
        for (size_t i = 0; i < m->n; i++)
            if (m->kept[i].top && m->kept[i].written && (!worst || better(m, worst->score, m->kept[i].score)))
                worst = &m->kept[i];
        worst->top = false;
    }
    note_best(m);
}

/* ---- saving ------------------------------------------------------------- */

/* What the checkpoint is worth: NAN without a metric. A metric that is no number is the worst there is. */
static light_status find_score(model_checkpoint *m, light_trainer *t, double *score)
{
    const char *monitor = monitored(m, t);
    char names[512];
    *score = NAN;
    if (!monitor) return LIGHT_OK;
    if (!light_trainer_monitor(t, monitor, score))
        return light_fail(LIGHT_ERR_NOT_FOUND,
                          "model_checkpoint monitors \"%s\" (--model_checkpoint.monitor), which has not been "
                          "logged; logged: %s",
                          monitor, light_trainer_metric_names(t, names, sizeof names));
    if (isnan(*score)) *score = strcmp(m->options.mode, "max") ? INFINITY : -INFINITY;
    return LIGHT_OK;
}

/* What rank 0 has decided of a save. */
typedef struct decision {
    bool top, last;
    char path[4096]; /* "": it could not be named */
} decision;

static light_status decide(model_checkpoint *m, light_trainer *t, decision *d)
{
    light_status status = LIGHT_OK;
    char *path = NULL;
    if (light_trainer_global_rank(t) == 0 && (d->top || d->last)) {
        path = new_path(m, t);
        if (!path) status = light_error_status();
        snprintf(d->path, sizeof d->path, "%s", path ? path : "");
    }
    light_free(path);
    LIGHT_TRY(light_trainer_broadcast(t, d, sizeof *d));
    LIGHT_TRY(status);
    if ((d->top || d->last) && !d->path[0])
        return light_fail(LIGHT_ERR_STATE, "rank 0 cannot name the checkpoint in %s", m->folder);
    return LIGHT_OK;
}

/* Whether the newest state is saved already, as rank 0 knows it. */
static bool is_saved(const model_checkpoint *m, light_trainer *t)
{
    bool saved = light_trainer_global_step(t) == m->last_step;
    if (light_trainer_broadcast(t, &saved, sizeof saved) != LIGHT_OK)
        light_trainer_fail(t, light_error_status(), "%s", light_error_message());
    return saved;
}

static light_status save(model_checkpoint *m, light_trainer *t, bool only_last)
{
    double score;
    light_status status = find_score(m, t, &score);
    if (status != LIGHT_OK && !only_last) {
        /* Training may end before the first validation; that is no reason to lose it. */
        if (m->validated || !light_trainer_has_validation(t)) return status;
        light_message(LIGHT_MESSAGE_WARNING, "%s", light_error_message());
        only_last = true;
    }
    decision d = {.top = !only_last && joins_top(m, score),
                  .last = only_last || m->options.save_last == LIGHT_ON};
    m->last_time = light_now();
    LIGHT_TRY(decide(m, t, &d));
    if (!d.top && !d.last) return LIGHT_OK;
    char *path = light_strdup(d.path);
    if (!path) return LIGHT_ERR_MEMORY;
    kept *k = add_kept(m, path);
    if (!k) {
        light_free(path);
        return LIGHT_ERR_MEMORY;
    }
    k->score = score;
    k->top = d.top;
    k->last = d.last;
    m->last_step = light_trainer_global_step(t);
    return m->options.save_weights_only ? light_trainer_save_weights(t, path)
                                        : light_trainer_save_checkpoint(t, path);
}

static void try_to_save(model_checkpoint *m, light_trainer *t)
{
    m->deferred = false;
    if (is_saved(m, t)) return;
    light_status status = save(m, t, false);
    if (status != LIGHT_OK) light_trainer_fail_at_rest(t, status, "%s", light_error_message());
}

static bool same_folder(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Removes what is neither among the best nor the newest. The one that the run went on from stays. */
static void sweep(model_checkpoint *m, light_trainer *t)
{
    for (size_t i = 0; i < m->n;) {
        kept *k = &m->kept[i];
        if (k->top || k->last || !k->written) {
            i++;
            continue;
        }
        if (light_trainer_global_rank(t) == 0 && !same_folder(k->path, light_trainer_ckpt_path(t)) &&
            light_checkpoint_remove(k->path) != LIGHT_OK)
            light_message(LIGHT_MESSAGE_WARNING, "old checkpoint: %s", light_error_message());
        drop_kept(m, i);
    }
}

/* Only now do older ones lose their places: had the save failed, they would still be needed. */
static void on_checkpoint_written(light_callback *self, light_trainer *t, const char *path,
                                  light_status status)
{
    model_checkpoint *m = (model_checkpoint *)self;
    size_t at = 0;
    while (at < m->n && strcmp(m->kept[at].path, path)) at++;
    if (at == m->n) return;
    if (status != LIGHT_OK) {
        drop_kept(m, at);
        m->last_step = -1;
        return;
    }
    m->kept[at].written = true;
    if (m->options.verbose) light_message(LIGHT_MESSAGE_INFO, "checkpoint written: %s", path);
    settle(m);
    bool first = light_trainer_global_rank(t) == 0;
    if (first && m->kept[at].last) set_link(m, "last", path);
    if (first && m->best_path && !strcmp(m->best_path, path)) set_link(m, "best", path);
    sweep(m, t);
}

/* ---- moments ------------------------------------------------------------ */

static light_status setup(light_callback *self, light_trainer *t, light_stage stage)
{
    model_checkpoint *m = (model_checkpoint *)self;
    const light_model_checkpoint_options *o = &m->options;
    if (stage != LIGHT_STAGE_FIT) return LIGHT_OK;
    if ((o->every_n_train_steps > 0) + (o->every_n_epochs > 0) + (o->train_time_interval > 0) > 1)
        return light_fail(LIGHT_ERR_ARGUMENT,
                          "every_n_train_steps, every_n_epochs and train_time_interval exclude each other");
    if (o->every_n_train_steps < 0 || o->every_n_epochs < 0 || o->train_time_interval < 0 ||
        o->save_top_k < -1)
        return light_fail(LIGHT_ERR_ARGUMENT, "a trigger is negative, or save_top_k below -1");
    if (!o->filename[0] || strchr(o->filename, '/'))
        return light_fail(LIGHT_ERR_ARGUMENT,
                          "filename \"%s\": a name without slashes is needed; dirpath is the folder",
                          o->filename);
    if (!o->dirpath[0] && !light_trainer_log_dir(t)[0])
        return light_fail(LIGHT_ERR_ARGUMENT, "dirpath is not set, and this run has no folder of its own");
    light_free(m->folder);
    m->folder =
        o->dirpath[0] ? light_strdup(o->dirpath) : light_path_join(light_trainer_log_dir(t), "checkpoints");
    if (!m->folder) return LIGHT_ERR_MEMORY;
    if (light_trainer_global_rank(t) == 0) {
        LIGHT_TRY(light_make_directories(m->folder));
        LIGHT_TRY(light_checkpoint_clean(m->folder));
    }
    while (m->n) drop_kept(m, m->n - 1);
    light_free(m->best_path);
    m->best_path = NULL;
    m->last_step = -1;
    m->last_time = light_now();
    m->deferred = m->validated = false;
    return LIGHT_OK;
}

static bool by_epoch(const model_checkpoint *m, const light_trainer *t)
{
    const light_model_checkpoint_options *o = &m->options;
    if (o->every_n_train_steps > 0 || o->train_time_interval > 0) return false;
    int64_t every = o->every_n_epochs > 0 ? o->every_n_epochs : 1;
    return (light_trainer_current_epoch(t) + 1) % every == 0;
}

/* With one validation at the end of each epoch the epoch's end is the place; with others in between, theirs. */
static bool at_epoch_end(const light_trainer *t)
{
    const light_trainer_options *o = light_trainer_get_options(t);
    return !light_trainer_has_validation(t) ||
           (o->check_val_every_n_epoch == 1 && !strcmp(o->val_check_interval, "1.0"));
}

/* By rank 0's clock. */
static bool interval_has_passed(const model_checkpoint *m, light_trainer *t)
{
    bool passed = light_now() - m->last_time >= m->options.train_time_interval;
    if (light_trainer_broadcast(t, &passed, sizeof passed) != LIGHT_OK)
        light_trainer_fail(t, light_error_status(), "%s", light_error_message());
    return passed;
}

static void on_train_batch_end(light_callback *self, light_trainer *t, const light_batch *batch)
{
    model_checkpoint *m = (model_checkpoint *)self;
    const light_model_checkpoint_options *o = &m->options;
    int64_t step = light_trainer_global_step(t);
    (void)batch;
    if (!(o->train_time_interval > 0
              ? interval_has_passed(m, t)
              : o->every_n_train_steps > 0 && step > 0 && step % o->every_n_train_steps == 0))
        return;
    if (is_saved(m, t)) return;
    double value;
    const char *monitor = m->options.monitor;
    bool missing = monitor[0] && strcmp(monitor, "auto") && !light_trainer_monitor(t, monitor, &value);
    if ((missing && !m->validated && light_trainer_has_validation(t)) ||
        (monitor[0] && light_trainer_validates_next(t)))
        m->deferred = true;
    else
        try_to_save(m, t);
}

static void on_validation_end(light_callback *self, light_trainer *t)
{
    model_checkpoint *m = (model_checkpoint *)self;
    if (light_trainer_run_stage(t) != LIGHT_STAGE_FIT || light_trainer_sanity_checking(t)) return;
    m->validated = true;
    if (m->deferred || (by_epoch(m, t) && !at_epoch_end(t))) try_to_save(m, t);
}

static void on_train_epoch_end(light_callback *self, light_trainer *t)
{
    model_checkpoint *m = (model_checkpoint *)self;
    if (at_epoch_end(t) && by_epoch(m, t)) try_to_save(m, t);
}

/* Training may end between two saves: the newest state is kept all the same. */
static void on_train_end(light_callback *self, light_trainer *t)
{
    model_checkpoint *m = (model_checkpoint *)self;
    if (m->options.save_last != LIGHT_ON || is_saved(m, t)) return;
    light_status status = save(m, t, true);
    if (status != LIGHT_OK) light_trainer_fail(t, status, "%s", light_error_message());
}

/* Ctrl-C, or a metric that is not there: what has been done since the last save is not lost. */
static void on_exception(light_callback *self, light_trainer *t, light_status status)
{
    model_checkpoint *m = (model_checkpoint *)self;
    (void)status;
    if (!light_trainer_at_rest(t) || light_trainer_run_stage(t) != LIGHT_STAGE_FIT || !m->folder ||
        m->options.save_on_exception != LIGHT_ON || is_saved(m, t))
        return;
    if (save(m, t, true) != LIGHT_OK)
        light_message(LIGHT_MESSAGE_WARNING, "no checkpoint of the run that ends here: %s",
                      light_error_message());
}

static const char *checkpoint_folder(light_callback *self, light_trainer *t)
{
    const model_checkpoint *m = (const model_checkpoint *)self;
    (void)t;
    return m->folder ? m->folder : m->options.dirpath;
}

static void free_checkpoint(light_callback *self)
{
    model_checkpoint *m = (model_checkpoint *)self;
    while (m->n) drop_kept(m, m->n - 1);
    light_free(m->kept);
    light_free(m->folder);
    light_free(m->best_path);
}

/* ---- state -------------------------------------------------------------- */

static light_status save_state(light_callback *self, light_state *state)
{
    const model_checkpoint *m = (const model_checkpoint *)self;
    LIGHT_TRY(light_state_put(state, "last_step", m->last_step));
    LIGHT_TRY(light_state_put(state, "deferred", m->deferred));
    light_state *list = light_state_group(state, "kept");
    if (!list) return LIGHT_ERR_MEMORY;
    LIGHT_TRY(light_state_put(list, "count", (int64_t)m->n));
    for (size_t i = 0; i < m->n; i++) {
        char name[24];
        snprintf(name, sizeof name, "%zu", i);
        light_state *group = light_state_group(list, name);
        if (!group) return LIGHT_ERR_MEMORY;
        LIGHT_TRY(light_state_put(group, "name", (const char *)strrchr(m->kept[i].path, '/') + 1));
        LIGHT_TRY(light_state_put(group, "score", m->kept[i].score));
        LIGHT_TRY(light_state_put(group, "top", m->kept[i].top));
        LIGHT_TRY(light_state_put(group, "last", m->kept[i].last));
    }
    return LIGHT_OK;
}

static light_status load_kept(model_checkpoint *m, const light_state *group)
{
    const char *name;
    LIGHT_TRY(light_state_get(group, "name", &name));
    char *path = light_path_join(m->folder, name);
    if (!path) return LIGHT_ERR_MEMORY;
    if (!light_directory_exists(path)) { /* removed meanwhile, or this run saves elsewhere */
        light_free(path);
        return LIGHT_OK;
    }
    kept *k = add_kept(m, path);
    if (!k) {
        light_free(path);
        return LIGHT_ERR_MEMORY;
    }
    k->written = true;
    LIGHT_TRY(light_state_get(group, "score", &k->score));
    LIGHT_TRY(light_state_get(group, "top", &k->top));
    return light_state_get(group, "last", &k->last);
}

static light_status load_state(light_callback *self, const light_state *state)
{
    model_checkpoint *m = (model_checkpoint *)self;
    const light_state *list = light_state_find_group(state, "kept");
    int64_t count = 0;
    if (!m->folder) return LIGHT_OK; /* not training: nothing is saved */
    LIGHT_TRY(light_state_get(state, "last_step", &m->last_step));
    LIGHT_TRY(light_state_get(state, "deferred", &m->deferred));
    if (list) LIGHT_TRY(light_state_get(list, "count", &count));
    for (int64_t i = 0; i < count; i++) {
        char name[24];
        snprintf(name, sizeof name, "%lld", (long long)i);
        const light_state *group = light_state_find_group(list, name);
        if (group) LIGHT_TRY(load_kept(m, group));
    }
    settle(m); /* the checkpoint that this comes from is on disk now */
    return LIGHT_OK;
}

const light_callback_vtable light_model_checkpoint_vtable = {
    LIGHT_CALLBACK(model_checkpoint),
    .options = options,
    .watches_metrics = true,
    .writes_checkpoints = true,
    .free = free_checkpoint,
    .setup = setup,
    .on_train_batch_end = on_train_batch_end,
    .on_validation_end = on_validation_end,
    .on_train_epoch_end = on_train_epoch_end,
    .on_train_end = on_train_end,
    .on_exception = on_exception,
    .on_checkpoint_written = on_checkpoint_written,
    .checkpoint_folder = checkpoint_folder,
    .save_state = save_state,
    .load_state = load_state,
};

light_callback *light_model_checkpoint_with(const light_model_checkpoint_options *given)
{
    light_callback *callback = light_callback_new(&light_model_checkpoint_vtable);
    if (callback) light_options_merge(options, callback, given, offsetof(model_checkpoint, options));
    return callback;
}

const char *light_model_checkpoint_best_path(const light_callback *callback)
{
    const model_checkpoint *m = (const model_checkpoint *)callback;
    return m->best_path ? m->best_path : "";
}
