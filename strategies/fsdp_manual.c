/* SPDX-License-Identifier: Apache-2.0 */
/* Manual optimization: each backward is a window of its own, and adds to gradients that earlier ones have left, which are
 * summed already. The owner of a part keeps it and all others begin anew, so that it counts once. */
#include "strategies/fsdp.h"

static light_status fill_zero(light_step *s, light_storage *storage, light_dtype dtype, size_t from,
                              size_t to)
{
    light_tensor window = light_window_on(storage, dtype, from, to);
    light_fill_attrs zero = {0};
    return from < to ? LIGHT_RUN(s, FILL, .out = {&window}, .attrs = &zero) : LIGHT_OK;
}

/* zero1: the own part of a gradient stays where it is; of groups that repeat it one does. */
static light_status keep_in_place(light_unit *u, light_step *s)
{
    light_flat_buffer *b = u->buffer;
    size_t size = light_dtype_size(b->dtype);
    for (int64_t i = 0; i < b->n; i++) {
        const light_parameter *p = b->entries[i].parameter;
        size_t at = b->entries[i].offset;
        if (p->tensor->grad_fresh) continue;
        if (p->own_begin == p->own_end || (u->f->replicas && u->f->replicas->rank > 0)) {
            light_grad_zero(p->tensor);
            continue;
        }
        LIGHT_TRY(fill_zero(s, b->grads, b->dtype, at, at + (size_t)p->own_begin * size));
        LIGHT_TRY(fill_zero(s, b->grads, b->dtype, at + (size_t)p->own_end * size,
                            at + (size_t)p->tensor->numel * size));
    }
    return LIGHT_OK;
}

/* zero2 and zero3: sums lie apart from what a backward writes. Of gradients that were zeroed they hold old numbers. */
static light_status keep_apart(light_unit *u, light_step *s)
{
    light_flat_buffer *b = u->buffer;
    size_t size = light_dtype_size(b->dtype);
    for (int64_t i = 0; i < b->n; i++) {
        const light_parameter *p = b->entries[i].parameter;
        size_t own = (size_t)(p->own_end - p->own_begin) * size;
        if (u->filled && p->tensor->grad_fresh)
            LIGHT_TRY(fill_zero(s, u->grads, b->dtype, u->shard[i].offset, u->shard[i].offset + own));
        light_grad_zero(p->tensor);
    }
    return LIGHT_OK;
}

light_status light_fsdp_keep_summed(light_fsdp *f, light_step *s)
{
    if (f->each) LIGHT_TRY(light_note_used(&f->job, true));
    for (int i = 0; i < f->n; i++) {
        light_unit *u = &f->units[i];
        u->filled = false;
        for (int64_t k = 0; k < u->buffer->n; k++)
            u->filled |= !u->buffer->entries[k].parameter->tensor->grad_fresh;
        if (u->filled && f->offload) LIGHT_TRY(light_fsdp_return_grads(u));
        LIGHT_TRY(f->each ? keep_apart(u, s) : keep_in_place(u, s));
    }
    return LIGHT_OK;
}
