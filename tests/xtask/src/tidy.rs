//! Checks on the repository's own source text that no compiler makes: layers, owners of outside
//! dependencies, forbidden words, sizes. Each rule has a reason, printed with what breaks it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

/// Longest source file, in lines: what one can hold in the head.
const MAX_LINES: usize = 700;

/// What may stand at the root beside files whose names start with a dot.
const ROOT: &[&str] = &[
    "ARCHITECTURE.md",
    "Cargo.lock",
    "Cargo.toml",
    "Justfile",
    "LICENSE",
    "README.md",
    "guest-stores",
    "runtime",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "tests",
    "wit",
];

/// Node's layers from the top; each names only those below it. What lies side by side never
/// names each other.
const LAYERS: &[&[&str]] = &[
    &["cli"],
    &["deploy"],
    &["front", "conformance"],
    &["message_store"],
    &["router"],
    &["mailbox", "cluster"],
    &["guest"],
];

/// An outside crate and the one place that may name it.
const OWNERS: &[(&str, &str)] = &[
    ("wasmtime::", "runtime/node/src/guest/"),
    ("wasmtime_wasi", "runtime/node/src/guest/"),
    ("minisign_verify::", "runtime/node/src/guest/"),
    ("redb::", "runtime/storage/src/redb/"),
    ("object_store::", "runtime/storage/src/objects/"),
    ("tokio_postgres::", "runtime/storage/src/postgres/"),
    ("deadpool_postgres::", "runtime/storage/src/postgres/"),
    ("tonic::", "runtime/cluster/src/links/"),
    ("chitchat::", "runtime/cluster/src/gossip/"),
    ("winnow::", "runtime/core/src/imap/"),
    ("smtp_proto::", "runtime/core/src/lmtp/"),
    ("mail_parser::", "runtime/core/src/mime/"),
];

/// Words that no source file may contain, and why. Split so that this file does not contain them.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    ("#[ign", "ore", "every test runs"),
    ("tod", "o!(", "unfinished code is not landed"),
    ("unimple", "mented!(", "unfinished code is not landed"),
    ("unbounded_", "channel", "every queue has a named maximum"),
    ("FIX", "ME", "mend it, or write it down as an issue"),
];

/// Checks every file that git tracks or would add.
pub fn run() -> anyhow::Result<()> {
    let files = tracked()?;
    let (mut findings, mut metrics) = (Vec::new(), Metrics::default());
    for file in &files {
        findings.extend(check_place(file));
        let Ok(text) = std::fs::read_to_string(file) else { continue };
        findings.extend(check_text(file, &text));
        metrics.read(file, &text);
    }
    findings.extend(metrics.check());
    if findings.is_empty() {
        eprintln!("tidy: {} files, nothing to say", files.len());
        return Ok(());
    }
    findings.iter().for_each(|finding| eprintln!("tidy: {finding}"));
    bail!("tidy: {} findings", findings.len())
}

fn tracked() -> anyhow::Result<Vec<String>> {
    let listing = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").args(listing).output().context("tidy needs git")?;
    let text = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    Ok(text.lines().filter(|file| Path::new(file).exists()).map(str::to_owned).collect())
}

fn check_place(file: &str) -> Option<String> {
    let top = file.split('/').next().unwrap_or(file);
    let known = top.starts_with('.') || ROOT.contains(&top);
    (!known).then(|| format!("{file}: the top level is fixed; put it under one of its folders"))
}

fn check_text(file: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let source = [".rs", ".py", ".c", ".wit", ".sh"].iter().any(|end| file.ends_with(end));
    for (number, line) in text.lines().enumerate() {
        let at = |what: &str| format!("{file}:{}: {what}", number + 1);
        if source && line.ends_with([' ', '\t']) {
            findings.push(at("white space at the end of the line"));
        }
        if source {
            let broken = FORBIDDEN.iter().filter(|(a, b, _)| line.contains(&format!("{a}{b}")));
            findings.extend(broken.map(|(a, b, why)| at(&format!("{a}{b}: {why}"))));
        }
        if file.ends_with(".rs") {
            findings.extend(check_layers(file, line).map(|what| at(&what)));
            findings.extend(check_owner(file, line).map(|what| at(&what)));
            findings.extend(check_sleep(file, line).map(|what| at(&what)));
        }
    }
    if file.ends_with(".rs") {
        let lines = text.lines().count();
        if lines > MAX_LINES {
            findings.push(format!("{file}: {lines} lines, more than {MAX_LINES}: part it"));
        }
        let documented = text.starts_with("//!") || text.starts_with("#![");
        if !documented {
            findings.push(format!("{file}: begins with no module doc (//!): say what and why"));
        }
    }
    findings
}

