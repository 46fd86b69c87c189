/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors with an owner, their layout, and moving their contents to and from the host. */
#include "tensor/device.h"

#include "base/memory.h"

#include <string.h>

/* ---- layout ------------------------------------------------------------- */

void light_tensor_refresh(light_tensor *t)
{
    int64_t numel = 1;
    bool contiguous = true;
    for (int i = t->ndim - 1; i >= 0; i--) {
        if (t->shape[i] != 1 && t->strides[i] != numel) contiguous = false;
        numel *= t->shape[i];
    }
    t->numel = numel;
    t->contiguous = contiguous || numel <= 1;
}

void light_tensor_set_shape(light_tensor *t, light_shape shape)
{
    int64_t numel = 1;
    t->ndim = (uint8_t)shape.ndim;
    for (int i = shape.ndim - 1; i >= 0; i--) {
        t->shape[i] = shape.dims[i];
        t->strides[i] = numel;
        numel *= shape.dims[i];
    }
    t->numel = numel;
    t->contiguous = true;
}

void light_tensor_set_channels_last(light_tensor *t, light_shape shape)
{
    t->ndim = 4;
    memcpy(t->shape, shape.dims, 4 * sizeof *t->shape);
    t->strides[1] = 1;
    t->strides[3] = shape.dims[1];
    t->strides[2] = shape.dims[1] * shape.dims[3];
    t->strides[0] = shape.dims[1] * shape.dims[3] * shape.dims[2];
    light_tensor_refresh(t);
}

bool light_tensor_is_channels_last(const light_tensor *t)
{
    if (t->ndim != 4) return false;
    static const int order[] = {1, 3, 2, 0};
    int64_t expected = 1;
    for (int i = 0; i < 4; i++) {
        int d = order[i];
        if (t->shape[d] != 1 && t->strides[d] != expected) return false;
        expected *= t->shape[d];
    }
    return true;
}

bool light_tensor_is_dense(const light_tensor *t)
{
    if (t->contiguous) return true;
    /* Every stride must be the product of the sizes of the dims with smaller strides. */
    int64_t covered = 1;
    bool taken[LIGHT_MAX_DIMS] = {false};
    for (int found = 0; found < t->ndim; found++) {
        int next = -1;
        for (int i = 0; i < t->ndim && next < 0; i++)
            if (!taken[i] && (t->shape[i] == 1 || t->strides[i] == covered)) next = i;
        if (next < 0) return false;
        taken[next] = true;
        covered *= t->shape[next];
    }
    return true;
}

bool light_tensor_same_layout(const light_tensor *a, const light_tensor *b)
{
    if (a->ndim != b->ndim) return false;
    for (int i = 0; i < a->ndim; i++) {
        if (a->shape[i] != b->shape[i]) return false;
        if (a->shape[i] != 1 && a->strides[i] != b->strides[i]) return false;
    }
    return true;
}

/* ---- asking ------------------------------------------------------------- */

int light_ndim(const light_tensor *t)
{
    return t ? t->ndim : 0;
}

int64_t light_dim(const light_tensor *t, int dim)
{
    return t && light_normalize_dim(&dim, t->ndim) ? t->shape[dim] : 0;
}

int64_t light_stride(const light_tensor *t, int dim)
{
    return t && light_normalize_dim(&dim, t->ndim) ? t->strides[dim] : 0;
}

int64_t light_numel(const light_tensor *t)
{
    return t ? t->numel : 0;
}

light_shape light_shape_of(const light_tensor *t)
{
    light_shape shape = {0};
    if (!t) return shape;
    shape.ndim = t->ndim;
    for (int i = 0; i < t->ndim; i++) shape.dims[i] = t->shape[i];
    return shape;
}

light_dtype light_dtype_of(const light_tensor *t)
{
    return t ? (light_dtype)t->dtype : LIGHT_DTYPE_DEFAULT;
}

bool light_is_contiguous(const light_tensor *t)
{
    return t && t->contiguous;
}

