//! UDP packets that host A puts on its link as whole Ethernet frames, past its own IP stack.
//! Through the stack one thread reached its own limit before the tunnel reached its, and the figure
//! was the sender's.

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use etherparse::PacketBuilder;
use ha_keepalive::io::packet_socket::PacketSocket;
use netns_tests::topology::HOST_A;
use netns_tests::{LabError, TwoSites};
use rustix::io::Errno;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};

/// The hosts' and the gateways' link to each other.
const LINK: &str = "lan";

/// For local experiments (IEEE 802): nothing is received on such a socket.
const EXPERIMENTAL: u16 = 0x88b5;

/// Frames in one system call.
const BATCH: usize = 32;

const SOURCE_PORT: u16 = 9;

const TTL: u8 = 64;

/// Sends frames from host A to its gateway.
pub(super) struct Frames {
    socket: PacketSocket,
    gateway: [u8; 6],
    target: SocketAddr,
}

impl Frames {
    /// `target` is a UDP socket of host B.
    pub(super) fn new(sites: &TwoSites, target: SocketAddr) -> Result<Self, LabError> {
        let open = || PacketSocket::open(LINK, EXPERIMENTAL);
        let at = LabError::at::<std::io::Error>;
        let socket = sites.host_a.enter(open)?;
        let gateway = sites.gw_a.enter(open)?;
        Ok(Self {
            socket: socket.map_err(at("open a packet socket of the host"))?,
            gateway: gateway.map_err(at("learn the gateway's address"))?.mac().0,
            target,
        })
    }

    /// Sends the payload `rate` times a second for `time`, by the schedule, in as small bursts
    /// as the clock allows; how many packets were sent.
    pub(super) fn send(&self, payload: &[u8], rate: f64, time: Duration) -> Result<u64, LabError> {
        let frame = self.frame(payload)?;
        let slice = [IoSlice::new(&frame)];
        let start = Instant::now();
        let mut sent = 0_u64;
        loop {
            let elapsed = start.elapsed();
            if elapsed >= time {
                return Ok(sent);
            }
            let due = (rate * elapsed.as_secs_f64()) as u64;
            let count = usize::try_from(due.saturating_sub(sent)).unwrap_or(BATCH);
            if count == 0 {
                std::thread::sleep(Duration::from_micros(50));
                continue;
            }
            let mut controls: [SendAncillaryBuffer<'_, '_, '_>; BATCH] = Default::default();
            let mut messages: Vec<MMsgHdr<'_>> = controls
                .iter_mut()
                .take(count)
                .map(|control| MMsgHdr::new(&slice, control))
                .collect();
            match sendmmsg(&self.socket, &mut messages, SendFlags::empty()) {
                Ok(count) => sent += count as u64,
                Err(Errno::NOBUFS | Errno::AGAIN) => {}
                Err(error) => return Err(LabError::at("send a frame")(error)),
            }
        }
    }

    fn frame(&self, payload: &[u8]) -> Result<Vec<u8>, LabError> {
        let (IpAddr::V4(source), IpAddr::V4(target)) = (HOST_A, self.target.ip()) else {
            return Err(LabError::Damaged("the hosts have no IPv4".to_owned()));
        };
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(self.socket.mac().0, self.gateway)
            .ipv4(source.octets(), target.octets(), TTL)
            .udp(SOURCE_PORT, self.target.port())
            .write(&mut frame, payload)
            .map_err(|error| LabError::Damaged(format!("cannot build a frame: {error}")))?;
        Ok(frame)
    }
}
