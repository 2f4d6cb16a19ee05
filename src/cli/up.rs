//! `vipsec up`: start a connection and wait for it.

use std::time::{Duration, Instant};

use super::ask::{Daemon, done};
use super::output::{Failure, note, print};
use crate::control::Command;
use crate::status::{ConnectionState, ConnectionStatus, Status};

/// Between two looks at the status; a negotiation takes tens of milliseconds.
const LOOK: Duration = Duration::from_millis(50);

/// Starts `connection`; waits for it for at most `patience` seconds, or not at all.
pub(super) fn up(daemon: &Daemon, connection: &str, patience: Option<u64>) -> Result<(), Failure> {
    let command = Command::Up {
        connection: connection.to_owned(),
    };
    let Some(patience) = patience else {
        return done(daemon, &command);
    };
    let began = Instant::now();
    daemon.ask(&command)?;
    loop {
        let waited = began.elapsed();
        let status = daemon.status(Some(connection))?;
        match verdict(&status, connection, waited) {
            Verdict::Up(text) => return print(&text),
            Verdict::Failed(why) => {
                return Err(Failure::Wrong {
                    message: format!("{connection} did not come up: {why}"),
                    hint: Some(
                        "the whole story: vipsec status, and journalctl -u vipsec -e".to_owned(),
                    ),
                });
            }
            Verdict::Waiting(why) if waited >= Duration::from_secs(patience) => {
                return Err(Failure::NotInTime {
                    message: format!("{connection} is not up after {patience} s: {why}"),
                    hint: format!("it goes on trying: vipsec watch {connection}"),
                });
            }
            Verdict::Waiting(_) => std::thread::sleep(LOOK),
        }
    }
}

/// How far a connection is.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Up; the line to print.
    Up(String),
    /// Given up; why.
    Failed(String),
    /// On its way; the last that is known.
    Waiting(String),
}

fn verdict(status: &Status, name: &str, waited: Duration) -> Verdict {
    let Some(connection) = status.connections.iter().find(|c| c.name == name) else {
        return Verdict::Failed("it is not configured any more".to_owned());
    };
    // An error from before we asked is history.
    let fresh = connection
        .last_error
        .as_ref()
        .filter(|error| error.ago_secs <= waited.as_secs());
    match (connection.state, fresh) {
        (ConnectionState::Up, _) => Verdict::Up(success(connection, waited)),
        (ConnectionState::Failed, Some(error)) => Verdict::Failed(error.text.clone()),
        (_, Some(error)) => Verdict::Waiting(error.text.clone()),
        (_, None) => Verdict::Waiting("the peer has not answered yet".to_owned()),
    }
}

fn success(connection: &ConnectionStatus, waited: Duration) -> String {
    let mut text = format!(
        "{} is up after {:.2} s\n",
        connection.name,
        waited.as_secs_f64()
    );
    for sa in connection.esp_sas.iter().filter(|sa| !sa.draining) {
        let weak = if sa.weak { " (weak)" } else { "" };
        text += &format!("  {}{weak}  {}\n", sa.suite, sa.selectors);
    }
    if connection.esp_sas.iter().any(|sa| sa.weak) {
        note("weak algorithms protect this connection\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Counters, LastError, VtiStatus};

    fn status(state: ConnectionState, error: Option<(&str, u64)>) -> Status {
        Status {
            gateway: "g".to_owned(),
            version: "0".to_owned(),
            uptime_secs: 0,
            revision: String::new(),
            workers: 1,
            cipher_backends: Vec::new(),
            keylog: None,
            pair: None,
            connections: vec![ConnectionStatus {
                name: "azure".to_owned(),
                state,
                state_secs: 0,
                local: "203.0.113.1".parse().unwrap(),
                remote: None,
                local_id: String::new(),
                peer_id: String::new(),
                ike_sas: Vec::new(),
                esp_sas: Vec::new(),
                liveness: None,
                last_error: error.map(|(text, ago_secs)| LastError {
                    text: text.to_owned(),
                    ago_secs,
                }),
                vti: VtiStatus {
                    device: "vti".to_owned(),
                    mtu: 1400,
                    addresses: Vec::new(),
                    routes: Vec::new(),
                    deleted: false,
                },
            }],
            counters: Counters::new(),
        }
    }

    const WAITED: Duration = Duration::from_millis(2_500);

    #[test]
    fn an_old_error_is_no_verdict() {
        let old = status(ConnectionState::Failed, Some(("no common proposal", 3_600)));
        let waiting = Verdict::Waiting("the peer has not answered yet".to_owned());
        assert_eq!(verdict(&old, "azure", WAITED), waiting);
    }

    #[test]
    fn a_fresh_error_is_final_once_the_connection_has_failed() {
        let error = Some(("no common proposal", 1));
        let failed = status(ConnectionState::Failed, error);
        assert_eq!(
            verdict(&failed, "azure", WAITED),
            Verdict::Failed("no common proposal".to_owned())
        );
        let again = status(ConnectionState::Connecting, error);
        assert_eq!(
            verdict(&again, "azure", WAITED),
            Verdict::Waiting("no common proposal".to_owned())
        );
    }

    #[test]
    fn up_says_how_long_it_took() {
        let up = status(ConnectionState::Up, None);
        assert_eq!(
            verdict(&up, "azure", WAITED),
            Verdict::Up("azure is up after 2.50 s\n".to_owned())
        );
        let gone = verdict(&up, "branch", WAITED);
        assert!(matches!(gone, Verdict::Failed(_)));
    }
}
