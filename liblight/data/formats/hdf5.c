/* SPDX-License-Identifier: Apache-2.0 */
/* Datasets of an HDF5 file. Samples of contiguous datasets in the machine's own format are read straight from the
 * file, by any number of threads at once; all others go through the HDF5 library, one thread at a time. */
#include "data/dataset.h"

#include "base/file.h"
#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Room for a few decompressed chunks of each dataset. */
#define CHUNK_CACHE_BYTES (32u << 20)

typedef struct {
    char *name;
    hid_t id, memory_type;
    light_field field;
    size_t row_bytes;
    int64_t offset; /* of the first sample in the file; -1: through HDF5 */
} hdf5_part;

typedef struct {
    light_dataset base;
    char *path;
    int file;
    hid_t hdf5;
    pthread_mutex_t lock;
    int64_t n;
    int num_parts;
    hdf5_part parts[LIGHT_MAX_FIELDS];
} hdf5_dataset;

static light_status describe(light_dataset *self, light_field *fields, int *num_fields)
{
    hdf5_dataset *d = (hdf5_dataset *)self;

    for (int i = 0; i < d->num_parts; i++) fields[i] = d->parts[i].field;
    *num_fields = d->num_parts;
    return LIGHT_OK;
}

static int64_t length(light_dataset *self)
{
    return ((hdf5_dataset *)self)->n;
}

static light_status read_straight(const hdf5_dataset *d, const hdf5_part *part, int64_t index, void *to)
{
    int64_t at = part->offset + index * (int64_t)part->row_bytes;
    size_t done = 0;

    while (done < part->row_bytes) {
        ssize_t got = pread(d->file, (char *)to + done, part->row_bytes - done, (off_t)(at + (int64_t)done));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) {
            return light_fail(LIGHT_ERR_IO, "%s: %s cannot be read: %s", d->path, part->name,
                              got < 0 ? strerror(errno) : "the file has become shorter");
        }
        done += (size_t)got;
    }
    return LIGHT_OK;
}

static herr_t read_row(const hdf5_part *part, int64_t index, void *to)
{
    hsize_t start[LIGHT_MAX_DIMS] = {(hsize_t)index}, count[LIGHT_MAX_DIMS] = {1};
    hid_t space = H5Dget_space(part->id);

    for (int i = 0; i < part->field.shape.ndim; i++) count[i + 1] = (hsize_t)part->field.shape.dims[i];
    hid_t memory = H5Screate_simple(part->field.shape.ndim + 1, count, NULL);
    herr_t result = -1;
    if (space >= 0 && memory >= 0 &&
        H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0) {
        result = H5Dread(part->id, part->memory_type, memory, space, H5P_DEFAULT, to);
    }
    if (memory >= 0) H5Sclose(memory);
    if (space >= 0) H5Sclose(space);
    return result;
}

static light_status get(light_dataset *self, int64_t index, void *const *to)
{
    hdf5_dataset *d = (hdf5_dataset *)self;

    for (int i = 0; i < d->num_parts; i++) {
        const hdf5_part *part = &d->parts[i];
        if (part->offset >= 0) {
            LIGHT_TRY(read_straight(d, part, index, to[i]));
            continue;
        }
        herr_t result;
        pthread_mutex_lock(&d->lock);
        H5E_BEGIN_TRY
        {
            result = read_row(part, index, to[i]);
        }
        H5E_END_TRY;
        pthread_mutex_unlock(&d->lock);
        if (result < 0) {
            return light_fail(LIGHT_ERR_IO,
                              "%s: %s cannot be read; the file is damaged or has a filter that is not here",
                              d->path, part->name);
        }
    }
    return LIGHT_OK;
}

