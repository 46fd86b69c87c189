#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# ops_catches.sh DIR: the check of the lists of operations finds what it is there to find.
set -eu
here=$1
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/liblight/ops"
file=$root/liblight/ops/scan.c
failed=0

printf '%s\n' 'static const light_op a_op = {0};' 'static const light_op b_op = {' '};' \
    'const light_op *const light_scan_ops[] = {&a_op,' '    &b_op, NULL};' >"$file"
sh "$here/ops.sh" "$root" || { echo 'a whole list was found bad'; failed=1; }
sed 's/&b_op, //' "$file" >"$file.less" && mv "$file.less" "$file"
if sh "$here/ops.sh" "$root" >"$root/said"; then echo 'a missing operation was not found'; failed=1; fi
grep -q 'scan.c: b_op' "$root/said" || { cat "$root/said"; failed=1; }
exit $failed
