/* SPDX-License-Identifier: Apache-2.0 */
/* Scaled dot product attention against its definition in double, rotary positions against complex rotation. */
#include "support/op_check.h"

#include "base/philox.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

typedef struct attention_case {
    int64_t batch, heads, kv_heads, queries, keys, width;
    light_sdpa_params params;
    enum {
        NO_MASK,
        BOOL_MASK,
        FLOAT_MASK, /* of the dtype of q, k and v; of another one: */
        F64_MASK,
        F32_MASK,
        BF16_MASK,
        F16_MASK
    } mask;
    enum {
        BY_PAIR,  /* [queries, keys] */
        BY_KEY,   /* [batch, 1, 1, keys] */
        BY_QUERY, /* [heads, queries, 1]; adds the same to all scores of a query, so its gradient is 0 */
        BY_ALL,   /* [batch, heads, queries, keys] */
        TURNED    /* [keys, queries], transposed before use */
    } mask_shape;
    enum {
        PLAIN,
        SWAPPED,
        LAST_FIRST,
        THREE_DIMS,
        FIVE_DIMS
    } form; /* how q, k and v come to the operation */
} attention_case;

static light_tensor *reform(light_step *s, light_tensor *t, int form)
{
    if (form == SWAPPED) return light_permute(s, t, LIGHT_DIMS(0, 2, 1, 3));
    if (form == LAST_FIRST) return light_permute(s, t, LIGHT_DIMS(0, 2, 3, 1));
    return t;
}

static light_tensor *apply(light_step *s, light_tensor **in, const void *user)
{
    const attention_case *c = user;
    light_tensor *mask = c->mask ? in[3] : NULL;

    if (mask && c->mask_shape == TURNED) mask = light_permute(s, mask, LIGHT_DIMS(1, 0));
    return light_scaled_dot_product_attention(s, reform(s, in[0], c->form), reform(s, in[1], c->form),
                                              reform(s, in[2], c->form), mask, c->params);
}

/* Shape of q (rows: queries) or k and v as the leaves have it. */
static light_shape leaf_shape(const attention_case *c, int64_t heads, int64_t rows)
{
    switch (c->form) {
    case SWAPPED: return LIGHT_SHAPE(c->batch, rows, heads, c->width);
    case LAST_FIRST: return LIGHT_SHAPE(c->batch, c->width, heads, rows);
    case THREE_DIMS: return LIGHT_SHAPE(heads, rows, c->width);
    case FIVE_DIMS: return LIGHT_SHAPE(c->batch / 2, 2, heads, rows, c->width);
    default: return LIGHT_SHAPE(c->batch, heads, rows, c->width);
    }
}

/* Element (b, h, row, p) in a leaf of that shape. */
static int64_t place(const attention_case *c, int64_t heads, int64_t rows, int64_t b, int64_t h, int64_t row,
                     int64_t p)
{
    if (c->form == SWAPPED) return ((b * rows + row) * heads + h) * c->width + p;
    if (c->form == LAST_FIRST) return ((b * c->width + p) * heads + h) * rows + row;
    return ((b * heads + h) * rows + row) * c->width + p;
}

static const light_dtype mask_dtypes[] = {[BOOL_MASK] = LIGHT_BOOL,
                                          [F64_MASK] = LIGHT_F64,
                                          [F32_MASK] = LIGHT_F32,
                                          [BF16_MASK] = LIGHT_BF16,
                                          [F16_MASK] = LIGHT_F16};

static light_shape mask_shape(const attention_case *c)
{
    switch (c->mask_shape) {
    case BY_KEY: return LIGHT_SHAPE(c->batch, 1, 1, c->keys);
    case BY_QUERY: return LIGHT_SHAPE(c->heads, c->queries, 1);
    case BY_ALL: return LIGHT_SHAPE(c->batch, c->heads, c->queries, c->keys);
    case TURNED: return LIGHT_SHAPE(c->keys, c->queries);
    default: return LIGHT_SHAPE(c->queries, c->keys);
    }
}

