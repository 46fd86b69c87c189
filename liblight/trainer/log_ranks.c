/* SPDX-License-Identifier: Apache-2.0 */
/* What several ranks have logged, brought together: one small gather, whose parts every rank then reads in the same order,
 * so that all have the same names and the same doubles.
 *
 * Ranks may have logged different names: one that has had no batch, none at all. So a part names what it holds, and ranks do
 * not have to agree on anything before. The sums in it are exact (base/exact.h): their bits do not depend on how many
 * ranks shared the batches. */
#include "trainer/trainer.h"

#include "base/memory.h"
#include "base/string.h"

#include <math.h>
#include <string.h>

/* One name in a part; the name itself stands behind it. */
typedef struct record {
    int64_t name_bytes;
    int64_t dataloader_idx;
    light_log_options options;
    light_exact_sum sum;
    double weight, extreme;
    bool of_epoch;
} record;

/* ---- this rank's part ------------------------------------------------------ */

static void append(light_string *out, const light_logged *l)
{
    record r;
    memset(&r, 0, sizeof r); /* with what lies between the members */
    r.name_bytes = (int64_t)strlen(l->name);
    r.dataloader_idx = l->dataloader_idx;
    r.options = l->options;
    r.sum = *l->exact;
    r.weight = l->weight;
    r.extreme = l->extreme;
    r.of_epoch = l->of_epoch;
    light_string_append_bytes(out, (const char *)&r, sizeof r);
    light_string_append_bytes(out, l->name, (size_t)r.name_bytes);
}

/* The epoch so far. */
static void append_epoch(const light_metrics *m, int which, light_string *out)
{
    for (int i = 0; i < m->n_logged[which]; i++)
        if (m->logged[which][i].has_epoch) append(out, &m->logged[which][i]);
}

/* The last step, of the names that ask for it. */
static void append_step(const light_trainer *t, light_string *out)
{
    for (int i = 0; i < t->metrics.n_logged[0]; i++) {
        const light_logged *l = &t->metrics.logged[0][i];
        light_exact_sum exact = {0};
        if (l->step_metric < 0 || l->options.sync_dist != LIGHT_ON || l->last_step != t->step->serial)
            continue;
        light_logged one = *l;
        one.exact = &exact;
        one.weight = 0;
        one.extreme = l->options.reduce_fx == LIGHT_FX_MIN ? (double)INFINITY : -(double)INFINITY;
        light_logged_add(&one, l->step_value, l->step_weight);
        append(out, &one);
    }
}

/* ---- all of them ------------------------------------------------------------- */

void light_merged_free(light_merged *m)
{
    for (int i = 0; i < m->n; i++) {
        light_free(m->logged[i].name);
        light_free(m->logged[i].exact);
    }
    light_free(m->logged);
    light_free(m->ranks);
    *m = (light_merged){0};
}

static light_logged *find(const light_merged *m, const char *name, size_t bytes, int idx)
{
    for (int i = 0; i < m->n; i++) {
        const light_logged *l = &m->logged[i];
        if (l->dataloader_idx == idx && strlen(l->name) == bytes && !memcmp(l->name, name, bytes))
            return &m->logged[i];
    }
    return NULL;
}

static light_status add_new(light_merged *m, const record *r, const char *name, int rank)
{
    light_logged *logged = light_realloc(m->logged, ((size_t)m->n + 1) * sizeof *logged);
    if (!logged) return LIGHT_ERR_MEMORY;
    m->logged = logged;
    int *ranks = light_realloc(m->ranks, ((size_t)m->n + 1) * sizeof *ranks);
    if (!ranks) return LIGHT_ERR_MEMORY;
    m->ranks = ranks;
    light_logged *l = &logged[m->n];
    *l = (light_logged){.name = light_strndup(name, (size_t)r->name_bytes),
                        .options = r->options,
                        .dataloader_idx = (int)r->dataloader_idx,
                        .exact = light_alloc(sizeof r->sum),
                        .weight = r->weight,
                        .extreme = r->extreme,
                        .has_epoch = true,
                        .of_epoch = r->of_epoch};
    ranks[m->n++] = rank;
    if (!l->name || !l->exact) return LIGHT_ERR_MEMORY;
    *l->exact = r->sum;
    return LIGHT_OK;
}

