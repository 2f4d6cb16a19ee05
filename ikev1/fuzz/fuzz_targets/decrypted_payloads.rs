//! Plaintexts as they come out of a decryption, with the right key or with a wrong one.
#![no_main]

libfuzzer_sys::fuzz_target!(|plaintext: &[u8]| ikev1::wire::fuzz::decrypted_payloads(plaintext));
