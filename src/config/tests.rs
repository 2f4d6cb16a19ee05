//! Tests of the loader that need its insides.

use super::raw;

#[test]
fn sections_are_there() {
    assert_eq!(raw::sections().len(), 8);
}
