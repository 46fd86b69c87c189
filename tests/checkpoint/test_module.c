/* SPDX-License-Identifier: Apache-2.0 */
/* Weights of modules: what is saved, what is read back, and what a checkpoint of another model is told. */
#include "common.h"

#include "base/string.h"

typedef struct inner {
    light_module base;
    light_tensor *weight, *bias, *mean, *scratch;
    int width;
    bool precise;
} inner;

static light_status inner_init(light_module *self)
{
    inner *m = (inner *)self;
    if (m->width == 0) m->width = 3;
    LIGHT_TRY(
        light_add_parameter(self, &m->weight, "weight", LIGHT_SHAPE(m->width, 4), LIGHT_INIT_UNIFORM(-1, 1)));
    LIGHT_TRY(light_add_parameter(self, &m->bias, "bias", LIGHT_SHAPE(m->width), LIGHT_INIT_NORMAL(0, 1)));
    light_dtype dtype = m->precise ? LIGHT_F64 : LIGHT_F32;
    LIGHT_TRY(light_add_buffer(self, &m->mean, "mean", LIGHT_SHAPE(m->width), dtype, LIGHT_INIT_ZEROS, true));
    return light_add_buffer(self, &m->scratch, "scratch", LIGHT_SHAPE(5), LIGHT_F32, LIGHT_INIT_ZEROS, false);
}

static const light_module_vtable inner_vtable = {LIGHT_MODULE(inner), .init = inner_init};

/* What makes one model differ from another. */
static struct {
    int width;
    bool precise, more;
} shape_of_model;

typedef struct model {
    light_module base;
    inner first, second, third;
    light_tensor *tied;
} model;

static light_status add_inner(model *m, inner *child, const char *name, int width, bool precise)
{
    child->width = width;
    child->precise = precise;
    return light_module_add(&child->base, &inner_vtable, &m->base, name);
}

static light_status model_init(light_module *self)
{
    model *m = (model *)self;
    LIGHT_TRY(add_inner(m, &m->first, "first", 3, false));
    LIGHT_TRY(add_inner(m, &m->second, shape_of_model.more ? "other" : "second", shape_of_model.width,
                        shape_of_model.precise));
    if (shape_of_model.more) LIGHT_TRY(add_inner(m, &m->third, "third", 3, false));
    return light_tie_parameter(self, &m->tied, "tied", m->first.weight);
}

static const light_module_vtable model_vtable = {LIGHT_MODULE(model), .init = model_init};

static light_module *new_model(int width, bool precise, bool more, uint64_t seed)
{
    shape_of_model.width = width, shape_of_model.precise = precise, shape_of_model.more = more;
    light_module *m = light_module_new(&model_vtable);
    assert_non_null(m);
    assert_ok(light_module_build(m, seed));
    return m;
}

/* All values of all parameters and persistent buffers, after one another. */
static void gather(light_module *m, double *out)
{
    for (light_parameter *p = light_next_parameter(m, NULL); p; p = light_next_parameter(m, p)) {
        if (p->is_buffer && !p->persistent) continue;
        size_t n = (size_t)light_numel(p->tensor);
        assert_ok(light_tensor_read(p->tensor, LIGHT_F64, out, n * sizeof *out));
        out += n;
    }
}

#define VALUES (12 + 3 + 3)

static void weights_come_back(void **unused)
{
    (void)unused;
    light_checkpoint *checkpoint;
    light_checkpoint_tensor about;
    double a[2 * VALUES], b[2 * VALUES], mean[3] = {1, 2, 3};
    light_module *one = new_model(3, false, false, 1), *two = new_model(3, false, false, 2);
    assert_ok(
        light_tensor_write(light_find_parameter(one, "second.mean")->tensor, LIGHT_F64, mean, sizeof mean));
    gather(one, a);
    gather(two, b);
    assert_memory_not_equal(a, b, sizeof a);
    assert_ok(light_checkpoint_save_module(one, at("weights")));
    assert_ok(light_checkpoint_open(at("weights"), &checkpoint));
    assert_int_equal(light_checkpoint_tensor_count(checkpoint), 6);
    assert_true(light_checkpoint_find(checkpoint, "model/first.weight", &about));
    assert_true(light_checkpoint_find(checkpoint, "model/second.mean", &about));
    assert_false(light_checkpoint_find(checkpoint, "model/second.scratch", &about));
    assert_false(light_checkpoint_find(checkpoint, "model/tied", &about));
    assert_ok(light_checkpoint_match(checkpoint, two, "model"));
    light_checkpoint_close(checkpoint);
    assert_ok(light_checkpoint_load_module(two, at("weights"), true));
    gather(two, b);
    assert_memory_equal(a, b, sizeof a);
    /* Saving again replaces. */
    assert_ok(light_checkpoint_save_module(two, at("weights")));
    assert_int_equal(light_checkpoint_load_module(two, at("no weights"), true), LIGHT_ERR_NOT_FOUND);
    light_module_free(one);
    light_module_free(two);
}

