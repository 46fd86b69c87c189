/* SPDX-License-Identifier: Apache-2.0 */
/* The 16-bit copies of parameters: operations read them as they are, whoever writes a parameter makes them new, and
 * gradients pass by them into f32. */
#include "autograd/step.h"
#include "nn/flat.h"
#include "optim/optimizer.h"

#include <light/light.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "support/device.h"
#include "support/near.h"

enum { IN = 8, OUT = 4, NUMEL = IN * OUT };

typedef struct net {
    light_module base;
    light_tensor *first, *weight, *bias;
} net;

static light_status net_init(light_module *self)
{
    net *m = (net *)self;
    LIGHT_TRY(light_add_parameter(self, &m->first, "first", LIGHT_SHAPE(3), LIGHT_INIT_UNIFORM(-1, 1)));
    LIGHT_TRY(
        light_add_parameter(self, &m->weight, "weight", LIGHT_SHAPE(OUT, IN), LIGHT_INIT_UNIFORM(-1, 1)));
    return light_add_parameter(self, &m->bias, "bias", LIGHT_SHAPE(OUT), LIGHT_INIT_UNIFORM(-1, 1));
}

static const light_module_vtable net_vtable = {LIGHT_MODULE(net), .init = net_init};
static net *m;
static light_step *s;
static light_dtype lower;

static int setup(void **state)
{
    (void)state;
    lower = LIGHT_BF16;
    m = (net *)light_module_new(&net_vtable);
    if (!m || light_module_build(&m->base, 1) != LIGHT_OK) return -1;
    if (light_flat_lower(m->base.flat, lower) != LIGHT_OK) return -1;
    if (light_step_new(&s, .seed = 1) != LIGHT_OK) return -1;
    s->lower = lower;
    return light_step_begin(s) == LIGHT_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    light_step_free(s);
    light_module_free(&m->base);
    return 0;
}

#define assert_ok(expression) assert_int_equal(expression, LIGHT_OK)

/* The weight as a product reads it: times the identity. */
static void seen_by_products(float to[NUMEL])
{
    float identity[IN * IN] = {0};
    for (int i = 0; i < IN; i++) identity[i * IN + i] = 1;
    light_tensor *x = light_from_host(s, LIGHT_SHAPE(IN, IN), LIGHT_F32, identity);
    light_tensor *y = light_linear_op(s, x, m->weight, NULL);
    assert_ok(light_step_status(s));
    assert_int_equal(light_dtype_of(y), lower);
    assert_ok(light_tensor_read(light_transpose(s, y, 0, 1), LIGHT_F32, to, NUMEL * sizeof *to));
}

/* What it should be: the f32 values rounded. */
static void rounded(float to[NUMEL])
{
    light_tensor *t;
    assert_ok(light_tensor_new(&t, LIGHT_SHAPE(OUT, IN), lower, NULL));
    assert_ok(light_device_copy(test_device(), t, m->weight));
    assert_ok(light_tensor_read(t, LIGHT_F32, to, NUMEL * sizeof *to));
    light_tensor_free(t);
}

static void expect_fresh(void)
{
    float have[NUMEL], want[NUMEL];
    seen_by_products(have);
    rounded(want);
    assert_memory_equal(have, want, sizeof have);
}

static void copies_lie_at_the_same_elements(void **state)
{
    (void)state;
    const light_tensor *all[] = {m->first, m->weight, m->bias};
    for (int i = 0; i < 3; i++) {
        const light_tensor *low = all[i]->lowered;
        assert_int_equal(low->dtype, LIGHT_BF16);
        assert_int_equal((low->data - (char *)low->storage->data) * 2,
                         all[i]->data - (char *)all[i]->storage->data);
        assert_ptr_equal(low->master, all[i]);
    }
}

static void products_read_the_copy_as_it_is(void **state)
{
    float have[NUMEL];
    (void)state;
    expect_fresh();
    assert_ok(light_step_begin(s));
    const uint16_t zeros[NUMEL] = {0}; /* nobody looks at the f32 values */
    device_write(test_device(), m->weight->lowered->data, zeros, sizeof zeros);
    seen_by_products(have);
    for (int i = 0; i < NUMEL; i++) assert_true(have[i] == 0);
}

