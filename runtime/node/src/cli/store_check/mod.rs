//! `postroom store check`: the conformance kit over a bare component file.
//!
//! Each case gets a space of its own in memory, and fresh instances of the component, loaded with the
//! limits of a node. What the component asks for it is granted: an empty temporary directory for each
//! that its manifest names, the HTTP hosts and settings that the command line gives.

mod patience;
mod printed;
mod report;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use postroom_kit::cases::Level;
use postroom_kit::run::{Planned, Ran, Summary, plan, unsound};
use tempfile::TempDir;

use patience::Patience;
use printed::Printed;

use super::args::StoreCheck;
use super::output::Output;
use crate::conformance::{Fresh, run_case};
use crate::guest::{
    self, ComponentFrom, ComponentSource, DirectoryGrant, Grants, Host, HostConfig, Inspection,
    Keys, Kind, Limits, SignedBy,
};

/// Exit code when the level that was asked for is not reached.
const NOT_REACHED: u8 = 1;
/// Exit code of wrong usage, and of a file that cannot be loaded.
const WRONG_USAGE: u8 = 2;

/// Runs the command.
pub fn run(args: &StoreCheck, output: &Output) -> Result<ExitCode> {
    let ready = match ready(args) {
        Ok(ready) => ready,
        Err(why) => {
            output.warn(&format!("{why:#}"));
            return Ok(ExitCode::from(WRONG_USAGE));
        }
    };
    match ready {
        Ready::Explain(cases) => {
            cases.iter().try_for_each(|case| report::explain(*case, output))?;
            Ok(ExitCode::SUCCESS)
        }
        Ready::Run(bench, planned) => bench.run(args, planned, output),
    }
}

/// What is to be done, once the command line and the file make sense.
enum Ready {
    Explain(Vec<Planned>),
    Run(Box<Bench>, Vec<Planned>),
}

fn ready(args: &StoreCheck) -> Result<Ready> {
    let level = Level::ALL.into_iter().find(|level| level.number() == args.level);
    let all = plan(level.context("levels are 1, 2 and 3")?);
    if let Some(name) = &args.explain {
        return Ok(Ready::Explain(named(&plan(Level::Survives), name)?));
    }
    let mut planned = Vec::new();
    for name in &args.cases {
        planned.extend(named(&plan(Level::Survives), name)?);
    }
    let file = args.file.as_ref().context("name the .wasm file of the component")?;
    let shown = file.display().to_string();
    let bench = Bench::load(args, file).context(shown)?;
    Ok(Ready::Run(Box::new(bench), if args.cases.is_empty() { all } else { planned }))
}

/// The cases that somebody means by this name.
fn named(all: &[Planned], name: &str) -> Result<Vec<Planned>> {
    let found: Vec<_> = all.iter().filter(|planned| planned.is_called(name)).copied().collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let word = name.rsplit('/').next().unwrap_or(name);
    let near =
        all.iter().map(Planned::name).filter(|other| !word.is_empty() && other.contains(word));
    let near: Vec<_> = near.take(5).collect();
    match near.as_slice() {
        [] => anyhow::bail!(
            "there is no case {name}; `postroom store check FILE` names them as it runs"
        ),
        near => anyhow::bail!("there is no case {name}; there are {}", near.join(", ")),
    }
}

/// The component under test, and how fresh instances of it are made.
struct Bench {
    runtime: tokio::runtime::Runtime,
    host: Arc<Host>,
    source: ComponentSource,
    inspection: Inspection,
    /// Who signed the file, where it comes with a signature.
    signed: Option<SignedBy>,
    grants: Grants,
    printed: Printed,
    /// Compiled code: an instance is fresh in a moment.
    _compiled: TempDir,
}

impl Bench {
    /// Reads, recognises and compiles the file, and makes a first instance.
    fn load(args: &StoreCheck, file: &Path) -> Result<Self> {
        let keys = Keys::try_from(args.keys.clone()).map_err(anyhow::Error::msg)?;
        let runtime = tokio::runtime::Runtime::new().context("cannot start")?;
        let compiled = tempfile::tempdir().context("cannot make a temporary directory")?;
        let cache = Some(compiled.path().to_owned());
        let config = HostConfig { cache, ..HostConfig::default() };
        let host = Host::new(config).context("cannot start the WebAssembly engine")?;
        let printed = Printed::default();
        let host = Arc::new(host.heard_by(printed.listener()));
        let from = ComponentFrom::File(file.to_owned());
        let mut source = ComponentSource { name: "checked".to_owned(), from };
        let octets = runtime.block_on(host.read(&source))?;
        let inspection = guest::inspect(&octets)?;
        let signed = runtime.block_on(keys.check_file(file, &octets))?;
        if inspection.kinds.is_empty() && inspection.hooks {
            anyhow::bail!("keeps no kind of record: there are no cases for hooks");
        }
        source.from = ComponentFrom::Octets(octets);
        let settings = args.settings.iter().cloned().collect();
        let grants = Grants { http: args.http.clone(), settings, ..Grants::default() };
        let bench = Self {
            runtime,
            host,
            source,
            inspection,
            signed,
            grants,
            printed,
            _compiled: compiled,
        };
        let (fresh, _directories) = bench.fresh()?;
        let limits = Limits { instances: 1, ..Limits::default() };
        let loading = bench.host.load(fresh.source, &fresh.grants, limits);
        bench.runtime.block_on(loading)?;
        Ok(bench)
    }

