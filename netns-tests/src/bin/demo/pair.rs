//! The second part: two gateways behind one address. A numbered packet crosses the tunnel
//! every millisecond in each direction, and after everything that happens the story says what
//! was lost, for how long nothing came, and what the peer saw of it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use netns_tests::pair::{Cost, Event, Ours, RATE, Settings, Watch};
use netns_tests::{Lab, LabError, Outcome, plot};

use crate::story::{Story, ms};

/// An event of the story takes milliseconds; a busy machine gets more.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the timeline is drawn, from where the demo is started.
const PICTURE: &str = "target/demo-timeline.svg";

const DRAWING: [&str; 6] = [
    "                              ┌─ gw-a ─┐",
    "peer-host ─── peer ─── WAN ───┤   ║    ├─── LAN ─── lan-host",
    "           strongSwan         └─ gw-b ─┘",
    "",
    "203.0.113.1 on the WAN and 10.1.0.1 on the LAN belong to whichever",
    "gateway is active; the peer knows of one gateway only",
];

struct Tale<'a> {
    story: &'a Story,
    watch: Watch,
    marks: Vec<(Duration, String)>,
}

pub(crate) fn tell(story: &Story) -> Outcome {
    story.chapter("The pair: one address, two gateways, and a peer that never notices");
    story.picture(&DRAWING.map(str::to_owned));
    let mut pair = Ours::start(&Lab::new()?, &Settings::default())?;
    story.step("gw-a is active, gw-b knows everything that it would need, the tunnel is up");
    let mut tale = Tale {
        story,
        watch: Watch::start(&pair.net, PATIENCE)?,
        marks: Vec::new(),
    };
    story.step(format!(
        "{RATE} numbered packets a second cross the tunnel, each way"
    ));
    tale.chapters(&mut pair)?;
    tale.draw(&pair)?;
    Ok(())
}

impl Tale<'_> {
    fn chapters(&mut self, pair: &mut Ours) -> Result<(), LabError> {
        self.happens("planned switchover", "vipsec switchover", || {
            pair.switchover(0)
        })?;
        self.whole(pair, "gw-a is standby now, and knows everything again")?;
        self.happens("kill -9", "kill -9 of the active daemon, on gw-b", || {
            pair.kill(1)
        })?;
        self.happens("rejoin", "gw-b is started again", || {
            pair.revive(1)?;
            pair.wait_ready().map(|_active| ())
        })?;
        self.story
            .detail("pair", "gw-b is standby, nothing was negotiated anew");
        self.happens(
            "cable",
            "the WAN cable of gw-a, which is active, is pulled",
            || pair.node(0).wan.pull(),
        )?;
        self.happens("plugged in", "the cable is plugged in again", || {
            pair.node(0).wan.replug()?;
            pair.wait_ready().map(|_active| ())
        })?;
        self.whole(
            pair,
            "gw-a is standby, and both are ready for the next time",
        )
    }

    /// Something happens, and is told with its cost.
    fn happens(
        &mut self,
        mark: &str,
        words: &str,
        act: impl FnOnce() -> Result<(), LabError>,
    ) -> Result<(), LabError> {
        let event = self.watch.during(words, act)?;
        self.marks.push((event.at, mark.to_owned()));
        self.story.step(words);
        self.tell(&event)
    }

    fn tell(&self, event: &Event) -> Result<(), LabError> {
        let cost = self.watch.cost_so_far(event)?;
        let Cost { out, back, .. } = &cost;
        self.story.detail(
            "lost",
            format!("{} of {} packets", cost.lost(), out.sent + back.sent),
        );
        self.story.detail("gap", ms(cost.gap()));
        let seen = match cost.ike {
            0 => "no IKE message".to_owned(),
            1 => "1 IKE message".to_owned(),
            several => format!("{several} IKE messages"),
        };
        self.story.detail("peer saw", seen);
        Ok(())
    }

    fn whole(&self, pair: &Ours, words: &str) -> Result<(), LabError> {
        pair.wait_ready()?;
        self.story.detail("pair", words);
        Ok(())
    }

    fn draw(self, pair: &Ours) -> Result<(), LabError> {
        let evidence = self.watch.finish()?;
        let whole = evidence.whole();
        self.story.step(format!(
            "over all: {} of {} packets lost, {} SAs negotiated anew, {} IVs used twice",
            whole.lost(),
            whole.out.sent + whole.back.sent,
            whole.new_spis.saturating_sub(1),
            whole.repeated_ivs,
        ));
        let sent = &evidence.out.sent;
        let (start, end) = (sent.first().copied(), sent.last().copied());
        let (start, end) = (start.unwrap_or_default(), end.unwrap_or_default());
        let [a, b] = &pair.net.nodes;
        let picture = plot::timeline(
            "A pair of vipsec gateways, 1,000 packets a second each way",
            &(start..end),
            &self.marks,
            &evidence,
            [a, b],
        );
        if let Some(folder) = Path::new(PICTURE).parent() {
            fs::create_dir_all(folder).map_err(LabError::at("make a place for the timeline"))?;
        }
        fs::write(PICTURE, picture).map_err(LabError::at("write the timeline"))?;
        self.story.detail("timeline", PICTURE);
        Ok(())
    }
}
