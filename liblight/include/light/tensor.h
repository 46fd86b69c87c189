/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors: dtypes, shapes, and what can be asked of a tensor. Operations are in ops.h.
 *
 * Two kinds of tensor exist. A tensor made by an operation belongs to the step that it was made in and goes when
 * that step ends; nobody frees it. Parameters, buffers and what light_tensor_new or light_keep return live until
 * their owner frees them. */
#ifndef LIGHT_TENSOR_H
#define LIGHT_TENSOR_H

#include <light/status.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct light_tensor light_tensor;
typedef struct light_step light_step;
typedef struct light_device light_device;

/* name, bytes, is floating */
#define LIGHT_DTYPE_MAP(X)                                                                                   \
    X(F64, "f64", 8, true)                                                                                   \
    X(F32, "f32", 4, true)                                                                                   \
    X(BF16, "bf16", 2, true)                                                                                 \
    X(F16, "f16", 2, true)                                                                                   \
    X(I64, "i64", 8, false)                                                                                  \
    X(I32, "i32", 4, false)                                                                                  \
    X(U8, "u8", 1, false)                                                                                    \
    X(BOOL, "bool", 1, false)

typedef enum light_dtype {
    LIGHT_DTYPE_DEFAULT = 0, /* in options: f32, or what the trainer's precision says */
#define X(code, text, bytes, floating) LIGHT_##code,
    LIGHT_DTYPE_MAP(X)
#undef X
        LIGHT_DTYPE_COUNT
} light_dtype;

LIGHT_API const char *light_dtype_name(light_dtype dtype);
LIGHT_API size_t light_dtype_size(light_dtype dtype);
LIGHT_API bool light_dtype_is_floating(light_dtype dtype);

/* The dtype of new parameters and of tensors made with LIGHT_DTYPE_DEFAULT, for this thread: f32, or what it was set
 * to. Setting returns what it was. */
LIGHT_API light_dtype light_default_dtype(void);
LIGHT_API light_dtype light_set_default_dtype(light_dtype dtype);

#define LIGHT_MAX_DIMS 8

typedef struct light_shape {
    int ndim;
    int64_t dims[LIGHT_MAX_DIMS];
} light_shape;

/* LIGHT_SHAPE(n, 3, 32, 32); a scalar is LIGHT_SCALAR. */
#define LIGHT_SHAPE(...)                                                                                     \
    ((light_shape){.ndim = (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), .dims = {__VA_ARGS__}})
#define LIGHT_SCALAR ((light_shape){.ndim = 0})

LIGHT_API int64_t light_shape_numel(light_shape shape);
LIGHT_API bool light_shape_equal(light_shape a, light_shape b);
/* "[2, 3, 4]" into `text`, which it returns. 256 bytes always suffice. */
LIGHT_API char *light_shape_format(light_shape shape, char *text, size_t bytes);

/* The devices. `name` is "cpu" or "cuda", "cuda:1". A device that is not there is an error with its reason. */
LIGHT_API light_status light_device_get(const char *name, light_device **device);
LIGHT_API const char *light_device_name(const light_device *device);
/* Waits until all work given to the device is done, and reports what went wrong in it since the last call. */
LIGHT_API light_status light_device_synchronize(light_device *device);

/* The device of tensors, steps and modules that are made without one, for the whole process: the CPU, or what it was set
 * to (NULL: the CPU again). Setting returns what it was; what exists already stays where it is. */
LIGHT_API light_device *light_default_device(void);
LIGHT_API light_device *light_set_default_device(light_device *device);

/* ---- asking a tensor ---------------------------------------------------- */

LIGHT_API int light_ndim(const light_tensor *t);
LIGHT_API int64_t light_dim(const light_tensor *t, int dim); /* -1 is the last; 0 when out of range */
LIGHT_API int64_t light_numel(const light_tensor *t);
LIGHT_API light_shape light_shape_of(const light_tensor *t);
LIGHT_API light_dtype light_dtype_of(const light_tensor *t);
LIGHT_API bool light_is_contiguous(const light_tensor *t);
LIGHT_API bool light_requires_grad(const light_tensor *t);

/* The elements' address on the tensor's device; element strides in light_stride. NULL for a NULL tensor, and for a
 * parameter that no process has whole (strategy zero3). Who has it may write at any time, so with a 16-bit precision the
 * parameters are then cast in each step. */
LIGHT_API void *light_data(const light_tensor *t);
LIGHT_API int64_t light_stride(const light_tensor *t, int dim);

/* Copies all elements, in row-major order and converted to `dtype`, to host memory of `bytes` bytes.
 * This waits for the device. */
LIGHT_API light_status light_tensor_read(const light_tensor *t, light_dtype dtype, void *to, size_t bytes);
/* The opposite: host memory in row-major order into the tensor. */
LIGHT_API light_status light_tensor_write(light_tensor *t, light_dtype dtype, const void *from, size_t bytes);
/* The value of a tensor with one element. This waits for the device. */
LIGHT_API light_status light_item(const light_tensor *t, double *value);

/* ---- tensors with an owner ---------------------------------------------- */

/* A zeroed tensor that the caller frees. device NULL: the default one. */
LIGHT_API light_status light_tensor_new(light_tensor **out, light_shape shape, light_dtype dtype,
                                        light_device *device);
/* A tensor on the CPU over the caller's host memory, row-major, which must outlive it. */
LIGHT_API light_status light_tensor_wrap(light_tensor **out, light_shape shape, light_dtype dtype,
                                         void *data);
/* A copy of `t`, which may belong to a step, for the caller to free. */
LIGHT_API light_status light_keep(light_tensor **out, const light_tensor *t);
LIGHT_API void light_tensor_free(light_tensor *t); /* NULL is fine */

/* Asks for a gradient of an owned tensor (parameters ask by themselves). */
LIGHT_API void light_set_requires_grad(light_tensor *t, bool requires_grad);
/* The gradient that backward gathered for an owned tensor: same shape, lives as long as the tensor. NULL while there
 * is none (never computed, or zeroed since). */
LIGHT_API light_tensor *light_grad(const light_tensor *t);
/* Forgets the gradient: the next backward writes instead of adding. Costs no pass over memory. */
LIGHT_API void light_grad_zero(light_tensor *t);

/* Called when backward has finished the gradient of `t`: all uses of it on the tape have contributed. One per tensor. */
typedef void (*light_grad_hook)(light_tensor *t, void *user);
LIGHT_API void light_set_grad_hook(light_tensor *t, light_grad_hook hook, void *user);

#endif
