//! What `postroom store check` prints: a line per case as it ends, everything about a failure, and a
//! summary; as text for people, or a JSON object a line.

use std::collections::BTreeMap;

use anyhow::Result;
use postroom_kit::promises::promise;
use postroom_kit::run::{Outcome, Planned, Ran, Summary};
use serde::Serialize;

use super::super::args::StoreCheck;
use super::super::output::Output;
use crate::guest::{Inspection, SignedBy};

/// Calls, and lines that were printed, that are shown of a failing case; as JSON all that are
/// remembered.
const SHOWN_LINES: usize = 12;

/// The report of one run.
pub(super) struct Report {
    /// What every replay begins with: the command with what the component was granted.
    command: String,
    seed: u64,
    asked: u8,
    chosen: bool,
    component: String,
    signed: Option<SignedBy>,
    kinds: Vec<&'static str>,
    total: usize,
    at: usize,
    /// Cases of kinds that are not kept, by kind: a line each would say nothing.
    not_kept: BTreeMap<&'static str, usize>,
    /// Cases that were not run, by the reason; likewise.
    not_run: BTreeMap<String, Vec<String>>,
}

/// A case as JSON.
#[derive(Serialize)]
#[serde(tag = "type", rename = "case", rename_all = "kebab-case")]
struct CaseLine<'a> {
    case: String,
    level: u8,
    outcome: &'static str,
    promises: Vec<String>,
    calls: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<FailureLine<'a>>,
}

/// A broken promise as JSON.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct FailureLine<'a> {
    promise: &'a str,
    sentence: String,
    how: &'a str,
    trace: &'a [String],
    printed: &'a [String],
    replay: String,
}

/// The end as JSON.
#[derive(Serialize)]
#[serde(tag = "type", rename = "summary", rename_all = "kebab-case")]
struct EndLine<'a> {
    component: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    signed: Option<&'a SignedBy>,
    kinds: &'a [&'static str],
    seed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    level_asked: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    level_reached: Option<u8>,
    passed: usize,
    failed: usize,
    not_applicable: usize,
    not_run: usize,
    promises_held: usize,
    promises: usize,
}

/// An explanation as JSON.
#[derive(Serialize)]
#[serde(tag = "type", rename = "explanation", rename_all = "kebab-case")]
struct Explained {
    case: String,
    level: u8,
    does: &'static str,
    promises: BTreeMap<String, String>,
}

/// The sentence of a promise, as it stands in the WIT.
fn sentence(id: &str) -> String {
    promise(id).map(|promise| promise.sentence).unwrap_or_default()
}

/// Says what a case does and to which sentences it holds a store.
pub(super) fn explain(planned: Planned, output: &Output) -> Result<()> {
    let covers = planned.covers();
    let line = Explained {
        case: planned.name(),
        level: planned.case.level.number(),
        does: planned.case.does,
        promises: covers.iter().map(|id| (id.clone(), sentence(id))).collect(),
    };
    output.result(&line, || {
        let (level, does) = (planned.case.level, planned.case.does);
        let mut lines = vec![planned.name(), format!("  {does}")];
        lines.push(format!("  level {}: {}", level.number(), level.says()));
        lines.extend(covers.iter().map(|id| format!("  [{id}] {}", sentence(id))));
        lines.join("\n")
    })
}

/// The command, for a shell, up to the choice of cases.
fn command(file: &str, args: &StoreCheck) -> String {
    let mut words = vec!["postroom store check".to_owned(), quoted(file)];
    words.extend(args.http.iter().map(|host| format!("--http {}", quoted(host))));
    let settings = args.settings.iter().map(|(name, value)| quoted(&format!("{name}={value}")));
    words.extend(settings.map(|setting| format!("--setting {setting}")));
    words.join(" ")
}

/// A word as a shell takes it: as it is where nothing in it means anything else.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./=:,@%+-".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// The last ones of many lines, under a word.
fn last(word: &'static str, of: &[String]) -> impl Iterator<Item = String> {
    let skipped = of.len().saturating_sub(SHOWN_LINES);
    let shown = of.iter().skip(skipped).enumerate();
    shown.map(move |(at, line)| format!("    {:<7} {line}", if at == 0 { word } else { "" }))
}

impl Report {
    pub(super) fn new(
        args: &StoreCheck,
        (inspection, signed): (&Inspection, Option<&SignedBy>),
        planned: &[Planned],
    ) -> Self {
        let file = args.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
        let named = inspection.manifest.as_ref().map(|m| format!("{} {}", m.name, m.version));
        Self {
            component: named.unwrap_or_else(|| format!("{file} (without a manifest)")),
            signed: signed.cloned(),
            command: command(&file, args),
            seed: args.seed,
            asked: args.level,
            chosen: !args.cases.is_empty(),
            kinds: inspection.kinds.iter().map(|kind| kind.name()).collect(),
            total: planned.len(),
            at: 0,
            not_kept: BTreeMap::new(),
            not_run: BTreeMap::new(),
        }
    }

