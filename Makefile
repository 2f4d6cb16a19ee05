# Two commands for a fresh Debian or Ubuntu machine with Rust: `make demo` and `make test`.
# Both install the Debian packages they need (with sudo where needed).

.PHONY: help demo test bench bench-ike ha-report simulation fuzz deps fmt lint unit release scenarios
.NOTPARALLEL:

LAB := scripts/in-namespaces.sh

help:
	@echo 'make demo       a tunnel against strongSwan in a private lab, and the pair that keeps it, as a short story'
	@echo 'make test       format, lints, unit and property tests, scenarios in namespaces'
	@echo 'make bench      negotiation time and throughput beside strongSwan'
	@echo 'make bench-ike  handshakes beside strongSwan: one, 250 at once, under a flood'
	@echo 'make simulation a month of negotiations in virtual time, a thousand times; docs/simulation.md'
	@echo 'make ha-report  what happens to a pair, a hundred times over (RUNS=N for fewer), into docs/ha'
	@echo 'make fuzz       every fuzz target for FUZZ_SECONDS (60) each'
	@echo 'make deps       the Debian packages that the above need'

demo: deps
	@cargo build --release --quiet -p vipsec
	@$(LAB) cargo run --release --quiet -p netns-tests --bin demo

test: deps fmt lint unit release scenarios

bench: deps
	@cargo build --release --quiet -p vipsec
	@$(LAB) cargo run --release --quiet -p netns-tests --bin figures

# Apart, because each has the time limit of a scenario.
bench-ike: deps
	@cargo build --release --quiet -p vipsec
	@for what in one many flood; do \
		$(LAB) cargo run --release --quiet -p netns-tests --bin handshakes -- $$what || exit 1; \
		echo; \
	done

simulation:
	@scripts/simulation.sh

# RUNS= cuts every row short; ROWS= picks those whose name contains it.
ha-report: deps
	@cargo build --release --quiet -p vipsec
	@$(LAB) cargo run --release --quiet -p netns-tests --bin ha_report -- $(if $(RUNS),--runs $(RUNS)) $(if $(ROWS),--rows $(ROWS))

fuzz:
	@scripts/install-deps.sh --fuzz
	@scripts/fuzz.sh

deps:
	@scripts/install-deps.sh

fmt:
	cargo fmt --all --check

lint:
	cargo clippy --workspace --all-targets -- -D warnings

unit:
	cargo test --workspace --exclude netns-tests

release:
	cargo build --release -p vipsec

# Two at a time: more of them only fight for the processor and stretch each other's timings.
scenarios:
	$(LAB) cargo test -p netns-tests --no-fail-fast -- --test-threads=2