static int64_t mask_place(const attention_case *c, int64_t b, int64_t h, int64_t t, int64_t s)
{
    switch (c->mask_shape) {
    case BY_KEY: return b * c->keys + s;
    case BY_QUERY: return h * c->queries + t;
    case BY_ALL: return ((b * c->heads + h) * c->queries + t) * c->keys + s;
    case TURNED: return s * c->queries + t;
    default: return t * c->keys + s;
    }
}

static double dropped(const attention_case *c, int64_t b, int64_t h, int64_t t, int64_t s)
{
    uint32_t key[2], bits[4];
    uint64_t i = (uint64_t)(((b * c->heads + h) * c->queries + t) * c->keys + s);

    if (c->params.dropout_p == 0) return 1;
    light_rng_key(5, LIGHT_RNG_STEP, 0, key);
    light_philox_at(key, i / 4, (uint64_t)OP_COUNTER << 24, bits);
    return light_uniform(bits[i % 4]) >= (float)c->params.dropout_p ? 1 / (1 - c->params.dropout_p) : 0;
}

/* Weights of one query before dropout; false when it sees nothing. */
static bool weights(const attention_case *c, double *const *x, int64_t b, int64_t h, int64_t t, double *w)
{
    int64_t group = h / (c->heads / c->kv_heads);
    double scale = c->params.scale ? c->params.scale : 1 / sqrt((double)c->width), max = -INFINITY, sum = 0;

    for (int64_t s = 0; s < c->keys; s++) {
        double m = c->mask ? x[3][mask_place(c, b, h, t, s)] : 0;
        w[s] = 0;
        for (int64_t p = 0; p < c->width; p++)
            w[s] += scale * x[0][place(c, c->heads, c->queries, b, h, t, p)] *
                    x[1][place(c, c->kv_heads, c->keys, b, group, s, p)];
        if (c->mask >= FLOAT_MASK) w[s] += m;
        if (c->mask == BOOL_MASK && m == 0) w[s] = -INFINITY;
        if (c->params.causal && s > t + c->keys - c->queries) w[s] = -INFINITY;
        max = fmax(max, w[s]);
    }
    for (int64_t s = 0; s < c->keys && max > -INFINITY; s++) sum += exp(w[s] - max);
    for (int64_t s = 0; s < c->keys; s++) w[s] = max > -INFINITY ? exp(w[s] - max) / sum : 0;
    return max > -INFINITY;
}

/* y [batch, heads, queries, width]; grads (in the leaves' order) of sum(y gy) unless NULL. */
static void reference(const attention_case *c, double *const *x, double *y, const double *gy,
                      double *const *grads)
{
    double *w = malloc((size_t)c->keys * 2 * sizeof *w), *slope = w + c->keys;
    double scale = c->params.scale ? c->params.scale : 1 / sqrt((double)c->width);
    int64_t width = c->width;

    assert_non_null(w);
    for (int64_t i = 0; i < c->batch * c->heads * c->queries; i++) {
        int64_t b = i / c->queries / c->heads, h = i / c->queries % c->heads, t = i % c->queries;
        int64_t group = h / (c->heads / c->kv_heads);
        double mean = 0;
        weights(c, x, b, h, t, w);
        for (int64_t p = 0; p < width; p++) y[i * width + p] = 0;
        for (int64_t s = 0; s < c->keys; s++)
            for (int64_t p = 0; p < width; p++)
                y[i * width + p] +=
                    w[s] * dropped(c, b, h, t, s) * x[2][place(c, c->kv_heads, c->keys, b, group, s, p)];
        if (!gy) continue;
        for (int64_t s = 0; s < c->keys; s++) {
            slope[s] = 0;
            for (int64_t p = 0; p < width; p++)
                slope[s] += gy[i * width + p] * x[2][place(c, c->kv_heads, c->keys, b, group, s, p)];
            slope[s] *= dropped(c, b, h, t, s);
            mean += slope[s] * w[s];
        }
        for (int64_t s = 0; s < c->keys; s++) {
            double d = w[s] * (slope[s] - mean) * scale;
            if (c->mask >= FLOAT_MASK) grads[3][mask_place(c, b, h, t, s)] += d / scale;
            for (int64_t p = 0; p < width; p++) {
                int64_t at_q = place(c, c->heads, c->queries, b, h, t, p);
                int64_t at_k = place(c, c->kv_heads, c->keys, b, group, s, p);
                grads[0][at_q] += d * x[1][at_k];
                grads[1][at_k] += d * x[0][at_q];
                grads[2][at_k] += w[s] * dropped(c, b, h, t, s) * gy[i * width + p];
            }
        }
    }
    free(w);
}

