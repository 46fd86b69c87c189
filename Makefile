# SPDX-License-Identifier: Apache-2.0
# A thin front on CMake. 'make help' lists what it does.
# All paths are relative, so a folder with spaces in its name is fine.

MAKEFLAGS += --no-print-directory
BUILD     ?= build
JOBS      ?= $(shell nproc 2>/dev/null || echo 1)
CMAKE_ARGS ?=

# Ninja where it is installed; a folder that is configured already keeps its generator.
configure = cmake -S . -B $(1) $$(test -f $(1)/CMakeCache.txt || ! command -v ninja >/dev/null || echo -G Ninja) $(2) $(CMAKE_ARGS)

FASHION := $(BUILD)/examples/fashion_mnist

.DEFAULT_GOAL := help
.PHONY: help deps build run test test-faults bench asan format format-check clean install

help:
	@echo "make run           install what is missing, build, train on Fashion-MNIST, test the best checkpoint"
	@echo "make test          install what is missing, build, run all tests"
	@echo "make test-faults   20 of each fault on two hosts (network namespaces; root), a table of how they ended"
	@echo "make deps          install what is missing from Debian's packages"
	@echo "make build         configure and build into $(BUILD)/ (CMAKE_ARGS=... are passed on)"
	@echo "make bench         build and run the benchmarks"
	@echo "make asan          build into build-asan/ with ASan and UBSan, run the tests but the longest"
	@echo "make format        format the sources; make format-check only looks"
	@echo "make install       install the library (PREFIX=/usr/local, DESTDIR=)"
	@echo "make clean         remove the build folders"

deps:
	@sh .ci/deps build test run

build:
	@$(call configure,$(BUILD))
	@cmake --build $(BUILD) -j $(JOBS)

run: deps
	@$(call configure,$(BUILD))
	@cmake --build $(BUILD) -j $(JOBS) --target example_fashion_mnist
	$(FASHION) fit --trainer.max_epochs 14
	$(FASHION) test --ckpt_path best

test: deps
	@$(MAKE) build
	@ctest --test-dir $(BUILD) --output-on-failure -j $(JOBS)

test-faults: deps
	@$(call configure,$(BUILD))
	@cmake --build $(BUILD) -j $(JOBS) \
		--target strategies_worker strategies_network strategies_lossy_link light_tool_checkpoint light_mpi
	@sh tests/strategies/hosts.sh $(BUILD) 20

bench:
	@sh .ci/deps build test run bench
	@$(call configure,$(BUILD),-DLIGHT_BUILD_BENCH=ON)
	@cmake --build $(BUILD) -j $(JOBS)
	sh bench/run.sh $(BUILD)

asan: deps
	@$(call configure,build-asan,-DLIGHT_SANITIZE=address$(comma)undefined -DLIGHT_CUDA=OFF)
	@cmake --build build-asan -j $(JOBS)
	@ctest --test-dir build-asan --output-on-failure -j $(JOBS) -LE jobs -E '^cpu/(gemm|conv)$$'

comma := ,

format:
	@sh .ci/deps format
	@sh .ci/format fix

format-check:
	@sh .ci/deps format
	@sh .ci/format check

install:
	@$(call configure,$(BUILD),-DCMAKE_INSTALL_PREFIX="$(or $(PREFIX),/usr/local)")
	@cmake --build $(BUILD) -j $(JOBS)
	@cmake --install $(BUILD)

clean:
	rm -rf $(BUILD) build-asan build-clang build-tsan build-cuda
