//! The record of a store: what serves, what is under way, what has been.

use serde::{Deserialize, Serialize};

use super::schema::{Rows, Schema};

/// Ended deployments that a record remembers: what an operator looks back on. Older ones go.
pub const MAX_HISTORY: usize = 64;
/// Steps that one deployment remembers; there are five without repeats.
pub const MAX_STEPS: usize = 16;
/// Longest reason in characters: one line.
pub const MAX_REASON_CHARS: usize = 300;

/// A version of a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Digest of its file, in hexadecimal: what it is known by.
    pub digest: String,
    /// Its own name and version, for people.
    pub label: String,
    /// Octets of its file.
    pub octets: u64,
    /// Its rows.
    pub schema: Schema,
}

impl Version {
    /// The first digits of its digest: enough for people.
    pub fn short(&self) -> &str {
        self.digest.get(..12).unwrap_or(&self.digest)
    }
}

/// How far a deployment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Every node fetches, verifies and compiles it; the one before it serves.
    Staging,
    /// It serves on one node.
    Canary,
    /// It serves everywhere, and the one before it is kept at hand.
    Probation,
}

impl Phase {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Staging => "staging",
            Self::Canary => "canary",
            Self::Probation => "probation",
        }
    }
}

/// A step of a deployment, for its history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When, in seconds since the Unix epoch, by the clock of the node that took it.
    pub at: i64,
    /// That node.
    pub node: String,
    /// What, in one line.
    pub what: String,
}

/// A deployment under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Its number among those of the store, from 1.
    pub number: u64,
    /// What is to serve.
    pub version: Version,
    /// The node on which it serves first; none: all at once.
    pub canary: Option<String>,
    /// How long it is watched, in seconds, once it serves everywhere; on a canary as long before that.
    pub probation_s: u64,
    /// Whether it is permanent as soon as it serves: nothing is watched, and nothing rolls back.
    pub no_rollback: bool,
    /// Whether the one before it could not read what it writes: it is permanent once all have staged it.
    #[serde(default)]
    pub one_way: bool,
    /// Whether it is the component of the configuration: once it is permanent no deployment stands over
    /// that any more.
    #[serde(default)]
    pub configured: bool,
    /// How far it is.
    pub phase: Phase,
    /// How it came there.
    pub steps: Vec<Step>,
}

/// How a deployment ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome", content = "why")]
pub enum Outcome {
    /// It serves for good.
    Permanent,
    /// It served, and the one before it serves again; why.
    RolledBack(String),
    /// It never served; why.
    Refused(String),
}

impl Outcome {
    /// As people read it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Permanent => "permanent",
            Self::RolledBack(_) => "rolled back",
            Self::Refused(_) => "refused",
        }
    }

    /// The reason, where there has to be one.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Permanent => None,
            Self::RolledBack(why) | Self::Refused(why) => Some(why),
        }
    }
}

/// A deployment that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Its number.
    pub number: u64,
    /// What was to serve.
    pub version: Version,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// How it came there.
    pub steps: Vec<Step>,
}

/// All that is decided about the component of one store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreRecord {
    /// What serves for good; none: the component of the configuration.
    pub permanent: Option<Version>,
    /// What is to replace it.
    pub under_way: Option<Deployment>,
    /// What has been, oldest first; at most [`MAX_HISTORY`].
    pub history: Vec<Ended>,
    /// The rows in storage; none: nothing has been noted about them yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<Rows>,
}

impl StoreRecord {
    /// The number that the next deployment gets.
    pub fn next_number(&self) -> u64 {
        let last = self.history.last().map_or(0, |ended| ended.number);
        last.max(self.under_way.as_ref().map_or(0, |under_way| under_way.number)) + 1
    }

    /// Whether this record, or one that it has become since, is the one that another was to be replaced with:
    /// it has the same deployment under way, begun alike, or one that has ended alike.
    pub fn has_become(&self, meant: &Self) -> bool {
        match &meant.under_way {
            Some(begun) => {
                let same = |number, version: &Version, steps: &[Step]| {
                    number == begun.number
                        && *version == begun.version
                        && steps.first() == begun.steps.first()
                };
                self.under_way.as_ref().is_some_and(|d| same(d.number, &d.version, &d.steps))
                    || self.history.iter().any(|d| same(d.number, &d.version, &d.steps))
            }
            None => meant.history.last().is_some_and(|ended| self.history.contains(ended)),
        }
    }

    /// The digests that some node may still have to load.
    pub fn digests(&self) -> impl Iterator<Item = &str> {
        let under_way = self.under_way.as_ref().map(|under_way| &under_way.version);
        under_way.into_iter().chain(&self.permanent).map(|version| version.digest.as_str())
    }

    /// With the deployment under way at its end.
    pub(super) fn ended(mut self, outcome: Outcome, step: Step) -> Self {
        let Some(mut under_way) = self.under_way.take() else { return self };
        under_way.note(step);
        if outcome == Outcome::Permanent {
            let version = under_way.version.clone();
            self.permanent = (!under_way.configured).then_some(version);
        }
        let Deployment { number, version, steps, .. } = under_way;
        self.history.push(Ended { number, version, outcome, steps });
        let over = self.history.len().saturating_sub(MAX_HISTORY);
        self.history.drain(..over);
        self
    }
}

impl Deployment {
    /// Remembers a step.
    pub(super) fn note(&mut self, step: Step) {
        if self.steps.len() < MAX_STEPS {
            self.steps.push(step);
        }
    }
}

/// A reason in one line of bounded length: what guests and other nodes say is shown to people.
pub fn line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(MAX_REASON_CHARS).map(plain).collect()
}
