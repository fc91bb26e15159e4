//! The project's own commands: `cargo xtask …`. Needs nothing but cargo; what a task needs beside
//! it, the task fetches from package registries by itself.

mod sh;
mod test;
mod tidy;
mod tools;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Postroom's own build, test and bench commands")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build a release node and start it to try things on (README's first command); arguments go
    /// to `postroom dev` (try `cargo xtask dev --help`)
    #[command(disable_help_flag = true)]
    Dev {
        /// Passed on
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Build release nodes and start several over a private PostgreSQL, with lines to try them with
    Cluster {
        /// How many
        #[arg(default_value_t = 3)]
        nodes: usize,
    },
    /// Keep real nodes under load, disturb them, prove that nothing acknowledged is lost; arguments go
    /// to the soak (try `cargo xtask soak --help`)
    #[command(disable_help_flag = true)]
    Soak {
        /// Passed on
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Set up what the tests need, then run all of them (README's second command)
    Test {
        /// Only tests whose names contain this
        filter: Option<String>,
    },
    /// Formatting, clippy and the tidy checks, then `test`: what CI runs
    Ci,
    /// Check the repository's own source text: layers, limits, forbidden words
    Tidy,
    /// Run the benchmarks; arguments go to the benchmark (try `cargo xtask bench --help`)
    #[command(disable_help_flag = true)]
    Bench {
        /// Passed on
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Fetch the programs that tests and benchmarks use beside Rust
    Tools {
        /// Also what only the benchmarks need (Dovecot)
        #[arg(long)]
        bench: bool,
    },
}

fn main() -> std::process::ExitCode {
    match perform(Cli::parse().task) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            // Debug would print a backtrace; what to do next is said in one line.
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> anyhow::Result<()> {
    std::env::set_current_dir(sh::root())?;
    match task {
        Task::Dev { args } => {
            tools::guest_target()?;
            let run = ["run", "--release", "--locked", "--bin", "postroom", "--", "dev"];
            sh::become_it(sh::cargo(&run).args(args))
        }
        Task::Cluster { nodes } => {
            tools::guest_target()?;
            tools::fetch(tools::CLUSTER)?;
            sh::run(&mut sh::cargo(&["build", "--release", "--locked", "--bin", "postroom"]))?;
            let run = ["run", "--release", "--locked", "--package", "postroom-system"];
            let number = nodes.to_string();
            sh::become_it(sh::cargo(&run).args(["--bin", "cluster", "--", &number]))
        }
        Task::Soak { args } => soak(&args),
        Task::Test { filter } => test::run(filter.as_deref()),
        Task::Ci => ci(),
        Task::Tidy => tidy::run(),
        Task::Bench { args } => {
            tools::guest_target()?;
            if !args.iter().any(|arg| arg == "--alone") {
                tools::fetch(tools::BENCH)?;
            }
            let build = ["build", "--release", "--locked", "--bin", "postroom"];
            sh::run(&mut sh::cargo(&build))?;
            let run = ["run", "--release", "--locked", "--package", "postroom-bench", "--"];
            sh::run(sh::cargo(&run).args(args))
        }
        Task::Tools { bench } => tools::fetch(if bench { tools::BENCH } else { tools::TEST }),
    }
}

/// Over the programs that the tests are run on: what was built for these serves here too, and debug
/// assertions are on.
fn soak(args: &[String]) -> anyhow::Result<()> {
    let only_help = args.iter().any(|arg| arg == "--help" || arg == "-h");
    if !only_help {
        tools::guest_target()?;
        tools::fetch(tools::CLUSTER)?;
        // Tests of a package bring its programs along: node's and ours.
        let tests = ["--no-run", "--test", "program", "--test", "cluster_soak"];
        sh::run(sh::cargo(&["test", "--locked", "--workspace"]).args(tests))?;
    }
    let run = ["run", "--quiet", "--locked", "--package", "postroom-system", "--bin", "soak"];
    sh::become_it(sh::cargo(&run).arg("--").args(args))
}

fn ci() -> anyhow::Result<()> {
    tools::guest_target()?;
    let guests = "guest-stores/Cargo.toml";
    sh::run(&mut sh::cargo(&["fmt", "--all", "--check"]))?;
    sh::run(&mut sh::cargo(&["fmt", "--all", "--check", "--manifest-path", guests]))?;
    tidy::run()?;
    let deny = ["--", "-D", "warnings"];
    sh::run(sh::cargo(&["clippy", "--workspace", "--all-targets", "--locked"]).args(deny))?;
    sh::run(
        sh::cargo(&["clippy", "--workspace", "--locked", "--target", "wasm32-wasip2"])
            .args(["--manifest-path", guests, "--release"])
            .args(deny),
    )?;
    test::run(None)
}
