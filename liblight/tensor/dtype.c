/* SPDX-License-Identifier: Apache-2.0 */
/* Facts about dtypes, and shapes as values. */
#include <light/tensor.h>

#include <stdio.h>

static const struct {
    const char *name;
    size_t size;
    bool floating;
} dtypes[LIGHT_DTYPE_COUNT] = {
#define X(code, text, bytes, floating) [LIGHT_##code] = {text, bytes, floating},
    LIGHT_DTYPE_MAP(X)
#undef X
};

static bool known(light_dtype dtype)
{
    return (unsigned)dtype < LIGHT_DTYPE_COUNT && dtypes[dtype].name;
}

const char *light_dtype_name(light_dtype dtype)
{
    return known(dtype) ? dtypes[dtype].name : "unknown dtype";
}

size_t light_dtype_size(light_dtype dtype)
{
    return known(dtype) ? dtypes[dtype].size : 0;
}

bool light_dtype_is_floating(light_dtype dtype)
{
    return known(dtype) && dtypes[dtype].floating;
}

static _Thread_local light_dtype default_dtype = LIGHT_F32;

light_dtype light_default_dtype(void)
{
    return default_dtype;
}

light_dtype light_set_default_dtype(light_dtype dtype)
{
    light_dtype was = default_dtype;
    default_dtype = dtype == LIGHT_DTYPE_DEFAULT ? LIGHT_F32 : dtype;
    return was;
}

int64_t light_shape_numel(light_shape shape)
{
    int64_t numel = 1;
    for (int i = 0; i < shape.ndim; i++) numel *= shape.dims[i];
    return numel;
}

bool light_shape_equal(light_shape a, light_shape b)
{
    if (a.ndim != b.ndim) return false;
    for (int i = 0; i < a.ndim; i++)
        if (a.dims[i] != b.dims[i]) return false;
    return true;
}

char *light_shape_format(light_shape shape, char *text, size_t bytes)
{
    size_t used = (size_t)snprintf(text, bytes, "[");
    for (int i = 0; i < shape.ndim && used < bytes; i++)
        used += (size_t)snprintf(text + used, bytes - used, i ? ", %lld" : "%lld", (long long)shape.dims[i]);
    if (used < bytes) snprintf(text + used, bytes - used, "]");
    return text;
}
