//! Commands that end, and processes that stay.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::wait::wait_for;
use crate::LabError;

/// What a finished command left behind.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output, as text.
    pub stdout: String,
    /// Standard error, as text.
    pub stderr: String,
}

impl Output {
    pub(crate) fn of(mut command: Command, words: &str) -> Result<Self, LabError> {
        let output = command
            .output()
            .map_err(LabError::at(format!("start `{words}`")))?;
        Ok(Self {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Turns any exit status but 0 into an error that carries the output.
    ///
    /// # Errors
    /// [`LabError::Command`].
    pub fn or_fail(self, host: &str, words: &str) -> Result<Self, LabError> {
        if self.status.success() {
            return Ok(self);
        }
        Err(LabError::Command {
            host: host.to_owned(),
            command: words.to_owned(),
            status: self.status.to_string(),
            output: format!("{}{}", self.stderr, self.stdout),
        })
    }

    /// Both streams; for programs that are undecided where to complain.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// A stopped thread stands as soon as it leaves the kernel.
const STOPS_WITHIN: Duration = Duration::from_secs(5);

/// True when every thread of a process is stopped (proc_pid_stat(5): state `T`).
fn all_stand(threads: &Path) -> io::Result<bool> {
    for thread in std::fs::read_dir(threads)? {
        let stat = std::fs::read_to_string(thread?.path().join("stat"))?;
        // The name before the state is in parentheses and may contain some itself.
        let state = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.chars().next());
        if state != Some('T') {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A process in the background; killed when dropped, and by the kernel when the lab dies.
#[derive(Debug)]
pub struct Background {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Background {
    pub(crate) fn start(name: &str, log: PathBuf, mut command: Command) -> Result<Self, LabError> {
        let open = || -> io::Result<(File, File)> {
            let file = File::create(&log)?;
            let same = file.try_clone()?;
            Ok((file, same))
        };
        let (stdout, stderr) = open().map_err(LabError::at(format!("log of {name}")))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .map_err(LabError::at(format!("start {name}")))?;
        Ok(Self {
            name: name.to_owned(),
            log,
            child,
        })
    }

    /// Process id, as `/proc` in the lab shows it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its output goes.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// All it has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        // A log that cannot be read is an empty one: the assertion on its content will say so.
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Waits until the log has a line with this text, and returns the line.
    ///
    /// # Errors
    /// [`LabError::Timeout`], or [`LabError::Ended`] when the process is gone without it.
    pub fn wait_for_line(&mut self, text: &str, patience: Duration) -> Result<String, LabError> {
        let what = format!("\"{text}\" in the log of {}", self.name);
        wait_for(&what, patience, || {
            let ended = self.exit_status()?;
            let log = self.log();
            match (log.lines().find(|line| line.contains(text)), ended) {
                (Some(line), _) => Ok(Some(line.to_owned())),
                (None, Some(status)) => Err(self.ended(status)),
                (None, None) => Ok(None),
            }
        })
    }

    /// `None` while it runs.
    ///
    /// # Errors
    /// When the process table says something impossible.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>, LabError> {
        self.child
            .try_wait()
            .map_err(LabError::at(format!("look at {}", self.name)))
    }

    /// An error while it does not run: for conditions that depend on it.
    ///
    /// # Errors
    /// [`LabError::Ended`].
    pub fn must_run(&mut self) -> Result<(), LabError> {
        match self.exit_status()? {
            None => Ok(()),
            Some(status) => Err(self.ended(status)),
        }
    }

    /// Sends a signal. A process that is gone already is not an error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn signal(&self, signal: Signal) -> Result<(), LabError> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let Some(pid) = pid else {
            return Ok(());
        };
        match kill_process(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(LabError::at(format!("signal {}", self.name))(errno)),
        }
    }

    /// Stops it (SIGSTOP), and returns once all its threads stand.
    ///
    /// # Errors
    /// [`LabError::Timeout`] when one of them goes on, [`LabError::Io`] when it is dead.
    pub fn suspend(&self) -> Result<(), LabError> {
        self.signal(Signal::STOP)?;
        let threads = format!("/proc/{}/task", self.child.id());
        let what = format!("{} to stand", self.name);
        wait_for(&what, STOPS_WITHIN, || {
            Ok(all_stand(Path::new(&threads))
                .map_err(LabError::at(format!("look at {threads}")))?
                .then_some(()))
        })
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    ///
    /// # Errors
    /// [`LabError::Timeout`] when it does not care.
    pub fn stop(&mut self, patience: Duration) -> Result<ExitStatus, LabError> {
        self.signal(Signal::TERM)?;
        self.wait(patience)
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// [`LabError::Timeout`].
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus, LabError> {
        let what = format!("the end of {}", self.name);
        wait_for(&what, patience, || self.exit_status())
    }

    /// Kills it as a power failure would (SIGKILL) and waits until it is gone.
    ///
    /// # Errors
    /// When the process table says something impossible.
    pub fn kill(&mut self) -> Result<(), LabError> {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .map(|_status| ())
            .map_err(LabError::at(format!("kill {}", self.name)))
    }

    fn ended(&self, status: ExitStatus) -> LabError {
        LabError::Ended {
            name: self.name.clone(),
            status: status.to_string(),
            log: self.log.clone(),
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Fails only for a process that has been waited for already.
        let _gone = self.kill();
    }
}
