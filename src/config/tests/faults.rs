//! Every fault with the exact text that a user sees, from `faults.txt`:
//!
//! ```text
//! === kinds of fault that the configuration has
//! the configuration
//! ---
//! what is printed
//! ```
//!
//! A line `%%% connections.toml` in a configuration begins the file of connections.
//!
//! `VIPSEC_BLESS=1 cargo test faults` writes what is printed now into the file, for a
//! reviewer to read.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use super::machine::Machine;
use crate::config::fault::Fault;
use crate::config::{Severity, examine};

const CASES: &str = include_str!("faults.txt");

struct Case {
    kinds: String,
    config: String,
    printed: String,
}

fn cases() -> Vec<Case> {
    CASES
        .split("=== ")
        .skip(1)
        .map(|case| {
            let (kinds, rest) = case.split_once('\n').unwrap();
            let (config, printed) = rest.split_once("---\n").unwrap();
            Case {
                kinds: kinds.to_owned(),
                config: config.to_owned(),
                printed: printed.trim_end().to_owned(),
            }
        })
        .collect()
}

fn kind(fault: &Fault) -> String {
    let text = format!("{fault:?}");
    text.split([' ', '{', '(']).next().unwrap_or("").to_owned()
}

/// The kinds of fault in `config`, in the order found, and what is printed.
fn run(machine: &Machine) -> (String, String) {
    let (sources, resolved, findings) = examine(Path::new("vipsec.toml"), machine);
    let mut kinds: Vec<String> = Vec::new();
    for fault in findings.faults() {
        let kind = kind(fault);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let fatal = findings
        .faults()
        .any(|fault| fault.severity() == Severity::Error);
    assert_eq!(
        resolved.is_none(),
        fatal,
        "an error and only an error refuses the file"
    );
    let printed: Vec<String> = findings
        .into_problems(&sources)
        .iter()
        .map(ToString::to_string)
        .collect();
    (kinds.join(" "), printed.join("\n\n"))
}

#[test]
fn every_fault_reads_as_it_should() {
    let mut blessed = CASES.split("=== ").next().unwrap().to_owned();
    let mut wrong = Vec::new();
    for case in cases() {
        let (kinds, printed) = run(&Machine::with(&case.config));
        blessed += &format!("=== {kinds}\n{}---\n{printed}\n\n", case.config);
        if kinds != case.kinds || printed != case.printed {
            wrong.push(format!(
                "--- expected: {}\n{}\n--- found: {kinds}\n{printed}",
                case.kinds, case.printed
            ));
        }
    }
    if std::env::var_os("VIPSEC_BLESS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/tests/faults.txt");
        std::fs::write(path, blessed).unwrap();
    } else {
        assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    }
}

#[test]
fn a_file_that_cannot_be_read() {
    let unreadable = |kind: io::ErrorKind| {
        run(&Machine {
            config: Err(kind.into()),
            connections: None,
        })
        .1
    };
    assert_eq!(
        unreadable(io::ErrorKind::NotFound),
        "error: cannot read the file: there is no such file\n--> vipsec.toml\n \
         = help: name the file with -c FILE, or run as root: sudo vipsec ..."
    );
    assert!(unreadable(io::ErrorKind::PermissionDenied).contains("we may not read it"));
    assert!(unreadable(io::ErrorKind::IsADirectory).contains("it is a directory"));
    assert!(unreadable(io::ErrorKind::InvalidData).contains("it is not UTF-8 text"));
    assert_eq!(
        run(&Machine::with(&"#".repeat(2 << 20))).1,
        "error: the file is larger than 1048576 bytes\n--> vipsec.toml"
    );
}

/// A new kind of fault without a case fails here.
#[test]
fn every_kind_of_fault_has_a_case() {
    let declared: BTreeSet<String> = include_str!("../fault.rs")
        .split_once("enum Fault {")
        .and_then(|(_, rest)| rest.split_once("\n}\n"))
        .map(|(body, _)| body)
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()))
        .map(|line| line.split([' ', ',', '{']).next().unwrap().to_owned())
        .collect();
    let mut shown: BTreeSet<String> = cases()
        .iter()
        .flat_map(|case| case.kinds.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .collect();
    // These two are not in the text of a file.
    shown.extend(["FileUnreadable".to_owned(), "FileTooLarge".to_owned()]);
    let missing: Vec<&String> = declared.difference(&shown).collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
    assert!(declared.len() > 40);
}

#[test]
fn a_secret_in_the_file_is_not_repeated() {
    let (_, printed) = run(&Machine::with(
        "[[connection]]\nname = \"a\"\npsk = \"hunter2\"\n",
    ));
    assert!(
        printed.contains("psk = (hidden)") && !printed.contains("hunter2"),
        "{printed}"
    );
}
