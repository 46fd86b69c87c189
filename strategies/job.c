/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing a job, and what all strategies do with the model. */
#include "strategies/job.h"

#include "base/memory.h"
#include "base/string.h"
#include "base/world.h"
#include "strategies/communicators.h"
#include "strategies/launch.h"

#include <light/message.h>

#include <stdio.h>
#include <string.h>

/* ---- the job ------------------------------------------------------------ */

light_status light_job_launch(const light_trainer_options *options)
{
    return light_launch(options);
}

light_status light_job_device(const light_trainer_options *options, light_device **device)
{
    const char *name = strcmp(options->accelerator, "gpu") ? options->accelerator : "cuda";
    char indexed[32];
    if (!strcmp(name, "auto")) {
        *device = light_default_device();
        return LIGHT_OK;
    }
    if (strcmp(name, "cuda")) return light_device_get(name, device);
    snprintf(indexed, sizeof indexed, "cuda:%d", light_world_get()->local_rank);
    light_status status = light_device_get(indexed, device);
    if (status != LIGHT_OK)
        light_fail_in(status, "rank %d takes device %s, one for each of the %d processes of host %s",
                      light_world_get()->rank, indexed, light_world_get()->local_size,
                      light_world_get()->host);
    return status;
}

static light_status send_part(void *user, uint64_t save, const void *bytes, size_t n)
{
    return light_control_send(((light_job *)user)->control, save, bytes, n);
}

static light_status receive_part(void *user, int rank, uint64_t save, void **bytes, size_t *n)
{
    return light_control_receive(((light_job *)user)->control, rank, save, bytes, n);
}

static light_status announce(void *user, uint64_t save, const void *bytes, size_t n)
{
    return light_control_announce(((light_job *)user)->control, save, bytes, n);
}

static light_status await(void *user, uint64_t save, void **bytes, size_t *n)
{
    return light_control_await(((light_job *)user)->control, save, bytes, n);
}

static light_status open_parts(light_job *job, light_device *device)
{
    light_strategy *self = &job->base;
    const light_world *world = light_world_get();
    LIGHT_TRY(world->size > 1 ? light_mpi_communicator_new(&self->host)
                              : light_self_communicator_new(&self->host, light_device_cpu()));
    self->rank = self->host->rank;
    self->size = self->host->size;
    if (self->size > 1) {
        LIGHT_TRY(light_control_open(&job->control, self->host, (double)job->options->collective_timeout));
        light_communicator_set_control(self->host, job->control);
    }
    if (device->is_host) {
        self->tensors = self->host;
        return LIGHT_OK;
    }
    return self->size == 1 ? light_self_communicator_new(&self->tensors, device)
                           : light_device_communicator_new(&self->tensors, self->host, device);
}

light_status light_job_open(const light_strategy_vtable *vtable, size_t bytes,
                            const light_trainer_options *options, light_device *device, light_strategy **out)
{
    light_job *job = light_calloc(1, bytes);
    if (!job) return LIGHT_ERR_MEMORY;
    job->base.vtable = vtable;
    job->base.ordered = !strcmp(options->deterministic, "elastic");
    job->options = options;
    light_status status = open_parts(job, device);
    job->base.checkpoint_group = (light_checkpoint_group){.rank = job->base.rank,
                                                          .size = job->base.size,
                                                          .user = job,
                                                          .send = send_part,
                                                          .receive = receive_part,
                                                          .announce = announce,
                                                          .await = await};
    if (status == LIGHT_OK) {
        *out = &job->base;
        return LIGHT_OK;
    }
    light_job_close(&job->base);
    return status;
}

bool light_job_fail(light_strategy *self, light_status status, const char *text)
{
    light_job *job = (light_job *)self;
    return !job->control || light_control_fail(job->control, status, text);
}

light_status light_job_boundary(light_strategy *self, int64_t boundary, int signal, bool *stop)
{
    return light_control_boundary(((light_job *)self)->control, boundary, signal, stop);
}

void light_job_close(light_strategy *self)
{
    light_job *job = (light_job *)self;
    if (self->tensors != self->host) light_communicator_free(self->tensors);
    if (job->control) light_control_close(job->control);
    if (self->host) light_communicator_set_control(self->host, NULL);
    light_communicator_free(self->host);
    while (job->labels) {
        light_label *label = job->labels;
        job->labels = label->next;
        light_free(label);
    }
    light_free(job);
}

/* ---- the model ---------------------------------------------------------- */

static light_status broadcast(light_job *job, light_storage *storage, light_dtype dtype)
{
    int64_t n = (int64_t)(storage->bytes / light_dtype_size(dtype));
    storage->version++;
    return light_communicate(job->base.tensors, &(light_collective){.kind = LIGHT_BROADCAST,
                                                                    .in = storage->data,
                                                                    .out = storage->data,
                                                                    .count = n,
                                                                    .dtype = dtype,
                                                                    .what = "first values"});
}

light_status light_job_attach(light_job *job, light_module *module)
{
    job->module = module;
    job->flat = module->flat;
    job->sharing = (light_sharing){.exact = job->base.ordered,
                                   .copies = job->base.size,
                                   .copy = job->base.rank,
                                   .first = job->base.rank == 0};
    job->flat->sharing = &job->sharing;
    job->tree.flat = job->flat;
    if (job->base.size == 1) return LIGHT_OK;
    for (int i = 0; i < job->flat->n; i++)
        LIGHT_TRY(broadcast(job, job->flat->buffers[i].values, job->flat->buffers[i].dtype));
    for (light_parameter *p = light_next_parameter(module, NULL); p; p = light_next_parameter(module, p))
        if (p->is_buffer) LIGHT_TRY(broadcast(job, p->tensor->storage, (light_dtype)p->tensor->dtype));
    return LIGHT_OK;
}