static void whoever_writes_a_parameter_makes_its_copy_new(void **state)
{
    float values[NUMEL];
    char path[] = "/tmp/light-lowered-XXXXXX";
    (void)state;
    assert_non_null(mkdtemp(path));
    expect_fresh();
    for (int i = 0; i < NUMEL; i++) values[i] = (float)i / 7;
    assert_ok(light_tensor_write(m->weight, LIGHT_F32, values, sizeof values));
    expect_fresh(); /* in the same step */

    char checkpoint[64];
    snprintf(checkpoint, sizeof checkpoint, "%s/c", path);
    assert_ok(light_checkpoint_save_module(&m->base, checkpoint));
    assert_ok(light_step_begin(s));
    assert_ok(light_init_parameter(&m->base, "weight", LIGHT_INIT_NORMAL(0, 1)));
    expect_fresh();

    assert_ok(light_step_begin(s));
    assert_ok(light_checkpoint_load_module(&m->base, checkpoint, true));
    expect_fresh();
    seen_by_products(values);
    assert_near(values[21], 21.0 / 7, 0x1p-8 * 3);

    /* Another parameter of the same buffer. */
    assert_ok(light_step_begin(s));
    assert_ok(light_tensor_write(m->first, LIGHT_F32, values, 3 * sizeof *values));
    expect_fresh();
    assert_ok(light_remove_tree(path));
}

static void an_address_that_is_known_is_written_at_any_time(void **state)
{
    (void)state;
    if (!test_device()->is_host) skip();
    expect_fresh();
    float *at = light_data(m->weight);
    for (int step = 0; step < 3; step++) {
        assert_ok(light_step_begin(s));
        for (int i = 0; i < NUMEL; i++) at[i] = (float)(i + step) / 3;
        expect_fresh();
    }
}

static void an_optimizer_writes_both(void **state)
{
    (void)state;
    light_optimizer *optimizer = light_sgd(light_parameters(&m->base), .lr = 0.3);
    assert_non_null(optimizer);
    for (int step = 0; step < 3; step++) {
        float have[NUMEL], want[NUMEL];
        assert_ok(light_step_begin(s));
        seen_by_products(have); /* makes the copy, in the first step */
        uint32_t version = m->weight->storage->lowered->version;
        light_optimizer_zero_grad(optimizer);
        light_tensor *x = light_ones(s, LIGHT_SHAPE(2, IN), LIGHT_F32);
        light_tensor *y = light_linear_op(s, x, m->weight, m->bias);
        light_backward(s, light_sum(s, y, LIGHT_ALL, false));
        assert_ok(light_step_status(s));
        assert_ok(light_optimizer_step_now(optimizer, NULL));
        assert_int_equal(version, m->weight->storage->version); /* nothing is to be cast */
        rounded(want);
        assert_ok(light_tensor_read(m->weight->lowered, LIGHT_F32, have, sizeof have));
        assert_memory_equal(have, want, sizeof have);
    }
    light_optimizer_free(optimizer);
}

/* 300 uses whose gradients are 1 each: bf16 would stop at 256. */
static void gradients_of_many_uses_are_summed_in_f32(void **state)
{
    (void)state;
    for (int all = 0; all < 2; all++) {
        float g[3];
        s->lower_all = all;
        assert_ok(light_step_begin(s));
        light_grad_zero(m->first);
        light_tensor *x = light_ones(s, LIGHT_SHAPE(1, 3), LIGHT_F32), *sum = NULL;
        for (int i = 0; i < 300; i++) {
            light_tensor *y =
                all ? light_mul(s, m->first, light_to_dtype(s, x, LIGHT_BF16)) : light_matmul(s, x, m->first);
            y = light_sum(s, light_to_dtype(s, y, LIGHT_F32), LIGHT_ALL, false);
            sum = sum ? light_add(s, sum, y) : y;
        }
        light_backward(s, sum);
        assert_ok(light_step_status(s));
        assert_int_equal(light_dtype_of(light_grad(m->first)), LIGHT_F32);
        assert_ok(light_tensor_read(light_grad(m->first), LIGHT_F32, g, sizeof g));
        for (int i = 0; i < 3; i++) assert_true(g[i] == 300);
    }
}

