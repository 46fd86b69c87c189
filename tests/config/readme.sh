#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# readme.sh PROGRAM: what README.md says about its program, done.
set -eu
program=$1
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
cd "$root"

"$program" fit 2>log
"$program" fit --ckpt_path last --trainer.max_epochs 12 2>>log
"$program" fit --model.hidden 64 --model.lr 3e-3 --seed_everything 5 2>>log
"$program" validate --ckpt_path runs/net/version_0/checkpoints/best 2>>log
"$program" fit --help | grep -q -- '--model.hidden NUMBER'
test -f runs/net/version_1/learning_curve.svg

# It learns: half of the points would be right by chance.
sed -n 's/^val_acc *//p' log | awk '{ print "val_acc", $1; if ($1 > 0.9) good = 1 } END { exit !good }'
