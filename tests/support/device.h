/* SPDX-License-Identifier: Apache-2.0 */
/* The device that tests run on: LIGHT_TEST_DEVICE in the environment, or the CPU. Before main it becomes the default
 * device, so a test that names none runs on it.
 *
 * "locked" is the CPU behind a door: a device whose memory the host cannot touch but by the backend's own copies and
 * kernels, as a GPU's. It finds code that reads or writes a tensor's memory from the host: such code crashes. */
#ifndef LIGHT_TESTS_DEVICE_H
#define LIGHT_TESTS_DEVICE_H

#include <light/tensor.h>

light_device *test_device(void);

/* Device memory, from and to the host; for what lies outside of a tensor's elements. They fail the test. */
void device_read(light_device *device, const void *from, void *to, size_t bytes);
void device_write(light_device *device, void *to, const void *from, size_t bytes);

#endif