/// A node layer may name only layers below its own.
fn check_layers(file: &str, line: &str) -> Option<String> {
    let rest = file.strip_prefix("runtime/node/src/")?;
    let own = rest.split(['/', '.']).next()?;
    let rank = |name: &str| LAYERS.iter().position(|layer| layer.contains(&name));
    let own_rank = rank(own)?;
    let named = line
        .split("crate::")
        .skip(1)
        .filter_map(|tail| tail.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next());
    let mut wrong = named
        .filter(|name| *name != own && rank(name).is_some_and(|named_rank| named_rank <= own_rank));
    wrong.next().map(|name| format!("layer {own} names {name}, which does not lie below it"))
}

/// Each outside dependency has one owner.
fn check_owner(file: &str, line: &str) -> Option<String> {
    if !file.starts_with("runtime/") || line.trim_start().starts_with("//") {
        return None;
    }
    let wrong = OWNERS.iter().find(|(name, home)| {
        let starts_word = line.match_indices(name).any(|(at, _)| {
            !line[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':')
        });
        starts_word && !file.starts_with(home)
    });
    wrong.map(|(name, home)| format!("{name} is named outside {home}, its one owner"))
}

/// Names of metrics, with where they were first seen.
#[derive(Default)]
struct Metrics {
    counted: BTreeMap<String, String>,
    explained: BTreeMap<String, String>,
}

impl Metrics {
    fn read(&mut self, file: &str, text: &str) {
        let runtime = file.starts_with("runtime/") && file.ends_with(".rs");
        if !runtime || file.contains("/tests") {
            return;
        }
        // Every literal counts, not macros only: names go through functions too.
        let literal = |part: &&str| {
            let plain = |c: char| c.is_ascii_lowercase() || c == '_';
            part.starts_with("postroom_") && part.chars().all(plain)
        };
        for name in text.split('"').filter(literal) {
            let places = match file.ends_with("/meters.rs") {
                true => &mut self.explained,
                false => &mut self.counted,
            };
            places.entry(name.to_owned()).or_insert_with(|| file.to_owned());
        }
    }

    /// Each is explained to whoever reads `/metrics`.
    fn check(&self) -> impl Iterator<Item = String> {
        let unknown = self.counted.iter().filter(|(name, _)| !self.explained.contains_key(*name));
        unknown.map(|(name, file)| format!("{file}: {name} is explained in no meters.rs"))
    }
}

/// Tests wait for events.
fn check_sleep(file: &str, line: &str) -> Option<String> {
    let test = file.starts_with("tests/system/tests/") || file.contains("/tests/");
    let sleeps = line.contains(concat!("sl", "eep(")) && !file.ends_with("eventually.rs");
    (test && sleeps).then(|| "a test waits for an event, never for time".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(file: &str, text: &str, expected: &[&str]) {
        let found = check_text(file, &format!("//! Doc.\n{text}\n"));
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (finding, word) in found.iter().zip(expected) {
            assert!(finding.contains(word), "{finding} lacks {word}");
        }
    }

    #[test]
    fn a_layer_names_only_what_lies_below_it() {
        check("runtime/node/src/guest/mod.rs", "use crate::router::Router;", &["layer"]);
        check("runtime/node/src/mailbox/mod.rs", "use crate::cluster::Links;", &["layer"]);
        check("runtime/node/src/front/mod.rs", "use crate::message_store::X;", &[]);
        check("runtime/node/src/guest/mod.rs", "use crate::{guest::X};", &[]);
    }

    #[test]
    fn an_outside_dependency_has_one_owner() {
        check("runtime/node/src/mailbox/mod.rs", "use redb::Database;", &["one owner"]);
        check("runtime/storage/src/redb/mod.rs", "use redb::Database;", &[]);
        check("runtime/node/src/cli/mod.rs", "use crate::storage::redb::Engine;", &[]);
    }

    #[test]
    fn forbidden_words_and_sleeping_tests_are_found() {
        check("runtime/core/src/a.rs", concat!("#[ign", "ore]"), &["every test runs"]);
        check("tests/system/tests/a.rs", concat!("thread::sl", "eep(x)"), &["event"]);
        check("tests/system/tests/a.rs", "let x = 1; ", &["white space"]);
    }

    #[test]
    fn long_or_undocumented_files_are_found() {
        let long = "x\n".repeat(MAX_LINES + 1);
        assert_eq!(check_text("a.rs", &long).len(), 2);
    }

    #[test]
    fn a_metric_that_nothing_explains_is_found() {
        let (name, other) = ("postroom_a_total", "postroom_b_total");
        let mut metrics = Metrics::default();
        metrics.read("runtime/a.rs", &format!("count({name:?}); count({other:?})"));
        metrics.read("runtime/tests/b.rs", "count(\"postroom_c_total\")");
        assert_eq!(metrics.check().count(), 2);
        metrics.read("runtime/meters.rs", &format!("explain({name:?})"));
        let found: Vec<_> = metrics.check().collect();
        assert!(matches!(&found[..], [one] if one.contains(other)), "{found:?}");
    }

    #[test]
    fn the_top_level_is_fixed() {
        assert!(check_place("notes.txt").is_some());
        assert!(check_place("runtime/x.rs").is_none());
    }
}
