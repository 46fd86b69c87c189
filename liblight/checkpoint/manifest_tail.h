/* SPDX-License-Identifier: Apache-2.0 */
/* The end of every manifest, of any version: the checksum of what stands before it. */
#ifndef LIGHT_CHECKPOINT_MANIFEST_TAIL_H
#define LIGHT_CHECKPOINT_MANIFEST_TAIL_H

#include <inttypes.h>

#define LIGHT_MANIFEST_TAIL       ",\n  \"manifest_crc32c\": \"%08" PRIx32 "\"\n}\n"
#define LIGHT_MANIFEST_TAIL_BYTES 36

#endif
