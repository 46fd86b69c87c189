/* SPDX-License-Identifier: Apache-2.0 */
#include "nn/batch_statistics.h"

#include "autograd/op.h"
#include "base/memory.h"
#include "nn/modules.h"

#include <math.h>

typedef struct layer {
    light_batch_norm *module;
    int64_t at;         /* of its means in a block's c and d; its variances come next */
    int64_t calls;      /* in this micro-batch */
    light_running here; /* windows in the current block */
} layer;

/* A block is c[elements], d[elements], f32. */
struct light_batch_statistics {
    layer *layers;
    int n;
    int64_t elements, mine, current;
    int rank, ranks;
    light_storage *blocks;  /* of all ranks' micro-batches, by their numbers */
    light_storage *running; /* of all layers */
    double *counts;         /* calls in this window, by layer */
};

/* ---- making -------------------------------------------------------------- */

static int64_t find_layers(light_module *module, layer *layers, int *n)
{
    int64_t elements = 0;
    *n = 0;
    for (light_module *m = module; m; m = light_next_module(module, m)) {
        if (!light_is_batch_norm(m)) continue;
        light_batch_norm *norm = (light_batch_norm *)m;
        if (layers) layers[*n] = (layer){.module = norm, .at = elements};
        elements += 2 * norm->options.features;
        ++*n;
    }
    return elements;
}

static light_status make_windows(light_batch_statistics *b)
{
    for (int i = 0; i < b->n; i++) {
        layer *l = &b->layers[i];
        light_shape shape = LIGHT_SHAPE(l->module->options.features);
        LIGHT_TRY(light_tensor_new_view(&l->here.mean, b->blocks, 0, shape, LIGHT_F32));
        LIGHT_TRY(light_tensor_new_view(&l->here.var, b->blocks, 0, shape, LIGHT_F32));
    }
    return LIGHT_OK;
}

static light_status make(light_batch_statistics *b, light_module *module, light_device *device)
{
    size_t bytes = (size_t)b->elements * sizeof(float);
    b->layers = light_calloc((size_t)b->n, sizeof *b->layers);
    b->counts = light_calloc((size_t)b->n, sizeof *b->counts);
    if (!b->layers || !b->counts) return LIGHT_ERR_MEMORY;
    find_layers(module, b->layers, &b->n);
    LIGHT_TRY(light_storage_new(&b->running, bytes, device));
    LIGHT_TRY(light_storage_new(&b->blocks, (size_t)(b->ranks * b->mine) * 2 * bytes, device));
    return make_windows(b);
}

light_status light_batch_statistics_new(light_module *module, int64_t mine, int rank, int ranks,
                                        light_device *device, light_batch_statistics **out)
{
    int n;
    int64_t elements = find_layers(module, NULL, &n);
    *out = NULL;
    if (n == 0) return LIGHT_OK;
    light_batch_statistics *b = light_calloc(1, sizeof *b);
    if (!b) return LIGHT_ERR_MEMORY;
    *b = (light_batch_statistics){.n = n, .elements = elements, .mine = mine, .rank = rank, .ranks = ranks};
    light_status status = make(b, module, device);
    if (status == LIGHT_OK)
        *out = b;
    else
        light_batch_statistics_free(b);
    return status;
}

void light_batch_statistics_free(light_batch_statistics *b)
{
    if (!b) return;
    for (int i = 0; b->layers && i < b->n; i++) {
        light_tensor_free(b->layers[i].here.mean);
        light_tensor_free(b->layers[i].here.var);
    }
    light_storage_free(b->blocks);
    light_storage_free(b->running);
    light_free(b->layers);
    light_free(b->counts);
    light_free(b);
}

/* ---- a micro-batch --------------------------------------------------------- */

/* `n` elements of a storage from `at` on, as a window without an owner. */
static light_tensor window(light_storage *storage, int64_t at, int64_t n)
{
    light_tensor t = {
        .storage = storage, .data = (char *)storage->data + at * (int64_t)sizeof(float), .dtype = LIGHT_F32};
    light_tensor_set_shape(&t, LIGHT_SHAPE(n));
    return t;
}

static int64_t start_of(const light_batch_statistics *b, int64_t block)
{
    return block * 2 * b->elements;
}

static light_status fill(light_step *s, light_tensor t, double value)
{
    const light_fill_attrs attrs = {.value = value};
    return LIGHT_RUN(s, FILL, .out = {&t}, .attrs = &attrs);
}

