//! Two private network namespaces and a plain veth pair between them.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Command;

use rustix::net::{AddressFamily, SocketType, netdevice};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::packet::{A, A_MAC, B, B_MAC};

/// The device at either end.
pub(crate) const DEVICE: &str = "wan";

/// One end: a network namespace that goes with the process.
pub(crate) struct End {
    namespace: OwnedFd,
    /// Index of [`DEVICE`].
    pub device: u32,
}

impl End {
    /// A namespace of its own. Its device does not exist yet.
    fn new() -> io::Result<Self> {
        let namespace = std::thread::spawn(|| {
            enter_private_namespace()?;
            this_namespace()
        });
        let namespace = namespace
            .join()
            .unwrap_or_else(|_panic| Err(io::ErrorKind::Other.into()))?;
        Ok(Self {
            namespace,
            device: 0,
        })
    }

    /// Does `work` in this namespace. What it opens stays there.
    pub(crate) fn inside<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let home = this_namespace()?;
        let enter = |namespace: &OwnedFd| {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        };
        enter(&self.namespace)?;
        let result = work();
        enter(&home)?;
        result
    }

    fn prepare(&mut self, address: &str, peer: (&str, &str)) -> io::Result<()> {
        let device = self.inside(|| {
            ip(&format!("link set {DEVICE} up"))?;
            ip("link set lo up")?;
            ip(&format!("address add {address}/24 dev {DEVICE}"))?;
            let (peer, mac) = peer;
            ip(&format!(
                "neighbour replace {peer} lladdr {mac} dev {DEVICE} nud permanent"
            ))?;
            // As a gateway has it; the relay receives trains only so.
            let forwarding = format!("/proc/sys/net/ipv4/conf/{DEVICE}/forwarding");
            std::fs::write(forwarding, "1")?;
            let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
            Ok(netdevice::name_to_index(&socket, DEVICE)?)
        })?;
        self.device = device;
        Ok(())
    }
}

/// The network namespace of this thread.
pub(crate) fn this_namespace() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

/// Moves this thread into a new network namespace.
#[expect(unsafe_code, reason = "unshare has no safe form")]
pub(crate) fn enter_private_namespace() -> io::Result<()> {
    // SAFETY: only CLONE_NEWNET is asked for: descriptors and memory stay shared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
    Ok(())
}

/// The sender's and the receiver's end.
pub(crate) fn pair() -> io::Result<(End, End)> {
    let (mut a, mut b) = (End::new()?, End::new()?);
    let (a_mac, b_mac) = (text(A_MAC), text(B_MAC));
    let to = format!(
        "/proc/{}/fd/{}",
        std::process::id(),
        b.namespace.as_raw_fd()
    );
    a.inside(|| {
        ip(&format!(
            "link add {DEVICE} address {a_mac} type veth peer name {DEVICE} address {b_mac} netns {to}"
        ))
    })?;
    a.prepare(&A.to_string(), (&B.to_string(), &b_mac))?;
    b.prepare(&B.to_string(), (&A.to_string(), &a_mac))?;
    Ok((a, b))
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn ip(arguments: &str) -> io::Result<()> {
    let status = Command::new("ip")
        .args(arguments.split_whitespace())
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("ip {arguments}: {status}")))
    }
}
