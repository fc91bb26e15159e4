//! Import and export: streams of [`super::frames`].

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::{Stream, StreamExt, stream};
use postroom_core::calls::NewMessage;
use postroom_core::error::StoreError;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;

use super::Shared;
use super::failure::{Refusal, failure};
use super::frames::{Framed, Head, Line, MEDIA_TYPE, Reader};
use super::operations::Exporting;
use super::records::mailbox_name;
use super::wire;

/// Most messages of one import: they are one commit.
const MAX_MESSAGES: usize = 1_000;
/// Most octets of one import beside one message of the largest size; the sum is one commit and is
/// held in memory. Send more in several requests.
const BATCH_OCTETS: u64 = 12 << 20;

pub(super) fn routes() -> Router<Shared> {
    // Not under the limit of JSON bodies: bodies are bounded as they stream in.
    Router::new().route("/v1/messages", get(export).post(import))
}

/// Which mailbox.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    user: String,
    mailbox: String,
}

/// A place among those who move much at a time.
pub(super) fn transfer(shared: &Shared) -> Result<OwnedSemaphorePermit, Refusal> {
    let permit = shared.transfers.clone().try_acquire_owned();
    permit.map_err(|_| {
        Refusal::busy("too many imports, exports and backups at once; try again in a moment")
    })
}

/// Takes all messages of the body in, or none.
async fn import(
    State(shared): State<Shared>,
    Query(place): Query<Place>,
    body: Body,
) -> Result<Json<wire::Imported>, Refusal> {
    let mailbox = mailbox_name(&place.mailbox)?;
    let _permit = transfer(&shared)?;
    let messages = receive(body, shared.admin.max_message_octets).await?;
    let uids = match messages.is_empty() {
        true => Vec::new(),
        false => shared.admin.operations.import(&place.user, &mailbox, messages).await?,
    };
    Ok(Json(wire::Imported { uids: uids.into_iter().map(|uid| uid.get()).collect() }))
}

async fn receive(body: Body, max_message_octets: u64) -> Result<Vec<NewMessage>, Refusal> {
    let max = max_message_octets.saturating_add(BATCH_OCTETS);
    let (mut reader, mut messages, mut octets) = (Reader::new(max_message_octets), Vec::new(), 0);
    let mut ended = false;
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece =
            piece.map_err(|error| Refusal::invalid(format!("the body was cut off: {error}")))?;
        octets += piece.len() as u64;
        if octets > max {
            return Err(Refusal::invalid(format!(
                "an import has at most {max} octets; send several"
            )));
        }
        reader.push(&piece);
        while let Some(framed) =
            reader.take().map_err(|error| Refusal::invalid(error.to_string()))?
        {
            match framed {
                _ if ended => return Err(Refusal::invalid("something follows the end")),
                Framed::Message(head, body) => messages.push(new_message(&head, body)),
                Framed::Line(Line::End(())) => ended = true,
                Framed::Line(Line::Total(_)) => {}
                Framed::Line(Line::Message(_) | Line::Damaged(_) | Line::Failed(_)) => {
                    return Err(Refusal::invalid("an import has messages and an end"));
                }
            }
            if messages.len() > MAX_MESSAGES {
                let text = format!("an import has at most {MAX_MESSAGES} messages; send several");
                return Err(Refusal::invalid(text));
            }
        }
    }
    match ended && reader.is_at_border() {
        true => Ok(messages),
        false => Err(Refusal::invalid("the messages do not finish with an end")),
    }
}

fn new_message(head: &Head, body: Bytes) -> NewMessage {
    NewMessage { flags: head.flags(), internal_date: head.date, body }
}

/// Sends a mailbox out, message by message, as fast as the other side takes it.
async fn export(
    State(shared): State<Shared>,
    Query(place): Query<Place>,
) -> Result<Response, Refusal> {
    let mailbox = mailbox_name(&place.mailbox)?;
    let permit = transfer(&shared)?;
    let export = shared.admin.operations.export(&place.user, &mailbox).await?;
    let body = Body::from_stream(pieces(export, permit));
    Ok(([(CONTENT_TYPE, MEDIA_TYPE)], body).into_response())
}

fn pieces(
    export: Box<dyn Exporting>,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
    let first = stream::once(std::future::ready(vec![Line::Total(export.total()).to_bytes()]));
    let rest = stream::unfold(Some((export, permit)), |state| async move {
        let (mut export, permit) = state?;
        let (pieces, ended) = match export.next().await {
            Some(Ok(message)) => {
                let head =
                    Head::new(message.body.len(), Some(message.internal_date), &message.flags);
                let head = Head { uid: Some(message.uid.get()), ..head };
                (vec![Line::Message(head).to_bytes(), message.body], false)
            }
            Some(Err(StoreError::Damaged(what))) => (vec![Line::Damaged(what).to_bytes()], false),
            Some(Err(error)) => (vec![Line::Failed(failure(&error)).to_bytes()], true),
            None => (vec![Line::End(()).to_bytes()], true),
        };
        Some((pieces, (!ended).then_some((export, permit))))
    });
    first.chain(rest).flat_map(|pieces| stream::iter(pieces.into_iter().map(Ok)))
}
