#!/bin/sh
# Run the Tcl tests in a plain tclsh with a driver that is built with AddressSanitizer and
# UndefinedBehaviorSanitizer, on every engine that can be used here. Any finding is a failure.
#
#   tools/sanitize.sh [-file PATTERN]     arguments go to tcl_tests/all.tcl

set -eu
cd "$(dirname "$0")/.."
PATH=$PWD/.venv/bin:$PATH
build=build/sanitize
[ -e $build/build.ninja ] || meson setup $build -Db_sanitize=address,undefined -Db_lundef=false \
    -Dtesting=true \
    -Dbuildtype=debugoptimized >/dev/null
ninja --quiet -C $build native/libiocpsock.so >&2

# The libraries must come first in the process, since tclsh is not built with them. The tests' Python
# is to run without them: what it leaks is not the driver's.
preload="$(cc -print-file-name=libasan.so) $(cc -print-file-name=libubsan.so)"
export TCLCHAN_PYTHON=$PWD/$build/python
printf '#!/bin/sh\nunset LD_PRELOAD\nexec "%s" "$@"\n' "$(command -v python3)" >"$TCLCHAN_PYTHON"
chmod +x "$TCLCHAN_PYTHON"
export ASAN_OPTIONS=exitcode=99:detect_stack_use_after_return=1:quarantine_size_mb=8
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1:exitcode=99
export TCLCHAN_LIBDIR=$PWD/$build/native

engines=$(LD_PRELOAD=$preload tclsh <<'EOF'
load [file join $::env(TCLCHAN_LIBDIR) libiocpsock.so] Iocpsock
foreach info [iocp::engines] {
    if {[dict get $info usable]} {
        puts [dict get $info name]
    }
}
EOF
)
[ -n "$engines" ]
for engine in $engines; do
    LD_PRELOAD=$preload TCLCHAN_ENGINE=$engine timeout -k 5 "${LIMIT_SECONDS:-300}" \
        tclsh tcl_tests/all.tcl "$@"
done
echo "sanitizers: nothing found on $(echo $engines)"
