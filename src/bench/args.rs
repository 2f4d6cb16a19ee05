//! The command line of `vipsec bench`.

use std::path::PathBuf;

use super::path::{GatewayArgs, PathArgs, WorldArgs};
use super::soak::SoakArgs;

/// Measure this machine: ciphers, the packet pipeline, and whole tunnels.
///
/// Without a subcommand all benches run one after the other.
#[derive(Debug, clap::Args)]
pub struct BenchCommand {
    #[command(subcommand)]
    pub(super) what: Option<What>,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum What {
    /// Every ESP suite at five packet sizes, beside the bare cipher call
    Crypto(CryptoArgs),
    /// The whole pipeline in memory: split, seal, open, coalesce, and how it scales
    Core,
    /// Whole tunnels in private namespaces, beside other tunnels (root, or user namespaces)
    Path(PathArgs),
    /// Every suite for a while, with rekeys and checked bytes (root, or user namespaces)
    Soak(SoakArgs),
    /// One turn of `path`, in a world of its own
    #[command(hide = true)]
    World(WorldArgs),
    /// One end of a tunnel with fixed keys
    #[command(hide = true)]
    Gateway(GatewayArgs),
}

/// Where the figures go besides the terminal, and how much time they may take.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Output {
    /// Write all figures as JSON
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) json: Option<PathBuf>,
    /// Draw a chart as SVG
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) svg: Option<PathBuf>,
    /// Fewer and shorter runs: a first impression
    #[arg(long, global = true)]
    pub(super) quick: bool,
}

#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct CryptoArgs {
    /// Only these suites, such as aes256gcm16 or aes256-sha256
    #[arg(long, value_name = "SUITE", value_delimiter = ',')]
    pub(super) suites: Vec<ipsec_types::EspSuite>,
    /// Only these packet sizes, in bytes
    #[arg(long, value_name = "BYTES", value_delimiter = ',')]
    pub(super) sizes: Vec<u16>,
}

/// How long and how often to measure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    /// Turns of each contender.
    pub(super) turns: usize,
    /// Nanoseconds of one turn.
    pub(super) turn_ns: f64,
    /// For a first impression only.
    quick: bool,
}

impl Effort {
    pub(super) const fn is_quick(self) -> bool {
        self.quick
    }
}

impl Output {
    pub(super) const fn effort(&self) -> Effort {
        if self.quick {
            Effort {
                turns: 5,
                turn_ns: 1e6,
                quick: true,
            }
        } else {
            Effort {
                turns: 11,
                turn_ns: 5e6,
                quick: false,
            }
        }
    }
}
