/* SPDX-License-Identifier: Apache-2.0 */
/* Cost of one operation on a tiny tensor with autograd on.
 *
 * op_add_scalar  c = a + b, both scalars that require a gradient, forward only
 * op_add4        the same with 4 elements
 * op_chain       ten times x = x * w, x = x + b on scalars, then backward: seconds per operation
 */
#include "common/bench.h"

#include <string.h>

enum { ADDS = 1000, CHAINS = 50, PAIRS = 10 };

typedef struct {
    light_step *step;
    light_tensor *a, *b, *c;
} tiny;

static light_status new_leaf(light_tensor **out, light_shape shape, float value)
{
    float values[4] = {value, value, value, value};
    LIGHT_TRY(light_tensor_new(out, shape, LIGHT_F32, NULL));
    LIGHT_TRY(light_tensor_write(*out, LIGHT_F32, values, (size_t)light_shape_numel(shape) * sizeof(float)));
    light_set_requires_grad(*out, true);
    return LIGHT_OK;
}

static light_status adds(void *user)
{
    tiny *t = user;
    LIGHT_TRY(light_step_begin(t->step));
    for (int i = 0; i < ADDS; i++) light_add(t->step, t->a, t->b);
    return light_step_status(t->step);
}

static light_status chains(void *user)
{
    tiny *t = user;
    for (int i = 0; i < CHAINS; i++) {
        LIGHT_TRY(light_step_begin(t->step));
        light_tensor *x = t->a;
        for (int k = 0; k < PAIRS; k++) x = light_add(t->step, light_mul(t->step, x, t->b), t->c);
        LIGHT_TRY(light_backward(t->step, x));
        light_grad_zero(t->a);
        light_grad_zero(t->b);
        light_grad_zero(t->c);
    }
    return LIGHT_OK;
}

static light_status measure(tiny *t, bench_run *run)
{
    bool chain = !strcmp(run->name, "op_chain");
    light_shape shape = strcmp(run->name, "op_add4") ? LIGHT_SCALAR : LIGHT_SHAPE(4);
    bench_defaults(run, 20, 200);
    LIGHT_TRY(light_step_new(&t->step, .seed = 1));
    LIGHT_TRY(new_leaf(&t->a, shape, 1.0f));
    LIGHT_TRY(new_leaf(&t->b, shape, 0.5f));
    LIGHT_TRY(new_leaf(&t->c, shape, 0.25f));
    return bench_steps(run, chain ? chains : adds, t, chain ? CHAINS * PAIRS * 2 : ADDS);
}

int main(int argc, char **argv)
{
    const char *const cases[] = {"op_add_scalar", "op_add4", "op_chain", NULL};
    bench_run run = bench_arguments(argc, argv, cases);
    tiny t = {.step = NULL};
    light_status status = measure(&t, &run);
    light_tensor_free(t.a);
    light_tensor_free(t.b);
    light_tensor_free(t.c);
    light_step_free(t.step);
    return bench_exit(status);
}
