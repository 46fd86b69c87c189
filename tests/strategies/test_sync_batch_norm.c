/* SPDX-License-Identifier: Apache-2.0 */
/* Batch norm over the batches of several ranks, against one process that has them all. */
#include "strategies/fake.h"

#include "autograd/step.h"

#include <float.h>

#include <light/nn.h>
#include <light/ops.h>

enum { CHANNELS = 5, MOST = 2048 };

/* What comes out of a batch; of several ranks, their parts one behind the other. */
typedef struct outcome {
    double y[MOST], gx[MOST];
    double gw[CHANNELS], gb[CHANNELS], mean[CHANNELS], var[CHANNELS];
    int64_t n;
} outcome;

typedef struct plan {
    light_dtype dtype;
    int ranks; /* that have a batch */
    int64_t images[FAKE_RANKS];
    int64_t pixels; /* of one side; 0: [N, C] */
    bool affine;
} plan;

static outcome *mine(void)
{
    _Static_assert(sizeof(outcome) <= sizeof fake->results[0], "an outcome does not fit");
    return (outcome *)(void *)fake->results[fake_rank];
}

static const outcome *of(int rank)
{
    return (const outcome *)(const void *)fake->results[rank];
}

/* Channels of means and widths of their own, far from 0. */
static double input(int64_t image, int64_t c, int64_t pixel)
{
    double x = sin((double)(image * 31 + c * 7 + pixel * 3 + 1) * 0.7);
    return x * (1 + (double)c) + 20 * (double)(c - 2);
}

static double output_gradient(int64_t image, int64_t c, int64_t pixel)
{
    return cos((double)(image * 17 + c * 5 + pixel * 11) * 0.9);
}

static light_tensor *fill(light_step *s, const plan *p, int64_t first, int64_t images,
                          double (*value)(int64_t, int64_t, int64_t), light_tensor **owned)
{
    int64_t area = p->pixels ? p->pixels * p->pixels : 1;
    light_shape shape =
        p->pixels ? LIGHT_SHAPE(images, CHANNELS, p->pixels, p->pixels) : LIGHT_SHAPE(images, CHANNELS);
    double *values = malloc((size_t)(images * CHANNELS * area) * sizeof *values);
    for (int64_t i = 0; i < images; i++)
        for (int64_t c = 0; c < CHANNELS; c++)
            for (int64_t k = 0; k < area; k++) values[(i * CHANNELS + c) * area + k] = value(first + i, c, k);
    (void)s;
    assert_ok(light_tensor_new(owned, shape, p->dtype, NULL));
    assert_ok(
        light_tensor_write(*owned, LIGHT_F64, values, (size_t)(images * CHANNELS * area) * sizeof *values));
    free(values);
    return *owned;
}

static void read_all(const light_tensor *t, double *to)
{
    assert_ok(light_tensor_read(t, LIGHT_F64, to, (size_t)light_numel(t) * sizeof *to));
}

/* Images first .. first + images - 1, with `group` or alone. */
static void run_batch(const plan *p, int64_t first, int64_t images, light_communicator *group, outcome *out)
{
    light_batch_norm norm = {0};
    light_step *s;
    light_tensor *x, *gy;
    light_dtype before = light_set_default_dtype(p->dtype);
    assert_ok(light_batch_norm_init(&norm, NULL, NULL, .features = CHANNELS, .momentum = 0.25,
                                    .affine = p->affine ? LIGHT_ON : LIGHT_OFF));
    assert_ok(light_module_build(&norm.base, 1));
    light_set_default_dtype(before);
    if (p->affine) {
        const double w[CHANNELS] = {1, -2, 0.5, 3, 0.25}, b[CHANNELS] = {0, 1, 2, 3, 4};
        assert_ok(light_tensor_write(norm.weight, LIGHT_F64, w, sizeof w));
        assert_ok(light_tensor_write(norm.bias, LIGHT_F64, b, sizeof b));
    }
    assert_ok(light_step_new(&s, .seed = 1));
    assert_ok(light_step_begin(s));
    s->batch_group = group;
    s->batch_ranks = p->ranks;
    fill(s, p, first, images, input, &x);
    fill(s, p, first, images, output_gradient, &gy);
    light_set_requires_grad(x, true);
    light_tensor *y = light_forward(s, &norm.base, x);
    assert_ok(light_step_status(s));
    out->n = light_numel(x);
    read_all(y, out->y);
    assert_ok(light_backward(s, light_sum(s, light_mul(s, y, gy), LIGHT_ALL, false)));
    read_all(light_grad(x), out->gx);
    if (p->affine) {
        read_all(light_grad(norm.weight), out->gw);
        read_all(light_grad(norm.bias), out->gb);
    }
    read_all(norm.running_mean, out->mean);
    read_all(norm.running_var, out->var);
    light_tensor_free(x);
    light_tensor_free(gy);
    light_step_free(s);
    light_module_free(&norm.base);
}

