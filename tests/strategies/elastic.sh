#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# elastic.sh PROGRAM LIGHT-CHECKPOINT [STEPS [SIZES [TRIALS [FLAGS]]]]: with trainer.deterministic elastic the weights and
# the optimizer's state are the same to the bit for any strategy and number of processes, and after a kill and a resume
# with others.
set -eu
program=$1 tool=$2 steps=${3:-40} sizes=${4:-1 2 4} trials=${5:-2} more=${6:-}
command -v mpirun >/dev/null || { echo 'skipped: mpirun was not found (Debian: openmpi-bin)'; exit 77; }
folder=$(mktemp -d "$(test -w /dev/shm && echo /dev/shm || echo /tmp)/light-elastic-XXXXXX")
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_btl=self,vader OMPI_MCA_btl_vader_single_copy_mechanism=none
flags="--trainer.max_steps $steps --trainer.deterministic elastic --trainer.accumulate_grad_batches 8
    --model.batch_norm true --trainer.gradient_clip_val 0.5 --trainer.shard_unit_mb 0.008 --trainer.bucket_cap_mb 0.004
    --trainer.enable_progress_bar false --trainer.enable_model_summary false --trainer.enable_learning_curve false $more"
ran=0

# train NAME SIZE STRATEGY FLAGS...
train() {
    name=$1 size=$2 strategy=$3
    shift 3
    mpirun -np "$size" "$program" fit $flags --trainer.name "$name" --trainer.strategy "$strategy" "$@" >"$name.log" 2>&1
}

must_equal() {
    if ! "$tool" diff "runs/$reference/version_0/checkpoints/last" "$1" >diff.log 2>&1; then
        echo "FAILED: $2 is not what one process gives:"
        grep -v 'equal$' diff.log | head -n 5
        exit 1
    fi
    ran=$((ran + 1))
}

reference=first
train first 1 ddp || { tail -n 5 first.log; exit 1; }

# The comparison can fail.
train other 1 ddp --trainer.seed 2
if "$tool" diff runs/first/version_0/checkpoints/last runs/other/version_0/checkpoints/last >/dev/null 2>&1; then
    echo 'FAILED: another seed gives the same weights'
    exit 1
fi

# One window makes the running statistics of batch norm what they are without it, within the rounding of eight changes,
# and counts as many batches. (They are about 1, where numbers are 1.2e-7 apart.)
train window 1 ddp --trainer.max_steps 1 || { tail -n 5 window.log; exit 1; }
train plain 1 single --trainer.max_steps 1 --trainer.deterministic false || { tail -n 5 plain.log; exit 1; }
"$tool" diff runs/window/version_0/checkpoints/last runs/plain/version_0/checkpoints/last >diff.log 2>&1 || :
if grep -q num_batches_tracked diff.log || grep 'running_' diff.log | awk '{ exit !($(NF - 2) > 2e-6) }' ||
    ! grep -q 'tensors are equal' diff.log; then
    echo 'FAILED: other running statistics than without deterministic elastic:'
    cat diff.log
    exit 1
fi

for strategy in ddp zero1 zero2 zero3; do
    for size in $sizes; do
        name=$strategy-$size
        train "$name" "$size" "$strategy" || { echo "FAILED: $name"; tail -n 5 "$name.log"; exit 1; }
        must_equal "runs/$name/version_0/checkpoints/last" "$name"
    done
done

# In 16 bits, where zero3 gathers copies; in units so small that values come again for backward.
for precision in bf16-mixed bf16-true 16-mixed; do
    small="--trainer.precision $precision --trainer.shard_unit_mb 0.0003"
    train "$precision" 1 ddp $small
    reference=$precision
    for size in $sizes; do
        test "$size" = 1 && continue
        train "$precision-$size" "$size" zero3 $small ||
            { echo "FAILED: $precision-$size"; tail -n 5 "$precision-$size.log"; exit 1; }
        must_equal "runs/$precision-$size/version_0/checkpoints/last" "$precision on $size"
    done
done
reference=first

# Groups that share one copy each.
case $sizes in *4*)
    for strategy in zero1 zero2 zero3; do
        train "$strategy-hybrid" 4 "$strategy" --trainer.shard_size 2 ||
            { echo "FAILED: $strategy-hybrid"; tail -n 5 "$strategy-hybrid.log"; exit 1; }
        must_equal "runs/$strategy-hybrid/version_0/checkpoints/last" "$strategy in groups of 2"
    done ;;
esac

# Killed at some moment after its first checkpoint, and resumed with another strategy and size.
kill_and_resume() {
    run=$1 first_size=$2 first=$3 next_size=$4 next=$5
    train "$run" "$first_size" "$first" --model_checkpoint.every_n_train_steps 3 &
    job=$!
    until test -e "runs/$run/version_0/checkpoints/last/manifest.json"; do
        kill -0 $job 2>/dev/null || break
        sleep 0.05
    done
    sleep "0.$6"
    pkill -9 -f -- "--trainer.name $run " || :
    wait $job || :
    train "$run" "$next_size" "$next" --ckpt_path last --model_checkpoint.every_n_train_steps 3 ||
        { echo "FAILED: $run did not go on"; grep -E 'error|warning' "$run.log" | head -n 5; exit 1; }
    must_equal "runs/$run/version_0/checkpoints/last" "$first on $first_size, killed, then $next on $next_size,"
}

trial=0
while [ $trial -lt "$trials" ]; do
    kill_and_resume "kill-a-$trial" 4 zero3 2 ddp "$((trial % 7))"
    kill_and_resume "kill-b-$trial" 2 zero1 4 zero2 "$((trial * 3 % 7))"
    kill_and_resume "kill-c-$trial" 1 ddp 4 zero3 "$((trial * 5 % 7))"
    trial=$((trial + 1))
done
echo "$ran runs of $steps steps: all bits equal (strategies ddp zero1 zero2 zero3; processes $sizes; $((3 * trials)) kills)"
