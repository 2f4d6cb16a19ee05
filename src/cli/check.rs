//! `vipsec check`: is the configuration right, and what does it come to?

use std::path::Path;

use super::output::{Failure, note, print};
use crate::config::{self, ConnectionKind, ResolvedConfig};
use crate::palette::{Palette, Tone};

/// Checks the file at `path`; prints every setting when `explain`.
pub(super) fn check(path: &Path, explain: bool) -> Result<(), Failure> {
    let config = config::load(path)?;
    let palette = Palette::for_stderr();
    for warning in &config.warnings {
        note(&format!("{}\n\n", warning.render(palette)));
    }
    print(&report(path, &config, explain, Palette::for_stdout()))
}

fn report(path: &Path, config: &ResolvedConfig, explain: bool, palette: Palette) -> String {
    let warnings = match config.warnings.len() {
        0 => String::new(),
        1 => ", 1 warning".to_owned(),
        count => format!(", {count} warnings"),
    };
    let mut text = format!(
        "{} {}: {}{warnings}, revision {}\n",
        palette.paint(Tone::Good, "ok"),
        path.display(),
        match config.connections.len() {
            1 => "1 connection".to_owned(),
            count => format!("{count} connections"),
        },
        config.revision.short(),
    );
    if !explain {
        return text;
    }
    if let Some(explanation) = &config.pair_explanation {
        let pair = palette.paint(Tone::Strong, "[pair]");
        text += &format!("\n{pair}  this node\n{}\n", explanation.render(palette));
    }
    for (connection, explanation) in config.connections.iter().zip(&config.explanations) {
        let kind = match connection.kind {
            ConnectionKind::RouteBased => "route-based",
            ConnectionKind::PolicyBased => "policy-based",
        };
        let name = palette.paint(Tone::Strong, connection.name());
        text += &format!("\n{name}  {kind}\n{}\n", explanation.render(palette));
    }
    text
}
