/* SPDX-License-Identifier: Apache-2.0 */
/* reduce_on_plateau: the one schedule that is no function of t. */
#include "optim/optimizer.h"
#include "optim/schedule.h"

#include "base/default.h"

#include <string.h>

const light_schedule_class light_plateau_class = {
    .name = "reduce_on_plateau",
    .interval = LIGHT_INTERVAL_EPOCH,
};

static bool is_max(const light_reduce_on_plateau_options *o)
{
    return strcmp(o->mode, "max") == 0;
}

light_schedule *light_reduce_on_plateau_with(const light_reduce_on_plateau_options *o)
{
    light_schedule *s = light_schedule_new(&light_plateau_class, o->interval, o->frequency, 0);
    if (s->failure) return s;
    light_reduce_on_plateau_options *own = &s->options.plateau;
    *own = *o;
    own->mode = o->mode ? o->mode : "min";
    own->threshold_mode = o->threshold_mode ? o->threshold_mode : "rel";
    own->factor = light_or_default(o->factor, 0.1);
    own->patience = o->patience == LIGHT_NO_PATIENCE ? 0 : light_int_or_default(o->patience, 10);
    own->threshold = light_or_default(o->threshold, 1e-4);
    own->eps = light_or_default(o->eps, 1e-8);
    if (!is_max(own) && strcmp(own->mode, "min") != 0)
        return light_schedule_refuse(s, "mode is '%s'; it must be min or max", own->mode);
    if (strcmp(own->threshold_mode, "rel") != 0 && strcmp(own->threshold_mode, "abs") != 0)
        return light_schedule_refuse(s, "threshold_mode is '%s'; it must be rel or abs", own->threshold_mode);
    if (!(own->factor >= 0 && own->factor < 1))
        return light_schedule_refuse(s, "factor is %g; it must lie between 0 and 1", own->factor);
    if (own->patience < 0 || own->cooldown < 0 || own->min_lr < 0 || own->threshold < 0)
        return light_schedule_refuse(s, "patience, cooldown, min_lr or threshold is below 0");
    s->best = is_max(own) ? -INFINITY : INFINITY;
    return s;
}

static bool better(const light_schedule *s, double metric)
{
    const light_reduce_on_plateau_options *o = &s->options.plateau;
    bool relative = strcmp(o->threshold_mode, "rel") == 0;
    if (is_max(o)) return metric > (relative ? s->best * (1 + o->threshold) : s->best + o->threshold);
    return metric < (relative ? s->best * (1 - o->threshold) : s->best - o->threshold);
}

light_status light_plateau_advance(light_schedule *s, double metric)
{
    const light_reduce_on_plateau_options *o = &s->options.plateau;
    if (better(s, metric)) {
        s->best = metric;
        s->bad = 0;
    } else {
        s->bad++;
    }
    if (s->cooling > 0) {
        s->cooling--;
        s->bad = 0;
    }
    if (s->bad <= o->patience) return LIGHT_OK;
    s->cooling = o->cooldown;
    s->bad = 0;
    for (int g = 0; g < s->optimizer->n_groups; g++) {
        double old = s->optimizer->groups[g].options.lr;
        double lr = fmax(old * o->factor, o->min_lr);
        if (old - lr > o->eps) s->optimizer->groups[g].options.lr = lr;
    }
    return LIGHT_OK;
}
