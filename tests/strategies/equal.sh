#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# equal.sh PROGRAM LIGHT-CHECKPOINT [STEPS [FLAGS [CASES]]]: what several processes train is what one process trains, within
# rounding, for each strategy, precision and way to spread batches. One process accumulates as many batches as all of them
# together.
set -eu
program=$1 tool=$2 steps=${3:-20} more=${4:-} cases=${5:-plain odd bf16 f16 unused streams manual}
command -v mpirun >/dev/null || { echo 'skipped: mpirun was not found (Debian: openmpi-bin)'; exit 77; }
folder=$(mktemp -d "$(test -w /dev/shm && echo /dev/shm || echo /tmp)/light-equal-XXXXXX")
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_btl=self,vader OMPI_MCA_btl_vader_single_copy_mechanism=none
flags="--trainer.max_steps $steps --trainer.gradient_clip_val 0.5 --trainer.shard_unit_mb 0.004
    --trainer.bucket_cap_mb 0.004 --trainer.enable_progress_bar false --trainer.enable_model_summary false
    --trainer.enable_learning_curve false $more"
ran=0

# train NAME SIZE FLAGS...
train() {
    name=$1 size=$2
    shift 2
    mpirun -np "$size" "$program" fit $flags --trainer.name "$name" "$@" >"$name.log" 2>&1 ||
        { echo "FAILED: $name"; grep -E 'error|warning' "$name.log" | head -n 3; exit 1; }
}

# The largest difference of a weight. f32 has 6e-8 of its value in the last place; 20 steps of 0.01 with AdamW, whose
# first steps divide by small numbers, make at most some hundred of that. With products in 16 bits a sum that is rounded in
# another order can turn an input to the next 16-bit number: 2^-8 (bf16) or 2^-11 (f16) of it, in a few of 20 steps of at
# most 0.01 each.
largest() {
    "$tool" diff "runs/$1/version_0/checkpoints/last" "runs/$2/version_0/checkpoints/last" >diff.log 2>&1 || :
    grep -q 'tensors are equal' diff.log || { echo "FAILED: $2 cannot be compared:"; tail -n 3 diff.log; exit 1; } >&2
    awk '/^model\// && /differ, by/ { if ($(NF - 2) + 0 > most) most = $(NF - 2) + 0 } END { print most + 0 }' diff.log
}

must_equal() {
    most=$(largest "$1" "$2")
    awk -v x="$most" -v limit="$3" 'BEGIN { exit !(x <= limit) }' ||
        { echo "FAILED: $2 differs from $1 by $most, more than $3"; exit 1; }
    ran=$((ran + 1))
}

# compare BASE SIZE BATCHES-EACH LIMIT FLAGS...: all strategies
compare() {
    base=$1 ranks=$2 each=$3 limit=$4
    shift 4
    train "$base" 1 --trainer.accumulate_grad_batches $((ranks * each)) "$@"
    for strategy in ddp zero1 zero2 zero3; do
        train "$base-$strategy" "$ranks" --trainer.strategy "$strategy" --trainer.accumulate_grad_batches "$each" "$@"
        must_equal "$base" "$base-$strategy" "$limit"
    done
}

compare many 4 2 1e-5

# Groups that share one copy each.
train hybrid-zero1 4 --trainer.strategy zero1 --trainer.shard_size 2 --trainer.accumulate_grad_batches 2
must_equal many hybrid-zero1 1e-5
train hybrid-fsdp 4 --trainer.strategy fsdp --trainer.shard_size 2 --trainer.accumulate_grad_batches 2
must_equal many hybrid-fsdp 1e-5

# To the end of an epoch, where the last batch of the validation leaves ranks without one.
train end 1 --trainer.accumulate_grad_batches 2 --trainer.max_steps 26
train end-fsdp 2 --trainer.strategy fsdp --trainer.max_steps 26 --trainer.collective_timeout 5
must_equal end end-fsdp 1e-5

# Parameters that some batches do not use.
compare_unused() {
    train unused 1 --trainer.accumulate_grad_batches 6 --model.leave_out true
    for strategy in ddp zero1 zero2; do
        train "unused-$strategy" 3 --trainer.strategy $strategy --trainer.accumulate_grad_batches 2 \
            --model.leave_out true --trainer.find_unused_parameters true
        must_equal unused "unused-$strategy" 1e-5
    done
}

# Of a stream each rank has a part of its own, so that there is nothing that one process would do alike: the strategies are
# compared. To the second epoch, with parts of different lengths.
compare_streams() {
    for ranks in 2 4; do
        options="--data.shards $((ranks + 1)) --trainer.accumulate_grad_batches 2 --trainer.collective_timeout 20"
        for strategy in ddp zero1 zero2 zero3; do
            train "stream$ranks-$strategy" $ranks --trainer.strategy $strategy $options --trainer.max_steps $((steps * 2))
            must_equal stream$ranks-ddp "stream$ranks-$strategy" 1e-5
            same_val_loss stream$ranks-ddp "stream$ranks-$strategy"
        done
    done
}

