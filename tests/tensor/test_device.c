/* SPDX-License-Identifier: Apache-2.0 */
/* The default device, and work on a device whose memory the host cannot touch (support/device.h): what comes out has the
 * same bits as on the CPU, whose kernels do both. */
#include "support/device.h"
#include "trainer/lab.h"

#include "tensor/device.h"

static light_device *locked(void)
{
    light_device *device;
    assert_ok(light_device_get("locked", &device));
    return device;
}

static int leave_the_default(void **state)
{
    (void)state;
    light_set_default_device(NULL);
    return 0;
}

static void the_default_is_the_cpu(void **state)
{
    light_device *cpu, *other = locked();
    (void)state;
    assert_ok(light_device_get("cpu", &cpu));
    light_set_default_device(NULL);
    assert_ptr_equal(light_default_device(), cpu);
    assert_ptr_equal(light_set_default_device(other), cpu);
    assert_ptr_equal(light_default_device(), other);
    assert_ptr_equal(light_set_default_device(NULL), other);
    assert_ptr_equal(light_default_device(), cpu);
}

/* Host memory stays on the CPU; so does a device that is named. */
static void what_is_made_goes_there(void **state)
{
    light_device *cpu = light_default_device();
    light_tensor *made, *named, *wrapped, *kept;
    light_step *s;
    float x[2] = {1, 2};
    (void)state;
    light_set_default_device(locked());
    assert_ok(light_tensor_new(&made, LIGHT_SHAPE(2), LIGHT_F32, NULL));
    assert_ok(light_tensor_new(&named, LIGHT_SHAPE(2), LIGHT_F32, cpu));
    assert_ok(light_tensor_wrap(&wrapped, LIGHT_SHAPE(2), LIGHT_F32, x));
    assert_ok(light_step_new(&s, .seed = 1));
    assert_ok(light_step_begin(s));
    assert_ptr_equal(made->storage->device, locked());
    assert_ptr_equal(named->storage->device, cpu);
    assert_ptr_equal(wrapped->storage->device, cpu);
    light_tensor *y = light_relu(s, made);
    assert_ptr_equal(y->storage->device, locked());
    light_set_default_device(NULL);
    assert_ok(light_keep(&kept, y));
    assert_ptr_equal(kept->storage->device, locked());
    assert_null(light_add(s, y, wrapped));
    assert_fails(light_step_status(s), LIGHT_ERR_STATE, "add: input 1 is on another device than the step");
    light_step_free(s);
    light_tensor_free(made);
    light_tensor_free(named);
    light_tensor_free(wrapped);
    light_tensor_free(kept);
}

/* The ways that contents take: as they are, a few converted on the host, many on the device, and windows with strides. */
static void contents_come_and_go(void **state)
{
    enum { N = 600 };
    static double values[N], back[N];
    static float floats[N];
    light_step *s;
    (void)state;
    for (int i = 0; i < N; i++) values[i] = floats[i] = (float)(i - 300) / 16;
    assert_ok(light_step_new(&s, .device = locked()));
    assert_ok(light_step_begin(s));
    for (int n = 6; n <= N; n *= 10) {
        light_tensor *t = light_from_host(s, LIGHT_SHAPE(2, n / 2), LIGHT_F32, floats);
        light_tensor *turned = light_transpose(s, t, 0, 1);
        assert_ok(light_tensor_read(t, LIGHT_F64, back, sizeof back));
        assert_memory_equal(back, values, (size_t)n * sizeof *back);
        assert_ok(light_tensor_read(turned, LIGHT_F64, back, sizeof back));
        for (int i = 0; i < n; i++) assert_true(back[i] == values[i % 2 * n / 2 + i / 2]);
        assert_ok(light_tensor_write(turned, LIGHT_F64, values, sizeof values));
        assert_ok(light_tensor_read(t, LIGHT_F64, back, sizeof back));
        for (int i = 0; i < n; i++) assert_true(back[i] == values[i % (n / 2) * 2 + i / (n / 2)]);
        assert_ok(light_tensor_write(t, LIGHT_F64, values, sizeof values));
        assert_ok(light_tensor_read(turned, LIGHT_F32, back, sizeof back));
        for (int i = 0; i < n; i++) assert_true(((float *)back)[i] == floats[i % 2 * n / 2 + i / 2]);
    }
    light_step_free(s);
}

