//! Waiting for a condition instead of for a time.

use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::LabError;

/// How often a condition is looked at.
pub const POLL: Duration = Duration::from_millis(10);

/// Asks `condition` until it yields a value; `what` completes "waited in vain for …".
///
/// # Errors
/// [`LabError::Timeout`] after `patience`, or the first error of the condition itself.
pub fn wait_for<T>(
    what: &str,
    patience: Duration,
    mut condition: impl FnMut() -> Result<Option<T>, LabError>,
) -> Result<T, LabError> {
    let start = Instant::now();
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if start.elapsed() > patience {
            return Err(LabError::Timeout {
                what: what.to_owned(),
                waited: patience,
            });
        }
        thread::sleep(POLL);
    }
}

/// Time since the Unix epoch: the clock of captures and of the kernel's times of arrival.
#[must_use]
pub fn now() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}
