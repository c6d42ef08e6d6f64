# `make demo` and `make test` need make and a Python 3.10 or newer; all else is set up in .venv folders in this tree.
#   PYTHON=python3.x   the interpreter of .venv
#   ARGS="-k cancel"   more arguments for pytest, the demo or the benchmark

# For `test-all`; and those of them that have wheels of the oldest grpcio we support, for `test-oldest`.
VERSIONS := 3.10 3.11 3.12 3.13
OLDEST_VERSIONS := 3.10 3.11 3.12

# The first of $(1) that really runs (a pyenv shim may not), is new enough and can make a venv.
first-that-runs = $(shell for python in $(1); do \
	"$$python" -c "import ensurepip, sys; sys.exit(sys.version_info < (3, 10))" 2>/dev/null && echo "$$python" && break; done)
# Python $(1), say 3.10: on PATH, else one of pyenv's, else one that uv knows.
find-python = $(call first-that-runs, \
	python$(1) $$(pyenv root 2>/dev/null)/versions/$(1).*/bin/python$(1) $$(uv python find $(1) 2>/dev/null))
first-found = $(firstword $(foreach version,$(1),$(call find-python,$(version))))

ifdef PYTHON
override PYTHON := $(or $(call first-that-runs,$(PYTHON)),$(call find-python,$(PYTHON:python%=%)))
else
PYTHON := $(or $(call first-that-runs,python3 python),$(call first-found,$(VERSIONS)))
endif

# Makes a new venv of Python $(1) in $(2) and installs $(3) there. uv takes seconds, pip about a minute.
define make-venv
	@test -n "$(1)" || { echo "No Python here runs, is 3.10 or newer and can make a venv; name one: make PYTHON=…"; exit 1; }
	@echo "Setting up $(2) with $(1) …"
	@rm -rf $(2)
	@if command -v uv >/dev/null; \
	then uv venv --quiet --seed --python $(1) $(2) && uv pip install --quiet --python $(2)/bin/python $(3); \
	else $(1) -m venv $(2) && $(2)/bin/python -m pip install --quiet --disable-pip-version-check $(3); fi
	@touch $@
endef

