#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# kills.sh N RANKS [BUILD]: N times, kills one of RANKS processes (1 to 8) that write checkpoints together at a random
# moment; each time a whole checkpoint has to be there, the last one or the one before it.
set -eu
if [ $# -lt 2 ]; then
    echo "usage: tests/checkpoint/kills.sh N RANKS [BUILD]" >&2
    exit 2
fi
LIGHT_TEST_KILLS=$1 LIGHT_TEST_RANKS=$2 exec "${3:-build}/tests/test_checkpoint_faults_group" killed_at_any_time