/* An item is fetched without asking for memory, on the host or on the device. */
static void an_item_costs_no_memory(void **state)
{
    light_step *s;
    double value = 0;
    (void)state;
    assert_ok(light_step_new(&s, .device = locked()));
    assert_ok(light_step_begin(s));
    light_tensor *t = light_full(s, LIGHT_SCALAR, 0.5, LIGHT_BF16);
    uint64_t calls = light_memory_count().calls;
    assert_ok(light_item(t, &value));
    assert_true(light_memory_count().calls == calls);
    assert_true(value == 0.5);
    light_step_free(s);
}

/* ---- a module, an optimizer, the trainer --------------------------------- */

/* Weights after three steps by hand. */
static void three_steps(light_device *device, float weights[LAB_WEIGHTS])
{
    light_device *was = light_set_default_device(device);
    light_module *m = light_module_new(&boring_vtable);
    light_step *s;
    lab_fill();
    assert_ok(light_module_build(m, 1));
    assert_ptr_equal(((boring *)m)->layer.weight->storage->device, device);
    assert_ok(light_step_new(&s, .seed = 1));
    light_optimizer *opt = light_adamw(light_parameters(m), .lr = 0.1);
    for (int i = 0; i < 3; i++) {
        assert_ok(light_step_begin(s));
        light_tensor *x = light_from_host(s, LIGHT_SHAPE(8, LAB_FEATURES), LIGHT_F32, lab_x[8 * i]);
        light_tensor *y = light_from_host(s, LIGHT_SHAPE(8), LIGHT_I64, &lab_y[8 * i]);
        assert_ok(light_backward(s, light_cross_entropy(s, light_forward(s, m, x), y)));
        assert_ok(light_optimizer_step_now(opt, NULL));
        light_optimizer_zero_grad(opt);
    }
    lab_read_weights(m, weights);
    light_optimizer_free(opt);
    light_step_free(s);
    light_module_free(m);
    light_set_default_device(was);
}

static void steps_by_hand(void **state)
{
    float here[LAB_WEIGHTS], there[LAB_WEIGHTS];
    (void)state;
    three_steps(light_default_device(), here);
    three_steps(locked(), there);
    assert_memory_equal(here, there, sizeof here);
}

static void waiting(void **state)
{
    (void)state;
    assert_ok(light_device_synchronize(light_default_device()));
    assert_int_equal(light_device_synchronize(NULL), LIGHT_ERR_ARGUMENT);
    assert_string_equal(light_error_message(), "device_synchronize: no device");
}

/* Two epochs with validation and checkpoints, the second one resumed from the first. */
static void fit(const char *name, const char *accelerator, float weights[LAB_WEIGHTS])
{
    for (int64_t epochs = 1; epochs <= 2; epochs++) {
        lab l = lab_new(&boring_vtable, light_trainer_new(.accelerator = accelerator, .max_epochs = epochs,
                                                          .default_root_dir = folder, .name = name));
        l.data->batch_size = 8;
        assert_ok(lab_fit(&l, .ckpt_path = epochs > 1 ? "last" : NULL));
        assert_true(isfinite(metric_of(l.trainer, "val_loss")));
        lab_read_weights(l.module, weights);
        lab_free(&l);
    }
}

static void a_fit(void **state)
{
    float here[LAB_WEIGHTS], there[LAB_WEIGHTS], named[LAB_WEIGHTS];
    (void)state;
    fit("cpu", "auto", here);
    fit("named", "locked", named); /* the module is built where the trainer runs */
    assert_string_equal(light_device_name(light_default_device()), "cpu");
    light_set_default_device(locked());
    fit("there", "auto", there);
    assert_memory_equal(here, there, sizeof here);
    assert_memory_equal(here, named, sizeof here);
    assert_string_equal(light_device_name(light_default_device()), "locked:0");
    light_set_default_device(NULL);
}

int main(void)
{
    light_set_default_device(NULL); /* whatever LIGHT_TEST_DEVICE says */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(the_default_is_the_cpu, leave_the_default),
        cmocka_unit_test_teardown(what_is_made_goes_there, leave_the_default),
        cmocka_unit_test(contents_come_and_go),
        cmocka_unit_test(an_item_costs_no_memory),
        cmocka_unit_test(steps_by_hand),
        cmocka_unit_test(waiting),
        cmocka_unit_test_setup_teardown(a_fit, lab_begin, lab_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
