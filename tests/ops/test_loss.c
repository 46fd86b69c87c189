/* SPDX-License-Identifier: Apache-2.0 */
/* Losses and accuracy against their formulas written out in double. */
#include "support/op_check.h"

#include "tensor/device.h"

#include <stdlib.h>
#include <string.h>

/* ---- rows of classes ------------------------------------------------------- */

typedef struct class_case {
    bool nll, weighted;
    light_loss_options options;
    light_shape shape;
    int64_t rows, classes, inner; /* shape [rows / inner, classes, inner..] */
} class_case;

static light_tensor *apply_class_loss(light_step *s, light_tensor **in, const void *user)
{
    const class_case *c = user;
    light_loss_options options = c->options;

    options.target = in[1];
    options.weight = c->weighted ? in[2] : NULL;
    return c->nll ? light_nll_loss_with(s, in[0], &options) : light_cross_entropy_with(s, in[0], &options);
}

static double score(const class_case *c, const double *x, int64_t row, int64_t class)
{
    return x[(row / c->inner * c->classes + class) * c->inner + row % c->inner];
}

static double log_probability(const class_case *c, const double *x, int64_t row, int64_t class)
{
    double max = -INFINITY, sum = 0;

    if (c->nll) return score(c, x, row, class);
    for (int64_t i = 0; i < c->classes; i++) max = fmax(max, score(c, x, row, i));
    for (int64_t i = 0; i < c->classes; i++) sum += exp(score(c, x, row, i) - max);
    return score(c, x, row, class) - max - log(sum);
}

/* torch.nn.functional.cross_entropy's documentation, with label smoothing as its section says. */
static void class_loss(const class_case *c, const double *x, const double *target, const double *w,
                       double *out)
{
    int64_t ignored = c->options.ignore_index == 0                   ? -100
                      : c->options.ignore_index == LIGHT_IGNORE_ZERO ? 0
                                                                     : c->options.ignore_index;
    double e = c->options.label_smoothing, sum = 0, total = 0;

    for (int64_t row = 0; row < c->rows; row++) {
        int64_t y = (int64_t)target[row];
        double loss = 0, smooth = 0, wy = y == ignored ? 0 : c->weighted ? w[y] : 1;
        if (y != ignored) {
            loss = -wy * log_probability(c, x, row, y);
            for (int64_t i = 0; e > 0 && i < c->classes; i++)
                smooth -= (c->weighted ? w[i] : 1) * log_probability(c, x, row, i);
        }
        out[row] = (1 - e) * loss + e / (double)c->classes * smooth;
        sum += out[row];
        total += wy;
    }
    if (c->options.reduction == LIGHT_SUM) out[0] = sum;
    if (c->options.reduction == LIGHT_MEAN) out[0] = sum / total;
}

static void check_class_case(class_case c, light_dtype target_dtype, const double *target)
{
    int64_t n = c.rows * c.classes;
    double *x = malloc((size_t)n * sizeof *x), *w = malloc((size_t)c.classes * sizeof *w);
    double *expected = malloc((size_t)c.rows * sizeof *expected);
    light_shape target_shape = {.ndim = c.shape.ndim - 1};

    assert_true(x && w && expected);
    spread_values(x, n, -2, 2, 3);
    spread_values(w, c.classes, -2, 2, 4);
    for (int64_t i = 0; i < c.classes; i++) w[i] = fabs(w[i]) + 0.25;
    for (int i = 0, j = 0; i < c.shape.ndim; i++)
        if (i != (c.shape.ndim > 1)) target_shape.dims[j++] = c.shape.dims[i];
    class_loss(&c, x, target, w, expected);
    op_check check = {
        .name = "loss",
        .apply = apply_class_loss,
        .user = &c,
        .count = 3,
        .in = {{.shape = c.shape, .values = x, .constant = c.nll && c.options.label_smoothing > 0},
               {.shape = target_shape, .values = target, .dtype = target_dtype, .constant = true},
               {.shape = LIGHT_SHAPE(c.classes), .values = w, .constant = true}},
        .out = c.options.reduction == LIGHT_NONE ? target_shape : LIGHT_SCALAR,
        .expected = expected};
    check_op(&check);
    free(x);
    free(w);
    free(expected);
}

static const light_reduction reductions[] = {LIGHT_MEAN, LIGHT_SUM, LIGHT_NONE};