typedef struct numbers {
    double *x[4]; /* q, k, v, mask */
    double *y;
    int64_t nq, nk, n_mask;
    op_check check;
} numbers;

static void prepare(numbers *n, attention_case *c, bool rough)
{
    bool four = c->form <= LAST_FIRST;

    n->nq = c->batch * c->heads * c->queries * c->width;
    n->nk = c->batch * c->kv_heads * c->keys * c->width;
    n->n_mask = light_shape_numel(mask_shape(c));
    n->x[0] = malloc((size_t)(2 * n->nq + 2 * n->nk + n->n_mask) * sizeof(double));
    assert_non_null(n->x[0]);
    n->x[1] = n->x[0] + n->nq;
    n->x[2] = n->x[1] + n->nk;
    n->y = n->x[2] + n->nk;
    n->x[3] = n->y + n->nq;
    for (int i = 0; i < 3; i++) {
        int64_t count = i ? n->nk : n->nq;
        if (rough)
            rough_values(n->x[i], count, (uint64_t)i + 1);
        else
            spread_values(n->x[i], count, -2, 2, (uint64_t)i + 1);
    }
    spread_values(n->x[3], n->n_mask, -2, 2, 4);
    for (int64_t i = 0; c->mask == BOOL_MASK && i < n->n_mask; i++) n->x[3][i] = n->x[3][i] > -0.5;
    /* The second query sees nothing. */
    for (int64_t i = c->keys; c->mask && c->mask_shape == BY_PAIR && i < 2 * c->keys && i < n->n_mask; i++)
        n->x[3][i] = c->mask == BOOL_MASK ? 0 : -INFINITY;
    n->check = (op_check){.name = "attention",
                          .apply = apply,
                          .user = c,
                          .count = 4,
                          .in = {{.shape = leaf_shape(c, c->heads, c->queries), .values = n->x[0]},
                                 {.shape = leaf_shape(c, c->kv_heads, c->keys), .values = n->x[1]},
                                 {.shape = leaf_shape(c, c->kv_heads, c->keys), .values = n->x[2]},
                                 {.shape = mask_shape(c),
                                  .values = n->x[3],
                                  .dtype = mask_dtypes[c->mask],
                                  .constant = c->mask < FLOAT_MASK}},
                          .out = four ? LIGHT_SHAPE(c->batch, c->heads, c->queries, c->width)
                                      : leaf_shape(c, c->heads, c->queries),
                          .expected = n->y};
}

static void check_case(attention_case c)
{
    numbers n;

    prepare(&n, &c, false);
    reference(&c, n.x, n.y, NULL, NULL);
    check_op(&n.check);
    free(n.x[0]);
}

static void plain_and_causal(void **state)
{
    (void)state;
    for (int causal = 0; causal < 2; causal++) {
        light_sdpa_params p = {.causal = causal};
        check_case((attention_case){2, 2, 2, 3, 3, 4, p, NO_MASK, BY_PAIR, PLAIN});
        check_case((attention_case){1, 1, 1, 3, 5, 2, p, NO_MASK, BY_PAIR, PLAIN});
        check_case((attention_case){1, 2, 2, 5, 3, 3, p, NO_MASK, BY_PAIR,
                                    PLAIN}); /* the first queries see nothing */
        check_case((attention_case){1, 1, 1, 1, 1, 1, p, NO_MASK, BY_PAIR, PLAIN});
        check_case((attention_case){1, 4, 2, 2, 3, 2, p, NO_MASK, BY_PAIR, PLAIN});
        check_case((attention_case){2, 3, 1, 2, 2, 2, p, NO_MASK, BY_PAIR, PLAIN});
        check_case((attention_case){1, 2, 1, 3, 4, 8, p, NO_MASK, BY_PAIR, SWAPPED});
    }
    check_case((attention_case){1, 1, 1, 3, 3, 4, {.scale = 0.25}, NO_MASK, BY_PAIR, PLAIN});
}

