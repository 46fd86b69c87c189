#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# headers.sh INCLUDE_DIR COMPILER: each public header compiles on its own, as strict C11.
set -eu
for header in "$1"/light/*.h; do
    printf '#include <light/%s>\ntypedef int one_declaration;\n' "${header##*/}" |
        "$2" -std=c11 -pedantic-errors -Wall -Wextra -Werror -fsyntax-only -I"$1" -x c -
done
