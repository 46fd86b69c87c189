/* SPDX-License-Identifier: Apache-2.0 */
/* Logged values that a device has yet to compute: fetched, and taken in when they have arrived or somebody reads
 * metrics, in the order in which they were logged, so that nothing depends on when. */
#include "trainer/trainer.h"

#include <math.h>

/* The value as a backend fetches it: f32 or f64. */
static light_tensor *fetchable(light_step *s, light_tensor *value)
{
    if (value->dtype == LIGHT_F32 || value->dtype == LIGHT_F64) return value;
    light_tensor *wide =
        light_step_tensor(s, (light_spec){.dtype = LIGHT_F32, .shape = light_shape_of(value)});
    if (!wide || LIGHT_RUN(s, COPY, .in = {value}, .out = {wide}) != LIGHT_OK) return NULL;
    return wide;
}

light_status light_arrival_fetch(light_trainer *t, const light_graph_log *log)
{
    light_metrics *m = &t->metrics;
    LIGHT_TRY(light_metrics_settle(t, m->n_arrivals == LIGHT_FETCHES));
    light_arrival *arrival = &m->arrivals[(m->first_arrival + m->n_arrivals) % LIGHT_FETCHES];
    *arrival = log->arrival;
    LIGHT_TRY(t->device->backend->fetch(t->device, log->data, log->dtype, &arrival->ticket));
    m->n_arrivals++;
    return LIGHT_OK;
}

light_status light_arrival_start(light_trainer *t, light_step *s, light_tensor *value, light_arrival arrival)
{
    if (!(value = fetchable(s, value))) return light_step_status(s);
    light_graph_log log = {arrival, value->data, (light_dtype)value->dtype};
    return light_graph_keeps_log(t, &log) ? LIGHT_OK : light_arrival_fetch(t, &log);
}

static void take_in(light_metrics *m, const light_arrival *arrival, double value)
{
    light_logged *l = &m->logged[arrival->which][arrival->logged];
    if (arrival->on_step) {
        l->step_value = value;
        m->entries[l->step_metric].value = value;
        if (l->plain_metric >= 0) m->entries[l->plain_metric].value = value;
    }
    if (arrival->on_epoch) light_logged_add(l, value, arrival->weight);
}

light_status light_metrics_settle(light_trainer *t, bool wait)
{
    light_metrics *m = &t->metrics;
    if (wait && m->n_arrivals)
        LIGHT_TRY(t->device->backend->synchronize(t->device)); /* once for all of them */
    while (m->n_arrivals) {
        const light_arrival *arrival = &m->arrivals[m->first_arrival];
        double value = NAN;
        light_status status = t->device->backend->fetched(t->device, arrival->ticket, wait, &value);
        if (status == LIGHT_ERR_STATE && !wait) return LIGHT_OK; /* on its way */
        m->first_arrival = (m->first_arrival + 1) % LIGHT_FETCHES;
        m->n_arrivals--;
        LIGHT_TRY(status);
        take_in(m, arrival, value);
    }
    return LIGHT_OK;
}
