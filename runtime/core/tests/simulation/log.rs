//! The log of a run: a digest over every line, and the last lines for whoever looks for a failure.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::time::Duration;

/// Lines that are kept to be shown.
const KEPT: usize = 60;
/// FNV-1a.
const PRIME: u64 = 0x0000_0100_0000_01b3;

pub struct Log {
    digest: u64,
    pub lines: u64,
    last: VecDeque<String>,
    /// Every line is printed.
    told: bool,
}

impl Log {
    pub fn new(told: bool) -> Self {
        Self { digest: 0xcbf2_9ce4_8422_2325, lines: 0, last: VecDeque::new(), told }
    }

    pub fn line(&mut self, now: Duration, what: fmt::Arguments<'_>) {
        let mut line = if self.last.len() < KEPT {
            String::new()
        } else {
            self.last.pop_front().unwrap_or_default()
        };
        line.clear();
        let _ = write!(line, "{:>12.6} {what}", now.as_secs_f64());
        for octet in line.bytes() {
            self.digest = (self.digest ^ u64::from(octet)).wrapping_mul(PRIME);
        }
        if self.told {
            eprintln!("{line}");
        }
        self.lines += 1;
        self.last.push_back(line);
    }

    pub fn digest(&self) -> u64 {
        self.digest
    }

    pub fn last(&self) -> String {
        self.last.iter().map(|line| format!("{line}\n")).collect()
    }
}
