/* SPDX-License-Identifier: Apache-2.0 */
/* Dropout: element i of memory is kept when its random number says so. */
#include "cpu/isa.h"
#include "cpu/once/backend.h"
#include "cpu/parallel.h"
#include "cpu/random.h"
#include "cpu/real.h"

enum { BLOCK = 512 };

#define LIGHT_REAL 32
#include "cpu/real.inc.h"
#include "cpu/dropout.inc.h"
#undef LIGHT_REAL
#define LIGHT_REAL 64
#include "cpu/real.inc.h"
#include "cpu/dropout.inc.h"

static light_status dropout(const light_kernel_args *args)
{
    if (args->in[0]->dtype == LIGHT_F64)
        dropout_f64(args);
    else
        dropout_f32(args);
    return LIGHT_OK;
}

const light_cpu_kernel LIGHT_ISA(light_dropout_kernels)[] = {
    {LIGHT_KERNEL_DROPOUT, dropout},
    {LIGHT_KERNEL_COUNT, NULL},
};