val_loss() { awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "val_loss") column = i }
    NR > 1 && column && $column != "" { loss = $column } END { print loss }' "runs/$1/version_0/metrics.csv"; }

same_val_loss() {
    awk -v a="$(val_loss "$1")" -v b="$(val_loss "$2")" 'BEGIN { exit !(a != "" && (a - b) ^ 2 < 1e-5 ^ 2) }' ||
        { echo "FAILED: $2 has val_loss $(val_loss "$2"), $1 has $(val_loss "$1")"; exit 1; }
}

# Manual optimization takes the mean over ranks, so that one process needs batches as large as theirs together.
compare_manual() {
    # One unit, so that it has gradients of both optimizers.
    options="--model.dropout 0 --trainer.gradient_clip_val 0 --trainer.shard_unit_mb 1"
    train manual 1 $options --data.batch_size 8 manual
    for strategy in ddp zero1 zero2 zero3; do
        train "manual-$strategy" 2 --trainer.strategy $strategy $options --data.batch_size 4 manual
        must_equal manual "manual-$strategy" 1e-5
    done
    train manual-hybrid1 4 --trainer.strategy zero1 --trainer.shard_size 2 $options --data.batch_size 2 manual
    must_equal manual manual-hybrid1 1e-5
    train manual-hybrid3 4 --trainer.strategy zero3 --trainer.shard_size 2 $options --data.batch_size 2 manual
    must_equal manual manual-hybrid3 1e-5
    # From a checkpoint between two batches of a sum.
    train manual-more 4 --trainer.strategy zero3 $options --data.batch_size 2 --ckpt_path runs/manual-zero1/version_0/checkpoints/last \
        --trainer.max_steps $((steps + 5)) manual
    train manual-more1 1 $options --data.batch_size 8 --ckpt_path runs/manual/version_0/checkpoints/last \
        --trainer.max_steps $((steps + 5)) manual
    must_equal manual manual-zero1 1e-5
}

# Optimizers in host memory (needs a device that is none: FLAGS), and a run that goes on with them.
compare_offload() {
    for strategy in zero1 zero2 zero3; do
        train "offload-$strategy" 2 --trainer.strategy $strategy --trainer.accumulate_grad_batches 4 \
            --trainer.cpu_offload true
        must_equal many "offload-$strategy" 1e-5
    done
    # With a loss scale, and by hand, with gradients that the module clips.
    train scaled 2 --trainer.strategy zero1 --trainer.precision 16-mixed
    train scaled-offload 2 --trainer.strategy zero2 --trainer.precision 16-mixed --trainer.cpu_offload true
    must_equal scaled scaled-offload 2e-3
    options="--model.dropout 0 --trainer.gradient_clip_val 0 --data.batch_size"
    train by-hand 1 $options 8 manual
    train by-hand-offload 2 $options 4 --trainer.strategy zero3 --trainer.cpu_offload true manual
    must_equal by-hand by-hand-offload 1e-5
    train offload-goes-on 4 --trainer.strategy zero3 --trainer.shard_size 2 --trainer.accumulate_grad_batches 2 \
        --trainer.cpu_offload true --ckpt_path "runs/offload-zero1/version_0/checkpoints/last" \
        --trainer.max_steps $((steps + 2))
    train on 1 --trainer.accumulate_grad_batches 8 --ckpt_path runs/many/version_0/checkpoints/last \
        --trainer.max_steps $((steps + 2))
    # Both go on in the folder of the run that they go on from.
    must_equal many offload-zero1 1e-5
}

for case in $cases; do
    case $case in
        plain) compare plain 2 1 1e-5 ;;
        odd) compare odd 3 2 1e-5 ;;
        bf16) compare bf16 4 1 2e-3 --trainer.precision bf16-mixed ;;
        f16) # without a limit of norms: scaled sums overflow elsewhere
            compare f16 2 1 2e-3 --trainer.precision 16-mixed --trainer.gradient_clip_val 0 ;;
        unused) compare_unused ;;
        streams) compare_streams ;;
        manual) compare_manual ;;
        offload) compare_offload ;;
        *) echo "there is no case '$case'"; exit 2 ;;
    esac
done

# The comparison can fail.
train seed 1 --trainer.accumulate_grad_batches 8 --trainer.seed 2
most=$(largest many seed)
awk -v x="$most" 'BEGIN { exit !(x > 1e-2) }' || { echo "FAILED: another seed differs by $most only"; exit 1; }
echo "$ran runs of $steps steps equal those of one process"
