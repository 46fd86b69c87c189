/* SPDX-License-Identifier: Apache-2.0 */
/* A group of one process. light_communicate_start does all there is to do, so nothing is ever started or waited for. */
#include "strategies/communicators.h"

#include "base/memory.h"

static light_status start(light_communicator *c, const light_collective *call, light_ticket *ticket)
{
    (void)c, (void)call, (void)ticket;
    return LIGHT_OK;
}

static light_status wait(light_communicator *c, light_ticket ticket)
{
    (void)c, (void)ticket;
    return LIGHT_OK;
}

static light_status split(light_communicator *c, int color, int key, light_communicator **out)
{
    (void)color, (void)key;
    LIGHT_TRY(light_self_communicator_new(out, c->device));
    (*out)->control = c->control;
    return LIGHT_OK;
}

static void free_self(light_communicator *c)
{
    light_free(c);
}

static const light_communicator_vtable vtable = {sizeof vtable, "self", start, wait, split, free_self};

light_status light_self_communicator_new(light_communicator **out, light_device *device)
{
    light_communicator *c = *out = light_calloc(1, sizeof *c);
    if (!c) return LIGHT_ERR_MEMORY;
    *c = (light_communicator){.vtable = &vtable, .size = 1, .device = device};
    return LIGHT_OK;
}
