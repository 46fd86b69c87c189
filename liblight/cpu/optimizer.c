/* SPDX-License-Identifier: Apache-2.0 */
/* Optimizer steps: one pass over gradient, parameter and state. optim/kinds.c has the formulas. */
#include "cpu/isa.h"
#include "cpu/once/backend.h"
#include "cpu/parallel.h"
#include "cpu/real.h"

enum { BLOCK = 512, MOST_STATES = 3, COPY = 4 /* among the outputs */ };

#define LIGHT_REAL 32
#include "cpu/real.inc.h"
#include "cpu/optimizer.inc.h"
#undef LIGHT_REAL
#define LIGHT_REAL 64
#include "cpu/real.inc.h"
#include "cpu/optimizer.inc.h"

static light_status optimizer(const light_kernel_args *args)
{
    light_optimizer_attrs attrs = *(const light_optimizer_attrs *)args->attrs;
    if (args->in[2]) {
        const float *scaling = (const float *)args->in[2]->data;
        if (scaling[LIGHT_LOSS_SCALE_FOUND] != 0) return LIGHT_OK;
        attrs.step -= (int64_t)scaling[LIGHT_LOSS_SCALE_SKIPPED];
    }
    if (args->out[0]->dtype == LIGHT_F64)
        optimizer_f64(args, &attrs);
    else
        optimizer_f32(args, &attrs);
    return LIGHT_OK;
}

const light_cpu_kernel LIGHT_ISA(light_optimizer_kernels)[] = {
    {LIGHT_KERNEL_OPTIMIZER, optimizer},
    {LIGHT_KERNEL_COUNT, NULL},
};
