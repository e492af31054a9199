# Each target does its own set-up. Cargo works by itself too, wherever what it needs is present.
SHELL := bash
.SHELLFLAGS := -o pipefail -c
CARGO ?= cargo
PYTHON ?= target/peer/bin/python
# The tables that are generated.
MEASURED = $(CURDIR)/kernels/measured
# --release, where a target sets it.
PROFILE =

.PHONY: help data train train-cuda test test-release test-fetch torture fuzz errors size sass counters choices bench compare scaling tables recipes \
	parity pictures event-files export-check ptx ptx-check peer-tests nccl-check lint

help:
	@echo "make train       get Fashion-MNIST and train a NiN on it (preset small on a CPU, d2l on a GPU)"
	@echo "make train-cuda  train for a few steps on the CUDA kernels: on the GPU, or without one on the virtual GPU"
	@echo "make test        get Fashion-MNIST and nvcc, and run every test"
	@echo "make test-release the same tests of a release build, with the machine code beside the PTX"
	@echo "make test-fetch  fetch the data set from Debian's archive, with and without the system's package lists"
	@echo "make torture     the long form of every promise's test, within an hour, and write the README's table of them"
	@echo "make errors      measure how far off every kernel is, and write kernels/measured/ERRORS.md"
	@echo "make size        fail where the program train, stripped, has more than 10 MB with all kernels in it"
	@echo "make sass        read every kernel's machine code, and write RESOURCES.md, SASS.md and sass.csv in kernels/measured"
	@echo "make counters    count the traffic of convolutions and of a step, and write COUNTERS.md and STEP.md in kernels/measured"
	@echo "make choices     write kernels/measured/CHOICES.md: the tiles and splits that the rules choose"
	@echo "make bench       time each convolution, 1x1 against kxk, and whole steps: on a GPU if there is one"
	@echo "make compare     time a training step of d2l's NiN beside PyTorch, and write the README's table"
	@echo "make scaling     time two ranks on this machine beside the simulation of them, and write docs/scaling.md's table"
	@echo "make tables      write the README's and docs/scaling.md's tables anew from benches/results, measuring nothing"
	@echo "make recipes     train the recipes of benches/recipes.py, hours that may be interrupted, and write their table"
	@echo "make pictures    train, do every exercise, and make the README's pictures of them"
	@echo "make parity      train d2l's NiN for a moment and load its weights into PyTorch, and import weights of PyTorch's"
	@echo "make event-files train for a moment and read its event files with TensorBoard, from PyPI"
	@echo "make export-check run exported networks in onnxruntime and PyTorch, from PyPI, compare the logits, and read the files with netron"
	@echo "make ptx-check   check that the virtual GPU's test kernels are what nvcc (from PyPI) makes of their sources"
	@echo "make peer-tests  run cudarc's own tests on the virtual GPU, with NVRTC from PyPI"
	@echo "make nccl-check  look up NCCL's functions in the library from PyPI (300 MB), and have it tell that there is no GPU"
	@echo "make lint        rustfmt, clippy and rustdoc, warnings being errors"
	@echo "make fuzz        fuzz each format that is read for FUZZ_SECONDS (60), from the committed corpora"
	@echo "make data        get Fashion-MNIST"

data:
	$(CARGO) run --quiet $(PROFILE) --bin mlpconv -- data

# A machine with a driver gets the compiler for its GPU; others train and measure on the CPU.
train bench compare: $(if $(wildcard /dev/nvidiactl),target/nvcc/installed)

train:
	$(CARGO) run --release --bin train

# The virtual GPU stands in for the driver of whoever loads it first.
train-cuda: target/nvcc/installed
	MLPCONV_REQUIRE_CUDA=1 $(CARGO) build --release --workspace
	release=$$(realpath $${CARGO_TARGET_DIR:-target})/release; \
	$(if $(wildcard /dev/nvidiactl),,LD_PRELOAD=$$release/libvirtual_gpu.so) $$release/train --device cuda \
		--preset small --epochs 1 --batch-size 16 --train-limit 64 --test-limit 32 --log-every 1

