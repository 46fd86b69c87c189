/* SPDX-License-Identifier: Apache-2.0 */
/* Schedules that are formulas of t. optim.h has the formulas; the numbers are those of torch.optim.lr_scheduler. */
#include "optim/schedule.h"

#include "base/default.h"

static const double pi = 3.14159265358979323846;

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* From `from` to `to`, along half a cosine wave or straight; share 0 to 1. */
static double anneal(double from, double to, double share, bool straight)
{
    return straight ? (to - from) * share + from : to + (from - to) / 2 * (1 + cos(pi * share));
}

/* ---- step, multi_step, exponential -------------------------------------- */

static light_status step_at(const light_schedule *s, int64_t t, double base, light_schedule_value *out)
{
    out->lr = base * pow(s->options.step.gamma, (double)(t / s->options.step.step_size));
    return LIGHT_OK;
}

static const light_schedule_class step_class = {
    .name = "step",
    .interval = LIGHT_INTERVAL_EPOCH,
    .at = step_at,
};

light_schedule *light_step_schedule_with(const light_step_schedule_options *o)
{
    light_schedule *s = light_schedule_new(&step_class, o->interval, o->frequency, 0);
    if (s->failure) return s;
    s->options.step = *o;
    s->options.step.gamma = light_or_default(o->gamma, 0.1);
    if (o->step_size < 1)
        light_schedule_refuse(s, "step_size is %lld; it must be at least 1", (long long)o->step_size);
    return s;
}

static light_status multi_step_at(const light_schedule *s, int64_t t, double base, light_schedule_value *out)
{
    const light_multi_step_schedule_options *o = &s->options.multi_step;
    int passed = 0;
    while (passed < 32 && o->milestones[passed] > 0 && o->milestones[passed] <= t) passed++;
    out->lr = base * pow(o->gamma, passed);
    return LIGHT_OK;
}

static const light_schedule_class multi_step_class = {
    .name = "multi_step",
    .interval = LIGHT_INTERVAL_EPOCH,
    .at = multi_step_at,
};

light_schedule *light_multi_step_schedule_with(const light_multi_step_schedule_options *o)
{
    light_schedule *s = light_schedule_new(&multi_step_class, o->interval, o->frequency, 0);
    if (s->failure) return s;
    s->options.multi_step = *o;
    s->options.multi_step.gamma = light_or_default(o->gamma, 0.1);
    if (o->milestones[0] < 1) light_schedule_refuse(s, "it needs milestones, from 1 on");
    for (int i = 1; i < 32 && o->milestones[i]; i++)
        if (o->milestones[i] < o->milestones[i - 1])
            light_schedule_refuse(s, "milestone %lld stands behind %lld; they must rise",
                                  (long long)o->milestones[i], (long long)o->milestones[i - 1]);
    return s;
}

static light_status exponential_at(const light_schedule *s, int64_t t, double base, light_schedule_value *out)
{
    out->lr = base * pow(s->options.exponential.gamma, (double)t);
    return LIGHT_OK;
}

static const light_schedule_class exponential_class = {
    .name = "exponential",
    .interval = LIGHT_INTERVAL_EPOCH,
    .at = exponential_at,
};

light_schedule *light_exponential_schedule_with(const light_exponential_schedule_options *o)
{
    light_schedule *s = light_schedule_new(&exponential_class, o->interval, o->frequency, 0);
    if (s->failure) return s;
    s->options.exponential = *o;
    if (!(o->gamma > 0)) light_schedule_refuse(s, "gamma is %g; it must be above 0", o->gamma);
    return s;
}

/* ---- linear, polynomial ------------------------------------------------- */

static light_status linear_at(const light_schedule *s, int64_t t, double base, light_schedule_value *out)
{
    const light_linear_schedule_options *o = &s->options.linear;
    double share = (double)least(t, s->total) / (double)s->total;
    out->lr = base * (o->start_factor + (o->end_factor - o->start_factor) * share);
    return LIGHT_OK;
}

static const light_schedule_class linear_class = {
    .name = "linear",
    .interval = LIGHT_INTERVAL_STEP,
    .needs_total = true,
    .at = linear_at,
};

