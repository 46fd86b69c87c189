/* SPDX-License-Identifier: Apache-2.0 */
/* Calls HDF5 by its versioned names: what the plain ones mean depends on how the library was built. */
#include "checkpoint/layout.h"

#include "base/memory.h"
#include "checkpoint/driver.h"
#include "checkpoint/io.h"
#include "checkpoint/manifest.h"

#include <errno.h>
#include <hdf5.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* Larger datasets start at a multiple of this. */
#define ALIGN_FROM 65536
#define ALIGNMENT  4096

/* What stays open while a file is laid out. */
typedef struct builder {
    hid_t file, driver, create, groups; /* property lists: of datasets, of groups */
    hid_t types[LIGHT_DTYPE_COUNT];
} builder;

static herr_t take_description(unsigned n, const H5E_error2_t *error, void *text)
{
    if (n == 0 && error->desc) snprintf(text, 256, "%s", error->desc);
    return 0;
}

static light_status fail_hdf5(const char *what, const char *path)
{
    char text[256] = "unknown failure";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_description, text);
    return light_fail(LIGHT_ERR_ARGUMENT, "checkpoint: HDF5 cannot %s '%s': %s", what, path, text);
}

/* ---- types -------------------------------------------------------------- */

static hid_t small_float(size_t exponent_bits, size_t mantissa_bits, size_t bias)
{
    hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    if (type < 0) return type;
    if (H5Tset_fields(type, 15, mantissa_bits, exponent_bits, 0, mantissa_bits) < 0 ||
        H5Tset_precision(type, 16) < 0 || H5Tset_offset(type, 0) < 0 || H5Tset_size(type, 2) < 0 ||
        H5Tset_ebias(type, bias) < 0) {
        H5Tclose(type);
        return -1;
    }
    return type;
}

/* What h5py takes for a bool. */
static hid_t boolean(void)
{
    hid_t type = H5Tenum_create(H5T_STD_I8LE);
    int8_t off = 0, on = 1;
    if (type >= 0 && (H5Tenum_insert(type, "FALSE", &off) < 0 || H5Tenum_insert(type, "TRUE", &on) < 0)) {
        H5Tclose(type);
        return -1;
    }
    return type;
}

static hid_t new_type(light_dtype dtype)
{
    switch (dtype) {
    case LIGHT_F64: return H5Tcopy(H5T_IEEE_F64LE);
    case LIGHT_F32: return H5Tcopy(H5T_IEEE_F32LE);
    case LIGHT_BF16: return small_float(8, 7, 127);
    case LIGHT_F16: return small_float(5, 10, 15);
    case LIGHT_I64: return H5Tcopy(H5T_STD_I64LE);
    case LIGHT_I32: return H5Tcopy(H5T_STD_I32LE);
    case LIGHT_U8: return H5Tcopy(H5T_STD_U8LE);
    case LIGHT_BOOL: return boolean();
    case LIGHT_DTYPE_DEFAULT:
    case LIGHT_DTYPE_COUNT: break;
    }
    return -1;
}

static hid_t new_string_type(uint64_t bytes)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    if (type < 0) return type;
    if (H5Tset_size(type, bytes ? (size_t)bytes : 1) < 0 || H5Tset_strpad(type, H5T_STR_NULLPAD) < 0 ||
        H5Tset_cset(type, H5T_CSET_UTF8) < 0) {
        H5Tclose(type);
        return -1;
    }
    return type;
}

static hid_t new_space(const light_shape *shape)
{
    hsize_t dims[LIGHT_MAX_DIMS];
    if (shape->ndim == 0) return H5Screate(H5S_SCALAR);
    for (int i = 0; i < shape->ndim; i++) dims[i] = (hsize_t)shape->dims[i];
    return H5Screate_simple(shape->ndim, dims, NULL);
}

/* ---- attributes --------------------------------------------------------- */

static bool put_attribute(hid_t object, const char *name, hid_t type, hid_t space, const void *value)
{
    hid_t attribute =
        type < 0 || space < 0 ? -1 : H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    bool good = attribute >= 0 && H5Awrite(attribute, type, value) >= 0;
    if (attribute >= 0) good = H5Aclose(attribute) >= 0 && good;
    if (space >= 0) H5Sclose(space);
    return good;
}

static bool put_numbers(hid_t object, const char *name, const int64_t *values, int n)
{
    hsize_t count = (hsize_t)n;
    return put_attribute(object, name, H5T_STD_I64LE, H5Screate_simple(1, &count, NULL), values);
}

