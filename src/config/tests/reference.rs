//! `docs/config.md` and the annotated examples name every key that the raw structs have, and
//! no other.

use std::collections::BTreeSet;

use toml::de::DeTable;

use super::machine::{SECOND_FILE, load};
use crate::config::document::Key;
use crate::config::raw::sections;

const PAGE: &str = include_str!("../../../docs/config.md");
/// Together they show every key.
const EXAMPLES: [&str; 2] = [
    include_str!("../../../configs/vipsec.toml"),
    include_str!("../../../configs/pair-a.toml"),
];

/// True for a key that is a section of its own.
fn is_section(key: &Key) -> bool {
    key.expected.starts_with("a section") || key.expected.starts_with("an array of tables")
}

/// The keys in the first column of the table below a section's heading.
fn documented(header: &str) -> Vec<String> {
    let heading = format!("\n## `{header}`\n");
    let Some((_, rest)) = PAGE.split_once(&heading) else {
        panic!("docs/config.md has no heading for {header}");
    };
    let part = rest.split("\n## ").next().unwrap();
    part.lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(key, _)| key.to_owned())
        .collect()
}

#[test]
fn the_page_lists_the_keys_of_every_section_in_their_order() {
    for (header, keys) in sections() {
        let declared: Vec<&str> = keys
            .iter()
            .filter(|key| !is_section(key))
            .map(|key| key.name)
            .collect();
        assert_eq!(documented(header), declared, "{header}");
    }
}

#[test]
fn the_page_has_no_other_section() {
    let headings: Vec<&str> = PAGE
        .lines()
        .filter_map(|line| line.strip_prefix("## `")?.strip_suffix('`'))
        .collect();
    let declared: Vec<&str> = sections().iter().map(|(header, _)| *header).collect();
    assert_eq!(headings, declared);
}

/// The whole key of everything in `table`: `pair.path.local`.
fn keys_of(prefix: &str, table: &DeTable<'_>, into: &mut BTreeSet<String>) {
    for (key, value) in table {
        let name: &str = key.get_ref();
        let name = format!("{prefix}{name}");
        let inside = format!("{name}.");
        let value = value.get_ref();
        if let Some(table) = value.as_table() {
            keys_of(&inside, table, into);
        }
        for item in value.as_array().into_iter().flat_map(|array| array.iter()) {
            if let Some(table) = item.get_ref().as_table() {
                keys_of(&inside, table, into);
            }
        }
        into.insert(name);
    }
}

#[test]
fn the_annotated_examples_have_every_key() {
    let mut found = BTreeSet::new();
    for example in EXAMPLES {
        keys_of("", DeTable::parse(example).unwrap().get_ref(), &mut found);
    }
    for (header, keys) in sections() {
        let section = header.trim_matches(['[', ']']);
        for key in keys {
            let whole = format!("{section}.{}", key.name);
            assert!(found.contains(&whole), "no example has {whole}");
        }
    }
}

/// What the page says about profiles is what they are.
#[test]
fn the_page_shows_the_examples_of_the_tests() {
    let fenced: Vec<&str> = PAGE
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(fenced.len() >= 3, "no example on the page");
    for example in fenced {
        let mut example = example.replace(".psk", "");
        example = example.replace("psk_file = \"azure\"", "psk_file = \"good.psk\"");
        example = example.replace("psk_file = \"branch\"", "psk_file = \"good.psk\"");
        if example.contains("connections = \"connections.toml\"") {
            example += SECOND_FILE;
        }
        if let Err(errors) = load(&example) {
            panic!("{example}\n{errors}");
        }
    }
}
