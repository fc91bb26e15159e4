//! The operators' HTTP API: health, metrics, users, domains, mailboxes, import, export, check.
//!
//! Every path but `/healthz` needs the bearer token where one is configured. Without one (only
//! `postroom dev`, on loopback) requests that a web page could have made are refused: [`guard`].
//!
//! | method and path | query | body → answer |
//! |---|---|---|
//! | GET `/healthz` | | → `ok`, or 503 while stopping |
//! | GET `/metrics` | | → Prometheus text |
//! | GET `/v1/info` | | → what the composition root says of this node and its stores: how busy they are, what of them is in quarantine |
//! | GET `/v1/users`, `/v1/domains` | `after`, `limit` | → [`wire::Page`] of [`wire::User`], [`wire::Domain`] |
//! | POST `/v1/users` | | [`wire::NewUser`] → [`wire::User`] |
//! | PUT `/v1/users` | `name` | [`wire::NewPassword`] → |
//! | DELETE `/v1/users`, `/v1/domains` | `name` | → |
//! | POST `/v1/domains` | | [`wire::Domain`] → [`wire::Domain`] |
//! | GET `/v1/mailboxes` | `user`, `mailbox` (one only) | → [`wire::Page`] of [`wire::Mailbox`] |
//! | PUT `/v1/mailboxes` | `user`, `mailbox` | → makes it if it is not there |
//! | POST `/v1/messages` | `user`, `mailbox` | [`frames`] → [`wire::Imported`]; all or none |
//! | GET `/v1/messages` | `user`, `mailbox` | → [`frames`] |
//! | POST `/v1/check` | `repair` | → lines of [`wire::CheckLine`] as it goes |
//! | POST `/v1/scrub` | | → the same, with octets for records |
//! | GET `/v1/backup` | | → [`backup`] |
//! | `/v1/stores…` | | → [`stores`] |
//! | `/v1/cluster/…` | | → [`cluster`] |
//!
//! A refusal is a [`wire::Failure`] with the status that [`failure`] gives to each error.

pub mod backup;
mod check;
pub mod cluster;
mod failure;
pub mod frames;
mod guard;
pub mod operations;
mod records;
mod socket;
pub mod stores;
mod transfer;
pub mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Front;
use super::meters::UPKEEP;
use operations::Operations;

/// Most connections to the admin API at once: operators and a scraper or two.
const MAX_CONNECTIONS: usize = 64;
/// Largest JSON body, in octets: names, a password.
const MAX_JSON_OCTETS: usize = 64 << 10;
/// Imports and exports at once: each holds one batch or one message in memory.
const MAX_TRANSFERS: usize = 4;

/// What the admin API is made of.
#[derive(Clone)]
pub struct Admin {
    /// The mail.
    pub operations: Arc<dyn Operations>,
    /// Deployments of store components.
    pub stores: Arc<dyn stores::Stores>,
    /// Metrics of this process.
    pub metrics: PrometheusHandle,
    /// What `/v1/info` says.
    pub info: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// What a request must bear; `None`: nothing, for loopback only.
    pub token: Option<String>,
    /// Largest message that an import takes, in octets.
    pub max_message_octets: u64,
}

/// What handlers share.
#[derive(Clone)]
struct Shared {
    admin: Admin,
    stopping: CancellationToken,
    transfers: Arc<Semaphore>,
    checks: Arc<Semaphore>,
}

/// Opens the admin API at an address; the address that it got. Without a token only a loopback
/// address is taken.
pub async fn open(front: &Front, address: SocketAddr, admin: Admin) -> io::Result<SocketAddr> {
    if admin.token.is_none() && !address.ip().is_loopback() {
        let text = "without a token the admin API listens on loopback only";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let listener = socket::Bounded::new(listener, MAX_CONNECTIONS);
    front.run(|shutdown| async move {
        let upkeep = upkeep(admin.metrics.clone());
        let router = router(admin, shutdown.clone());
        let serve =
            axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned());
        tokio::select! {
            served = serve => {
                if let Err(error) = served {
                    warn!(%error, "the admin API ended");
                }
            }
            () = upkeep => {}
        }
    });
    Ok(address)
}

fn router(admin: Admin, stopping: CancellationToken) -> Router {
    let guard = guard::Guard::new(admin.token.as_deref());
    let shared = Shared {
        admin,
        stopping,
        transfers: Arc::new(Semaphore::new(MAX_TRANSFERS)),
        checks: Arc::new(Semaphore::new(1)),
    };
    let guarded = Router::new()
        .route("/metrics", get(metrics))
        .route("/v1/info", get(info))
        .merge(records::routes())
        .layer(DefaultBodyLimit::max(MAX_JSON_OCTETS))
        .merge(transfer::routes())
        .route("/v1/check", post(check::check))
        .route("/v1/scrub", post(check::scrub))
        .route("/v1/backup", get(backup::backup))
        .merge(cluster::routes())
        .merge(stores::routes())
        .layer(axum::middleware::from_fn_with_state(Arc::new(guard), guard::guard));
    Router::new().route("/healthz", get(health)).merge(guarded).with_state(shared)
}

/// Samples that nobody scrapes must not pile up.
async fn upkeep(metrics: PrometheusHandle) {
    loop {
        tokio::time::sleep(UPKEEP).await;
        metrics.run_upkeep();
    }
}

async fn health(State(shared): State<Shared>) -> impl IntoResponse {
    match shared.stopping.is_cancelled() {
        true => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
        false => (StatusCode::OK, "ok\n"),
    }
}

async fn metrics(State(shared): State<Shared>) -> impl IntoResponse {
    // Of the Prometheus text format.
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], shared.admin.metrics.render())
}

async fn info(State(shared): State<Shared>) -> impl IntoResponse {
    axum::Json((shared.admin.info)())
}
