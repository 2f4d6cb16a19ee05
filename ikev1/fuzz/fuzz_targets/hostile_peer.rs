//! A peer with the right key whose payloads follow a script.
#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| ikev1_fuzz::peer::hostile_peer(script));
