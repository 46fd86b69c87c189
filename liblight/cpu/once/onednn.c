/* SPDX-License-Identifier: Apache-2.0 */
/* oneDNN's convolutions behind a cache; see onednn.h.
 *
 * oneDNN splits its work by the number of threads, which would make results depend on it. So primitives are made with
 * one thread in view, and callers share fixed pieces among their threads. It never has threads of its own: they would
 * compete with those of cpu/once/team.c. */
#include "cpu/once/onednn.h"

#include "cpu/once/scratch.h"

#include <dnnl.h>
#include <omp.h>
#include <string.h>

enum { MAX_ARGS = 5 };

/* What one thread needs for a call. */
typedef struct {
    dnnl_exec_arg_t args[MAX_ARGS];
    const void *data[MAX_ARGS]; /* what args point to; setting it anew can cost a pass over padding */
} conv_slot;

typedef struct {
    light_conv_shape shape;
    int64_t pass, bias;
} conv_key;

struct light_onednn_conv {
    conv_key key;
    bool usable;
    dnnl_primitive_t primitive;
    dnnl_memory_desc_t x, w, y, b, plain, work;
    int args, slots;
    conv_slot *slot;
    dnnl_primitive_t reorder[2]; /* pack or unpack; unpack adding */
    dnnl_memory_t from, to;
};

static dnnl_engine_t engine;
static dnnl_stream_t stream;
static light_onednn_conv **table; /* open addressing; capacity is a power of two */
static size_t capacity, count;

static light_status failed(const char *what, dnnl_status_t status)
{
    return light_fail(status == dnnl_out_of_memory ? LIGHT_ERR_MEMORY : LIGHT_ERR_INTERNAL,
                      "conv2d: oneDNN: %s failed with status %d", what, (int)status);
}

/* ---- making ------------------------------------------------------------- */

static dnnl_data_type_t data_type(light_dtype dtype)
{
    return dtype == LIGHT_BF16 ? dnnl_bf16 : dnnl_f32;
}

static dnnl_status_t describe(light_onednn_conv *v, dnnl_memory_desc_t *any)
{
    const light_conv_shape *s = &v->key.shape;
    const dnnl_data_type_t type = data_type(s->dtype);
    const dnnl_data_type_t weight_type = v->key.pass == LIGHT_CONV_BACKWARD_WEIGHT ? dnnl_f32 : type;
    dnnl_dims_t x = {s->n, s->c, s->h, s->w}, y = {s->n, s->o, s->oh, s->ow}, b = {s->o};
    dnnl_dims_t plain = {s->o, s->c, s->kh, s->kw};
    dnnl_dims_t grouped = {s->groups, s->o / s->groups, s->c / s->groups, s->kh, s->kw};
    const bool groups = s->groups > 1;
    dnnl_status_t e = dnnl_memory_desc_init_by_tag(&v->x, 4, x, type, dnnl_nhwc);
    if (!e) e = dnnl_memory_desc_init_by_tag(&v->y, 4, y, type, dnnl_nhwc);
    if (!e) e = dnnl_memory_desc_init_by_tag(&v->b, 1, b, dnnl_f32, dnnl_x);
    if (!e)
        e = dnnl_memory_desc_init_by_tag(&v->plain, groups ? 5 : 4, groups ? grouped : plain, weight_type,
                                         groups ? dnnl_goihw : dnnl_oihw);
    if (!e)
        e = dnnl_memory_desc_init_by_tag(any, groups ? 5 : 4, groups ? grouped : plain, weight_type,
                                         dnnl_format_tag_any);
    return e;
}

static dnnl_status_t make_pass(light_onednn_conv *v, const dnnl_memory_desc_t *w,
                               const dnnl_primitive_attr_t attr, light_conv_pass pass,
                               dnnl_primitive_desc_t hint, dnnl_primitive_desc_t *out)
{
    const light_conv_shape *s = &v->key.shape;
    const dnnl_dims_t stride = {s->stride[0], s->stride[1]}, pad = {s->padding[0], s->padding[1]};
    const dnnl_dims_t dilate = {s->dilation[0] - 1, s->dilation[1] - 1};
    dnnl_convolution_desc_t d;
    dnnl_status_t e;
    if (pass == LIGHT_CONV_FORWARD)
        e = dnnl_dilated_convolution_forward_desc_init(&d, dnnl_forward_training, dnnl_convolution_direct,
                                                       &v->x, w, v->key.bias ? &v->b : NULL, &v->y, stride,
                                                       dilate, pad, pad);
    else if (pass == LIGHT_CONV_BACKWARD_DATA)
        e = dnnl_dilated_convolution_backward_data_desc_init(&d, dnnl_convolution_direct, &v->x, w, &v->y,
                                                             stride, dilate, pad, pad);
    else
        e = dnnl_dilated_convolution_backward_weights_desc_init(&d, dnnl_convolution_direct, &v->x, w, NULL,
                                                                &v->y, stride, dilate, pad, pad);
    return e ? e : dnnl_primitive_desc_create(out, &d, attr, engine, hint);
}

