/* SPDX-License-Identifier: Apache-2.0 */
/* The tree of modules: vtables, names and paths, first values, tying, flat memory, walking, freezing. */
#include "nn/flat.h"

#include "base/memory.h"

#include <light/light.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/near.h"

/* ---- a model with a bit of everything ------------------------------------ */

typedef struct {
    light_module base;
    light_linear up, down;
} block;

typedef struct {
    light_module base;
    light_module_list blocks;
    light_linear head;
    light_embedding table;
    light_tensor *scale, *seen;
    bool reversed;
} model;

static light_status block_init(light_module *self)
{
    block *m = (block *)self;
    LIGHT_TRY(light_linear_init(&m->up, self, "up", .in_features = 4, .out_features = 6));
    return light_linear_init(&m->down, self, "down", .in_features = 6, .out_features = 4, .bias = LIGHT_OFF);
}

static light_tensor *block_forward(light_module *self, light_step *s, light_tensor *x)
{
    block *m = (block *)self;
    return light_forward(s, &m->down.base, light_forward(s, &m->up.base, x));
}

static const light_module_vtable block_vtable = {LIGHT_MODULE(block), .init = block_init,
                                                 .forward = block_forward};

static light_status add_blocks(model *m)
{
    LIGHT_TRY(light_module_list_init(&m->blocks, &m->base, "blocks"));
    block *blocks = light_module_calloc(&m->base, 2, sizeof *blocks);
    if (!blocks) return LIGHT_ERR_MEMORY;
    for (int i = 0; i < 2; i++)
        LIGHT_TRY(light_module_add(&blocks[i].base, &block_vtable, &m->blocks.base, NULL));
    return LIGHT_OK;
}

static light_status model_init(light_module *self)
{
    model *m = (model *)self;
    if (!m->reversed) LIGHT_TRY(add_blocks(m));
    LIGHT_TRY(light_add_parameter(self, &m->scale, "scale", LIGHT_SHAPE(3), LIGHT_INIT_CONSTANT(2.5)));
    LIGHT_TRY(light_add_buffer(self, &m->seen, "seen", LIGHT_SCALAR, LIGHT_I64, LIGHT_INIT_ZEROS, true));
    LIGHT_TRY(light_embedding_init(&m->table, self, "table", .rows = 10, .width = 4));
    LIGHT_TRY(
        light_linear_init(&m->head, self, "head", .in_features = 4, .out_features = 10, .bias = LIGHT_OFF));
    if (m->reversed) LIGHT_TRY(add_blocks(m));
    return LIGHT_OK;
}

static const light_module_vtable model_vtable = {LIGHT_MODULE(model), .init = model_init};

static model *make(uint64_t seed, bool reversed)
{
    model *m = (model *)light_module_new(&model_vtable);
    assert_non_null(m);
    m->reversed = reversed;
    if (light_module_build(&m->base, seed) != LIGHT_OK) fail_msg("%s", light_error_message());
    return m;
}

static void expect_message(const char *text)
{
    if (!strstr(light_error_message(), text)) fail_msg("'%s' is not in: %s", text, light_error_message());
}

/* ---- vtables ------------------------------------------------------------- */

static void test_a_vtable_without_size_is_refused(void **state)
{
    (void)state;
    light_module_vtable bad = model_vtable;
    bad.size = 0;
    assert_null(light_module_new(&bad));
    expect_message("LIGHT_MODULE");
    bad.size = 16;
    assert_null(light_module_new(&bad));
    expect_message("LIGHT_MODULE");
    bad.size = sizeof bad + 8;
    assert_null(light_module_new(&bad));
    expect_message("newer liblight");
    bad = model_vtable;
    bad.instance_size = 8;
    assert_null(light_module_new(&bad));
    expect_message("instance_size");
    assert_null(light_module_new(NULL));
}

/* What lies behind an older program's vtable is not read: it is somebody else's memory there. */
static void test_a_smaller_vtable_has_no_later_hooks(void **state)
{
    (void)state;
    light_module_vtable old;
    memset(&old, 0x5a, sizeof old);
    size_t size = offsetof(light_module_vtable, training_step);
    memcpy(&old, &model_vtable, size);
    old.size = size;
    old.forward = block_forward;
    light_module *m = light_module_new(&old);
    assert_non_null(m);
    assert_ptr_equal(m->vtable->forward, block_forward);
    assert_null(m->vtable->training_step);
    assert_null(m->vtable->load_state);
    assert_int_equal(light_module_build(m, 1), LIGHT_OK);
    light_module_free(m);
}

