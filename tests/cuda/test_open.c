/* SPDX-License-Identifier: Apache-2.0 */
/* Opening the device: every way in which it can fail, then it opens. The order matters: a plug-in that was opened stays. */
#include "cuda/backend.h"

#include <pthread.h>

static void assert_refused(const char *name, light_status status, const char *text)
{
    light_device *device;
    assert_int_equal(light_device_get(name, &device), status);
    if (!strstr(light_error_message(), text)) fail_msg("\"%s\" is not in: %s", text, light_error_message());
}

static void test_settings(void **state)
{
    (void)state;
    setenv("LIGHT_CUDA", "emulated", 1);
    assert_refused("cuda", LIGHT_ERR_ARGUMENT, "LIGHT_CUDA is \"emulated\"; it may be real or simulated");
    setenv("LIGHT_CUDA", "simulated", 1);
    assert_refused("cuda:x", LIGHT_ERR_ARGUMENT, "expected cpu, cuda or cuda:N");
    assert_refused("cuda:-1", LIGHT_ERR_ARGUMENT, "expected cpu, cuda or cuda:N");
    assert_refused("tpu", LIGHT_ERR_UNSUPPORTED, "there are cpu and cuda");
}

static void test_plug_ins(void **state)
{
    (void)state;
    char *path = strdup(getenv("LIGHT_PLUGIN_PATH"));
    assert_non_null(path);
    setenv("LIGHT_PLUGIN_PATH", "/nowhere", 1);
    assert_refused("cuda", LIGHT_ERR_UNSUPPORTED, "liblight_cuda_sim.so is neither in LIGHT_PLUGIN_PATH");
    setenv("LIGHT_PLUGIN_PATH", OLD_PLUGIN_PATH, 1);
    assert_refused("cuda", LIGHT_ERR_UNSUPPORTED, "was built for another version of liblight");
    setenv("LIGHT_PLUGIN_PATH", path, 1);
    free(path);
}

static void test_no_device(void **state)
{
    (void)state;
    setenv("LIGHT_SIM_DEVICES", "0", 1);
    assert_refused("cuda", LIGHT_ERR_UNSUPPORTED,
                   "no CUDA device can be used: no CUDA-capable device is detected");
}

static void test_number_of_devices(void **state)
{
    (void)state;
    setenv("LIGHT_SIM_DEVICES", "1", 1);
    assert_refused("cuda:1", LIGHT_ERR_ARGUMENT, "this machine has 1 CUDA device, counted from 0");
    setenv("LIGHT_SIM_DEVICES", "2", 1);
    assert_refused("cuda:2", LIGHT_ERR_ARGUMENT, "this machine has 2 CUDA devices, counted from 0");
}

/* A thread that has never chosen a device works on the second. */
static void *work_on_second(void *user)
{
    light_device *second = user;
    unsigned char byte = 5, back = 0;
    void *field, *data;
    if (second->backend->allocate(second, 1 << 20, &data) != LIGHT_OK ||
        second->backend->upload_begin(second) != LIGHT_OK ||
        second->backend->upload(second, &byte, 1, &field) != LIGHT_OK)
        return "a call failed";
    light_tensor x = bytes_at(field, 1), y = bytes_at(data, 1);
    light_kernel_args args = {.device = second, .in = {&x}, .out = {&y}};
    if (second->backend->kernels[LIGHT_KERNEL_COPY](&args) != LIGHT_OK ||
        second->backend->copy(second, &back, data, 1, LIGHT_COPY_DEVICE_TO_HOST) != LIGHT_OK)
        return "a call failed";
    second->backend->release(second, data, 1 << 20);
    return back == 5 ? NULL : "another byte came back";
}

static void test_two_devices(void **state)
{
    light_device *first = open_cuda("cuda"), *second = open_cuda("cuda:1");
    pthread_t thread;
    void *wrong, *data;
    (void)state;
    assert_ptr_equal(open_cuda("cuda:0"), first);
    assert_ptr_not_equal(first, second);
    assert_string_equal(light_device_name(second), "cuda:1 (simulated)");
    data = allocate(first, 100);
    copy_within(first, (char *)data + 50, data, 50);
    assert_int_equal(pthread_create(&thread, NULL, work_on_second, second), 0);
    pthread_join(thread, &wrong);
    if (wrong) fail_msg("%s: %s", (const char *)wrong, light_error_message());
    assert_light_ok(first->backend->synchronize(first));
    assert_light_ok(second->backend->synchronize(second));
    first->backend->release(first, data, 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_settings),    cmocka_unit_test(test_plug_ins),
        cmocka_unit_test(test_no_device),   cmocka_unit_test(test_number_of_devices),
        cmocka_unit_test(test_two_devices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
