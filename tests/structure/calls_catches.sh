#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# calls_catches.sh DIR: the check of forbidden calls finds what it is there to find.
set -eu
here=$1
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
failed=0

# expect good|bad FILE LINE: a tree with this one line.
expect() {
    rm -rf "$root/tree"
    mkdir -p "$root/tree/liblight" "$root/tree/$(dirname "$2")"
    printf '%s\n' "$3" >"$root/tree/$2"
    if sh "$here/calls.sh" "$root/tree" >"$root/said"; then result=good; else result=bad; fi
    if [ "$result" != "$1" ] || { [ "$1" = bad ] && [ ! -s "$root/said" ]; }; then
        echo "$2 with '$3' was found $result, expected $1"
        cat "$root/said"
        failed=1
    fi
}

expect bad liblight/ops/norm.c '    exit(1);'
expect bad liblight/ops/norm.c '    if (!x) abort();'
expect bad liblight/ops/norm.c '    assert(x);'
expect bad callbacks/timer.c '    printf("%d", x);'
expect bad liblight/ops/norm.c '    fprintf(stderr, "%d", x);'
expect bad liblight/ops/norm.c '    fputs("text", stdout);'
expect bad liblight/ops/norm.c '    char *p = malloc(3);'
expect bad strategies/ddp.c '    x->y = (float *)calloc(3, 4);'
expect bad liblight/ops/norm.c '    free(p);'
expect good liblight/base/log.c '    fprintf(stderr, "%d", x);'
expect good liblight/base/memory.c '    char *p = malloc(3);'
expect good liblight/ops/norm.c '    fprintf(file, "%d", x);'
expect good liblight/ops/norm.c '    light_free(p); snprintf(s, 3, "x"); light_exit(1); static_assert_(1);'
expect good liblight/ops/norm.c '/* exit(1) and malloc(3) in a comment */'
expect good liblight/ops/norm.c '    x.free(p); x->free(p);'
exit $failed
