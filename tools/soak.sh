#!/bin/sh
# Run the driver under load for a long time, built for testing but at full speed.
#
#   tools/soak.sh [--minutes N] [--engine NAME]

set -eu
cd "$(dirname "$0")/.."
PATH=$PWD/.venv/bin:$PATH
build=$PWD/build/soak
[ -e "$build/build.ninja" ] || meson setup "$build" -Dbuildtype=debugoptimized -Dtesting=true \
    >/dev/null
ninja --quiet -C "$build" native/libiocpsock.so >&2
exec python3 py_tests/soak.py --library "$build/native" "$@"
