//! The cluster, as a node sees it.

use axum::extract::{Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::Shared;
use super::failure::Refusal;
use crate::router::{NodeStatus, SlotPlace};

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/v1/cluster/status", get(status))
        .route("/v1/cluster/where", get(place))
        .route("/v1/cluster/drain", post(drain))
}

/// Whose mailboxes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfUser {
    user: String,
}

/// The answer of a drain.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Drained {
    /// Whether nothing is left.
    pub drained: bool,
}

async fn status(State(shared): State<Shared>) -> Result<Json<Vec<NodeStatus>>, Refusal> {
    Ok(Json(shared.admin.operations.nodes()?))
}

async fn place(
    State(shared): State<Shared>,
    Query(of): Query<OfUser>,
) -> Result<Json<SlotPlace>, Refusal> {
    Ok(Json(shared.admin.operations.place_of(&of.user).await?))
}

async fn drain(State(shared): State<Shared>) -> Result<Json<Drained>, Refusal> {
    Ok(Json(Drained { drained: shared.admin.operations.drain().await? }))
}