static void rank_of_plan(void *argument)
{
    const plan *p = argument;
    light_communicator group = {
        .vtable = &fake_communicator, .rank = fake_rank, .size = fake_size, .device = light_device_cpu()};
    int64_t first = 0;
    for (int r = 0; r < fake_rank; r++) first += p->images[r];
    if (fake_rank < p->ranks) run_batch(p, first, p->images[fake_rank], &group, mine());
}

static void whole_batch(void *argument)
{
    const plan *p = argument;
    int64_t images = 0;
    for (int r = 0; r < p->ranks; r++) images += p->images[r];
    run_batch(p, 0, images, NULL, mine());
}

static void assert_close(double a, double b, double tolerance, const char *what, int64_t i)
{
    if (!(fabs(a - b) <= tolerance)) fail_msg("%s[%lld]: %.17g is not %.17g", what, (long long)i, a, b);
}

/* Inputs lie about 40 from 0 in the widest channel and are normalised by a width of about 1, so an input's own rounding
 * counts 40 times. */
static void compare(int size, const plan *p)
{
    static outcome whole;
    double epsilon = p->dtype == LIGHT_F64 ? DBL_EPSILON : FLT_EPSILON, tolerance = 40 * 16 * epsilon;
    plan copy = *p;
    fake_run(1, whole_batch, &copy);
    whole = *of(0);
    fake_run(size, rank_of_plan, &copy);
    int64_t at = 0;
    double gw[CHANNELS] = {0}, gb[CHANNELS] = {0};
    for (int r = 0; r < p->ranks; r++) {
        const outcome *o = of(r);
        for (int64_t i = 0; i < o->n; i++, at++) {
            assert_close(o->y[i], whole.y[at], tolerance * 4, "y", at);
            assert_close(o->gx[i], whole.gx[at], tolerance * 4, "gx", at);
        }
        for (int c = 0; c < CHANNELS; c++) {
            gw[c] += o->gw[c];
            gb[c] += o->gb[c];
            /* Running statistics are f32, and the same on all ranks. */
            assert_close(o->mean[c], whole.mean[c], 4 * FLT_EPSILON * 45, "running mean", c);
            assert_close(o->var[c], whole.var[c], 16 * FLT_EPSILON * 45, "running var", c);
            assert_true(o->mean[c] == of(0)->mean[c] && o->var[c] == of(0)->var[c]);
        }
    }
    assert_int_equal(at, whole.n);
    double terms = (double)whole.n / CHANNELS;
    for (int c = 0; c < CHANNELS && p->affine; c++) {
        assert_close(gw[c], whole.gw[c], tolerance * terms, "gw", c);
        assert_close(gb[c], whole.gb[c], epsilon * terms, "gb", c);
    }
}

static void ranks_normalise_like_one_process_with_all_batches(void **state)
{
    (void)state;
    for (int affine = 0; affine < 2; affine++)
        for (int f64 = 0; f64 < 2; f64++) {
            light_dtype dtype = f64 ? LIGHT_F64 : LIGHT_F32;
            compare(2, &(plan){dtype, 2, {4, 4}, 3, affine});
            compare(2, &(plan){dtype, 2, {6, 1}, 3, affine});
            compare(4, &(plan){dtype, 4, {3, 2, 5, 1}, 2, affine});
            compare(4, &(plan){dtype, 4, {7, 1, 1, 2}, 0, affine});
        }
}

/* The last turn of an epoch: some have no batch, and are not asked. */
static void those_without_a_batch_are_left_out(void **state)
{
    (void)state;
    for (int ranks = 1; ranks <= 3; ranks++) compare(4, &(plan){LIGHT_F64, ranks, {3, 2, 4}, 2, true});
}

