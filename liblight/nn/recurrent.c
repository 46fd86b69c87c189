/* SPDX-License-Identifier: Apache-2.0 */
/* light_lstm and light_gru. Hochreiter, Schmidhuber 1997; Cho et al. 2014. The input's product is one operation for all
 * time steps; what depends on the step before runs in a loop. */
#include "nn/modules.h"

#include <stdio.h>

/* A module seen by the code that both kinds share. */
typedef struct recurrent {
    light_module *base;
    const light_recurrent_options *options;
    light_recurrent_cell **cells;
    light_tensor ***scratch;
    int64_t *scratch_length;
    int gates;
} recurrent;

static int directions(const light_recurrent_options *o)
{
    return o->bidirectional ? 2 : 1;
}

/* ---- parameters --------------------------------------------------------- */

static light_status add_cell(recurrent *r, light_recurrent_cell *cell, int64_t layer, int direction)
{
    const light_recurrent_options *o = r->options;
    int64_t rows = r->gates * o->hidden_size;
    int64_t in = layer ? directions(o) * o->hidden_size : o->input_size;
    double bound = 1 / sqrt((double)o->hidden_size);
    light_init init = LIGHT_INIT_UNIFORM(-bound, bound);
    char name[64];
    const struct {
        const char *prefix;
        light_tensor **slot;
        light_shape shape;
    } parts[] = {
        {"weight_ih", &cell->weight_ih, LIGHT_SHAPE(rows, in)},
        {"weight_hh", &cell->weight_hh, LIGHT_SHAPE(rows, o->hidden_size)},
        {"bias_ih", &cell->bias_ih, LIGHT_SHAPE(rows)},
        {"bias_hh", &cell->bias_hh, LIGHT_SHAPE(rows)},
    };
    for (int i = 0; i < (o->bias == LIGHT_OFF ? 2 : 4); i++) {
        snprintf(name, sizeof name, "%s_l%lld%s", parts[i].prefix, (long long)layer,
                 direction ? "_reverse" : "");
        LIGHT_TRY(light_add_parameter(r->base, parts[i].slot, name, parts[i].shape, init));
    }
    return LIGHT_OK;
}

static light_status recurrent_init(recurrent *r, light_recurrent_options *o)
{
    o->num_layers = light_int_or_default(o->num_layers, 1);
    LIGHT_TRY(light_nn_positive(r->base, "input_size", o->input_size));
    LIGHT_TRY(light_nn_positive(r->base, "hidden_size", o->hidden_size));
    LIGHT_TRY(light_nn_positive(r->base, "num_layers", o->num_layers));
    LIGHT_TRY(light_nn_probability(r->base, "dropout", o->dropout));
    int n = directions(o);
    *r->cells = light_module_calloc(r->base, (size_t)(o->num_layers * n), sizeof **r->cells);
    if (!*r->cells) return LIGHT_ERR_MEMORY;
    for (int64_t layer = 0; layer < o->num_layers; layer++)
        for (int d = 0; d < n; d++) LIGHT_TRY(add_cell(r, &(*r->cells)[layer * n + d], layer, d));
    return LIGHT_OK;
}

/* ---- one time step: from x W^T + b and the state to the new state -------- */

static bool lstm_cell(light_step *s, const light_recurrent_cell *cell, light_tensor *xw, light_tensor **h,
                      light_tensor **c)
{
    light_tensor *gates[4];
    light_tensor *sum = light_add(s, xw, light_linear_op(s, *h, cell->weight_hh, cell->bias_hh));
    if (!light_split(s, sum, light_dim(*h, 1), 1, gates, 4)) return false;
    light_tensor *kept = light_mul(s, light_sigmoid(s, gates[1]), *c);
    light_tensor *added = light_mul(s, light_sigmoid(s, gates[0]), light_tanh(s, gates[2]));
    *c = light_add(s, kept, added);
    *h = light_mul(s, light_sigmoid(s, gates[3]), light_tanh(s, *c));
    return *h;
}

