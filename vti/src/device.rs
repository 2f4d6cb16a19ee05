//! A TUN device and its queues. The device is not persistent: the kernel removes it, with its
//! addresses and routes, when the last queue is closed, however the process ends.

use core::time::Duration;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

use crate::offload::{MAX_PARTS, OffloadError, VirtioHeader};
use crate::sys;

/// The device to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunConfig {
    /// Interface name, 1 to 15 bytes.
    pub name: String,
    /// How many queues, at least 1: one per worker.
    pub queues: usize,
    /// Ask the kernel for super-packets. Off only to compare.
    pub offload: bool,
}

/// What the kernel agreed to hand over and take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offloads {
    /// A virtio-net header stands in front of every packet.
    pub virtio_header: bool,
    /// Partial checksums and TCP super-packets, IPv4 and IPv6.
    pub tcp: bool,
    /// UDP super-packets.
    pub udp: bool,
}

/// Why there is no TUN device.
#[derive(Debug, thiserror::Error)]
pub enum TunError {
    /// The kernel allows 1 to 15 bytes without `/`, `:`, `%` or white space.
    #[error(
        "\"{0}\" is not an interface name: 1 to 15 bytes without slash, colon, percent sign or white space"
    )]
    BadName(String),
    /// Another device has this name.
    #[error(
        "an interface named \"{0}\" exists already; choose another `device` or remove it with `ip link del {0}`"
    )]
    NameTaken(String),
    /// Creating a device needs CAP_NET_ADMIN.
    #[error("no permission to create \"{0}\": run as root or with CAP_NET_ADMIN")]
    NoPermission(String),
    /// Every queue of a device needs a file descriptor.
    #[error(
        "no file descriptor is left for a queue; raise the limit (`LimitNOFILE=` of systemd, `ulimit -n`)"
    )]
    NoDescriptor,
    /// There is no `/dev/net/tun`.
    #[error("cannot open /dev/net/tun ({0}); load the module with `modprobe tun`")]
    NoTun(io::Error),
    /// No queue was asked for.
    #[error("a TUN device needs at least one queue")]
    NoQueues,
    /// Another step failed.
    #[error("cannot {step} for \"{name}\": {source}")]
    Failed {
        /// What was tried.
        step: &'static str,
        /// The device.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A TUN device with its queues.
#[derive(Debug)]
pub struct Tun {
    name: String,
    index: u32,
    offloads: Offloads,
    queues: Vec<TunQueue>,
}

/// One queue. Reads and writes do not block.
#[derive(Debug)]
pub struct TunQueue {
    fd: OwnedFd,
    device: Arc<str>,
    offloads: Offloads,
}

/// A packet from [`TunQueue::read`]; it stands in the buffer from [`VirtioHeader::LEN`] on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// What the kernel says about the packet, or why that makes no sense.
    pub header: Result<VirtioHeader, OffloadError>,
    /// Length of the packet in bytes, without the virtio header.
    pub len: usize,
}

impl Tun {
    /// Creates the device with all its queues. It has no address yet and is down.
    ///
    /// # Errors
    /// [`TunError`], which tells what to do next. Offloads that the kernel refuses are not an
    /// error: they are logged and left out.
    pub fn create(config: &TunConfig) -> Result<Self, TunError> {
        let name = &config.name;
        let forbidden = |c: char| c.is_whitespace() || matches!(c, '/' | ':' | '%') || c == '\0';
        if name.is_empty() || name.len() > 15 || name.contains(forbidden) || name.starts_with('.') {
            return Err(TunError::BadName(name.clone()));
        }
        let mut offloads = Offloads::default();
        let mut queues = Vec::with_capacity(config.queues);
        let device: Arc<str> = name.as_str().into();
        for number in 0..config.queues {
            let fd = open()?;
            attach(&fd, config, number == 0)?;
            // Offloads belong to the device, but the header length to be safe is set on each.
            let agreed = negotiate(&fd, config, number == 0)?;
            if number == 0 {
                offloads = agreed;
            }
            queues.push(TunQueue::from_parts(fd, &device, offloads));
        }
        if queues.is_empty() {
            return Err(TunError::NoQueues);
        }
        let index = index_of(name)?;
        Ok(Self {
            name: name.clone(),
            index,
            offloads,
            queues,
        })
    }

    /// The interface's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The interface's index, for rtnetlink.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// What the kernel agreed to.
    #[must_use]
    pub const fn offloads(&self) -> Offloads {
        self.offloads
    }

    /// Hands out the queues. The device lives as long as one of them.
    #[must_use]
    pub fn into_queues(self) -> Vec<TunQueue> {
        self.queues
    }
}

fn failed(step: &'static str, name: &str, source: io::Error) -> TunError {
    TunError::Failed {
        step,
        name: name.to_owned(),
        source,
    }
}

fn open() -> Result<OwnedFd, TunError> {
    rustix::fs::open(
        "/dev/net/tun",
        OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|error| match error {
        Errno::MFILE | Errno::NFILE => TunError::NoDescriptor,
        _ => TunError::NoTun(error.into()),
    })
}

/// True while there is a network device of this index, whatever its name is now. The kernel gives
/// an index away once only. Where it cannot be asked, the device counts as there.
#[must_use]
pub fn exists(index: u32) -> bool {
    let name = index_socket().and_then(|socket| netdevice::index_to_name_inlined(&socket, index));
    name.is_ok() || name.is_err_and(|error| error != Errno::NODEV && error != Errno::NXIO)
}

