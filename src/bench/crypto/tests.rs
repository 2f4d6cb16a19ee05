//! The figures themselves cannot be tested; that both contenders do the whole work can.

use ipsec_types::{AesKeyBits, EspSuite};

use super::*;

#[test]
fn every_suite_seals_and_opens_what_it_is_given() {
    for suite in EspSuite::ALL {
        for library in libraries(suite, AeadBackends::all(AeadBackend::AwsLc)) {
            for size in [64, 1400] {
                let mut ours = train(suite, library, size, 9).unwrap();
                assert_eq!(ours.run(3).unwrap().packets, 9, "{suite}");
                let mut bare = bare::Bare::new(suite, library, size, 9).unwrap();
                assert_eq!(bare.run(3).unwrap().packets, 9, "{suite}");
            }
        }
    }
}

#[test]
fn both_contenders_have_the_same_bytes_to_encrypt() {
    for suite in EspSuite::ALL {
        for library in libraries(suite, AeadBackends::default()) {
            let ours = train(suite, library, 1400, 2).unwrap();
            let bare = bare::Bare::new(suite, library, 1400, 2).unwrap();
            assert_eq!(ours.body_len(), bare.body_len(), "{suite}");
        }
    }
}

#[test]
fn the_library_in_use_comes_first_and_the_others_follow() {
    let gcm = |bits| EspSuite::AesGcm16(bits);
    // Where Intel's library is installed it stands in the table too.
    let installed = ipsec_mb::library().ok().map(|_| AeadBackend::IpsecMb);
    let fast = AeadBackends::all(AeadBackend::AwsLc);
    let (ring, aws_lc) = (AeadBackend::Ring, AeadBackend::AwsLc);
    let table = |first: AeadBackend, others: &[AeadBackend]| -> Vec<_> {
        let others = others.iter().copied();
        core::iter::once(first)
            .chain(installed)
            .chain(others)
            .map(Some)
            .collect()
    };
    assert_eq!(
        libraries(gcm(AesKeyBits::Aes128), fast),
        table(aws_lc, &[ring])
    );
    assert_eq!(libraries(gcm(AesKeyBits::Aes192), fast), table(aws_lc, &[]));
    let plain = AeadBackends::all(ring);
    assert_eq!(
        libraries(gcm(AesKeyBits::Aes256), plain),
        table(ring, &[aws_lc])
    );
    let cbc = "aes128-sha1".parse().unwrap();
    assert_eq!(libraries(cbc, plain), [None]);
}

#[test]
fn a_turn_is_as_long_as_it_should_be() {
    let run = |_trains: u32| {
        Ok(Spent {
            seal: 60,
            open: 40,
            packets: 1,
        })
    };
    assert_eq!(trains_within(10_000.0, run).unwrap(), 100);
    assert_eq!(trains_within(1.0, run).unwrap(), 9);
}
