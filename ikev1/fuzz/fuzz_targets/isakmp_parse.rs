//! Datagrams as anyone may send them.
#![no_main]

libfuzzer_sys::fuzz_target!(|datagram: &[u8]| ikev1::wire::fuzz::isakmp_parse(datagram));
