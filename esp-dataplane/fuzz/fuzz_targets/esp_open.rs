//! The ESP opener: raw datagrams, and bodies under a good ICV. See `src/lib.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| esp_dataplane_fuzz::esp_open(data));
