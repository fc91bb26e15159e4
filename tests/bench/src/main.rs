//! Postroom's benchmarks: ratios within one run, each against something that is measured beside it.
//! Run by `cargo xtask bench`, which fetches and builds what it needs.

mod dovecot;
mod load;
mod raw;
mod report;
mod servers;

use std::time::Duration;

use clap::{Parser, ValueEnum};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// APPEND and LMTP against raw append + fdatasync, and against Dovecot
    Write,
    /// FETCH, STORE, SEARCH, COPY … on 10,000 messages, against Dovecot
    Read,
    /// Memory of idle connections
    Idle,
    /// Opening a large mailbox
    Open,
}

/// Measures Postroom beside raw disk writes and beside Dovecot.
#[derive(Parser)]
struct Cli {
    /// What is measured; without: everything
    #[arg(value_enum)]
    suites: Vec<Suite>,
    /// Seconds that each figure is measured for
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Messages in the mailbox that `read` works on
    #[arg(long, default_value_t = 10_000)]
    messages: u32,
    /// Messages in the mailbox that `open` opens
    #[arg(long, default_value_t = 100_000)]
    large: u32,
    /// Leave Dovecot out
    #[arg(long)]
    alone: bool,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let all = [Suite::Write, Suite::Read, Suite::Idle, Suite::Open];
    let suites = if cli.suites.is_empty() { all.to_vec() } else { cli.suites.clone() };
    let time = Duration::from_secs_f64(cli.seconds);
    for suite in suites {
        let table = match suite {
            Suite::Write => load::write(time, !cli.alone)?,
            Suite::Read => load::read(time, cli.messages, !cli.alone)?,
            Suite::Idle => servers::idle(1_000)?,
            Suite::Open => servers::open(cli.large)?,
        };
        println!("{table}");
    }
    Ok(())
}
