# Two commands for a fresh Debian or Ubuntu machine with Rust: `make demo` and `make test`.
# Both install the Debian packages they need (with sudo where needed).

.PHONY: help demo test bench simulation fuzz deps fmt lint unit release scenarios
.NOTPARALLEL:

LAB := scripts/in-namespaces.sh

help:
	@echo 'make demo       a tunnel against strongSwan in a private lab, as a short story'
	@echo 'make test       format, lints, unit and property tests, scenarios in namespaces'
	@echo 'make bench      negotiation time and throughput beside strongSwan'
	@echo 'make simulation a month of negotiations in virtual time, a thousand times; docs/simulation.md'
	@echo 'make fuzz       every fuzz target for FUZZ_SECONDS (60) each'
	@echo 'make deps       the Debian packages that the above need'

demo: deps
	@cargo build --release --quiet -p vipsec
	@$(LAB) cargo run --release --quiet -p netns-tests --bin demo

test: deps fmt lint unit release scenarios

bench: deps
	@cargo build --release --quiet -p vipsec
	@$(LAB) cargo run --release --quiet -p netns-tests --bin figures

simulation:
	@scripts/simulation.sh

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