/* bf16-true: a parameter counts as 16-bit where dtypes are promoted, too. */
static void parameters_do_not_widen_16_bit_operations(void **state)
{
    (void)state;
    s->lower_all = true;
    light_tensor *x = light_ones(s, LIGHT_SHAPE(2, 3), lower),
                 *yes = light_ones(s, LIGHT_SHAPE(3), LIGHT_BOOL);
    light_tensor *parts[] = {m->first, light_ones(s, LIGHT_SHAPE(3), lower)};
    light_tensor *all[] = {
        light_add(s, x, m->first),
        light_mul(s, m->first, m->first),
        light_where(s, yes, m->first, x),
        light_cat(s, parts, 2, 0),
        light_square(s, m->first),
        light_layer_norm_op(s, x, 1, m->first, m->first, 1e-5),
        light_mse_loss(s, m->first, parts[1]),
        light_linear_op(s, light_ones(s, LIGHT_SHAPE(2, IN), LIGHT_F32), m->weight, m->bias),
    };
    assert_ok(light_step_status(s));
    light_tensor *total = NULL;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        assert_int_equal(light_dtype_of(all[i]), lower);
        light_tensor *sum = light_sum(s, all[i], LIGHT_ALL, false);
        total = total ? light_add(s, total, sum) : sum;
    }
    light_backward(s, total);
    assert_ok(light_step_status(s));
    assert_int_equal(light_dtype_of(light_grad(m->first)), LIGHT_F32);
}

static int hooked;
static void count_hook(light_tensor *t, void *user)
{
    assert_ptr_equal(t, m->weight);
    assert_ptr_equal(user, m);
    hooked++;
}

static void hooks_come_after_the_last_use(void **state)
{
    (void)state;
    hooked = 0;
    light_set_grad_hook(m->weight, count_hook, m);
    light_tensor *x = light_ones(s, LIGHT_SHAPE(2, IN), LIGHT_F32);
    light_tensor *y =
        light_add(s, light_linear_op(s, x, m->weight, NULL), light_linear_op(s, x, m->weight, NULL));
    light_tensor *z = light_sum(s, light_square(s, m->weight), LIGHT_ALL, false); /* in f32 */
    light_backward(s, light_add(s, light_sum(s, y, LIGHT_ALL, false), z));
    assert_ok(light_step_status(s));
    assert_int_equal(hooked, 1);
    assert_int_equal(m->weight->uses, 0);
}

static void windows_on_parameters_are_windows_on_copies(void **state)
{
    float have[2 * IN], want[NUMEL], g[NUMEL];
    (void)state;
    light_tensor *part = light_slice(s, m->weight, 0, 1, 3, 1);
    light_tensor *low = light_step_cast(s, part, lower);
    assert_ok(light_step_status(s));
    assert_ptr_equal(low->storage, m->weight->lowered->storage);
    assert_ok(light_tensor_read(low, LIGHT_F32, have, sizeof have));
    rounded(want);
    assert_memory_equal(have, want + IN, sizeof have);
    light_backward(s, light_sum(s, light_matmul(s, part, light_ones(s, LIGHT_SHAPE(IN, 1), LIGHT_F32)),
                                LIGHT_ALL, false));
    assert_ok(light_step_status(s));
    assert_ok(light_tensor_read(light_grad(m->weight), LIGHT_F32, g, sizeof g));
    for (int i = 0; i < NUMEL; i++) assert_true(g[i] == (i >= IN && i < 3 * IN));
}

static void a_write_between_forward_and_backward_is_an_error(void **state)
{
    float values[NUMEL] = {0};
    (void)state;
    light_tensor *x = light_ones(s, LIGHT_SHAPE(2, OUT), LIGHT_F32);
    light_tensor *scaled = light_mul(s, x, light_sum(s, m->first, LIGHT_ALL, false));
    light_tensor *y = light_matmul(s, scaled, m->weight); /* its backward will read the weight */
    assert_ok(light_tensor_write(m->weight, LIGHT_F32, values, sizeof values));
    y = light_add(s, y, light_matmul(s, x, m->weight));
    assert_int_equal(light_backward(s, light_sum(s, y, LIGHT_ALL, false)), LIGHT_ERR_STATE);
    assert_non_null(strstr(light_error_message(), "was changed in place"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(copies_lie_at_the_same_elements),
        TEST(products_read_the_copy_as_it_is),
        TEST(whoever_writes_a_parameter_makes_its_copy_new),
        TEST(an_address_that_is_known_is_written_at_any_time),
        TEST(an_optimizer_writes_both),
        TEST(gradients_of_many_uses_are_summed_in_f32),
        TEST(parameters_do_not_widen_16_bit_operations),
        TEST(hooks_come_after_the_last_use),
        TEST(windows_on_parameters_are_windows_on_copies),
        TEST(a_write_between_forward_and_backward_is_an_error),
    };
    return cmocka_run_group_tests_name("lowered", tests, NULL, NULL);
}
