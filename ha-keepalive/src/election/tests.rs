use core::fmt::Write as _;

use super::*;

/// Every cell of the election: `event -> next state, act`. This is the documentation; whoever
/// changes a cell changes it here too, with a reason beside the cell in `table.rs`.
const TABLE: &str = "\
Init
    PeerLeads -> Standby Follow
    PeerTrails -> Standby Follow
    PeerAsks -> Standby Answer
    PeerFollows -> Init Stay
    PeerStarts -> Init Stay
    PeerResigned -> Active Claim
    PeerSilent -> Active Claim
    PeerDead -> Active Claim
    PeerServed -> Init Stay
    LeaseLost -> Init Stay
    AskUnanswered -> Init Stay
    Unfit -> Init Stay
    SwitchoverWanted -> Init Refuse
    Offered -> Init Decline
    OfferedUnready -> Init Decline
    Accepted -> Init CallOff
    Drained -> Init Stay
    ReleasedToUs -> Init Decline
    HandoverOff -> Init Stay
    Stop -> Stopped Leave
Standby
    PeerLeads -> Standby Stay
    PeerTrails -> Standby Stay
    PeerAsks -> Standby Answer
    PeerFollows -> Standby Stay
    PeerStarts -> Standby Stay
    PeerResigned -> Active Claim
    PeerSilent -> Active Claim
    PeerDead -> Active Claim
    PeerServed -> Standby Stay
    LeaseLost -> Standby Stay
    AskUnanswered -> Standby Stay
    Unfit -> Standby Stay
    SwitchoverWanted -> Standby Request
    Offered -> TakingOver Prepare
    OfferedUnready -> Standby Decline
    Accepted -> Standby CallOff
    Drained -> Standby Stay
    ReleasedToUs -> Standby Decline
    HandoverOff -> Standby Stay
    Stop -> Stopped Leave
TakingOver
    PeerLeads -> TakingOver Stay
    PeerTrails -> TakingOver Stay
    PeerAsks -> Standby Answer
    PeerFollows -> TakingOver Stay
    PeerStarts -> TakingOver Stay
    PeerResigned -> Active Claim
    PeerSilent -> Active Claim
    PeerDead -> Active Claim
    PeerServed -> TakingOver Stay
    LeaseLost -> TakingOver Stay
    AskUnanswered -> TakingOver Stay
    Unfit -> Standby Decline
    SwitchoverWanted -> TakingOver Stay
    Offered -> TakingOver Prepare
    OfferedUnready -> Standby Decline
    Accepted -> TakingOver Stay
    Drained -> TakingOver Stay
    ReleasedToUs -> Active ClaimHanded
    HandoverOff -> Standby Follow
    Stop -> Stopped Decline
Active
    PeerLeads -> Standby Yield
    PeerTrails -> Active Answer
    PeerAsks -> Active Answer
    PeerFollows -> Active Stay
    PeerStarts -> Active Answer
    PeerResigned -> Active Stay
    PeerSilent -> Active Stay
    PeerDead -> Active Stay
    PeerServed -> Active Reclaim
    LeaseLost -> Asking Ask
    AskUnanswered -> Active Stay
    Unfit -> Standby Resign
    SwitchoverWanted -> HandingOver Offer
    Offered -> Active Decline
    OfferedUnready -> Active Decline
    Accepted -> Active CallOff
    Drained -> Active Stay
    ReleasedToUs -> Active Decline
    HandoverOff -> Active Stay
    Stop -> Stopped Resign
Asking
    PeerLeads -> Standby Yield
    PeerTrails -> Standby Yield
    PeerAsks -> Asking Answer
    PeerFollows -> Active Resume
    PeerStarts -> Active Reclaim
    PeerResigned -> Active Reclaim
    PeerSilent -> Asking Stay
    PeerDead -> Active Reclaim
    PeerServed -> Active Reclaim
    LeaseLost -> Asking Stay
    AskUnanswered -> Active Reclaim
    Unfit -> Standby Resign
    SwitchoverWanted -> Asking Refuse
    Offered -> Asking Decline
    OfferedUnready -> Asking Decline
    Accepted -> Asking CallOff
    Drained -> Asking Stay
    ReleasedToUs -> Asking Decline
    HandoverOff -> Asking Stay
    Stop -> Stopped Resign