static void refuse_one_value(void *argument)
{
    light_communicator group = {
        .vtable = &fake_communicator, .rank = fake_rank, .size = fake_size, .device = light_device_cpu()};
    light_batch_norm norm = {0};
    light_step *s;
    light_tensor *x;
    const plan *p = argument;
    assert_ok(light_batch_norm_init(&norm, NULL, NULL, .features = CHANNELS));
    assert_ok(light_module_build(&norm.base, 1));
    assert_ok(light_step_new(&s, .seed = 1));
    assert_ok(light_step_begin(s));
    s->batch_group = &group;
    s->batch_ranks = 1;
    if (fake_rank == 0) {
        fill(s, p, 0, 1, input, &x);
        assert_null(light_forward(s, &norm.base, x));
        assert_fails(light_step_status(s), LIGHT_ERR_SHAPE, "more than one value per channel");
        light_tensor_free(x);
    }
    light_step_free(s);
    light_module_free(&norm.base);
}

static void one_value_a_channel_is_told(void **state)
{
    plan p = {LIGHT_F32, 1, {1}, 0, false};
    (void)state;
    fake_run(2, refuse_one_value, &p);
}

/* ---- with the trainer ------------------------------------------------------------ */

typedef struct plain_normed {
    light_module base;
    light_linear layer;
    light_batch_norm norm;
} plain_normed;

static light_status plain_normed_init(light_module *self)
{
    plain_normed *m = (plain_normed *)self;
    LIGHT_TRY(light_linear_init(&m->layer, self, "layer", .in_features = LAB_FEATURES,
                                .out_features = LAB_CLASSES));
    return light_batch_norm_init(&m->norm, self, "norm", .features = LAB_CLASSES);
}

static light_tensor *plain_normed_forward(light_module *self, light_step *s, light_tensor *x)
{
    plain_normed *m = (plain_normed *)self;
    return light_forward(s, &m->norm.base, light_forward(s, &m->layer.base, x));
}

static const light_module_vtable plain_normed_vtable = {
    LIGHT_MODULE(plain_normed),
    .init = plain_normed_init,
    .forward = plain_normed_forward,
    .training_step = class_loss,
    .configure_optimizers = boring_optimizers,
};

/* Batches of 8 on one process are batches of 4 on two, where their mean is that of all. */
static void train(void *argument)
{
    lab l = lab_new(&plain_normed_vtable,
                    fake_trainer((light_trainer_options){.max_epochs = 3, .sync_batchnorm = true}));
    (void)argument;
    l.data->batch_size = 8 / fake_size;
    l.data->train_samples = 56;
    l.data->shuffle = true;
    assert_ok(lab_fit(&l));
    read_all(((plain_normed *)l.module)->layer.weight, mine()->y);
    read_all(((plain_normed *)l.module)->norm.running_var, mine()->var);
    lab_free(&l);
}

static void training_is_that_of_the_larger_batch(void **state)
{
    static outcome alone;
    (void)state;
    fake_run(1, train, NULL);
    alone = *of(0);
    for (int size = 2; size <= 4; size *= 2) {
        fake_run(size, train, NULL);
        for (int i = 0; i < LAB_FEATURES * LAB_CLASSES; i++) /* 21 steps of rate 0.1 */
            assert_close(of(1)->y[i], alone.y[i], 21 * 16 * FLT_EPSILON, "weight", i);
        for (int c = 0; c < LAB_CLASSES; c++)
            assert_close(of(1)->var[c], alone.var[c], 21 * 16 * FLT_EPSILON, "var", c);
    }
}

/* Without sync_batchnorm each rank has statistics of its own; those of rank 0 are used in the end. */
static void train_apart(void *argument)
{
    lab l = lab_new(&plain_normed_vtable, fake_trainer((light_trainer_options){.max_epochs = 1}));
    (void)argument;
    l.data->batch_size = 4;
    assert_ok(lab_fit(&l));
    read_all(((plain_normed *)l.module)->norm.running_mean, mine()->mean);
    read_all(((plain_normed *)l.module)->norm.running_var, mine()->var);
    lab_free(&l);
}

static void buffers_become_those_of_rank_0(void **state)
{
    (void)state;
    fake_run(3, train_apart, NULL);
    for (int r = 1; r < 3; r++) {
        assert_memory_equal(of(r)->mean, of(0)->mean, sizeof of(0)->mean);
        assert_memory_equal(of(r)->var, of(0)->var, sizeof of(0)->var);
    }
    assert_true(of(0)->mean[0] != 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fake_test(ranks_normalise_like_one_process_with_all_batches),
        fake_test(those_without_a_batch_are_left_out),
        fake_test(one_value_a_channel_is_told),
        fake_test(training_is_that_of_the_larger_batch),
        fake_test(buffers_become_those_of_rank_0),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