# `make test-release` has the sums of cards' tensor cores, as the virtual GPU has them unless it is told otherwise.
test: export VIRTUAL_GPU_SUMS = ordered
# One test more than processors: many wait for processes that they have started.
test test-release: export RUST_TEST_THREADS = $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
test: target/nvcc/installed ptx-check
	$(WITH_DATA)
	$(CARGO) test --workspace
	$(CARGO) test $(UNCHECKED) --test cuda -- device:: forks:: together:: the_books_network_in_bf16

# The data set, by the program that is built with the tests: alone, as by `data`, it has other features, and is built once more. That is the
# way where cargo is told to put programs elsewhere.
WITH_DATA = $(CARGO) test $(PROFILE) --workspace --no-run && \
	program=$${CARGO_TARGET_DIR:-target}/$(if $(PROFILE),release,debug)/mlpconv && \
	if [ -x $$program ]; then $$program data; else $(CARGO) run --quiet $(PROFILE) --bin mlpconv -- data; fi

# As in a release build, where a device lends memory otherwise.
UNCHECKED = $(patsubst %,--config profile.dev.package.mlpconv.%=false,debug-assertions overflow-checks)

# All tests of a release build. Its programs are not optimised as a whole, which would take hours for twenty of them.
test-release: export CARGO_PROFILE_RELEASE_LTO = off
test-release: export CARGO_PROFILE_RELEASE_CODEGEN_UNITS = 16
test-release: PROFILE = --release
test-release: target/nvcc/installed
	$(WITH_DATA)
	$(CARGO) test $(PROFILE) --workspace

test-fetch:
	$(CARGO) test --lib fetch::debian -- --ignored

# Each test leaves its figure in a file, of which the table is made.
FIGURES = $(CURDIR)/target/torture
torture: target/nvcc/installed data
	rm -rf $(FIGURES)
	began=$$(date +%s); export MLPCONV_REQUIRE_CUDA=1 MLPCONV_TORTURE=$(FIGURES); \
		$(MAKE) fuzz && $(CARGO) test --test promises -- --test-threads=3 && $(CARGO) test --test ops random:: && \
		python3 tests/promises/table.py $(FIGURES) $$(($$(date +%s) - began))

errors: target/nvcc/installed
	MLPCONV_REQUIRE_CUDA=1 MLPCONV_ERRORS=$(MEASURED)/ERRORS.md $(CARGO) test --test ops a_table_of_the_errors

# As it is shipped: with the machine code beside the PTX, optimised as a whole. Minutes.
MOST_BYTES = 10000000
size: target/nvcc/installed
	MLPCONV_REQUIRE_CUDA=1 $(CARGO) build --release --bin train
	strip -o target/train.stripped $$(realpath $${CARGO_TARGET_DIR:-target})/release/train
	bytes=$$(stat -c %s target/train.stripped); rm target/train.stripped; \
		echo "train has $$bytes bytes of at most $(MOST_BYTES)"; test $$bytes -le $(MOST_BYTES)

# It fails where a kernel spills.
sass: target/nvcc/installed
	MLPCONV_REQUIRE_CUDA=1 MLPCONV_SASS=$(MEASURED) $(CARGO) test --test machine

counters: target/nvcc/installed
	MLPCONV_REQUIRE_CUDA=1 MLPCONV_COUNTERS=$(MEASURED)/COUNTERS.md MLPCONV_STEP=$(MEASURED)/STEP.md \
		$(CARGO) test --test counters

choices:
	MLPCONV_CHOICES=$(MEASURED)/CHOICES.md $(CARGO) test --lib the_committed_choices

bench:
	$(CARGO) bench

recipes: data
	$(CARGO) build --release --bin mlpconv
	python3 benches/recipes.py run
	python3 benches/recipes.py table

compare: peer
	$(CARGO) build --release --bin mlpconv
	! command -v nvidia-smi >/dev/null || $(CARGO) bench --no-run --bench convolution
	$(PYTHON) benches/compare.py --record

# On a quiet machine of at least two cores: a quarter of an hour. It fails where the simulation is off by more than 15 %.
scaling: data
	$(CARGO) build --release --bin mlpconv
	python3 benches/scaling.py --simulated
	python3 benches/scaling.py --record