static void all_class_options(void **state)
{
    double target[] = {2, 0, -100, 6, 4};

    (void)state;
    for (int r = 0; r < 3; r++)
        for (int nll = 0; nll < 2; nll++)
            for (int weighted = 0; weighted < 2; weighted++)
                for (int smooth = 0; smooth < 2 - nll; smooth++)
                    check_class_case((class_case){.nll = nll,
                                                  .weighted = weighted,
                                                  .options = {.reduction = reductions[r],
                                                              .label_smoothing = smooth ? 0.25 : 0},
                                                  .shape = LIGHT_SHAPE(5, 7),
                                                  .rows = 5,
                                                  .classes = 7,
                                                  .inner = 1},
                                     smooth ? LIGHT_I32 : LIGHT_I64, target);
}

static void images_of_classes(void **state)
{
    double target[12];

    (void)state;
    for (int i = 0; i < 12; i++) target[i] = i * 5 % 3;
    for (int nll = 0; nll < 2; nll++) {
        check_class_case(
            (class_case){.nll = nll, .shape = LIGHT_SHAPE(2, 3, 2, 3), .rows = 12, .classes = 3, .inner = 6},
            LIGHT_I64, target);
        check_class_case((class_case){.nll = nll,
                                      .options = {.reduction = LIGHT_NONE, .ignore_index = LIGHT_IGNORE_ZERO},
                                      .shape = LIGHT_SHAPE(3, 3, 4),
                                      .rows = 12,
                                      .classes = 3,
                                      .inner = 4},
                         LIGHT_U8, target);
    }
}

static void one_row_one_class(void **state)
{
    double target[] = {0, 0, 0};

    (void)state;
    check_class_case((class_case){.shape = LIGHT_SHAPE(1, 4), .rows = 1, .classes = 4, .inner = 1}, LIGHT_I64,
                     target);
    check_class_case((class_case){.shape = LIGHT_SHAPE(3, 1), .rows = 3, .classes = 1, .inner = 1}, LIGHT_I64,
                     target);
    check_class_case((class_case){.shape = LIGHT_SHAPE(4), .rows = 1, .classes = 4, .inner = 1}, LIGHT_I64,
                     target);
}

static void wide_rows(void **state)
{
    double target[] = {1299, 512};

    (void)state;
    for (int smooth = 0; smooth < 2; smooth++) {
        class_case c = {.options = {.label_smoothing = smooth * 0.1},
                        .shape = LIGHT_SHAPE(2, 1300),
                        .rows = 2,
                        .classes = 1300,
                        .inner = 1};
        double x[2600], expected[2];
        op_check check = {.name = "loss",
                          .apply = apply_class_loss,
                          .user = &c,
                          .count = 2,
                          .in = {{.shape = c.shape, .values = x},
                                 {.shape = LIGHT_SHAPE(2), .values = target, .dtype = LIGHT_I64}},
                          .expected = expected,
                          .no_grad = true};

        spread_values(x, 2600, -2, 2, 5);
        class_loss(&c, x, target, NULL, expected);
        check_op(&check);
    }
}

/* Rows of several lengths, to where a row is shared: the gradient is (p - (1 - e) 1[target] - e / classes) / rows. */
static void gradients_of_wide_rows(void **state)
{
    enum { ROWS = 3, MOST = 20003 };
    static const int lengths[] = {33, 2048, 5001, MOST};
    static double x[ROWS * MOST], expected[ROWS * MOST];
    const double target[] = {0, 31, 7};

    (void)state;
    light_step *s = new_step();
    for (int i = 0; i < 8; i++) {
        int n = lengths[i / 2];
        double e = i % 2 * 0.1;

        light_step_begin(s);
        spread_values(x, ROWS * n, -2, 2, 6);
        light_tensor *logits = from_doubles(s, LIGHT_SHAPE(ROWS, n), LIGHT_F32, x);
        light_loss_options options = {.target = from_doubles(s, LIGHT_SHAPE(ROWS), LIGHT_I64, target),
                                      .label_smoothing = e};
        light_set_requires_grad(logits, true);
        assert_light_ok(light_backward(s, light_cross_entropy_with(s, logits, &options)));
        for (int row = 0; row < ROWS; row++) {
            double sum = 0;

            for (int k = 0; k < n; k++) sum += exp(x[row * n + k]);
            for (int k = 0; k < n; k++)
                expected[row * n + k] =
                    (exp(x[row * n + k]) / sum - (k == (int)target[row] ? 1 - e : 0) - e / n) / ROWS;
        }
        assert_values(light_grad(logits), expected, 8 * dtype_epsilon(LIGHT_F32));
    }
    assert_step_ok(s);
    light_step_free(s);
}

