//! A check, or a scrub, whose findings are told as it goes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::{Stream, stream};
use serde::Deserialize;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::Shared;
use super::failure::{Refusal, failure};
use super::wire::{CheckLine, Finding};
use crate::message_store::CheckEvent;

/// Most findings that wait for a slow reader; more are counted only.
const MAX_WAITING: usize = 10_000;
/// How often something is said although nothing has been found, so that nobody thinks it hangs.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// How to check.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct How {
    #[serde(default)]
    repair: bool,
}

/// What the check has said and the reader has not yet taken.
#[derive(Default)]
struct Waiting {
    checked: u64,
    findings: Vec<Finding>,
    left_out: u64,
    last: Option<CheckLine>,
}

#[derive(Default)]
struct Board {
    waiting: Mutex<Waiting>,
    news: Notify,
}

/// What goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    /// A check, which may repair.
    Check { repair: bool },
    /// A scrub.
    Scrub,
}

/// The reader's end. When the reader goes, a check that only looks is stopped; one that repairs
/// goes on to its end.
struct Lines {
    board: Arc<Board>,
    work: JoinHandle<()>,
    stops_with_reader: bool,
    ended: bool,
}

pub(super) async fn check(
    State(shared): State<Shared>,
    Query(how): Query<How>,
) -> Result<Response, Refusal> {
    begin(shared, Work::Check { repair: how.repair })
}

pub(super) async fn scrub(State(shared): State<Shared>) -> Result<Response, Refusal> {
    begin(shared, Work::Scrub)
}

fn begin(shared: Shared, what: Work) -> Result<Response, Refusal> {
    let permit = shared.checks.clone().try_acquire_owned();
    let permit = permit
        .map_err(|_| Refusal::busy("a check or a scrub is running already; wait for its end"))?;
    let board = Arc::new(Board::default());
    let writer = board.clone();
    let operations = shared.admin.operations.clone();
    let work = tokio::spawn(async move {
        let _permit = permit;
        let mut event = |event| writer.write(event);
        let ended = match what {
            Work::Check { repair } => operations.check(repair, &mut event).await,
            Work::Scrub => operations.scrub(&mut event).await,
        };
        let last = match ended {
            Ok(()) => CheckLine::Done,
            Err(error) => CheckLine::Failed(failure(&error)),
        };
        writer.waiting().last = Some(last);
        writer.news.notify_one();
    });
    let lines = Lines {
        board,
        work,
        stops_with_reader: what != Work::Check { repair: true },
        ended: false,
    };
    let body = Body::from_stream(lines.stream());
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

impl Board {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, event: CheckEvent) {
        let mut waiting = self.waiting();
        match event {
            CheckEvent::Progress { checked } => waiting.checked += checked,
            CheckEvent::Finding(_) if waiting.findings.len() >= MAX_WAITING => {
                waiting.left_out += 1
            }
            CheckEvent::Finding(found) => waiting.findings.push(found.into()),
        }
        drop(waiting);
        self.news.notify_one();
    }

    fn take(&self) -> Vec<CheckLine> {
        let Waiting { checked, findings, left_out, last } = std::mem::take(&mut *self.waiting());
        let mut lines = vec![CheckLine::Checked(checked)];
        lines.extend(findings.into_iter().map(CheckLine::Finding));
        lines.extend((left_out > 0).then_some(CheckLine::LeftOut(left_out)));
        lines.extend(last);
        lines
    }
}

impl Lines {
    fn stream(self) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
        stream::unfold(self, |mut lines| async move {
            let piece = lines.next().await?;
            Some((Ok(piece), lines))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        tokio::select! {
            () = self.board.news.notified() => {}
            () = tokio::time::sleep(HEARTBEAT) => {}
        }
        let lines = self.board.take();
        let mut text = Vec::new();
        for line in &lines {
            // Strings and numbers only: nothing that JSON could not hold.
            serde_json::to_writer(&mut text, line).expect("a line is plain data");
            text.push(b'\n');
            self.ended |= matches!(line, CheckLine::Done | CheckLine::Failed(_));
        }
        // A check that has panicked leaves no last line: the reader sees that it was cut off.
        self.ended |= self.work.is_finished() && self.board.waiting().last.is_none();
        Some(text.into())
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if self.stops_with_reader {
            self.work.abort();
        }
    }
}
