//! Versions of the store component are deployed while clients go on, good ones and broken ones; what becomes of
//! each deployment is followed on all nodes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::disturb::Disturber;
use super::fault::Fault;
use super::load::Now;
use super::memory::Memory;
use crate::cluster::ClusterNode;
use crate::eventually::every;
use crate::store_cluster::STORE;

/// How often a deployment is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// By when one must have ended, staging on a busy machine included.
const ENDS: Duration = Duration::from_secs(240);
/// By when all nodes must serve the same after that.
const SAME: Duration = Duration::from_secs(60);
/// Probation of a good version: as long as a show takes.
const GOOD: &str = "1s";
/// Probation of a broken one: it must be found out long before.
const BROKEN: &str = "3m";
/// Most deployments whose end is told one by one.
const MAX_TOLD: usize = 200;

/// What became of one deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// What was deployed.
    pub fault: Fault,
    /// `permanent`, `rolled-back`, `refused`; `not-begun`: its operator was told at once.
    pub outcome: String,
    /// What the operator reads.
    pub line: String,
    /// From the command to the end of the deployment.
    pub ended: Duration,
    /// How long it had served on any node until then; none: it never did.
    pub served: Option<Duration>,
    /// From its end until every node served the same one.
    pub same: Duration,
}

/// All trials of a run.
#[derive(Clone, Debug, Default)]
pub struct Trials {
    /// The first [`MAX_TOLD`].
    pub told: Vec<Trial>,
    /// Versions that have become permanent.
    pub permanent: u32,
    /// Nodes, now and then.
    pub memory: Vec<Memory>,
}

/// A deployment that has ended.
struct Ended {
    outcome: String,
    why: String,
    served: Option<Duration>,
}

/// When a node is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    Staging,
    Canary,
    /// As the first node lets it serve everywhere.
    Switch,
    Probation,
    /// As an operator makes it permanent.
    Commit,
}

const MOMENTS: [Moment; 5] =
    [Moment::Staging, Moment::Canary, Moment::Switch, Moment::Probation, Moment::Commit];

impl Moment {
    fn name(self) -> &'static str {
        match self {
            Self::Staging => "staging",
            Self::Canary => "canary's turn",
            Self::Switch => "switch",
            Self::Probation => "probation",
            Self::Commit => "commit",
        }
    }
}

