#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# includes.sh ROOT: includes point downwards only. Reads every #include of the library under ROOT and fails with one
# line for each that points upwards or sideways:
#   base < tensor < autograd < ops < nn < optim < data < checkpoint < trainer < config < tools
# cpu/ and cuda/ are backends beside tensor/. loggers/, callbacks/ and strategies/ stand on trainer/ and know nothing
# of each other; only config/, where names become objects, may include them. A public header belongs to the folder
# that the table below says, or else to the one that has a source of the same name. Backends may include
# <light/ops.h> for its enumerations, which are attributes of kernels. Examples use public headers only.
set -eu
cd "$1"

# The folder of public headers.
headers='
light.h      config
status.h     base
message.h    base
option.h     base
tensor.h     tensor
step.h       autograd
ops.h        ops
module.h     nn
state.h      base
nn.h         nn
optim.h      optim
data.h       data
trainer.h    trainer
callback.h   trainer
logger.h     trainer
strategy.h   trainer
cli.h        config
'

for file in liblight/include/light/*.h; do
    name=${file##*/}
    for source in liblight/*/"${name%.h}.c"; do
        folder=${source#liblight/}
        folder=${folder%%/*}
        test ! -e "$source" || test "$folder" = cpu || headers="$headers$name $folder
"
    done
done

list_includes() {
    find liblight strategies callbacks cuda examples -type f \( -name '*.c' -o -name '*.h' -o -name '*.cu' \) \
        -exec grep -Hn '^[[:space:]]*#[[:space:]]*include' {} + 2>/dev/null || true
}

list_includes | awk -v headers="$headers" '
BEGIN {
    count = split("base tensor autograd ops nn optim data checkpoint trainer loggers config tools", order, " ")
    for (i = 1; i <= count; i++) rank[order[i]] = i
    rank["cpu"] = rank["cuda"] = rank["tensor"]
    rank["callbacks"] = rank["strategies"] = rank["loggers"]
    beside["cpu"] = beside["cuda"] = beside["callbacks"] = beside["strategies"] = beside["loggers"] = 1

    lines = split(headers, line, "\n")
    for (i = 1; i <= lines; i++) if (split(line[i], word, " ") == 2 && !(word[1] in folder_of)) folder_of[word[1]] = word[2]
}

function complain(text) {
    print file ":" number ": " text
    bad = 1
}

# The folder that a path of ours lies in; empty when it is not ours.
function layer(path, part, parts) {
    parts = split(path, part, "/")
    return parts > 1 && part[1] in rank ? part[1] : ""
}

{
    split($0, field, ":")
    file = field[1]
    number = field[2]
    if (!match($0, /["<][^">]*[">]/)) next
    wanted = substr($0, RSTART + 1, RLENGTH - 2)
    quoted = substr($0, RSTART, 1) == "\""

    public = wanted ~ /^light\//
    header = substr(wanted, 7)
    if (public && !(header in folder_of)) {
        complain("<" wanted "> is in no layer: name a source like it, or add it to the table in tests/structure/includes.sh")
        next
    }

    if (file ~ /^examples\//) {
        if (!public && layer(wanted) != "") complain("an example includes " wanted ", which is no public header")
        next
    }
    if (file ~ /^liblight\/include\//) {
        if (quoted) complain("a public header includes \"" wanted "\"; it may include <light/...> and system headers")
        name = file
        sub(/.*\//, "", name)
        from = folder_of[name]
        if (from == "") {
            complain("light/" name " is in no layer: name a source like it, or add it to the table in tests/structure/includes.sh")
            next
        }
    } else {
        from = file
        sub(/^liblight\//, "", from)
        sub(/\/.*/, "", from)
        if (!(from in rank)) {
            complain("the folder " from " is not in the design; add it to tests/structure/includes.sh")
            next
        }
        if (public && header == "light.h") {
            complain("light.h includes everything; name the headers that are needed")
            next
        }
    }

    to = public ? folder_of[header] : layer(wanted)
    if (to == "" || to == from) next
    if (public && header == "ops.h" && (from == "cpu" || from == "cuda")) next
    if (rank[to] > rank[from]) complain(from "/ includes " wanted " of " to "/, which stands above it")
    else if (beside[to] && from != "config") complain(from "/ includes " wanted "; only config/ may know " to "/")
    else if (rank[to] == rank[from] && !beside[from]) complain(from "/ includes " wanted " of " to "/, which stands beside it")
}

END { exit bad }
'