/* ---- names, walking ------------------------------------------------------ */

static void test_paths_in_the_order_of_creation(void **state)
{
    (void)state;
    model *m = make(1, false);
    const char *want[] = {
        "scale",
        "seen",
        "blocks.0.up.weight",
        "blocks.0.up.bias",
        "blocks.0.down.weight",
        "blocks.1.up.weight",
        "blocks.1.up.bias",
        "blocks.1.down.weight",
        "table.weight",
        "head.weight",
    };
    size_t n = 0;
    for (light_parameter *p = light_next_parameter(&m->base, NULL); p;
         p = light_next_parameter(&m->base, p)) {
        assert_true(n < sizeof want / sizeof *want);
        assert_string_equal(p->path, want[n++]);
        assert_ptr_equal(light_find_parameter(&m->base, p->path), p);
        assert_true(p->persistent);
        assert_int_equal(p->own_begin, 0);
        assert_int_equal(p->own_end, p->tensor->numel);
        assert_int_equal(p->is_buffer, strcmp(p->name, "seen") == 0);
        assert_int_equal(light_requires_grad(p->tensor), !p->is_buffer);
    }
    assert_int_equal(n, sizeof want / sizeof *want);

    const char *modules[] = {"",         "blocks",      "blocks.0",      "blocks.0.up", "blocks.0.down",
                             "blocks.1", "blocks.1.up", "blocks.1.down", "table",       "head"};
    n = 0;
    for (light_module *c = light_next_module(&m->base, NULL); c; c = light_next_module(&m->base, c)) {
        assert_string_equal(c->path, modules[n++]);
        assert_ptr_equal(light_find_module(&m->base, c->path), c);
    }
    assert_int_equal(n, sizeof modules / sizeof *modules);

    assert_int_equal(light_module_list_length(&m->blocks), 2);
    assert_ptr_equal(light_module_list_at(&m->blocks, 1), light_find_module(&m->base, "blocks.1"));
    assert_null(light_module_list_at(&m->blocks, 2));
    assert_null(light_module_list_at(&m->blocks, -1));
    assert_null(light_find_module(&m->base, "blocks.2"));
    assert_null(light_find_module(&m->base, "block"));
    assert_null(light_find_parameter(&m->base, "blocks.0.up"));
    assert_null(light_find_parameter(&m->base, "none.weight"));
    /* 3 + 2 (24 + 6 + 24) + 40 + 40 */
    assert_int_equal(light_count_parameters(&m->base, false), 191);
    light_module_free(&m->base);
}

typedef struct {
    light_module base;
    light_linear a, b;
    light_tensor *w, *v;
    const char *first, *second;
} named;

static light_status two_children(light_module *self)
{
    named *m = (named *)self;
    LIGHT_TRY(light_linear_init(&m->a, self, m->first, .in_features = 1, .out_features = 1));
    return light_linear_init(&m->b, self, m->second, .in_features = 1, .out_features = 1);
}

static light_status two_parameters(light_module *self)
{
    named *m = (named *)self;
    LIGHT_TRY(light_add_parameter(self, &m->w, m->first, LIGHT_SHAPE(1), LIGHT_INIT_ZEROS));
    return light_add_parameter(self, &m->v, m->second, LIGHT_SHAPE(1), LIGHT_INIT_ZEROS);
}

static void expect_names_refused(light_status (*init)(light_module *), const char *first, const char *second,
                                 const char *text)
{
    const light_module_vtable vtable = {LIGHT_MODULE(named), .init = init};
    named *m = (named *)light_module_new(&vtable);
    m->first = first;
    m->second = second;
    assert_int_equal(light_module_build(&m->base, 1), LIGHT_ERR_ARGUMENT);
    expect_message(text);
    light_module_free(&m->base);
}

