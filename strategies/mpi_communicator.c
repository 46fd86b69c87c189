/* SPDX-License-Identifier: Apache-2.0 */
/* Groups of processes on host memory, by MPI. Groups have tags of their own, agreed on when they are split, so that MPI has
 * nothing to do with it. */
#include "strategies/mpi_thread.h"

#include "base/memory.h"
#include "base/world.h"

#include <stdlib.h>

static light_mpi_group *group_of(light_communicator *c)
{
    return (light_mpi_group *)c;
}

static light_status start(light_communicator *c, const light_collective *call, light_ticket *ticket)
{
    return light_mpi_start(group_of(c), call, ticket);
}

static light_status wait(light_communicator *c, light_ticket ticket)
{
    return light_mpi_wait(group_of(c), ticket);
}

static void free_group(light_communicator *c)
{
    light_mpi_group *group = group_of(c);
    if (group->members) light_mpi_close();
    light_free(group->members);
    light_free(group);
}

static light_status split(light_communicator *c, int color, int key, light_communicator **out);
static const light_communicator_vtable vtable = {sizeof vtable, "mpi", start, wait, split, free_group};

/* A group that has the engine open, with room for its members. */
static light_status new_group(light_mpi_group **out, int size)
{
    int job_rank, job_size;
    light_mpi_group *group = light_calloc(1, sizeof *group);
    int *members = light_calloc((size_t)size, sizeof *members);
    light_status status = group && members ? light_mpi_open(&job_rank, &job_size) : LIGHT_ERR_MEMORY;
    if (status != LIGHT_OK) {
        light_free(group);
        light_free(members);
        return status;
    }
    group->base = (light_communicator){.vtable = &vtable, .size = size, .device = light_device_cpu()};
    group->members = members;
    *out = group;
    return LIGHT_OK;
}

/* ---- splitting ----------------------------------------------------------------------- */

/* What each rank says when a group is split. */
typedef struct vote {
    int64_t color, key, rank, tag;
} vote;

static int by_color_and_key(const void *one, const void *other)
{
    const vote *a = one, *b = other;
    if (a->color != b->color) return a->color < b->color ? -1 : 1;
    if (a->key != b->key) return a->key < b->key ? -1 : 1;
    return a->rank < b->rank ? -1 : 1;
}

/* All groups of a split have one tag; they have no process in common. */
static light_status make_group(light_communicator *c, vote *votes, int color, light_communicator **out)
{
    light_mpi_group *group, *parent = group_of(c);
    int first = 0, size = 0, tag = 0;
    for (int r = 0; r < c->size; r++) tag = votes[r].tag > tag ? (int)votes[r].tag : tag;
    qsort(votes, (size_t)c->size, sizeof *votes, by_color_and_key);
    while (votes[first].color != color) first++;
    while (first + size < c->size && votes[first + size].color == color) size++;
    LIGHT_TRY(light_mpi_use_tag(tag));
    LIGHT_TRY(new_group(&group, size));
    for (int r = 0; r < size; r++) {
        group->members[r] = parent->members[votes[first + r].rank];
        if (votes[first + r].rank == c->rank) group->base.rank = r;
    }
    group->tag = tag;
    group->base.control = c->control;
    *out = &group->base;
    return LIGHT_OK;
}

static light_status split(light_communicator *c, int color, int key, light_communicator **out)
{
    vote *votes = light_calloc((size_t)c->size, sizeof *votes);
    if (!votes) return LIGHT_ERR_MEMORY;
    votes[c->rank] = (vote){color, key, c->rank, light_mpi_next_tag()};
    light_collective call = {.kind = LIGHT_ALL_GATHER,
                             .in = &votes[c->rank],
                             .out = votes,
                             .count = sizeof *votes,
                             .dtype = LIGHT_U8,
                             .what = "groups"};
    light_status status = light_communicate(c, &call);
    if (status == LIGHT_OK) status = make_group(c, votes, color, out);
    light_free(votes);
    return status;
}

/* ---- all processes ------------------------------------------------------------------- */

static light_status check_job(const light_world *world, int rank, int size)
{
    if (rank == world->rank && size == world->size) return LIGHT_OK;
    return light_fail(
        LIGHT_ERR_STATE,
        "%s says that this is process %d of %d, but MPI says %d of %d: liblight_mpi.so was built "
        "with another MPI than the one that starts the program",
        world->launcher, world->rank, world->size, rank, size);
}

light_status light_mpi_communicator_new(light_communicator **out)
{
    const light_world *world = light_world_get();
    light_mpi_group *group;
    int rank, size;
    *out = NULL;
    LIGHT_TRY(light_world_check());
    if (world->size == 1) return light_self_communicator_new(out, light_device_cpu());
    LIGHT_TRY(light_mpi_open(&rank, &size));
    light_status status = check_job(world, rank, size);
    if (status == LIGHT_OK) status = new_group(&group, size);
    light_mpi_close();
    if (status != LIGHT_OK) return status;
    for (int r = 0; r < size; r++) group->members[r] = r;
    group->base.rank = rank;
    *out = &group->base;
    return LIGHT_OK;
}
