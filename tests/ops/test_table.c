/* SPDX-License-Identifier: Apache-2.0 */
/* The table of all operations, and their precision classes beside those of PyTorch's autocast. */
#include "ops/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const light_op *named(const char *name)
{
    const light_op *op;
    for (int i = 0; (op = light_op_at(i)); i++)
        if (!strcmp(op->name, name)) return op;
    fail_msg("%s is not in the table", name);
    return NULL;
}

static void every_operation_is_there_once(void **state)
{
    const light_op *a, *b;
    (void)state;
    for (int i = 0; (a = light_op_at(i)); i++) {
        assert_non_null(a->name);
        assert_non_null(a->infer);
        assert_non_null(a->forward);
        for (int j = 0; j < i && (b = light_op_at(j)); j++)
            if (!strcmp(a->name, b->name)) fail_msg("%s is there twice", a->name);
    }
}

/* torch.amp's lists for CUDA, as far as the operations are here. "prod", "norm" and the like are not. */
static void classes_are_those_of_autocast(void **state)
{
    static const char *const lower[] = {
        "linear", "matmul", "conv2d", "conv_transpose2d", "scaled_dot_product_attention", NULL};
    static const char *const full[] = {
        "exp",           "log",      "pow",     "pow_scalar",  "reciprocal", "rsqrt",      "softplus",
        "sum",           "cumsum",   "softmax", "log_softmax", "layer_norm", "group_norm", "nll_loss",
        "cross_entropy", "mse_loss", "l1_loss", "kl_div",      NULL};
    const light_op *op;
    int products = 0;
    (void)state;
    for (int i = 0; lower[i]; i++) assert_int_equal(named(lower[i])->precision, LIGHT_OP_LOWER);
    for (int i = 0; full[i]; i++) assert_int_equal(named(full[i])->precision, LIGHT_OP_FULL);
    for (int i = 0; (op = light_op_at(i)); i++) products += op->precision == LIGHT_OP_LOWER;
    assert_int_equal(products, 5); /* and no others */
    assert_int_equal(named("relu")->precision, LIGHT_OP_PROMOTE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operation_is_there_once),
        cmocka_unit_test(classes_are_those_of_autocast),
    };
    return cmocka_run_group_tests_name("table", tests, NULL, NULL);
}
