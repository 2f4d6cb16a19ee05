//! One task for each real link: answers for the virtual addresses under the lease, announces
//! them after a takeover, and looks for a third machine that uses them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use ha_keepalive::io::announce::{Announcer, Check, Duplicate, DuplicateCheck};
use ha_keepalive::io::arp::Heard;
use ha_keepalive::io::clock::boot_time;
use ha_keepalive::io::responder::{Responder, ResponderCounters};
use ipsec_types::SendGate;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::Interest;
use tokio::net::UnixDatagram as Readiness;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, Instant, sleep_until};
use tracing::warn;

use super::News;
use super::virtual_mac::VirtualMacs;
use crate::config::VirtualAddress;

/// How often the address is announced again while this node is active: for a switch that has
/// forgotten.
const REFRESH: Duration = Duration::from_secs(30);
/// A third machine is named in the log at most this often.
const CONFLICT_PAUSE: Duration = Duration::from_secs(10);
/// No timer is further away: a clock that jumped is noticed.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What a link task is told.
enum Order {
    /// The addresses are here: say so, now and for a while.
    Announce,
    /// They are not.
    Rest,
    /// Does somebody else have them?
    Probe(oneshot::Sender<Result<(), Duplicate>>),
}

/// The tasks of all links.
pub(super) struct Links {
    tasks: Vec<(String, mpsc::UnboundedSender<Order>)>,
    counted: Vec<Rc<Cell<ResponderCounters>>>,
}

impl Links {
    /// Opens the packet sockets and starts the tasks.
    ///
    /// # Errors
    /// No such link, or no permission.
    pub(super) fn open(
        specs: &[VirtualAddress],
        macs: &VirtualMacs,
        gate: &Arc<SendGate>,
        news: &mpsc::UnboundedSender<News>,
    ) -> Result<Self, (String, io::Error)> {
        let mut by_link: BTreeMap<&str, Vec<IpAddr>> = BTreeMap::new();
        for spec in specs {
            let addresses = by_link.entry(&spec.link).or_default();
            addresses.push(spec.address.addr());
        }
        let (mut tasks, mut counted) = (Vec::new(), Vec::new());
        for (link, addresses) in by_link {
            let named = |error| (link.to_owned(), error);
            let responders =
                Responder::open(link, macs.of_link(link), &addresses, gate).map_err(named)?;
            let watched = responders
                .into_iter()
                .map(|responder| {
                    let descriptor =
                        std::os::fd::AsFd::as_fd(responder.socket()).try_clone_to_owned()?;
                    Ok((responder, Readiness::from_std(descriptor.into())?))
                })
                .collect::<io::Result<Vec<_>>>()
                .map_err(named)?;
            let (sender, orders) = mpsc::unbounded_channel();
            let counters = Rc::new(Cell::new(ResponderCounters::default()));
            counted.push(Rc::clone(&counters));
            let task = LinkTask {
                link: link.to_owned(),
                watched,
                orders,
                gate: Arc::clone(gate),
                announcer: Announcer::new(Some(REFRESH)),
                probing: None,
                news: news.clone(),
                named_at: None,
                counters,
            };
            tokio::task::spawn_local(task.run());
            tasks.push((link.to_owned(), sender));
        }
        Ok(Self { tasks, counted })
    }

    /// Gratuitous ARP and unsolicited neighbour advertisements on every link.
    pub(super) fn announce(&self) {
        self.tell(|| Order::Announce);
    }

    /// No more announcements.
    pub(super) fn rest(&self) {
        self.tell(|| Order::Rest);
    }

    fn tell(&self, order: impl Fn() -> Order) {
        for (_, task) in &self.tasks {
            // A task ends only with its link, which the link watch reports.
            let _ = task.send(order());
        }
    }