bool light_requires_grad(const light_tensor *t)
{
    return t && t->requires_grad;
}

/* Values that a strategy keeps elsewhere, or has under way. */
static light_status bring_values(const light_tensor *t)
{
    light_keeper *keeper = t->storage->keeper;
    return keeper && !keeper->here ? keeper->fetch(keeper, NULL) : LIGHT_OK;
}

void *light_data(const light_tensor *t)
{
    if (!t || bring_values(t) != LIGHT_OK) return NULL;
    t->storage->exposed = true;
    return t->data;
}

/* ---- owned tensors ------------------------------------------------------ */

static light_status check_shape(light_shape shape, light_dtype dtype)
{
    char text[256];
    if (!light_dtype_size(dtype))
        return light_fail(LIGHT_ERR_DTYPE, "new tensor: %d is no dtype", (int)dtype);
    if (shape.ndim < 0 || shape.ndim > LIGHT_MAX_DIMS)
        return light_fail(LIGHT_ERR_SHAPE, "new tensor: %d dims, at most %d are possible", shape.ndim,
                          LIGHT_MAX_DIMS);
    int64_t numel = 1;
    for (int i = 0; i < shape.ndim; i++)
        if (shape.dims[i] < 0 || __builtin_mul_overflow(numel, shape.dims[i], &numel) ||
            numel > INT64_MAX / 16)
            return light_fail(LIGHT_ERR_SHAPE, "new tensor: shape %s is negative or too large",
                              light_shape_format(shape, text, sizeof text));
    return LIGHT_OK;
}

light_status light_tensor_new_view(light_tensor **out, light_storage *storage, size_t byte_offset,
                                   light_shape shape, light_dtype dtype)
{
    light_tensor *t = light_calloc(1, sizeof *t);
    if (!t) return LIGHT_ERR_MEMORY;
    t->storage = storage;
    t->data = (char *)storage->data + byte_offset;
    t->dtype = (uint8_t)dtype;
    light_tensor_set_shape(t, shape);
    *out = t;
    return LIGHT_OK;
}

light_status light_tensor_new(light_tensor **out, light_shape shape, light_dtype dtype, light_device *device)
{
    LIGHT_TRY(check_shape(shape, dtype));
    light_storage *storage;
    size_t bytes = (size_t)light_shape_numel(shape) * light_dtype_size(dtype);
    LIGHT_TRY(light_storage_new(&storage, bytes, device ? device : light_default_device()));
    light_status status = light_tensor_new_view(out, storage, 0, shape, dtype);
    if (status != LIGHT_OK) {
        light_storage_free(storage);
        return status;
    }
    (*out)->owns_storage = true;
    return LIGHT_OK;
}

light_status light_tensor_wrap(light_tensor **out, light_shape shape, light_dtype dtype, void *data)
{
    LIGHT_TRY(check_shape(shape, dtype));
    light_storage *storage = light_calloc(1, sizeof *storage);
    if (!storage) return LIGHT_ERR_MEMORY;
    *storage = (light_storage){.data = data,
                               .bytes = (size_t)light_shape_numel(shape) * light_dtype_size(dtype),
                               .device = light_device_cpu(),
                               .refs = 1,
                               .block = -1,
                               .borrowed = true};
    light_status status = light_tensor_new_view(out, storage, 0, shape, dtype);
    if (status != LIGHT_OK) {
        light_free(storage);
        return status;
    }
    (*out)->owns_storage = true;
    return LIGHT_OK;
}

void light_tensor_free(light_tensor *t)
{
    if (!t || t->step) return;
    light_tensor_free(t->grad);
    light_tensor_free(t->lowered);
    if (t->owns_storage) light_storage_free(t->storage);
    light_free(t);
}

light_status light_tensor_lower(light_tensor *t)
{
    const light_lowered *to = t->storage->lowered;
    size_t offset = (size_t)(t->data - (char *)t->storage->data) / light_dtype_size((light_dtype)t->dtype);
    LIGHT_TRY(light_tensor_new_view(&t->lowered, to->storage, offset * light_dtype_size(to->dtype),
                                    light_shape_of(t), to->dtype));
    t->lowered->master = t;
    return LIGHT_OK;
}

