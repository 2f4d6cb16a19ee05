//! Tests of the loader: every fault to the letter, profiles, the revision, the reference
//! page, and that no text makes it panic.

mod faults;
mod machine;
mod never_panics;
mod pair;
mod reference;
mod resolution;