HandingOver
    PeerLeads -> Standby Yield
    PeerTrails -> HandingOver Answer
    PeerAsks -> HandingOver Answer
    PeerFollows -> HandingOver Stay
    PeerStarts -> Active CallOff
    PeerResigned -> HandingOver Stay
    PeerSilent -> Active CallOff
    PeerDead -> Active CallOff
    PeerServed -> Active Reclaim
    LeaseLost -> Asking Ask
    AskUnanswered -> HandingOver Stay
    Unfit -> HandingOver Stay
    SwitchoverWanted -> HandingOver Stay
    Offered -> HandingOver Decline
    OfferedUnready -> HandingOver Decline
    Accepted -> HandingOver Drain
    Drained -> Released Release
    ReleasedToUs -> HandingOver Decline
    HandoverOff -> Active CallOff
    Stop -> Stopped Resign
Released
    PeerLeads -> Standby Follow
    PeerTrails -> Standby Follow
    PeerAsks -> Standby Follow
    PeerFollows -> Released Stay
    PeerStarts -> Active Reclaim
    PeerResigned -> Active Reclaim
    PeerSilent -> Asking Ask
    PeerDead -> Active Reclaim
    PeerServed -> Active Reclaim
    LeaseLost -> Released Stay
    AskUnanswered -> Released Stay
    Unfit -> Released Stay
    SwitchoverWanted -> Released Refuse
    Offered -> Released Decline
    OfferedUnready -> Released Decline
    Accepted -> Released Stay
    Drained -> Released Stay
    ReleasedToUs -> Released Decline
    HandoverOff -> Asking Ask
    Stop -> Stopped Resign
Stopped
    PeerLeads -> Stopped Stay
    PeerTrails -> Stopped Stay
    PeerAsks -> Stopped Stay
    PeerFollows -> Stopped Stay
    PeerStarts -> Stopped Stay
    PeerResigned -> Stopped Stay
    PeerSilent -> Stopped Stay
    PeerDead -> Stopped Stay
    PeerServed -> Stopped Stay
    LeaseLost -> Stopped Stay
    AskUnanswered -> Stopped Stay
    Unfit -> Stopped Stay
    SwitchoverWanted -> Stopped Stay
    Offered -> Stopped Stay
    OfferedUnready -> Stopped Stay
    Accepted -> Stopped Stay
    Drained -> Stopped Stay
    ReleasedToUs -> Stopped Stay
    HandoverOff -> Stopped Stay
    Stop -> Stopped Stay
";

#[test]
fn the_table_is_as_documented() {
    let mut table = String::new();
    for state in State::ALL {
        writeln!(table, "{state:?}").unwrap();
        for event in Event::ALL {
            let cell = state.on(event);
            writeln!(table, "    {event:?} -> {:?} {:?}", cell.next, cell.act).unwrap();
        }
    }
    assert_eq!(table, TABLE);
}

#[test]
fn only_speaking_states_answer_for_the_address_and_claims_lead_there() {
    for state in State::ALL {
        for event in Event::ALL {
            let cell = state.on(event);
            let claims = matches!(
                cell.act,
                Act::Claim | Act::ClaimHanded | Act::Reclaim | Act::Resume
            );
            assert!(
                !claims || cell.next == State::Active,
                "{state:?} {event:?}: a claim leads to Active"
            );
            assert!(
                state.may_speak() || !cell.next.may_speak() || claims,
                "{state:?} {event:?}: nobody starts to speak without a claim"
            );
        }
    }
}