light_status light_tensor_rebase(light_tensor *t, light_storage *storage, size_t byte_offset)
{
    light_storage *old = t->storage;
    light_tensor from = *t;
    t->storage = storage;
    t->data = (char *)storage->data + byte_offset;
    light_tensor_set_shape(t, light_shape_of(&from));
    light_status status = light_device_copy(storage->device, t, &from);
    if (status != LIGHT_OK) {
        t->storage = old;
        t->data = from.data;
        return status;
    }
    if (t->owns_storage) light_storage_free(old);
    t->owns_storage = false;
    return LIGHT_OK;
}

light_status light_keep(light_tensor **out, const light_tensor *t)
{
    if (!t) return light_fail(LIGHT_ERR_ARGUMENT, "keep: no tensor (an operation before it failed)");
    light_device *device = t->storage->device;
    LIGHT_TRY(light_tensor_new(out, light_shape_of(t), (light_dtype)t->dtype, device));
    light_status status = light_device_copy(device, *out, t);
    if (status != LIGHT_OK) {
        light_tensor_free(*out);
        *out = NULL;
    }
    return status;
}

/* ---- gradients of leaves ------------------------------------------------ */

void light_set_requires_grad(light_tensor *t, bool requires_grad)
{
    if (t && !t->node && light_dtype_is_floating((light_dtype)t->dtype)) t->requires_grad = requires_grad;
}

light_tensor *light_grad(const light_tensor *t)
{
    return t && t->grad && !t->grad_fresh ? t->grad : NULL;
}

void light_grad_zero(light_tensor *t)
{
    if (t) t->grad_fresh = true;
}

void light_set_grad_hook(light_tensor *t, light_grad_hook hook, void *user)
{
    t->hook = hook;
    t->hook_user = user;
}

/* ---- contents ----------------------------------------------------------- */

light_status light_device_copy(light_device *device, light_tensor *to, const light_tensor *from)
{
    to->storage->version++;
    light_kernel_args args = {.device = device, .in = {from}, .out = {to}};
    return device->backend->kernels[LIGHT_KERNEL_COPY](&args);
}

/* A description of host memory laid out row-major, for a copy kernel of a host device. */
static void describe_host(light_tensor *t, light_storage *storage, const light_tensor *like,
                          light_dtype dtype, void *data)
{
    *storage = (light_storage){.data = data, .device = like->storage->device, .refs = 1, .block = -1};
    *t = (light_tensor){.storage = storage, .data = data, .dtype = (uint8_t)dtype};
    light_tensor_set_shape(t, light_shape_of(like));
}

static light_status check_transfer(const char *what, const light_tensor *t, light_dtype dtype, size_t bytes)
{
    if (!t) return light_fail(LIGHT_ERR_ARGUMENT, "%s: no tensor (an operation before it failed)", what);
    if (t->storage->released)
        return light_fail(LIGHT_ERR_STATE,
                          "%s: the tensor was released when backward passed it; keep it with light_keep",
                          what);
    size_t needed = (size_t)t->numel * light_dtype_size(dtype);
    if (!light_dtype_size(dtype)) return light_fail(LIGHT_ERR_DTYPE, "%s: %d is no dtype", what, (int)dtype);
    if (bytes < needed)
        return light_fail(LIGHT_ERR_ARGUMENT, "%s: %zu bytes for %lld elements of %s, which take %zu", what,
                          bytes, (long long)t->numel, light_dtype_name(dtype), needed);
    return bring_values(t);
}

/* On a device whose memory the host cannot touch, contiguous elements of the right dtype cross as they are. Few of
 * another dtype, such as an item, are converted on the host; more of them on the device, in memory taken for it. */
#define FEW_BYTES 256

static size_t own_bytes(const light_tensor *t)
{
    return (size_t)t->numel * light_dtype_size((light_dtype)t->dtype);
}

