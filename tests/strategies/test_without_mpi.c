/* SPDX-License-Identifier: Apache-2.0 */
/* A process of several, where the plug-in is not there: one line says so. */
#include "strategies/communicators.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void a_missing_plugin_is_one_line(void **state)
{
    light_communicator *c;
    (void)state;
    setenv("LIGHT_PLUGIN_PATH", "/nowhere", 1);
    assert_int_equal(light_mpi_communicator_new(&c), LIGHT_ERR_UNSUPPORTED);
    assert_null(c);
    if (!strstr(light_error_message(),
                "liblight_mpi.so is neither in LIGHT_PLUGIN_PATH, nor beside the library") ||
        !strstr(light_error_message(),
                "it is built where MPI is found; on Debian: libopenmpi-dev, openmpi-bin"))
        fail_msg("%s", light_error_message());
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_missing_plugin_is_one_line)};
    setenv("OMPI_COMM_WORLD_RANK", "0", 1);
    setenv("OMPI_COMM_WORLD_SIZE", "2", 1);
    setenv("OMPI_COMM_WORLD_LOCAL_RANK", "0", 1);
    setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "2", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