static void masks(void **state)
{
    (void)state;
    for (int mask = BOOL_MASK; mask <= FLOAT_MASK; mask++) {
        check_case((attention_case){2, 2, 1, 3, 4, 2, {.causal = false}, mask, BY_PAIR, PLAIN});
        check_case((attention_case){2, 2, 2, 3, 4, 2, {.causal = true}, mask, BY_KEY, PLAIN});
        check_case((attention_case){2, 2, 2, 3, 4, 2, {.causal = true}, mask, BY_QUERY, PLAIN});
        check_case((attention_case){2, 2, 1, 3, 4, 2, {.dropout_p = 0.25}, mask, BY_ALL, PLAIN});
        check_case((attention_case){2, 2, 1, 3, 4, 2, {.causal = false}, mask, TURNED, PLAIN});
    }
}

/* A mask may be made of the lowest floats: a query that has nothing else sees all keys alike. */
static void lowest_numbers(void **state)
{
    attention_case c = {1, 2, 1, 3, 70, 64, {.causal = false}, F32_MASK, BY_PAIR, PLAIN};
    numbers n;

    (void)state;
    prepare(&n, &c, false);
    for (int64_t s = 0; s < c.keys; s++) n.x[3][2 * c.keys + s] = -FLT_MAX;
    reference(&c, n.x, n.y, NULL, NULL);
    n.check.no_grad = true; /* its row keeps no logarithm of a sum */
    check_op(&n.check);
    free(n.x[0]);
}

static void forms_of_input(void **state)
{
    (void)state;
    for (int form = SWAPPED; form <= FIVE_DIMS; form++) {
        attention_case c = {2, 2, 1, 3, 4, 2, {.causal = true}, FLOAT_MASK, BY_PAIR, form};
        if (form == THREE_DIMS) c.batch = 1;
        check_case(c);
    }
}

static void dropout(void **state)
{
    (void)state;
    check_case((attention_case){1, 2, 2, 3, 5, 2, {.dropout_p = 0.5}, NO_MASK, BY_PAIR, PLAIN});
    check_case(
        (attention_case){1, 2, 1, 3, 3, 2, {.dropout_p = 0.25, .causal = true}, NO_MASK, BY_PAIR, PLAIN});
}

/* Shapes beyond the blocks: values and gradients against the definition. */
static void check_large(attention_case c, light_dtype dtype, double tolerance)
{
    numbers n;
    light_tensor *in[4], *y, *g;
    light_step *s;
    double *gy, *grads[4];

    prepare(&n, &c, false);
    gy = calloc((size_t)(2 * n.nq + 2 * n.nk + n.n_mask), sizeof *gy);
    assert_non_null(gy);
    grads[0] = gy + n.nq;
    grads[1] = grads[0] + n.nq;
    grads[2] = grads[1] + n.nk;
    grads[3] = grads[2] + n.nk;
    spread_values(gy, n.nq, -2, 2, 6);
    reference(&c, n.x, n.y, gy, grads);
    assert_int_equal(light_step_new(&s, .seed = 5), LIGHT_OK);
    for (int i = 0; i < 4; i++) {
        const op_input *input = &n.check.in[i];
        in[i] = new_from_doubles(input->shape, input->dtype ? input->dtype : dtype, input->values);
        light_set_requires_grad(in[i], !input->constant);
    }
    assert_int_equal(light_step_begin(s), LIGHT_OK);
    light_step_set_counter(s, OP_COUNTER);
    y = apply(s, in, &c);
    assert_step_ok(s);
    assert_values(y, n.y, tolerance);
    g = new_from_doubles(light_shape_of(y), dtype, gy);
    assert_int_equal(light_backward_from(s, y, g), LIGHT_OK);
    for (int i = 0; i < 3 + (c.mask >= FLOAT_MASK); i++)
        assert_values(light_grad(in[i]), grads[i], 4 * tolerance);
    light_tensor_free(g);
    for (int i = 0; i < 4; i++) light_tensor_free(in[i]);
    light_step_free(s);
    free(n.x[0]);
    free(gy);
}

