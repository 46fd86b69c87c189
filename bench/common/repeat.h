/* SPDX-License-Identifier: Apache-2.0 */
/* Data that costs next to nothing: the same batch of two fields over and over, as a datamodule and as a loader. */
#ifndef BENCH_COMMON_REPEAT_H
#define BENCH_COMMON_REPEAT_H

#include <light/light.h>

/* Made with light_datamodule_new(&bench_repeat_vtable); the fields after `base` are to be set before it is used. */
typedef struct bench_repeat {
    light_datamodule base;
    light_field fields[2]; /* input and target of one sample, f32 or i64 */
    int64_t batch_size, batches;
    light_dataset *data;
} bench_repeat;

extern const light_datamodule_vtable bench_repeat_vtable;

/* A loader for a loop of one's own; NULL after a failure. It reads *repeat, which must outlive it. */
light_loader *bench_repeat_loader(const bench_repeat *repeat);

#endif
