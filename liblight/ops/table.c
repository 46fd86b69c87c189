/* SPDX-License-Identifier: Apache-2.0 */
/* The lists of all files behind one another. */
#include "ops/table.h"

const light_op *light_op_at(int i)
{
#define X(file) light_##file##_ops,
    static const light_op *const *const lists[] = {LIGHT_OP_FILE_MAP(X)};
#undef X
    for (size_t k = 0; k < sizeof lists / sizeof *lists; k++)
        for (int j = 0; lists[k][j]; j++)
            if (i-- == 0) return lists[k][j];
    return NULL;
}