static dnnl_status_t make_conv(light_onednn_conv *v, dnnl_primitive_attr_t attr)
{
    dnnl_memory_desc_t any;
    dnnl_primitive_desc_t hint = NULL, desc = NULL;
    const light_conv_pass pass = (light_conv_pass)v->key.pass;
    dnnl_status_t e = describe(v, &any);
    if (!e && pass != LIGHT_CONV_FORWARD) {
        dnnl_memory_desc_t forward = any; /* the hint's weights have the type of the data */
        forward.data_type = v->x.data_type;
        e = make_pass(v, &forward, NULL, LIGHT_CONV_FORWARD, NULL, &hint);
    }
    if (!e) e = make_pass(v, &any, attr, pass, hint, &desc);
    if (!e) {
        const char *name = "";
        dnnl_primitive_desc_query(desc, dnnl_query_impl_info_str, 0, &name);
        /* Their reference code is slow, and their detour over products is slower than ours. */
        v->usable = !strstr(name, "ref") && !strstr(name, "gemm");
        const dnnl_query_t which =
            pass == LIGHT_CONV_BACKWARD_WEIGHT ? dnnl_query_diff_weights_md : dnnl_query_weights_md;
        v->w = *dnnl_primitive_desc_query_md(desc, which, 0);
        v->work = *dnnl_primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0);
        if (v->usable) e = dnnl_primitive_create(&v->primitive, desc);
    }
    if (hint) dnnl_primitive_desc_destroy(hint);
    if (desc) dnnl_primitive_desc_destroy(desc);
    return e;
}

static dnnl_status_t make_reorder(light_onednn_conv *v, bool adding, dnnl_primitive_t *out)
{
    const bool pack = v->key.pass != LIGHT_CONV_BACKWARD_WEIGHT;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t ops = NULL;
    dnnl_primitive_desc_t desc = NULL;
    dnnl_status_t e = dnnl_primitive_attr_create(&attr);
    if (!e && adding) {
        e = dnnl_post_ops_create(&ops);
        if (!e) e = dnnl_post_ops_append_sum(ops, 1);
        if (!e) e = dnnl_primitive_attr_set_post_ops(attr, ops);
    }
    if (!e)
        e = dnnl_reorder_primitive_desc_create(&desc, pack ? &v->plain : &v->w, engine,
                                               pack ? &v->w : &v->plain, engine, attr);
    if (!e) e = dnnl_primitive_create(out, desc);
    if (desc) dnnl_primitive_desc_destroy(desc);
    if (ops) dnnl_post_ops_destroy(ops);
    if (attr) dnnl_primitive_attr_destroy(attr);
    return e;
}

static dnnl_status_t make_reorders(light_onednn_conv *v)
{
    const bool pack = v->key.pass != LIGHT_CONV_BACKWARD_WEIGHT;
    dnnl_status_t e = make_reorder(v, false, &v->reorder[0]);
    if (!e && !pack) e = make_reorder(v, true, &v->reorder[1]);
    if (!e) e = dnnl_memory_create(&v->from, pack ? &v->plain : &v->w, engine, DNNL_MEMORY_NONE);
    if (!e) e = dnnl_memory_create(&v->to, pack ? &v->w : &v->plain, engine, DNNL_MEMORY_NONE);
    return e;
}

static dnnl_status_t make_slot(light_onednn_conv *v, conv_slot *slot)
{
    const bool weights = v->key.pass == LIGHT_CONV_BACKWARD_WEIGHT,
               data = v->key.pass == LIGHT_CONV_BACKWARD_DATA;
    const struct {
        int arg;
        const dnnl_memory_desc_t *desc;
    } needed[MAX_ARGS] = {
        {data ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC, &v->x},
        {weights ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS, &v->w},
        {weights || data ? DNNL_ARG_DIFF_DST : DNNL_ARG_DST, &v->y},
        {DNNL_ARG_SCRATCHPAD, &v->work},
        {DNNL_ARG_BIAS, &v->b},
    };
    v->args = v->key.bias ? 5 : 4;
    for (int i = 0; i < v->args; i++) {
        slot->args[i].arg = needed[i].arg;
        slot->data[i] = NULL;
        const dnnl_status_t e =
            dnnl_memory_create(&slot->args[i].memory, needed[i].desc, engine, DNNL_MEMORY_NONE);
        if (e) return e;
    }
    return dnnl_success;
}

static light_status grow_slots(light_onednn_conv *v, int threads)
{
    if (threads <= v->slots) return LIGHT_OK;
    conv_slot *slots = light_cpu_lasting((size_t)threads * sizeof *slots);
    if (!slots) return LIGHT_ERR_MEMORY;
    if (v->slots) memcpy(slots, v->slot, (size_t)v->slots * sizeof *slots);
    v->slot = slots;
    for (; v->slots < threads; v->slots++) {
        const dnnl_status_t e = make_slot(v, &slots[v->slots]);
        if (e) return failed("making memory objects", e);
    }
    return LIGHT_OK;
}

static dnnl_status_t start(void)
{
    if (stream) return dnnl_success;
    dnnl_status_t e = engine ? dnnl_success : dnnl_engine_create(&engine, dnnl_cpu, 0);
    return e ? e : dnnl_stream_create(&stream, engine, dnnl_stream_default_flags);
}

