//! The machine that a figure belongs to.

use core::fmt;
use std::fs;

use serde::{Deserialize, Serialize};

/// What must stand beside a figure for it to mean something.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Machine {
    /// Processor, as it calls itself.
    pub processor: String,
    /// Processors that this process may use.
    pub cores: usize,
    /// Instructions that decide how fast a cipher is.
    pub features: Vec<String>,
    /// Kernel release.
    pub kernel: String,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Tasks that were ready to run when the bench began, beside itself: a machine that is not
    /// at rest gives ratios, but no absolute figures.
    pub load: String,
}

/// Instruction sets that AES and SHA implementations look for.
const INTERESTING: [&str; 10] = [
    "aes",
    "pclmulqdq",
    "vaes",
    "vpclmulqdq",
    "avx2",
    "avx512f",
    "sha_ni",
    "asimd",
    "pmull",
    "sha2",
];

impl Machine {
    pub(super) fn look() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            cpuinfo
                .lines()
                .find_map(|line| line.strip_prefix(name)?.split_once(':'))
                .map(|(_, value)| value.trim().to_owned())
        };
        let flags = field("flags")
            .or_else(|| field("Features"))
            .unwrap_or_default();
        let has = |name: &&str| flags.split_whitespace().any(|flag| flag == *name);
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = memory.lines().find_map(|line| {
            let value = line.strip_prefix("MemTotal:")?;
            value.split_whitespace().next()?.parse::<u64>().ok()
        });
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            processor: field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: cores(),
            features: INTERESTING
                .into_iter()
                .filter(has)
                .map(str::to_owned)
                .collect(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .map(|text| text.trim().to_owned())
                .unwrap_or_default(),
            memory_mib: kib.unwrap_or(0) / 1024,
            load: load
                .split_whitespace()
                .next()
                .unwrap_or_default()
                .to_owned(),
        }
    }
}

impl Machine {
    /// Less than a quarter of the cores was in use before the bench began.
    pub(super) fn is_at_rest(&self) -> bool {
        let load: f64 = self.load.parse().unwrap_or(0.0);
        load < self.cores as f64 / 4.0
    }
}

/// Processors that this process may use.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} cores ({}), {} MiB, Linux {}, load {}",
            self.processor,
            self.cores,
            self.features.join(" "),
            self.memory_mib,
            self.kernel,
            self.load
        )
    }
}