static void test_bad_names(void **state)
{
    (void)state;
    expect_names_refused(two_children, "fc", "fc", "named: has a child 'fc' already");
    expect_names_refused(two_children, "fc", "a.b", "'a.b' is no name");
    expect_names_refused(two_children, "fc", "", "needs a name");
    expect_names_refused(two_parameters, "w", "w", "has a parameter or buffer 'w' already");
    expect_names_refused(two_parameters, "w", NULL, "needs a name");
}

static void test_wrong_moments(void **state)
{
    (void)state;
    named *m = (named *)light_module_new(&(light_module_vtable){LIGHT_MODULE(named)});
    assert_int_equal(light_add_parameter(&m->base, &m->w, "w", LIGHT_SHAPE(1), LIGHT_INIT_ZEROS),
                     LIGHT_ERR_STATE);
    assert_int_equal(light_linear_init(&m->a, &m->base, "a", .in_features = 1, .out_features = 1),
                     LIGHT_ERR_STATE);
    light_module_free(&m->base);

    model *tree = make(1, false);
    assert_int_equal(light_module_build(&tree->head.base, 1), LIGHT_ERR_STATE);
    assert_int_equal(light_module_build(&tree->base, 1), LIGHT_OK); /* again: nothing to do */
    assert_int_equal(
        light_linear_init(&tree->head, &tree->base, "other", .in_features = 1, .out_features = 1),
        LIGHT_ERR_STATE);
    expect_message("head: is in use already");
    light_module_free(&tree->base);
}

static light_status failing_init(light_module *self)
{
    LIGHT_TRY(two_parameters(self));
    return light_fail(LIGHT_ERR_USER, "no such file");
}

static void test_a_failing_init(void **state)
{
    (void)state;
    const light_module_vtable vtable = {LIGHT_MODULE(named), .init = failing_init};
    named *m = (named *)light_module_new(&vtable);
    m->first = "w";
    m->second = "v";
    assert_int_equal(light_module_build(&m->base, 1), LIGHT_ERR_USER);
    assert_string_equal(light_error_message(), "no such file");
    assert_int_equal(light_module_build(&m->base, 1), LIGHT_ERR_STATE);
    light_module_free(&m->base);
}

/* ---- first values -------------------------------------------------------- */

static float *values(const light_tensor *t)
{
    size_t bytes = (size_t)light_numel(t) * sizeof(float);
    float *v = malloc(bytes);
    assert_int_equal(light_tensor_read(t, LIGHT_F32, v, bytes), LIGHT_OK);
    return v;
}

static bool same_values(const light_tensor *a, const light_tensor *b)
{
    float *x = values(a), *y = values(b);
    bool same = light_numel(a) == light_numel(b) && memcmp(x, y, (size_t)light_numel(a) * sizeof *x) == 0;
    free(x);
    free(y);
    return same;
}

static void test_values_depend_on_seed_and_path_only(void **state)
{
    (void)state;
    model *a = make(7, false), *b = make(7, true), *c = make(8, false);
    for (light_parameter *p = light_next_parameter(&a->base, NULL); p;
         p = light_next_parameter(&a->base, p)) {
        assert_true(same_values(p->tensor, light_find_parameter(&b->base, p->path)->tensor));
        bool drawn = p->init.kind == LIGHT_INIT_UNIFORM_ || p->init.kind == LIGHT_INIT_NORMAL_;
        assert_int_equal(same_values(p->tensor, light_find_parameter(&c->base, p->path)->tensor), !drawn);
    }
    assert_false(same_values(light_find_parameter(&a->base, "blocks.0.up.weight")->tensor,
                             light_find_parameter(&a->base, "blocks.1.up.weight")->tensor));
    float *scale = values(a->scale);
    for (int i = 0; i < 3; i++) assert_true(scale[i] == 2.5F);
    free(scale);
    light_module_free(&a->base);
    light_module_free(&b->base);
    light_module_free(&c->base);
}

/* Bounds, mean and variance within five standard errors. */
static void expect_uniform(const light_tensor *t, double bound)
{
    float *v = values(t);
    int64_t n = light_numel(t);
    double sum = 0, squares = 0, largest = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += v[i];
        squares += (double)v[i] * v[i];
        largest = fmax(largest, fabs(v[i]));
    }
    free(v);
    double variance = bound * bound / 3;
    assert_true(largest <= bound * (1 + 1e-6));
    assert_true(largest > bound * 0.99);
    assert_near(sum / (double)n, 0, 5 * sqrt(variance / (double)n));
    assert_near(squares / (double)n, variance, 5 * bound * bound * sqrt(4.0 / 45 / (double)n));
}