/* For the calling thread. Returns what was set. */
static int one_thread(void)
{
    const int threads = omp_get_max_threads();
    if (threads != 1) omp_set_num_threads(1);
    return threads;
}

static void make(light_onednn_conv *v)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t e = start();
    if (!e) e = dnnl_primitive_attr_create(&attr);
    if (!e) e = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    const int threads = one_thread();
    if (!e) e = make_conv(v, attr);
    if (!e && v->usable) e = make_reorders(v);
    omp_set_num_threads(threads);
    if (attr) dnnl_primitive_attr_destroy(attr);
    v->usable = v->usable && e == dnnl_success;
}

/* ---- the cache ---------------------------------------------------------- */

static uint64_t hash_key(const conv_key *key)
{
    const unsigned char *p = (const unsigned char *)key;
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < sizeof *key; i++) h = (h ^ p[i]) * 1099511628211u;
    return h ^ h >> 29;
}

static light_onednn_conv **find_place(light_onednn_conv **in, size_t size, const conv_key *key)
{
    size_t i = hash_key(key) & (size - 1);
    while (in[i] && memcmp(&in[i]->key, key, sizeof *key) != 0) i = (i + 1) & (size - 1);
    return &in[i];
}

static bool grow_table(void)
{
    if (2 * (count + 1) < capacity) return true;
    const size_t size = capacity ? 2 * capacity : 64;
    light_onednn_conv **bigger = light_cpu_lasting(size * sizeof *bigger);
    if (!bigger) return false;
    for (size_t i = 0; i < capacity; i++)
        if (table[i]) *find_place(bigger, size, &table[i]->key) = table[i];
    table = bigger;
    capacity = size;
    return true;
}

light_onednn_conv *light_onednn_conv_get(light_conv_pass pass, const light_conv_shape *shape, bool bias,
                                         int threads)
{
    conv_key key;
    memset(&key, 0, sizeof key); /* padding takes part in the comparison */
    key.shape.dtype = shape->dtype;
    memcpy((char *)&key.shape + offsetof(light_conv_shape, n),
           (const char *)shape + offsetof(light_conv_shape, n),
           sizeof key.shape - offsetof(light_conv_shape, n));
    key.pass = pass;
    key.bias = bias;
    if (!grow_table()) return NULL;
    light_onednn_conv **place = find_place(table, capacity, &key);
    if (!*place) {
        light_onednn_conv *v = light_cpu_lasting(sizeof *v);
        if (!v) return NULL;
        v->key = key;
        make(v);
        *place = v;
        count++;
    }
    if (!(*place)->usable || grow_slots(*place, threads) != LIGHT_OK) return NULL;
    return *place;
}

/* ---- running ------------------------------------------------------------ */

size_t light_onednn_conv_weight_bytes(const light_onednn_conv *conv)
{
    return dnnl_memory_desc_get_size(&conv->w);
}

bool light_onednn_conv_same_weights(const light_onednn_conv *a, const light_onednn_conv *b)
{
    return dnnl_memory_desc_equal(&a->w, &b->w);
}

size_t light_onednn_conv_work_bytes(const light_onednn_conv *conv)
{
    return dnnl_memory_desc_get_size(&conv->work);
}

static light_status reorder(light_onednn_conv *v, dnnl_primitive_t primitive, const void *from, void *to)
{
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, v->from}, {DNNL_ARG_TO, v->to}};
    dnnl_status_t e = dnnl_memory_set_data_handle(v->from, (void *)(uintptr_t)from);
    if (!e) e = dnnl_memory_set_data_handle(v->to, to);
    const int threads = one_thread();
    if (!e) e = dnnl_primitive_execute(primitive, stream, 2, args);
    if (threads != 1) omp_set_num_threads(threads);
    return e ? failed("reordering weights", e) : LIGHT_OK;
}

light_status light_onednn_conv_pack(light_onednn_conv *conv, const void *plain, void *packed)
{
    return reorder(conv, conv->reorder[0], plain, packed);
}

light_status light_onednn_conv_unpack(light_onednn_conv *conv, const void *packed, float *plain,
                                      bool accumulate)
{
    return reorder(conv, conv->reorder[accumulate], packed, plain);
}

light_status light_onednn_conv_run(light_onednn_conv *conv, int thread, const void *x, const void *w,
                                   const void *bias, const void *y, void *work)
{
    conv_slot *slot = &conv->slot[thread];
    const void *data[MAX_ARGS] = {x, w, y, work, bias};
    dnnl_status_t e = dnnl_success;
    for (int i = 0; i < conv->args && !e; i++) {
        if (slot->data[i] == data[i]) continue;
        e = dnnl_memory_set_data_handle(slot->args[i].memory, (void *)(uintptr_t)data[i]);
        slot->data[i] = data[i];
    }
    const int threads = one_thread();
    if (!e) e = dnnl_primitive_execute(conv->primitive, stream, conv->args, slot->args);
    if (threads != 1) omp_set_num_threads(threads);
    return e ? failed("a convolution", e) : LIGHT_OK;
}
