//! The contenders: everything that can carry packets from one gateway to the other.

mod kernel;
mod openvpn;
mod ours;
mod swan;
mod wireguard;

use core::fmt;

use netns_tests::need::find_program;
use netns_tests::{LabError, Need, TwoSites};
use serde::{Deserialize, Serialize};

pub(super) use ours::DEVICE;
pub(in crate::bench) use ours::{ask, start_daemon_with};

/// A way between the gateways.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Contender {
    /// The kernel's own routing, without any tunnel
    Kernel,
    /// Our data plane without a cipher: the ceiling
    Null,
    /// The same over protocol 50
    NullEsp,
    /// Our data plane with AES-128-GCM and fixed keys, without the daemon
    Static,
    /// The same over protocol 50
    StaticEsp,
    /// The same over protocol 50 and plain raw sockets
    StaticEspRaw,
    /// AES-128-GCM in UDP, looking for packets instead of sleeping
    StaticSpin,
    /// vipsec as it is: `vipsec run`, IKEv1, ESP in UDP 4500, AES-128-GCM
    Vipsec,
    /// The same over protocol 50
    VipsecEsp,
    /// strongSwan with its userspace ESP, AES-128-GCM
    Strongswan,
    /// wireguard-go
    WireguardGo,
    /// boringtun
    Boringtun,
    /// gotatun
    Gotatun,
    /// OpenVPN without its kernel module, AES-128-GCM
    Openvpn,
}

impl Contender {
    /// Those that run without being asked for by name, as far as they are installed.
    pub(super) const DEFAULT: [Self; 12] = [
        Self::Kernel,
        Self::Null,
        Self::NullEsp,
        Self::Vipsec,
        Self::VipsecEsp,
        Self::StaticEspRaw,
        Self::StaticSpin,
        Self::Strongswan,
        Self::WireguardGo,
        Self::Boringtun,
        Self::Gotatun,
        Self::Openvpn,
    ];

    /// It sends ESP as protocol 50.
    pub(in crate::bench) const fn is_protocol_50(self) -> bool {
        matches!(
            self,
            Self::NullEsp | Self::StaticEsp | Self::StaticEspRaw | Self::VipsecEsp
        )
    }

    /// Why it cannot run on this machine.
    pub(super) fn missing(self) -> Option<String> {
        let program = |name: &str| {
            let missing = find_program(name).is_none();
            missing.then(|| format!("{name} is not installed"))
        };
        match self {
            Self::Kernel => None,
            Self::Null
            | Self::NullEsp
            | Self::Static
            | Self::StaticEsp
            | Self::StaticEspRaw
            | Self::StaticSpin
            | Self::Vipsec
            | Self::VipsecEsp => Need::Tun.missing(),
            Self::Strongswan => Need::StrongSwan.missing(),
            Self::WireguardGo => program("wireguard-go"),
            Self::Boringtun => program("boringtun-cli"),
            Self::Gotatun => program("gotatun"),
            Self::Openvpn => program("openvpn").or_else(|| program("openssl")),
        }
    }

    /// Starts both gateways; returns when packets pass.
    pub(super) fn start(self, sites: &TwoSites, workers: usize) -> Result<Running, LabError> {
        match self {
            Self::Kernel => kernel::start(sites),
            Self::Null => ours::start_static(sites, &ours::fixed("null", "udp", workers)),
            Self::NullEsp => ours::start_static(sites, &ours::fixed("null", "esp", workers)),
            Self::Static => ours::start_static(sites, &ours::fixed("aes128gcm16", "udp", workers)),
            Self::StaticEsp => {
                ours::start_static(sites, &ours::fixed("aes128gcm16", "esp", workers))
            }
            Self::StaticEspRaw => {
                ours::start_static(sites, &ours::fixed("aes128gcm16", "esp-raw", workers))
            }
            Self::StaticSpin => {
                let words = ours::fixed("aes128gcm16", "udp", workers);
                ours::start_static(sites, &format!("{words} --busy-poll-us 2000"))
            }
            Self::Vipsec => ours::start_daemon(sites, "udp", workers),
            Self::VipsecEsp => ours::start_daemon(sites, "esp", workers),
            Self::Strongswan => swan::start(sites),
            Self::WireguardGo => wireguard::start(sites, "wireguard-go"),
            Self::Boringtun => wireguard::start(sites, "boringtun-cli"),
            Self::Gotatun => wireguard::start(sites, "gotatun"),
            Self::Openvpn => openvpn::start(sites),
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kernel => "kernel routing",
            Self::Null => "vipsec, no cipher",
            Self::NullEsp => "vipsec, no cipher, protocol 50",
            Self::Static => "vipsec, fixed keys",
            Self::StaticEsp => "vipsec, fixed keys, protocol 50",
            Self::StaticEspRaw => "vipsec, raw sockets",
            Self::StaticSpin => "vipsec, spinning",
            Self::Vipsec => "vipsec",
            Self::VipsecEsp => "vipsec, protocol 50",
            Self::Strongswan => "strongSwan, userspace",
            Self::WireguardGo => "wireguard-go",
            Self::Boringtun => "boringtun",
            Self::Gotatun => "gotatun",
            Self::Openvpn => "OpenVPN",
        })
    }
}

/// Both gateways at work; dropping it ends them.
pub(in crate::bench) struct Running {
    /// The processes whose time counts.
    pub(in crate::bench) pids: Vec<u32>,
    _alive: Vec<Box<dyn std::any::Any>>,
}

impl Running {
    fn new(pids: Vec<u32>) -> Self {
        Self {
            pids,
            _alive: Vec::new(),
        }
    }

    /// Keeps something alive as long as the tunnel.
    fn holding(mut self, what: impl std::any::Any) -> Self {
        self._alive.push(Box::new(what));
        self
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn every_contender_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<String> = Contender::value_variants()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(names.len(), Contender::value_variants().len());
    }
}
