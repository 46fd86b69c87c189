/* SPDX-License-Identifier: Apache-2.0 */
/* An index out of range is found by a kernel, when nobody waits: it is told by a later call, or, with LIGHT_CUDA_SYNC=1,
 * by the operation itself. */
#include "cuda/backend.h"

static bool sync_every;

/* embedding of 4 rows, one of whose indices is wrong. */
static light_status look_up(light_device *device, void *data)
{
    static const int64_t index[3] = {1, 4, 0};
    char *base = data;
    light_tensor w = {.data = base, .dtype = LIGHT_F32}, i = {.data = base + 64, .dtype = LIGHT_I64},
                 y = {.data = base + 128, .dtype = LIGHT_F32};
    light_tensor_set_shape(&w, LIGHT_SHAPE(4, 2));
    light_tensor_set_shape(&i, LIGHT_SHAPE(3));
    light_tensor_set_shape(&y, LIGHT_SHAPE(3, 2));
    device_write(device, i.data, index, sizeof index);
    light_embedding_attrs attrs = {.padding_idx = -1};
    light_kernel_args args = {.device = device, .in = {&w, &i}, .out = {&y}, .attrs = &attrs};
    return device->backend->kernels[LIGHT_KERNEL_EMBEDDING](&args);
}

static void assert_fault_told(void)
{
    assert_non_null(strstr(light_error_message(), "embedding"));
    assert_non_null(strstr(light_error_message(), "index 4 is out of range, there are 4"));
}

static void test_index(void **state)
{
    light_device *device = open_cuda("cuda");
    (void)state;
    if (!device->backend->kernels[LIGHT_KERNEL_EMBEDDING]) skip();
    void *data = allocate(device, 512);
    light_status status = look_up(device, data);
    if (sync_every) assert_int_equal(status, LIGHT_ERR_ARGUMENT);
    if (status == LIGHT_OK) status = light_device_synchronize(device);
    assert_int_equal(status, LIGHT_ERR_ARGUMENT);
    assert_fault_told();
    assert_light_ok(light_device_synchronize(device)); /* told once; the device goes on */
    copy_within(device, (char *)data + 256, data, 256);
    assert_light_ok(device->backend->synchronize(device));
    device->backend->release(device, data, 512);
}

static void test_waiting_after_each_launch(void **state)
{
    light_device *device = open_cuda("cuda");
    void *data = allocate(device, 512);
    (void)state;
    uint64_t before = device->synchronizations;
    copy_within(device, (char *)data + 256, data, 256);
    copy_within(device, data, (char *)data + 256, 256);
    assert_int_equal(device->synchronizations - before, sync_every ? 2 : 0);
    device->backend->release(device, data, 512);
}

int main(void)
{
    const char *sync = getenv("LIGHT_CUDA_SYNC");
    sync_every = sync && !strcmp(sync, "1");
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_index),
                                       cmocka_unit_test(test_waiting_after_each_launch)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
