#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# calls.sh ROOT: calls that the library must not make. It never ends the program (but where the job
# that this process is part of has failed, or has run in other processes), prints only through base/log (and where a
# person asked for output: the command line and the progress bar), and takes heap memory only from base/memory, where it
# is counted and where tests make it fail. liblight/tools/ are programs, which may do all that.
set -eu
cd "$1"
failed=0

# forbid PATTERN ALLOWED_FILES REASON
forbid() {
    found=$(find liblight strategies callbacks -type f -not -path 'liblight/tools/*' \( -name '*.c' -o -name '*.h' \) -exec \
        grep -HnE "(^|[^A-Za-z0-9_.>\"])($1)" {} + 2>/dev/null |
        grep -vE "^($2):" | grep -vE '^[^:]*:[0-9]+:[[:space:]]*(/?\*|//)' || true)
    test -z "$found" || { printf '%s\n^ %s\n' "$found" "$3"; failed=1; }
}

forbid '(exit|_exit|_Exit|quick_exit|abort|assert) *\(' 'strategies/(control_exit|launch(_wait)?)\.c' 'the library never ends the program'
forbid '(printf|puts|putchar|perror|vprintf) *\(' 'none' 'messages go through base/log'
forbid 'v?fprintf *\( *(stderr|stdout)|(fputs|fputc|putc|fwrite) *\(.*, *(stderr|stdout) *\)' \
    'liblight/base/log\.c|liblight/config/[a-z_]*\.c|callbacks/[a-z_]*progress[a-z_]*\.c' 'messages go through base/log'
forbid '(malloc|calloc|realloc|reallocarray|strdup|strndup|asprintf|vasprintf|aligned_alloc|posix_memalign|free) *\(' \
    'liblight/base/memory\.c' 'heap memory comes from base/memory'
exit $failed
