/* SPDX-License-Identifier: Apache-2.0 */
/* The walk behind every elementwise kernel. */
#include "cpu/map.h"

#include "cpu/convert.h"
#include "tensor/iterate.h"
#include "cpu/parallel.h"

#define TILE LIGHT_MAP_TILE

typedef struct operand {
    char *data;
    light_dtype dtype, as;
    size_t size;
} operand;

typedef struct walk {
    const light_map *map;
    light_iter it;
    operand operands[LIGHT_MAP_IN + 1]; /* the output first */
    bool direct; /* in the fastest dim all operands are arrays in the dtypes that fn wants */
} walk;

typedef union tile {
    _Alignas(64) char bytes[TILE * 8];
} tile;

#define STRIDED(T)                                                                                           \
    for (int64_t i = 0; i < n; i++) ((T *)to)[i] = ((const T *)from)[i * stride];                            \
    break
void LIGHT_ISA(light_gather)(void *to, const void *from, int64_t stride, int64_t n, size_t size)
{
    if (stride == 1) {
        memcpy(to, from, (size_t)n * size);
        return;
    }
    switch (size) {
    case 1: STRIDED(uint8_t);
    case 2: STRIDED(uint16_t);
    case 4: STRIDED(uint32_t);
    default: STRIDED(uint64_t);
    }
}
#undef STRIDED

#define STRIDED(T)                                                                                           \
    for (int64_t i = 0; i < n; i++) ((T *)to)[i * stride] = ((const T *)from)[i];                            \
    break
void LIGHT_ISA(light_scatter)(void *to, const void *from, int64_t stride, int64_t n, size_t size)
{
    if (stride == 1) {
        memcpy(to, from, (size_t)n * size);
        return;
    }
    switch (size) {
    case 1: STRIDED(uint8_t);
    case 2: STRIDED(uint16_t);
    case 4: STRIDED(uint32_t);
    default: STRIDED(uint64_t);
    }
}
#undef STRIDED

/* n elements of operand k from the cursor on, as an array of the dtype `as`: in place where possible. */
static const void *fetch(const walk *w, int k, const light_cursor *from, int64_t n, tile *raw, tile *room)
{
    const operand *o = &w->operands[k];
    const light_iter *it = &w->it;
    int64_t stride = it->strides[k][it->ndim - 1];
    const char *elements = o->data + from->offset[k] * (int64_t)o->size;
    if (stride != 1 || light_cursor_run(it, from) < n) {
        light_cursor c = *from;
        for (int64_t done = 0; done < n;) {
            int64_t run = light_cursor_run(it, &c);
            if (run > n - done) run = n - done;
            LIGHT_ISA(light_gather)
            (raw->bytes + (size_t)done * o->size, o->data + c.offset[k] * (int64_t)o->size, stride, run,
             o->size);
            light_cursor_advance(it, &c, run);
            done += run;
        }
        elements = raw->bytes;
    }
    if (o->dtype == o->as) return elements;
    LIGHT_ISA(light_convert)(room->bytes, o->as, elements, o->dtype, n);
    return room->bytes;
}

/* The opposite for the output. */
static void put(const walk *w, const light_cursor *from, int64_t n, const void *values, tile *raw)
{
    const operand *o = &w->operands[0];
    const light_iter *it = &w->it;
    int64_t stride = it->strides[0][it->ndim - 1];
    bool whole = stride == 1 && light_cursor_run(it, from) >= n;
    char *elements = o->data + from->offset[0] * (int64_t)o->size;
    if (o->dtype != o->as) {
        LIGHT_ISA(light_convert)(whole ? elements : raw->bytes, o->dtype, values, o->as, n);
        if (whole) return;
        values = raw->bytes;
    }
    light_cursor c = *from;
    for (int64_t done = 0; done < n;) {
        int64_t run = light_cursor_run(it, &c);
        if (run > n - done) run = n - done;
        LIGHT_ISA(light_scatter)
        (o->data + c.offset[0] * (int64_t)o->size, (const char *)values + (size_t)done * o->size, stride, run,
         o->size);
        light_cursor_advance(it, &c, run);
        done += run;
    }
}

#define ADD(T)                                                                                               \
    for (int64_t i = 0; i < n; i++) ((T *)y)[i] += ((const T *)x)[i];                                        \
    break
static void add(void *y, const void *x, light_dtype dtype, int64_t n)
{
    switch (dtype) {
    case LIGHT_F64: ADD(double);
    case LIGHT_F32: ADD(float);
    case LIGHT_I64: ADD(uint64_t);
    default: ADD(uint32_t);
    }
}
#undef ADD

/* One tile: n elements from the cursor on. */
static void run_tile(const walk *w, const light_cursor *c, int64_t n, tile *tiles)
{
    const light_map *map = w->map;
    tile *raw = &tiles[LIGHT_MAP_IN], *room = raw + LIGHT_MAP_IN, *result = room + LIGHT_MAP_IN;
    const void *in[LIGHT_MAP_IN];
    for (int k = 0; k < map->n_in; k++) in[k] = fetch(w, k + 1, c, n, &raw[k], &room[k]);
    map->fn(map->context, in, result->bytes, n);
    if (map->accumulate) add(result->bytes, fetch(w, 0, c, n, &tiles[0], &tiles[1]), w->operands[0].as, n);
    put(w, c, n, result->bytes, &tiles[0]);
}