static bool put_number(hid_t object, const char *name, int64_t value)
{
    return put_attribute(object, name, H5T_STD_I64LE, H5Screate(H5S_SCALAR), &value);
}

static bool put_text(hid_t object, const char *name, const char *text)
{
    hid_t type = new_string_type(strlen(text));
    bool good = put_attribute(object, name, type, H5Screate(H5S_SCALAR), text);
    if (type >= 0) H5Tclose(type);
    return good;
}

static light_status describe_root(hid_t file, const light_layout_about *about)
{
    if (put_text(file, "format", LIGHT_MANIFEST_FORMAT) &&
        put_number(file, "version", LIGHT_MANIFEST_VERSION) &&
        put_text(file, "writer", LIGHT_MANIFEST_WRITER) && put_number(file, "step", about->step) &&
        put_number(file, "epoch", about->epoch) && put_number(file, "shard_index", about->shard_index) &&
        put_number(file, "shard_count", about->shard_count))
        return LIGHT_OK;
    return fail_hdf5("describe", "/");
}

/* ---- datasets ----------------------------------------------------------- */

static light_status make_group(const builder *b, const char *path)
{
    hid_t group = H5Gcreate2(b->file, path, H5P_DEFAULT, b->groups, H5P_DEFAULT);
    return group < 0 || H5Gclose(group) < 0 ? fail_hdf5("make the group", path) : LIGHT_OK;
}

/* The groups above a path. HDF5 would make them too, but with the time of day in them. */
static light_status make_groups_above(const builder *b, const char *path)
{
    char *above = light_strdup(path);
    light_status status = above ? LIGHT_OK : LIGHT_ERR_MEMORY;
    for (char *end = above ? strchr(above + 1, '/') : NULL; end && status == LIGHT_OK;
         end = strchr(end + 1, '/')) {
        *end = '\0';
        if (H5Lexists(b->file, above, H5P_DEFAULT) <= 0) status = make_group(b, above);
        *end = '/';
    }
    light_free(above);
    return status;
}

static light_status place(hid_t id, light_dataset *dataset)
{
    if (dataset->start && dataset->shape.ndim > 0) {
        int n = dataset->shape.ndim;
        if (!put_numbers(id, "global_shape", dataset->global_shape->dims, n) ||
            !put_numbers(id, "start", dataset->start, n))
            return fail_hdf5("describe", dataset->path);
    }
    dataset->offset = 0;
    if (dataset->bytes == 0) return LIGHT_OK;
    haddr_t offset = H5Dget_offset(id);
    if (offset == HADDR_UNDEF) return fail_hdf5("place", dataset->path);
    dataset->offset = offset;
    return LIGHT_OK;
}

static light_status add_dataset(builder *b, light_dataset *dataset)
{
    hid_t type = dataset->is_string ? new_string_type(dataset->bytes) : b->types[dataset->dtype];
    hid_t space = new_space(&dataset->shape);
    hid_t id = type < 0 || space < 0
                   ? -1
                   : H5Dcreate2(b->file, dataset->path, type, space, H5P_DEFAULT, b->create, H5P_DEFAULT);
    light_status status = id < 0 ? fail_hdf5("make the dataset", dataset->path) : place(id, dataset);
    if (id >= 0 && H5Dclose(id) < 0 && status == LIGHT_OK) status = fail_hdf5("close", dataset->path);
    if (space >= 0) H5Sclose(space);
    if (dataset->is_string && type >= 0) H5Tclose(type);
    return status;
}

