/* SPDX-License-Identifier: Apache-2.0 */
/* light_module_to: parameters, gradients, buffers and 16-bit copies go to another device and back. */
#include "autograd/step.h"
#include "base/memory.h"
#include "nn/flat.h"
#include "tensor/device.h"

#include <light/light.h>

#include <string.h>

#include "support/tensors.h"

enum { IN = 5, OUT = 3, BATCH = 4 };

typedef struct net {
    light_module base;
    light_linear first;
    light_batch_norm norm; /* has buffers */
    light_tensor *shift, *tied;
} net;

static light_status net_init(light_module *self)
{
    net *m = (net *)self;
    LIGHT_TRY(light_linear_init(&m->first, self, "first", .in_features = IN, .out_features = OUT));
    LIGHT_TRY(light_batch_norm_init(&m->norm, self, "norm", .features = OUT));
    LIGHT_TRY(light_add_parameter(self, &m->shift, "shift", LIGHT_SHAPE(OUT), LIGHT_INIT_UNIFORM(-1, 1)));
    return light_tie_parameter(self, &m->tied, "tied", m->shift);
}

static light_tensor *net_forward(light_module *self, light_step *s, light_tensor *x)
{
    net *m = (net *)self;
    x = light_forward(s, &m->norm.base, light_forward(s, &m->first.base, x));
    return light_add(s, x, m->tied);
}

static const light_module_vtable net_vtable = {LIGHT_MODULE(net), .init = net_init, .forward = net_forward};

static net *m;
static light_device *here, *there; /* there: memory that the host cannot touch, or does not have to */

static int setup(void **state)
{
    (void)state;
    here = test_device();
    if (light_device_get(here->is_host ? "locked" : "cpu", &there) != LIGHT_OK) return -1;
    m = (net *)light_module_new(&net_vtable);
    return m && light_module_build(&m->base, 1) == LIGHT_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    light_module_free(&m->base);
    return 0;
}

/* The squares of what the module gives are the loss, in train mode; its gradients are in the parameters. */
static double train_step(light_device *device)
{
    light_step *s;
    float x[BATCH * IN];
    double loss;
    for (int i = 0; i < BATCH * IN; i++) x[i] = (float)(i * i % 7) / 4;
    assert_light_ok(light_step_new(&s, .device = device, .seed = 1));
    assert_light_ok(light_step_begin(s));
    light_tensor *y = light_forward(s, &m->base, light_from_host(s, LIGHT_SHAPE(BATCH, IN), LIGHT_F32, x));
    light_tensor *of = light_mean(s, light_mul(s, y, y), LIGHT_ALL, false);
    assert_step_ok(s);
    assert_light_ok(light_item(of, &loss));
    assert_light_ok(light_backward(s, of));
    light_step_free(s);
    return loss;
}

enum { MOST = 256 };

/* All that the module has, in the order of the walk: values, and gradients where they are there. */
static int everything(double *to)
{
    int n = 0;
    for (light_parameter *p = light_next_parameter(&m->base, NULL); p;
         p = light_next_parameter(&m->base, p)) {
        read_doubles(p->tensor, to + n);
        n += (int)p->tensor->numel;
        if (!light_grad(p->tensor)) continue;
        read_doubles(light_grad(p->tensor), to + n);
        n += (int)p->tensor->numel;
    }
    assert_true(n <= MOST);
    return n;
}

static void expect_on(const light_device *device)
{
    for (light_parameter *p = light_next_parameter(&m->base, NULL); p;
         p = light_next_parameter(&m->base, p)) {
        assert_ptr_equal(p->tensor->storage->device, device);
        if (p->tensor->grad) assert_ptr_equal(p->tensor->grad->storage->device, device);
    }
    for (int i = 0; i < m->base.flat->n; i++) {
        assert_ptr_equal(m->base.flat->buffers[i].values->device, device);
        assert_ptr_equal(m->base.flat->buffers[i].grads->device, device);
    }
}

static void everything_moves_and_keeps_its_bits(void **state)
{
    double before[MOST], after[MOST];
    (void)state;
    const light_tensor *weight = m->first.weight;
    train_step(here); /* gradients, and statistics in the buffers */
    int n = everything(before);
    light_device *const way[] = {there, here, NULL};
    for (int i = 0; i < 3; i++) { /* NULL: the default device, where it is already */
        assert_light_ok(light_module_to(&m->base, way[i]));
        expect_on(way[i] ? way[i] : here);
        assert_int_equal(everything(after), n);
        assert_memory_equal(before, after, sizeof *before * (size_t)n);
        assert_ptr_equal(m->first.weight, weight);
        assert_ptr_equal(m->tied, m->shift);
    }
}