static void expect_normal(const light_tensor *t, double std)
{
    float *v = values(t);
    int64_t n = light_numel(t), beyond = 0;
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += v[i];
        squares += (double)v[i] * v[i];
        beyond += fabs(v[i]) > std;
    }
    free(v);
    assert_near(sum / (double)n, 0, 5 * std / sqrt((double)n));
    assert_near(squares / (double)n, std * std, 5 * std * std * sqrt(2 / (double)n));
    double outside = 0.31731050786291415; /* beyond one standard deviation */
    assert_near((double)beyond / (double)n, outside, 5 * sqrt(outside * (1 - outside) / (double)n));
}

static void test_distributions(void **state)
{
    (void)state;
    light_linear fc = {0};
    assert_int_equal(light_linear_init(&fc, NULL, "", .in_features = 100, .out_features = 200), LIGHT_OK);
    assert_int_equal(light_module_build(&fc.base, 5), LIGHT_OK);
    expect_uniform(fc.weight, 0.1);
    expect_uniform(fc.bias, 0.1);
    assert_int_equal(light_init_parameter(&fc.base, "weight", LIGHT_INIT_NORMAL(0, 0.02)), LIGHT_OK);
    expect_normal(fc.weight, 0.02);
    assert_int_equal(light_init_parameter(&fc.base, "none", LIGHT_INIT_ZEROS), LIGHT_ERR_NOT_FOUND);
    light_module_free(&fc.base);

    light_conv2d conv = {0};
    assert_int_equal(
        light_conv2d_init(&conv, NULL, "", .in_channels = 8, .out_channels = 64, .kernel = 5, .groups = 2),
        LIGHT_OK);
    assert_int_equal(light_module_build(&conv.base, 5), LIGHT_OK);
    assert_true(light_shape_equal(light_shape_of(conv.weight), LIGHT_SHAPE(64, 4, 5, 5)));
    expect_uniform(conv.weight, 0.1);
    light_module_free(&conv.base);

    light_embedding table = {0};
    assert_int_equal(
        light_embedding_init(&table, NULL, "", .rows = 300, .width = 50, .padding_idx = LIGHT_PADDING_ZERO),
        LIGHT_OK);
    assert_int_equal(light_module_build(&table.base, 5), LIGHT_OK);
    float *v = values(table.weight);
    for (int i = 0; i < 50; i++) assert_true(v[i] == 0);
    free(v);
    assert_int_equal(light_init_parameter(&table.base, "weight", LIGHT_INIT_NORMAL(0, 1)), LIGHT_OK);
    expect_normal(table.weight, 1);
    light_module_free(&table.base);
}

/* ---- tying --------------------------------------------------------------- */

typedef struct {
    light_module base;
    light_embedding table;
    light_linear head;
    int64_t head_rows;
} tied;

static light_status tied_init(light_module *self)
{
    tied *m = (tied *)self;
    LIGHT_TRY(light_embedding_init(&m->table, self, "table", .rows = 10, .width = 4));
    LIGHT_TRY(light_linear_init(&m->head, self, "head", .in_features = 4, .out_features = m->head_rows));
    return light_tie_parameter(&m->head.base, &m->head.weight, "weight", m->table.weight);
}

static const light_module_vtable tied_vtable = {LIGHT_MODULE(tied), .init = tied_init};

static void test_tied_parameters(void **state)
{
    (void)state;
    tied *m = (tied *)light_module_new(&tied_vtable);
    m->head_rows = 10;
    assert_int_equal(light_module_build(&m->base, 1), LIGHT_OK);
    assert_ptr_equal(m->head.weight, m->table.weight);
    assert_int_equal(light_count_parameters(&m->base, false), 40 + 10);
    light_parameter *first = light_find_parameter(&m->base, "table.weight");
    assert_ptr_equal(light_find_parameter(&m->base, "head.weight"), first);
    int n = 0;
    for (light_parameter *p = light_next_parameter(&m->base, NULL); p; p = light_next_parameter(&m->base, p))
        n++;
    assert_int_equal(n, 2);
    light_freeze(&m->head.base); /* reaches the shared tensor, as in PyTorch */
    assert_false(light_requires_grad(m->table.weight));
    light_module_free(&m->base);

    m = (tied *)light_module_new(&tied_vtable);
    m->head_rows = 9;
    assert_int_equal(light_module_build(&m->base, 1), LIGHT_ERR_SHAPE);
    expect_message("head.weight: shape [9, 4] cannot be tied to table.weight of shape [10, 4]");
    light_module_free(&m->base);
}

