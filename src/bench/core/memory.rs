//! What a thousand SA pairs take.

use std::fs;

use esp_dataplane::{AeadBackends, Sad, SadConfig};
use ipsec_types::{AesKeyBits, CbcCipher, ConnectionId, EspIntegrity, EspSuite, Spi};

use crate::bench::BenchError;
use crate::bench::loopback::{self, Protection};

/// Resident memory in KiB that a table of a thousand pairs adds, half of them GCM and half CBC.
///
/// # Errors
/// When a pair cannot be installed or the kernel does not tell.
pub(super) fn thousand_sas_kib() -> Result<u64, BenchError> {
    let suites = [
        EspSuite::AesGcm16(AesKeyBits::Aes256),
        EspSuite::CbcHmac(
            CbcCipher::Aes(AesKeyBits::Aes256),
            EspIntegrity::HmacSha256_128,
        ),
    ];
    // Libraries differ in the size of an expanded key: the one that is in use here counts.
    let (sad, _events) = Sad::new(SadConfig {
        backends: AeadBackends::measure(),
        ..SadConfig::default()
    });
    let before = resident_kib()?;
    for (number, suite) in (0..1000_u32).zip(suites.into_iter().cycle()) {
        let Ok(spi) = Spi::new(0x1000 + number) else {
            continue;
        };
        loopback::install(&sad, Protection::Suite(suite), spi, ConnectionId(number))?;
    }
    Ok(resident_kib()?.saturating_sub(before))
}

fn resident_kib() -> Result<u64, BenchError> {
    let path = "/proc/self/status";
    let text = fs::read_to_string(path).map_err(|error| BenchError::Io(path.to_owned(), error))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Ok(line
        .and_then(|value| value.split_whitespace().next()?.parse().ok())
        .unwrap_or(0))
}