static void all_rows_ignored(void **state)
{
    double target[] = {1, 1}, x[6] = {0}, nan_alone = NAN, zeros[2] = {0};
    class_case c = {.options = {.ignore_index = 1}};
    op_check check = {.name = "loss",
                      .apply = apply_class_loss,
                      .user = &c,
                      .count = 2,
                      .in = {{.shape = LIGHT_SHAPE(2, 3), .values = x},
                             {.shape = LIGHT_SHAPE(2), .values = target, .dtype = LIGHT_I64}},
                      .no_grad = true};

    (void)state;
    for (int nll = 0; nll < 2; nll++) {
        c.nll = nll;
        c.options.reduction = LIGHT_MEAN; /* 0 / 0, as PyTorch has it */
        check.out = LIGHT_SCALAR;
        check.expected = &nan_alone;
        check_op(&check);
        c.options.reduction = LIGHT_SUM;
        check.expected = zeros;
        check_op(&check);
        c.options.reduction = LIGHT_NONE;
        check.out = LIGHT_SHAPE(2);
        check_op(&check);
    }
}

static void gradient_of_ignored_rows_is_zero(void **state)
{
    const double target[] = {1, 1}, x[6] = {1, 2, 3, 4, 5, 6}, zeros[6] = {0};
    light_tensor *logits = new_from_doubles(LIGHT_SHAPE(2, 3), LIGHT_F32, x), *loss;
    light_tensor *labels = new_from_doubles(LIGHT_SHAPE(2), LIGHT_I64, target);
    light_step *s;

    (void)state;
    assert_int_equal(light_step_new(&s, .seed = 1), LIGHT_OK);
    light_set_requires_grad(logits, true);
    assert_int_equal(light_step_begin(s), LIGHT_OK);
    loss = light_cross_entropy(s, logits, labels, .ignore_index = 1);
    assert_int_equal(light_backward(s, loss), LIGHT_OK);
    assert_values(light_grad(logits), zeros, 0);
    light_tensor_free(logits);
    light_tensor_free(labels);
    light_step_free(s);
}

static light_tensor *apply_to_copy(light_step *s, light_tensor **in, const void *user)
{
    light_tensor *moved[3] = {light_permute(s, in[0], LIGHT_DIMS(1, 0)), in[1], in[2]};

    return apply_class_loss(s, moved, user);
}

/* The logits here are a copy that nobody else needs, so backward writes over them. */
static void gradient_in_place(void **state)
{
    double target[] = {1, 0, 3}, x[12], transposed[12], expected[3];
    class_case c = {.options = {.label_smoothing = 0.125}, .rows = 3, .classes = 4, .inner = 1};
    op_check check = {.name = "loss",
                      .apply = apply_to_copy,
                      .user = &c,
                      .count = 2,
                      .in = {{.shape = LIGHT_SHAPE(4, 3), .values = x},
                             {.shape = LIGHT_SHAPE(3), .values = target, .dtype = LIGHT_I64}},
                      .expected = expected};

    (void)state;
    spread_values(x, 12, -2, 2, 6);
    for (int i = 0; i < 12; i++) transposed[i] = x[i % 4 * 3 + i / 4];
    class_loss(&c, transposed, target, NULL, expected);
    check_op(&check);
}

static void gradient_needs_no_second_matrix(void **state)
{
    enum { ROWS = 64, CLASSES = 5000 };
    light_tensor *leaf, *labels;
    light_step *s;
    size_t matrix = (size_t)ROWS * CLASSES * sizeof(float);

    (void)state;
    assert_int_equal(light_tensor_new(&leaf, LIGHT_SHAPE(ROWS, CLASSES), LIGHT_F32, NULL), LIGHT_OK);
    assert_int_equal(light_tensor_new(&labels, LIGHT_SHAPE(ROWS), LIGHT_I64, NULL), LIGHT_OK);
    light_set_requires_grad(leaf, true);
    assert_int_equal(light_step_new(&s, .seed = 1), LIGHT_OK);
    assert_int_equal(light_step_begin(s), LIGHT_OK);
    assert_int_equal(light_backward(s, light_cross_entropy(s, light_mul_scalar(s, leaf, 2), labels)),
                     LIGHT_OK);
    assert_true(light_step_peak_bytes(s) < 2 * matrix);
    light_step_free(s);
    light_tensor_free(leaf);
    light_tensor_free(labels);
}

