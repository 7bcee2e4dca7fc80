//! `redwire`: see `redwire --help`.

use clap::{CommandFactory as _, Parser as _};
use redwire::cli::{Cli, Command};
use redwire::command;
use std::process::ExitCode;

fn main() -> ExitCode {
    unset_empty();
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Ps(args) => command::ps::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Check(args) => command::check::run(&args).map(|well| {
            if well {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "redwire", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Man => man().map(|()| ExitCode::SUCCESS),
        Command::Run(args) => command::run::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Replay(args) => command::replay::run(&args).map(ExitCode::from),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("redwire: {error:#}");
        ExitCode::FAILURE
    })
}

/// An empty variable is as good as an unset one (OpenTelemetry's specification, "Environment variables"): container
/// and service managers set them from templates whose values are missing.
fn unset_empty() {
    for (name, value) in std::env::vars_os() {
        let is_ours = name
            .to_str()
            .is_some_and(|name| name.starts_with("REDWIRE_") || name.starts_with("OTEL_"));
        if is_ours && value.as_encoded_bytes().trim_ascii().is_empty() {
            // SAFETY: there is no other thread yet.
            unsafe { std::env::remove_var(name) };
        }
    }
}

/// The manual pages of the program and of its subcommands, one after another.
fn man() -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    let mut cli = Cli::command();
    cli.build();
    clap_mangen::Man::new(cli.clone()).render(&mut out)?;
    for subcommand in cli
        .get_subcommands()
        .filter(|subcommand| !subcommand.is_hide_set())
    {
        clap_mangen::Man::new(subcommand.clone()).render(&mut out)?;
    }
    Ok(())
}
