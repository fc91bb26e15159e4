//! Postroom's benchmarks: ratios within one run, each against something that is measured beside it.
//! Run by `cargo xtask bench`, which fetches and builds what it needs.
//!
//! Each suite is a file of its name; `rounds` lets the sides take turns, `report` prints, `servers`
//! starts the node and Dovecot, `client` is the IMAP client that drives both.

mod report;
mod rounds;

mod client;
mod machine;
mod mail;
mod raw;

mod dovecot;
mod servers;

mod cluster;
mod engine;
mod idle;
mod open;
mod operations;
mod read;
mod sandbox;
mod schema;
mod write;

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};
use report::{Table, progress};
use rounds::Pace;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// The store component against the same logic linked natively: appends, STORE, opening
    Sandbox,
    /// The embedded engine against raw append + fdatasync
    Engine,
    /// APPEND and LMTP, against raw append + fdatasync and Dovecot; syncs and KiB of each
    Write,
    /// FETCH, STORE, COPY, MOVE, EXPUNGE, LOGIN, STATUS, LIST, SEARCH, NOOP, against Dovecot
    Read,
    /// Memory of idle connections; how soon IDLE tells of new mail
    Idle,
    /// Opening a large mailbox; memory of its index
    Open,
    /// Three nodes over PostgreSQL: a mailbox at another node, how soon changes are seen, take-overs
    Cluster,
    /// A new version of the store whose rows have another schema: the sweep, and clients meanwhile
    Schema,
}

const ALL: [Suite; 8] = [
    Suite::Sandbox,
    Suite::Engine,
    Suite::Write,
    Suite::Read,
    Suite::Idle,
    Suite::Open,
    Suite::Cluster,
    Suite::Schema,
];

/// Measures Postroom beside what it is held against, in one run
///
/// Every figure is a ratio to something that the same run measures beside it: the disk itself, the
/// store logic without its sandbox, Dovecot over the same client. The sides take turns, round by
/// round; what is printed is the median, and behind a ratio its lowest and highest round. Where
/// a table names a goal, it says whether the median meets it.
#[derive(Parser)]
#[command(
    name = "cargo xtask bench",
    after_help = "Examples:\n  cargo xtask bench                      everything; about half an hour\n  cargo xtask bench sandbox write        two suites\n  cargo xtask bench read --seconds 0.3 --rounds 1 --messages 200\n                                         a quick look at whether it works; its figures mean nothing\n  cargo xtask bench --json > bench.json  one JSON object for each table, all rounds in it\n\nMail is written below $TMPDIR (/tmp): that must lie on the disk that is to be measured.\nLeave the machine alone meanwhile. Standard error says what is going on."
)]
struct Cli {
    /// Suites, in the order in which they run; without: all
    #[arg(value_enum)]
    suites: Vec<Suite>,
    /// Seconds that each side of a figure is measured for, in each round
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Rounds: how often the sides take turns
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Messages in the mailbox that `sandbox` and `read` work on
    #[arg(long, default_value_t = 10_000)]
    messages: u64,
    /// Messages in the mailbox that `open` opens, and in the one of `schema`
    #[arg(long, default_value_t = 100_000)]
    large: u64,
    /// Connections that `idle` keeps
    #[arg(long, default_value_t = 1_000)]
    connections: usize,
    /// Leave Dovecot out
    #[arg(long)]
    alone: bool,
    /// Print tables as JSON, one object a line, and those for people on standard error
    #[arg(long)]
    json: bool,
}

impl Cli {
    fn check(&self) -> anyhow::Result<()> {
        let counts = [self.rounds as u64, self.messages, self.large, self.connections as u64];
        ensure!(counts.iter().all(|count| *count > 0), "a count of zero measures nothing");
        ensure!(
            self.seconds > 0.0 && self.seconds < 3600.0,
            "--seconds is more than zero, and less than an hour"
        );
        Ok(())
    }

    fn run(&self, suite: Suite) -> anyhow::Result<Vec<Table>> {
        let pace = Pace { time: Duration::from_secs_f64(self.seconds), rounds: self.rounds };
        let with_dovecot = !self.alone;
        match suite {
            Suite::Sandbox => sandbox::run(pace, self.messages),
            Suite::Engine => engine::run(pace),
            Suite::Write => write::run(pace, with_dovecot),
            Suite::Read => read::run(pace, self.messages, with_dovecot),
            Suite::Idle => idle::run(pace, self.connections, with_dovecot),
            Suite::Open => open::run(pace, self.large),
            Suite::Cluster => cluster::run(pace),
            Suite::Schema => schema::run(pace, self.large),
        }
    }

    fn print(&self, table: &Table) -> std::io::Result<()> {
        match self.json {
            true => {
                eprintln!("{table}");
                writeln!(std::io::stdout(), "{}", table.json())
            }
            false => writeln!(std::io::stdout(), "{table}"),
        }
    }
}

/// What the figures are made with: the first lines of every report.
fn preface(cli: &Cli) -> anyhow::Result<()> {
    let folder = std::env::temp_dir();
    let dovecot = match cli.alone {
        true => "without Dovecot".to_owned(),
        false => format!("Dovecot {}", dovecot::version()?),
    };
    let machine = machine::description(&folder);
    let (postroom, pace) = (env!("CARGO_PKG_VERSION"), (cli.rounds, cli.seconds));
    let text = format!(
        "Postroom {postroom}, {dovecot}; {machine} ({}); {} rounds of {} s a side",
        folder.display(),
        pace.0,
        pace.1
    );
    if machine::file_system(&folder) == "tmpfs" {
        progress(
            "warning: a file system in memory: nothing here is durable; set TMPDIR to a folder on a disk",
        );
    }
    if cli.json {
        let json = serde_json::json!({ "report": text });
        writeln!(std::io::stdout(), "{json}")?;
    }
    match cli.json {
        true => eprintln!("{text}"),
        false => writeln!(std::io::stdout(), "{text}")?,
    }
    Ok(())
}

fn main() -> std::process::ExitCode {
    match perform(&Cli::parse()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            // Debug would print a backtrace; what to do next is said in one line.
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn perform(cli: &Cli) -> anyhow::Result<()> {
    cli.check()?;
    preface(cli)?;
    let suites = if cli.suites.is_empty() { &ALL[..] } else { &cli.suites[..] };
    for suite in suites {
        progress(format_args!("suite {suite:?}"));
        let tables = cli.run(*suite).with_context(|| format!("suite {suite:?}"))?;
        tables.iter().try_for_each(|table| cli.print(table)).context("cannot print")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn nothing_is_not_measured() {
        let parse = |args: &[&str]| Cli::parse_from([&["bench"], args].concat()).check().is_ok();
        assert!(parse(&["read", "--seconds", "0.3"]));
        assert!(!parse(&["--rounds", "0"]));
        assert!(!parse(&["--seconds", "0"]));
    }
}
