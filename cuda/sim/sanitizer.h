/* SPDX-License-Identifier: Apache-2.0 */
/* Which sanitizers there are, and poisoning, which is nothing without ASan. */
#ifndef LIGHT_CUDA_SIM_SANITIZER_H
#define LIGHT_CUDA_SIM_SANITIZER_H

#if defined(__SANITIZE_ADDRESS__)
#define LIGHT_SIM_ASAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LIGHT_SIM_ASAN
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define LIGHT_SIM_TSAN
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define LIGHT_SIM_TSAN
#endif
#endif

#ifdef LIGHT_SIM_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define ASAN_POISON_MEMORY_REGION(data, bytes)   ((void)(data), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(data, bytes) ((void)(data), (void)(bytes))
#endif
#ifdef LIGHT_SIM_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#endif
