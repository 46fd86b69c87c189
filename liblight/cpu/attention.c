/* SPDX-License-Identifier: Apache-2.0 */
/* Scaled dot product attention without a matrix of scores in memory. */
#include "cpu/gemm_kernels.h"
#include "cpu/isa.h"
#include "cpu/once/backend.h"
#include "cpu/once/scratch.h"
#include "cpu/parallel.h"
#include "cpu/random.h"
#include "cpu/real.h"

/* A block of scores. KEYS is a multiple of the rows that a tile of a product has, QUERIES of its columns. */
enum { QUERIES = 64, KEYS = 112 };

extern const light_gemm_kernels LIGHT_ISA(light_gemm_kernels);

typedef struct attention {
    const light_tensor *q, *k, *v, *mask, *gy;
    const light_tensor *lse;
    light_tensor *y, *gq, *gk, *gv, *gmask;
    int64_t batch, heads, kv_heads, queries, keys, width;
    double scale, keep_scale;
    uint32_t threshold; /* of dropout; 0: none */
    const uint64_t *rng;
    bool causal;
    bool add[4];
    int64_t key_range; /* keys whose gradients a task gathers */
} attention;

/* Where a block of scores lies: nq queries from q0 on and nk keys from k0 on; lanes: nq up to whole vectors. */
typedef struct block {
    int64_t b, h, q0, nq, lanes, k0, nk;
} block;

/* What a task of the backward pass computes, and from which heads, queries and keys. */
typedef struct sides {
    bool queries, keys, values;
    int64_t h_from, h_to, q_from, q_to, k_from, k_to;
} sides;

/* Row `row` of head h. */
static inline char *place(const light_tensor *t, int64_t b, int64_t h, int64_t row)
{
    return t->data +
           (b * t->strides[0] + h * t->strides[1] + row * t->strides[2]) * light_element_size(t->dtype);
}

/* The keys that any query before q_end sees end here. */
static inline int64_t visible_end(const attention *a, int64_t q_end)
{
    int64_t end = a->causal ? q_end + a->keys - a->queries : a->keys;
    return end < 0 ? 0 : end < a->keys ? end : a->keys;
}

static inline bool pays(const attention *a)
{
    return a->batch * a->heads * a->queries * a->keys * a->width >= 1 << 20;
}

/* With enough heads a task is a head of keys, and scores are computed once. With few heads the gradients of keys and of
 * queries are tasks of their own, which compute the scores twice but are many. The shape alone decides. */
static inline bool by_heads(const attention *a)
{
    return a->key_range == a->keys;
}

static int64_t key_tasks(const attention *a)
{
    return a->batch * a->kv_heads * ((a->keys + a->key_range - 1) / a->key_range);
}

static int64_t task_count(const attention *a)
{
    if (by_heads(a)) return a->batch * a->kv_heads;
    return key_tasks(a) + a->batch * a->heads * ((a->queries + QUERIES - 1) / QUERIES);
}

/* Tiles of the mask's gradient: tasks of their own after the others, because each sums over all heads and queries that
 * share its elements. They compute the scores once more. */
static int64_t mask_tiles(int64_t n, int64_t tile)
{
    return (n + tile - 1) / tile;
}

static int64_t mask_tasks(const attention *a)
{
    if (!a->gmask) return 0;
    const int64_t *shape = a->gmask->shape;
    return shape[0] * shape[1] * mask_tiles(shape[2], QUERIES) * mask_tiles(shape[3], KEYS);
}

static sides task_sides(const attention *a, int64_t i, int64_t *b)
{
    int64_t share = a->heads / a->kv_heads, ranges = (a->keys + a->key_range - 1) / a->key_range;
    sides want = {.keys = a->gk, .values = a->gv, .q_to = a->queries};

    if (i < key_tasks(a)) {
        int64_t head = i / ranges % a->kv_heads;
        *b = i / ranges / a->kv_heads;
        want.queries = a->gq && by_heads(a);
        want.h_from = head * share;
        want.h_to = want.h_from + share;
        want.k_from = i % ranges * a->key_range;
        want.k_to = want.k_from + a->key_range < a->keys ? want.k_from + a->key_range : a->keys;
        return want;
    }
    int64_t blocks = (a->queries + QUERIES - 1) / QUERIES;
    i -= key_tasks(a);
    *b = i / blocks / a->heads;
    want = (sides){
        .queries = a->gq, .h_from = i / blocks % a->heads, .q_from = i % blocks * QUERIES, .k_to = a->keys};
    want.h_to = want.h_from + 1;
    want.q_to = want.q_from + QUERIES < a->queries ? want.q_from + QUERIES : a->queries;
    return want;
}

#define LIGHT_REAL 32
#define FAMILY     f32
#include "cpu/real.inc.h"
#include "cpu/attention.inc.h"
#undef LIGHT_REAL
#undef FAMILY
#define LIGHT_REAL 64
#define FAMILY     f64
#include "cpu/real.inc.h"
#include "cpu/attention.inc.h"

static attention attention_of(const light_kernel_args *args, const light_tensor *const *in)
{
    const light_sdpa_attrs *attrs = args->attrs;
    const light_tensor *q = in[0], *k = in[1];

    return (attention){.q = q,
                       .k = k,
                       .v = in[2],
                       .mask = in[3],
                       .batch = q->shape[0],
                       .heads = q->shape[1],
                       .kv_heads = k->shape[1],
                       .queries = q->shape[2],
                       .keys = k->shape[2],
                       .width = q->shape[3],
                       .scale = attrs->scale,
                       .keep_scale = attrs->dropout_p < 1 ? 1 / (1 - attrs->dropout_p) : 0,
                       .threshold = light_drop_threshold(attrs->dropout_p),
                       .rng = args->rng,
                       .causal = attrs->causal};
}

static light_status sdpa(const light_kernel_args *args)
{
    attention a = attention_of(args, args->in);

    a.y = args->out[0];
    a.lse = args->out[1];
    return a.q->dtype == LIGHT_F64 ? sdpa_f64(&a) : sdpa_f32(&a);
}

static light_status sdpa_backward(const light_kernel_args *args)
{
    attention a = attention_of(args, args->in + 1);

    a.gy = args->in[0];
    a.y = (light_tensor *)args->in[5];
    a.lse = args->in[6];
    a.gq = args->out[0];
    a.gk = args->out[1];
    a.gv = args->out[2];
    a.gmask = args->out[3];
    for (int i = 0; i < 4; i++) a.add[i] = args->accumulate >> i & 1;
    a.key_range = a.batch * a.kv_heads >= 4 || a.keys <= 4 * KEYS ? a.keys : 4 * KEYS;
    return a.q->dtype == LIGHT_F64 ? sdpa_backward_f64(&a) : sdpa_backward_f32(&a);
}

const light_cpu_kernel LIGHT_ISA(light_attention_kernels)[] = {
    {LIGHT_KERNEL_SDPA, sdpa},
    {LIGHT_KERNEL_SDPA_BACKWARD, sdpa_backward},
    {LIGHT_KERNEL_COUNT, NULL},
};
