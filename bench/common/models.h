/* SPDX-License-Identifier: Apache-2.0 */
/* The models of the training cases; bench/peers/models.py builds the same ones. */
#ifndef BENCH_COMMON_MODELS_H
#define BENCH_COMMON_MODELS_H

#include <light/light.h>

struct bench_repeat; /* repeat.h */

extern const light_module_vtable bench_mlp;      /* 784-512-256-10, ReLU */
extern const light_module_vtable bench_lenet;    /* 1x28x28, 10 classes */
extern const light_module_vtable bench_resnet18; /* the CIFAR form: 3x32x32, 10 classes */
extern const light_module_vtable bench_chargpt;  /* 6 layers, 384 wide, 6 heads, 65 tokens, context 256 */
extern const light_module_vtable bench_gpt2; /* 12 layers, 768 wide, 12 heads, 50257 tokens, context 1024 */
extern const light_module_vtable
    bench_resnet50; /* 3x224x224, 1000 classes, bottlenecks with the stride in the 3x3 */
/* The same GPT as above with 50304 tokens, the number that products like; 24 layers, 1024 wide, 16 heads. */
extern const light_module_vtable bench_gpt2_124m, bench_gpt2_350m;

/* 16 linear layers, 768 wide, ReLU between them, cross entropy over the 768 outputs, AdamW: the model of
 * bench/distributed*.c, complete with training_step. Each layer is 2.25 MiB in f32. */
extern const light_module_vtable bench_stack;
extern const int64_t bench_stack_parameters, bench_stack_layer_parameters;
/* Its data. */
void bench_stack_data(struct bench_repeat *data, int64_t batch_size, int64_t batches);

#endif