static light_status open_builder(builder *b, const char *path)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    b->driver = light_driver_register();
    b->create = H5Pcreate(H5P_DATASET_CREATE);
    b->groups = H5Pcreate(H5P_GROUP_CREATE);
    hid_t root = H5Pcreate(H5P_FILE_CREATE);
    bool good = access >= 0 && b->driver >= 0 && b->create >= 0 && b->groups >= 0 && root >= 0;
    good = good && H5Pset_driver(access, b->driver, NULL) >= 0;
    good = good && H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110) >= 0;
    good = good && H5Pset_alignment(access, ALIGN_FROM, ALIGNMENT) >= 0;
    /* Room from the start and nothing in it: the data is written behind HDF5's back. */
    good = good && H5Pset_layout(b->create, H5D_CONTIGUOUS) >= 0;
    good = good && H5Pset_alloc_time(b->create, H5D_ALLOC_TIME_EARLY) >= 0;
    good = good && H5Pset_fill_time(b->create, H5D_FILL_TIME_NEVER) >= 0;
    /* No time of day: the same contents are the same bytes. */
    good = good && H5Pset_obj_track_times(b->create, 0) >= 0 && H5Pset_obj_track_times(b->groups, 0) >= 0 &&
           H5Pset_obj_track_times(root, 0) >= 0;
    for (int i = LIGHT_DTYPE_DEFAULT + 1; i < LIGHT_DTYPE_COUNT; i++) {
        b->types[i] = good ? new_type((light_dtype)i) : -1;
        good = good && b->types[i] >= 0;
    }
    if (good) b->file = H5Fcreate(path, H5F_ACC_TRUNC, root, access);
    /* The next call of HDF5 forgets why this one failed. */
    light_status status = good && b->file >= 0 ? LIGHT_OK : fail_hdf5("start a file in memory", path);
    if (access >= 0) H5Pclose(access);
    if (root >= 0) H5Pclose(root);
    return status;
}

static light_status close_builder(builder *b, light_status status)
{
    if (b->file >= 0 && H5Fclose(b->file) < 0 && status == LIGHT_OK) status = fail_hdf5("close", "/");
    for (int i = LIGHT_DTYPE_DEFAULT + 1; i < LIGHT_DTYPE_COUNT; i++) {
        if (b->types[i] >= 0) H5Tclose(b->types[i]);
    }
    if (b->create >= 0) H5Pclose(b->create);
    if (b->groups >= 0) H5Pclose(b->groups);
    if (b->driver >= 0) H5FDunregister(b->driver);
    return status;
}

static light_status build(const char *path, light_dataset *datasets, size_t count,
                          const light_layout_about *about)
{
    builder b = {.file = -1, .driver = -1, .create = -1, .groups = -1};
    for (int i = 0; i < LIGHT_DTYPE_COUNT; i++) b.types[i] = -1;
    light_status status = open_builder(&b, path);
    if (status == LIGHT_OK) status = describe_root(b.file, about);
    for (size_t i = 0; i < count && status == LIGHT_OK; i++) {
        status = make_groups_above(&b, datasets[i].path);
        if (status == LIGHT_OK)
            status = datasets[i].is_group ? make_group(&b, datasets[i].path) : add_dataset(&b, &datasets[i]);
    }
    return close_builder(&b, status);
}

/* HDF5 may not meet the limit on file sizes: it would crash. */
static light_status check_limit(const light_dataset *datasets, size_t count)
{
    uint64_t bytes = 0;
    struct rlimit limit;

    for (size_t i = 0; i < count; i++) bytes += datasets[i].bytes + ALIGNMENT;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && bytes > limit.rlim_cur)
        return light_fail(LIGHT_ERR_IO,
                          "a checkpoint file of %llu bytes is above this process's limit of %llu",
                          (unsigned long long)bytes, (unsigned long long)limit.rlim_cur);
    hbool_t safe = 0;
    if (H5is_library_threadsafe(&safe) < 0 || !safe)
        return light_fail(LIGHT_ERR_UNSUPPORTED,
                          "checkpoints need an HDF5 library that is built thread-safe");
    return LIGHT_OK;
}

light_status light_layout_new(light_layout *out, light_dataset *datasets, size_t count,
                              const light_layout_about *about)
{
    *out = (light_layout){.file = -1};
    LIGHT_TRY(check_limit(datasets, count));
    out->file = memfd_create("light-checkpoint", MFD_CLOEXEC);
    if (out->file < 0) return light_io_fail("make", "a file in memory");
    char path[64];
    light_driver_name(out->file, path, sizeof path);

    H5E_auto2_t print;
    void *print_data;
    H5Eget_auto2(H5E_DEFAULT, &print, &print_data);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    light_status status = build(path, datasets, count, about);
    H5Eset_auto2(H5E_DEFAULT, print, print_data);

    struct stat about_file;
    if (status == LIGHT_OK && fstat(out->file, &about_file) != 0) status = light_io_fail("look at", path);
    if (status != LIGHT_OK) {
        light_layout_free(out);
        return status;
    }
    out->bytes = (uint64_t)about_file.st_size;
    return LIGHT_OK;
}

void light_layout_free(light_layout *layout)
{
    if (layout->file >= 0) close(layout->file);
    layout->file = -1;
}
