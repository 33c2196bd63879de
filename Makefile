# make serve      set everything up and serve a site with a Tcl web server on socket2
#                 PORT=N (0 takes a free one)  ROOT=DIR  TCLHTTPD=DIR  ENGINE=io_uring|epoll
# make test       set everything up and run all tests; ARGS="-k stats" goes to pytest
# make bench      measure socket2 beside socket; ARGS="--workload keepalive" goes to tclchan bench
# make sanitize   run the Tcl tests with Address-, UndefinedBehavior- and ThreadSanitizer
# make windows    build the wheel for Windows, in build/windows/dist
# make windows-test
#                 run all that can be tested of it under Wine; ARGS goes to pytest
# make soak       load for a long time: downloads, resets, aborted requests; what is rare, often
#                 MINUTES=30 (of load; the tests with long counts come first)  ENGINE=NAME
# make clean      remove what was built

PORT ?= 8015
ROOT ?= $(if $(TCLHTTPD),,examples/site)
ARGS ?=
MINUTES ?= 30

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# What the set-up of the tests fetches: the driver is built for it too from then on.
export PKG_CONFIG_PATH := $(CURDIR)/build/tcl9/pkgconfig$(PKG_CONFIG_PATH:%=:%)

# Directories too: their time changes when a file goes away.
sources := $(shell find native tclchan -not -path '*/__pycache__*') \
    LICENSE README.md meson.build meson.options pyproject.toml

for_windows := $(wildcard tools/windows/*)

.PHONY: serve test bench sanitize windows windows-test soak clean
.NOTPARALLEL:

serve: build/package.stamp build/foreground.so
	@$(eval -load build/foreground.so)exec tclchan httpd --port $(PORT) \
	    $(if $(ROOT),--root "$(ROOT)") $(if $(TCLHTTPD),--tclhttpd "$(TCLHTTPD)") \
	    $(if $(ENGINE),--engine $(ENGINE))

test: build/test.stamp build/package.stamp
	@exec pytest $(ARGS)

bench: build/bench.stamp build/package.stamp
	@exec tclchan bench $(ARGS)

sanitize: build/test.stamp build/package.stamp
	@tools/sanitize.sh $(ARGS)

windows: build/windows.stamp
	@tools/windows/wheel.py

windows-test: build/test.stamp build/package.stamp
	@TCLCHAN_REQUIRE_SUITES=1 exec pytest py_tests/test_windows.py py_tests/windows_all.py \
	    $(ARGS)

soak: build/test.stamp build/package.stamp
	@tools/soak.sh --minutes $(MINUTES) $(if $(ENGINE),--engine $(ENGINE))

clean:
	rm -rf build .venv

build/serve.stamp: tools/setup.sh pyproject.toml
	@mkdir -p build
	@tools/setup.sh serve
	@touch $@

build/test.stamp: build/serve.stamp tools/fetch.py $(for_windows)
	@tools/setup.sh test
	@rm -rf build/package build/package.stamp build/sanitize build/tsan
	@touch $@

build/windows.stamp: build/serve.stamp tools/fetch.py $(for_windows)
	@tools/setup.sh windows
	@touch $@

build/bench.stamp: build/serve.stamp
	@tools/setup.sh bench
	@touch $@

build/foreground.so: tools/foreground.c build/serve.stamp
	@$(CC) -shared -fPIC -O2 -Wall -Wextra -o $@ $<

# Without isolation the build directory is kept, and only what has changed is compiled.
build/package.stamp: build/serve.stamp $(sources)
	@pip install -qq --no-build-isolation --no-deps --config-settings=build-dir=build/package .
	@touch $@
