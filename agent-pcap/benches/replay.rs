//! Megabytes of capture a second, the pipeline included.
fn main() {}
