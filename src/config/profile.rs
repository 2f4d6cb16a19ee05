//! What a kind of peer is known to want. A profile gives every value that the file leaves
//! out; whatever the file says wins.

use std::fmt;
use std::time::Duration;

use ikev1::config::{DpdAction, DpdPolicy, StartMode};

use super::resolved::Mss;

/// A kind of peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Profile {
    /// Nothing is known: sound defaults.
    #[default]
    Generic,
    /// A strongSwan or Libreswan of our own.
    StrongSwan,
    /// An Azure VPN gateway of type `RouteBased`: selectors 0.0.0.0/0.
    AzureRouteBased,
    /// An Azure VPN gateway of type `PolicyBased`: one tunnel, narrow selectors.
    AzurePolicyBased,
}

/// The values of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Values {
    pub(super) phase1: &'static [&'static str],
    /// Phase-1 proposals that stand behind `phase1` once `allow_weak` is true.
    pub(super) phase1_weak: &'static [&'static str],
    pub(super) phase1_lifetime: Duration,
    pub(super) phase2: &'static [&'static str],
    pub(super) phase2_lifetime: Duration,
    /// In units of 1024 bytes.
    pub(super) phase2_kilobytes: Option<u64>,
    pub(super) start: StartMode,
    pub(super) dpd: Option<DpdPolicy>,
    /// The peer loses its ESP SAs with the IKE SA that made them.
    pub(super) peer_drops_children: bool,
    pub(super) mtu: u16,
    pub(super) mss: Mss,
}

const HOUR: Duration = Duration::from_hours(1);

/// 30 s + 3 x 5 s: a dead peer is known after 45 s, as Azure's own default has it.
const DPD: DpdPolicy = DpdPolicy {
    delay: Duration::from_secs(30),
    retry: Duration::from_secs(5),
    max_failures: 3,
    action: DpdAction::Restart,
};

const GENERIC: Values = Values {
    phase1: &[
        "aes256-sha256-modp2048",
        "aes256-sha256-ecp256",
        "aes256-sha384-ecp384",
        "aes128-sha256-modp2048",
        "aes256-sha1-modp2048",
        "aes128-sha1-modp2048",
    ],
    phase1_weak: &[],
    phase1_lifetime: Duration::from_hours(8),
    phase2: &[
        "aes256gcm16",
        "aes128gcm16",
        "aes256-sha256",
        "aes128-sha256",
        "aes256-sha1",
        "aes128-sha1",
        "aes256gcm16-modp2048",
        "aes256-sha256-modp2048",
    ],
    phase2_lifetime: HOUR,
    phase2_kilobytes: None,
    start: StartMode::OnStart,
    dpd: Some(DPD),
    peer_drops_children: false,
    mtu: 1400,
    mss: Mss::Auto,
};

/// The peer is as good as its configuration: modern groups first, PFS on.
const STRONGSWAN: Values = Values {
    phase1: &[
        "aes256-sha256-curve25519",
        "aes256-sha256-ecp256",
        "aes256-sha256-modp2048",
        "aes128-sha256-modp2048",
    ],
    phase2: &[
        "aes256gcm16",
        "aes128gcm16",
        "aes256-sha256",
        "aes128-sha256",
        "aes256gcm16-curve25519",
        "aes256gcm16-ecp256",
        "aes256gcm16-modp2048",
        "aes256-sha256-modp2048",
    ],
    ..GENERIC
};

/// The default policy of the gateway takes DH group 2 only, which needs `allow_weak`; a
/// custom policy may ask for the groups 14, 19 and 20. The gateway starts without PFS, and
/// accepts it.
const AZURE_ROUTE_BASED: Values = Values {
    phase1: &[
        "aes256-sha256-modp2048",
        "aes256-sha384-ecp384",
        "aes256-sha256-ecp256",
        "aes128-sha256-modp2048",
    ],
    phase1_weak: &[
        "aes256-sha256-modp1024",
        "aes256-sha1-modp1024",
        "aes128-sha256-modp1024",
        "aes128-sha1-modp1024",
    ],
    phase1_lifetime: Duration::from_hours(8),
    phase2: &[
        "aes256gcm16",
        "aes256-sha1",
        "aes256-sha256",
        "aes128gcm16",
        "aes128-sha1",
        "aes256gcm16-modp2048",
        "aes256-sha256-modp2048",
        "aes256gcm16-ecp256",
        "aes256gcm16-ecp384",
    ],
    phase2_lifetime: Duration::from_secs(27_000),
    phase2_kilobytes: Some(102_400_000),
    peer_drops_children: true,
    mss: Mss::Fixed(1350),
    ..GENERIC
};

/// The gateway does not probe, never asks for PFS, and tears an idle tunnel down after five
/// minutes: so nothing is kept up without traffic.
const AZURE_POLICY_BASED: Values = Values {
    phase2: &["aes256-sha256", "aes256-sha1", "aes128-sha1"],
    phase2_lifetime: HOUR,
    start: StartMode::OnTraffic,
    dpd: None,
    ..AZURE_ROUTE_BASED
};

impl Profile {
    /// Every profile with the name that configuration files use.
    pub(super) const NAMES: [(&'static str, Self); 4] = [
        ("generic", Self::Generic),
        ("strongswan", Self::StrongSwan),
        ("azure-route-based", Self::AzureRouteBased),
        ("azure-policy-based", Self::AzurePolicyBased),
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::StrongSwan => "strongswan",
            Self::AzureRouteBased => "azure-route-based",
            Self::AzurePolicyBased => "azure-policy-based",
        }
    }

    pub(super) const fn values(self) -> &'static Values {
        match self {
            Self::Generic => &GENERIC,
            Self::StrongSwan => &STRONGSWAN,
            Self::AzureRouteBased => &AZURE_ROUTE_BASED,
            Self::AzurePolicyBased => &AZURE_POLICY_BASED,
        }
    }

    pub(super) const fn is_azure(self) -> bool {
        matches!(self, Self::AzureRouteBased | Self::AzurePolicyBased)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use ikev1::{Phase1Suite, Phase2Proposal};

    use super::*;

    #[test]
    fn every_profile_proposes_known_suites_and_keeps_the_weak_ones_apart() {
        for (name, profile) in Profile::NAMES {
            assert_eq!(profile.name(), name);
            let values = profile.values();
            for proposal in values.phase1 {
                assert!(
                    !proposal.parse::<Phase1Suite>().unwrap().is_weak(),
                    "{proposal}"
                );
            }
            for proposal in values.phase1_weak {
                assert!(
                    proposal.parse::<Phase1Suite>().unwrap().is_weak(),
                    "{proposal}"
                );
            }
            for proposal in values.phase2 {
                assert!(
                    !proposal.parse::<Phase2Proposal>().unwrap().is_weak(),
                    "{proposal}"
                );
            }
        }
    }

    #[test]
    fn azure_facts() {
        let route = Profile::AzureRouteBased.values();
        assert_eq!(route.phase1_lifetime, Duration::from_secs(28_800));
        assert_eq!(route.phase2_lifetime, Duration::from_secs(27_000));
        assert_eq!(route.phase2_kilobytes, Some(102_400_000));
        assert_eq!(route.phase2.first(), Some(&"aes256gcm16"));
        let policy = Profile::AzurePolicyBased.values();
        assert_eq!(policy.phase2_lifetime, Duration::from_secs(3_600));
        assert_eq!(policy.dpd, None);
    }
}
