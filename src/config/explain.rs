//! Where every setting of a connection came from, and the revision that follows from them.

use std::fmt;

use sha2::{Digest, Sha256};

use super::profile::Profile;
use super::resolve::weakness;
use super::resolved::Revision;
use crate::palette::{Palette, Tone};

/// Why a setting has its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This line of the file says so.
    Line(usize),
    /// The connection's profile says so.
    Profile(Profile),
    /// Nothing says otherwise.
    Default,
    /// It follows from another setting.
    From(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Profile(profile) => write!(f, "profile {profile}"),
            Self::Default => f.write_str("default"),
            Self::From(what) => write!(f, "from {what}"),
        }
    }
}

/// One setting of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its key below `[[connection]]`, such as `phase1.lifetime`.
    pub key: &'static str,
    /// Its value as a file would say it.
    pub value: String,
    /// Why it has that value.
    pub origin: Origin,
}

/// Every setting of one connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Explanation {
    /// In the order of the reference page.
    pub settings: Vec<Setting>,
}

impl Explanation {
    /// A table: key, value, origin; in the form that a file would have, but with the whole
    /// key in each line.
    #[must_use]
    pub fn render(&self, palette: Palette) -> String {
        let width = |text: fn(&Setting) -> usize| self.settings.iter().map(text).max().unwrap_or(0);
        let keys = width(|setting| setting.key.len());
        let values = width(|setting| first_line(&setting.value).chars().count());
        let mut lines = Vec::new();
        for setting in &self.settings {
            let (key, value) = (setting.key, first_line(&setting.value));
            let origin = palette.paint(Tone::Dim, &format!("# {}", setting.origin));
            let mut line = format!("  {key:<keys$} = {value:<values$}  {origin}");
            if value != "[" {
                let weak = items(setting)
                    .filter_map(|item| weak_mark(key, item))
                    .next();
                line.extend(weak.map(|mark| palette.paint(Tone::Warn, &format!(", {mark}"))));
                lines.push(line);
                continue;
            }
            lines.push(line);
            lines.extend(items(setting).map(|item| match weak_mark(key, item) {
                Some(mark) => {
                    let mark = palette.paint(Tone::Warn, &format!("# {mark}"));
                    format!("      {item},  {mark}")
                }
                None => format!("      {item},"),
            }));
            lines.push("  ]".to_owned());
        }
        lines.join("\n")
    }
}

/// What a list holds.
fn items(setting: &Setting) -> impl Iterator<Item = &str> {
    setting.value.trim_matches(['[', ']']).split(", ")
}

/// `weak: 3DES`, for a proposal that needed consent.
fn weak_mark(key: &str, item: &str) -> Option<String> {
    if !key.ends_with(".proposals") {
        return None;
    }
    let (algorithm, _) = weakness(item.trim_matches('"'))?;
    Some(format!("weak: {algorithm}"))
}

/// Longest value that stands in one line, in bytes.
const ONE_LINE: usize = 40;

/// A long list opens its bracket only.
fn first_line(value: &str) -> &str {
    if value.len() > ONE_LINE && value.starts_with('[') {
        "["
    } else {
        value
    }
}

/// Settings that may differ between two nodes which do the same.
const NODE_LOCAL: [&str; 1] = ["psk_file"];

/// The digest over all connections. Each part is preceded by its length, so that no two
/// configurations run together into the same bytes.
pub(super) fn revision(explanations: &[Explanation]) -> Revision {
    let mut hash = Sha256::new();
    let mut part = |text: &str| {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    };
    part("vipsec configuration 1");
    for explanation in explanations {
        part("connection");
        for setting in &explanation.settings {
            if !NODE_LOCAL.contains(&setting.key) {
                part(setting.key);
                part(&setting.value);
            }
        }
    }
    Revision(hash.finalize().into())
}
