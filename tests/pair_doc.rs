//! `docs/pair.md` is read by somebody in a hurry: its commands exist, its log lines are the
//! daemon's, its environment is the mover's, its screen is the status's.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> String {
    fs::read_to_string(root().join("docs/pair.md")).unwrap()
}

/// The texts in backquotes, in their order.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The part of the page under a heading.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("\n## {heading}\n")).unwrap();
    rest.split("\n## ").next().unwrap()
}

/// Every `vipsec COMMAND ...` of the page: in commands to type, and in the text.
fn commands(page: &str) -> BTreeSet<Vec<String>> {
    let typed = page.lines().filter_map(|line| line.strip_prefix("    "));
    let typed: Vec<&str> = typed.map(|line| line.split(" #").next().unwrap()).collect();
    let pieces = typed.into_iter().chain(quoted(page));
    pieces
        .filter_map(|piece| {
            let piece = piece.strip_prefix("sudo ").unwrap_or(piece);
            let words = piece.strip_prefix("vipsec ")?;
            Some(words.split_whitespace().map(str::to_owned).collect())
        })
        .collect()
}

#[test]
fn every_command_exists_with_its_options() {
    let commands = commands(&page());
    assert!(commands.len() >= 8, "{commands:?}");
    for words in commands {
        let (command, options) = words.split_first().unwrap();
        let help = Command::new(env!("CARGO_BIN_EXE_vipsec"))
            .args([command, "--help"])
            .output()
            .unwrap();
        assert!(help.status.success(), "vipsec {command} does not exist");
        let help = String::from_utf8(help.stdout).unwrap();
        for option in options {
            assert!(help.contains(option.as_str()), "vipsec {command} {option}");
        }
    }
}

#[test]
fn every_file_it_installs_is_here() {
    let page = page();
    let mut seen = 0;
    for line in page.lines().filter(|line| line.contains("install -m")) {
        let file = line.split_whitespace().rev().nth(1).unwrap();
        if file.starts_with("configs/") {
            assert!(root().join(file).is_file(), "{file}");
            seen += 1;
        }
    }
    assert_eq!(seen, 3);
}

/// Every source file below `folder`, in one line each, without line breaks in strings.
fn sources(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_log_line_is_the_daemons() {
    let mut text = String::new();
    for folder in ["src/daemon", "ha-keepalive/src"] {
        sources(&root().join(folder), &mut text);
    }
    let page = page();
    let mut rows = 0;
    for row in section(&page, "What the log says").lines() {
        let Some(cell) = row.strip_prefix("| `") else {
            continue;
        };
        let cell = format!("`{}", cell.split(" | ").next().unwrap());
        for line in quoted(&cell) {
            assert!(text.contains(line), "nobody logs \"{line}\"");
            rows += 1;
        }
    }
    assert!(rows >= 25, "{rows}");
}

#[test]
fn the_environment_is_the_movers() {
    let mover = fs::read_to_string(root().join("ha-keepalive/src/io/mover.rs")).unwrap();
    let given: BTreeSet<&str> = mover
        .split(".env(\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    let page = page();
    let told: BTreeSet<&str> = section(&page, "The exec mover")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    assert_eq!(told, given);
    assert!(given.len() == 7);
}

/// What the page shows of the status is drawn by the status, to the letter.
#[test]
fn the_screen_is_the_statuss() {
    let drawn = fs::read_to_string(root().join("src/status/tests/pair.rs")).unwrap();
    let page = page();
    let (_, screen) = page.split_once("```text\nACTIVE").unwrap();
    let screen = format!("ACTIVE{}", screen.split("```").next().unwrap());
    for line in screen.lines() {
        // The last two are cut short on the page.
        if !line.contains("history") && !line.contains("steps") {
            assert!(drawn.contains(line), "{line}");
        }
    }
}