/* ---- flat memory --------------------------------------------------------- */

static void test_parameters_lie_in_flat_memory(void **state)
{
    (void)state;
    model *m = make(1, false);
    const light_flat *flat = m->base.flat;
    assert_int_equal(flat->n, 1);
    const light_flat_buffer *b = &flat->buffers[0];
    assert_int_equal(b->n, 9);
    size_t expected = 0;
    light_parameter *p = light_next_parameter(&m->base, NULL);
    for (int64_t i = 0; i < b->n; i++, p = light_next_parameter(&m->base, p)) {
        while (p->is_buffer) p = light_next_parameter(&m->base, p);
        assert_ptr_equal(b->entries[i].parameter, p);
        assert_int_equal(b->entries[i].offset, expected);
        assert_int_equal(expected % 64, 0);
        assert_ptr_equal(light_data(p->tensor), (char *)b->values->data + expected);
        assert_ptr_equal(p->tensor->grad->data, (char *)b->grads->data + expected);
        assert_null(light_grad(p->tensor)); /* there, but nothing in it */
        expected = (expected + (size_t)light_numel(p->tensor) * 4 + 63) / 64 * 64;
    }
    assert_int_equal(b->bytes, expected);
    light_module_free(&m->base);
}

static light_status mixed_init(light_module *self)
{
    named *m = (named *)self;
    LIGHT_TRY(light_add_parameter(self, &m->w, "w", LIGHT_SHAPE(5), LIGHT_INIT_ONES));
    self->dtype = LIGHT_F64;
    return light_add_parameter(self, &m->v, "v", LIGHT_SHAPE(5), LIGHT_INIT_CONSTANT(1.0 / 3));
}

static void test_one_buffer_per_dtype(void **state)
{
    (void)state;
    named *m = (named *)light_module_new(&(light_module_vtable){LIGHT_MODULE(named), .init = mixed_init});
    assert_int_equal(light_module_build(&m->base, 1), LIGHT_OK);
    assert_int_equal(m->base.flat->n, 2);
    assert_int_equal(light_dtype_of(m->w), LIGHT_F32);
    assert_int_equal(light_dtype_of(m->v), LIGHT_F64);
    double v[5];
    assert_int_equal(light_tensor_read(m->v, LIGHT_F64, v, sizeof v), LIGHT_OK);
    for (int i = 0; i < 5; i++) assert_true(v[i] == 1.0 / 3);
    light_module_free(&m->base);
}

/* ---- modes, freezing, sets ------------------------------------------------ */

static void test_modes(void **state)
{
    (void)state;
    model *m = make(1, false);
    light_module *inner = light_find_module(&m->base, "blocks.1.up");
    assert_true(inner->training);
    light_eval(&m->base);
    assert_false(inner->training);
    assert_false(m->base.training);
    light_train(light_find_module(&m->base, "blocks.1"));
    assert_true(inner->training);
    assert_false(light_find_module(&m->base, "blocks.0.up")->training);
    light_module_free(&m->base);
}

static void test_freezing(void **state)
{
    (void)state;
    model *m = make(1, false);
    light_freeze(&m->blocks.base);
    assert_int_equal(light_count_parameters(&m->base, true), 191 - 2 * 54);
    assert_int_equal(light_count_parameters(&m->base, false), 191);
    assert_false(light_requires_grad(light_find_parameter(&m->base, "blocks.1.up.bias")->tensor));
    light_unfreeze(light_find_module(&m->base, "blocks.1.up"));
    assert_true(light_requires_grad(light_find_parameter(&m->base, "blocks.1.up.bias")->tensor));
    light_unfreeze(&m->base);
    assert_int_equal(light_count_parameters(&m->base, true), 191);
    assert_false(light_requires_grad(m->seen)); /* a buffer stays one */
    light_module_free(&m->base);
}

