#!/bin/sh
# place.sh clone|hardlink|copy SOURCE TARGET: what cannot be cloned or linked is copied.
set -eu

mode=$1 source=$2 target=$3

case $mode in
clone) cp -R -p --reflink=auto "$source/." "$target" ;;
hardlink)
    cp -R -p -l "$source/." "$target" 2>/dev/null ||
        cp -R -p --reflink=never "$source/." "$target"
    ;;
copy) cp -R -p --reflink=never "$source/." "$target" ;;
*)
    echo "place.sh: unknown mode: $mode" >&2
    exit 2
    ;;
esac
