//! The command line: `main` hands over here, and here is the composition root, the only place that
//! knows every layer.

mod alone;
mod args;
mod backup;
mod cluster;
mod commands;
mod compose;
mod config;
mod deploy;
mod dev;
mod doors;
mod identity;
mod local;
mod logs;
mod operator;
mod output;
mod remote;
mod serve;
mod store_check;
mod transfer;

use std::process::ExitCode;

use clap::Parser;

/// Runs the program's command line to its end; errors are one line on standard error.
pub fn main() -> ExitCode {
    let cli = args::Cli::parse();
    match commands::perform(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("postroom: {error:#}");
            ExitCode::FAILURE
        }
    }
}
