//! The election as a table: for every state and every event, the next state and what to do.
//!
//! Events are judged before they come here (who outranks whom, whether this node is fit, whether
//! an answer is newer than the question), so the table has no conditions. No arm is a wildcard:
//! a new state or event does not compile until each of its cells has been thought about. The test
//! beside it lists the same cells as text.

use serde::Serialize;

/// Where a node stands. [`State::role`] is what it shows to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Just started; listens for an active node.
    Init,
    /// Mute; ready to take over.
    Standby,
    /// Makes ready for a planned switchover, accepts it, and awaits the release.
    TakingOver,
    /// Holds the claim; speaks while the lease holds.
    Active,
    /// Held the claim and found the lease expired; silent; awaits an answer of the pair.
    Asking,
    /// Offered a planned switchover; still active; awaits the partner's acceptance, then the
    /// end of its own draining.
    HandingOver,
    /// Everything is handed over; silent; awaits the partner's first active advert.
    Released,
    /// Stopped for good.
    Stopped,
}

/// What happened, already judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The partner is active, and its claim outranks ours or we have none.
    PeerLeads,
    /// The partner is active, and our claim outranks its.
    PeerTrails,
    /// The partner lost its lease and asks.
    PeerAsks,
    /// The partner is mute, and answered what we said last.
    PeerFollows,
    /// The partner has just started.
    PeerStarts,
    /// The partner was active and has left on purpose, or somebody was since our claim.
    PeerResigned,
    /// Nothing was heard from an active partner for the whole patience, and we are fit.
    PeerSilent,
    /// The partner's process is proven dead, and we are fit.
    PeerDead,
    /// The partner is mute, and may have served above our numbers while it was not heard.
    PeerServed,
    /// Our lease ran out unrenewed.
    LeaseLost,
    /// Nobody answered our question for the whole patience.
    AskUnanswered,
    /// We are not fit to be active and the partner is.
    Unfit,
    /// A planned switchover is wanted, and nothing speaks against it.
    SwitchoverWanted,
    /// The partner offers its role, and we are ready.
    Offered,
    /// The partner offers its role, and we are not ready.
    OfferedUnready,
    /// The partner accepted our offer.
    Accepted,
    /// All records are written, nothing more will be sent.
    Drained,
    /// The partner has released its role to us.
    ReleasedToUs,
    /// The switchover is off: declined, called off, timed out, or the sync connection broke.
    HandoverOff,
    /// The daemon stops.
    Stop,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Nothing.
    Stay,
    /// Send an advert at once.
    Answer,
    /// Become, or remain, the partner's mute follower.
    Follow,
    /// Take the role with a new epoch, above the replicated ceilings or cold.
    Claim,
    /// Take the role with a new epoch and exact numbers: the partner has handed them over.
    ClaimHanded,
    /// Take the role again with a new epoch, far above all that a partner could have sent.
    Reclaim,
    /// Go on under the same claim: the partner is mute and will stay so.
    Resume,
    /// Fall silent and ask the pair.
    Ask,
    /// Fall silent and leave: the partner leads.
    Yield,
    /// Fall silent, leave, and say so.
    Resign,
    /// Stop without having been active.
    Leave,
    /// Ask the active partner for a switchover.
    Request,
    /// Tell the operator that it cannot be done now.
    Refuse,
    /// Offer the role to the partner.
    Offer,
    /// Make ready for the role, and accept the partner's offer once that is done.
    Prepare,
    /// Decline the partner's offer or release.
    Decline,
    /// Tell the partner that nothing is on, and go on as before.
    CallOff,
    /// Stop originating and write the last records.
    Drain,
    /// Leave the addresses and hand the role over.
    Release,
}

/// One cell of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// The state after the event.
    pub next: State,
    /// What the transition does.
    pub act: Act,
}

const fn to(next: State, act: Act) -> Cell {
    Cell { next, act }
}

impl State {
    /// Every state, in the order of the table.
    pub const ALL: [Self; 8] = [
        Self::Init,
        Self::Standby,
        Self::TakingOver,
        Self::Active,
        Self::Asking,
        Self::HandingOver,
        Self::Released,
        Self::Stopped,
    ];

    /// True in the states that may hold a lease.
    #[must_use]
    pub const fn may_speak(self) -> bool {
        match self {
            Self::Active | Self::HandingOver => true,
            Self::Init
            | Self::Standby
            | Self::TakingOver
            | Self::Asking
            | Self::Released
            | Self::Stopped => false,
        }
    }

