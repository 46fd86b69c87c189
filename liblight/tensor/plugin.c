/* SPDX-License-Identifier: Apache-2.0 */
/* Opening what is a library of its own when a program asks for it: backends of devices, MPI. */
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

/* When a plug-in is built. */
static const char *built_where(const char *name)
{
    return !strcmp(name, "mpi")    ? "MPI is found; on Debian: libopenmpi-dev, openmpi-bin"
           : !strcmp(name, "cuda") ? "nvcc, the CUDA compiler, is found"
                                   : "there is a C++ compiler";
}

light_status light_plugin_open(const char *name, const void **table)
{
    static const light_plugin_host host = {sizeof host, light_failv, light_message};
    char file[64], why[512] = "";
    snprintf(file, sizeof file, "liblight_%s.so", name);
    void *library = open_library(file, why, sizeof why);
    if (!library && why[0]) return light_fail(LIGHT_ERR_UNSUPPORTED, "%s cannot be loaded: %s", file, why);
    if (!library)
        return light_fail(
            LIGHT_ERR_UNSUPPORTED,
            "%s is neither in LIGHT_PLUGIN_PATH, nor beside the library, nor in %s (it is built "
            "where %s)",
            file, LIGHT_PLUGIN_DIR, built_where(name));
    light_plugin_entry entry;
    *(void **)&entry = dlsym(library, LIGHT_PLUGIN_ENTRY);
    *table = entry ? entry(&host) : NULL;
    if (*table) return LIGHT_OK;
    dlclose(library);
    return light_fail(LIGHT_ERR_UNSUPPORTED, "%s was built for another version of liblight", file);
}
