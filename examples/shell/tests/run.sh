#!/bin/sh
# Tests of place.sh between CACHE_DIR and TARGET_DIR, wherever these lie. In which mode a file must
# end there `linkmode probe` finds out by doing; what place.sh really did, `linkmode verify`.
set -eu

: "${CACHE_DIR:?names an empty directory}" "${TARGET_DIR:?names an empty directory}"
here=$(cd "$(dirname "$0")/.." && pwd)
failed=0

mkdir -p "$CACHE_DIR/tree/inner"
head -c 100000 /dev/urandom >"$CACHE_DIR/tree/data"
head -c 100000 /dev/urandom >"$CACHE_DIR/tree/inner/more"
table=$(linkmode probe "$CACHE_DIR" "$TARGET_DIR" --policy reference)

for mode in clone hardlink copy; do
    expected=$(echo "$table" | awk -v mode="$mode" '$1 == mode { print $NF }')
    mkdir "$TARGET_DIR/$mode"
    sh "$here/place.sh" "$mode" "$CACHE_DIR/tree" "$TARGET_DIR/$mode"
    if linkmode verify "$expected" "$CACHE_DIR/tree" "$TARGET_DIR/$mode"; then
        echo "ok - $mode ends in $expected"
    else
        echo "not ok - $mode ends in $expected"
        failed=1
    fi
done
exit $failed
