//! What is on a wire, by `tcpdump`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::LabError;
use crate::lab::{Background, Host, wait_for};

/// Looks without a change after which a count stands still.
const STANDSTILL: u32 = 20;

/// How long tcpdump may take to write down what it has seen.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    process: Background,
    file: PathBuf,
}

impl Capture {
    /// Captures on a device of a host; `filter` is tcpdump's, empty for everything.
    ///
    /// # Errors
    /// When `tcpdump` does not start.
    pub fn start(host: &Host, device: &str, filter: &str) -> Result<Self, LabError> {
        // Debian's AppArmor profile lets tcpdump write to names that end in .pcap only.
        let file = host.directory().join(format!("{device}.pcap"));
        let mut command = host.command("tcpdump");
        command.args(["-i", device, "-n", "-U", "-Z", "root", "--immediate-mode"]);
        // The kernel's buffer has slots of the snapshot length: with the default one it holds
        // eight packets.
        command.args(["-s", "9216", "-B", "32768"]);
        command.arg("-w").arg(&file).args(filter.split_whitespace());
        let mut process = host.spawn("tcpdump", command)?;
        process.wait_for_line("listening on", PATIENCE)?;
        Ok(Self { process, file })
    }

    /// Ends the capture once every packet that passed is in the file, and says where it is.
    ///
    /// # Errors
    /// When packets were lost on the way to the file, or `tcpdump` does not end.
    pub fn finish(mut self) -> Result<PathBuf, LabError> {
        // "Received" may include one that came before the filter was in place, so a count that
        // stands still is as good as an equal one.
        let (mut last, mut standing) = (0, 0);
        wait_for("tcpdump to have written every packet", PATIENCE, || {
            let before = self.process.log().lines().count();
            // Prints "N packets captured, M packets received by filter, K packets dropped by
            // kernel".
            self.process.signal(Signal::USR1)?;
            let counts = wait_for("tcpdump's counters", PATIENCE, || {
                let log = self.process.log();
                let line = log.lines().nth(before).map(numbers);
                Ok(line.filter(|counts| counts.len() >= 3))
            })?;
            let &[captured, received, dropped] = counts.as_slice() else {
                return Err(LabError::unreadable(
                    "tcpdump's counters",
                    &self.process.log(),
                ));
            };
            if dropped > 0 {
                return Err(LabError::Damaged(format!("tcpdump lost {dropped} packets")));
            }
            standing = if captured == last { standing + 1 } else { 0 };
            last = captured;
            Ok((captured == received || standing >= STANDSTILL).then_some(()))
        })?;
        self.process.signal(Signal::INT)?;
        self.process.wait(PATIENCE)?;
        Ok(self.file.clone())
    }

    /// The file; packets are in it as soon as they were seen.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }
}

fn numbers(line: &str) -> Vec<u64> {
    line.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}