    /// What is about to be done; nothing as JSON, where the last line says it.
    pub(super) fn head(&self, output: &Output) -> Result<()> {
        if output.json {
            return Ok(());
        }
        let (kinds, seed) = (self.kinds.join(", "), self.seed);
        let text = format!("{} keeps {kinds}; {} cases, seed {seed}", self.component, self.total);
        let signed = self.signed.iter().map(SignedBy::shown);
        output.result(&(), || [text].into_iter().chain(signed).collect::<Vec<_>>().join("\n"))
    }

    /// A case has run.
    pub(super) fn case(&mut self, ran: &Ran, output: &Output) -> Result<()> {
        self.at += 1;
        let kept = self.kinds.contains(&ran.planned.interface);
        if !kept && !output.json {
            *self.not_kept.entry(ran.planned.interface).or_default() += 1;
            return Ok(());
        }
        if let (Outcome::NotRun(why), false) = (&ran.outcome, output.json) {
            self.not_run.entry(why.clone()).or_default().push(ran.planned.name());
            return Ok(());
        }
        output.result(&self.line(ran), || self.text(ran))
    }

    fn line<'a>(&self, ran: &'a Ran) -> CaseLine<'a> {
        let (outcome, reason, failure) = match &ran.outcome {
            Outcome::Passed => ("passed", None, None),
            Outcome::NotApplicable(why) => ("not-applicable", Some(why.as_str()), None),
            Outcome::NotRun(why) => ("not-run", Some(why.as_str()), None),
            Outcome::Failed(failure) => ("failed", None, Some(failure)),
        };
        let failure = failure.map(|failure| FailureLine {
            promise: &failure.promise,
            sentence: sentence(&failure.promise),
            how: &failure.what,
            trace: &failure.trace,
            printed: &failure.printed,
            replay: self.replay(ran),
        });
        CaseLine {
            case: ran.planned.name(),
            level: ran.planned.case.level.number(),
            outcome,
            promises: ran.planned.covers(),
            calls: ran.calls,
            reason,
            failure,
        }
    }

    fn replay(&self, ran: &Ran) -> String {
        let (name, seed) = (ran.planned.name(), self.seed);
        format!("{} --case {name} --seed {seed}", self.command)
    }

    fn text(&self, ran: &Ran) -> String {
        let (at, total, name) = (self.at, self.total, ran.planned.name());
        let width = total.to_string().len();
        let (level, calls) = (ran.planned.case.level.number(), ran.calls);
        let line = |word: &str| format!("[{at:>width$}/{total}] {word:<6} {level} {name}");
        match &ran.outcome {
            Outcome::Passed => format!("{} ({calls} calls)", line("ok")),
            Outcome::NotApplicable(why) => format!("{}: {why}", line("n/a")),
            // Told at the end.
            Outcome::NotRun(_) => String::new(),
            Outcome::Failed(failure) => {
                let id = &failure.promise;
                let mut lines = vec![line("FAILED")];
                lines.push(format!("    broken  [{id}] {}", sentence(id)));
                lines.push(format!("    how     {}", failure.what));
                lines.extend(last("calls", &failure.trace));
                lines.extend(last("printed", &failure.printed));
                lines.push(format!("    replay  {}", self.replay(ran)));
                lines.join("\n")
            }
        }
    }

    /// All cases have run.
    pub(super) fn end(&self, summary: &Summary, output: &Output) -> Result<()> {
        let reached = summary.level.map(|level| level.number());
        let line = EndLine {
            component: &self.component,
            signed: self.signed.as_ref(),
            kinds: &self.kinds,
            seed: self.seed,
            level_asked: (!self.chosen).then_some(self.asked),
            level_reached: if self.chosen { None } else { Some(reached.unwrap_or(0)) },
            passed: summary.passed,
            failed: summary.failed,
            not_applicable: summary.not_applicable,
            not_run: summary.not_run,
            promises_held: summary.held,
            promises: summary.promises,
        };
        output.result(&line, || self.summary(summary))
    }

    fn summary(&self, summary: &Summary) -> String {
        let Summary { level, passed, failed, not_applicable, not_run, held, promises } = summary;
        let mut lines = Vec::new();
        for (kind, count) in &self.not_kept {
            lines.push(format!("n/a     {kind}: the store does not keep them ({count} cases)"));
        }
        for (why, cases) in &self.not_run {
            let which = match cases.as_slice() {
                [one] => one.clone(),
                [first, ..] => format!("{first} and {} others", cases.len() - 1),
                [] => String::new(),
            };
            lines.push(format!("not run {which}: {why}"));
        }
        let unrun = if *not_run == 0 { String::new() } else { format!(", {not_run} not run") };
        lines.push(format!(
            "{passed} passed, {failed} failed, {not_applicable} not applicable{unrun}"
        ));
        if self.chosen || level.is_none() {
            lines.push(format!("{held} of {promises} promises held"));
        }
        lines.push(match (self.chosen, level) {
            (true, _) => {
                "cases were chosen: without --case the check says which level is reached".to_owned()
            }
            (false, None) => format!("no level reached, level {} was asked for", self.asked),
            (false, Some(level)) => {
                let (number, says) = (level.number(), level.says());
                let asked = self.asked;
                format!(
                    "level {number} reached ({says}) with {held} of {promises} promises held, \
                     level {asked} was asked for"
                )
            }
        });
        lines.join("\n")
    }
}
