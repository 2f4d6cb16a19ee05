//! Cables between machines, and switches to plug several into.

use super::Host;
use crate::LabError;

/// A veth pair. The name of each end is what is at its other end, so `ip link` on a gateway
/// reads like the drawing: `wan`, `lan`, `sync`.
#[derive(Debug, Clone)]
pub struct Cable {
    a: (Host, String),
    b: (Host, String),
}

impl Cable {
    /// Plugs a cable: device `device_a` appears on `a`, `device_b` on `b`, both up.
    ///
    /// # Errors
    /// When a name is taken or too long (15 characters).
    pub fn plug(a: (&Host, &str), b: (&Host, &str)) -> Result<Self, LabError> {
        let ((host_a, device_a), (host_b, device_b)) = (a, b);
        let there = host_b.namespace().path();
        host_a.ip(&format!(
            "link add {device_a} type veth peer name {device_b} netns {}",
            there.display()
        ))?;
        let cable = Self {
            a: (host_a.clone(), device_a.to_owned()),
            b: (host_b.clone(), device_b.to_owned()),
        };
        cable.replug()?;
        Ok(cable)
    }

    /// Pulls the cable: the first end loses its carrier and keeps addresses and routes. The
    /// second end is shut down, which for a switch's port comes to the same; a machine there
    /// loses the routes through it until [`Cable::replug`].
    ///
    /// # Errors
    /// When a device is gone.
    pub fn pull(&self) -> Result<(), LabError> {
        let (host, device) = &self.b;
        host.ip(&format!("link set down dev {device}"))?;
        Ok(())
    }

    /// Plugs a pulled cable in again.
    ///
    /// # Errors
    /// When a device is gone.
    pub fn replug(&self) -> Result<(), LabError> {
        self.both("link set up dev")
    }

    /// Sets the MTU of both ends, in bytes.
    ///
    /// # Errors
    /// When the kernel refuses the value.
    pub fn set_mtu(&self, mtu: u16) -> Result<(), LabError> {
        self.both(&format!("link set mtu {mtu} dev"))
    }

    /// Only packets that fit the MTU cross, as on a wire: segmentation stays with the sender.
    /// `gro` leaves the receiver its merging, which is nearest to a real network card.
    ///
    /// # Errors
    /// When `ethtool` refuses.
    pub fn carry_single_packets(&self, gro: bool) -> Result<(), LabError> {
        let gro = if gro { "on" } else { "off" };
        for (host, device) in [&self.a, &self.b] {
            host.run(&format!(
                "ethtool -K {device} tso off gso off tx-udp-segmentation off gro {gro}"
            ))?;
        }
        Ok(())
    }

    /// Nothing crosses any more and nobody is told: both ends keep their carrier, as when a
    /// machine freezes or a switch behind the switch dies. The second end has to be a port of
    /// a [`Bridge`].
    ///
    /// # Errors
    /// When it is none.
    pub fn mute(&self) -> Result<(), LabError> {
        mute_at_once(&[self])
    }

    /// Ends [`Cable::mute`].
    ///
    /// # Errors
    /// When the second end is no port of a switch.
    pub fn unmute(&self) -> Result<(), LabError> {
        unmute_at_once(&[self])
    }

    /// While two ports of one switch are both isolated, nothing passes between these two;
    /// everybody else reaches both.
    ///
    /// # Errors
    /// When the second end is no port of a switch.
    pub fn isolate(&self, isolated: bool) -> Result<(), LabError> {
        let (host, device) = &self.b;
        let word = if isolated { "on" } else { "off" };
        host.run(&format!("bridge link set dev {device} isolated {word}"))?;
        Ok(())
    }

    fn both(&self, words: &str) -> Result<(), LabError> {
        for (host, device) in [&self.a, &self.b] {
            host.ip(&format!("{words} {device}"))?;
        }
        Ok(())
    }
}

/// Pulls several cables in one system call, as when a machine loses power: nothing that a
/// program does about the first can still leave through the second. Their second ends have
/// to be ports on one machine, such as switches made on it.
///
/// # Errors
/// When a device is gone, or the second ends are on different machines.
pub fn pull_at_once(cables: &[&Cable]) -> Result<(), LabError> {
    let Some(first) = common_end(cables)? else {
        return Ok(());
    };
    for Cable {
        b: (host, device), ..
    } in cables
    {
        host.ip(&format!("link set dev {device} group {PULLED}"))?;
    }
    first.ip(&format!("link set group {PULLED} down"))?;
    for Cable {
        b: (host, device), ..
    } in cables
    {
        host.ip(&format!("link set dev {device} group default"))?;
    }
    Ok(())
}

/// [`Cable::mute`] for several cables within a fraction of a millisecond: to everybody else,
/// and to the machine itself, its world falls silent at once. Their second ends have to be
/// ports of switches on one machine.
///
/// # Errors
/// When they are not.
pub fn mute_at_once(cables: &[&Cable]) -> Result<(), LabError> {
    set_port_states(cables, PORT_DISABLED)
}

/// Ends [`mute_at_once`].
///
/// # Errors
/// As [`mute_at_once`].
pub fn unmute_at_once(cables: &[&Cable]) -> Result<(), LabError> {
    set_port_states(cables, PORT_FORWARDING)
}

/// States of a switch's port in the words of the spanning tree protocol, which does not run.
const PORT_DISABLED: u8 = 0;
const PORT_FORWARDING: u8 = 3;

fn set_port_states(cables: &[&Cable], state: u8) -> Result<(), LabError> {
    let Some(host) = common_end(cables)? else {
        return Ok(());
    };
    let lines: String = cables
        .iter()
        .map(|Cable { b: (_, port), .. }| format!("link set dev {port} state {state}\n"))
        .collect();
    let file = host.write("ports.batch", &lines)?;
    host.run(&format!("bridge -batch {}", file.display()))?;
    Ok(())
}

/// The one machine on which all second ends are; `None` for no cables.
fn common_end<'a>(cables: &[&'a Cable]) -> Result<Option<&'a Host>, LabError> {
    let Some((Cable { b: (first, _), .. }, others)) = cables.split_first() else {
        return Ok(None);
    };
    match others.iter().find(|other| !other.b.0.same_as(first)) {
        None => Ok(Some(first)),
        Some(other) => Err(LabError::unreadable(
            "cables that end on one machine",
            &format!("{} and {}", first.name(), other.b.0.name()),
        )),
    }
}

/// A link group that means nothing else.
const PULLED: u32 = 77;

/// A switch: a bridge on a machine that may carry several.
#[derive(Debug, Clone)]
pub struct Bridge {
    host: Host,
    name: String,
}

impl Bridge {
    /// Makes the device `name` on a machine.
    ///
    /// # Errors
    /// When the kernel has no bridges, or the name is taken.
    pub fn new(host: &Host, name: &str) -> Result<Self, LabError> {
        host.ip(&format!("link add {name} type bridge forward_delay 0"))?;
        host.ip(&format!("link set {name} up"))?;
        Ok(Self {
            host: host.clone(),
            name: name.to_owned(),
        })
    }

    /// Plugs device `device` of `host` into the switch.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn plug(&self, host: &Host, device: &str) -> Result<Cable, LabError> {
        // Fifteen characters are all that a device may have.
        let port = format!("{:.8}-{:.6}", host.name(), self.name);
        let cable = Cable::plug((host, device), (&self.host, &port))?;
        self.host
            .ip(&format!("link set {port} master {}", self.name))?;
        Ok(cable)
    }

    /// The machine; a capture on its device of the switch's name sees what is flooded.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }
}