static void class_loss_threads(void **state)
{
    enum { ROWS = 150, CLASSES = 700 };
    double *x = malloc(ROWS * CLASSES * sizeof *x), target[ROWS], w[CLASSES];
    class_case c = {.weighted = true, .options = {.label_smoothing = 0.1}};
    op_check check = {.name = "loss",
                      .apply = apply_class_loss,
                      .user = &c,
                      .count = 3,
                      .in = {{.shape = LIGHT_SHAPE(ROWS, CLASSES), .values = x},
                             {.shape = LIGHT_SHAPE(ROWS), .values = target, .dtype = LIGHT_I64},
                             {.shape = LIGHT_SHAPE(CLASSES), .values = w, .constant = true}}};

    (void)state;
    assert_non_null(x);
    rough_values(x, ROWS * CLASSES, 8);
    rough_values(w, CLASSES, 9);
    for (int i = 0; i < CLASSES; i++) w[i] += 3;
    for (int i = 0; i < ROWS; i++) target[i] = i * 13 % CLASSES;
    check_op_threads(&check);
    free(x);
}

/* A device that works on its own tells of it when the result is read, and knows the class only. */
static void check_wrong_class(double class, const char *text, const char *device_text)
{
    const double target[] = {1, class, 0};
    double value;

    light_step *s = new_step();
    light_loss_options options = {.target = from_doubles(s, LIGHT_SHAPE(3), LIGHT_I64, target)};
    light_tensor *loss = light_cross_entropy_with(s, light_zeros(s, LIGHT_SHAPE(3, 4), LIGHT_F32), &options);
    light_status status = loss ? light_item(loss, &value) : light_step_status(s);
    assert_int_equal(status, LIGHT_ERR_ARGUMENT);
    if (!strstr(light_error_message(), test_device()->is_host ? text : device_text))
        fail_msg("not what was expected: %s", light_error_message());
    light_step_free(s);
}

static void wrong_targets(void **state)
{
    double x[12] = {0}, target[] = {1, 0, 0}, w[5] = {0};
    class_case c = {0};
    op_check check = {.name = "loss",
                      .apply = apply_class_loss,
                      .user = &c,
                      .count = 3,
                      .in = {{.shape = LIGHT_SHAPE(3, 4), .values = x},
                             {.shape = LIGHT_SHAPE(3), .values = target, .dtype = LIGHT_I64},
                             {.shape = LIGHT_SHAPE(5), .values = w}}};

    (void)state;
    check_wrong_class(4, "cross_entropy: the target of row 1 is 4; there are 4 classes, 0 to 3",
                      "class 4, there are 4");
    check_wrong_class(-1, "row 1 is -1", "class -1, there are 4");
    check.in[1].dtype = LIGHT_F32;
    check_op_fails(&check, LIGHT_F32, LIGHT_ERR_DTYPE, "f32");
    check.in[1].dtype = LIGHT_I64;
    check.in[1].shape = LIGHT_SHAPE(1, 3);
    check_op_fails(&check, LIGHT_F32, LIGHT_ERR_SHAPE, "[3, 4] need a target [3], this is [1, 3]");
    check.in[1].shape = LIGHT_SHAPE(3);
    c.weighted = true;
    check_op_fails(&check, LIGHT_F32, LIGHT_ERR_SHAPE, "class weights must be [4], these are [5]");
    check.in[2].shape = LIGHT_SHAPE(4);
    check_op_fails(&check, LIGHT_F32, LIGHT_ERR_UNSUPPORTED, "class weights have no gradient");
    c.weighted = false;
    c.options.label_smoothing = 2;
    check_op_fails(&check, LIGHT_F32, LIGHT_ERR_ARGUMENT, "label_smoothing");
}

static light_tensor *apply_accuracy(light_step *s, light_tensor **in, const void *user)
{
    (void)user;
    return light_accuracy(s, in[0], in[1]);
}