static bool gru_cell(light_step *s, const light_recurrent_cell *cell, light_tensor *xw, light_tensor **h)
{
    light_tensor *x[3], *y[3];
    light_tensor *hw = light_linear_op(s, *h, cell->weight_hh, cell->bias_hh);
    int64_t size = light_dim(*h, 1);
    if (!light_split(s, xw, size, 1, x, 3) || !light_split(s, hw, size, 1, y, 3)) return false;
    light_tensor *reset = light_sigmoid(s, light_add(s, x[0], y[0]));
    light_tensor *update = light_sigmoid(s, light_add(s, x[1], y[1]));
    light_tensor *fresh = light_tanh(s, light_add(s, x[2], light_mul(s, reset, y[2])));
    *h = light_add(s, fresh, light_mul(s, update, light_sub(s, *h, fresh)));
    return *h;
}

/* ---- all of them -------------------------------------------------------- */

/* Room for `n` outputs; grows by doubling, and lives as long as the module. */
static light_tensor **outputs_for(recurrent *r, int64_t n)
{
    if (n > *r->scratch_length) {
        int64_t length = 2 * n;
        light_tensor **scratch = light_module_calloc(r->base, (size_t)length, sizeof *scratch);
        if (!scratch) return NULL;
        *r->scratch = scratch;
        *r->scratch_length = length;
    }
    return *r->scratch;
}

static light_tensor *first_state(light_step *s, const light_recurrent_options *o, light_tensor *states,
                                 int64_t index, light_tensor *like)
{
    if (states) return light_select(s, states, 0, index);
    return light_zeros(s, LIGHT_SHAPE(light_dim(like, 1), o->hidden_size), light_dtype_of(like));
}

/* x [T, N, in] through one layer in one direction: [T, N, hidden]. *h and *c: the states before and after. */
static light_tensor *run_direction(light_step *s, recurrent *r, const light_recurrent_cell *cell,
                                   light_tensor *x, bool reverse, light_tensor **h, light_tensor **c)
{
    int64_t steps = light_dim(x, 0);
    light_tensor *xw = light_linear_op(s, x, cell->weight_ih, cell->bias_ih);
    if (!xw || !*h) return NULL;
    for (int64_t i = 0; i < steps; i++) {
        int64_t t = reverse ? steps - 1 - i : i;
        light_tensor *now = light_select(s, xw, 0, t);
        if (!(c ? lstm_cell(s, cell, now, h, c) : gru_cell(s, cell, now, h))) return NULL;
        (*r->scratch)[t] = *h;
    }
    return light_stack(s, *r->scratch, (int)steps, 0);
}

static bool check_input(light_step *s, const recurrent *r, light_tensor *x)
{
    char text[256];
    const light_recurrent_options *o = r->options;
    if (light_ndim(x) == 3 && light_dim(x, 2) == o->input_size && light_numel(x) > 0) return true;
    light_step_fail(s, LIGHT_ERR_SHAPE, "%s: input %s must be %s, %lld]", r->base->vtable->name,
                    light_shape_format(light_shape_of(x), text, sizeof text),
                    o->batch_first ? "[N, T" : "[T, N", (long long)o->input_size);
    return false;
}

static bool check_state(light_step *s, const recurrent *r, const char *name, light_tensor *state,
                        int64_t batch)
{
    const light_recurrent_options *o = r->options;
    light_shape want = LIGHT_SHAPE(o->num_layers * directions(o), batch, o->hidden_size);
    if (!state || light_shape_equal(light_shape_of(state), want)) return true;
    char have[256], text[256];
    light_step_fail(s, LIGHT_ERR_SHAPE, "%s: state %s is %s, must be %s", r->base->vtable->name, name,
                    light_shape_format(light_shape_of(state), have, sizeof have),
                    light_shape_format(want, text, sizeof text));
    return false;
}

