/* SPDX-License-Identifier: Apache-2.0 */
/* Moves a tree's parameters into flat memory, and gives them gradients at the same offsets. */
#include "nn/flat.h"

#include "base/memory.h"
#include "tensor/device.h"

#include <string.h>

enum { LONGEST_VECTOR = 65536 };

/* ---- which buffer ------------------------------------------------------- */

/* The innermost module around p that is to have buffers of its own. */
static const light_module *unit_of(const light_parameter *p)
{
    const light_module *m = p->module;
    while (m && !m->shard_unit) m = m->parent;
    return m;
}

/* While buffers are being laid out: those that still take parameters. */
typedef struct open_buffers {
    light_flat_rule rule;
    const light_module *unit;
    int of[2][LIGHT_DTYPE_COUNT]; /* [1]: of vectors; index, -1: none */
} open_buffers;

static void close_all(open_buffers *open, bool vectors)
{
    for (int i = 0; i < LIGHT_DTYPE_COUNT; i++) open->of[vectors][i] = -1;
}

static open_buffers open_none(const light_flat_rule *rule)
{
    open_buffers open = {.rule = *rule};
    close_all(&open, false);
    close_all(&open, true);
    return open;
}

static bool is_vector(const light_parameter *p)
{
    return p->tensor->ndim <= 1 && p->tensor->numel <= LONGEST_VECTOR;
}

static light_flat_buffer *buffer_for(light_flat *flat, open_buffers *open, const light_parameter *p)
{
    const light_module *unit = unit_of(p);
    light_dtype dtype = (light_dtype)p->tensor->dtype;
    bool vectors = open->rule.vectors_apart && is_vector(p);
    if (unit != open->unit) close_all(open, false);
    open->unit = unit;
    int *at = &open->of[vectors][dtype];
    if (*at >= 0 && open->rule.bytes && flat->buffers[*at].bytes >= open->rule.bytes) *at = -1;
    if (*at < 0) {
        *at = flat->n++;
        flat->buffers[*at].dtype = dtype;
        flat->buffers[*at].vectors = vectors;
    }
    return &flat->buffers[*at];
}

/* ---- laying out --------------------------------------------------------- */

static size_t bytes_of(const light_parameter *p)
{
    return light_flat_padded((size_t)p->tensor->numel * light_dtype_size((light_dtype)p->tensor->dtype));
}

static light_parameter *next_flat(light_module *root, light_parameter *after)
{
    light_parameter *p = light_next_parameter(root, after);
    while (p && p->is_buffer) p = light_next_parameter(root, p);
    return p;
}

/* Counts what goes where: n and bytes of each buffer. */
static void plan(light_flat *flat, light_module *root, const light_flat_rule *rule)
{
    open_buffers open = open_none(rule);
    for (light_parameter *p = next_flat(root, NULL); p; p = next_flat(root, p)) {
        light_flat_buffer *b = buffer_for(flat, &open, p);
        b->n++;
        b->bytes += bytes_of(p);
    }
    for (int i = 0; i < flat->n; i++)
        flat->buffers[i].bytes =
            (flat->buffers[i].bytes + rule->multiple - 1) / rule->multiple * rule->multiple;
}

static light_status allocate(light_flat_buffer *b, light_device *device)
{
    b->entries = light_calloc((size_t)b->n, sizeof *b->entries);
    if (!b->entries) return LIGHT_ERR_MEMORY;
    LIGHT_TRY(light_storage_new(&b->values, b->bytes, device));
    return light_storage_new(&b->grads, b->bytes, device);
}

/* The i-th parameter of `b`, at `offset`. */
static light_status move_in(light_flat_buffer *b, int64_t i, size_t offset, light_parameter *p)
{
    light_tensor *t = p->tensor;
    LIGHT_TRY(light_tensor_rebase(t, b->values, offset));
    light_tensor_free(t->grad);
    t->grad = NULL;
    t->grad_fresh = true;
    LIGHT_TRY(light_tensor_new_view(&t->grad, b->grads, offset, light_shape_of(t), b->dtype));
    b->entries[i] = (light_flat_entry){.parameter = p, .offset = offset};
    return LIGHT_OK;
}

