//! See `ha_keepalive::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ha_keepalive::fuzz::message(data));
