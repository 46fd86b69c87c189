/* SPDX-License-Identifier: Apache-2.0 */
/* Applying an operation: checks that hold for all, output memory, the tape. */
#include "autograd/step.h"

#include <stdio.h>
#include <string.h>

/* ---- what infer functions share ----------------------------------------- */

light_spec light_spec_like(const light_tensor *t)
{
    return (light_spec){.dtype = (light_dtype)t->dtype,
                        .shape = light_shape_of(t),
                        .channels_last = !t->contiguous && light_tensor_is_channels_last(t)};
}

bool light_broadcast(light_shape a, light_shape b, light_shape *out)
{
    out->ndim = a.ndim > b.ndim ? a.ndim : b.ndim;
    for (int i = 1; i <= out->ndim; i++) {
        int64_t x = i <= a.ndim ? a.dims[a.ndim - i] : 1, y = i <= b.ndim ? b.dims[b.ndim - i] : 1;
        if (x != y && x != 1 && y != 1) return false;
        out->dims[out->ndim - i] = x == 1 ? y : x;
    }
    return true;
}

light_dtype light_promote(light_dtype a, light_dtype b)
{
    static const uint8_t rank[LIGHT_DTYPE_COUNT] = {
        [LIGHT_BOOL] = 1, [LIGHT_U8] = 2,   [LIGHT_I32] = 3, [LIGHT_I64] = 4,
        [LIGHT_F16] = 5,  [LIGHT_BF16] = 5, [LIGHT_F32] = 6, [LIGHT_F64] = 7};
    if (a == b) return a;
    if (rank[a] == rank[b]) return LIGHT_F32;
    return rank[a] > rank[b] ? a : b;
}

light_status light_run(light_step *s, light_kernel_id id, const light_kernel_args *args)
{
#define X(name) #name,
    static const char *const names[] = {LIGHT_KERNEL_MAP(X)};
#undef X
    light_kernel kernel = s->device->backend->kernels[id];
    light_kernel_args full = *args;
    full.device = s->device;
    light_status status = kernel ? kernel(&full)
                                 : light_fail(LIGHT_ERR_UNSUPPORTED, "kernel %s is not available on %s",
                                              names[id], s->device->name);
    return light_step_record(s, status);
}

/* ---- values that are elsewhere ------------------------------------------ */

light_status light_all_here(const light_node *node, bool saved)
{
    for (int i = 0; i < node->n_in; i++) {
        const light_tensor *t = node->in[i];
        bool read = t && (!saved || (i < 32 && node->saved_in >> i & 1));
        if (read && t->storage->keeper && !t->storage->keeper->here)
            return light_fail(
                LIGHT_ERR_STATE,
                "input %d lies in a shard that had to make room for those of other inputs; mark a "
                "module that holds all of them with light_module_shard_unit",
                i);
    }
    return LIGHT_OK;
}

/* ---- checks ------------------------------------------------------------- */

/* The 16-bit copy is what the operation reads: light_step_lowered brings it. */
static bool is_lowered_later(const light_step *s, const light_op *op, const light_tensor *t)
{
    if (!s->lower || !t->lowered) return false;
    return s->lower_all || (op->precision == LIGHT_OP_LOWER && t->lowered->dtype == s->lower);
}

static light_status check_inputs(light_step *s, const light_op *op, light_tensor *const *in, int n_in,
                                 uint32_t optional)
{
    for (int i = 0; i < n_in; i++) {
        const light_tensor *t = in[i];
        if (!t) {
            if (i < 32 && (optional >> i & 1)) continue;
            return light_fail(LIGHT_ERR_ARGUMENT, "input %d is NULL", i);
        }
        const char *problem = NULL;
        if (t->storage->released)
            problem =
                "was released when backward passed it (light_step_retain keeps tensors until the step ends)";
        else if (t->consumed)
            problem = "was overwritten by an operation in place";
        else if (t->storage->device != s->device)
            problem = "is on another device than the step";
        else if (t->step && t->step != s)
            problem = "belongs to another step (light_keep copies it out)";
        if (problem) return light_fail(LIGHT_ERR_STATE, "input %d %s", i, problem);
        light_keeper *keeper = t->storage->keeper;
        if (keeper && !keeper->here && !is_lowered_later(s, op, t)) LIGHT_TRY(keeper->fetch(keeper, s));
    }
    return LIGHT_OK;
}

/* Casts floating inputs as the operation's class and the precision ask. */
static light_status cast_inputs(light_step *s, light_node *node)
{
    light_op_class class = node->op->precision;
    light_dtype to = class == LIGHT_OP_LOWER ? s->lower : LIGHT_F32;
    for (int i = 0; i < node->n_in; i++) {
        light_tensor *t = node->in[i];
        if (!t || !light_dtype_is_floating((light_dtype)t->dtype) || t->dtype == LIGHT_F64) continue;
        if (class != LIGHT_OP_LOWER && s->lower_all)
            node->in[i] = light_seen(s, t);
        else if (class != LIGHT_OP_PROMOTE && t->dtype != to)
            node->in[i] = light_step_cast(s, t, to);
        if (!node->in[i]) return LIGHT_ERR_MEMORY;
    }
    return LIGHT_OK;
}

/* ---- the tape ----------------------------------------------------------- */