static void close_hdf5(light_dataset *self)
{
    hdf5_dataset *d = (hdf5_dataset *)self;

    H5E_BEGIN_TRY
    {
        for (int i = 0; i < d->num_parts; i++) {
            if (d->parts[i].memory_type >= 0) H5Tclose(d->parts[i].memory_type);
            if (d->parts[i].id >= 0) H5Dclose(d->parts[i].id);
            light_free(d->parts[i].name);
        }
        if (d->hdf5 >= 0) H5Fclose(d->hdf5);
    }
    H5E_END_TRY;
    if (d->file >= 0) close(d->file);
    pthread_mutex_destroy(&d->lock);
    light_free(d->path);
}

static const light_dataset_vtable hdf5_vtable = {
    LIGHT_DATASET(hdf5_dataset), .describe = describe, .free = close_hdf5, .length = length, .get = get,
};

/* Our dtype for a type in the file, and the type to read it as. */
static light_status choose_type(const hdf5_dataset *d, hdf5_part *part, hid_t type)
{
    H5T_class_t kind = H5Tget_class(type);
    size_t size = H5Tget_size(type);
    bool is_unsigned = kind == H5T_INTEGER && H5Tget_sign(type) == H5T_SGN_NONE;

    part->field.dtype = LIGHT_DTYPE_DEFAULT;
    if (kind == H5T_INTEGER && size == 1 && is_unsigned) {
        part->field.dtype = LIGHT_U8;
        part->memory_type = H5Tcopy(H5T_NATIVE_UINT8);
    } else if (kind == H5T_INTEGER && (size <= 2 || (size == 4 && !is_unsigned))) {
        part->field.dtype = LIGHT_I32;
        part->memory_type = H5Tcopy(H5T_NATIVE_INT32);
    } else if (kind == H5T_INTEGER && size <= 8) {
        part->field.dtype = LIGHT_I64;
        part->memory_type = H5Tcopy(H5T_NATIVE_INT64);
    } else if (kind == H5T_FLOAT && size <= 4) {
        part->field.dtype = LIGHT_F32;
        part->memory_type = H5Tcopy(H5T_NATIVE_FLOAT);
    } else if (kind == H5T_FLOAT && size <= 8) {
        part->field.dtype = LIGHT_F64;
        part->memory_type = H5Tcopy(H5T_NATIVE_DOUBLE);
    } else if (kind == H5T_ENUM && size == 1) {
        /* How h5py writes bool. */
        part->field.dtype = LIGHT_BOOL;
        part->memory_type = H5Tcopy(type);
    }
    if (part->field.dtype == LIGHT_DTYPE_DEFAULT || part->memory_type < 0) {
        return light_fail(LIGHT_ERR_DTYPE, "%s: %s holds no numbers of a kind that can be used", d->path,
                          part->name);
    }
    return LIGHT_OK;
}

static light_status read_shape(hdf5_dataset *d, hdf5_part *part, bool first)
{
    hsize_t dims[H5S_MAX_RANK];
    hid_t space = H5Dget_space(part->id);
    int ndim = space >= 0 ? H5Sget_simple_extent_dims(space, dims, NULL) : -1;

    if (space >= 0) H5Sclose(space);
    if (ndim < 1 || ndim > LIGHT_MAX_DIMS) {
        return light_fail(LIGHT_ERR_SHAPE, "%s: %s has %d dims; 1 to %d are possible, samples by the first",
                          d->path, part->name, ndim, LIGHT_MAX_DIMS);
    }
    if (first) d->n = (int64_t)dims[0];
    if ((int64_t)dims[0] != d->n) {
        return light_fail(LIGHT_ERR_FORMAT,
                          "%s: %s has %" PRIu64 " samples, but %s has %" PRId64 "; they must be as many",
                          d->path, part->name, (uint64_t)dims[0], d->parts[0].name, d->n);
    }
    part->field.name = part->name;
    part->field.shape.ndim = ndim - 1;
    for (int i = 1; i < ndim; i++) part->field.shape.dims[i - 1] = (int64_t)dims[i];
    return LIGHT_OK;
}