/* c_first and c_last are NULL for a GRU, which `lstm` says. */
static light_tensor *run(light_step *s, recurrent *r, bool lstm, light_tensor *x, light_tensor *h_first,
                         light_tensor *c_first, light_tensor **h_last, light_tensor **c_last)
{
    const light_recurrent_options *o = r->options;
    if (!check_input(s, r, x)) return NULL;
    if (o->batch_first) x = light_transpose(s, x, 0, 1);
    if (!check_state(s, r, "h", h_first, light_dim(x, 1)) ||
        !check_state(s, r, "c", c_first, light_dim(x, 1)))
        return NULL;
    int n = directions(o);
    int64_t states = o->num_layers * n, steps = light_dim(x, 0);
    if (!outputs_for(r, steps + 2 * states))
        return light_step_fail(s, LIGHT_ERR_MEMORY, "%s: %s", r->base->vtable->name, light_error_message());
    light_tensor **h = *r->scratch + steps, **c = h + states;

    for (int64_t layer = 0; layer < o->num_layers; layer++) {
        light_tensor *parts[2] = {NULL};
        for (int d = 0; d < n; d++) {
            int64_t i = layer * n + d;
            h[i] = first_state(s, o, h_first, i, x);
            c[i] = lstm ? first_state(s, o, c_first, i, x) : NULL;
            parts[d] = run_direction(s, r, &(*r->cells)[i], x, d == 1, &h[i], lstm ? &c[i] : NULL);
            if (!parts[d]) return NULL;
        }
        x = n == 2 ? light_cat(s, parts, 2, 2) : parts[0];
        if (layer + 1 < o->num_layers) x = light_dropout(s, x, o->dropout);
    }
    if (h_last) *h_last = light_stack(s, h, (int)states, 0);
    if (c_last) *c_last = light_stack(s, c, (int)states, 0);
    return o->batch_first ? light_transpose(s, x, 0, 1) : x;
}

/* ---- LSTM --------------------------------------------------------------- */

static recurrent of_lstm(light_lstm *m)
{
    return (recurrent){&m->base, &m->options, &m->cells, &m->scratch, &m->scratch_length, 4};
}

static light_status lstm_init(light_module *self)
{
    recurrent r = of_lstm((light_lstm *)self);
    return recurrent_init(&r, &((light_lstm *)self)->options);
}

light_tensor *light_lstm_forward(light_step *s, light_lstm *module, light_tensor *x, light_tensor *h,
                                 light_tensor *c, light_tensor **h_last, light_tensor **c_last)
{
    light_module_scope scope;
    recurrent r = of_lstm(module);
    if (!x || !light_module_enter(s, &module->base, &scope)) return NULL;
    light_tensor *y = run(s, &r, true, x, h, c, h_last, c_last);
    light_module_leave(s, &scope);
    return y;
}

static light_tensor *lstm_forward(light_module *self, light_step *s, light_tensor *x)
{
    return light_lstm_forward(s, (light_lstm *)self, x, NULL, NULL, NULL, NULL);
}

static const light_module_vtable lstm_vtable = {
    LIGHT_NN_VTABLE(light_lstm, "lstm"),
    .init = lstm_init,
    .forward = lstm_forward,
};

light_status light_lstm_init_with(light_lstm *module, light_module *parent, const char *name,
                                  const light_lstm_options *options)
{
    module->options = *options;
    return light_module_add(&module->base, &lstm_vtable, parent, name);
}

/* ---- GRU ---------------------------------------------------------------- */

static recurrent of_gru(light_gru *m)
{
    return (recurrent){&m->base, &m->options, &m->cells, &m->scratch, &m->scratch_length, 3};
}

static light_status gru_init(light_module *self)
{
    recurrent r = of_gru((light_gru *)self);
    return recurrent_init(&r, &((light_gru *)self)->options);
}

light_tensor *light_gru_forward(light_step *s, light_gru *module, light_tensor *x, light_tensor *h,
                                light_tensor **h_last)
{
    light_module_scope scope;
    recurrent r = of_gru(module);
    if (!x || !light_module_enter(s, &module->base, &scope)) return NULL;
    light_tensor *y = run(s, &r, false, x, h, NULL, h_last, NULL);
    light_module_leave(s, &scope);
    return y;
}

static light_tensor *gru_forward(light_module *self, light_step *s, light_tensor *x)
{
    return light_gru_forward(s, (light_gru *)self, x, NULL, NULL);
}

static const light_module_vtable gru_vtable = {
    LIGHT_NN_VTABLE(light_gru, "gru"),
    .init = gru_init,
    .forward = gru_forward,
};

light_status light_gru_init_with(light_gru *module, light_module *parent, const char *name,
                                 const light_gru_options *options)
{
    module->options = *options;
    return light_module_add(&module->base, &gru_vtable, parent, name);
}
