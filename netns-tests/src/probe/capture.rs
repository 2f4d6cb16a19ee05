//! What is on a wire, by `tcpdump`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::LabError;
use crate::lab::{Background, Host};

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
        command.arg("-w").arg(&file).args(filter.split_whitespace());
        let mut process = host.spawn("tcpdump", command)?;
        process.wait_for_line("listening on", Duration::from_secs(10))?;
        Ok(Self { process, file })
    }

    /// Ends the capture and says where it is.
    ///
    /// # Errors
    /// When `tcpdump` does not end.
    pub fn finish(mut self) -> Result<PathBuf, LabError> {
        self.process.signal(Signal::INT)?;
        self.process.wait(Duration::from_secs(5))?;
        Ok(self.file.clone())
    }

    /// The file; packets are in it as soon as they were seen.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }
}