static void share_of_hits(void **state)
{
    double x[] = {1, 5, 2, /**/ 3, 3, 1, /**/ -1, -2, -3, /**/ 0, 0, 0.5}, target[] = {1, 0, 1, 2},
           expected = 0.75;
    op_check check = {.name = "loss",
                      .apply = apply_accuracy,
                      .count = 2,
                      .in = {{.shape = LIGHT_SHAPE(4, 3), .values = x},
                             {.shape = LIGHT_SHAPE(4), .values = target, .dtype = LIGHT_I64}},
                      .out_dtype = LIGHT_F32,
                      .expected = &expected,
                      .no_grad = true};
    double planes[] = {1, 3, 5, 2}, at[] = {1, 0}, all = 1;

    (void)state;
    check_op(&check);
    check.in[0] = (op_input){.shape = LIGHT_SHAPE(1, 2, 2), .values = planes};
    check.in[1] = (op_input){.shape = LIGHT_SHAPE(1, 2), .values = at, .dtype = LIGHT_I32};
    check.expected = &all;
    check_op(&check);
}

/* ---- element by element ---------------------------------------------------- */

typedef struct element_case {
    int kind; /* in the order of `losses` */
    light_loss_options options;
    bool weighted;
} element_case;

enum { MSE, L1, HUBER, BCE, KL };

static light_tensor *apply_loss(light_step *s, light_tensor **in, const void *user)
{
    static light_tensor *(*const losses[])(light_step *, light_tensor *, const light_loss_options *) = {
        light_mse_loss_with, light_l1_loss_with, light_huber_loss_with, light_bce_with_logits_with,
        light_kl_div_with};
    const element_case *c = user;
    light_loss_options options = c->options;

    options.target = in[1];
    options.weight = c->weighted ? in[2] : NULL;
    return losses[c->kind](s, in[0], &options);
}

static double one_loss(const element_case *c, double x, double t, double w)
{
    double d = fabs(x - t), delta = c->options.delta ? c->options.delta : 1, p = 1 / (1 + exp(-x));

    switch (c->kind) {
    case MSE: return d * d;
    case L1: return d;
    case HUBER: return d <= delta ? d * d / 2 : delta * (d - delta / 2);
    case BCE: return -(w * t * log(p) + (1 - t) * log(1 - p));
    default:
        if (c->options.log_target) return exp(t) * (t - x);
        return (t > 0 ? t * log(t) : 0) - t * x;
    }
}

enum { LROWS = 3, LCOLS = 4, LN = LROWS * LCOLS };

static void check_element_case(element_case c, light_shape target_shape)
{
    double x[LN], t[LN], w[LCOLS], expected[LN], sum = 0;
    bool row_target = target_shape.ndim == 1;

    spread_values(x, LN, -2, 2, 11);
    spread_values(t, LN, -2, 2, 12);
    spread_values(w, LCOLS, -2, 2, 13);
    for (int i = 0; i < LN; i++) {
        x[i] = nearbyint(x[i] * 16) / 16; /* exact in bf16 also after what follows */
        t[i] = nearbyint(t[i] * 16) / 16;
        if (c.kind == BCE || (c.kind == KL && !c.options.log_target)) t[i] = fabs(t[i]) / 4 + 0.0625;
        if (fabs(fabs(x[i] - t[i]) - (c.options.delta ? c.options.delta : 1)) < 0.03)
            x[i] += 0.0625; /* no kinks */
        if (x[i] == t[i]) x[i] += 0.125;
    }
    for (int i = 0; i < LN; i++) {
        expected[i] = one_loss(&c, x[i], t[row_target ? i % LCOLS : i], c.weighted ? w[i % LCOLS] : 1);
        sum += expected[i];
    }
    if (c.options.reduction != LIGHT_NONE) expected[0] = c.options.reduction == LIGHT_SUM ? sum : sum / LN;
    op_check check = {.name = "loss",
                      .apply = apply_loss,
                      .user = &c,
                      .count = 3,
                      .in = {{.shape = LIGHT_SHAPE(LROWS, LCOLS), .values = x},
                             {.shape = target_shape, .values = t},
                             {.shape = LIGHT_SHAPE(LCOLS), .values = w, .constant = !c.weighted}},
                      .out = c.options.reduction == LIGHT_NONE ? LIGHT_SHAPE(LROWS, LCOLS) : LIGHT_SCALAR,
                      .expected = expected};
    check_op(&check);
}

