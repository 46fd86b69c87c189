/* SPDX-License-Identifier: Apache-2.0 */
/* Opening backends that are libraries of their own, when a program asks for their device. */
#include "tensor/device.h"

#include "base/status.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The folder of the file that holds this function: the library, or the program it is linked into. */
static bool own_folder(char *path, size_t bytes)
{
    Dl_info info;
    if (!dladdr((void *)(uintptr_t)light_plugin_open, &info) || !info.dli_fname) return false;
    const char *slash = strrchr(info.dli_fname, '/');
    int length = slash ? (int)(slash - info.dli_fname) : 1;
    return snprintf(path, bytes, "%.*s", length, slash ? info.dli_fname : ".") < (int)bytes;
}

/* Tries folder/file. A file that is not there is no failure yet, one that cannot be loaded is. */
static void *open_in(const char *folder, const char *file, char *why, size_t bytes)
{
    char path[4096];
    if (!folder || snprintf(path, sizeof path, "%s/%s", folder, file) >= (int)sizeof path) return NULL;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const char *error = library ? NULL : dlerror();
    FILE *there = library || why[0] ? NULL : fopen(path, "r");
    if (there) {
        fclose(there);
        snprintf(why, bytes, "%s", error);
    }
    return library;
}

static void *open_library(const char *file, char *why, size_t bytes)
{
    char own[4096];
    void *library = open_in(getenv("LIGHT_PLUGIN_PATH"), file, why, bytes);
    if (!library && own_folder(own, sizeof own)) library = open_in(own, file, why, bytes);
    if (!library) library = open_in(LIGHT_PLUGIN_DIR, file, why, bytes);
    return library;
}

light_status light_plugin_open(const char *name, const light_backend **backend)
{
    static const light_plugin_host host = {sizeof host, light_failv, light_message};
    const char *kind = getenv("LIGHT_CUDA");
    bool simulated = kind && !strcmp(kind, "simulated");
    char file[64], why[512] = "";
    if (kind && !simulated && strcmp(kind, "real"))
        return light_fail(LIGHT_ERR_ARGUMENT, "LIGHT_CUDA is \"%s\"; it may be real or simulated", kind);
    snprintf(file, sizeof file, "liblight_%s%s.so", name, simulated ? "_sim" : "");
    void *library = open_library(file, why, sizeof why);
    if (!library)
        return why[0] ? light_fail(LIGHT_ERR_UNSUPPORTED, "%s cannot be loaded: %s", file, why)
                      : light_fail(
                            LIGHT_ERR_UNSUPPORTED,
                            "%s is neither in LIGHT_PLUGIN_PATH, nor beside the library, nor in %s (it is "
                            "built where %s)",
                            file, LIGHT_PLUGIN_DIR,
                            simulated ? "there is a C++ compiler" : "nvcc, the CUDA compiler, is found");
    light_plugin_entry entry;
    *(void **)&entry = dlsym(library, LIGHT_PLUGIN_ENTRY);
    *backend = entry ? entry(&host) : NULL;
    if (*backend) return LIGHT_OK;
    dlclose(library);
    return light_fail(LIGHT_ERR_UNSUPPORTED, "%s was built for another version of liblight", file);
}
