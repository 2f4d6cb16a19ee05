//! A connection at run time: what is wanted, what there is, and how the ESP SA pairs of the
//! same selectors take turns.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use ipsec_types::{ConnectionId, SelectorPair, Spi};

use super::context::Context;
use crate::api::{DownReason, Event, Role, TimerName};
use crate::config::{Connection, RekeyPolicy, StartMode};
use crate::natt::Path;
use crate::phase2::NewPair;
use crate::sa::child::{Child, Stage, Succession, owner};
use crate::wire::CookiePair;

/// How long an initiator waits before it moves traffic from an old pair to a new one: message
/// 3 is on its way, and a responder may install only when it has it.
pub(super) const SWITCH_DELAY: Duration = Duration::from_secs(2);
/// The same after a commit bit, if CONNECTED never comes.
pub(super) const COMMIT_PATIENCE: Duration = Duration::from_secs(5);
/// First wait after a failed attempt to connect; doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(2);
/// Longest such wait.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// One connection.
pub(crate) struct Tunnel {
    pub(crate) config: Arc<Connection>,
    /// Selector pairs that we keep up by our own initiative.
    pub(crate) wanted: BTreeSet<SelectorPair>,
    /// Established IKE SAs, oldest first.
    pub(crate) ike_sas: Vec<CookiePair>,
    /// ESP SA pairs by inbound SPI.
    pub(crate) children: BTreeMap<Spi, Child>,
    /// Which round of PFS groups is next, where the first was refused.
    pub(crate) rounds: BTreeMap<SelectorPair, usize>,
    /// Failed attempts in a row.
    pub(crate) failures: u32,
    /// Not before this instant do we try again.
    pub(crate) retry_at: Option<Instant>,
    /// For the status.
    pub(crate) last_failure: Option<String>,
    /// Where the peer was last, for one whose address is not configured.
    pub(crate) last_path: Option<Path>,
    /// The last complaint about a first message, which anybody can forge.
    pub(crate) last_complaint: Option<Instant>,
    /// The last answer to an unknown SPI.
    pub(crate) last_unknown_spi: Option<Instant>,
    /// The peer may have forgotten everything: renegotiate the ESP SAs as soon as there is a
    /// new IKE SA.
    pub(crate) suspect: bool,
}

impl Tunnel {
    pub(crate) fn new(config: Arc<Connection>) -> Self {
        let wanted = match config.start {
            StartMode::OnStart => config.selectors.iter().copied().collect(),
            StartMode::OnTraffic | StartMode::Respond => BTreeSet::new(),
        };
        Self {
            config,
            wanted,
            ike_sas: Vec::new(),
            children: BTreeMap::new(),
            rounds: BTreeMap::new(),
            failures: 0,
            retry_at: None,
            last_failure: None,
            last_path: None,
            last_complaint: None,
            last_unknown_spi: None,
            suspect: false,
        }
    }

    pub(crate) fn id(&self) -> ConnectionId {
        self.config.id
    }

    /// The pair that carries outbound traffic for these selectors.
    pub(crate) fn in_use(&self, selectors: SelectorPair) -> Option<&Child> {
        self.children
            .values()
            .find(|child| child.selectors == selectors && child.stage == Stage::InUse)
    }

    /// Nothing at all is there: the peer is to be told (INITIAL-CONTACT).
    pub(crate) fn is_bare(&self) -> bool {
        self.ike_sas.is_empty() && self.children.is_empty()
    }

    /// It starts by itself, but somebody has taken it down.
    pub(crate) fn is_taken_down(&self) -> bool {
        self.config.start == StartMode::OnStart && self.wanted.is_empty()
    }

    /// Selector pairs that need a quick mode of ours, but for those that wait for their switch.
    pub(crate) fn due(&self) -> Vec<SelectorPair> {
        let rekeys = self
            .children
            .values()
            .filter(|child| child.rekey_due && child.stage == Stage::InUse)
            .map(|child| child.selectors);
        let missing = self
            .wanted
            .iter()
            .copied()
            .filter(|selectors| self.in_use(*selectors).is_none());
        let due: BTreeSet<SelectorPair> = rekeys.chain(missing).collect();
        due.into_iter()
            .filter(|selectors| {
                !self
                    .children
                    .values()
                    .any(|child| child.selectors == *selectors && child.stage == Stage::Ready)
            })
            .collect()
    }

    /// A new pair opens inbound packets from now on.
    pub(crate) fn install(&mut self, new: NewPair, role: Role, began: Instant, cx: &mut Context) {
        let child = Child::new(&new.pair, new.proposal, role, began, cx.now);
        let timer = owner(self.id(), child.inbound);
        cx.timers.set(timer, TimerName::EspSaExpire, child.expires);
        let replaces = self.in_use(child.selectors).map(|current| current.inbound);
        self.children.insert(child.inbound, child);
        cx.emit(Event::EspSaUp {
            pair: Box::new(new.pair),
            replaces,
        });
        cx.mark_changed(self.id());
    }

    /// The peer has both directions of this pair: it takes over, or gives way to the one it
    /// crossed.
    pub(crate) fn activate(&mut self, inbound: Spi, cx: &mut Context) {
        let Some(new) = self.children.get(&inbound) else {
            return;
        };
        if new.stage != Stage::Ready {
            return;
        }
        cx.counters.totals.esp_sas += 1;
        self.rounds.remove(&new.selectors);
        let Some(current) = self.in_use(new.selectors) else {
            self.switch_to(inbound, cx);
            return;
        };
        let succession = new.follows(current);
        let selectors = new.selectors;
        if !succession.new_one_is_used() {
            self.retire(inbound, succession, cx);
            return;
        }
        let current = current.inbound;
        self.switch_to(inbound, cx);
        self.retire(current, succession, cx);
        if succession == Succession::Newer {
            self.retire_leftovers(selectors, cx);
        }
    }

