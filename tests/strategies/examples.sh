#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# examples.sh FASHION-MNIST GAN LIGHT-CHECKPOINT: the examples on two processes under every strategy, by flags alone: they
# end well and have trained what one process trains that accumulates two batches. gan optimizes manually: there it is the
# same bits as ddp's.
set -eu
fashion=$1 gan=$2 tool=$3
command -v mpirun >/dev/null || { echo 'skipped: mpirun was not found (Debian: openmpi-bin)'; exit 77; }
folder=$(mktemp -d "$(test -w /dev/shm && echo /dev/shm || echo /tmp)/light-examples-XXXXXX")
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 OMP_NUM_THREADS=1
export OMPI_MCA_btl=self,vader OMPI_MCA_btl_vader_single_copy_mechanism=none
flags="--data.root data --data.batch_size 16 --data.num_workers 0 --trainer.max_epochs 1 --trainer.limit_train_batches 10
    --trainer.log_every_n_steps 1 --trainer.enable_progress_bar false --trainer.enable_model_summary false
    --trainer.enable_learning_curve false"

# Files like Fashion-MNIST's: each image another stretch of the decimal numbers, classes in turn.
mkdir data
{
    printf '\000\000\010\003\000\000\352\140\000\000\000\034\000\000\000\034'
    seq 1 7000000 | tr '0-9\n' '\000\031\062\113\144\175\226\257\310\341\372' | head -c 47040000
} >data/train-images-idx3-ubyte
{
    printf '\000\000\010\001\000\000\352\140'
    yes 0123456789 | tr -d '\n' | tr '0-9' '\000\001\002\003\004\005\006\007\010\011' | head -c 60000
} >data/train-labels-idx1-ubyte

fail() {
    echo "FAILED: $1"
    test $# = 1 || tail -n 5 "$2"
    exit 1
}

# convnet NAME FLAGS...
convnet() {
    name=$1
    shift
    "$fashion" fit $flags --model.hidden 16 --model.lr 0.1 --trainer.limit_val_batches 3 --trainer.name "$name" "$@" \
        >"$name.log" 2>&1 || fail "fashion_mnist $*" "$name.log"
}

val_loss() { awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "val_loss") column = i }
    NR > 1 && column && $column != "" { loss = $column } END { print loss }' "runs/$1/version_0/metrics.csv"; }

# far A B: whether two losses, which are about 2, differ by more than rounding: their 2e-7 in the last place, a hundred
# times that for what five steps of AdamW make of gradients summed in another order.
far() { awk -v a="$(val_loss "$1")" -v b="$(val_loss "$2")" 'BEGIN { exit !(a == "" || b == "" || (a - b) ^ 2 > 2e-5 ^ 2) }'; }

convnet one --trainer.accumulate_grad_batches 2
convnet seed --trainer.accumulate_grad_batches 2 --trainer.seed 2
far one seed || fail "the comparison finds no difference where the seed differs"
for strategy in ddp zero1 zero2 zero3 fsdp; do
    convnet $strategy --trainer.devices 2 --trainer.strategy $strategy --trainer.shard_unit_mb 0.01
    far one $strategy && fail "fashion_mnist under $strategy: val_loss $(val_loss $strategy), alone $(val_loss one)"
    "$tool" diff runs/one/version_0/checkpoints/last runs/$strategy/version_0/checkpoints/last >diff.log 2>&1 || :
    grep -q 'tensors are equal' diff.log || fail "fashion_mnist under $strategy: other tensors are saved" diff.log
done

for strategy in ddp zero1 zero2 zero3 fsdp; do
    "$gan" fit $flags --trainer.limit_val_batches 0 --trainer.devices 2 --trainer.strategy $strategy \
        --trainer.shard_unit_mb 0.01 --trainer.name gan-$strategy >gan.log 2>&1 || fail "gan under $strategy" gan.log
    # Five rows of numbers; both losses begin at about ln 2 and have fallen.
    awk -F, 'NR > 1 { rows++; g = $2; d = $3 } END { exit !(rows == 5 && g > 0 && g < 0.69 && d > 0 && d < 0.69) }' \
        runs/gan-$strategy/version_0/metrics.csv ||
        fail "gan under $strategy: its losses" runs/gan-$strategy/version_0/metrics.csv
    # Two processes sum a + b, however they share it out: to the bit.
    cmp runs/gan-ddp/version_0/metrics.csv runs/gan-$strategy/version_0/metrics.csv ||
        fail "gan under $strategy: other losses than under ddp" runs/gan-$strategy/version_0/metrics.csv
    "$tool" diff runs/gan-ddp/version_0/checkpoints/last runs/gan-$strategy/version_0/checkpoints/last >diff.log 2>&1 ||
        fail "gan under $strategy: other weights than under ddp" diff.log
done
echo "fashion_mnist under ddp, zero1, zero2, zero3, fsdp: val_loss $(val_loss one) as alone; gan under each as under ddp"