/* Whether samples lie in the file one behind the other, just as they are wanted. */
static light_status find_offset(const hdf5_dataset *d, hdf5_part *part, hid_t type)
{
    struct stat about;
    hid_t plist = H5Dget_create_plist(part->id);
    bool contiguous =
        plist >= 0 && H5Pget_layout(plist) == H5D_CONTIGUOUS && H5Pget_external_count(plist) == 0;
    haddr_t at = contiguous ? H5Dget_offset(part->id) : HADDR_UNDEF;

    if (plist >= 0) H5Pclose(plist);
    part->row_bytes = light_field_bytes(&part->field);
    part->offset = -1;
    if (at == HADDR_UNDEF || H5Tequal(type, part->memory_type) <= 0) return LIGHT_OK;
    if (fstat(d->file, &about) != 0 ||
        (int64_t)at + d->n * (int64_t)part->row_bytes > (int64_t)about.st_size) {
        return light_fail(LIGHT_ERR_FORMAT, "%s: the file ends before the end of %s; it is truncated",
                          d->path, part->name);
    }
    part->offset = (int64_t)at;
    return LIGHT_OK;
}

static light_status open_part(hdf5_dataset *d, const char *name)
{
    hdf5_part *part = &d->parts[d->num_parts];
    hid_t access = H5Pcreate(H5P_DATASET_ACCESS);

    *part = (hdf5_part){.id = -1, .memory_type = -1};
    d->num_parts++;
    part->name = light_strdup(name);
    if (!part->name) {
        H5Pclose(access);
        return LIGHT_ERR_MEMORY;
    }
    H5Pset_chunk_cache(access, 4099, CHUNK_CACHE_BYTES, H5D_CHUNK_CACHE_W0_DEFAULT);
    part->id = H5Dopen2(d->hdf5, name, access);
    H5Pclose(access);
    if (part->id < 0)
        return light_fail(LIGHT_ERR_NOT_FOUND, "%s: there is no dataset %s in the file", d->path, name);

    hid_t type = H5Dget_type(part->id);
    light_status status = choose_type(d, part, type);
    if (status == LIGHT_OK) status = read_shape(d, part, d->num_parts == 1);
    if (status == LIGHT_OK) status = find_offset(d, part, type);
    H5Tclose(type);
    return status;
}

static light_status open_hdf5(hdf5_dataset *d, const char *path, const char *const *names, int n)
{
    d->path = light_strdup(path);
    if (!d->path) return LIGHT_ERR_MEMORY;
    d->file = open(path, O_RDONLY | O_CLOEXEC);
    if (d->file < 0) {
        return light_fail(errno == ENOENT ? LIGHT_ERR_NOT_FOUND : LIGHT_ERR_IO, "%s: cannot be opened: %s",
                          path, strerror(errno));
    }
    if (H5Fis_hdf5(path) <= 0) return light_fail(LIGHT_ERR_FORMAT, "%s: this is no HDF5 file", path);
    d->hdf5 = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (d->hdf5 < 0) {
        return light_fail(LIGHT_ERR_FORMAT, "%s: HDF5 cannot open the file; it is truncated or damaged",
                          path);
    }
    for (int i = 0; i < n; i++) LIGHT_TRY(open_part(d, names[i]));
    return LIGHT_OK;
}

light_status light_hdf5_dataset_open(light_dataset **out, const char *path, const char *const *names, int n)
{
    light_dataset *base;
    light_status status;

    *out = NULL;
    if (n < 1 || n > LIGHT_MAX_FIELDS) {
        return light_fail(LIGHT_ERR_ARGUMENT, "%s: 1 to %d datasets are possible, not %d", path,
                          LIGHT_MAX_FIELDS, n);
    }
    LIGHT_TRY(light_dataset_new(&base, &hdf5_vtable));
    hdf5_dataset *d = (hdf5_dataset *)base;
    d->file = -1;
    d->hdf5 = -1;
    pthread_mutex_init(&d->lock, NULL);
    H5E_BEGIN_TRY
    {
        status = open_hdf5(d, path, names, n);
    }
    H5E_END_TRY;
    if (status != LIGHT_OK) {
        light_dataset_free(base);
        return status;
    }
    *out = base;
    return LIGHT_OK;
}
