//! Deployments of store components, as operators ask for them.
//!
//! | method and path | query | body → answer |
//! |---|---|---|
//! | GET `/v1/stores` | | → list of [`StoreStatus`] |
//! | GET `/v1/stores/logs` | `store`, `after` (a line's number; 0: all) | → [`StoreLog`] of this node |
//! | POST `/v1/stores/plan` | [`Asked`] | the component's file, or nothing with `configured` → [`Plan`] |
//! | POST `/v1/stores/deploy` | [`Asked`] | the same → [`Begun`] |
//! | POST `/v1/stores/commit`, `/v1/stores/rollback` | `store` | → |

use async_trait::async_trait;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use postroom_core::deploy::{Deployment, Ended, Rows, Sweep, Version};
use postroom_core::error::StoreError;
use serde::{Deserialize, Serialize};

use super::Shared;
use super::failure::Refusal;
use crate::guest::SignedBy;

/// Largest file of a component that is taken, in octets: what a node loads is less.
const MAX_COMPONENT_OCTETS: usize = 128 << 20;
/// The longest probation, in seconds: a week. Two generations run all that time.
pub const MAX_PROBATION_S: u64 = 7 * 24 * 60 * 60;

/// What is to be deployed, beside the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Which store of the configuration.
    pub store: String,
    /// The node on which it serves first.
    #[serde(default)]
    pub canary: Option<String>,
    /// How long it is watched, in seconds.
    pub probation_s: u64,
    /// Whether it is permanent as soon as it serves.
    #[serde(default)]
    pub no_rollback: bool,
    /// Whether it is what the configuration names, and no file is sent: deployments are forgotten by it.
    #[serde(default)]
    pub configured: bool,
    /// The file's signature: the text of minisign's `.minisig` file.
    #[serde(default)]
    pub signature: Option<String>,
}

/// One line of what a store's components print, and of what happens to them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreLine {
    /// Counts the store's lines since the node started, from 1.
    pub number: u64,
    /// When, in milliseconds since the Unix epoch, by the node's clock.
    pub at_ms: i64,
    /// Of which version, for people.
    pub version: String,
    /// Which generation that is on this node; none: it does not serve yet, or the line is about the cluster.
    pub generation: Option<u64>,
    /// The instance that has printed it.
    pub instance: Option<u64>,
    /// `stdout`, `stderr` or `event`.
    pub what: String,
    /// What it says.
    pub text: String,
}

/// The lines of a store that a node remembers: the last ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreLog {
    /// Which store.
    pub store: String,
    /// Which node.
    pub node: String,
    /// When the node began to count, in milliseconds since the Unix epoch.
    pub began_ms: i64,
    /// In their order.
    pub lines: Vec<StoreLine>,
    /// Lines after the one that was named which are forgotten.
    pub forgotten: u64,
    /// The number of the last line that there was: what to ask after next.
    pub last: u64,
}

/// What a deployment would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Which store.
    pub store: String,
    /// What serves.
    pub from: Version,
    /// What would.
    pub to: Version,
    /// The rows that are in storage.
    pub rows: Rows,
    /// Whether there is a way back while it is watched.
    pub way_back: bool,
    /// Who signed it, if it comes with a signature.
    #[serde(default)]
    pub signed: Option<SignedBy>,
    /// What it asks for and the one before it does not, a line each.
    pub asks_more: Vec<String>,
    /// What the one before it asks for and it does not.
    pub asks_less: Vec<String>,
    /// Why it would be refused, as far as this node can tell.
    pub refused: Option<String>,
}

/// A deployment has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// Its number.
    pub number: u64,
}

/// How far a node is with the deployment under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeOfStore {
    /// The node.
    pub node: String,
    /// `waiting`, `staged`, `refused`, `serving`, `held` or `tripped`.
    pub progress: String,
    /// Why, where it is refused or tripped.
    pub why: Option<String>,
    /// Calls that the new version has answered there.
    pub calls: u64,
    /// Those of them that it failed at.
    pub failures: u64,
}

