//! What people have today: keepalived moves the address, strongSwan negotiates anew. Our own
//! pair is measured against this, so it has to work as well as it can.

use std::time::Duration;

use netns_tests::pair::{BASELINE_NEEDS, Baseline, Watch};
use netns_tests::{Lab, scenario};

/// The active node disappears (all its cables at once). The gap is a new election and a whole
/// new negotiation.
#[test]
fn keepalived_and_strongswan_take_over() {
    scenario(BASELINE_NEEDS, || {
        let pair = Baseline::start(&Lab::new()?, Duration::from_millis(100))?;
        let watch = Watch::start(&pair.net, Duration::from_secs(20))?;
        let event = watch.during("the active node disappears", || pair.net.nodes[0].vanish())?;
        let evidence = watch.finish()?;
        let cost = evidence.cost(&event);
        println!("{cost:?}");
        assert!(cost.gap() > Duration::from_millis(200), "{cost:?}");
        assert!(cost.gap() < Duration::from_secs(10), "{cost:?}");
        assert!(cost.lost() > 200, "{cost:?}");
        // Main mode and quick mode are nine messages at least, and a new SA comes of them.
        assert!(cost.ike >= 9, "{cost:?}");
        assert_eq!(cost.new_spis, 1, "{cost:?}");
        assert_eq!(cost.contested, 0, "{cost:?}");
        assert_eq!(pair.charons[1].installed()?.len(), 1);
        // Only one of the two has ever held each number, so the captures read as they should.
        assert_eq!(evidence.whole().repeated_ivs, 0, "{cost:?}");
        Ok(())
    });
}