/* Fills the planned buffers one after the other. Each takes its parameters in the order of the walk. */
static light_status fill(light_flat *flat, light_module *root, const light_flat_rule *rule)
{
    open_buffers open = open_none(rule);
    light_flat walk = {.buffers = light_calloc((size_t)flat->n + 1, sizeof *walk.buffers)};
    light_status status = walk.buffers ? LIGHT_OK : LIGHT_ERR_MEMORY;
    for (light_parameter *p = next_flat(root, NULL); p && status == LIGHT_OK; p = next_flat(root, p)) {
        light_flat_buffer *to = buffer_for(&walk, &open, p);
        light_flat_buffer *b = &flat->buffers[to - walk.buffers];
        if (!b->entries) status = allocate(b, p->tensor->storage->device);
        if (status == LIGHT_OK) status = move_in(b, to->n, to->bytes, p);
        to->n++;
        to->bytes += bytes_of(p);
    }
    light_free(walk.buffers);
    return status;
}

static void free_buffers(light_flat *flat)
{
    for (int i = 0; i < flat->n; i++) {
        light_storage_free(flat->buffers[i].lowered.storage);
        light_storage_free(flat->buffers[i].values);
        light_storage_free(flat->buffers[i].grads);
        light_free(flat->buffers[i].entries);
    }
    light_free(flat->buffers);
    flat->buffers = NULL;
    flat->n = 0;
}

static void drop_copy(light_flat_buffer *b);

light_status light_flat_arrange(light_flat *flat, light_module *root, const light_flat_rule *rule)
{
    size_t most = (size_t)flat->n + 1; /* and the old ones, where this fails half way */
    for (light_parameter *p = next_flat(root, NULL); p; p = next_flat(root, p)) most++;
    light_flat old = *flat;
    light_flat_buffer *buffers = light_calloc(most, sizeof *buffers);
    if (!buffers) return LIGHT_ERR_MEMORY;
    for (int i = 0; i < old.n; i++) drop_copy(&old.buffers[i]);
    flat->buffers = buffers;
    flat->n = 0;
    plan(flat, root, rule);
    light_status status = fill(flat, root, rule);
    if (status == LIGHT_OK) {
        free_buffers(&old);
        return LIGHT_OK;
    }
    /* Parameters may lie in either; all of it goes with the module. */
    if (old.n) memcpy(flat->buffers + flat->n, old.buffers, (size_t)old.n * sizeof *buffers);
    flat->n += old.n;
    light_free(old.buffers);
    return status;
}

light_status light_flat_new(light_flat **out, light_module *root)
{
    light_flat *flat = light_calloc(1, sizeof *flat);
    if (!flat) return LIGHT_ERR_MEMORY;
    *out = flat; /* also when something below fails: parameters may have moved there already */
    return light_flat_arrange(flat, root, &(light_flat_rule){.multiple = LIGHT_FLAT_ALIGNMENT});
}

/* ---- 16-bit copies ------------------------------------------------------ */

static void drop_copy(light_flat_buffer *b)
{
    for (int64_t i = 0; i < b->n; i++) {
        light_tensor *t = b->entries[i].parameter->tensor;
        light_tensor_free(t->lowered);
        t->lowered = NULL;
    }
    light_storage_free(b->lowered.storage);
    b->lowered = (light_lowered){0};
    b->values->lowered = NULL;
}

static light_status make_copy(light_flat_buffer *b, light_dtype dtype)
{
    size_t bytes = b->bytes / light_dtype_size(b->dtype) * light_dtype_size(dtype);
    LIGHT_TRY(light_storage_new(&b->lowered.storage, bytes, b->values->device));
    b->lowered.dtype = dtype;
    b->values->lowered = &b->lowered;
    for (int64_t i = 0; i < b->n; i++) LIGHT_TRY(light_tensor_lower(b->entries[i].parameter->tensor));
    return LIGHT_OK;
}

light_status light_flat_lower(light_flat *flat, light_dtype dtype)
{
    for (int i = 0; i < flat->n; i++) {
        light_flat_buffer *b = &flat->buffers[i];
        if (b->dtype != LIGHT_F32 || b->lowered.dtype == dtype) continue;
        drop_copy(b);
        light_status status = dtype ? make_copy(b, dtype) : LIGHT_OK;
        if (status != LIGHT_OK) {
            drop_copy(b);
            return status;
        }
    }
    return LIGHT_OK;
}

void light_flat_free(light_flat *flat)
{
    if (!flat) return;
    free_buffers(flat);
    light_free(flat);
}
