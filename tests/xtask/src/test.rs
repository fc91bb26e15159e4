//! `cargo xtask test`: sets up, builds once, runs every suite, adds up.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};

use crate::{sh, tools};

/// Counts of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
}

/// Runs all tests, or those whose names contain `filter`.
pub fn run(filter: Option<&str>) -> anyhow::Result<()> {
    let start = Instant::now();
    tools::guest_target()?;
    tools::fetch(tools::TEST)?;
    let mut total = Counts::default();
    let mut failures = Vec::new();
    let suites: [&[&str]; 2] = [
        &["test", "--locked", "--workspace", "--no-fail-fast"],
        &["test", "--locked", "--manifest-path", "guest-stores/Cargo.toml", "--no-fail-fast"],
    ];
    for suite in suites {
        let mut command = sh::cargo(suite);
        command.args(filter);
        let (counts, ok) = count(&mut command)?;
        total.passed += counts.passed;
        total.failed += counts.failed;
        if !ok {
            failures.push(sh::line(&command));
        }
    }
    eprintln!("all suites took {} s", start.elapsed().as_secs());
    println!("{} passed, {} failed", total.passed, total.failed);
    if !failures.is_empty() {
        bail!("failed: {}", failures.join("; "));
    }
    if total.passed == 0 {
        bail!("no test ran: does the filter name one?");
    }
    Ok(())
}

/// Runs a suite, passes its output on and reads its counts; and whether it ended well.
fn count(command: &mut Command) -> anyhow::Result<(Counts, bool)> {
    eprintln!("$ {}", sh::line(command));
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let stdout = child.stdout.take().context("cargo has no output")?;
    let mut counts = Counts::default();
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        println!("{line}");
        if let Some(more) = parse(&line) {
            counts.passed += more.passed;
            counts.failed += more.failed;
        }
    }
    Ok((counts, child.wait()?.success()))
}

/// Reads a closing line of the test harness.
fn parse(line: &str) -> Option<Counts> {
    let rest = line.strip_prefix("test result: ")?;
    let number = |word: &str| {
        let end = rest.find(word)?;
        rest[..end].trim_end().rsplit(' ').next()?.parse().ok()
    };
    Some(Counts { passed: number("passed")?, failed: number("failed")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_harness_closing_line_is_counted() {
        let line = "test result: ok. 12 passed; 3 failed; 0 ignored; 0 measured; 9 filtered out";
        assert_eq!(parse(line), Some(Counts { passed: 12, failed: 3 }));
        assert_eq!(parse("test foo ... ok"), None);
    }
}
