/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda/sim/error.h"

#include <cstdarg>
#include <cstdio>

namespace sim
{

static cudaError_t last, device; /* of a call; of the device, for good */
static cudaError_t told;         /* the error that the text belongs to */
static char text[768];

static const char *plain_text(cudaError_t error)
{
    switch (error) {
#define TEXT(name, code, text)                                                                               \
    case name: return text;
        LIGHT_SIM_ERRORS(TEXT)
#undef TEXT
    }
    return "unrecognized error code";
}

cudaError_t fail(cudaError_t error, const char *format, ...)
{
    char more[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(more, sizeof more, format, arguments);
    va_end(arguments);
    if (device != cudaSuccess) return device;
    snprintf(text, sizeof text, "%s: %s", plain_text(error), more);
    return told = last = error;
}

cudaError_t device_failed(cudaError_t error, const char *why)
{
    if (device != cudaSuccess) return device;
    fail(error, "%s", why);
    return device = error;
}

cudaError_t device_error()
{
    return device;
}

void forget_errors()
{
    device = last = told = cudaSuccess;
}

} // namespace sim

const char *cudaGetErrorString(cudaError_t error)
{
    return error != cudaSuccess && error == sim::told ? sim::text : sim::plain_text(error);
}

const char *cudaGetErrorName(cudaError_t error)
{
    switch (error) {
#define NAME(name, code, text)                                                                               \
    case name: return #name;
        LIGHT_SIM_ERRORS(NAME)
#undef NAME
    }
    return "cudaErrorUnknown";
}

cudaError_t cudaPeekAtLastError()
{
    return sim::device != cudaSuccess ? sim::device : sim::last;
}

cudaError_t cudaGetLastError()
{
    cudaError_t error = cudaPeekAtLastError();
    sim::last = cudaSuccess;
    return error;
}
