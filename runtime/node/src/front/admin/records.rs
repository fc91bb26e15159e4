//! Users, domains, mailboxes.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use postroom_core::calls::Secret;
use postroom_core::types::MailboxName;
use serde::Deserialize;

use super::Shared;
use super::failure::Refusal;
use super::wire;

/// Rows of a list when nothing is said.
const USUAL_ROWS: u32 = 500;
/// Most rows of a list.
const MAX_ROWS: u32 = 5_000;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/v1/users", get(users).post(add_user).put(set_password).delete(remove_user))
        .route("/v1/domains", get(domains).post(add_domain).delete(remove_domain))
        .route("/v1/mailboxes", get(mailboxes).put(ensure_mailbox))
}

/// Which part of a list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    after: Option<String>,
    limit: Option<u32>,
}

/// Which record.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
}

/// Which mailbox.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfUser {
    user: String,
    mailbox: Option<String>,
}

impl Part {
    fn rows(&self) -> u32 {
        self.limit.unwrap_or(USUAL_ROWS).clamp(1, MAX_ROWS)
    }
}

/// A mailbox name out of a request.
pub(super) fn mailbox_name(text: &str) -> Result<MailboxName, Refusal> {
    MailboxName::new(text).map_err(|error| Refusal::invalid(format!("{text:?}: {error}")))
}

async fn users(
    State(shared): State<Shared>,
    Query(part): Query<Part>,
) -> Result<Json<wire::Page<wire::User>>, Refusal> {
    let rows = part.rows();
    let page = shared.admin.operations.users(part.after, rows).await?;
    let rows = page.rows.into_iter().map(wire::User::from).collect();
    Ok(Json(wire::Page { rows, more: page.more }))
}

async fn add_user(
    State(shared): State<Shared>,
    Json(user): Json<wire::NewUser>,
) -> Result<(StatusCode, Json<wire::User>), Refusal> {
    let row = shared.admin.operations.create_user(user.into()).await?;
    Ok((StatusCode::CREATED, Json(row.into())))
}

async fn set_password(
    State(shared): State<Shared>,
    Query(user): Query<Named>,
    Json(new): Json<wire::NewPassword>,
) -> Result<StatusCode, Refusal> {
    shared.admin.operations.set_password(&user.name, Secret(new.password)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove_user(
    State(shared): State<Shared>,
    Query(user): Query<Named>,
) -> Result<StatusCode, Refusal> {
    shared.admin.operations.remove_user(&user.name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn domains(
    State(shared): State<Shared>,
    Query(part): Query<Part>,
) -> Result<Json<wire::Page<wire::Domain>>, Refusal> {
    let rows = part.rows();
    let page = shared.admin.operations.domains(part.after, rows).await?;
    let rows = page.rows.into_iter().map(wire::Domain::from).collect();
    Ok(Json(wire::Page { rows, more: page.more }))
}

async fn add_domain(
    State(shared): State<Shared>,
    Json(domain): Json<wire::Domain>,
) -> Result<(StatusCode, Json<wire::Domain>), Refusal> {
    let alias_of = domain.alias_of.as_deref();
    let row = shared.admin.operations.create_domain(&domain.name, alias_of).await?;
    Ok((StatusCode::CREATED, Json(row.into())))
}

async fn remove_domain(
    State(shared): State<Shared>,
    Query(domain): Query<Named>,
) -> Result<StatusCode, Refusal> {
    shared.admin.operations.remove_domain(&domain.name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn mailboxes(
    State(shared): State<Shared>,
    Query(of): Query<OfUser>,
) -> Result<Json<wire::Page<wire::Mailbox>>, Refusal> {
    let only = of.mailbox.as_deref().map(mailbox_name).transpose()?;
    let all = shared.admin.operations.mailboxes_of(&of.user).await?;
    let wanted =
        all.into_iter().filter(|(info, _)| only.as_ref().is_none_or(|name| info.name == *name));
    let rows: Vec<_> = wanted.map(wire::Mailbox::from).collect();
    match only {
        Some(name) if rows.is_empty() => {
            let text = format!("{} has no mailbox {name}", of.user);
            Err(Refusal::new(StatusCode::NOT_FOUND, "not-found", text))
        }
        _ => Ok(Json(wire::Page { rows, more: false })),
    }
}

async fn ensure_mailbox(
    State(shared): State<Shared>,
    Query(of): Query<OfUser>,
) -> Result<StatusCode, Refusal> {
    let name = of.mailbox.ok_or_else(|| Refusal::invalid("say which mailbox"))?;
    shared.admin.operations.ensure_mailbox(&of.user, &mailbox_name(&name)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