light_status light_batch_statistics_begin(light_batch_statistics *b, light_step *s, int64_t i)
{
    b->current = start_of(b, b->rank * b->mine + i);
    for (int k = 0; k < b->n; k++) {
        layer *l = &b->layers[k];
        char *mean = (char *)b->blocks->data + (b->current + l->at) * (int64_t)sizeof(float);
        l->calls = 0;
        l->here.mean->data = mean;
        l->here.var->data = mean + l->here.mean->numel * (int64_t)sizeof(float);
    }
    LIGHT_TRY(fill(s, window(b->blocks, b->current, b->elements), 0));
    return fill(s, window(b->blocks, b->current + b->elements, b->elements), 1);
}

/* NULL: a layer of another model, which this one uses. */
static layer *find(light_batch_statistics *b, const light_batch_norm *module)
{
    for (int i = 0; b && i < b->n; i++)
        if (b->layers[i].module == module) return &b->layers[i];
    return NULL;
}

bool light_batch_statistics_has(light_batch_statistics *b, const light_batch_norm *module)
{
    return find(b, module) != NULL;
}

light_running light_batch_statistics_divert(light_batch_statistics *b, const light_batch_norm *module)
{
    return find(b, module)->here;
}

light_status light_batch_statistics_note(light_batch_statistics *b, light_step *s,
                                         const light_batch_norm *module)
{
    layer *l = find(b, module);
    b->counts[l - b->layers]++;
    l->calls++;
    return fill(s, window(b->blocks, b->current + b->elements + l->at, 2 * module->options.features),
                pow(1 - module->options.momentum, (double)l->calls));
}

/* ---- the end of a window ----------------------------------------------------- */

/* Between the layers' own tensors and `running`. */
static light_status copy_running(light_batch_statistics *b, bool in)
{
    light_device *device = b->running->device;
    for (int i = 0; i < b->n; i++) {
        light_batch_norm *m = b->layers[i].module;
        light_tensor *const own[] = {m->running_mean, m->running_var};
        for (int k = 0; k < 2; k++) {
            light_tensor here =
                window(b->running, b->layers[i].at + k * m->options.features, m->options.features);
            LIGHT_TRY(light_device_copy(device, in ? &here : own[k], in ? own[k] : &here));
        }
    }
    return LIGHT_OK;
}

static light_status change(light_batch_statistics *b, light_step *s, int64_t block)
{
    light_tensor r = window(b->running, 0, b->elements),
                 c = window(b->blocks, start_of(b, block), b->elements),
                 d = window(b->blocks, start_of(b, block) + b->elements, b->elements);
    LIGHT_TRY(
        LIGHT_RUN(s, BINARY, .in = {&r, &d}, .out = {&r}, .attrs = &(light_binary_attrs){LIGHT_BINARY_MUL}));
    return LIGHT_RUN(s, BINARY, .in = {&r, &c}, .out = {&r},
                     .attrs = &(light_binary_attrs){LIGHT_BINARY_ADD});
}

static light_status count_batches(light_batch_statistics *b, light_step *s, light_communicator *host)
{
    if (b->ranks > 1)
        LIGHT_TRY(light_reduce_doubles(host, b->counts, b->n, LIGHT_COMBINE_SUM, "batches of batch norm"));
    for (int i = 0; i < b->n; i++) {
        light_tensor *tracked = b->layers[i].module->num_batches_tracked;
        const light_unary_attrs more = {.code = LIGHT_UNARY_ADD_SCALAR, .a = b->counts[i]};
        LIGHT_TRY(LIGHT_RUN(s, UNARY, .in = {tracked}, .out = {tracked}, .attrs = &more));
        b->counts[i] = 0;
    }
    return LIGHT_OK;
}

light_status light_batch_statistics_apply(light_batch_statistics *b, light_step *s,
                                          light_communicator *tensors, light_communicator *host,
                                          int64_t batches)
{
    int64_t own = b->mine * 2 * b->elements;
    if (b->ranks > 1)
        LIGHT_TRY(light_communicate(tensors, &(light_collective){.kind = LIGHT_ALL_GATHER,
                                                                 .in = (char *)b->blocks->data +
                                                                       b->rank * own * (int64_t)sizeof(float),
                                                                 .out = b->blocks->data,
                                                                 .count = own,
                                                                 .dtype = LIGHT_F32,
                                                                 .what = "statistics of batch norm"}));
    LIGHT_TRY(copy_running(b, true));
    for (int64_t i = 0; i < batches; i++) LIGHT_TRY(change(b, s, i));
    LIGHT_TRY(copy_running(b, false));
    return count_batches(b, s, host);
}