light_schedule *light_linear_schedule_with(const light_linear_schedule_options *o)
{
    light_schedule *s = light_schedule_new(&linear_class, o->interval, o->frequency, o->total_steps);
    if (s->failure) return s;
    s->options.linear = *o;
    s->options.linear.start_factor = light_or_default(o->start_factor, 1.0 / 3);
    s->options.linear.end_factor = light_or_default(o->end_factor, 1);
    if (o->start_factor < 0 || o->end_factor < 0) light_schedule_refuse(s, "a factor is below 0");
    return s;
}

static light_status polynomial_at(const light_schedule *s, int64_t t, double base, light_schedule_value *out)
{
    out->lr = base * pow(1 - (double)least(t, s->total) / (double)s->total, s->options.polynomial.power);
    return LIGHT_OK;
}

static const light_schedule_class polynomial_class = {
    .name = "polynomial",
    .interval = LIGHT_INTERVAL_STEP,
    .needs_total = true,
    .at = polynomial_at,
};

light_schedule *light_polynomial_schedule_with(const light_polynomial_schedule_options *o)
{
    light_schedule *s = light_schedule_new(&polynomial_class, o->interval, o->frequency, o->total_steps);
    if (s->failure) return s;
    s->options.polynomial = *o;
    s->options.polynomial.power = light_or_default(o->power, 1);
    if (o->power < 0) light_schedule_refuse(s, "power is %g; it must be 0 or more", o->power);
    return s;
}

/* ---- cosine, with and without restarts ---------------------------------- */

static light_status cosine_at(const light_schedule *s, int64_t t, double base, light_schedule_value *out)
{
    const light_cosine_schedule_options *o = &s->options.cosine;
    if (t < o->warmup_steps) {
        double share = (double)t / (double)o->warmup_steps;
        out->lr = base * (o->warmup_start_factor + (1 - o->warmup_start_factor) * share);
        return LIGHT_OK;
    }
    int64_t period = s->total > o->warmup_steps ? s->total - o->warmup_steps : 1;
    out->lr = anneal(base, o->eta_min, (double)(t - o->warmup_steps) / (double)period, false);
    return LIGHT_OK;
}

static const light_schedule_class cosine_class = {
    .name = "cosine",
    .interval = LIGHT_INTERVAL_STEP,
    .needs_total = true,
    .at = cosine_at,
};

light_schedule *light_cosine_schedule_with(const light_cosine_schedule_options *o)
{
    light_schedule *s = light_schedule_new(&cosine_class, o->interval, o->frequency, o->total_steps);
    if (s->failure) return s;
    s->options.cosine = *o;
    s->options.cosine.warmup_start_factor =
        light_or_default(o->warmup_start_factor, 1.0 / (double)(o->warmup_steps + 1));
    if (o->warmup_steps < 0) light_schedule_refuse(s, "warmup_steps is %lld", (long long)o->warmup_steps);
    if (o->eta_min < 0) light_schedule_refuse(s, "eta_min is %g; it must be 0 or more", o->eta_min);
    if (o->warmup_start_factor < 0)
        light_schedule_refuse(s, "warmup_start_factor is %g", o->warmup_start_factor);
    return s;
}

static light_status restarts_at(const light_schedule *s, int64_t t, double base, light_schedule_value *out)
{
    const light_cosine_restarts_schedule_options *o = &s->options.restarts;
    int64_t period = o->t_0;
    if (o->t_mult == 1) t %= period;
    for (; t >= period; period *= o->t_mult) t -= period;
    out->lr = anneal(base, o->eta_min, (double)t / (double)period, false);
    return LIGHT_OK;
}

static const light_schedule_class restarts_class = {
    .name = "cosine_restarts",
    .interval = LIGHT_INTERVAL_EPOCH,
    .at = restarts_at,
};

light_schedule *light_cosine_restarts_schedule_with(const light_cosine_restarts_schedule_options *o)
{
    light_schedule *s = light_schedule_new(&restarts_class, o->interval, o->frequency, 0);
    if (s->failure) return s;
    s->options.restarts = *o;
    s->options.restarts.t_mult = light_int_or_default(o->t_mult, 1);
    if (o->t_0 < 1) light_schedule_refuse(s, "t_0 is %lld; it must be at least 1", (long long)o->t_0);
    if (o->t_mult < 0)
        light_schedule_refuse(s, "t_mult is %lld; it must be at least 1", (long long)o->t_mult);
    if (o->eta_min < 0) light_schedule_refuse(s, "eta_min is %g; it must be 0 or more", o->eta_min);
    return s;
}