    /// Asks every link whether a third machine uses an address; the future says who.
    pub(super) fn probe(&self) -> impl Future<Output = Result<(), String>> + 'static {
        let answers: Vec<_> = self
            .tasks
            .iter()
            .map(|(link, task)| {
                let (sender, answer) = oneshot::channel();
                let _ = task.send(Order::Probe(sender));
                (link.clone(), answer)
            })
            .collect();
        async move {
            for (link, answer) in answers {
                match answer.await {
                    Ok(Ok(())) => {}
                    Ok(Err(duplicate)) => {
                        return Err(format!(
                            "{duplicate} on {link}: find that machine; this node does not fight for the address"
                        ));
                    }
                    Err(_) => return Err(format!("link {link} cannot be probed")),
                }
            }
            Ok(())
        }
    }

    /// What the links counted, summed up.
    pub(super) fn counters(&self) -> ResponderCounters {
        let all = self.counted.iter().map(|counted| counted.get());
        all.fold(ResponderCounters::default(), add)
    }
}

const fn add(a: ResponderCounters, b: ResponderCounters) -> ResponderCounters {
    ResponderCounters {
        answered: a.answered + b.answered,
        gate_closed: a.gate_closed + b.gate_closed,
        conflicts: a.conflicts + b.conflicts,
        send_failed: a.send_failed + b.send_failed,
    }
}

type Probe = (Vec<DuplicateCheck>, oneshot::Sender<Result<(), Duplicate>>);

struct LinkTask {
    link: String,
    /// The second is the event loop's view of the first one's descriptor: it is asked for
    /// readiness and nothing else, so that it stands on a Unix socket type does not matter.
    watched: Vec<(Responder, Readiness)>,
    orders: mpsc::UnboundedReceiver<Order>,
    gate: Arc<SendGate>,
    announcer: Announcer,
    probing: Option<Probe>,
    news: mpsc::UnboundedSender<News>,
    named_at: Option<Duration>,
    /// For everybody to see.
    counters: Rc<Cell<ResponderCounters>>,
}

enum Wake {
    Order(Option<Order>),
    Readable(usize),
    Timer,
}

impl LinkTask {
    async fn run(mut self) {
        loop {
            let deadline = self.deadline();
            let wake = tokio::select! {
                biased;
                order = self.orders.recv() => Wake::Order(order),
                () = sleep_until(deadline) => Wake::Timer,
                index = readable(&self.watched) => Wake::Readable(index),
            };
            match wake {
                Wake::Order(None) => return,
                Wake::Order(Some(order)) => self.obey(order),
                Wake::Readable(index) => {
                    self.read(index);
                    // A flood on the link has the thread for one batch at a time.
                    tokio::task::yield_now().await;
                }
                Wake::Timer => {}
            }
            self.handle_timeout();
            let counted = self
                .watched
                .iter()
                .map(|(responder, _)| *responder.counters());
            self.counters
                .set(counted.fold(ResponderCounters::default(), add));
        }
    }

    fn deadline(&self) -> Instant {
        let now = boot_time();
        let probes = self.probing.iter().flat_map(|(checks, _)| checks);
        let next = probes
            .map(DuplicateCheck::poll_timeout)
            .chain(self.announcer.poll_timeout())
            .min()
            .unwrap_or(now + LONGEST_WAIT);
        Instant::now() + next.saturating_sub(now).min(LONGEST_WAIT)
    }

    /// Those that hear the whole link.
    fn on_link(&self) -> impl Iterator<Item = &Responder> {
        let all = self.watched.iter().map(|(responder, _)| responder);
        all.filter(|responder| responder.is_on_link())
    }

    fn obey(&mut self, order: Order) {
        let now = boot_time();
        match order {
            Order::Announce => self.announcer.begin(now),
            Order::Rest => self.announcer.stop(),
            Order::Probe(answer) => {
                let checks = self.on_link().flat_map(|responder| {
                    // A partner that still says it has them counts, also with the same virtual
                    // MAC: the probe comes from the link's own.
                    let mac = responder.socket().mac();
                    let addresses = responder.addresses().iter();
                    addresses.map(move |address| DuplicateCheck::new(*address, mac, now))
                });
                self.probing = Some((checks.collect(), answer));
            }
        }
    }

