//! A receiver that rests when it is faster than what comes: packets gather meanwhile, and one
//! wake-up serves many. What network cards do with their interrupts, done by hand; it shows how
//! much of a way's cost is waking the receiver.

use std::io;
use std::thread;
use std::time::Duration;

use crate::load::Receiver;
use crate::net::End;
use crate::packet::BURST;
use crate::{tap, wires, xsk};

/// How long it rests.
pub(crate) const REST: Duration = Duration::from_micros(50);

struct Rested(Box<dyn Receiver>);

impl Receiver for Rested {
    fn receive(&mut self) -> io::Result<usize> {
        let count = self.0.receive()?;
        if (1..BURST / 2).contains(&count) {
            thread::sleep(REST);
        }
        Ok(count)
    }
}

fn rested(receiver: io::Result<Box<dyn Receiver>>) -> io::Result<Box<dyn Receiver>> {
    // Otherwise the kernel would make twice as much of it.
    rustix::thread::set_current_timer_slack(core::num::NonZero::new(1))?;
    Ok(Box::new(Rested(receiver?)))
}

/// [`wires::raw_receiver`], rested.
pub(crate) fn raw(end: &End) -> io::Result<Box<dyn Receiver>> {
    rested(wires::raw_receiver(end))
}

/// [`tap::v2`], rested.
pub(crate) fn v2(end: &End) -> io::Result<Box<dyn Receiver>> {
    rested(tap::v2(end))
}

/// [`xsk::generic_receiver`], rested.
pub(crate) fn generic(end: &End) -> io::Result<Box<dyn Receiver>> {
    rested(xsk::generic_receiver(end))
}
