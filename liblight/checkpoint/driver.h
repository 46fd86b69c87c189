/* SPDX-License-Identifier: Apache-2.0 */
/* A file driver for HDF5 whose file is one in memory (memfd_create), with holes that take no room. HDF5's own drivers
 * either work on the disk, or fill the holes. */
#ifndef LIGHT_CHECKPOINT_DRIVER_H
#define LIGHT_CHECKPOINT_DRIVER_H

#include <hdf5.h>

/* For H5Pset_driver, to be closed with H5FDunregister; negative on failure. */
hid_t light_driver_register(void);

/* The name under which H5Fcreate finds descriptor `file` with this driver, into `text`, which it returns. */
char *light_driver_name(int file, char *text, size_t bytes);

#endif