static void large_shapes(void **state)
{
    light_sdpa_params causal = {.causal = true}, drop = {.dropout_p = 0.25, .causal = true},
                      none = {.causal = false};

    (void)state;
    check_large((attention_case){1, 1, 1, 70, 130, 20, none, NO_MASK, BY_PAIR, PLAIN}, LIGHT_F32, 4e-6);
    check_large((attention_case){1, 2, 1, 130, 130, 64, causal, NO_MASK, BY_PAIR, SWAPPED}, LIGHT_F32, 4e-6);
    check_large((attention_case){1, 2, 2, 65, 230, 32, causal, NO_MASK, BY_PAIR, PLAIN}, LIGHT_F64, 1e-13);
    check_large((attention_case){2, 2, 1, 66, 114, 16, drop, BOOL_MASK, BY_PAIR, PLAIN}, LIGHT_F32, 4e-6);
    check_large((attention_case){1, 1, 1, 130, 600, 8, none, FLOAT_MASK, BY_PAIR, PLAIN}, LIGHT_F32,
                4e-6); /* few heads */
    check_large((attention_case){2, 2, 1, 70, 230, 8, drop, FLOAT_MASK, BY_KEY, PLAIN}, LIGHT_F32, 4e-6);
    check_large((attention_case){2, 2, 2, 70, 120, 8, causal, FLOAT_MASK, BY_ALL, SWAPPED}, LIGHT_F64, 1e-13);
    check_large((attention_case){2, 2, 2, 130, 120, 8, none, FLOAT_MASK, BY_QUERY, PLAIN}, LIGHT_F32, 4e-6);
    check_large((attention_case){1, 2, 1, 70, 600, 8, causal, NO_MASK, BY_PAIR, PLAIN}, LIGHT_F64, 1e-13);
    check_large((attention_case){1, 1, 1, 20, 40, 100, drop, NO_MASK, BY_PAIR, PLAIN}, LIGHT_F32, 4e-6);
    check_large((attention_case){1, 2, 1, 20, 70, 256, causal, NO_MASK, BY_PAIR, PLAIN}, LIGHT_F32, 4e-6);
    check_large((attention_case){1, 1, 1, 10, 20, 300, none, NO_MASK, BY_PAIR, PLAIN}, LIGHT_F64, 1e-13);
    check_large((attention_case){1, 2, 1, 1, 100, 80, causal, NO_MASK, BY_PAIR, PLAIN}, LIGHT_F64, 1e-13);
    check_large((attention_case){1, 1, 1, 20, 30, 256, none, NO_MASK, BY_PAIR, PLAIN}, LIGHT_BF16, 0x1p-7);
    check_large((attention_case){1, 1, 1, 20, 30, 64, drop, NO_MASK, BY_PAIR, PLAIN}, LIGHT_F16, 0x1p-9);
    check_large((attention_case){1, 4, 4, 70, 120, 64, causal, NO_MASK, BY_PAIR, SWAPPED}, LIGHT_BF16,
                0x1p-7);
    check_large((attention_case){1, 1, 1, 70, 120, 33, none, BOOL_MASK, BY_KEY, PLAIN}, LIGHT_F16, 0x1p-9);
}

/* What tensor cores do: 16-bit heads of 8 to 128 numbers, with tails in every dimension. */
static void half_precision(void **state)
{
    light_sdpa_params causal = {.causal = true}, none = {.causal = false}, scaled = {.scale = 0.3};
    attention_case cases[] = {
        {1, 2, 1, 70, 120, 64, none, NO_MASK, BY_PAIR, PLAIN},
        {1, 2, 1, 130, 150, 64, causal, NO_MASK, BY_PAIR, SWAPPED},
        {1, 1, 1, 150, 130, 64, causal, NO_MASK, BY_PAIR, PLAIN}, /* the first queries see nothing */
        {1, 1, 1, 70, 100, 128, causal, NO_MASK, BY_PAIR, SWAPPED},
        {1, 1, 1, 20, 200, 128, none, NO_MASK, BY_PAIR, PLAIN},
        {2, 4, 2, 1, 70, 128, causal, NO_MASK, BY_PAIR, PLAIN}, /* decoding */
        {2, 4, 2, 300, 40, 16, none, NO_MASK, BY_PAIR, PLAIN},
        {1, 2, 2, 35, 35, 8, causal, NO_MASK, BY_PAIR, PLAIN},
        {2, 1, 1, 20, 30, 40, scaled, NO_MASK, BY_PAIR, PLAIN},
        {1, 3, 1, 40, 30, 80, none, NO_MASK, BY_PAIR, SWAPPED},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        check_large(cases[i], LIGHT_BF16, 0x1p-7);
        check_large(cases[i], LIGHT_F16, 0x1p-9);
    }
}