/* The loss and the gradients are those of the device before, but for rounding: sums of 20 numbers at most. */
static void steps_run_where_it_has_moved(void **state)
{
    double before[MOST], after[MOST];
    (void)state;
    double loss = train_step(here);
    int n = everything(before);
    teardown(NULL);
    assert_int_equal(setup(NULL), 0);
    assert_light_ok(light_module_to(&m->base, there));
    assert_true(nearly(train_step(there), loss, 32 * 0x1p-23));
    assert_int_equal(everything(after), n);
    for (int i = 0; i < n; i++) assert_true(nearly(after[i], before[i], 32 * 0x1p-23));
}

static void copies_in_16_bits_move_too(void **state)
{
    (void)state;
    assert_light_ok(light_flat_lower(m->base.flat, LIGHT_BF16));
    assert_light_ok(light_module_to(&m->base, there));
    const light_tensor *weight = m->first.weight, *low = weight->lowered;
    assert_ptr_equal(low->storage->device, there);
    assert_ptr_equal(low->storage, m->base.flat->buffers[0].lowered.storage);
    assert_int_equal((low->data - (char *)low->storage->data) * 2,
                     weight->data - (char *)weight->storage->data);

    /* A product with the identity shows what it reads: the weight, rounded. */
    light_step *s;
    double identity[IN * IN] = {0}, seen[IN * OUT], values[OUT * IN];
    for (int i = 0; i < IN; i++) identity[i * IN + i] = 1;
    assert_light_ok(light_step_new(&s, .device = there, .seed = 1));
    s->lower = LIGHT_BF16;
    assert_light_ok(light_step_begin(s));
    read_doubles(weight, values);
    light_tensor *x = from_doubles(s, LIGHT_SHAPE(IN, IN), LIGHT_F32, identity);
    read_doubles(light_linear_op(s, x, m->first.weight, NULL), seen);
    for (int i = 0; i < IN; i++)
        for (int o = 0; o < OUT; o++) assert_true(nearly(seen[i * OUT + o], values[o * IN + i], 0x1p-8));
    light_step_free(s);
}

static void an_optimizer_does_not_move(void **state)
{
    (void)state;
    light_optimizer *before = light_adam(light_parameters(&m->base), .lr = 0.1);
    assert_non_null(before);
    assert_light_ok(light_module_to(&m->base, there));
    light_optimizer *after = light_adam(light_parameters(&m->base), .lr = 0.1);
    assert_non_null(after);
    double loss = train_step(there);
    assert_int_equal(light_optimizer_step_now(before, NULL), LIGHT_ERR_STATE);
    const char *said = light_error_message();
    if (!strstr(said, "shift has been moved to") || !strstr(said, "after light_module_to"))
        fail_msg("%s", said);
    assert_light_ok(light_optimizer_step_now(after, NULL));
    assert_true(train_step(there) < loss);
    light_optimizer_free(before);
    light_optimizer_free(after);
}

/* Whichever allocation fails, the module is whole and where it was. */
static void what_fails_leaves_it_where_it_was(void **state)
{
    double before[MOST], after[MOST];
    int failures = 0;
    (void)state;
    train_step(here);
    int n = everything(before);
    for (;; failures++) {
        light_memory_fail_nth(failures + 1);
        light_status status = light_module_to(&m->base, there);
        light_memory_fail_nth(0);
        if (status == LIGHT_OK) break;
        assert_int_equal(status, LIGHT_ERR_MEMORY);
        expect_on(here);
        assert_int_equal(everything(after), n);
        assert_memory_equal(before, after, sizeof *before * (size_t)n);
    }
    assert_true(failures > 4); /* the list, values, gradients, the norm's buffers */
    expect_on(there);
}

static void expect_refused(light_module *module, light_status status, const char *text)
{
    assert_int_equal(light_module_to(module, there), status);
    if (!strstr(light_error_message(), text)) fail_msg("'%s' is not in: %s", text, light_error_message());
}

static void only_built_roots_move(void **state)
{
    (void)state;
    expect_refused(NULL, LIGHT_ERR_ARGUMENT, "no module");
    expect_refused(&m->first.base, LIGHT_ERR_STATE, "first: is part of a tree");
    light_module *unbuilt = light_module_new(&net_vtable);
    expect_refused(unbuilt, LIGHT_ERR_STATE, "net: has not been built");
    light_module_free(unbuilt);
}

int main(void)
{
#define moved(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        moved(everything_moves_and_keeps_its_bits), moved(steps_run_where_it_has_moved),
        moved(copies_in_16_bits_move_too),          moved(an_optimizer_does_not_move),
        moved(what_fails_leaves_it_where_it_was),   moved(only_built_roots_move),
    };
    return cmocka_run_group_tests_name("moving modules", tests, NULL, NULL);
}
