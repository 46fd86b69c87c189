/* SPDX-License-Identifier: Apache-2.0 */
/* The backend's table, and the plug-in's entry. */
#include "cuda/collectives.h"
#include "cuda/memory.h"

#include <stdarg.h>
#ifndef LIGHT_CUDA_SIM
#include <nvtx3/nvToolsExt.h>
#endif
#include <stdio.h>

namespace light
{

/* Arrays of kernels, one for each file of cuda/. */
#define KERNEL_ARRAYS(X)                                                                                     \
    X(attention_kernels)                                                                                     \
    X(combine_kernels)                                                                                       \
    X(conv2d_kernels)                                                                                        \
    X(copy_kernels)                                                                                          \
    X(dropout_kernels)                                                                                       \
    X(elementwise_binary_kernels)                                                                            \
    X(elementwise_unary_kernels)                                                                             \
    X(embedding_kernels)                                                                                     \
    X(flat_kernels)                                                                                          \
    X(index_kernels)                                                                                         \
    X(loss_classes_kernels)                                                                                  \
    X(loss_kernels)                                                                                          \
    X(matmul_kernels)                                                                                        \
    X(norm_channels_kernels)                                                                                 \
    X(norm_rows_kernels)                                                                                     \
    X(optimizer_kernels)                                                                                     \
    X(pool_kernels)                                                                                          \
    X(random_kernels)                                                                                        \
    X(reduce_kernels)                                                                                        \
    X(rope_kernels)                                                                                          \
    X(scan_kernels)                                                                                          \
    X(softmax_kernels)

#define DECLARE(name) extern const kernel_entry name[];
KERNEL_ARRAYS(DECLARE)

static light_kernel table[LIGHT_KERNEL_COUNT];

static void fill_table()
{
#define ENTRY(name) name,
    static const kernel_entry *const arrays[] = {KERNEL_ARRAYS(ENTRY)};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        for (const kernel_entry *k = arrays[i]; k->kernel; k++) table[k->id] = k->kernel;
}

static const light_plugin_host *host;

} // namespace light

/* The library's own light_fail and light_message, which this plug-in reaches through its host. */
extern "C" light_status light_fail(light_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    status = light::host->fail(status, format, arguments);
    va_end(arguments);
    return status;
}

extern "C" void light_message(light_message_level level, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    light::host->message(level, "%s", text);
}

extern "C" LIGHT_API const void *light_plugin(const light_plugin_host *from)
{
    static light_backend backend;
    if (from->size != sizeof *from) return NULL;
    light::host = from;
    light::fill_table();
    backend.size = sizeof backend;
    backend.name = "cuda";
    backend.open = light::open_device;
    backend.close = light::close_device;
    backend.reserve = light::reserve;
    backend.commit = light::commit;
    backend.unreserve = light::unreserve;
    backend.allocate = light::allocate;
    backend.release = light::release;
    backend.copy = light::copy;
    backend.upload_begin = light::upload_begin;
    backend.upload = light::upload;
    backend.fetch = light::fetch;
    backend.fetched = light::fetched;
    backend.graph_begin = light::graph_begin;
    backend.graph_end = light::graph_end;
    backend.graph_launch = light::graph_launch;
    backend.graph_free = light::graph_free;
    backend.synchronize = light::synchronize;
#ifndef LIGHT_CUDA_SIM /* NVTX ranges: Nsight shows them, without it they cost a nanosecond */
    backend.range_push = [](const char *name) { nvtxRangePushA(name); };
    backend.range_pop = [] { nvtxRangePop(); };
#endif
    backend.kernels = light::table;
#if defined(LIGHT_CUDA_SIM) || defined(LIGHT_HAVE_NCCL)
    backend.collectives = &light::collectives;
#endif
    return &backend;
}