/* Row-major elements of the shape of `like`. */
static light_status convert_on_host(const light_tensor *like, void *to, light_dtype to_dtype,
                                    const void *from, light_dtype from_dtype)
{
    light_storage storages[2];
    light_tensor t[2];
    describe_host(&t[0], &storages[0], like, to_dtype, to);
    describe_host(&t[1], &storages[1], like, from_dtype, (void *)from);
    return light_device_copy(light_device_cpu(), &t[0], &t[1]);
}

static light_status read_device(light_device *device, const light_tensor *t, light_dtype dtype, void *to)
{
    _Alignas(8) char few[FEW_BYTES];
    size_t bytes = own_bytes(t);
    const light_backend *b = device->backend;
    if (t->contiguous && t->dtype == dtype)
        return b->copy(device, to, t->data, bytes, LIGHT_COPY_DEVICE_TO_HOST);
    if (t->contiguous && bytes <= sizeof few) {
        LIGHT_TRY(b->copy(device, few, t->data, bytes, LIGHT_COPY_DEVICE_TO_HOST));
        return convert_on_host(t, to, dtype, few, (light_dtype)t->dtype);
    }
    light_tensor *stage;
    LIGHT_TRY(light_tensor_new(&stage, light_shape_of(t), dtype, device));
    light_status status = light_device_copy(device, stage, t);
    if (status == LIGHT_OK)
        status = b->copy(device, to, stage->data, stage->storage->bytes, LIGHT_COPY_DEVICE_TO_HOST);
    light_tensor_free(stage);
    return status;
}

static light_status write_device(light_device *device, light_tensor *t, light_dtype dtype, const void *from)
{
    _Alignas(8) char few[FEW_BYTES];
    size_t bytes = own_bytes(t);
    const light_backend *b = device->backend;
    if (t->contiguous && t->dtype == dtype)
        return b->copy(device, t->data, from, bytes, LIGHT_COPY_HOST_TO_DEVICE);
    if (t->contiguous && bytes <= sizeof few) {
        LIGHT_TRY(convert_on_host(t, few, (light_dtype)t->dtype, from, dtype));
        return b->copy(device, t->data, few, bytes, LIGHT_COPY_HOST_TO_DEVICE);
    }
    light_tensor *stage;
    LIGHT_TRY(light_tensor_new(&stage, light_shape_of(t), dtype, device));
    light_status status =
        b->copy(device, stage->data, from, stage->storage->bytes, LIGHT_COPY_HOST_TO_DEVICE);
    if (status == LIGHT_OK) status = light_device_copy(device, t, stage);
    light_tensor_free(stage);
    return status;
}

light_status light_tensor_read(const light_tensor *t, light_dtype dtype, void *to, size_t bytes)
{
    LIGHT_TRY(check_transfer("read", t, dtype, bytes));
    light_device *device = t->storage->device;
    if (!device->is_host) return read_device(device, t, dtype, to);
    light_storage storage;
    light_tensor host;
    describe_host(&host, &storage, t, dtype, to);
    return light_device_copy(device, &host, t);
}

light_status light_tensor_write(light_tensor *t, light_dtype dtype, const void *from, size_t bytes)
{
    LIGHT_TRY(check_transfer("write", t, dtype, bytes));
    light_device *device = t->storage->device;
    t->storage->version++;
    if (!device->is_host) return write_device(device, t, dtype, from);
    light_storage storage;
    light_tensor host;
    describe_host(&host, &storage, t, dtype, (void *)from);
    return light_device_copy(device, t, &host);
}

light_status light_item(const light_tensor *t, double *value)
{
    if (t && t->numel != 1) {
        char text[256];
        return light_fail(LIGHT_ERR_SHAPE, "item: shape %s has %lld elements, one is needed",
                          light_shape_format(light_shape_of(t), text, sizeof text), (long long)t->numel);
    }
    return light_tensor_read(t, LIGHT_F64, value, sizeof *value);
}
