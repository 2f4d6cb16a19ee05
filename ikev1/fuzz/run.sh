#!/bin/sh
# Runs a fuzz target with libFuzzer, on stable Rust:
#
#   ikev1/fuzz/run.sh [TARGET [SECONDS]]      default: every target, 60 seconds each
#
# cargo-fuzz works too, but needs a nightly compiler. What it adds are these flags: coverage
# instrumentation for libFuzzer, which stable offers as options of the LLVM pass. The address
# sanitizer is left out: the crate forbids unsafe code.
#
# What libFuzzer finds interesting lands in target/corpus/TARGET and is used by the next run;
# the committed seeds in corpus/TARGET stay as they are. A crash is written to
# target/artifacts/TARGET: shrink it with `TARGET -minimize_crash=1 FILE`, fix the bug, and
# commit the file to corpus/TARGET, where the test `wire_corpus` replays it for ever.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
seconds=${2:-60}
target_dir=${CARGO_TARGET_DIR:-$here/target}
host=$(rustc -vV | sed -n 's/^host: //p')

# With --target, build scripts and procedural macros are built without these flags.
RUSTFLAGS="-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    --cfg fuzzing -Clink-dead-code -Ccodegen-units=1" \
    cargo build --release --manifest-path "$here/Cargo.toml" --target "$host" \
    --target-dir "$target_dir"

for target in ${1:-isakmp_parse decrypted_payloads hostile_network hostile_peer}; do
    found=$target_dir/corpus/$target
    artifacts=$target_dir/artifacts/$target
    mkdir -p "$found" "$artifacts"
    echo "== $target for $seconds s"
    "$target_dir/$host/release/$target" "$found" "$here/corpus/$target" \
        -artifact_prefix="$artifacts/" -max_total_time="$seconds" -max_len=4096 \
        -timeout=5 -rss_limit_mb=1024 -print_final_stats=1
done