/* ---- running ------------------------------------------------------------- */

static void test_failures_name_the_module(void **state)
{
    (void)state;
    model *m = make(1, false);
    light_step *s;
    assert_int_equal(light_step_new(&s, .seed = 1), LIGHT_OK);
    assert_int_equal(light_step_begin(s), LIGHT_OK);
    light_tensor *x = light_zeros(s, LIGHT_SHAPE(2, 5), LIGHT_F32);
    assert_null(light_forward(s, light_find_module(&m->base, "blocks.1"), x));
    assert_int_equal(light_step_status(s), LIGHT_ERR_SHAPE);
    expect_message("blocks.1.up: linear: input [2, 5] has 5 features, weight [6, 4] takes 4");

    assert_int_equal(light_step_begin(s), LIGHT_OK);
    x = light_zeros(s, LIGHT_SHAPE(2, 4), LIGHT_F32);
    assert_null(light_forward(s, &m->blocks.base, x));
    assert_int_equal(light_step_status(s), LIGHT_ERR_UNSUPPORTED); /* puts the path in front of the text */
    expect_message("blocks: module_list: has no forward");

    assert_int_equal(light_step_begin(s), LIGHT_OK);
    x = light_zeros(s, LIGHT_SHAPE(2, 4), LIGHT_F32);
    light_linear fc = {0};
    assert_int_equal(light_linear_init(&fc, NULL, "", .in_features = 4, .out_features = 1), LIGHT_OK);
    assert_null(light_forward(s, &fc.base, x));
    expect_message("has not been built");
    light_module_free(&fc.base);
    light_step_free(s);
    light_module_free(&m->base);
}

static void test_bad_sizes(void **state)
{
    (void)state;
    light_conv2d conv = {0};
    assert_int_equal(light_conv2d_init(&conv, NULL, "", .in_channels = 3, .kernel = 3), LIGHT_OK);
    assert_int_equal(light_module_build(&conv.base, 1), LIGHT_ERR_ARGUMENT);
    expect_message("conv2d: out_channels is 0; it must be at least 1");
    light_module_free(&conv.base);
    conv = (light_conv2d){0};
    assert_int_equal(
        light_conv2d_init(&conv, NULL, "", .in_channels = 3, .out_channels = 4, .kernel = 3, .groups = 2),
        LIGHT_OK);
    assert_int_equal(light_module_build(&conv.base, 1), LIGHT_ERR_ARGUMENT);
    expect_message("2 groups do not divide");
    light_module_free(&conv.base);
}

/* ---- memory -------------------------------------------------------------- */

static void test_every_allocation_may_fail(void **state)
{
    (void)state;
    light_memory_counters before = light_memory_count();
    for (int64_t n = 1;; n++) {
        light_memory_fail_nth(n);
        light_module *m = light_module_new(&tied_vtable);
        light_status status = LIGHT_ERR_MEMORY;
        if (m) {
            ((tied *)m)->head_rows = 10;
            status = light_module_build(m, 1);
        }
        light_memory_fail_nth(0);
        light_module_free(m);
        assert_int_equal(light_memory_count().live, before.live);
        if (status == LIGHT_OK) break;
        assert_int_equal(status, LIGHT_ERR_MEMORY);
        assert_true(n < 200);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_vtable_without_size_is_refused),
        cmocka_unit_test(test_a_smaller_vtable_has_no_later_hooks),
        cmocka_unit_test(test_paths_in_the_order_of_creation),
        cmocka_unit_test(test_bad_names),
        cmocka_unit_test(test_wrong_moments),
        cmocka_unit_test(test_a_failing_init),
        cmocka_unit_test(test_values_depend_on_seed_and_path_only),
        cmocka_unit_test(test_distributions),
        cmocka_unit_test(test_tied_parameters),
        cmocka_unit_test(test_parameters_lie_in_flat_memory),
        cmocka_unit_test(test_one_buffer_per_dtype),
        cmocka_unit_test(test_modes),
        cmocka_unit_test(test_freezing),
        cmocka_unit_test(test_failures_name_the_module),
        cmocka_unit_test(test_bad_sizes),
        cmocka_unit_test(test_every_allocation_may_fail),
    };
    return cmocka_run_group_tests_name("module", tests, NULL, NULL);
}