    /// A source of instances with directories of its own.
    fn fresh(&self) -> Result<(Fresh, Vec<TempDir>)> {
        let (mut grants, mut made) = (self.grants.clone(), Vec::new());
        let asked = self.inspection.manifest.as_ref().map(|m| m.asks.directories.as_slice());
        for directory in asked.unwrap_or_default() {
            let folder = tempfile::tempdir().context("cannot make a temporary directory")?;
            let (name, path) = (directory.name.clone(), folder.path().to_owned());
            grants.directories.push(DirectoryGrant { name, path, write: directory.write });
            made.push(folder);
        }
        let (host, source) = (self.host.clone(), self.source.clone());
        Ok((Fresh { host, source, grants, limits: Limits::default() }, made))
    }

    fn keeps(&self, interface: &str) -> Option<Kind> {
        self.inspection.kinds.iter().copied().find(|kind| kind.name() == interface)
    }

    fn run(&self, args: &StoreCheck, planned: Vec<Planned>, output: &Output) -> Result<ExitCode> {
        let mut report =
            report::Report::new(args, (&self.inspection, self.signed.as_ref()), &planned);
        report.head(output)?;
        let (mut ran, mut patience) = (Vec::new(), Patience::of(args.patience));
        for case in planned {
            let early = case.case.level == Level::Survives && args.cases.is_empty();
            let one = match self.keeps(case.interface) {
                None => case.not_kept(),
                Some(_) if early && unsound(&ran).contains(case.interface) => case.too_early(),
                Some(_) if patience.is_over() => case.not_run(patience.why()),
                Some(kind) => {
                    let began = Instant::now();
                    let one = self.run_one(case, kind, args.seed)?;
                    patience.took(&one, began.elapsed());
                    one
                }
            };
            report.case(&one, output)?;
            ran.push(one);
        }
        let kept: Vec<_> = self.inspection.kinds.iter().map(|kind| kind.name()).collect();
        let summary = Summary::of(&ran, &kept);
        report.end(&summary, output)?;
        // A choice of cases says nothing of a level; where none of them could be asked, nothing at all.
        let reached = match args.cases.is_empty() {
            true => summary.level.is_some_and(|level| level.number() >= args.level),
            false => summary.failed + summary.not_run == 0 && summary.passed > 0,
        };
        Ok(if reached { ExitCode::SUCCESS } else { ExitCode::from(NOT_REACHED) })
    }

    fn run_one(&self, case: Planned, kind: Kind, seed: u64) -> Result<Ran> {
        let (fresh, directories) = self.fresh()?;
        self.printed.forget();
        let running = run_case(case, kind, seed, fresh, directories);
        let running = async { tokio::time::timeout(patience::CASE_TIME, running).await };
        Ok(match self.runtime.block_on(running) {
            Ok(ran) => ran.having_printed(self.printed.lines()),
            Err(_) => case.not_run(patience::too_long()),
        })
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use postroom_kit::run::Outcome;

    use super::*;
    use crate::conformance::Instances;
    use crate::guest::StoreComponent;

    /// A component that has started once, and never does again.
    struct Never;

    #[async_trait]
    impl Instances<StoreComponent> for Never {
        async fn fresh(&self) -> std::result::Result<Arc<StoreComponent>, String> {
            Err("the component traps".to_owned())
        }
    }

    #[tokio::test]
    async fn a_component_that_does_not_start_again_is_a_failed_case() {
        let case = plan(Level::Answers)[0];
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == case.interface);
        let kind = kind.expect("a kind");
        match run_case(case, kind, 1, Never, ()).await.outcome {
            Outcome::Failed(failure) => assert!(failure.what.contains("traps"), "{failure:?}"),
            other => panic!("{other:?}"),
        }
    }
}