static void another_model_is_told_in_full(void **unused)
{
    (void)unused;
    double before[2 * VALUES + 12] = {0}, after[2 * VALUES + 12] = {0};
    light_module *saved = new_model(3, false, false, 1);
    assert_ok(light_checkpoint_save_module(saved, at("other")));
    light_module_free(saved);

    light_module *wide = new_model(4, true, false, 2);
    gather(wide, before);
    assert_int_equal(light_checkpoint_load_module(wide, at("other"), true), LIGHT_ERR_FORMAT);
    assert_message("another model");
    assert_message("3 different");
    assert_message("model/second.weight (f32 [3, 4] in the checkpoint, f32 [4, 4] in the module)");
    assert_message("model/second.mean (f32 [3] in the checkpoint, f64 [4] in the module)");
    /* Shapes have to agree without strict too, and no weight was touched. */
    assert_int_equal(light_checkpoint_load_module(wide, at("other"), false), LIGHT_ERR_FORMAT);
    gather(wide, after);
    assert_memory_equal(before, after, sizeof before);
    light_module_free(wide);

    light_module *more = new_model(3, false, true, 2);
    assert_int_equal(light_checkpoint_load_module(more, at("other"), true), LIGHT_ERR_FORMAT);
    assert_message("6 missing: model/other.weight, model/other.bias");
    assert_message("3 unexpected: model/second.weight, model/second.bias, model/second.mean");
    assert_null(strchr(light_error_message(), '\n'));
    /* Not strict: what both have. */
    assert_ok(light_checkpoint_load_module(more, at("other"), false));
    light_module *again = new_model(3, false, false, 1);
    double a[12], b[12];
    assert_ok(light_tensor_read(light_find_parameter(more, "first.weight")->tensor, LIGHT_F64, a, sizeof a));
    assert_ok(light_tensor_read(light_find_parameter(again, "first.weight")->tensor, LIGHT_F64, b, sizeof b));
    assert_memory_equal(a, b, sizeof a);
    light_module_free(more);
    light_module_free(again);

    /* Another dtype: an error when strict, a conversion when not. */
    light_module *precise = new_model(3, true, false, 2);
    assert_int_equal(light_checkpoint_load_module(precise, at("other"), true), LIGHT_ERR_FORMAT);
    assert_message("1 different: model/second.mean");
    assert_ok(light_checkpoint_load_module(precise, at("other"), false));
    light_module_free(precise);
}

/* Hundreds of names make one line of bearable length. */
static void long_lists_are_cut(void **unused)
{
    (void)unused;
    float values[2] = {0};
    light_tensor *t;
    light_checkpoint_list list = {0};
    light_checkpoint_writer *writer;
    assert_ok(light_tensor_wrap(&t, LIGHT_SHAPE(2), LIGHT_F32, values));
    for (int i = 0; i < 300; i++) {
        char name[64];
        snprintf(name, sizeof name, "model/blocks.%d.attention.projection.weight", i);
        assert_ok(light_checkpoint_list_add(&list, name, t, NULL, NULL));
    }
    /* Optimizer state is none of the module's business. */
    assert_ok(light_checkpoint_list_add(&list, "optimizer/0/state/x", t, NULL, NULL));
    assert_ok(light_checkpoint_list_add(&list, "models/x", t, NULL, NULL));
    assert_ok(light_checkpoint_writer_new(&writer));
    assert_ok(
        light_checkpoint_save(writer, &(light_checkpoint_request){.path = at("long"), .tensors = &list}));
    light_checkpoint_writer_free(writer);
    light_checkpoint_list_free(&list);
    light_tensor_free(t);
    light_module *m = new_model(3, false, false, 1);
    assert_int_equal(light_checkpoint_load_module(m, at("long"), true), LIGHT_ERR_FORMAT);
    assert_message("6 missing");
    assert_message("300 unexpected: model/blocks.0.attention.projection.weight");
    assert_message("and 292 more");
    assert_true(strlen(light_error_message()) < 1500);
    light_module_free(m);
}

static void modules_have_to_be_built(void **unused)
{
    (void)unused;
    shape_of_model.width = 3, shape_of_model.precise = shape_of_model.more = false;
    light_module *m = light_module_new(&model_vtable);
    assert_non_null(m);
    assert_int_equal(light_checkpoint_save_module(m, at("unbuilt")), LIGHT_ERR_STATE);
    assert_false(light_directory_exists(at("unbuilt")));
    light_module_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_come_back),
        cmocka_unit_test(another_model_is_told_in_full),
        cmocka_unit_test(long_lists_are_cut),
        cmocka_unit_test(modules_have_to_be_built),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
