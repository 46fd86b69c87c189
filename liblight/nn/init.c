/* SPDX-License-Identifier: Apache-2.0 */
/* First values of parameters. A parameter's numbers depend on the run's seed and its own path, so that neither the order
 * of creation nor a new layer changes those of the others. */
#include "nn/parameter.h"

#include "base/philox.h"
#include "tensor/device.h"

/* FNV-1a, 64 bits (Fowler, Noll, Vo). The numbers are part of what makes a run repeatable. */
static uint64_t hash_of(const char *text)
{
    uint64_t hash = 0xCBF29CE484222325u;
    for (; *text; text++) hash = (hash ^ (unsigned char)*text) * 0x100000001B3u;
    return hash;
}

static light_status run_kernel(light_kernel_id id, light_tensor *t, const void *attrs, const uint64_t *rng)
{
    light_device *device = t->storage->device;
    light_kernel kernel = device->backend->kernels[id];
    if (!kernel)
        return light_fail(LIGHT_ERR_UNSUPPORTED, "filling a parameter is not available on %s", device->name);
    t->storage->version++;
    return kernel(&(light_kernel_args){.device = device, .out = {t}, .attrs = attrs, .rng = rng});
}

light_status light_init_fill(light_tensor *t, light_init init, uint64_t seed, const char *path)
{
    if (init.kind == LIGHT_INIT_ZEROS_ || init.kind == LIGHT_INIT_CONSTANT_)
        return run_kernel(LIGHT_KERNEL_FILL, t, &(light_fill_attrs){init.a}, NULL);

    uint32_t key[2];
    light_rng_key(seed, LIGHT_RNG_INIT, hash_of(path), key);
    uint64_t rng[2] = {(uint64_t)key[1] << 32 | key[0], 0};
    light_random_attrs attrs = {
        .kind = init.kind == LIGHT_INIT_NORMAL_ ? LIGHT_RANDOM_NORMAL : LIGHT_RANDOM_UNIFORM,
        .a = init.a,
        .b = init.b,
    };
    return run_kernel(LIGHT_KERNEL_RANDOM, t, &attrs, rng);
}
