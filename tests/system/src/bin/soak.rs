//! The soak as a command: `cargo xtask soak --minutes 30`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use postroom_system::soak::fault::Fault;
use postroom_system::soak::report::Progress;
use postroom_system::soak::{self, Options};

/// How long a run is that nobody asked to be longer.
const MINUTES: f64 = 5.0;
/// How long it is at most where swaps are counted instead: a day.
const LONGEST_MINUTES: f64 = 24.0 * 60.0;

/// Keep a cluster of real nodes under load, disturb it, and prove that nothing acknowledged is lost
#[derive(Parser)]
#[command(
    name = "cargo xtask soak",
    after_help = "Each node is a process of its own over one private PostgreSQL. On every node clients append, deliver, flag,
copy, move, expunge and idle, and stay selected whatever happens. One disturbance follows the other; in between
every client must have been served. In the end all mailboxes are read and held against what clients were told:
acknowledged means present (or removed by a client), no attempt twice, no UID with two meanings; UIDs, UIDVALIDITY
and mod-sequences never go back in any client's record.

Versions of the store component (`swap…`) are deployed under the same load, good ones and one for each way of being
broken. A good one must become permanent, a broken one must be refused or go back by itself with one line that says
why; in the end all nodes serve the same. A client that hears NO or BYE, or loses its connection, because of one is
an error. After a run with `swap` the report has what each command took with a swap under way and without, side by
side, and what nodes have of memory, mappings and threads after 0, 1, 10, 50, 100, 200, 500 and 1,000 swaps.

Each 10 s a line says how it goes. Ctrl-C ends it early, with the check of what there is.

Examples:
  cargo xtask soak                                   five minutes of everything
  cargo xtask soak --minutes 30 --seed 7 --nodes 5   longer, with more nodes
  cargo xtask soak --faults kill,late-commit         only these
  cargo xtask soak --faults none                     load alone
  cargo xtask soak --faults nodes                    everything but versions of the store component
  cargo xtask soak --faults versions                 good and broken versions, and nodes killed during a deployment
  cargo xtask soak --faults swap --swaps 100 --clients 200 --accounts 30 --pace 0.5
                                                     a show: good versions, many clients that pace themselves
  cargo xtask soak --faults swap --swaps 1000 --writers 1 --nodes 2 --pace 1
                                                     what a node keeps of each swap

A seed repeats the choices of a run; what time does to it is another matter.

Exit codes: 0 all is as it was told; 1 something is wrong, or (with --goals) a wait was longer than its goal;
2 wrong usage. With --json each line is an object: `progress`, then `soak`."
)]
struct Cli {
    /// How long disturbances go on, in minutes; without: 5, or with --swaps or --rounds as long as that takes
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
    /// After so many versions that have become permanent it is over, too
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    swaps: Option<u32>,
    /// Of all choices; without: another one each time, which is printed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// After so many times all that is done it is over, too
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: Option<u32>,
    /// How many nodes
    #[arg(long, default_value_t = 3, value_name = "K", value_parser = clap::value_parser!(u8).range(2..=8))]
    nodes: u8,
    /// How many accounts: each is open on one node at a time
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    accounts: u8,
    /// On each node, how many clients that write, beside one that idles
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=32))]
    writers: u8,
    /// Instead of --writers: how many clients on all nodes together; a third of them idle
    #[arg(long, value_name = "N", conflicts_with = "writers", value_parser = clap::value_parser!(u16).range(4..=1_000))]
    clients: Option<u16>,
    /// How many requests each client makes a second at most; without: as many as it can
    #[arg(long, value_name = "N", value_parser = pace)]
    pace: Option<Duration>,
    /// What is done, separated by commas; `nodes`, `versions`, `all`, or `none`
    #[arg(long, default_value = "all", value_delimiter = ',', value_name = "LIST", long_help = faults_help(), value_parser = fault)]
    faults: Vec<Choice>,
    /// A folder for data, logs and events, which stays; without: a temporary one, which stays if anything is wrong
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// What nodes log: `info`, `debug`, or directives by module
    #[arg(long, default_value = "info", value_name = "FILTER")]
    log: String,
    /// A goal that is missed is an error too
    #[arg(long)]
    goals: bool,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// One word of `--faults`.
#[derive(Clone)]
struct Choice(Vec<Fault>);

fn fault(word: &str) -> Result<Choice, String> {
    use clap::ValueEnum as _;
    match word {
        "all" => Ok(Choice(Fault::all())),
        "nodes" => Ok(Choice(Fault::of_cluster())),
        "versions" => Ok(Choice(Fault::of_versions())),
        "none" => Ok(Choice(Vec::new())),
        word => match Fault::from_str(word, false) {
            Ok(fault) if fault != Fault::Calm => Ok(Choice(vec![fault])),
            Ok(_) | Err(_) => {
                let names: Vec<String> = Fault::all().into_iter().map(Fault::name).collect();
                Err(format!("there are {}, nodes, versions, all, none", names.join(", ")))
            }
        },
    }
}

