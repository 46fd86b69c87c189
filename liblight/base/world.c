/* SPDX-License-Identifier: Apache-2.0 */
/* The world as launchers describe it. */
#include "base/world.h"

static const light_world alone = {.size = 1, .local_size = 1, .nodes = 1, .launcher = ""};

const light_world *light_world_get(void)
{
    return &alone;
}

light_status light_world_check(void)
{
    return LIGHT_OK;
}