/// A generation on the node that answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationOfStore {
    /// What it runs.
    pub version: Version,
    /// Whether new calls go to it.
    pub serves: bool,
    /// Whether it is on probation.
    pub tentative: bool,
    /// Calls in it.
    pub calls: u64,
    /// Its instances.
    pub instances: u64,
}

/// How a store is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// Which one.
    pub store: String,
    /// What serves for good.
    pub permanent: Version,
    /// What is to replace it.
    pub under_way: Option<Deployment>,
    /// The live nodes, while a deployment is under way.
    pub nodes: Vec<NodeOfStore>,
    /// The node that answers.
    pub here: String,
    /// The generations there.
    pub generations: Vec<GenerationOfStore>,
    /// Deployments that have ended, oldest first.
    pub history: Vec<Ended>,
    /// The rows in storage.
    pub rows: Rows,
    /// How far they are brought to the schema that is written, or what that came to.
    pub sweep: Option<Sweep>,
    /// The live nodes that are waited for before rows are written in another schema, or brought to it.
    pub waits_for: Vec<String>,
    /// Why that node cannot go on, if it cannot.
    pub trouble: Option<String>,
}

/// What the admin API needs of who carries deployments out.
#[async_trait]
pub trait Stores: Send + Sync {
    /// What a deployment would do.
    async fn plan(&self, asked: &Asked, octets: Bytes) -> Result<Plan, StoreError>;
    /// Begins a deployment; its number.
    async fn deploy(&self, asked: &Asked, octets: Bytes) -> Result<u64, StoreError>;
    /// Makes what is on probation permanent.
    async fn commit(&self, store: &str) -> Result<(), StoreError>;
    /// Gives up what is under way.
    async fn roll_back(&self, store: &str) -> Result<(), StoreError>;
    /// How all stores are.
    async fn status(&self) -> Result<Vec<StoreStatus>, StoreError>;
    /// What this node remembers of a store's lines after a number.
    async fn log(&self, store: &str, after: u64) -> Result<StoreLog, StoreError>;
}

/// Which store.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    store: String,
}

/// From where on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct After {
    store: String,
    #[serde(default)]
    after: u64,
}

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/v1/stores", get(status))
        .route("/v1/stores/logs", get(log))
        .route("/v1/stores/plan", post(plan))
        .route("/v1/stores/deploy", post(deploy))
        .route("/v1/stores/commit", post(commit))
        .route("/v1/stores/rollback", post(roll_back))
        .layer(DefaultBodyLimit::max(MAX_COMPONENT_OCTETS))
}

fn checked(asked: Asked) -> Result<Asked, Refusal> {
    match asked.probation_s <= MAX_PROBATION_S {
        true => Ok(asked),
        false => Err(Refusal::invalid(format!("a probation lasts at most {MAX_PROBATION_S} s"))),
    }
}

async fn plan(
    State(shared): State<Shared>,
    Query(asked): Query<Asked>,
    octets: Bytes,
) -> Result<Json<Plan>, Refusal> {
    Ok(Json(shared.admin.stores.plan(&checked(asked)?, octets).await?))
}

async fn deploy(
    State(shared): State<Shared>,
    Query(asked): Query<Asked>,
    octets: Bytes,
) -> Result<Json<Begun>, Refusal> {
    let number = shared.admin.stores.deploy(&checked(asked)?, octets).await?;
    Ok(Json(Begun { number }))
}

async fn commit(
    State(shared): State<Shared>,
    Query(named): Query<Named>,
) -> Result<Json<()>, Refusal> {
    Ok(Json(shared.admin.stores.commit(&named.store).await?))
}

async fn roll_back(
    State(shared): State<Shared>,
    Query(named): Query<Named>,
) -> Result<Json<()>, Refusal> {
    Ok(Json(shared.admin.stores.roll_back(&named.store).await?))
}

async fn log(
    State(shared): State<Shared>,
    Query(After { store, after }): Query<After>,
) -> Result<Json<StoreLog>, Refusal> {
    Ok(Json(shared.admin.stores.log(&store, after).await?))
}

async fn status(State(shared): State<Shared>) -> Result<Json<Vec<StoreStatus>>, Refusal> {
    Ok(Json(shared.admin.stores.status().await?))
}