impl Disturber<'_> {
    /// Deploys what the fault says, from a node.
    pub(super) fn deploy(&mut self, fault: Fault, node: usize) -> Result<()> {
        match fault {
            Fault::Swap => self.good(node),
            Fault::SwapTwice => self.twice(node),
            Fault::SwapStorage => self.without_storage(node),
            Fault::SwapKill => self.kill_meanwhile(node),
            broken => self.broken(broken, node),
        }
    }

    fn next_good(&mut self, node: usize) -> Result<PathBuf> {
        let serves = serves(&self.cluster.nodes[node])?;
        self.versions.good(&serves)
    }

    fn good(&mut self, node: usize) -> Result<()> {
        let (file, began) = (self.next_good(node)?, Instant::now());
        let number = begin(&self.cluster.nodes[node], &file, &["--probation", GOOD])?;
        let ended = self.followed(node, number)?;
        self.tell(Fault::Swap, began, ended, "permanent")
    }

    /// A version that must not stay: the one before serves on all nodes in the end.
    fn broken(&mut self, fault: Fault, node: usize) -> Result<()> {
        let (file, began) = (self.versions.broken(fault)?, Instant::now());
        let before = serves(&self.cluster.nodes[node])?;
        let ended = match begin(&self.cluster.nodes[node], &file, &["--probation", BROKEN]) {
            Ok(number) => self.followed(node, number)?,
            Err(error) => {
                let why = told(&error);
                Ended { outcome: "not-begun".to_owned(), why, served: None }
            }
        };
        let stays = ended.outcome == "permanent";
        let outcome = ended.outcome.clone();
        self.tell(fault, began, ended, &outcome)?;
        if stays {
            self.good(node)?;
            bail!("{} was made permanent", fault.name());
        }
        let after = serves(&self.cluster.nodes[node])?;
        ensure!(after == before, "{after} serves after it, {before} did before");
        Ok(())
    }

    /// Two operators at two nodes: one begins, the other one is told of it.
    fn twice(&mut self, node: usize) -> Result<()> {
        let (first, second) = (self.next_good(node)?, self.next_good(node)?);
        let began = Instant::now();
        let nodes = &self.cluster.nodes;
        let other = &nodes[(node + 1) % nodes.len()];
        let more = ["--probation", GOOD];
        let (one, two) = std::thread::scope(|scope| {
            let two = scope.spawn(|| begin(other, &second, &more));
            (begin(&nodes[node], &first, &more), two.join())
        });
        let two = two.map_err(|_| anyhow::anyhow!("deploying panicked"))?;
        let (number, refused) = match (one, two) {
            (Ok(number), Err(refused)) | (Err(refused), Ok(number)) => (number, refused),
            (Ok(one), Ok(two)) => bail!("both have begun, as {one} and {two}"),
            (Err(one), Err(two)) => bail!("neither has begun: {one:#}; {two:#}"),
        };
        let said = format!("{refused:#}");
        ensure!(said.contains("under way"), "the other one is told {said}");
        let ended = self.followed(node, number)?;
        ensure!(ended.outcome == "permanent", "{}: {}", ended.outcome, ended.why);
        let why = told(&refused);
        self.tell(Fault::SwapTwice, began, Ended { why, ..ended }, "permanent")
    }

    fn without_storage(&mut self, node: usize) -> Result<()> {
        let (file, began) = (self.next_good(node)?, Instant::now());
        let number = begin(&self.cluster.nodes[node], &file, &["--probation", "3s"])?;
        self.rest(0, 4_000);
        self.cluster.postgres.stop()?;
        self.rest(0, 2_000);
        self.cluster.postgres.start_again()?;
        let ended = self.followed(node, number)?;
        self.tell(Fault::SwapStorage, began, ended, "permanent")
    }

    /// Kills the canary or another node at a moment of a deployment. Whatever comes of that, it is the same on
    /// all nodes.
    fn kill_meanwhile(&mut self, node: usize) -> Result<()> {
        // Each moment, and both nodes, before one comes again.
        let turn = self.kills as usize;
        self.kills += 1;
        let (moment, of_canary) = (MOMENTS[turn / 2 % MOMENTS.len()], turn.is_multiple_of(2));
        let count = self.cluster.nodes.len();
        let (canary, other) = (self.cluster.nodes[node].name.clone(), (node + 1) % count);
        let victim = if of_canary { node } else { other };
        let asked = if of_canary { other } else { node };
        let (file, began) = (self.next_good(node)?, Instant::now());
        let more = ["--canary", &canary, "--probation", "2s"];
        let number = begin(&self.cluster.nodes[asked], &file, &more)?;
        let come = every(LOOK, ENDS, || {
            let status = status(&self.cluster.nodes[asked]).ok()?;
            (has_come(moment, &status, &canary) || ended(&status, number).is_some()).then_some(())
        });
        come.with_context(|| format!("the {} does not come", moment.name()))?;
        if matches!(moment, Moment::Commit) {
            // Where its time is over by itself there is nothing to commit.
            let _ = self.cluster.nodes[asked].command(&["store", "commit", STORE], "");
        }
        let what = if of_canary { "the canary" } else { "another node" };
        let moment = moment.name();
        self.load.event(&format!("{what} is killed at the {moment} of deployment {number}"));
        self.load.set_now(Now { fault: Fault::SwapKill, node: Some(victim) });
        self.load.goes_down(victim);
        self.cluster.nodes[victim].kill();
        self.rest(0, 1_500);
        self.mend()?;
        let mut ended = self.followed(asked, number)?;
        ended.why = format!("{what} was killed at the {moment} {}", ended.why).trim().to_owned();
        let outcome = ended.outcome.clone();
        self.tell(Fault::SwapKill, began, ended, &outcome)
    }

    /// Waits for the end of a deployment.
    fn followed(&self, node: usize, number: u64) -> Result<Ended> {
        let (asked, mut serves_since) = (&self.cluster.nodes[node], None);
        let found = every(LOOK, ENDS, || {
            let status = status(asked).ok()?;
            let tentative = status["under_way"]["phase"].as_str().is_some_and(|p| p != "staging");
            if tentative && serves_since.is_none() {
                serves_since = Some(Instant::now());
            }
            ended(&status, number)
        });
        let found = found.with_context(|| format!("deployment {number} does not end"))?;
        let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        let served = serves_since.map(|since| since.elapsed());
        Ok(Ended { outcome: text("outcome"), why: text("why"), served })
    }

    /// Waits until all nodes say the same, and notes what became of it.
    fn tell(&mut self, fault: Fault, began: Instant, end: Ended, wanted: &str) -> Result<()> {
        let (ended, over) = (began.elapsed(), Instant::now());
        let mut last = Vec::new();
        let same = every(LOOK, SAME, || {
            last = self.cluster.nodes.iter().map(said).collect::<Result<_>>().ok()?;
            last.windows(2).all(|pair| pair[0] == pair[1]).then_some(())
        });
        let Ended { outcome, why, served } = end;
        self.load.event(&format!("{}: {outcome} after {ended:.1?}: {why}", fault.name()));
        let one_line = why.lines().count() <= 1;
        let trial = Trial {
            fault,
            line: why.clone(),
            outcome: outcome.clone(),
            ended,
            served,
            same: over.elapsed(),
        };
        if self.trials.told.len() < MAX_TOLD {
            self.trials.told.push(trial);
        }
        if outcome == "permanent" {
            self.trials.permanent += 1;
        }
        self.remember(self.trials.permanent);
        same.with_context(|| format!("nodes do not agree {SAME:?} after it: {last:?}"))?;
        ensure!(outcome == wanted, "it is {outcome}: {why}");
        ensure!(
            one_line && (outcome == "permanent" || !why.is_empty()),
            "no line says why: {why:?}"
        );
        Ok(())
    }

    /// Looks at what all nodes have of the machine, where that is due.
    pub(super) fn remember(&mut self, swaps: u32) {
        if Memory::is_due(swaps) {
            self.look_at_memory(swaps);
        }
    }

    /// The same at the end of it all.
    pub(super) fn remember_at_the_end(&mut self) {
        self.look_at_memory(self.trials.permanent);
    }

    fn look_at_memory(&mut self, swaps: u32) {
        if self.trials.memory.last().is_none_or(|last| last.swaps != swaps) {
            let all = self.cluster.nodes.iter().filter_map(|node| Memory::of(node, swaps));
            self.trials.memory.extend(all);
        }
    }
}