tables:
	python3 benches/compare.py --tables
	python3 benches/scaling.py --tables

# In the middle of a real run, of its report, and of every exercise: half an hour, unless target/pictures has the exercises already.
pictures: target/pictures/venv/installed
	$(CARGO) build --release --bin mlpconv
	target/pictures/venv/bin/python pictures/make.py $$(realpath $${CARGO_TARGET_DIR:-target})/release/mlpconv

target/pictures/venv/installed:
	python3 -m venv target/pictures/venv
	target/pictures/venv/bin/pip install --quiet pyte pillow
	touch $@

parity: peer
	$(CARGO) run --release --bin train -- --device cpu --preset d2l --train-limit 64 --test-limit 32 --epochs 1 \
		--batch-size 16 --lr 0.01 --out $$(mktemp -d)/run | tee target/parity.log
	$(PYTHON) tests/pytorch/check_weights.py $$(awk '$$1 == "weights" {print $$2}' target/parity.log)
	$(PYTHON) tests/pytorch/check_import.py

event-files: target/tensorboard/installed
	$(CARGO) build --release --bin mlpconv
	target/tensorboard/bin/python tests/tensorboard/check_events.py $$(realpath $${CARGO_TARGET_DIR:-target})/release/mlpconv

export-check: target/export/installed
	$(CARGO) build --release --bin mlpconv --example export --example logits
	target/export/bin/python tests/export/check.py $$(realpath $${CARGO_TARGET_DIR:-target})/release

target/export/installed: tests/export/requirements.txt
	python3 -m venv target/export
	target/export/bin/pip install --quiet --requirement $<
	touch $@

target/tensorboard/installed: tests/tensorboard/requirements.txt
	python3 -m venv target/tensorboard
	target/tensorboard/bin/pip install --quiet --requirement $<
	touch $@

# Nothing is skipped for want of the kernels where the compiler is installed first.
lint test test-release: export MLPCONV_REQUIRE_CUDA = 1

lint: target/nvcc/installed
	$(CARGO) fmt --all --check
	python3 benches/compare.py --tables --check
	python3 benches/scaling.py --tables --check
	python3 tests/promises/table.py --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy --no-default-features --lib --tests --examples -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items

