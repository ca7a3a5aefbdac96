# Each target is a line or two; the work is in the program and in containers/setup.sh.
ATLAS = target/release/atlas

.PHONY: setup build demo explore test test-all soak fuzz bench bench-all check clean

setup:
	@containers/setup.sh

build: setup
	cargo build --release --locked

demo: build
	@$(ATLAS) synth --out work/demo/data --samples 2000 --test 1000 --external 40 --size 160 \
		--seed 1 --min-per-class 30
	@$(ATLAS) run --config configs/demo.toml
	@$(ATLAS) evaluate --truth work/demo/data/truth.csv \
		--predictions work/demo/results/latest/submission_optimal_threshold.csv

# Steps of the demo that are done are not repeated.
explore: demo
	@$(ATLAS) explore --config configs/demo.toml

test: setup
	cargo test --release --locked
	tests/with_slurm.sh 4 tests/ignored.sh scripts_run_from
	cargo run --quiet --release --locked --example read_shard
	cargo run --quiet --release --locked --example fit_thresholds

# Tests that take long or need Python: other frameworks, repeated kills, whole runs.
test-all: test
	tests/all.sh

MINUTES ?= 30

# Random kills, stops, full disks (as root), deleted and damaged files, and two programs at once,
# over the whole pipeline on a tiny data set.
soak: setup
	cargo test --release --locked --test soak -- $(MINUTES) $(SEED)

# Damaged and hostile files for every reader, on all cores; fails where something is found.
fuzz: setup
	cargo test --quiet --release --locked --test fuzz -- run --minutes $(MINUTES)

PROCESSOR = $(shell awk '/model name/ { print tolower($$NF); exit }' /proc/cpuinfo)
RESULTS ?= benches/results/$(shell date +%F)-$(shell nproc)-cores-$(PROCESSOR)

# atlas against the Python stack, and how cost grows with the data; 25 minutes once the
# Python stack is installed. Run it on an idle machine.
bench: build
	benches/build_speed.sh
	python=$$(benches/python.sh) && "$$python" benches/speed.py $(RESULTS) && \
		"$$python" benches/growth.py $(RESULTS)
	cat $(RESULTS)/speed.md

# What else docs/performance.md quotes, except benches/preprocess.sh, which needs real images, and
# benches/demo_scores.sh, which needs the demo; about 35 minutes.
bench-all: bench
	benches/recipes.sh work/recipes.csv
	benches/scaling.sh work/scaling.csv
	cargo bench --locked --bench overlap
	benches/plan.sh work/plan.csv

check: setup
	cargo fmt --check
	@! LC_ALL=C.UTF-8 git grep -nE '^.{101,}' -- '*.rs' # comments, which cargo fmt leaves as they are
	cargo clippy --release --locked --all-targets -- -D warnings
	cargo clippy --release --locked --test fuzz --test soak -- -D warnings
	cargo clippy --release --locked --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --no-deps
	@! command -v shellcheck >/dev/null || \
		shellcheck -x containers/*.sh slurm/*.sh tests/*.sh benches/*.sh .ci/run
	@containers/deny.sh

clean:
	cargo clean
	rm -rf work/demo