/// The line that an operator reads.
fn told(error: &anyhow::Error) -> String {
    let said = format!("{error:#}");
    let last = said.lines().last().unwrap_or_default();
    // Before it stands which command it was.
    last.split_once("postroom: ").map_or(last, |(_, line)| line).to_owned()
}

/// Begins a deployment; its number.
fn begin(node: &ClusterNode, file: &Path, more: &[&str]) -> Result<u64> {
    let file = file.to_str().context("a plain path")?;
    let args = ["store", "deploy", file, "--to", STORE, "--yes"];
    let said = node.command(&[&args[..], more].concat(), "")?;
    said.first().and_then(|begun| begun["number"].as_u64()).context("a number")
}

fn status(node: &ClusterNode) -> Result<Value> {
    let stores = node.stores()?;
    stores.into_iter().find(|store| store["store"] == STORE).context("it has no such store")
}

/// A deployment in the history, once it has ended.
fn ended(status: &Value, number: u64) -> Option<Value> {
    let mut history = status["history"].as_array()?.iter();
    history.find(|ended| ended["number"] == number).cloned()
}

/// What serves on a node and is no longer tentative, by digest.
fn serves(node: &ClusterNode) -> Result<String> {
    let status = status(node)?;
    let serving =
        |generation: &&Value| generation["serves"] == true && generation["tentative"] == false;
    let all = status["generations"].as_array().context("a list")?;
    let found = all.iter().find(serving).context("what serves is tentative")?;
    Ok(found["version"]["digest"].as_str().context("a digest")?.to_owned())
}

/// What a node says of the store: what is permanent there, what serves, what has been.
fn said(node: &ClusterNode) -> Result<(String, String, String)> {
    let (status, serves) = (status(node)?, serves(node)?);
    ensure!(status["under_way"].is_null(), "something is under way");
    let permanent = status["permanent"]["digest"].as_str().context("a digest")?.to_owned();
    ensure!(permanent == serves, "{serves} serves, {permanent} is permanent");
    Ok((permanent, serves, status["history"].to_string()))
}

/// Whether a deployment is where somebody is to be killed.
fn has_come(moment: Moment, status: &Value, canary: &str) -> bool {
    let phase = status["under_way"]["phase"].as_str().unwrap_or_default();
    let serves = |name: Option<&str>| {
        let nodes = status["nodes"].as_array().into_iter().flatten();
        let mut asked = nodes.filter(|node| name.is_none_or(|name| node["node"] == name));
        asked.all(|node| node["progress"] == "serving")
    };
    match moment {
        Moment::Staging => phase == "staging",
        Moment::Canary => phase == "canary" && serves(Some(canary)),
        Moment::Switch => phase == "probation",
        Moment::Probation | Moment::Commit => phase == "probation" && serves(None),
    }
}
