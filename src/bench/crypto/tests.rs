//! The figures themselves cannot be tested; that both contenders do the whole work can.

use ipsec_types::EspSuite;

use super::*;
use crate::bench::loopback::Protection;

#[test]
fn every_suite_seals_and_opens_what_it_is_given() {
    for suite in EspSuite::ALL {
        for size in [64, 1400] {
            let mut ours = Train::new(Protection::Suite(suite), size, 9).unwrap();
            assert_eq!(ours.run(3).unwrap().packets, 9, "{suite}");
            let mut bare = bare::Bare::new(suite, size, 9).unwrap();
            assert_eq!(bare.run(3).unwrap().packets, 9, "{suite}");
        }
    }
}

#[test]
fn both_contenders_have_the_same_bytes_to_encrypt() {
    for suite in EspSuite::ALL {
        let ours = Train::new(Protection::Suite(suite), 1400, 2).unwrap();
        let bare = bare::Bare::new(suite, 1400, 2).unwrap();
        assert_eq!(ours.body_len(), bare.body_len(), "{suite}");
    }
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