static const char *fx_name(light_reduce_fx fx)
{
    static const char *const names[] = {"mean", "sum", "min", "max"};
    return names[fx];
}

/* One more rank's values of a name that another has logged too. */
static light_status add_known(light_logged *l, const record *r, int first, int rank)
{
    if (l->options.reduce_fx != r->options.reduce_fx || l->options.sync_dist != r->options.sync_dist ||
        l->options.on_step != r->options.on_step)
        return light_fail(
            LIGHT_ERR_ARGUMENT,
            "light_log(\"%s\"): rank %d logs it with reduce_fx %s, on_step %s, sync_dist %s; rank "
            "%d with reduce_fx %s, on_step %s, sync_dist %s",
            l->name, rank, fx_name(r->options.reduce_fx), r->options.on_step == LIGHT_ON ? "on" : "off",
            r->options.sync_dist == LIGHT_OFF ? "off" : "on", first, fx_name(l->options.reduce_fx),
            l->options.on_step == LIGHT_ON ? "on" : "off", l->options.sync_dist == LIGHT_OFF ? "off" : "on");
    /* All have logged the same at the epoch's end: their mean is that, without rounding it anew. */
    if (l->of_epoch && r->of_epoch && r->options.reduce_fx == LIGHT_FX_MEAN && r->weight == l->weight &&
        light_exact_value(r->sum.limbs) == light_exact_value(l->exact->limbs))
        return LIGHT_OK;
    light_exact_sum_merge(l->exact, r->sum);
    l->weight += r->weight;
    bool beats = l->options.reduce_fx == LIGHT_FX_MIN ? r->extreme < l->extreme : r->extreme > l->extreme;
    if (beats || isnan(r->extreme)) l->extreme = r->extreme;
    return LIGHT_OK;
}

static light_status add_part(light_merged *m, const char *part, size_t bytes, int rank, bool own)
{
    for (size_t at = 0; at + sizeof(record) <= bytes;) {
        record r;
        memcpy(&r, part + at, sizeof r);
        const char *name = part + at + sizeof r;
        at += sizeof r + (size_t)r.name_bytes;
        if (!own && r.options.sync_dist == LIGHT_OFF) continue;
        light_logged *l = find(m, name, (size_t)r.name_bytes, (int)r.dataloader_idx);
        LIGHT_TRY(l ? add_known(l, &r, m->ranks[l - m->logged], rank) : add_new(m, &r, name, rank));
    }
    return LIGHT_OK;
}

/* The parts of all ranks, one after the other. */
static light_status merge(light_trainer *t, light_string *part, light_merged *out)
{
    int size = t->strategy->size, rank = t->strategy->rank;
    size_t *sizes = light_calloc((size_t)size, sizeof *sizes);
    char *all = NULL;
    *out = (light_merged){0};
    light_status status = sizes && !part->failed ? LIGHT_OK : LIGHT_ERR_MEMORY;
    if (status == LIGHT_OK && size == 1) {
        sizes[0] = part->length;
    } else if (status == LIGHT_OK) {
        status = light_gather_bytes(t->strategy->host, light_string_text(part), part->length, &all, sizes,
                                    "logged values");
    }
    const char *at = size == 1 ? light_string_text(part) : all;
    for (int r = 0; status == LIGHT_OK && r < size; at += sizes[r++])
        status = add_part(out, at, sizes[r], r, r == rank);
    light_free(all);
    light_free(sizes);
    light_string_free(part);
    if (status != LIGHT_OK) light_merged_free(out);
    return status;
}

light_status light_merge_epoch(light_trainer *t, int which, light_merged *out)
{
    light_string part = {0};
    append_epoch(&t->metrics, which, &part);
    return merge(t, &part, out);
}

light_status light_metrics_sync_step(light_trainer *t)
{
    light_string part = {0};
    light_merged merged;
    if (light_trainer_world_size(t) == 1) return LIGHT_OK;
    LIGHT_TRY(light_metrics_settle(t, true));
    append_step(t, &part);
    LIGHT_TRY(merge(t, &part, &merged));
    for (int i = 0; i < merged.n; i++)
        light_logged_take_step(t, &merged.logged[i], light_logged_value(&merged.logged[i]));
    light_merged_free(&merged);
    return LIGHT_OK;
}
