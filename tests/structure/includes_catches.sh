#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# includes_catches.sh DIR: the include check finds what it is there to find, on small trees made for it.
set -eu
here=$1
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
failed=0

# expect good|bad FILE INCLUDE: a tree with this one include.
expect() {
    rm -rf "$root/tree"
    mkdir -p "$root/tree/liblight/include/light" "$root/tree/liblight/nn" "$root/tree/$(dirname "$2")"
    echo '#include <stddef.h>' >"$root/tree/liblight/include/light/tensor.h"
    echo '#include <stddef.h>' >"$root/tree/liblight/nn/linear.c"
    echo "#include $3" >>"$root/tree/$2"
    if sh "$here/includes.sh" "$root/tree" >"$root/said"; then result=good; else result=bad; fi
    if [ "$result" != "$1" ] || { [ "$1" = bad ] && [ ! -s "$root/said" ]; }; then
        echo "$2 with #include $3 was found $result, expected $1"
        cat "$root/said"
        failed=1
    fi
}

expect good liblight/tensor/tensor.c '"base/memory.h"'
expect bad liblight/base/memory.c '"tensor/tensor.h"'
expect bad liblight/base/memory.c '<light/tensor.h>'
expect good liblight/ops/norm.c '<light/tensor.h>'
expect good liblight/cpu/norm.c '"tensor/kernels.h"'
expect good liblight/cpu/once/cpu.c '"cpu/isa.h"'
expect bad liblight/cpu/norm.c '"autograd/op.h"'
expect good liblight/cpu/loss.c '<light/ops.h>'
expect bad liblight/cpu/loss.c '<light/module.h>'
expect bad liblight/ops/norm.c '"cpu/norm.h"'
expect bad liblight/trainer/trainer.c '"cpu/norm.h"'
expect bad liblight/trainer/trainer.c '"callbacks/early_stopping.h"'
expect bad liblight/trainer/trainer.c '"loggers/csv.h"'
expect bad liblight/trainer/trainer.c '"config/cli.h"'
expect bad liblight/tensor/device.c '"cpu/cpu.h"'
expect good callbacks/early_stopping.c '"trainer/trainer.h"'
expect bad callbacks/early_stopping.c '"strategies/ddp.h"'
expect good liblight/config/registry.c '"callbacks/early_stopping.h"'
expect good liblight/data/formats/idx.c '"data/dataset.h"'
expect bad liblight/nn/linear.c '<light/light.h>'
expect bad liblight/nn/linear.c '<light/unheard_of.h>'
expect good liblight/nn/linear.c '<hdf5.h>'
expect bad liblight/base/memory.c '<light/linear.h>'
expect bad liblight/include/light/tensor.h '"tensor/tensor.h"'
expect bad liblight/include/light/tensor.h '<light/ops.h>'
expect bad liblight/unplanned/x.c '<stdio.h>'
expect good examples/mlp/mlp.c '<light/light.h>'
expect bad examples/mlp/mlp.c '"tensor/tensor.h"'
exit $failed