    fn read(&mut self, index: usize) {
        let now = boot_time();
        let Some((responder, _)) = self.watched.get_mut(index) else {
            return;
        };
        let heard = match responder.handle_readable() {
            Ok(heard) => heard,
            Err(error) => {
                // A link that goes down reports that on the socket once.
                tracing::debug!(link = self.link, %error, "packet socket");
                return;
            }
        };
        for heard in heard {
            self.judge(now, heard);
        }
    }

    /// During a probe, and while we have the address: a claim by another machine.
    fn judge(&mut self, now: Duration, heard: Heard) {
        if let Some((checks, _)) = &self.probing
            && let Some(duplicate) = checks.iter().find_map(|check| check.handle(heard).err())
        {
            self.end_probe(Err(duplicate));
            return;
        }
        let Heard::Claim { address, mac } = heard else {
            return;
        };
        let ours = self.on_link().any(|responder| responder.mac() == mac);
        if ours && !self.gate.is_open(now) {
            // Only the partner has the same virtual MAC, and the lease keeps us silent.
            let _ = self.news.send(News::MacMoved(self.link.clone()));
            return;
        }
        let recent = self
            .named_at
            .is_some_and(|at| now.saturating_sub(at) < CONFLICT_PAUSE);
        if self.gate.is_open(now) && !recent {
            self.named_at = Some(now);
            warn!(link = self.link, %address, %mac, "another machine answers for the virtual address while this node is active: if it is not the partner after a split, find it");
            let _ = self.news.send(News::Conflict);
        }
    }

    fn end_probe(&mut self, outcome: Result<(), Duplicate>) {
        if let Some((_, answer)) = self.probing.take() {
            // A takeover that was given up does not wait for the answer any more.
            let _ = answer.send(outcome);
        }
    }

    fn handle_timeout(&mut self) {
        let now = boot_time();
        if self.announcer.handle_timeout(now) {
            let responders = self.watched.iter_mut().map(|(responder, _)| responder);
            for responder in responders.filter(|responder| responder.is_on_link()) {
                responder.announce(now);
            }
        }
        let Some((checks, _)) = &mut self.probing else {
            return;
        };
        let mut all_free = true;
        let on_link = self.watched.iter().map(|(responder, _)| responder);
        let addresses: Vec<(IpAddr, Check)> = on_link
            .filter(|responder| responder.is_on_link())
            .flat_map(Responder::addresses)
            .copied()
            .zip(checks.iter_mut().map(|check| check.handle_timeout(now)))
            .collect();
        for (address, check) in addresses {
            all_free &= check == Check::Free;
            if check == Check::Probe {
                let asked = self
                    .on_link()
                    .filter(|responder| responder.addresses().contains(&address))
                    .map(|responder| responder.probe(address));
                // A link that is down has no third machine on it either.
                asked.for_each(drop);
            }
        }
        if all_free {
            self.end_probe(Ok(()));
        }
    }
}

/// The index of a socket that has something to read.
async fn readable(watched: &[(Responder, Readiness)]) -> usize {
    let waiting = watched.iter().enumerate().map(|(index, (_, ready))| {
        Box::pin(async move {
            while ready.readable().await.is_ok() {
                // A batch is bounded, so the readiness is given up only when all is read.
                if has_more(ready) {
                    return index;
                }
                let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
                let _given_up = ready.try_io(Interest::READABLE, nothing);
            }
            core::future::pending().await
        })
    });
    let mut waiting: Vec<_> = waiting.collect();
    core::future::poll_fn(move |context| {
        for future in &mut waiting {
            if let core::task::Poll::Ready(index) = future.as_mut().poll(context) {
                return core::task::Poll::Ready(index);
            }
        }
        core::task::Poll::Pending
    })
    .await
}

fn has_more(descriptor: &Readiness) -> bool {
    let mut watched = [PollFd::new(descriptor, PollFlags::IN)];
    poll(&mut watched, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}
