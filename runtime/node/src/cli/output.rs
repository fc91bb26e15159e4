//! What commands print: text for people, or JSON lines; progress only where somebody watches.

use std::io::{IsTerminal, Write};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// How a command prints.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// JSON lines instead of text.
    pub json: bool,
}

/// A progress bar, or nothing where nobody watches.
pub struct Progress(ProgressBar);

impl Output {
    /// Prints one result: a JSON line, or the text.
    pub fn result<T: Serialize>(&self, value: &T, text: impl FnOnce() -> String) -> Result<()> {
        let line = match self.json {
            true => serde_json::to_string(value).context("cannot print")?,
            false => text(),
        };
        // Not println!: a reader that went away is no reason to panic.
        writeln!(std::io::stdout(), "{line}").context("cannot print")
    }

    /// Prints rows: a JSON line each, or columns with a head.
    pub fn rows<T: Serialize>(
        &self,
        heads: &[&str],
        rows: &[T],
        cells: impl Fn(&T) -> Vec<String>,
    ) -> Result<()> {
        let mut out = std::io::stdout().lock();
        if self.json {
            for row in rows {
                let line = serde_json::to_string(row).context("cannot print")?;
                writeln!(out, "{line}").context("cannot print")?;
            }
            return Ok(());
        }
        let mut table = vec![heads.iter().map(|head| (*head).to_owned()).collect::<Vec<_>>()];
        table.extend(rows.iter().map(cells));
        for line in columns(&table) {
            writeln!(out, "{line}").context("cannot print")?;
        }
        Ok(())
    }

    /// Before a result that is shown again and again: takes the last one away, where somebody looks on.
    pub fn again(&self) {
        if !self.json && std::io::stdout().is_terminal() {
            // Home, and clear what is below.
            print!("\x1b[H\x1b[J");
        }
    }

    /// Says something beside the result.
    pub fn warn(&self, text: &str) {
        eprintln!("postroom: {text}");
    }

    /// A bar over so many units; shown only where standard error is a terminal.
    pub fn progress(&self, what: &'static str, total: u64) -> Progress {
        if self.json || !std::io::stderr().is_terminal() {
            return Progress(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(total).with_message(what);
        let style = "{msg} [{bar:40}] {percent}% {eta} left";
        bar.set_style(ProgressStyle::with_template(style).unwrap_or(ProgressStyle::default_bar()));
        Progress(bar)
    }
}

impl Progress {
    /// So much is done.
    pub fn set(&self, done: u64) {
        self.0.set_position(done);
    }

    /// More is done.
    pub fn add(&self, more: u64) {
        self.0.inc(more);
    }

    /// All is done.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

fn columns(table: &[Vec<String>]) -> Vec<String> {
    let count = table.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |at: usize| table.iter().filter_map(|row| row.get(at)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..count).map(|at| width(at).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    table.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let table = [["NAME", "N"], ["Entwürfe", "1"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(columns(&table), ["NAME      N", "Entwürfe  1"]);
    }
}
