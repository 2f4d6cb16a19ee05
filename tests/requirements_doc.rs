//! `docs/requirements.md` says which test holds which requirement of the RFCs. A test that is
//! renamed, removed or ignored has to be noticed there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Folders that hold our tests.
const ROOMS: [&str; 7] = [
    "esp-dataplane",
    "ha-keepalive",
    "ikev1",
    "ipsec-types",
    "netns-tests",
    "src",
    "vti",
];

/// Sections that the table has to have.
const RFCS: [&str; 10] = [
    "2407", "2408", "2409", "3706", "3947", "3948", "4304", "4868", "5903", "4106",
];

/// What stands in place of tests; the colon asks for a reason.
const WITHOUT_A_TEST: [&str; 3] = ["not held by a test", "not implemented: ", "not met: "];

/// One requirement.
struct Row<'a> {
    /// Line in the file.
    line: usize,
    rfc: &'a str,
    requirement: &'a str,
    met_by: &'a str,
    held_by: &'a str,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The rows of every table, and what is wrong with the form of the others.
fn rows(document: &str) -> (Vec<Row<'_>>, Vec<String>) {
    let (mut rows, mut faults, mut rfc) = (Vec::new(), Vec::new(), "");
    for (line, text) in (1..).zip(document.lines()) {
        if let Some(title) = text.strip_prefix("## RFC ") {
            rfc = title.split(':').next().unwrap_or_default();
        }
        let is_frame = text.starts_with("| § ") || text.starts_with("| --- ");
        let Some(inner) = text.strip_prefix('|').filter(|_| !is_frame) else {
            continue;
        };
        let cells: Vec<&str> = inner.trim_end().trim_end_matches('|').split('|').collect();
        let cells: Vec<&str> = cells.into_iter().map(str::trim).collect();
        match cells.as_slice() {
            &[section, requirement, met_by, held_by]
                if ![section, requirement, met_by, held_by].contains(&"") =>
            {
                rows.push(Row {
                    line,
                    rfc,
                    requirement,
                    met_by,
                    held_by,
                });
            }
            _ => faults.push(format!("line {line}: not four cells")),
        }
    }
    (rows, faults)
}

/// What stands between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Every `.rs` file below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// Names of the functions that follow a `#[test]` and are not ignored.
fn tests_of(source: &str) -> impl Iterator<Item = String> {
    let lines: Vec<String> = source.lines().map(|line| line.trim().to_owned()).collect();
    let starts: Vec<usize> = (0..lines.len())
        .filter(|&at| {
            let line = lines.get(at).map_or("", String::as_str);
            line == "#[test]" || line.starts_with("#[tokio::test")
        })
        .collect();
    starts.into_iter().filter_map(move |at| {
        let mut head = lines.iter().skip(at);
        let function = head.clone().position(|line| is_function(line))?;
        if head
            .by_ref()
            .take(function)
            .any(|line| line.starts_with("#[ignore"))
        {
            return None;
        }
        let (_, name) = head.next()?.split_once("fn ")?;
        let end = name.find(['(', '<'])?;
        name.get(..end).map(str::to_owned)
    })
}

fn is_function(line: &str) -> bool {
    ["fn ", "async fn ", "pub fn "]
        .iter()
        .any(|start| line.starts_with(start))
}

fn all_tests() -> io::Result<BTreeSet<String>> {
    let mut files = Vec::new();
    for room in ROOMS {
        sources(&root().join(room), &mut files)?;
    }
    sources(&root().join("tests"), &mut files)?;
    let mut names = BTreeSet::new();
    for file in files {
        names.extend(tests_of(&fs::read_to_string(file)?));
    }
    Ok(names)
}

fn check_tests(row: &Row<'_>, tests: &BTreeSet<String>, faults: &mut Vec<String>) {
    let at = format!("line {} (RFC {}: {})", row.line, row.rfc, row.requirement);
    if let Some(words) = WITHOUT_A_TEST
        .iter()
        .find(|words| row.held_by.starts_with(*words))
    {
        let exact = !words.ends_with(": ");
        if exact && row.held_by != *words {
            faults.push(format!("{at}: say \"{words}\" and no more"));
        }
        return;
    }
    let names: Vec<&str> = quoted(row.held_by).collect();
    let written = names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>();
    if written.is_empty() || written.join(", ") != row.held_by {
        faults.push(format!(
            "{at}: neither names of tests nor one of {WITHOUT_A_TEST:?}"
        ));
    }
    for name in names {
        if !tests.contains(name) {
            faults.push(format!("{at}: there is no test `{name}`"));
        }
    }
}

fn check_paths(row: &Row<'_>, faults: &mut Vec<String>) {
    for cell in [row.met_by, row.held_by] {
        let paths = quoted(cell).filter(|word| word.ends_with(".rs"));
        for path in paths {
            let ours = [root().join(path), root().join("ikev1/src").join(path)];
            if !ours.iter().any(|path| path.is_file()) {
                faults.push(format!("line {}: there is no file `{path}`", row.line));
            }
        }
    }
}

#[test]
fn every_test_in_the_table_exists() {
    let document = fs::read_to_string(root().join("docs/requirements.md")).unwrap();
    let (rows, mut faults) = rows(&document);
    let tests = all_tests().unwrap();
    let mut per_rfc = BTreeMap::new();
    for row in &rows {
        *per_rfc.entry(row.rfc).or_insert(0_usize) += 1;
        check_tests(row, &tests, &mut faults);
        check_paths(row, &mut faults);
    }
    for rfc in RFCS {
        if !per_rfc.contains_key(rfc) {
            faults.push(format!("no requirement of RFC {rfc}"));
        }
    }
    assert!(
        faults.is_empty(),
        "docs/requirements.md:\n{}",
        faults.join("\n")
    );
}

/// The check itself: each kind of fault is found.
#[test]
fn faults_of_the_table_are_noticed() {
    let tests: BTreeSet<String> = tests_of(
        "#[test]\nfn here() {\n#[test]\n#[ignore]\nfn asleep() {\n\
         fn helper() {\n#[test]\n/// Words.\nfn drawn(x in any::<u8>()) {\n",
    )
    .collect();
    assert_eq!(tests.iter().collect::<Vec<_>>(), ["drawn", "here"]);
    let fault_of = |met_by: &str, held_by: &str| {
        let text = format!("## RFC 1: x\n| § | a | b | c |\n| 1 | two | {met_by} | {held_by} |\n");
        let (rows, mut faults) = rows(&text);
        for row in &rows {
            check_tests(row, &tests, &mut faults);
            check_paths(row, &mut faults);
        }
        faults.len()
    };
    let good = "`negotiator/mod.rs`";
    for held_by in [
        "`here`",
        "`here`, `drawn`",
        "not held by a test",
        "not met: why",
    ] {
        assert_eq!(fault_of(good, held_by), 0, "{held_by}");
    }
    for held_by in [
        "`asleep`",
        "`helper`",
        "here",
        "not held by a test yet",
        "",
        "`here` | x",
    ] {
        assert_eq!(fault_of(good, held_by), 1, "{held_by}");
    }
    assert_eq!(fault_of("`negotiator/gone.rs`", "`here`"), 1);
}
