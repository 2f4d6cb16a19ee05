//! Two honest gateways, and a network that follows a script.
#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| ikev1_fuzz::network::hostile_network(script));
