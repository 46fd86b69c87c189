#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# flips.sh N [BUILD]: changes N random bits, one after another, of a checkpoint of three writers; each has to be found.
set -eu
if [ $# -lt 1 ]; then
    echo "usage: tests/checkpoint/flips.sh N [BUILD]" >&2
    exit 2
fi
LIGHT_TEST_FLIPS=$1 exec "${2:-build}/tests/test_checkpoint_damage_group" random_bits
