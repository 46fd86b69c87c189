/* SPDX-License-Identifier: Apache-2.0 */
/* The strategies that ship. */
#ifndef LIGHT_STRATEGIES_BUILTIN_H
#define LIGHT_STRATEGIES_BUILTIN_H

#include "trainer/strategy.h"

extern const light_strategy_vtable light_ddp_vtable;
/* Shards the optimizer's state (zero1), gradients too (zero2), parameters too (zero3, also called fsdp). */
extern const light_strategy_vtable light_zero1_vtable, light_zero2_vtable, light_zero3_vtable,
    light_fsdp_vtable;

#endif
