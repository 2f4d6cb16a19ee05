//! The parts of a connection that must agree with the other connections.

use std::net::IpAddr;

use ikev1::Identity;
use ipnet::IpNet;
use ipsec_types::SelectorPair;
use toml::Spanned;

/// Those parts with their places. What is wrong by itself is left out.
#[derive(Debug, Default)]
pub(super) struct Outline {
    pub(super) name: Option<Spanned<String>>,
    pub(super) device: Option<Spanned<String>>,
    pub(super) local: Option<Spanned<IpAddr>>,
    pub(super) peer: Option<Spanned<(IpAddr, IpAddr)>>,
    /// Our address and the identity of a peer that may come from anywhere.
    pub(super) wanderer: Option<Spanned<(IpAddr, Identity)>>,
    /// Empty when the connection is route-based.
    pub(super) selectors: Vec<Spanned<SelectorPair>>,
    pub(super) routes: Vec<Spanned<IpNet>>,
    pub(super) metric: Option<u32>,
}
