//! What stands behind the project's own trait: the raw socket, and the relay's UDP sockets.

use std::io;
use std::net::{IpAddr, SocketAddr};

use esp_dataplane::io::{EspWire, RxBatch, SocketOptions, Train, TxScratch, UdpWire, Wire};

use crate::load::{Receiver, Sender};
use crate::net::End;
use crate::packet::{A, B, BURST, ESP, esp, is_ours};
use crate::sys;

/// Packets of one train: two TUN reads of half a super-packet each. One read of a whole one
/// would be better still for wires that know trains.
const TRAIN: usize = BURST / 2;

/// The sending end of a wire.
pub(crate) struct WireSender<W> {
    wire: W,
    scratch: TxScratch,
    arena: Vec<u8>,
    trains: Vec<Train>,
}

impl<W: Wire> WireSender<W> {
    /// Sends to `to`.
    pub(crate) fn new(wire: W, to: SocketAddr) -> Self {
        let train = |start| Train {
            start,
            len: TRAIN * ESP,
            stride: ESP,
            remote: to,
            traffic_class: 0,
        };
        Self {
            wire,
            scratch: TxScratch::default(),
            arena: esp().repeat(BURST),
            trains: (0..BURST * ESP).step_by(TRAIN * ESP).map(train).collect(),
        }
    }
}

impl<W: Wire> Sender for WireSender<W> {
    fn send(&mut self) -> io::Result<usize> {
        let sent = self.wire.send(&mut self.scratch, &self.arena, &self.trains);
        Ok(sent.packets as usize)
    }
}

/// The receiving end of a wire.
pub(crate) struct WireReceiver<W> {
    wire: W,
    batch: RxBatch,
}

impl<W: Wire> WireReceiver<W> {
    /// Receives from anybody.
    pub(crate) fn new(wire: W) -> Self {
        Self {
            wire,
            batch: RxBatch::new(),
        }
    }
}

impl<W: Wire> Receiver for WireReceiver<W> {
    fn receive(&mut self) -> io::Result<usize> {
        if self.wire.receive(&mut self.batch)? == 0
            && (!sys::wait(self.wire.fd())? || self.wire.receive(&mut self.batch)? == 0)
        {
            return Ok(0);
        }
        let (messages, buffer) = self.batch.parts();
        let mut count = 0;
        for message in messages {
            let bytes = buffer.get(message.start..message.start + message.len);
            let packets = bytes.unwrap_or_default().chunks(message.stride);
            count += packets.filter(|packet| is_ours(packet)).count();
        }
        Ok(count)
    }
}

/// What all sockets here have in common.
pub(crate) fn options() -> SocketOptions {
    SocketOptions {
        buffer: 4 << 20,
        ..SocketOptions::default()
    }
}

/// A raw socket, for [`B`].
pub(crate) fn raw_sender(_end: &End) -> io::Result<Box<dyn Sender>> {
    let wire = EspWire::open(IpAddr::V4(A), (0, 1), &options())?;
    Ok(Box::new(WireSender::new(wire, SocketAddr::from((B, 0)))))
}

/// A raw socket.
pub(crate) fn raw_receiver(_end: &End) -> io::Result<Box<dyn Receiver>> {
    let wire = EspWire::open(IpAddr::V4(B), (0, 1), &options())?;
    Ok(Box::new(WireReceiver::new(wire)))
}

/// ESP in UDP, which has no need of any of this: for what becomes of it beside another way.
const NAT_T: u16 = 4500;

/// A socket for ESP in UDP, for [`B`].
pub(crate) fn udp_sender(_end: &End) -> io::Result<Box<dyn Sender>> {
    let wire = UdpWire::open(SocketAddr::from((A, NAT_T)), 1, &options())?.remove(0);
    let to = SocketAddr::from((B, NAT_T));
    Ok(Box::new(WireSender::new(wire, to)))
}

/// A socket for ESP in UDP.
pub(crate) fn udp_receiver(_end: &End) -> io::Result<Box<dyn Receiver>> {
    let wire = UdpWire::open(SocketAddr::from((B, NAT_T)), 1, &options())?.remove(0);
    Ok(Box::new(WireReceiver::new(wire)))
}