    /// The cell of this state for one event.
    #[must_use]
    pub const fn on(self, event: Event) -> Cell {
        match self {
            Self::Init => init(event),
            Self::Standby => standby(event),
            Self::TakingOver => taking_over(event),
            Self::Active => active(event),
            Self::Asking => asking(event),
            Self::HandingOver => handing_over(event),
            Self::Released => released(event),
            Self::Stopped => to(Self::Stopped, Act::Stay),
        }
    }
}

impl Event {
    /// Every event, in the order of the table.
    pub const ALL: [Self; 20] = [
        Self::PeerLeads,
        Self::PeerTrails,
        Self::PeerAsks,
        Self::PeerFollows,
        Self::PeerStarts,
        Self::PeerResigned,
        Self::PeerSilent,
        Self::PeerDead,
        Self::PeerServed,
        Self::LeaseLost,
        Self::AskUnanswered,
        Self::Unfit,
        Self::SwitchoverWanted,
        Self::Offered,
        Self::OfferedUnready,
        Self::Accepted,
        Self::Drained,
        Self::ReleasedToUs,
        Self::HandoverOff,
        Self::Stop,
    ];
}

const fn init(event: Event) -> Cell {
    match event {
        Event::PeerLeads | Event::PeerTrails => to(State::Standby, Act::Follow),
        // It holds a claim and we do not: our answer lets it go on.
        Event::PeerAsks => to(State::Standby, Act::Answer),
        Event::PeerResigned | Event::PeerSilent | Event::PeerDead => to(State::Active, Act::Claim),
        Event::SwitchoverWanted => to(State::Init, Act::Refuse),
        // Nothing was accepted in this run: whoever releases to us must take the role back.
        Event::Offered | Event::OfferedUnready | Event::ReleasedToUs => {
            to(State::Init, Act::Decline)
        }
        Event::Accepted => to(State::Init, Act::CallOff),
        Event::PeerFollows
        | Event::PeerStarts
        | Event::PeerServed
        | Event::LeaseLost
        | Event::AskUnanswered
        | Event::Unfit
        | Event::Drained
        | Event::HandoverOff => to(State::Init, Act::Stay),
        Event::Stop => to(State::Stopped, Act::Leave),
    }
}

const fn standby(event: Event) -> Cell {
    match event {
        Event::PeerAsks => to(State::Standby, Act::Answer),
        Event::PeerResigned | Event::PeerSilent | Event::PeerDead => to(State::Active, Act::Claim),
        Event::SwitchoverWanted => to(State::Standby, Act::Request),
        Event::Offered => to(State::TakingOver, Act::Prepare),
        Event::OfferedUnready | Event::ReleasedToUs => to(State::Standby, Act::Decline),
        Event::Accepted => to(State::Standby, Act::CallOff),
        Event::PeerLeads
        | Event::PeerTrails
        | Event::PeerFollows
        | Event::PeerStarts
        | Event::PeerServed
        | Event::LeaseLost
        | Event::AskUnanswered
        | Event::Unfit
        | Event::Drained
        | Event::HandoverOff => to(State::Standby, Act::Stay),
        Event::Stop => to(State::Stopped, Act::Leave),
    }
}

const fn taking_over(event: Event) -> Cell {
    match event {
        // It was stopped in the middle of its own offer. Our answer, from Standby, lets it go
        // on; a release that is still on its way will be declined there.
        Event::PeerAsks => to(State::Standby, Act::Answer),
        Event::PeerResigned | Event::PeerSilent | Event::PeerDead => to(State::Active, Act::Claim),
        Event::Unfit | Event::OfferedUnready => to(State::Standby, Act::Decline),
        Event::Offered => to(State::TakingOver, Act::Prepare),
        Event::ReleasedToUs => to(State::Active, Act::ClaimHanded),
        Event::HandoverOff => to(State::Standby, Act::Follow),
        Event::PeerLeads
        | Event::PeerTrails
        | Event::PeerFollows
        | Event::PeerStarts
        | Event::PeerServed
        | Event::LeaseLost
        | Event::AskUnanswered
        | Event::SwitchoverWanted
        | Event::Accepted
        | Event::Drained => to(State::TakingOver, Act::Stay),
        Event::Stop => to(State::Stopped, Act::Decline),
    }
}

