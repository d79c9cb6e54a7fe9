# What a newcomer types: `make run`, `make test`, `make demo`. `make help` lists the rest.
.DEFAULT_GOAL := help
.PHONY: help run build test check unit e2e e2e-logcli demo bench bench-shapes bench-needle bench-micro bench-streams bench-cluster crash cluster e2e-faults sim fix fuzz venv

# The benchmark's corpus generator, pusher and questions; not part of this repository.
BENCH_DIR ?= ../shared/bench
BENCH_LINES ?= 5000000
BENCH_SEED ?= 7
# Binaries of other databases that `make bench` runs beside, on the same corpus: nothing, or paths.
LOKI_BIN ?=
VICTORIA_LOGS_BIN ?=
NEEDLE_GB ?= 20
CRASH_ROUNDS ?= 100
FUZZ_SECONDS ?= 60
FUZZ_SEEDS := $(abspath $(wildcard libs/segment/test-data/v*) libs/query/tests/cases)
CARGO_FUZZ := target/tools/bin/cargo-fuzz
FAULT_SECONDS ?= 20
# Seeds of the simulation: how many, and the first.
SEEDS ?= 1000
SEED_BASE ?= 0
VENV := e2e/.venv
PYTHON := $(VENV)/bin/python

help: ## Lists the targets.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Builds target/release/pharos.
	cargo build --release --package pharos

run: build ## Builds and starts every role in one process, data under ./data.
	./target/release/pharos serve

# Property tests draw the same cases each time here, so that a change is not refused for what was there before it; `make unit` draws new ones.
test: export PROPTEST_RNG_SEED ?= 2026
test: check unit e2e ## Everything that must hold: format, lints, tests, structure, end to end.

check: ## Format and lints; changes nothing.
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings

unit: ## Unit, property, golden and structure tests.
	cargo test --workspace --quiet

e2e: venv ## Real clients against a real process, and a short crash run.
	cargo build --quiet --package pharos
	PHAROS_BIN=target/debug/pharos $(PYTHON) -m pytest -q -W error::pytest.PytestUnhandledThreadExceptionWarning e2e

e2e-logcli: venv e2e/.cache/logcli ## The end-to-end test with Loki's own client; needs go, which builds that in some minutes.
	cargo build --quiet --package pharos
	PHAROS_BIN=target/debug/pharos $(PYTHON) -m pytest -q e2e/test_logcli.py

e2e/.cache/logcli: e2e/logcli/go.mod e2e/logcli/go.sum
	mkdir -p e2e/.cache
	cd e2e/logcli && go build -ldflags='-s -w' -o ../.cache/logcli github.com/grafana/loki/v3/cmd/logcli

demo: build ## Pushes a small sample and prints three queries with their answers.
	PHAROS_BIN=target/release/pharos python3 examples/demo/demo.py

bench: build venv ## Ingest cost, stored size and query times on the benchmark corpus.
	PHAROS_BIN=target/release/pharos $(PYTHON) bench/run.py --bench-dir $(BENCH_DIR) --lines $(BENCH_LINES) --seed $(BENCH_SEED) \
		--loki-bin "$(LOKI_BIN)" --victoria-logs-bin "$(VICTORIA_LOGS_BIN)"

bench-shapes: build venv ## Stored size and ingest cost for other shapes of logs, beside zstd -3 of the same text.
	PHAROS_BIN=target/release/pharos $(PYTHON) bench/shapes.py

bench-needle: venv ## How much a needle in NEEDLE_GB gigabytes of lines reads from object storage, by counting.
	$(PYTHON) bench/run.py --bench-dir $(BENCH_DIR) --lines $(BENCH_LINES) --seed $(BENCH_SEED) --corpus-only
	cargo run --release --quiet --package querier --example needle -- target/bench/corpus-$(BENCH_LINES)-$(BENCH_SEED) target/bench/needle-$(BENCH_LINES)-$(BENCH_SEED) $(NEEDLE_GB)

bench-micro: ## Times of the single steps: decoding, log append, flush, encoding, scanning.
	cargo bench --package distributor --bench decode
	cargo bench --package ingester --bench ingest
	cargo bench --package segment --bench segment

bench-streams: build venv ## How cost grows from 128 over 10,000 to a million streams.
	PHAROS_BIN=target/release/pharos $(PYTHON) bench/streams.py

bench-cluster: build venv ## What a write costs in clusters of real processes, and what they store while all are restarted.
	PHAROS_BIN=target/release/pharos $(PYTHON) bench/cluster.py --restarts

cluster: build ## Starts a cluster of seven processes on loopback and prints where to send and ask.
	PHAROS_BIN=target/release/pharos python3 examples/cluster/cluster.py

e2e-faults: build venv ## Breaks a cluster in every way for FAULT_SECONDS each, and looks for lost or doubled lines; needs root.
	PHAROS_BIN=target/release/pharos $(PYTHON) e2e/faults.py --seconds $(FAULT_SECONDS)

crash: build venv ## Kills the server at random under load, CRASH_ROUNDS times, and looks for lost or doubled lines.
	PHAROS_BIN=target/release/pharos $(PYTHON) e2e/crash.py --rounds $(CRASH_ROUNDS)

# The sanitizer and the coverage of libFuzzer are flags that the compiler takes only in its nightly builds, or when it is told
# that it is one. What it compiles is otherwise the same; nothing else is built so.
fuzz: $(CARGO_FUZZ) ## Runs every fuzz target for FUZZ_SECONDS.
	cd fuzz && for target in $$($(abspath $(CARGO_FUZZ)) fuzz list); do \
		mkdir -p corpus/$$target && \
		RUSTC_BOOTSTRAP=1 $(abspath $(CARGO_FUZZ)) fuzz run $$target corpus/$$target $(FUZZ_SEEDS) -- -max_total_time=$(FUZZ_SECONDS) || exit 1; done

$(CARGO_FUZZ):
	cargo install cargo-fuzz --version 0.13.2 --locked --quiet --root target/tools

sim: ## Simulates a cluster under faults for SEEDS seeds from SEED_BASE on; a seed that fails is printed and replays exactly.
	cargo run --profile sim --quiet --package sim -- --seeds $(SEEDS) --seed-base $(SEED_BASE)

fix: ## Formats and applies lint suggestions.
	cargo fmt --all
	cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged

venv: $(VENV)/ready

$(VENV)/ready: e2e/requirements.txt
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --requirement e2e/requirements.txt
	touch $@