static void record(light_step *s, light_node *node)
{
    uint32_t saved_in = node->saved_in, saved_out = node->saved_out;
    node->path = s->path;
    for (int i = 0; i < node->n_in; i++) {
        light_tensor *t = node->in[i];
        if (!t) continue;
        if (!t->node && t->requires_grad) light_leaf(t)->uses++;
        if (i < 32 && (saved_in >> i & 1)) {
            light_storage_ref(t->storage);
            if (i < LIGHT_OP_MAX_IN) node->versions[i] = t->storage->version;
        }
    }
    for (int i = 0; i < node->n_out; i++) {
        light_tensor *t = node->out[i];
        if (saved_out >> i & 1) light_storage_ref(t->storage);
        if (!light_dtype_is_floating((light_dtype)t->dtype)) continue; /* indices have no gradient */
        t->requires_grad = true;
        t->node = node;
        t->out_index = (uint8_t)i;
    }
    node->previous = s->tape;
    s->tape = node;
}

static light_status make_outputs(light_step *s, light_node *node, const light_spec *specs)
{
    for (int i = 0; i < node->n_out; i++) {
        node->out[i] = light_step_tensor(s, specs[i]);
        if (!node->out[i]) return LIGHT_ERR_MEMORY;
        node->out[i]->storage->user_holds = true;
    }
    return LIGHT_OK;
}

/* An input that stands twice gets an alias, so that backward kernels never find two gradients in one place. */
static light_status part_equal_inputs(light_step *s, light_node *node)
{
    for (int i = 1; i < node->n_in; i++) {
        light_tensor *t = node->in[i];
        if (!t || !t->requires_grad) continue;
        for (int j = 0; j < i; j++) {
            if (node->in[j] != t) continue;
            if (!(node->in[i] = light_alias(s, t))) return LIGHT_ERR_MEMORY;
            break;
        }
    }
    return LIGHT_OK;
}

static light_node *new_node(light_step *s, const light_op *op, light_tensor *const *in, int n_in,
                            const void *attrs, size_t attrs_size, int n_out)
{
    size_t arrays = ((size_t)n_in + (size_t)n_out) * sizeof(light_tensor *);
    light_node *node = light_pool_take(&s->pool, sizeof *node + arrays + attrs_size + 16);
    if (!node) return NULL;
    node->op = op;
    node->in = (light_tensor **)(node + 1);
    node->out = node->in + n_in;
    node->n_in = n_in;
    node->n_out = n_out;
    node->saved_in = op->saves_in;
    node->saved_out = op->saves_out;
    memcpy(node->in, in, (size_t)n_in * sizeof *in);
    if (attrs_size) {
        node->attrs = (void *)(((uintptr_t)(node->out + n_out) + 15) & ~(uintptr_t)15);
        memcpy(node->attrs, attrs, attrs_size);
    }
    if (op->random) light_step_draw(s, node->rng);
    return node;
}

static light_status run_node(light_step *s, light_node *node, bool needs_grad)
{
    const light_op *op = node->op;
    light_spec specs[LIGHT_OP_MAX_OUT];
    if (s->lower) LIGHT_TRY(cast_inputs(s, node));
    if (needs_grad && node->n_in > 1 && node->n_in <= LIGHT_OP_MAX_IN) LIGHT_TRY(part_equal_inputs(s, node));
    LIGHT_TRY(light_all_here(node, false));
    s->op = op->name; /* casts and aliases are operations too */
    LIGHT_TRY(op->infer(s, node, specs));
    if (!op->view) LIGHT_TRY(make_outputs(s, node, specs));
    LIGHT_TRY(op->forward(s, node));
    if (op->view) /* the base is held by its user; a window on it needs no hold of its own */
        for (int i = 0; i < node->n_out; i++) light_storage_unref(s, node->out[i]->storage);
    return s->status;
}

light_tensor *light_apply(light_step *s, const light_op *op, light_tensor *const *in, int n_in,
                          uint32_t optional, const void *attrs, size_t attrs_size, light_tensor **out,
                          int n_out)
{
    if (!s || s->status != LIGHT_OK) return NULL;
    const char *outer = s->op;
    bool needs_grad = false;
    s->op = op->name;
    light_status status = check_inputs(s, op, in, n_in, optional);
    light_node *node = NULL;
    if (status == LIGHT_OK && !(node = new_node(s, op, in, n_in, attrs, attrs_size, n_out)))
        status = LIGHT_ERR_MEMORY;
    if (status == LIGHT_OK) {
        if (s->grad_enabled && op->backward)
            for (int i = 0; i < n_in; i++) needs_grad |= in[i] && in[i]->requires_grad;
        light_range_push(s->device, op->name);
        status = run_node(s, node, needs_grad);
        light_range_pop(s->device);
    }
    if (status != LIGHT_OK) {
        light_step_record(s, status);
        s->op = outer;
        return NULL;
    }
    if (needs_grad)
        record(s, node);
    else
        for (int i = 0; i < LIGHT_OP_MAX_EXTRA && node->extra[i]; i++) light_step_release(s, node->extra[i]);
    s->op = outer;
    if (out) memcpy(out, node->out, (size_t)node->n_out * sizeof *out);
    return node->out[0];
}
