//! All figures of one run as a value: JSON, and what is checked against the bars.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::args::Output;
use super::bars::Bar;
use super::core::CoreFigures;
use super::crypto::CryptoFigures;
use super::machine::Machine;
use super::output::show;
use super::path::PathFigures;
use super::table::Table;
use super::{BenchError, sample, svg};

/// One run of `vipsec bench`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// The program's version.
    pub vipsec: String,
    /// Where it ran.
    pub machine: Machine,
    /// Ciphers.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub crypto: Option<CryptoFigures>,
    /// The pipeline in memory.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub core: Option<CoreFigures>,
    /// Whole tunnels.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<PathFigures>,
    /// What is asked of the figures, and whether they reach it.
    pub bars: Vec<Bar>,
}

impl Report {
    pub(super) fn new() -> Self {
        Self {
            vipsec: env!("CARGO_PKG_VERSION").to_owned(),
            machine: Machine::look(),
            ..Self::default()
        }
    }

    pub(super) fn show_bars(&self, output: &Output) -> Result<(), BenchError> {
        if self.bars.is_empty() {
            return Ok(());
        }
        let mut table = Table::new(["bar", "at", "wanted", "measured", ""]);
        for bar in &self.bars {
            let relation = if bar.at_least { "≥" } else { "≤" };
            table.row(vec![
                bar.what.clone(),
                bar.at.clone(),
                format!("{relation} {}", sample::digits(bar.wanted)),
                sample::digits(bar.measured),
                if bar.is_met() { "met" } else { "MISSED" }.to_owned(),
            ]);
        }
        show(&table, output)
    }

    pub(super) fn save(&self, output: &Output) -> Result<(), BenchError> {
        if let Some(path) = &output.json {
            let text = serde_json::to_string_pretty(self)
                .map_err(|error| BenchError::Io("JSON".to_owned(), error.into()))?;
            write(path, &format!("{text}\n"))?;
        }
        if let Some(path) = &output.svg {
            write(path, &svg::draw(self))?;
        }
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> Result<(), BenchError> {
    std::fs::write(path, text)
        .map_err(|error| BenchError::Io(format!("cannot write {}", path.display()), error))
}
