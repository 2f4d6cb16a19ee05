//! No tunnel at all: what the machine's own networking gives.

use netns_tests::topology::{A_NET, A_WAN, B_NET, B_WAN};
use netns_tests::{LabError, TwoSites};

use super::Running;

pub(super) fn start(sites: &TwoSites) -> Result<Running, LabError> {
    sites.gw_a.ip(&format!("route add {B_NET} via {B_WAN}"))?;
    sites.gw_b.ip(&format!("route add {A_NET} via {A_WAN}"))?;
    Ok(Running::new(Vec::new()))
}
