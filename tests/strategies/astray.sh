#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# astray.sh PROGRAM: one rank reads its parameters in another order, leaves some out, or makes a call that the others do not
# make. All processes end soon, with exit code 1 and one line that says what this rank wanted and what rank 0 had.
set -eu
program=$1
command -v mpirun >/dev/null || { echo 'skipped: mpirun was not found (Debian: openmpi-bin)'; exit 77; }
folder=$(mktemp -d "$(test -w /dev/shm && echo /dev/shm || echo /tmp)/light-astray-XXXXXX")
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_btl=self,vader OMPI_MCA_btl_vader_single_copy_mechanism=none
# mpirun lets each process come to its own end, so that the exit codes are their own.
export OMPI_MCA_orte_abort_on_non_zero_status=0
flags="--trainer.max_steps 20 --trainer.shard_unit_mb 0.0003 --trainer.bucket_cap_mb 0.001 --trainer.num_sanity_val_steps 0
    --trainer.enable_progress_bar false --trainer.enable_model_summary false --trainer.enable_learning_curve false"
ran=0

fail() { echo "FAILED: $1"; cat log; exit 1; }

# astray SIZE HOW LINE FLAGS...
astray() {
    size=$1 how=$2 line=$3
    shift 3
    rm -f code.*
    began=$(date +%s)
    mpirun -np "$size" sh -c '"$@"; code=$?; echo $code >code.$OMPI_COMM_WORLD_RANK; exit $code' sh \
        "$program" fit $flags --model.astray "$how" "$@" >log 2>&1 || :
    test $(($(date +%s) - began)) -le 20 || fail "$how on $size, $*: it took $(($(date +%s) - began)) s"
    for rank in $(seq 0 $((size - 1))); do
        test "$(cat code.$rank)" = 1 || fail "$how on $size, $*: rank $rank ended with $(cat code.$rank)"
    done
    test "$(grep -c 'error: ' log)" = 1 || fail "$how on $size, $*: not one line"
    grep -Eq "error: .*$line\$" log || fail "$how on $size, $*: another line"
    ran=$((ran + 1))
}

# calls WANTED HAD
calls() { echo "rank 1 is in $1, where rank 0 is in $2; all ranks must make the same calls"; }
# values UNIT PARAMETER: how a gather is named, and its first parameter.
values() { echo "all_gather #[0-9]+ \\(values $1 of 6 from $2, [0-9.]+ [a-zA-Z]+\\)"; }

for size in 2 3; do
    # The units are in.weight; in.bias, norm.weight; norm.bias, middle.weight; middle.bias, again.bias; out.weight; out.bias, gain.
    # The one behind the one that is read is gathered ahead, so that this goes well for some units.
    astray $size order "$(calls "$(values 2 in.bias)" "$(values 6 out.bias)")" --trainer.strategy zero3
    astray $size skip "$(calls "$(values 2 in.bias)" "$(values 3 norm.bias)")" --trainer.strategy zero3
    said='broadcast #[0-9]+ \(what rank 0 says, 8 bytes\)'
    for strategy in ddp zero2; do
        astray $size call "$(calls "$said" "[a-z_]+ #[0-9]+ \\(gradients [0-9]+ of [0-9]+ from [^)]*\\)")" \
            --trainer.strategy $strategy
    done
done
# In the second window of the second epoch, where rank 2 has no batch and does what rank 0 says.
astray 3 order "rank 1 is at values 2 of 6 from in.bias, where rank 0 is at values 6 of 6 from out.bias; with zero3 all ranks must compute alike" \
    --trainer.strategy zero3 --data.samples 20
echo "$ran jobs with a rank that went astray ended well"