/// Waits until the device of this index is gone; false when it is still there after `patience`. A
/// device goes with the last copy of its queues, and a program that another thread is starting
/// holds copies until it runs.
pub async fn is_gone_within(index: u32, patience: Duration) -> bool {
    let start = Instant::now();
    while exists(index) {
        if start.elapsed() > patience {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    true
}

fn index_of(name: &str) -> Result<u32, TunError> {
    index_socket()
        .and_then(|socket| netdevice::name_to_index(&socket, name))
        .map_err(|error| failed("find the index", name, error.into()))
}

/// Any socket answers index questions; a TUN descriptor does not.
fn index_socket() -> rustix::io::Result<OwnedFd> {
    socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )
}

fn attach(fd: &OwnedFd, config: &TunConfig, is_first: bool) -> Result<(), TunError> {
    let name = &config.name;
    let mut flags = sys::IFF_TUN | sys::IFF_NO_PI | sys::IFF_VNET_HDR;
    if config.queues > 1 {
        flags |= sys::IFF_MULTI_QUEUE;
    }
    if is_first {
        // Without it, a persistent device of this name would silently be taken over.
        flags |= sys::IFF_TUN_EXCL;
    }
    sys::set_interface(fd.as_fd(), name, flags).map_err(|error| match error.raw_os_error() {
        // EINVAL: a device of this name that is no TUN.
        Some(libc::EBUSY | libc::EINVAL | libc::EEXIST) if is_first => {
            TunError::NameTaken(name.clone())
        }
        Some(libc::EPERM | libc::EACCES) => TunError::NoPermission(name.clone()),
        _ => failed("attach a queue", name, error),
    })
}

/// Asks for every offload, then for fewer, until the kernel agrees.
fn negotiate(fd: &OwnedFd, config: &TunConfig, is_first: bool) -> Result<Offloads, TunError> {
    let len = i32::try_from(VirtioHeader::LEN).unwrap_or(10);
    sys::set_header_len(fd.as_fd(), len)
        .map_err(|error| failed("set the virtio header", &config.name, error))?;
    let tcp = sys::TUN_F_CSUM | sys::TUN_F_TSO4 | sys::TUN_F_TSO6 | sys::TUN_F_TSO_ECN;
    let udp = sys::TUN_F_USO4 | sys::TUN_F_USO6;
    let steps = [
        (tcp | udp, true, true),
        (tcp, true, false),
        (0, false, false),
    ];
    let wanted = if config.offload {
        &steps[..]
    } else {
        steps.get(2..).unwrap_or_default()
    };
    for (flags, tcp, udp) in wanted {
        match sys::set_offload(fd.as_fd(), *flags) {
            Ok(()) => {
                return Ok(Offloads {
                    virtio_header: true,
                    tcp: *tcp,
                    udp: *udp,
                });
            }
            Err(error) if is_first => {
                tracing::warn!(
                    device = config.name, flags, %error,
                    "the kernel refuses a TUN offload; going on without it"
                );
            }
            Err(_) => {}
        }
    }
    Ok(Offloads {
        virtio_header: true,
        tcp: false,
        udp: false,
    })
}

impl TunQueue {
    /// A queue that was opened elsewhere: by another process, or the end of a socket pair that
    /// plays a device. Reads and writes of `fd` must not block and must keep packets apart,
    /// each with its virtio header.
    #[must_use]
    pub fn from_parts(fd: OwnedFd, device: &Arc<str>, offloads: Offloads) -> Self {
        Self {
            fd,
            device: Arc::clone(device),
            offloads,
        }
    }

    /// The name that its device was made with.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }

    /// What the device takes.
    #[must_use]
    pub const fn offloads(&self) -> Offloads {
        self.offloads
    }

    /// Reads one packet or super-packet: header and packet stand at the front of `buffer`,
    /// which should have room for 64 KiB and [`VirtioHeader::LEN`]. `None` when there is none.
    ///
    /// # Errors
    /// What the kernel says, `EBADFD` when the device is gone.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        let read = loop {
            match rustix::io::read(&self.fd, &mut *buffer) {
                // A device has no end but its own.
                Ok(0) => return Err(Errno::BADFD.into()),
                Ok(read) => break read,
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        };
        Ok(Some(Received {
            header: VirtioHeader::parse(buffer.get(..read).unwrap_or_default()),
            len: read.saturating_sub(VirtioHeader::LEN),
        }))
    }

    /// Gives a packet from [`TunQueue::read`] back to the kernel as it came: `frame` is the
    /// virtio header and the packet behind it.
    ///
    /// # Errors
    /// As [`TunQueue::write`].
    pub fn write_back(&self, frame: &[u8]) -> io::Result<()> {
        loop {
            match rustix::io::write(&self.fd, frame) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Writes one packet or super-packet, gathered from at most [`MAX_PARTS`] pieces.
    ///
    /// # Errors
    /// What the kernel says: `EAGAIN` when it has no room, `EINVAL` for a header it refuses,
    /// `EIO` when the device is down, `EBADFD` when it is gone.
    pub fn write(&self, header: &VirtioHeader, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let bytes = header.emit();
        let mut gathered = [IoSlice::new(&[]); MAX_PARTS + 1];
        let mut used = 1;
        for (to, from) in gathered.iter_mut().skip(1).zip(parts) {
            *to = *from;
            used += 1;
        }
        if let Some(first) = gathered.first_mut() {
            *first = IoSlice::new(&bytes);
        }
        loop {
            match rustix::io::writev(&self.fd, gathered.get(..used).unwrap_or_default()) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for TunQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_before_the_kernel_sees_them() {
        for name in [
            "",
            "a-name-too-long-for-it",
            "a b",
            "a/b",
            "a:b",
            "..",
            "tun%d",
        ] {
            let config = TunConfig {
                name: name.to_owned(),
                queues: 1,
                offload: true,
            };
            assert!(
                matches!(Tun::create(&config), Err(TunError::BadName(_))),
                "{name}"
            );
        }
    }
}
