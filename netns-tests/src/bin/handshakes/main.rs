//! `make bench-ike`: what negotiations cost beside strongSwan, in one run.
//!
//! `handshakes one|many|flood [--rounds N] [--tunnels N] [--json FILE]`
//!
//! - `one`: processor time of the responder and time on the wire for one main and quick mode.
//!   The initiator is strongSwan for both responders, so both have the same work to do.
//! - `many`: that many tunnels brought up together, strongSwan to strongSwan and vipsec to
//!   vipsec; the time from the first to the last message, read from a capture of the WAN.
//! - `flood`: 50,000 forged first messages of main mode a second for 10 s, while bulk data
//!   goes through an established tunnel. Beside the undisturbed run stands a control: the same
//!   flood to a port that the kernel drops, because making it costs this machine much itself.
//!
//! Everything happens inside namespaces of its own; figures are ratios within one run.

mod flood;
mod many;
mod measure;
mod one;

use std::env;
use std::error::Error;
use std::fs;
use std::process::{Command, ExitCode};

use serde_json::Value;

use netns_tests::need::{DUMPCAP, NFT, PING};
use netns_tests::{Need, Outcome, isolated};

struct Options {
    what: String,
    rounds: usize,
    tunnels: usize,
    json: Option<String>,
}

/// The lab's daemons log for debugging, which is not what is measured here.
const LOG: (&str, &str) = ("VIPSEC_LOG", "info");

fn main() -> ExitCode {
    if env::var_os(LOG.0).is_none() {
        return again();
    }
    let needs = [
        PING,
        DUMPCAP,
        NFT,
        Need::Tun,
        Need::StrongSwan,
        Need::Vipsec,
    ];
    isolated(&needs, run)
}

/// This program once more, with the log level set.
fn again() -> ExitCode {
    let status = env::current_exe().and_then(|program| {
        let mut command = Command::new(program);
        command.args(env::args_os().skip(1)).env(LOG.0, LOG.1);
        command.status()
    });
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome {
    let options = Options::parse()?;
    let rows: Value = match options.what.as_str() {
        "one" => one::run(options.rounds)?,
        "many" => many::run(options.tunnels)?,
        "flood" => flood::run()?,
        other => return Err(format!("what is {other}? one, many or flood").into()),
    };
    if let Some(file) = &options.json {
        fs::write(file, format!("{rows:#}\n"))?;
        println!("\nwritten to {file}");
    }
    Ok(())
}

impl Options {
    fn parse() -> Result<Self, Box<dyn Error>> {
        let mut words = env::args().skip(1);
        let mut options = Self {
            what: words.next().unwrap_or_default(),
            rounds: 40,
            tunnels: 250,
            json: None,
        };
        while let Some(word) = words.next() {
            let value = words
                .next()
                .ok_or_else(|| format!("{word} needs a value"))?;
            match word.as_str() {
                "--rounds" => options.rounds = value.parse()?,
                "--tunnels" => options.tunnels = value.parse()?,
                "--json" => options.json = Some(value),
                _ => return Err(format!("unknown option {word}").into()),
            }
        }
        Ok(options)
    }
}
