//! Every chore of Redwire: `cargo xtask …`.

fn main() {}
