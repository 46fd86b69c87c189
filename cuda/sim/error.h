/* SPDX-License-Identifier: Apache-2.0 */
/* Errors of the simulated runtime: CUDA's codes, with a text that says more than CUDA's. */
#ifndef LIGHT_CUDA_SIM_ERROR_H
#define LIGHT_CUDA_SIM_ERROR_H

#define LIGHT_SIM_ERRORS(X)                                                                                  \
    X(cudaSuccess, 0, "no error")                                                                            \
    X(cudaErrorInvalidValue, 1, "invalid argument")                                                          \
    X(cudaErrorMemoryAllocation, 2, "out of memory")                                                         \
    X(cudaErrorInvalidConfiguration, 9, "invalid configuration argument")                                    \
    X(cudaErrorNoDevice, 100, "no CUDA-capable device is detected")                                          \
    X(cudaErrorInvalidDevice, 101, "invalid device ordinal")                                                 \
    X(cudaErrorInvalidResourceHandle, 400, "invalid resource handle")                                        \
    X(cudaErrorIllegalState, 401, "the operation cannot be performed in the present state")                  \
    X(cudaErrorNotReady, 600, "device not ready")                                                            \
    X(cudaErrorIllegalAddress, 700, "an illegal memory access was encountered")                              \
    X(cudaErrorLaunchFailure, 719, "unspecified launch failure")                                             \
    X(cudaErrorStreamCaptureUnsupported, 900, "operation not permitted when stream is capturing")            \
    X(cudaErrorUnknown, 999, "unknown error")

#define LIGHT_SIM_ERROR_CODE(name, code, text) name = code,
enum cudaError { LIGHT_SIM_ERRORS(LIGHT_SIM_ERROR_CODE) };
#undef LIGHT_SIM_ERROR_CODE
typedef enum cudaError cudaError_t;

const char *cudaGetErrorString(cudaError_t error);
const char *cudaGetErrorName(cudaError_t error);
/* The last error of a call, which the first of the two forgets. */
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();

namespace sim
{

/* Notes the error of a call; cudaGetErrorString tells the text too until the next error. Returns it. */
cudaError_t fail(cudaError_t error, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* An error of the device itself: all calls return it from now on. */
cudaError_t device_failed(cudaError_t error, const char *text);
cudaError_t device_error();
/* For tests: the device is well again. */
void forget_errors();

} // namespace sim

#endif