static void all_element_losses(void **state)
{
    (void)state;
    for (int kind = MSE; kind <= KL; kind++)
        for (int r = 0; r < 3; r++)
            check_element_case((element_case){.kind = kind, .options = {.reduction = reductions[r]}},
                               LIGHT_SHAPE(LROWS, LCOLS));
    check_element_case((element_case){.kind = HUBER, .options = {.delta = 0.5}}, LIGHT_SHAPE(LROWS, LCOLS));
    check_element_case((element_case){.kind = MSE}, LIGHT_SHAPE(LCOLS)); /* broadcast */
    check_element_case((element_case){.kind = BCE, .options = {.reduction = LIGHT_NONE}}, LIGHT_SHAPE(LCOLS));
    for (int r = 0; r < 3; r++)
        check_element_case(
            (element_case){.kind = BCE, .options = {.reduction = reductions[r]}, .weighted = true},
            LIGHT_SHAPE(LROWS, LCOLS));
    check_element_case((element_case){.kind = KL, .options = {.log_target = true}},
                       LIGHT_SHAPE(LROWS, LCOLS));
}

static void large_logits_stay_finite(void **state)
{
    double x[] = {1000, -1000, 90, -90}, t[] = {1, 0, 0, 1}, expected[] = {0, 0, 90, 90};
    element_case c = {.kind = BCE, .options = {.reduction = LIGHT_NONE}};
    op_check check = {.name = "loss",
                      .apply = apply_loss,
                      .user = &c,
                      .count = 2,
                      .in = {{.shape = LIGHT_SHAPE(4), .values = x}, {.shape = LIGHT_SHAPE(4), .values = t}},
                      .out = LIGHT_SHAPE(4),
                      .expected = expected,
                      .no_grad = true};

    (void)state;
    check_op(&check);
}

static void zero_target_of_kl_div(void **state)
{
    double x[] = {-1, -2}, t[] = {0, 1}, expected[] = {0, 2};
    element_case c = {.kind = KL, .options = {.reduction = LIGHT_NONE}};
    op_check check = {.name = "loss",
                      .apply = apply_loss,
                      .user = &c,
                      .count = 2,
                      .in = {{.shape = LIGHT_SHAPE(2), .values = x}, {.shape = LIGHT_SHAPE(2), .values = t}},
                      .out = LIGHT_SHAPE(2),
                      .expected = expected,
                      .no_grad = true};

    (void)state;
    check_op(&check);
}

static void element_loss_threads(void **state)
{
    enum { N = 70000 };
    double *x = malloc(2 * N * sizeof *x);
    element_case c = {.kind = BCE};
    op_check check = {.name = "loss",
                      .apply = apply_loss,
                      .user = &c,
                      .count = 2,
                      .in = {{.shape = LIGHT_SHAPE(N), .values = x},
                             {.shape = LIGHT_SHAPE(N), .values = x + N, .constant = true}}};

    (void)state;
    assert_non_null(x);
    rough_values(x, 2 * N, 14);
    check_op_threads(&check);
    free(x);
}

static void wrong_element_arguments(void **state)
{
    double x[12] = {0};
    element_case c = {.kind = MSE};
    op_check check = {.name = "loss",
                      .apply = apply_loss,
                      .user = &c,
                      .count = 3,
                      .in = {{.shape = LIGHT_SHAPE(3, 4), .values = x},
                             {.shape = LIGHT_SHAPE(3), .values = x},
                             {.shape = LIGHT_SHAPE(2), .values = x}}};

    (void)state;
    check_op_fails(&check, LIGHT_F32, LIGHT_ERR_SHAPE, "mse_loss: input [3, 4] and target [3] do not fit");
    check.in[1].shape = LIGHT_SHAPE(3, 4);
    c.kind = HUBER;
    c.options.delta = -1;
    check_op_fails(&check, LIGHT_F32, LIGHT_ERR_ARGUMENT, "delta");
    c.kind = BCE;
    c.weighted = true;
    check_op_fails(&check, LIGHT_F32, LIGHT_ERR_SHAPE, "pos_weight [2] does not fit [3, 4]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_class_options),
        cmocka_unit_test(images_of_classes),
        cmocka_unit_test(one_row_one_class),
        cmocka_unit_test(wide_rows),
        cmocka_unit_test(gradients_of_wide_rows),
        cmocka_unit_test(all_rows_ignored),
        cmocka_unit_test(gradient_of_ignored_rows_is_zero),
        cmocka_unit_test(gradient_in_place),
        cmocka_unit_test(gradient_needs_no_second_matrix),
        cmocka_unit_test(class_loss_threads),
        cmocka_unit_test(wrong_targets),
        cmocka_unit_test(share_of_hits),
        cmocka_unit_test(all_element_losses),
        cmocka_unit_test(large_logits_stay_finite),
        cmocka_unit_test(zero_target_of_kl_div),
        cmocka_unit_test(element_loss_threads),
        cmocka_unit_test(wrong_element_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
