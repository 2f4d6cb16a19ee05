//! Bulk TCP from one host to another, every byte compared.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_tcp_congestion;
use socket2::{Domain, Socket, Type};

use crate::LabError;
use crate::lab::Host;

/// Bytes of one write; also the period of the pattern, which is prime to any segment size.
const BLOCK: usize = 65_537;

/// How long a transfer may stand still before it counts as broken.
const STALL: Duration = Duration::from_secs(10);

/// How much to send.
#[derive(Debug, Clone, Copy)]
pub enum Amount {
    /// This many bytes.
    Bytes(u64),
    /// As much as passes in this time.
    For(Duration),
}

/// One or more TCP streams in one direction.
#[derive(Debug, Clone)]
pub struct Bulk {
    address: IpAddr,
    amount: Amount,
    streams: usize,
    congestion_control: Option<String>,
}

/// The congestion control of figures that are not to depend on what the machine is set to: what
/// Linux has by default. BBR goes by its own estimate of the path and leaves a quarter of what
/// our tunnel carries unused.
pub const CONGESTION_CONTROL: &str = "cubic";

/// Opens a stream to another host's socket, here in the sender's namespace.
///
/// Its sender uses the congestion control of this name, or what the machine is set to. It is told before
/// it connects: a stream that began with BBR is paced for ever. And each is told, because a network
/// namespace may only be set to what the whole machine is set to allow.
///
/// # Errors
/// When the kernel has none of this name, or nobody answers within `stall`.
pub fn connect(
    address: &SocketAddr,
    stall: Duration,
    congestion_control: Option<&str>,
) -> Result<TcpStream, LabError> {
    let failed = || LabError::at(format!("connect to {address}"));
    let socket = Socket::new(Domain::for_address(*address), Type::STREAM, None);
    let socket = socket.map_err(failed())?;
    if let Some(name) = congestion_control {
        set_tcp_congestion(&socket, name)
            .map_err(io::Error::from)
            .map_err(LabError::at(format!("use the congestion control {name}")))?;
    }
    socket
        .connect_timeout(&(*address).into(), stall)
        .map_err(failed())?;
    Ok(socket.into())
}

/// What passed.
#[derive(Debug, Clone, Copy)]
pub struct Transfer {
    /// Payload bytes received, all of them as they were sent.
    pub bytes: u64,
    /// From the first connection to the last byte.
    pub elapsed: Duration,
}

impl Transfer {
    /// 10⁹ payload bits per second.
    #[must_use]
    pub fn gbit_per_second(&self) -> f64 {
        self.bytes as f64 * 8.0 / 1e9 / self.elapsed.as_secs_f64()
    }
}

impl Bulk {
    /// One stream to an address of the receiving host.
    #[must_use]
    pub fn to(address: IpAddr, amount: Amount) -> Self {
        Self {
            address,
            amount,
            streams: 1,
            congestion_control: None,
        }
    }

    /// With a congestion control of the kernel, instead of what the machine is set to.
    #[must_use]
    pub fn congestion_control(self, name: &str) -> Self {
        Self {
            congestion_control: Some(name.to_owned()),
            ..self
        }
    }

    /// Several streams at once; the amount is for each.
    #[must_use]
    pub fn streams(self, streams: usize) -> Self {
        Self { streams, ..self }
    }

    /// Sends from one host to the other and compares what arrives.
    ///
    /// # Errors
    /// When no connection comes about, it stalls, or a byte differs.
    pub fn run(&self, sender: &Host, receiver: &Host) -> Result<Transfer, LabError> {
        let listener = receiver
            .enter(|| TcpListener::bind(SocketAddr::new(self.address, 0)))?
            .map_err(LabError::at("listen"))?;
        let address = listener.local_addr().map_err(LabError::at("listen"))?;
        let start = Instant::now();
        let mut pairs = Vec::new();
        for _stream in 0..self.streams {
            let out =
                sender.enter(|| connect(&address, STALL, self.congestion_control.as_deref()))??;
            let (into, _from) = listener.accept().map_err(LabError::at("accept"))?;
            pairs.push((out, into));
        }
        let amount = self.amount;
        let received = thread::scope(|scope| {
            let receivers: Vec<_> = pairs
                .into_iter()
                .map(|(out, into)| {
                    let sending = scope.spawn(move || send(out, amount));
                    let receiving = scope.spawn(move || receive(into));
                    (sending, receiving)
                })
                .collect();
            let mut total = 0;
            for (sending, receiving) in receivers {
                let sent = joined(sending.join())?;
                let received = joined(receiving.join())?;
                if sent != received {
                    return Err(LabError::Damaged(format!(
                        "{sent} sent, {received} received"
                    )));
                }
                total += received;
            }
            Ok(total)
        })?;
        Ok(Transfer {
            bytes: received,
            elapsed: start.elapsed(),
        })
    }
}

fn joined<T>(result: thread::Result<Result<T, LabError>>) -> Result<T, LabError> {
    result.unwrap_or_else(|_panic| Err(LabError::Damaged("the thread panicked".to_owned())))
}

/// Bytes that no other offset within a block repeats in a row.
fn pattern() -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = |_index| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..BLOCK).map(next).collect()
}

fn send(mut stream: TcpStream, amount: Amount) -> Result<u64, LabError> {
    let block = pattern();
    let start = Instant::now();
    let mut sent = 0_u64;
    stream
        .set_write_timeout(Some(STALL))
        .map_err(LabError::at("set a time-out"))?;
    loop {
        let due = match amount {
            Amount::Bytes(bytes) => bytes.saturating_sub(sent).min(BLOCK as u64) as usize,
            Amount::For(time) if start.elapsed() < time => BLOCK,
            Amount::For(_over) => 0,
        };
        let Some(part) = block.get(..due).filter(|part| !part.is_empty()) else {
            return Ok(sent);
        };
        stream.write_all(part).map_err(LabError::at("send"))?;
        sent += due as u64;
    }
}

fn receive(mut stream: TcpStream) -> Result<u64, LabError> {
    let expected = pattern();
    let mut buffer = vec![0; BLOCK];
    let mut received = 0_u64;
    stream
        .set_read_timeout(Some(STALL))
        .map_err(LabError::at("set a time-out"))?;
    loop {
        let offset = (received % BLOCK as u64) as usize;
        let room = buffer.get_mut(offset..).unwrap_or_default();
        let count = stream.read(room).map_err(LabError::at("receive"))?;
        if count == 0 {
            return Ok(received);
        }
        let part = offset..offset + count;
        if buffer.get(part.clone()) != expected.get(part) {
            return Err(LabError::Damaged(format!(
                "within {count} bytes at {received}"
            )));
        }
        received += count as u64;
    }
}