const fn active(event: Event) -> Cell {
    match event {
        Event::PeerLeads => to(State::Standby, Act::Yield),
        Event::PeerTrails | Event::PeerAsks | Event::PeerStarts => to(State::Active, Act::Answer),
        // Go on, but above all that it may have sent, and announced again.
        Event::PeerServed => to(State::Active, Act::Reclaim),
        Event::LeaseLost => to(State::Asking, Act::Ask),
        Event::Unfit => to(State::Standby, Act::Resign),
        Event::SwitchoverWanted => to(State::HandingOver, Act::Offer),
        Event::Offered | Event::OfferedUnready | Event::ReleasedToUs => {
            to(State::Active, Act::Decline)
        }
        Event::Accepted => to(State::Active, Act::CallOff),
        Event::PeerFollows
        | Event::PeerResigned
        | Event::PeerSilent
        | Event::PeerDead
        | Event::AskUnanswered
        | Event::Drained
        | Event::HandoverOff => to(State::Active, Act::Stay),
        Event::Stop => to(State::Stopped, Act::Resign),
    }
}

const fn asking(event: Event) -> Cell {
    match event {
        // Whoever holds a lease outranks whoever lost it.
        Event::PeerLeads | Event::PeerTrails => to(State::Standby, Act::Yield),
        Event::PeerAsks => to(State::Asking, Act::Answer),
        Event::PeerFollows => to(State::Active, Act::Resume),
        // Somebody else may have served since: go on, but far above.
        Event::PeerStarts
        | Event::PeerResigned
        | Event::PeerDead
        | Event::PeerServed
        | Event::AskUnanswered => to(State::Active, Act::Reclaim),
        Event::Unfit => to(State::Standby, Act::Resign),
        Event::SwitchoverWanted => to(State::Asking, Act::Refuse),
        Event::Offered | Event::OfferedUnready | Event::ReleasedToUs => {
            to(State::Asking, Act::Decline)
        }
        Event::Accepted => to(State::Asking, Act::CallOff),
        Event::PeerSilent | Event::LeaseLost | Event::Drained | Event::HandoverOff => {
            to(State::Asking, Act::Stay)
        }
        Event::Stop => to(State::Stopped, Act::Resign),
    }
}

const fn handing_over(event: Event) -> Cell {
    match event {
        Event::PeerLeads => to(State::Standby, Act::Yield),
        Event::PeerTrails | Event::PeerAsks => to(State::HandingOver, Act::Answer),
        Event::PeerStarts | Event::PeerSilent | Event::PeerDead | Event::HandoverOff => {
            to(State::Active, Act::CallOff)
        }
        Event::PeerServed => to(State::Active, Act::Reclaim),
        Event::LeaseLost => to(State::Asking, Act::Ask),
        Event::Accepted => to(State::HandingOver, Act::Drain),
        Event::Drained => to(State::Released, Act::Release),
        Event::Offered | Event::OfferedUnready | Event::ReleasedToUs => {
            to(State::HandingOver, Act::Decline)
        }
        // The switchover under way is the quickest lossless way out.
        Event::Unfit
        | Event::PeerFollows
        | Event::PeerResigned
        | Event::AskUnanswered
        | Event::SwitchoverWanted => to(State::HandingOver, Act::Stay),
        Event::Stop => to(State::Stopped, Act::Resign),
    }
}

const fn released(event: Event) -> Cell {
    match event {
        Event::PeerLeads | Event::PeerTrails => to(State::Standby, Act::Follow),
        // It took the role and was stopped: it holds the claim, and our advert lets it go on.
        Event::PeerAsks => to(State::Standby, Act::Follow),
        // Its word comes on the sync connection, in order with our release; a mute advert may
        // be older than the release and proves nothing.
        Event::PeerFollows => to(State::Released, Act::Stay),
        Event::PeerStarts | Event::PeerResigned | Event::PeerDead | Event::PeerServed => {
            to(State::Active, Act::Reclaim)
        }
        // Declined, or unknown: ask. An answer from Standby means that a release still under
        // way will be declined.
        Event::HandoverOff | Event::PeerSilent => to(State::Asking, Act::Ask),
        Event::SwitchoverWanted => to(State::Released, Act::Refuse),
        Event::Offered | Event::OfferedUnready | Event::ReleasedToUs => {
            to(State::Released, Act::Decline)
        }
        Event::LeaseLost
        | Event::AskUnanswered
        | Event::Unfit
        | Event::Accepted
        | Event::Drained => to(State::Released, Act::Stay),
        Event::Stop => to(State::Stopped, Act::Resign),
    }
}
