#!/usr/bin/env bash
# Runs every fuzz target for FUZZ_SECONDS (default 60) with libFuzzer's coverage feedback on
# the stable compiler, from the committed corpus. New inputs go to the build folder, crashes
# to artifacts/; neither is committed by itself.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${FUZZ_SECONDS:-60}
# The flags that cargo-fuzz passes, without its sanitizer, which stable does not have.
export RUSTFLAGS="-Cpasses=sancov-module -Ccodegen-units=1 -Cdebug-assertions --cfg fuzzing \
  -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
  -Cllvm-args=-sanitizer-coverage-pc-table \
  -Cllvm-args=-sanitizer-coverage-trace-compares"
# With a target named, build scripts and proc macros are spared the instrumentation.
triple=$(rustc -vV | sed -n 's/^host: //p')

for manifest in */fuzz/Cargo.toml; do
  [ -e "$manifest" ] || continue
  room=$(dirname "$manifest")
  (
    cd "$room"
    build=${CARGO_TARGET_DIR:-$PWD/target}
    cargo build --release --target "$triple"
    for source in fuzz_targets/*.rs; do
      target=$(basename "$source" .rs)
      mkdir -p "corpus/$target" "artifacts/$target" "$build/corpus/$target"
      printf '== %s/%s for %s s\n' "$room" "$target" "$seconds"
      "$build/$triple/release/$target" \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="artifacts/$target/" "$build/corpus/$target" "corpus/$target"
    done
  )
done
