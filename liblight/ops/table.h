/* SPDX-License-Identifier: Apache-2.0 */
/* All operations on tensors, for whoever wants to look at each. Those of create.c have no tensor that could decide. */
#ifndef LIGHT_OPS_TABLE_H
#define LIGHT_OPS_TABLE_H

#include "autograd/op.h"

/* The files of such operations. Each has a list of its own, which ends with NULL. */
/* clang-format off */
#define LIGHT_OP_FILE_MAP(X)                                                                                 \
    X(matmul) X(conv) X(attention) X(softmax) X(norm) X(loss) X(reduce) X(scan) X(unary) X(binary)           \
    X(embedding) X(index) X(dropout) X(rope) X(pool) X(shape) X(join)
/* clang-format on */
#define X(file) extern const light_op *const light_##file##_ops[];
LIGHT_OP_FILE_MAP(X)
#undef X

/* The i-th operation of the library, NULL behind the last. */
const light_op *light_op_at(int i);

#endif
