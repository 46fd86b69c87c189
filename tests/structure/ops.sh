#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# ops.sh ROOT: every light_op of a file in liblight/ops is in that file's list, from which ops/table.h finds it, so that
# --print_precision leaves none out. Those of create.c take no tensor and are not meant.
set -eu
cd "$1/liblight/ops"
failed=0
for file in *.c; do
    test "$file" != create.c || continue
    list=$(sed -n '/^const light_op \*const light_[a-z]*_ops\[\]/,$p' "$file")
    for op in $(sed -n 's/^static const light_op \([a-z0-9_]*\).*/\1/p' "$file"); do
        printf '%s\n' "$list" "$(sed -n '/^#define AT/p' "$file")" | grep -q "&$op\b" ||
            { echo "$file: $op is not in the list of the file's operations"; failed=1; }
    done
done
exit $failed
