#!/bin/sh
# Get what the project needs and this machine lacks: packages of the system, and a virtual
# environment in .venv with the tools of the build.
#
#   tools/setup.sh serve     what it takes to build the package and to serve a site
#   tools/setup.sh test      and what the tests take
#   tools/setup.sh bench     and what the benchmark takes
#   tools/setup.sh windows   and what it takes to build for Windows
#
# Where there are no rights to install packages, it names them and the command that does it. PYTHON
# in the environment names a Python to use; it needs 3.11 or later with tkinter on Tcl 8.6.

set -eu
cd "$(dirname "$0")/.."
purpose=$1
missing=

# need PACKAGE COMMAND... -- Debian's PACKAGE is missing unless COMMAND succeeds.
need() {
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}

has_header() {
    printf '#include <%s>\n' "$1" | cc -E -x c -
}

has_tcl_package() {
    echo "if {[catch {package require $1} message]} {puts stderr \$message; exit 1}" | tclsh
}

python_works() {
    "$1" -c 'import sys, tkinter
sys.exit(sys.version_info < (3, 11) or tkinter.TclVersion != 8.6)' >/dev/null 2>&1
}

can_make_venv() {
    "$1" -c 'import ensurepip, venv'
}

has_python_headers() {
    "$1" -c 'import pathlib, sys, sysconfig
sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())'
}

python=
for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 /usr/bin/python3}; do
    if python_works "$candidate"; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    if [ -n "${PYTHON:-}" ]; then
        echo "$PYTHON is not a Python 3.11 or later with tkinter on Tcl 8.6" >&2
        exit 1
    fi
    missing=" python3 python3-tk"
    python=/usr/bin/python3
fi
need python3-venv can_make_venv "$python"
need python3-dev has_python_headers "$python"
need gcc command -v cc
need libc6-dev has_header stdlib.h
need pkg-config command -v pkg-config
need tcl-dev pkg-config --exists tcl
need liburing-dev pkg-config --exists "liburing >= 2.3"
need tcl command -v tclsh
need tcllib has_tcl_package httpd
need xotcl has_tcl_package XOTcl
if [ "$purpose" = test ] || [ "$purpose" = bench ]; then
    need wrk command -v wrk
fi
if [ "$purpose" = test ] || [ "$purpose" = windows ]; then
    need gcc-mingw-w64-x86-64 command -v x86_64-w64-mingw32-gcc
    need wine command -v wine
fi
if [ "$purpose" = test ]; then
    need tcl-thread has_tcl_package Thread
    need tcl-tls has_tcl_package tls
    need openssl command -v openssl
    need binutils command -v readelf
    need curl command -v curl
    need haproxy test -x /usr/sbin/haproxy
    need iproute2 command -v ip
    need systemd command -v systemd-analyze
    need chromium command -v chromium
fi

name_missing() {
    {
        echo "These packages are missing:$missing"
        echo "Install them with:"
        echo "    sudo apt-get install$missing"
    } >&2
}

if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ]; then
        sudo=
    elif sudo -n true 2>/dev/null; then
        sudo="sudo -n"
    elif [ -t 0 ] && command -v sudo >/dev/null; then
        # It asks for a password there.
        sudo=sudo
    else
        name_missing
        exit 1
    fi
    echo "installing:$missing"
    install="$sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq --no-install-recommends install"
    # The lists of packages may be missing or out of date.
    $install $missing >/dev/null 2>&1 || {
        $sudo apt-get -qq update && $install $missing >/dev/null
    } || {
        name_missing
        exit 1
    }
fi

if ! python_works "$python"; then
    echo "$python has no tkinter on Tcl 8.6, though its packages are installed" >&2
    exit 1
fi
python_works .venv/bin/python || "$python" -m venv --clear .venv
.venv/bin/python - "$purpose" <<'EOF' | .venv/bin/python -m pip install -qq -r /dev/stdin
import sys
import tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)
names = project["build-system"]["requires"] + project["project"]["dependencies"]
for extra in {"test": ["test", "bench", "metrics"], "bench": ["bench"]}.get(sys.argv[1], []):
    names += project["project"]["optional-dependencies"][extra]
print(*names, sep="\n")
EOF

# Tcl 9, which Debian 12 has not; the test suites of Tcl's core, which are in no package; and
# Prometheus, whose package would start a service.
if [ "$purpose" = test ]; then
    rm -f build/tcl9 build/prometheus
    if tcl9=$(.venv/bin/python tools/fetch.py tcl9.0); then
        ln -s "$tcl9" build/tcl9
    else
        echo "no tests with Tcl 9 therefore" >&2
    fi
    for tcl in 8.6 9.0; do
        .venv/bin/python tools/fetch.py tcl$tcl-source >/dev/null ||
            echo "the test suites of Tcl $tcl itself are left out therefore" >&2
    done
    if prometheus=$(.venv/bin/python tools/fetch.py prometheus); then
        ln -s "$prometheus" build/prometheus
    else
        echo "the test of the dashboard is left out therefore" >&2
    fi
fi

# Windows' Python and Tcl, and Wine to run them.
if [ "$purpose" = test ] || [ "$purpose" = windows ]; then
    .venv/bin/python tools/windows/environment.py || [ "$purpose" = test ] || exit 1
fi