/* ---- one cycle ---------------------------------------------------------- */

typedef struct phase {
    double end; /* t at its end; PyTorch's are fractions */
    double lr_from, lr_to, momentum_from, momentum_to;
} phase;

static int phases_of(const light_schedule *s, double base, phase out[3])
{
    const light_one_cycle_schedule_options *o = &s->options.one_cycle;
    double total = (double)s->total, high = light_or_default(o->max_lr, base);
    double start = high / o->div_factor, last = start / o->final_div_factor;
    double slow = o->base_momentum, fast = o->max_momentum;
    out[0] = (phase){o->pct_start * total - 1, start, high, fast, slow};
    if (!o->three_phase) {
        out[1] = (phase){total - 1, high, last, slow, fast};
        return 2;
    }
    out[1] = (phase){2 * o->pct_start * total - 2, high, start, slow, fast};
    out[2] = (phase){total - 1, start, last, fast, fast};
    return 3;
}

static light_status one_cycle_at(const light_schedule *s, int64_t t, double base, light_schedule_value *out)
{
    const light_one_cycle_schedule_options *o = &s->options.one_cycle;
    if (t > s->total)
        return light_fail(LIGHT_ERR_STATE, "one_cycle schedule: step %lld; the cycle has %lld steps",
                          (long long)t, (long long)s->total);
    phase phases[3];
    int n = phases_of(s, base, phases), i = 0;
    double begin = 0;
    while (i + 1 < n && (double)t > phases[i].end) begin = phases[i++].end;
    const phase *p = &phases[i];
    double share = p->end > begin ? ((double)t - begin) / (p->end - begin) : 1;
    out->lr = anneal(p->lr_from, p->lr_to, share, o->linear);
    if (o->cycle_momentum != LIGHT_OFF)
        out->momentum = anneal(p->momentum_from, p->momentum_to, share, o->linear);
    return LIGHT_OK;
}

static const light_schedule_class one_cycle_class = {
    .name = "one_cycle",
    .interval = LIGHT_INTERVAL_STEP,
    .needs_total = true,
    .at = one_cycle_at,
};

light_schedule *light_one_cycle_schedule_with(const light_one_cycle_schedule_options *o)
{
    light_schedule *s = light_schedule_new(&one_cycle_class, o->interval, o->frequency, o->total_steps);
    if (s->failure) return s;
    light_one_cycle_schedule_options *own = &s->options.one_cycle;
    *own = *o;
    own->pct_start = light_or_default(o->pct_start, 0.3);
    own->div_factor = light_or_default(o->div_factor, 25);
    own->final_div_factor = light_or_default(o->final_div_factor, 1e4);
    own->base_momentum = light_or_default(o->base_momentum, 0.85);
    own->max_momentum = light_or_default(o->max_momentum, 0.95);
    if (!(own->pct_start >= 0 && own->pct_start <= 1))
        light_schedule_refuse(s, "pct_start is %g; it must lie between 0 and 1", o->pct_start);
    if (!(own->div_factor > 0) || !(own->final_div_factor > 0))
        light_schedule_refuse(s, "a factor is not above 0");
    return s;
}

/* ---- function ----------------------------------------------------------- */

static light_status function_at(const light_schedule *s, int64_t t, double base, light_schedule_value *out)
{
    out->lr = base * s->options.function.function(t, s->options.function.user);
    if (out->lr >= 0 && !isinf(out->lr)) return LIGHT_OK;
    return light_fail(LIGHT_ERR_USER, "function schedule: the learning rate at step %lld would be %g",
                      (long long)t, out->lr);
}

static const light_schedule_class function_class = {
    .name = "function",
    .interval = LIGHT_INTERVAL_EPOCH,
    .at = function_at,
};

light_schedule *light_function_schedule_with(const light_function_schedule_options *o)
{
    light_schedule *s = light_schedule_new(&function_class, o->interval, o->frequency, 0);
    if (s->failure) return s;
    s->options.function = *o;
    if (!o->function) light_schedule_refuse(s, "it needs a function");
    return s;
}