    /// What earlier crossings have left beside the pair in use.
    fn retire_leftovers(&mut self, selectors: SelectorPair, cx: &mut Context) {
        let left: Vec<Spi> = self
            .children
            .values()
            .filter(|child| child.selectors == selectors && child.stage == Stage::Retiring)
            .map(|child| child.inbound)
            .collect();
        for inbound in left {
            self.retire(inbound, Succession::Newer, cx);
        }
    }

    /// Outbound traffic moves to this pair.
    pub(crate) fn switch_to(&mut self, inbound: Spi, cx: &mut Context) {
        let connection = self.id();
        let policy = self.config.phase2.rekey;
        let Some(child) = self.children.get_mut(&inbound) else {
            return;
        };
        child.stage = Stage::InUse;
        child.farewells = 0;
        let timer = owner(connection, inbound);
        let start = rekey_start(child.role, child.lifetime.time, policy, cx);
        let at = child.established + start;
        if at < child.expires {
            cx.timers.set(timer, TimerName::EspSaRekey, at);
        }
        cx.timers.cancel(timer, TimerName::OutboundSwitch);
        cx.timers.set(timer, TimerName::EspSaExpire, child.expires);
        cx.emit(Event::OutboundSwitch {
            connection,
            selectors: child.selectors,
            inbound,
            outbound: child.outbound,
        });
        cx.mark_changed(connection);
    }

    /// Another pair carries the traffic: this one opens what is on the way for a while. The
    /// grace begins when the peer has moved its traffic too, which an initiator puts off for
    /// [`SWITCH_DELAY`]: a shorter grace would end while the peer still sends here.
    fn retire(&mut self, inbound: Spi, succession: Succession, cx: &mut Context) {
        let connection = self.id();
        let grace = SWITCH_DELAY + self.config.phase2.grace * succession.grace_factor();
        let Some(child) = self.children.get_mut(&inbound) else {
            return;
        };
        child.stage = Stage::Retiring;
        child.rekey_due = false;
        child.farewells = succession.farewells();
        let timer = owner(connection, inbound);
        cx.timers.cancel(timer, TimerName::EspSaRekey);
        cx.timers.cancel(timer, TimerName::OutboundSwitch);
        let end = if succession.deletes(child.role) {
            child.expires.min(cx.now + grace)
        } else {
            child.expires
        };
        cx.timers.set(timer, TimerName::EspSaExpire, end);
        cx.mark_changed(connection);
    }

    /// A pair is gone. If it carried traffic and a sibling is left, the sibling takes over.
    pub(crate) fn remove(&mut self, inbound: Spi, reason: DownReason, cx: &mut Context) {
        let Some(child) = self.children.remove(&inbound) else {
            return;
        };
        cx.timers.cancel_all(owner(self.id(), inbound));
        cx.release_spi(inbound);
        cx.emit(Event::EspSaDown {
            connection: self.id(),
            inbound,
            outbound: child.outbound,
            selectors: child.selectors,
            reason,
        });
        cx.mark_changed(self.id());
        if child.stage == Stage::InUse {
            let heir = self
                .children
                .values()
                .filter(|sibling| sibling.selectors == child.selectors)
                .max_by_key(|sibling| sibling.established)
                .map(|sibling| sibling.inbound);
            if let Some(heir) = heir {
                self.switch_to(heir, cx);
            }
        }
    }

    /// Every pair goes.
    pub(crate) fn remove_all(&mut self, reason: DownReason, cx: &mut Context) {
        for child in self.children.values_mut() {
            // No heirs: each of them goes too.
            child.stage = Stage::Retiring;
        }
        let all: Vec<Spi> = self.children.keys().copied().collect();
        for inbound in all {
            self.remove(inbound, reason, cx);
        }
    }

    /// An attempt has failed: the next one waits, longer each time.
    pub(crate) fn back_off(&mut self, cx: &mut Context) {
        let doublings = self.failures.min(8);
        self.failures = self.failures.saturating_add(1);
        let wait = FIRST_RETRY
            .saturating_mul(1 << doublings)
            .min(LONGEST_RETRY);
        let wait = wait + cx.jitter(wait / 4);
        self.retry_at = Some(cx.now + wait);
    }

    /// Phase 1 has worked. Whether the tunnel does, phase 2 will tell: until then earlier
    /// failures count, so that a peer which refuses every quick mode is not asked too often.
    pub(crate) fn phase1_succeeded(&mut self) {
        self.retry_at = None;
        if self.due().is_empty() {
            self.succeed();
        }
    }

    /// Something has worked: no waiting, no old complaint.
    pub(crate) fn succeed(&mut self) {
        self.failures = 0;
        self.retry_at = None;
        self.last_failure = None;
    }
}

/// When the rekey of an SA starts, from its establishment. Whoever initiated it comes first;
/// the other side steps in only when that does not happen, so collisions stay rare.
pub(crate) fn rekey_start(
    role: Role,
    lifetime: Duration,
    policy: RekeyPolicy,
    cx: &mut Context,
) -> Duration {
    let early = match role {
        Role::Initiator => policy.margin + cx.jitter(policy.jitter),
        Role::Responder => policy.margin / 2 + cx.jitter(policy.margin / 4),
    };
    // A margin that eats up a short lifetime would rekey for ever.
    lifetime.saturating_sub(early.min(lifetime / 2))
}