/* Masks of all shapes and dtypes and dropout there; groups of four random numbers lie across rows and tiles. */
static void half_precision_extras(void **state)
{
    light_sdpa_params causal = {.causal = true}, none = {.causal = false}, drop = {.dropout_p = 0.25},
                      both = {.dropout_p = 0.5, .causal = true}, all = {.dropout_p = 1};
    attention_case cases[] = {
        {1, 2, 1, 70, 120, 64, none, BOOL_MASK, BY_PAIR, PLAIN},
        {2, 2, 1, 40, 70, 128, none, FLOAT_MASK, BY_KEY, PLAIN},
        {2, 2, 2, 66, 40, 16, causal, F32_MASK, BY_QUERY, PLAIN},
        {2, 4, 2, 20, 133, 24, both, BOOL_MASK, BY_ALL, SWAPPED},
        {1, 2, 1, 150, 75, 64, both, F32_MASK, BY_PAIR, PLAIN}, /* the first queries see nothing */
        {1, 2, 1, 70, 134, 128, both, F64_MASK, TURNED, SWAPPED},
        {1, 1, 1, 140, 30, 40, drop, BOOL_MASK, TURNED, PLAIN},
        {1, 2, 1, 35, 200, 64, drop, NO_MASK, BY_PAIR, PLAIN},
        {2, 2, 1, 67, 67, 128, both, NO_MASK, BY_PAIR, PLAIN},
        {1, 4, 2, 1, 75, 64, drop, BOOL_MASK, BY_KEY, PLAIN}, /* decoding */
        {1, 1, 1, 20, 30, 32, all, BOOL_MASK, BY_PAIR, PLAIN},
        {1, 1, 1, 20, 30, 32, none, F16_MASK, BY_PAIR, PLAIN},
        {1, 1, 1, 20, 30, 32, none, BF16_MASK, BY_PAIR, PLAIN},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        check_large(cases[i], LIGHT_BF16, 0x1p-7);
        check_large(cases[i], LIGHT_F16, 0x1p-9);
    }
}

static void same_bits_for_all_threads(void **state)
{
    attention_case cases[] = {
        {2, 4, 2, 100, 130, 32, {.causal = true, .dropout_p = 0.1}, NO_MASK, BY_PAIR, SWAPPED},
        {1, 1, 1, 100, 700, 24, {.causal = false}, FLOAT_MASK, BY_PAIR, PLAIN},
        {2, 2, 2, 100, 130, 24, {.causal = false}, FLOAT_MASK, BY_KEY, PLAIN}};

    (void)state;
    for (int i = 0; i < 3; i++) {
        numbers n;
        prepare(&n, &cases[i], true);
        check_op_threads(&n.check);
        free(n.x[0]);
    }
}