# libFuzzer, which the crate libfuzzer-sys compiles, guided by the compiler's coverage counters; both work on stable Rust. New
# inputs go to target/fuzz/FORMAT, failing ones to target/fuzz/found: MLPCONV_FORMAT=FORMAT target/fuzz/.../mlpconv-fuzz FILE.
FUZZ_SECONDS ?= 60
FUZZ_FORMATS ?= $(notdir $(wildcard fuzz/corpus/*))
FUZZ_TARGET = $(shell rustc -vV | sed -n 's/^host: //p')
FUZZ_FLAGS = --cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares
fuzz:
	RUSTFLAGS="$(FUZZ_FLAGS)" $(CARGO) build --release --manifest-path fuzz/Cargo.toml --target $(FUZZ_TARGET) \
		--target-dir target/fuzz
	mkdir -p target/fuzz/found
	$(MAKE) --jobs=$$(nproc) --output-sync $(FUZZ_FORMATS:%=fuzz-%)
	mkdir -p $(FIGURES)
	awk '/^stat::number_of_executed_units/ {inputs += $$2; formats++} \
		END {printf "%d inputs of %d formats, guided by coverage for $(FUZZ_SECONDS) s each: 0 failures\n", inputs, formats}' \
		$(FUZZ_FORMATS:%=target/fuzz/%.log) | tee $(FIGURES)/04.fuzz

fuzz-%:
	mkdir -p target/fuzz/$*
	@echo "fuzzing $*"
	MLPCONV_FORMAT=$* RAYON_NUM_THREADS=1 target/fuzz/$(FUZZ_TARGET)/release/mlpconv-fuzz \
		-max_total_time=$(FUZZ_SECONDS) -timeout=20 -rss_limit_mb=1024 -max_len=65536 -verbosity=0 -print_final_stats=1 \
		-artifact_prefix=target/fuzz/found/$*- target/fuzz/$* fuzz/corpus/$* 2>&1 | tee target/fuzz/$*.log

# What nvcc makes of the virtual GPU's test kernels, without the directories in the names of their sources.
ptx: target/nvcc/installed
	mkdir -p target/ptx/hopper
	cd virtual-gpu/tests/kernels && for kernel in *.cu hopper/*.cu; do \
		ptx=$(CURDIR)/target/ptx/$${kernel%.cu}.ptx; \
		case $$kernel in hopper/*) arch=compute_90a;; *) arch=compute_80;; esac; \
		$(abspath $(PYPI_NVCC)) -ptx -arch=$$arch -lineinfo -O3 $$kernel -o $$ptx && \
		sed -i -E 's|(\.file\t[0-9]+ ")[^"]*/|\1|' $$ptx || exit 1; \
	done

# The committed PTX is that, but for the debugger's strings (.b8), which hold a hash of the sources' path.
ptx-check: ptx
	cd virtual-gpu/tests/kernels && for ptx in *.ptx hopper/*.ptx; do \
		diff <(grep -v '^\.b8' $$ptx) <(grep -v '^\.b8' $(CURDIR)/target/ptx/$$ptx) || \
		{ echo "$$ptx is not what nvcc makes of its source: make ptx, then copy it from target/ptx" >&2; exit 1; }; \
	done
	for ptx in target/ptx/hopper/*.ptx; do \
		log=$$($(dir $(PYPI_NVCC))ptxas -arch=sm_90a $$ptx -o /dev/null 2>&1) || { echo "$$log" >&2; exit 1; }; \
		if grep -E '$(REPAIRED)' <<< "$$log" >&2; then echo "$$ptx: ptxas changes it, see above" >&2; exit 1; fi; \
	done

# ptxas's notes that a card would not execute the PTX as it stands: setmaxnreg ignored (C7508), wgmma serialised (C7510, C7514,
# C7515), a wait or a fence of wgmma added (C7517, C7519).
REPAIRED = C75(08|10|14|15|17|19)

# The tests that cannot pass are listed with their reasons in virtual-gpu/tests/peers/cudarc.txt.
peer-tests: target/peers/installed
	$(CARGO) build -p virtual-gpu
	CARGO="$(CARGO)" python3 virtual-gpu/tests/peers/cudarc.py

target/peers/installed: virtual-gpu/tests/peers/requirements.txt
	python3 -m venv target/peers/venv
	target/peers/venv/bin/pip install --quiet --requirement $<
	touch $@

# NVIDIA's library itself, of which tests have a stand-in.
nccl-check: target/nccl/installed target/nvcc/installed
	library=$$(ls $(CURDIR)/target/nccl/lib/python3*/site-packages/nvidia/nccl/lib/libnccl.so.2) && \
		MLPCONV_NCCL=$$library MLPCONV_REQUIRE_CUDA=1 $(CARGO) test --test ranks -- --ignored --exact gpus::nccls_own_library_is_understood

target/nccl/installed: virtual-nccl/requirements.txt
	python3 -m venv target/nccl
	target/nccl/bin/pip install --quiet --no-deps --requirement $<
	touch $@

# The compiler runs without a GPU and without a CUDA toolkit.
PYPI_NVCC = $(wildcard target/nvcc/lib/python3*/site-packages/nvidia/cu13/bin/nvcc)
target/nvcc/installed: kernels/requirements.txt
	python3 -m venv target/nvcc
	target/nvcc/bin/pip install --quiet --requirement $<
	touch $@ build.rs

# PyTorch is only ever the peer that this project is compared with. From PyPI it brings gigabytes of CUDA along; where it is
# installed already, say PYTHON=python3.
.PHONY: peer
ifeq ($(PYTHON),target/peer/bin/python)
peer: target/peer/installed
else
peer:
endif

target/peer/installed: tests/pytorch/requirements.txt
	python3 -m venv target/peer
	target/peer/bin/pip install --quiet --requirement $<
	touch $@
