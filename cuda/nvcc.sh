#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# nvcc.sh OBJECT COMMAND...: compiles, keeps what ptxas says of each kernel in OBJECT.ptxas, and fails when a kernel needs
# more than its ceiling on one of the architectures: a spill is a kernel that has to be cut smaller, or a ceiling that is
# raised knowingly, here.
set -u
object=$1
shift
"$@" -Xptxas -v 2>"$object.ptxas"
status=$?
grep -v 'ptxas info\|bytes stack frame\|bytes gmem' "$object.ptxas" >&2
[ $status -eq 0 ] || exit $status
awk '
    # Of a kernel whose name holds the first word: at most so many registers, bytes of spill stores, of static shared memory.
    function ceiling(name, arch) {
        registers = 128; spill = 0; shared = 49152
        if (name ~ /queries_kernel|keys_kernel|forward_kernel|backward_kernel|mask_kernel|delta_kernel/) registers = 255
        if (name ~ /exact_value_kernel|exact_carry_kernel/) registers = 255 # of one thread
        if (name ~ /row_(forward|backward)_kernel|channel/) registers = arch == "sm_100" ? 255 : 168
    }
    / Compiling entry function / { name = $0; sub(/.*function ./, "", name); sub(/. for .*/, "", name)
                                   arch = $0; sub(/.* for ./, "", arch); sub(/.$/, "", arch) }
    /bytes spill stores/ { spilled = $0; sub(/.*stack frame, /, "", spilled); spilled += 0 }
    /Used [0-9]+ registers/ {
        used = $0; sub(/.*Used /, "", used); used += 0
        memory = 0
        if ($0 ~ /bytes smem/) { memory = $0; sub(/ bytes smem.*/, "", memory); sub(/.* /, "", memory); memory += 0 }
        ceiling(name, arch)
        if (used > registers || spilled > spill || memory > shared) {
            printf "%s: %s: %d registers (at most %d), %d bytes spilled (%d), %d of shared memory (%d)\n",
                   arch, name, used, registers, spilled, spill, memory, shared
            over = 1
        }
        spilled = 0
    }
    END { exit over }' "$object.ptxas" >&2