static void wrong_arguments(void **state)
{
    double x[64] = {0};
    attention_case c = {.form = PLAIN};
    op_check check = {.name = "attention",
                      .apply = apply,
                      .user = &c,
                      .count = 4,
                      .in = {{.shape = LIGHT_SHAPE(1, 2, 3, 4), .values = x},
                             {.shape = LIGHT_SHAPE(1, 2, 5, 4), .values = x},
                             {.shape = LIGHT_SHAPE(1, 2, 5, 4), .values = x},
                             {.shape = LIGHT_SHAPE(3, 4), .values = x}}};

    (void)state;
    c.mask = FLOAT_MASK;
    check_op_fails(&check, LIGHT_F32, LIGHT_ERR_SHAPE, "a mask [3, 4] does not fit scores [1, 2, 3, 5]");
    c.mask = NO_MASK;
    c.params.dropout_p = -1;
    check_op_fails(&check, LIGHT_F32, LIGHT_ERR_ARGUMENT, "dropout_p");
    c.params.dropout_p = 0;
    check.in[0].shape = LIGHT_SHAPE(1, 3, 3, 4);
    check_op_fails(&check, LIGHT_F32, LIGHT_ERR_SHAPE, "multiple");
    check.in[0].shape = LIGHT_SHAPE(1, 2, 3, 3);
    check_op_fails(&check, LIGHT_F32, LIGHT_ERR_SHAPE, "alike");
    check.in[0].shape = LIGHT_SHAPE(2, 3);
    check_op_fails(&check, LIGHT_F32, LIGHT_ERR_SHAPE, "[.., heads, T, d]");
}

/* ---- rotary positions -------------------------------------------------------- */

typedef struct rope_case {
    int64_t offset;
    double base;
    bool interleaved, swapped;
} rope_case;

static light_tensor *apply_rope(light_step *s, light_tensor **in, const void *user)
{
    const rope_case *c = user;
    light_tensor *x = c->swapped ? light_permute(s, in[0], LIGHT_DIMS(0, 2, 1, 3)) : in[0];

    return light_rope(s, x, c->offset, c->base, c->interleaved);
}

static void rotations(void **state)
{
    enum { B = 2, H = 2, T = 3, D = 6, N = B * H * T * D };
    double x[N], y[N];

    (void)state;
    spread_values(x, N, -2, 2, 9);
    for (int k = 0; k < 4; k++) {
        rope_case c = {.offset = k, .base = k % 2 ? 10000 : 100, .interleaved = k / 2, .swapped = k % 2};
        for (int i = 0; i < N; i++) {
            int p = i % D, t = i / D % T, h = i / D / T % H, b = i / D / T / H;
            int pair = c.interleaved ? p / 2 : p % (D / 2), first = c.interleaved ? p % 2 == 0 : p < D / 2;
            int base = c.swapped ? ((b * T + t) * H + h) * D : i - p;
            double angle = (double)(t + c.offset) * pow(c.base, -2.0 * pair / D);
            double re = x[base + (c.interleaved ? 2 * pair : pair)];
            double im = x[base + (c.interleaved ? 2 * pair + 1 : pair + D / 2)];
            y[i] = first ? re * cos(angle) - im * sin(angle) : re * sin(angle) + im * cos(angle);
        }
        op_check check = {
            .name = "rope",
            .apply = apply_rope,
            .user = &c,
            .count = 1,
            .in = {{.shape = c.swapped ? LIGHT_SHAPE(B, T, H, D) : LIGHT_SHAPE(B, H, T, D), .values = x}},
            .out = LIGHT_SHAPE(B, H, T, D),
            .expected = y};
        check_op(&check);
    }
}

static void rope_threads(void **state)
{
    int64_t n = 2 * 3 * 60 * 300;
    double *x = malloc((size_t)n * sizeof *x);
    rope_case c = {.base = 10000};
    op_check check = {.name = "rope",
                      .apply = apply_rope,
                      .user = &c,
                      .count = 1,
                      .in = {{.shape = LIGHT_SHAPE(2, 3, 60, 300), .values = x}},
                      .out = LIGHT_SHAPE(2, 3, 60, 300)};

    (void)state;
    assert_non_null(x);
    rough_values(x, n, 10);
    check_op_threads(&check);
    check.in[0].shape = LIGHT_SHAPE(3, 5);
    check_op_fails(&check, LIGHT_F32, LIGHT_ERR_SHAPE, "even d");
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_and_causal),
        cmocka_unit_test(masks),
        cmocka_unit_test(lowest_numbers),
        cmocka_unit_test(forms_of_input),
        cmocka_unit_test(dropout),
        cmocka_unit_test(large_shapes),
        cmocka_unit_test(half_precision),
        cmocka_unit_test(half_precision_extras),
        cmocka_unit_test(same_bits_for_all_threads),
        cmocka_unit_test(wrong_arguments),
        cmocka_unit_test(rotations),
        cmocka_unit_test(rope_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
