//! What is on a wire, by `dumpcap` (which comes with tshark, and unlike tcpdump works in a
//! user's namespaces).

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use super::pcap::{self, IpPacket};
use crate::LabError;
use crate::lab::{Background, Host, POLL, now, wait_for};

/// dumpcap flushes its file every half second; one that has not grown for twice that long
/// holds all there is.
const STANDSTILL: Duration = Duration::from_secs(1);

/// How long dumpcap may take to write down what it has seen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    process: Background,
    file: PathBuf,
}

impl Capture {
    /// Captures on a device of a host; `filter` is libpcap's, empty for everything.
    ///
    /// # Errors
    /// When `dumpcap` does not start.
    pub fn start(host: &Host, device: &str, filter: &str) -> Result<Self, LabError> {
        let file = host.directory().join(format!("{device}.pcap"));
        let mut command = host.command("dumpcap");
        command.args(["-i", device, "-q", "-P", "-f", filter]);
        // The kernel's buffer has slots of the snapshot length: with the default one it holds
        // eight packets.
        command.args(["-s", "9216", "-B", "32"]);
        command.arg("-w").arg(&file);
        let mut process = host.spawn("dumpcap", command)?;
        process.wait_for_line("File: ", PATIENCE)?;
        Ok(Self { process, file })
    }

    /// Waits until the packets captured so far satisfy a condition.
    ///
    /// # Errors
    /// [`LabError::Timeout`], or when the file cannot be read.
    pub fn wait_for<T>(
        &self,
        what: &str,
        mut condition: impl FnMut(&[IpPacket]) -> Option<T>,
    ) -> Result<T, LabError> {
        wait_for(what, PATIENCE, || {
            Ok(condition(&pcap::ipv4_packets(&self.file)?))
        })
    }

    /// Ends the capture once every packet that passed is in the file, and says where it is.
    ///
    /// # Errors
    /// When packets were lost on the way to the file, or `dumpcap` does not end.
    pub fn finish(mut self) -> Result<PathBuf, LabError> {
        self.wait_standstill()?;
        self.end()
    }

    /// Like [`Capture::finish`] on a wire that is never at rest: everything that passed before
    /// the call is in the file.
    ///
    /// # Errors
    /// As [`Capture::finish`].
    pub fn finish_busy(mut self) -> Result<PathBuf, LabError> {
        let asked = now();
        wait_for("a capture that has reached the present", PATIENCE, || {
            let newest = pcap::newest(&self.file)?;
            let waited = now().saturating_sub(asked) > 2 * STANDSTILL;
            Ok((newest > asked || waited).then_some(()))
        })?;
        self.end()
    }

    /// Waits until the file holds a packet that passed after a moment (Unix time).
    ///
    /// # Errors
    /// [`LabError::Timeout`] when none comes.
    pub fn wait_until(&self, moment: Duration) -> Result<(), LabError> {
        wait_for("a capture that has reached a moment", PATIENCE, || {
            Ok((pcap::newest(&self.file)? > moment).then_some(()))
        })
    }

    fn wait_standstill(&self) -> Result<(), LabError> {
        let (mut last, mut standing) = (0, Duration::ZERO);
        wait_for("a capture that does not grow any more", PATIENCE, || {
            let size = std::fs::metadata(&self.file)
                .map_err(LabError::at("look at the capture"))?
                .len();
            standing = if size == last {
                standing + POLL
            } else {
                Duration::ZERO
            };
            last = size;
            Ok((standing >= STANDSTILL).then_some(()))
        })
    }

    fn end(&mut self) -> Result<PathBuf, LabError> {
        self.process.signal(Signal::INT)?;
        self.process.wait(PATIENCE)?;
        let log = self.process.log();
        match dropped(&log) {
            Some(0) => Ok(self.file.clone()),
            Some(lost) => Err(LabError::Damaged(format!("dumpcap lost {lost} packets"))),
            None => Err(LabError::unreadable("dumpcap's last words", &log)),
        }
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }
}

/// `Packets received/dropped on interface 'wan': 6/0 (pcap:0/…)`.
fn dropped(log: &str) -> Option<u64> {
    let line = log.lines().find(|line| line.contains("received/dropped"))?;
    let (_received, rest) = line.rsplit_once("': ")?.1.split_once('/')?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drops_are_read_from_the_last_words() {
        let log = "Packets captured: 6\nPackets received/dropped on interface 'wan': 6/2 \
                   (pcap:2/dumpcap:0/flushed:0/ps_ifdrop:0) (75.0%)\n";
        assert_eq!(dropped(log), Some(2));
        assert_eq!(dropped("File: /run/lab/wan.pcap\n"), None);
    }
}
