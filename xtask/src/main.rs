//! Every chore of Redwire: `cargo xtask …`.

mod bench;
mod build;
mod debian;
mod demo;
mod fuzz;
mod setup;
mod step;
mod test;
mod totals;
mod vm;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Every chore of Redwire
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what building and testing need; nothing where all is there
    Setup,
    /// Show the agent at work on real services under real load
    Demo {
        /// How long
        #[arg(long, default_value = "60")]
        seconds: u64,
    },
    /// Run all tests, or those whose name contains FILTER
    Test {
        /// Part of a test's name
        filter: Option<String>,
        /// Seconds per fuzz target
        #[arg(long, default_value = "10")]
        fuzz_seconds: u64,
        /// Also the smoke tests on every kernel with every backend, and docs/kernels.md
        #[arg(long)]
        full: bool,
    },
    /// Run the smoke tests, or a program, on another kernel in an emulated machine
    Vm(vm::Options),
    /// Run the benchmarks, or those whose name contains FILTER
    Bench {
        /// Part of a benchmark's name
        filter: Option<String>,
    },
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Setup => setup::run(setup::Scope::All).map(|()| true),
        Command::Demo { seconds } => demo::run(seconds),
        Command::Test {
            filter,
            fuzz_seconds,
            full,
        } => test::run(filter.as_deref(), fuzz_seconds, full),
        Command::Vm(options) => vm::run(&options),
        Command::Bench { filter } => bench::run(filter.as_deref()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