# What an installed package is made of; its Python modules are used from this tree as they are.
SOURCES := pyproject.toml setup.py $(shell find protos -name '*.proto') $(wildcard otelstream/_heap/*.[ch])
# Named after its interpreter, so that another PYTHON makes a new .venv.
VENV := .venv/made-with-$(subst /,_,$(PYTHON))

# An engine that the tests start by themselves and what goes into their images, then what Zipkin needs.
STACK_PACKAGES = docker.io iptables iproute2 busybox-static \
	$$(command -v java >/dev/null || echo openjdk-17-jre-headless) $$(command -v mvn >/dev/null || echo maven)

# libc6-dbg: what valgrind has to know of the C library.
COMPILER_PACKAGES := gcc libc6-dev libc6-dbg python3-dev valgrind

# Editable builds share this tree: one at a time.
.NOTPARALLEL:
.PHONY: help demo test test-all test-oldest test-zoo test-stack test-e2e lint bench dashboard screenshots compiler etcd browser stack-binaries clean $(VERSIONS:%=test-%)

help: ## Show this
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 24

demo: $(VENV) ## Run the demo for 30 s: a viewer, a service that leaks, and its client
	.venv/bin/otelstream demo --leak history --duration 30 $(ARGS)

test: $(VENV) ## Run the tests
	.venv/bin/python -m pytest $(ARGS)

test-all: $(VERSIONS:%=test-%) ## Run the tests on every Python found, 3.10 to 3.13

$(VERSIONS:%=test-%): test-%:
	@if [ -n "$(call find-python,$*)" ]; \
	then $(MAKE) --no-print-directory .venv-$*/made && .venv-$*/bin/python -m pytest $(ARGS); \
	elif [ "$$OTELSTREAM_REQUIRE_ALL" = 1 ]; then echo "Python $* not found: install it, or put it on PATH"; exit 1; \
	else echo "Python $* not found: its tests were skipped"; fi

test-oldest: .venv-oldest/made ## Run the tests with the oldest dependencies allowed
	@# Once more: if a newer Python was set up since, the demo's messages in this tree are made for newer dependencies.
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	.venv-oldest/bin/python -m pytest $(ARGS)

test-zoo: $(VENV) ## Run the leak zoo: services that leak or do not, and what is found (minutes)
	.venv/bin/python -m pytest tests/zoo $(ARGS)

test-stack: $(VENV) ## Run the tests of the stack, on the real Jaeger, Prometheus, Docker and Zipkin (stack-binaries)
	.venv/bin/python -m pytest tests/stack $(ARGS)

test-e2e: $(VENV) ## Run the tests of the page, in a real Chromium (browser)
	.venv/bin/python -m pytest tests/e2e $(ARGS)

lint: $(VENV) ## Check style, format and types
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

bench: $(VENV) ## Compare the cost of a message: bare, with otelstream, with opentelemetry-instrumentation-grpc
	.venv/bin/python -m benchmarks.messages $(ARGS)

dashboard: $(VENV) ## Make Grafana's dashboard anew
	.venv/bin/python -m compose.grafana.generate

screenshots: $(VENV) ## Take the pictures of the page anew (browser)
	.venv/bin/python -m docs.screenshots

# The servers are built or fetched, and kept outside this tree; what else they need comes from Debian or Ubuntu.
stack-binaries: ## Build or fetch what test-stack runs (needs Go 1.26; the rest is installed on Debian and Ubuntu)
	@if command -v dockerd >/dev/null && command -v iptables >/dev/null && command -v ip >/dev/null \
	  && [ -x /bin/busybox ] && command -v java >/dev/null && command -v mvn >/dev/null; then exit 0; \
	elif ! command -v apt-get >/dev/null; then \
	echo "No apt-get here: install Java 17 and Maven yourself, and start Docker for the tests that need it."; \
	elif [ "$$(id -u)" = 0 ]; then DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $(STACK_PACKAGES); \
	else sudo apt-get install --no-install-recommends $(STACK_PACKAGES); fi
	tests/stack/binaries/install

compiler: ## Install what the heap profiler is built and tested with: a C compiler, Python's headers, valgrind (Debian, Ubuntu)
	@if command -v cc && command -v valgrind \
	  && [ -f "$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ]; then exit 0; \
	elif ! command -v apt-get >/dev/null; then \
	echo "This installs gcc, python3-dev and valgrind on Debian and Ubuntu only. Elsewhere, install them with the system's"; \
	echo "package manager, and then set up anew: make clean."; exit 1; \
	elif [ "$$(id -u)" = 0 ]; then DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $(COMPILER_PACKAGES); \
	else sudo apt-get install --no-install-recommends $(COMPILER_PACKAGES); fi

etcd: ## Install the etcd server that some tests talk to (Debian, Ubuntu)
	@if command -v etcd; then exit 0; \
	elif ! command -v apt-get >/dev/null; then \
	echo "This installs etcd on Debian and Ubuntu only. Elsewhere, install etcd 3.4 or newer yourself, with the system's"; \
	echo "package manager or from the etcd project's releases, and have the program \`etcd\` on PATH."; exit 1; \
	elif [ "$$(id -u)" = 0 ]; then DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends etcd-server; \
	else sudo apt-get install --no-install-recommends etcd-server; fi

browser: ## Install the Chromium that the tests of the page drive (Debian, Ubuntu)
	@if command -v chromium || command -v chromium-browser || command -v google-chrome; then exit 0; \
	elif ! command -v apt-get >/dev/null; then \
	echo "This installs Chromium on Debian and Ubuntu only. Elsewhere, install Chromium or Chrome yourself, and have it on PATH."; exit 1; \
	elif [ "$$(id -u)" = 0 ]; then DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends chromium fonts-dejavu-core; \
	else sudo apt-get install --no-install-recommends chromium fonts-dejavu-core; fi

clean: ## Remove everything that was set up or built
	rm -rf .venv .venv-* build dist *.egg-info otelstream/demo/v1 otelstream/_heap/*.so .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV): $(SOURCES)
	$(call make-venv,$(PYTHON),.venv,--editable '.[dev]')

.venv-oldest/made: $(SOURCES) tests/constraints-oldest.txt
	$(call make-venv,$(call first-found,$(OLDEST_VERSIONS)),.venv-oldest,--editable '.[test]' --constraint tests/constraints-oldest.txt)

.venv-%/made: $(SOURCES)
	$(call make-venv,$(call find-python,$*),.venv-$*,--editable '.[test]')
