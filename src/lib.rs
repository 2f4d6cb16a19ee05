//! The daemon and its command line: what is between the four rooms of the house and a user.
//!
//! No protocol logic lives here. The configuration is read and resolved once, the daemon
//! wires the rooms together by it, and everything a user sees of a running daemon goes over
//! one Unix socket.
//!
//! ```text
//!   vipsec.toml --> config --> daemon <---> ikev1, esp-dataplane, vti, ha-keepalive
//!                                |
//!                             control (JSON lines) <--- cli: status, up, down, reload, watch
//!                                |
//!                             status (model) ---> text or JSON
//! ```

pub mod bench;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod logging;
pub mod palette;
pub mod status;
mod stdout;