void light_job_detach(light_job *job)
{
    if (!job->module) return;
    light_tree_free(&job->tree);
    light_free(job->used);
    job->used = NULL;
    job->flat->sharing = NULL;
    job->module = NULL;
    job->flat = NULL;
}

light_status light_job_label(light_job *job, const char **text, const char *what, int i, int n,
                             const light_parameter *first)
{
    light_label *label = light_calloc(1, sizeof *label);
    if (!label) return LIGHT_ERR_MEMORY;
    snprintf(label->text, sizeof label->text, "%s %d of %d from %s", what, i, n, first->path);
    label->next = job->labels;
    job->labels = label;
    *text = label->text;
    return LIGHT_OK;
}

light_tensor light_window_on(light_storage *storage, light_dtype dtype, size_t from, size_t to)
{
    light_tensor window = {.storage = storage, .data = (char *)storage->data + from, .dtype = (uint8_t)dtype};
    light_tensor_set_shape(&window, LIGHT_SHAPE((int64_t)((to - from) / light_dtype_size(dtype))));
    return window;
}

/* ---- gradients that nobody has written ------------------------------------ */

light_status light_zero_unwritten(light_step *s, const light_window *window, const light_flat_entry *entries,
                                  int64_t n)
{
    light_fill_attrs zero = {0};
    for (int64_t i = 0; i < n; i++) {
        light_tensor *t = entries[i].parameter->tensor;
        if ((t->requires_grad || window->manual) && t->grad_fresh)
            LIGHT_TRY(LIGHT_RUN(s, FILL, .out = {t->grad}, .attrs = &zero));
    }
    return LIGHT_OK;
}

/* The parameters that want a gradient and have none, for a message; NULL: there are none. */
static char *name_unused(const light_flat *flat)
{
    light_string names = {0};
    int64_t count = 0;
    for (int b = 0; b < flat->n; b++)
        for (int64_t i = 0; i < flat->buffers[b].n; i++) {
            const light_parameter *p = flat->buffers[b].entries[i].parameter;
            if (!p->tensor->requires_grad || !p->tensor->grad_fresh) continue;
            if (count++ < 5) light_string_printf(&names, "%s%s", count > 1 ? ", " : "", p->path);
        }
    if (count > 5) light_string_printf(&names, " and %lld more", (long long)count - 5);
    return names.text;
}

static light_status refuse_unused(const light_job *job)
{
    char *names = name_unused(job->flat);
    if (!names) return LIGHT_OK;
    light_fail(LIGHT_ERR_ARGUMENT,
               "this loss does not depend on %s; freeze what is not to be trained, or set "
               "trainer.find_unused_parameters",
               names);
    light_free(names);
    return LIGHT_ERR_ARGUMENT;
}

static int64_t count_entries(const light_flat *flat)
{
    int64_t n = 0;
    for (int b = 0; b < flat->n; b++) n += flat->buffers[b].n;
    return n;
}

/* used[i] becomes what it is on any rank. */
static light_status agree_on_used(light_job *job, uint8_t *used, int64_t n)
{
    return light_communicate(job->base.host, &(light_collective){.kind = LIGHT_ALL_REDUCE,
                                                                 .in = used,
                                                                 .out = used,
                                                                 .count = n,
                                                                 .dtype = LIGHT_U8,
                                                                 .combine = LIGHT_COMBINE_MAX,
                                                                 .what = "parameters in use"});
}

light_status light_note_used(light_job *job, bool anew)
{
    int64_t n = count_entries(job->flat), at = 0;
    if (!job->used && !(job->used = light_calloc((size_t)n + 1, sizeof *job->used))) return LIGHT_ERR_MEMORY;
    for (int b = 0; b < job->flat->n; b++)
        for (int64_t i = 0; i < job->flat->buffers[b].n; i++, at++)
            job->used[at] =
                (!anew && job->used[at]) || !job->flat->buffers[b].entries[i].parameter->tensor->grad_fresh;
    return LIGHT_OK;
}

static light_status find_unused(light_job *job)
{
    int64_t at = 0;
    LIGHT_TRY(agree_on_used(job, job->used, count_entries(job->flat)));
    for (int b = 0; b < job->flat->n; b++)
        for (int64_t i = 0; i < job->flat->buffers[b].n; i++)
            job->flat->buffers[b].entries[i].parameter->tensor->grad_fresh = !job->used[at++];
    return LIGHT_OK;
}

static void all_are_used(const light_flat *flat)
{
    for (int b = 0; b < flat->n; b++)
        for (int64_t i = 0; i < flat->buffers[b].n; i++) {
            light_tensor *t = flat->buffers[b].entries[i].parameter->tensor;
            if (t->requires_grad) t->grad_fresh = false;
        }
}

light_status light_settle_unused(light_job *job, const light_window *window, bool backward, bool anew,
                                 bool last)
{
    if (job->options->find_unused_parameters || window->manual) {
        LIGHT_TRY(light_note_used(job, anew));
        return last ? find_unused(job) : LIGHT_OK;
    }
    if (backward) LIGHT_TRY(refuse_unused(job));
    if (last) all_are_used(job->flat);
    return LIGHT_OK;
}
