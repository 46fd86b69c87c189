#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# symbols.sh exported LIBRARY: a shared library exports light_... only.
# symbols.sh suffix ISA LIST: every external symbol of the objects named in the file LIST ends in _ISA.
set -eu
case $1 in
exported)
    nm -D --defined-only "$2" | awk '
        $NF !~ /^light_/ && $NF !~ /^_(init|fini|edata|end)$/ && $NF !~ /^__bss_start$/ { print "exported: " $NF; bad = 1 }
        { seen = 1 }
        END { if (!seen) print "nothing is exported"; exit bad || !seen }' ;;
suffix)
    while IFS= read -r object; do nm -g --defined-only "$object"; done <"$3" | awk -v isa="_$2" '
        NF < 3 { next }
        substr($NF, length($NF) - length(isa) + 1) != isa { print $NF " does not end in " isa ": use LIGHT_ISA()"; bad = 1 }
        END { exit bad }' ;;
*) echo "usage: symbols.sh exported LIBRARY | suffix ISA LIST" >&2; exit 2 ;;
esac
