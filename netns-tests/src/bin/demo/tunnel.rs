//! The first part: one tunnel against a stranger's implementation.

use std::error::Error;
use std::time::Duration;

use netns_tests::lab::wait_for;
use netns_tests::need::DUMPCAP;
use netns_tests::peer::{Charon, StrongSwan, Vipsec, vipsec};
use netns_tests::probe::{Amount, Bulk, Capture, Ping, pcap};
use netns_tests::topology::{HOST_A, HOST_B};
use netns_tests::tunnel::{mirrored, policy_a, swan_policy_b};
use netns_tests::{Lab, LabError, Need, Outcome, TwoSites};

use crate::story::{Story, ms};

/// How long each bulk transfer takes.
const BULK: Duration = Duration::from_secs(2);

pub(crate) fn tell(story: &Story) -> Outcome {
    let sites = TwoSites::new(&Lab::new()?)?;
    let kind = PeerKind::best();
    story.picture(&picture(kind));
    story.step("four machines and three cables are there (network namespaces)");
    let peer = Peer::start(kind, &sites)?;
    story.step(format!("{} listens on gw-b", kind.name()));
    let mut ours = Vipsec::start(&sites.gw_a, &[policy_a()])?;
    story.step("vipsec listens on gw-a, and is told to bring the tunnel up");
    negotiate(story, &sites, &ours)?;
    pings(story, &sites)?;
    bulk(story, &sites)?;
    let told = ours.connection("site")?;
    for sa in told.in_use() {
        story.step("vipsec has counted");
        story.detail("sealed", mib(sa.bytes_out));
        story.detail("opened", mib(sa.bytes_in));
    }
    goodbye(story, &sites, &mut ours, &peer)?;
    Ok(())
}

/// Who is at the other end.
#[derive(Clone, Copy, PartialEq)]
enum PeerKind {
    StrongSwan,
    Vipsec,
}

/// The other end, running.
enum Peer {
    StrongSwan(Charon),
    Vipsec(Vipsec),
}

impl PeerKind {
    /// strongSwan where it is installed, else a second vipsec.
    fn best() -> Self {
        match Need::StrongSwan.missing() {
            None => Self::StrongSwan,
            Some(_reason) => Self::Vipsec,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::StrongSwan => "strongSwan",
            Self::Vipsec => "a second vipsec",
        }
    }
}

impl Peer {
    fn start(kind: PeerKind, sites: &TwoSites) -> Result<Self, LabError> {
        Ok(match kind {
            PeerKind::StrongSwan => {
                Self::StrongSwan(StrongSwan::default().start(&sites.gw_b, &[swan_policy_b()])?)
            }
            PeerKind::Vipsec => Self::Vipsec(Vipsec::start(&sites.gw_b, &[mirrored(&policy_a())])?),
        })
    }

    /// True when it knows of no tunnel.
    fn is_idle(&self) -> Result<bool, LabError> {
        Ok(match self {
            Self::StrongSwan(charon) => charon.sas()?.is_empty(),
            Self::Vipsec(vipsec) => vipsec.connection("site")?.ike_sas.is_empty(),
        })
    }
}

fn picture(kind: PeerKind) -> Vec<String> {
    let right = match kind {
        PeerKind::StrongSwan => "strongSwan",
        PeerKind::Vipsec => "vipsec",
    };
    vec![
        "host-a ─────── gw-a ═══════════════════════ gw-b ─────── host-b".to_owned(),
        format!("10.1.0.2      vipsec      the internet      {right:<10}   10.2.0.2"),
        "          203.0.113.1                  203.0.113.2".to_owned(),
    ]
}

fn negotiate(story: &Story, sites: &TwoSites, ours: &Vipsec) -> Result<(), Box<dyn Error>> {
    let capture = match DUMPCAP.missing() {
        None => {
            let filter = "udp port 500 or udp port 4500";
            Some(Capture::start(&sites.gw_a, "wan", filter)?)
        }
        Some(_reason) => None,
    };
    let status = ours.bring_up("site")?;
    // A peer installs its SAs after the last message, so the first ping may come too early.
    Ping::to(HOST_B).until_answered(&sites.host_a, Duration::from_secs(5))?;
    let mut took = String::new();
    if let Some(capture) = capture {
        let time = capture.wait_for("a complete negotiation", pcap::negotiation_time)?;
        took = format!(", {} from the first message to the last", ms(time));
    }
    story.step(format!("the tunnel is up: main mode and quick mode{took}"));
    for sa in &status.ike_sas {
        story.detail("phase 1", &sa.suite);
    }
    for sa in status.in_use() {
        let carrier = match sa.encapsulation.as_str() {
            "udp" => "in UDP port 4500",
            _ => "as IP protocol 50",
        };
        story.detail("phase 2", format!("{}, {carrier}", sa.suite));
        story.detail("SPIs", format!("in {}, out {}", sa.spi_in, sa.spi_out));
    }
    Ok(())
}

fn pings(story: &Story, sites: &TwoSites) -> Result<(), Box<dyn Error>> {
    for (size, what) in [(56, "small"), (20_000, "20 kB in fragments")] {
        let report = Ping::to(HOST_B).count(20).size(size).from(&sites.host_a)?;
        story.step(format!(
            "ping host-a → host-b, {what}: {} of {} answered, {:.2} ms in the mean",
            report.received, report.sent, report.mean_ms
        ));
        if !report.is_complete() {
            return Err("pings got lost in the tunnel".into());
        }
    }
    Ok(())
}

fn bulk(story: &Story, sites: &TwoSites) -> Result<(), LabError> {
    let (a, b) = (&sites.host_a, &sites.host_b);
    for (from, to, address, arrow) in [
        (a, b, HOST_B, "host-a → host-b"),
        (b, a, HOST_A, "host-b → host-a"),
    ] {
        let moved = Bulk::to(address, Amount::For(BULK)).run(from, to)?;
        story.step(format!(
            "TCP {arrow}: {} in {:.1} s, {:.2} Gbit/s, every byte compared",
            mib(moved.bytes),
            moved.elapsed.as_secs_f64(),
            moved.gbit_per_second()
        ));
    }
    Ok(())
}

fn goodbye(
    story: &Story,
    sites: &TwoSites,
    ours: &mut Vipsec,
    peer: &Peer,
) -> Result<(), Box<dyn Error>> {
    let status = ours.stop()?;
    if !status.success() {
        return Err(format!("vipsec ended with {status}").into());
    }
    wait_for("the peer to have been told", vipsec::UP, || {
        Ok(peer.is_idle()?.then_some(()))
    })?;
    story.step("vipsec was stopped: it sent its deletes, and the peer has taken the tunnel down");
    if sites.gw_a.ip("link")?.stdout.contains("vti-") {
        return Err("vipsec left its interface behind".into());
    }
    story.step("its interface and its routes are gone from gw-a");
    Ok(())
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
