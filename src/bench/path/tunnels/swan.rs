//! strongSwan with the `kernel-libipsec` plugin: ESP in user space, always in UDP 4500.

use netns_tests::peer::{StrongSwan, swan};
use netns_tests::topology::{A_NET, A_WAN, B_NET, B_WAN};
use netns_tests::{LabError, TwoSites};

use super::Running;

pub(super) fn start(sites: &TwoSites) -> Result<Running, LabError> {
    let quiet = StrongSwan {
        log_level: 0,
        ..StrongSwan::default()
    };
    let a = swan::Connection::new(A_WAN, B_WAN, A_NET, B_NET).esp_proposals("aes128gcm16");
    let b = swan::Connection::new(B_WAN, A_WAN, B_NET, A_NET).esp_proposals("aes128gcm16");
    let mut b = quiet.start(&sites.gw_b, &[b])?;
    let mut a = quiet.start(&sites.gw_a, &[a])?;
    a.initiate("net")?;
    let pids = vec![a.process().pid(), b.process().pid()];
    Ok(Running::new(pids).holding(a).holding(b))
}
