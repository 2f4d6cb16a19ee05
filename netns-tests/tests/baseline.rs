//! What people have today: keepalived moves the address, strongSwan negotiates anew. Our own
//! pair is measured against this, so it has to work as well as it can.

use std::time::Duration;

use netns_tests::need::{KEEPALIVED, PING};
use netns_tests::peer::{Keepalived, StrongSwan, swan};
use netns_tests::probe::{Numbered, Ping};
use netns_tests::topology::{A_NET, A_WAN, B_NET, B_WAN, HOST_A, HOST_B};
use netns_tests::{Lab, Need, PairedSite, scenario};

/// The active node disappears (all its cables at once). The gap is a new election and a whole
/// new negotiation.
#[test]
fn keepalived_and_strongswan_take_over() {
    scenario(&[PING, KEEPALIVED, Need::Tun, Need::StrongSwan], || {
        let pair = PairedSite::new(&Lab::new()?)?;
        let b = swan::Connection::new(B_WAN, A_WAN, B_NET, A_NET);
        let _b = StrongSwan::default().start(&pair.gw_b, &[b])?;
        let mut running = Vec::new();
        for (node, priority) in pair.nodes.iter().zip([200, 100]) {
            let a = swan::Connection::new(A_WAN, B_WAN, A_NET, B_NET);
            let charon = StrongSwan::default().start(&node.host, &[a])?;
            let keepalived = Keepalived {
                priority,
                advert: Duration::from_millis(100),
                device: "lan".to_owned(),
                addresses: vec![
                    (format!("{A_WAN}/24"), "wan".to_owned()),
                    ("10.1.0.1/16".to_owned(), "lan".to_owned()),
                ],
                notify_master: charon.initiate_command("net"),
            };
            running.push((keepalived.start(&node.host)?, charon));
        }
        Ping::to(HOST_B).until_answered(&pair.host_a, Duration::from_secs(15))?;
        let out = Numbered::start(&pair.host_a, &pair.host_b, HOST_B, 1000)?;
        let back = Numbered::start(&pair.host_b, &pair.host_a, HOST_A, 1000)?;
        pair.nodes[0].cut_off()?;
        Ping::to(HOST_B).until_answered(&pair.host_a, Duration::from_secs(15))?;
        for (way, probe) in [("out", out), ("back", back)] {
            let report = probe.finish()?;
            println!("{way}: {:?}, lost {}", report.longest_gap, report.lost());
            assert!(
                report.longest_gap > Duration::from_millis(200),
                "{report:?}"
            );
            assert!(report.longest_gap < Duration::from_secs(10), "{report:?}");
        }
        let (_, second) = &running[1];
        assert_eq!(second.installed()?.len(), 1);
        Ok(())
    });
}
