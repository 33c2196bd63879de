#!/bin/sh
# Run the Tcl tests in a plain tclsh with a driver that is built with AddressSanitizer and
# UndefinedBehaviorSanitizer, on every engine that can be used here and on the simulated one; with
# Tcl 9.0 on that alone. Then those with threads on one that is built with ThreadSanitizer. Any
# finding is a failure.
#
#   tools/sanitize.sh [-file PATTERN]     arguments go to tcl_tests/all.tcl

set -eu
cd "$(dirname "$0")/.."
PATH=$PWD/.venv/bin:$PATH
build=$PWD/build/sanitize
tclsh9=
[ ! -e build/tcl9 ] || tclsh9=$PWD/build/tcl9/bin/tclsh9.0
export PKG_CONFIG_PATH="$PWD/build/tcl9/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}"
configure() {
    [ -e "$1/build.ninja" ] || meson setup "$1" -Dbuildtype=debugoptimized \
        -Db_sanitize="$2" -Db_lundef=false -Dtesting=true >/dev/null
}
configure "$build" address,undefined
ninja --quiet -C "$build" native/libiocpsock.so ${tclsh9:+native/libtcl9iocpsock.so} \
    native/libiocpsockstub.a >&2
mkdir -p "$build/native/include"
cp native/iocpsock.h "$build/native/include"

# The libraries must come first in the process, since tclsh is not built with them. In the Python of
# the tests, which may become a tclsh, nothing is to look for leaks: they are not the driver's.
preload="$(cc -print-file-name=libasan.so) $(cc -print-file-name=libubsan.so)"
export TCLCHAN_PYTHON="$build/python" TCLCHAN_LIBDIR="$build/native"
printf '#!/bin/sh\nASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0 exec "%s" "$@"\n' \
    "$(command -v python3)" >"$TCLCHAN_PYTHON"
chmod +x "$TCLCHAN_PYTHON"
export ASAN_OPTIONS=exitcode=99:detect_stack_use_after_return=1:quarantine_size_mb=8
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1:exitcode=99

engines=$(LD_PRELOAD=$preload tclsh <<'EOF'
lappend auto_path $::env(TCLCHAN_LIBDIR)
package require Iocpsock
foreach info [iocp::engines] {
    if {[dict get $info usable]} {
        puts [dict get $info name]
    }
}
EOF
)
[ -n "$engines" ]
# Each run has a directory for its files, and a network of its own, so that no port that one has
# just given up is taken by another. Then they run side by side; without networks, they take turns.
network=
for flags in -n "-r -n"; do
    [ -n "$network" ] || ! unshare $flags ip link set lo up 2>/dev/null || network="unshare $flags"
done
# A run that leaves out what it is there for has found nothing either. But one that was asked for a
# few tests only may have none in a file.
[ $# -gt 0 ] || export TCLCHAN_REQUIRE="driver testing thread peer proc"
logs=$build/logs
rm -rf "$logs"
mkdir "$logs"
result=0
running=
failed=
# start NAME TCLSH ENGINE ARG... -- begin a run; finish waits for all that have begun.
start() {
    name=$1 tclsh=$2 engine=$3
    shift 3
    mkdir "$logs/$name.tmp"
    set -- timeout -k 5 "${LIMIT_SECONDS:-1200}" \
        env LD_PRELOAD="$preload" TCLCHAN_ENGINE="$engine" "$tclsh" tcl_tests/all.tcl \
        -tmpdir "$logs/$name.tmp" "$@"
    [ -z "$network" ] || set -- $network /bin/sh -c 'ip link set lo up && exec "$@"' sh "$@"
    "$@" >"$logs/$name.log" 2>&1 &
    running="$running $name:$!"
    [ -n "$network" ] || finish
}
finish() {
    for run in $running; do
        wait "${run#*:}" || {
            result=1
            failed="$failed ${run%:*}"
        }
    done
    running=
}
for engine in $engines; do
    start "asan-$engine" tclsh "$engine" "$@"
done
finish
if [ -n "$tclsh9" ]; then
    # The loader that it is run by frees nothing, nor does its tls everything; and its allocator may
    # hold a block for a thread that is ending just then. (With 8.6, all of Tcl is looked at.)
    printf 'leak:ld-linux\nleak:libcrypto\nleak:libtcl9\n' >"$build/suppressions"
    export LSAN_OPTIONS="suppressions=$build/suppressions:print_suppressions=0"
    start asan-tcl9-sim "$tclsh9" sim "$@"
fi

# Tcl and its Thread package are not built with it: it sees their locks, and their data not at all.
# Without descriptors, as in thread-4, it could write no report.
tsan=$PWD/build/tsan
configure "$tsan" thread
ninja --quiet -C "$tsan" native/libiocpsock.so >&2
export TCLCHAN_PYTHON="$(command -v python3)" TCLCHAN_LIBDIR="$tsan/native"
export TSAN_OPTIONS="log_path=$logs/report:exitcode=0"
preload=$(cc -print-file-name=libtsan.so)
# No shell starts with it: those of the tests do without, and what they start has it again.
mkdir -p "$tsan/bin"
cat >"$tsan/bin/sh" <<EOF
#!/usr/bin/env -S -u LD_PRELOAD /bin/sh
[ "\$1" != -c ] || {
    script="export LD_PRELOAD='$preload'; \$2"
    shift 2
    set -- -c "\$script" "\$@"
}
exec /bin/sh "\$@"
EOF
chmod +x "$tsan/bin/sh"
PATH=$tsan/bin:$PATH
for engine in $engines; do
    start "tsan-$engine" tclsh "$engine" -file "thread.test lookup.test copy.test defer.test" \
        -skip "thread-4.*"
done
finish
# What failed comes last, where it is seen.
for log in "$logs"/*.log; do
    name=${log##*/}
    case "$failed " in
    *" ${name%.log} "*) ;;
    *) cat "$log" ;;
    esac
done
for name in $failed; do
    echo "FAILED: $name"
    cat "$logs/$name.log"
done
# Nor is it told by name what in Tcl makes a mutex when it is locked first, and looks without a lock
# whether it has been made. So a race counts if one of the two was the driver's own doing.
for report in "$logs"/report.*; do
    [ ! -e "$report" ] || awk '
        /^WARNING: ThreadSanitizer/ { text = ""; ours = 0; race = /data race/ }
        { text = text $0 "\n" }
        / of size [0-9]+ at / { first = 1 }
        /^    #/ && !/libtsan/ { if (/libiocpsock/ && (first || !race)) ours = 1; first = 0 }
        /^SUMMARY/ && ours { printf "%s", text; found = 1 }
        END { exit found }' "$report" || result=1
done
[ $result = 0 ] && echo "sanitizers: nothing found on" $engines ${tclsh9:+"and sim with Tcl 9.0"}
exit $result