fn faults_help() -> String {
    use clap::ValueEnum as _;
    let line = |fault: Fault| {
        let help = fault.to_possible_value().and_then(|value| value.get_help().cloned());
        format!("  {:<16} {}", fault.name(), help.map(|help| help.to_string()).unwrap_or_default())
    };
    let lines: Vec<String> = Fault::all().into_iter().map(line).collect();
    let groups = "`nodes` (up to swap), `versions` (from there on), `all`, or `none`";
    format!("What is done, separated by commas; {groups}:\n{}", lines.join("\n"))
}

/// So many requests a second, as the time from one to the next.
fn pace(text: &str) -> Result<Duration, String> {
    let wrong = "a number of requests a second, 0.01 to 1000";
    let each_second: f64 = text.parse().map_err(|_| wrong.to_owned())?;
    match (0.01..=1_000.0).contains(&each_second) {
        true => Ok(Duration::from_secs_f64(1.0 / each_second)),
        false => Err(wrong.to_owned()),
    }
}

fn main() -> ExitCode {
    match perform(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(cli: &Cli) -> Result<bool> {
    let scratch = postroom_system::scratch();
    let folder = cli.keep.clone().unwrap_or_else(|| scratch.path().to_owned());
    std::fs::create_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
    let mut faults: Vec<Fault> = cli.faults.iter().flat_map(|choice| choice.0.clone()).collect();
    faults.sort();
    faults.dedup();
    let nodes = usize::from(cli.nodes);
    // On each node a third of those who are wanted there, and at least one, idles.
    let (writers, idlers) = match cli.clients.map(|clients| usize::from(clients).div_ceil(nodes)) {
        Some(clients) => (clients - (clients / 3).max(1), (clients / 3).max(1)),
        None => (usize::from(cli.writers), 1),
    };
    let minutes = match (cli.minutes, cli.swaps.or(cli.rounds)) {
        (Some(minutes), _) => minutes,
        (None, None) => MINUTES,
        (None, Some(_)) => LONGEST_MINUTES,
    };
    let options = Options {
        seed: cli.seed.unwrap_or_else(fresh_seed),
        time: Duration::try_from_secs_f64(minutes * 60.0).context("--minutes")?,
        nodes,
        accounts: usize::from(cli.accounts),
        writers,
        idlers,
        pace: cli.pace.unwrap_or_default(),
        swaps: cli.swaps,
        rounds: cli.rounds,
        faults,
        log: cli.log.clone(),
        folder: folder.canonicalize()?,
    };
    eprintln!(
        "seed {}: {} nodes over a PostgreSQL, in {}",
        options.seed,
        options.nodes,
        options.folder.display()
    );
    let interrupted = listen_for_interrupt()?;
    let report = match soak::run(&options, &interrupted, &|progress| tell(cli.json, progress)) {
        Ok(report) => report,
        Err(error) if cli.keep.is_some() => return Err(error),
        Err(error) => {
            let kept = scratch.keep();
            return Err(error.context(format!("logs and events stay in {}", kept.display())));
        }
    };
    match cli.json {
        true => println!("{}", report.json()),
        false => print!("{}", report.text()),
    }
    let missed = report.missed();
    if cli.keep.is_none() && !report.is_sound() {
        eprintln!("logs and events stay in {}", scratch.keep().display());
    }
    Ok(report.is_sound() && (missed.is_empty() || !cli.goals))
}

fn tell(as_json: bool, progress: &Progress) {
    let (worst, during) = progress.worst;
    let seconds = progress.elapsed.as_secs();
    match as_json {
        true => println!(
            "{}",
            serde_json::json!({
                "type": "progress",
                "seconds": seconds,
                "acknowledged": progress.acknowledged,
                "calls": progress.calls,
                "faults": progress.faults,
                "now": progress.now.name(),
                "refused": progress.refused,
                "worst_ms": worst.as_secs_f64() * 1e3,
                "worst_during": during.name(),
            })
        ),
        // Progress is for who watches, or reads a log of it; the result alone goes to standard output.
        false => eprintln!(
            "{seconds:5} s  acknowledged {}, faults {} (now {}), refused {}, worst wait {worst:.1?} ({})",
            progress.acknowledged,
            progress.faults,
            progress.now.name(),
            progress.refused,
            during.name(),
        ),
    }
}

/// Set when Ctrl-C is pressed, or SIGTERM comes. What is under way is bounded, so the end comes by itself.
fn listen_for_interrupt() -> Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let set = interrupted.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let Ok(mut term) = signal(SignalKind::terminate()) else { return };
            loop {
                tokio::select! {
                    _ = tokio::signal::ctrl_c() => {}
                    _ = term.recv() => {}
                }
                set.store(true, Ordering::Relaxed);
                eprintln!("ending in good order; the check of what there is follows");
            }
        });
    });
    Ok(interrupted)
}

fn fresh_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(1, |now| now.as_nanos() as u64 % 1_000_000)
}