static void run_tiles(const walk *w, int64_t from, int64_t to)
{
    tile tiles[3 * LIGHT_MAP_IN + 1];
    light_cursor c;
    light_cursor_at(&w->it, &c, from);
    while (from < to) {
        int64_t run = light_cursor_run(&w->it, &c), n = to - from < TILE ? to - from : TILE;
        /* A tile may go over the end of a run; not where runs are long enough to be worth a tile of their own. */
        if (n > run && run >= TILE / 4) n = run;
        run_tile(w, &c, n, tiles);
        for (int64_t left = n; left > 0;) {
            run = light_cursor_run(&w->it, &c);
            if (run > left) run = left;
            light_cursor_advance(&w->it, &c, run);
            left -= run;
        }
        from += n;
    }
}

/* Straight over the operands' own memory, one run of the fastest dim after the other. */
static void run_direct(const walk *w, int64_t from, int64_t to)
{
    const light_map *map = w->map;
    light_cursor c;
    light_cursor_at(&w->it, &c, from);
    while (from < to) {
        const void *in[LIGHT_MAP_IN];
        int64_t n = light_cursor_run(&w->it, &c);
        if (n > to - from) n = to - from;
        for (int k = 0; k < map->n_in; k++)
            in[k] = w->operands[k + 1].data + c.offset[k + 1] * (int64_t)w->operands[k + 1].size;
        map->fn(map->context, in, w->operands[0].data + c.offset[0] * (int64_t)w->operands[0].size, n);
        light_cursor_advance(&w->it, &c, n);
        from += n;
    }
}

static void run_part(void *context, int64_t from, int64_t to)
{
    const walk *w = context;
    if (w->direct)
        run_direct(w, from, to);
    else
        run_tiles(w, from, to);
}

/* All operands lie alike and are of the dtypes that fn wants: nothing to walk. */
static bool plain(const light_map *map)
{
    const light_tensor *out = map->out;
    if (map->accumulate || out->dtype != map->out_as) return false;
    bool dense = out->contiguous;
    for (int k = 0; k < map->n_in; k++) {
        if (map->in[k]->dtype != map->in_as[k]) return false;
        dense &= map->in[k]->contiguous;
    }
    if (dense) return true;
    for (int k = 0; k < map->n_in; k++)
        if (!light_tensor_same_layout(map->in[k], out)) return false;
    return light_tensor_is_dense(out);
}

static void set_operand(operand *o, const light_tensor *t, light_dtype as)
{
    *o = (operand){t->data, (light_dtype)t->dtype, as, light_dtype_size((light_dtype)t->dtype)};
}

static void run_walk(const light_map *map)
{
    walk w = {.map = map};
    const light_tensor *tensors[LIGHT_MAP_IN + 1] = {map->out};
    set_operand(&w.operands[0], map->out, map->out_as);
    for (int k = 0; k < map->n_in; k++) {
        tensors[k + 1] = map->in[k];
        set_operand(&w.operands[k + 1], map->in[k], map->in_as[k]);
    }
    light_iter_init(&w.it, tensors, map->n_in + 1);
    int last = w.it.ndim - 1;
    w.direct = !map->accumulate && w.it.shape[last] >= 16;
    for (int k = 0; k <= map->n_in; k++)
        w.direct &= w.it.strides[k][last] == 1 && w.operands[k].dtype == w.operands[k].as;
    light_parallel(w.it.numel, 1, run_part, &w);
}

typedef struct plain_walk {
    const light_map *map;
    size_t out_size, in_size[LIGHT_MAP_IN];
} plain_walk;

static void run_plain(void *context, int64_t from, int64_t to)
{
    const plain_walk *p = context;
    const light_map *map = p->map;
    const void *in[LIGHT_MAP_IN];
    for (int k = 0; k < map->n_in; k++) in[k] = map->in[k]->data + (size_t)from * p->in_size[k];
    map->fn(map->context, in, map->out->data + (size_t)from * p->out_size, to - from);
}

void LIGHT_ISA(light_map_run)(const light_map *map)
{
    int64_t n = map->out->numel;
    if (n == 0) return;
    if (!plain(map)) {
        run_walk(map);
        return;
    }
    if (n < LIGHT_PARALLEL_MIN) {
        const void *in[LIGHT_MAP_IN];
        for (int k = 0; k < map->n_in; k++) in[k] = map->in[k]->data;
        map->fn(map->context, in, map->out->data, n);
        return;
    }
    plain_walk p = {.map = map, .out_size = light_dtype_size(map->out_as)};
    for (int k = 0; k < map->n_in; k++) p.in_size[k] = light_dtype_size(map->in_as[k]);
    light_parallel(n, 1, run_plain, &p);
}
