//! The `vipsec` daemon and its command line.

fn main() {}
