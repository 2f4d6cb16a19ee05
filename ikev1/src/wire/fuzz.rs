//! Bodies of the fuzz targets, callable from the replay test as well. Each panics when an
//! identity does not hold; hidden from the documentation, and not for use.
