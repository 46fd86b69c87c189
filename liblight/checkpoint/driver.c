/* SPDX-License-Identifier: Apache-2.0 */
/* HDF5's interface for drivers: "The virtual file layer" of its documentation, H5FDpublic.h. */
#include "checkpoint/driver.h"

#include "base/memory.h"

#if H5_VERSION_GE(1, 13, 2)
#include <H5FDdevelop.h>
#endif

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define NAME "light-memory-%d"

typedef struct memory_file {
    H5FD_t base; /* first: what HDF5 knows of it */
    int file;    /* belongs to the caller of H5Fcreate */
    haddr_t end_of_addresses, end_of_file;
} memory_file;

char *light_driver_name(int file, char *text, size_t bytes)
{
    snprintf(text, bytes, NAME, file);
    return text;
}

static H5FD_t *open_file(const char *name, unsigned flags, hid_t access, haddr_t max_address)
{
    int file;
    (void)flags, (void)access, (void)max_address;
    if (sscanf(name, NAME, &file) != 1) return NULL;
    memory_file *f = light_calloc(1, sizeof *f);
    if (!f) return NULL;
    f->file = file;
    return &f->base;
}

static herr_t close_file(H5FD_t *base)
{
    memory_file *f = (memory_file *)base;
    /* A file ends where its addresses end, or HDF5 takes it for cut off. */
    int result = ftruncate(f->file, (off_t)f->end_of_addresses);
    light_free(f);
    return result;
}

static herr_t query(const H5FD_t *base, unsigned long *flags)
{
    (void)base;
    *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA;
    return 0;
}

static haddr_t get_end_of_addresses(const H5FD_t *base, H5FD_mem_t type)
{
    (void)type;
    return ((const memory_file *)base)->end_of_addresses;
}

static herr_t set_end_of_addresses(H5FD_t *base, H5FD_mem_t type, haddr_t address)
{
    (void)type;
    ((memory_file *)base)->end_of_addresses = address;
    return 0;
}

static haddr_t get_end_of_file(const H5FD_t *base, H5FD_mem_t type)
{
    (void)type;
    return ((const memory_file *)base)->end_of_file;
}

static herr_t read_file(H5FD_t *base, H5FD_mem_t type, hid_t transfer, haddr_t address, size_t bytes,
                        void *to)
{
    const memory_file *f = (const memory_file *)base;
    char *at = to;
    (void)type, (void)transfer;
    while (bytes) {
        ssize_t count = pread(f->file, at, bytes, (off_t)address);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return -1;
        if (count == 0) {
            memset(at, 0, bytes);
            break;
        }
        at += count;
        address += (haddr_t)count;
        bytes -= (size_t)count;
    }
    return 0;
}

static herr_t write_file(H5FD_t *base, H5FD_mem_t type, hid_t transfer, haddr_t address, size_t bytes,
                         const void *from)
{
    memory_file *f = (memory_file *)base;
    const char *at = from;
    (void)type, (void)transfer;
    while (bytes) {
        ssize_t count = pwrite(f->file, at, bytes, (off_t)address);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return -1;
        at += count;
        address += (haddr_t)count;
        bytes -= (size_t)count;
    }
    if (address > f->end_of_file) f->end_of_file = address;
    return 0;
}

hid_t light_driver_register(void)
{
    static const H5FD_class_t driver = {
#ifdef H5FD_CLASS_VERSION
        .version = H5FD_CLASS_VERSION,
        .value = (H5FD_class_value_t)600, /* 512 and up are free for any use */
#endif
        .name = "light-memory",
        .maxaddr = INT64_MAX,
        .fc_degree = H5F_CLOSE_WEAK,
        .open = open_file,
        .close = close_file,
        .query = query,
        .get_eoa = get_end_of_addresses,
        .set_eoa = set_end_of_addresses,
        .get_eof = get_end_of_file,
        .read = read_file,
        .write = write_file,
        .fl_map = H5FD_FLMAP_DICHOTOMY,
    };
    return H5FDregister(&driver);
}
