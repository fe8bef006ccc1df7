# The usual door. `make demo` and `make test` each do all that a fresh Debian 12 needs, as root; a second run is quick.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON := .venv/bin/python
RUFF := .venv/bin/ruff

# A path or an interpreter from outside must not get in between.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

.PHONY: help setup setup-demo compile demo test check gen bench bench-quick bench-policy bench-proxy torture test-kernels clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r t d; do printf '  %-14s %s\n' "$$t" "$$d"; done

setup: ## install all that tests and bench need: Debian packages (Go, PostgreSQL, qemu ...), .venv, a kernel to boot
	@scripts/setup.sh test

setup-demo:
	@scripts/setup.sh demo

compile: ## what the proxy does for each request, by a C compiler: part of setup, and to be run again when that changes
	@$(PYTHON) scripts/compile.py

demo: setup-demo ## four pods, a policy, real programs, flow records: the mesh at work
	@.venv/bin/sockmesh demo

test: export SOCKMESH_REQUIRE_KERNEL = 1
test: setup check ## every check and test, half an hour on two cores; a skip is a failure; PYTEST_ARGS=tests/unit a part
	@$(PYTHON) -m pytest $(PYTEST_ARGS)

check: setup ## generated header, ruff, mypy --strict, import layers
	@echo 'check: bpf/mesh_abi.h is what loader/abi/ says'
	@diff -u bpf/mesh_abi.h <($(PYTHON) -m loader.abi) || { echo 'run make gen' >&2; exit 1; }
	$(RUFF) check .
	$(RUFF) format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

gen: setup ## write bpf/mesh_abi.h from loader/abi/
	@$(PYTHON) -m loader.abi >bpf/mesh_abi.h.new && mv bpf/mesh_abi.h.new bpf/mesh_abi.h

bench: setup ## plain veth, short cut and Unix socket side by side: a table, bench/out/bench.json and a picture
	@$(PYTHON) -m bench $(BENCH_ARGS)

bench-quick: setup ## whether the bench works; too short to measure anything
	@$(PYTHON) -m bench --quick $(BENCH_ARGS)

bench-policy: setup ## what the policy engine costs with 10,000 pods: resolving, one pod that changes, all pairs
	@$(PYTHON) -m bench.scale

bench-proxy: setup ## no mesh, Envoy and our own proxy side by side: a table and bench/out/proxy.json
	@$(PYTHON) -m bench.proxy $(BENCH_ARGS)

torture: setup ## 100,000 connections of every kind, each stream compared by hash
	@SOCKMESH_REQUIRE_KERNEL=1 SOCKMESH_TORTURE=100000 $(PYTHON) -m pytest -m torture --timeout=0 $(PYTEST_ARGS)

test-kernels: setup ## the kernel tests and the self-test on Debian's stock kernel, in software emulation
	@$(PYTHON) -m tests.kernels $(KERNEL_ARGS)

clean: ## what was built and what killed runs left; the virtual environment and everything installed stay
	@if [ -x $(PYTHON) ]; then $(PYTHON) -m tests.hosts.cleanup; $(PYTHON) scripts/compile.py clean; fi
	rm -rf build dist tests/.build/*.so tests/.build/bench bench/out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
