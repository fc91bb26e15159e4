//! Reads everything that is stored and holds it against its checksums. What is there twice is made whole
//! again; a body that is damaged is told.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

use super::committer::WeakQueue;
use super::directory::ROWS_FILE;
use super::shared::{Rows, Shared};
use super::snapshot::{self, Snapshot};
use crate::body::segment::file_name;
use crate::keeping::{Damage, ScrubEvent};
use crate::rows::{LinkRow, Rows as _};
use crate::{BodyRef, Space, StorageError, key, reads, row};

/// Spaces that are looked up at a time.
const SPACES: usize = 100;
/// Links of a space that are looked up at a time.
const LINKS: usize = 1000;

/// One scrub.
pub struct Scrubbing {
    /// What is scrubbed.
    pub shared: Arc<Shared>,
    /// The way to the committer.
    pub commits: WeakQueue,
    /// Who hears of it.
    pub tell: mpsc::Sender<ScrubEvent>,
}

impl Scrubbing {
    /// Runs to its end.
    pub async fn run(self) {
        let scrubbing = Arc::new(self);
        if let Err(error) = scrubbing.all().await
            && let Some(error) = error
        {
            let _ = scrubbing.tell.send(ScrubEvent::Failed(error)).await;
        }
    }

    /// `Err(None)`: nobody listens any more.
    async fn all(self: &Arc<Self>) -> Result<(), Option<StorageError>> {
        self.rows().await?;
        self.second_copy().await?;
        let this = self.clone();
        let segments = tokio::task::spawn_blocking(move || this.segments()).await;
        segments.map_err(|error| Some(stopped(&error)))??;
        let this = self.clone();
        let bodies = tokio::task::spawn_blocking(move || this.bodies()).await;
        bodies.map_err(|error| Some(stopped(&error)))?
    }

    async fn rows(self: &Arc<Self>) -> Result<(), Option<StorageError>> {
        let rebuilds = self.shared.counters.rebuilds();
        let shared = self.shared.clone();
        let verified = tokio::task::spawn_blocking(move || {
            let state = match &*shared.rows() {
                Rows::Open(index) => index.state()?,
                Rows::Failed(why) => return Err(StorageError::Unavailable(why.clone())),
                Rows::Closed => return Err(super::shared::closed()),
            };
            state.verify(&AtomicBool::new(false))
        });
        match verified.await.map_err(|error| Some(stopped(&error)))? {
            Ok(rows) => self.say(ScrubEvent::Progress(rows)).await,
            Err(StorageError::Damaged(problem)) => {
                let mended = self.commits.heal(rebuilds).await;
                self.say(damage("rows", None, ROWS_FILE.to_owned(), problem, mended)).await
            }
            Err(error) => Err(Some(error)),
        }
    }

    /// The snapshot, and the log after it.
    async fn second_copy(self: &Arc<Self>) -> Result<(), Option<StorageError>> {
        let shared = self.shared.clone();
        let read = tokio::task::spawn_blocking(move || {
            let until = shared.groups.load(Ordering::Relaxed);
            let found = snapshot::read(&*shared.files, shared.directory, |_| Ok(()));
            let from = match &found {
                Ok(Some(Snapshot { at, .. })) => (at.segment, at.offset, at.groups),
                Ok(None) | Err(_) => (0, 0, 0),
            };
            let log = match shared.segments.verify_log(from, until) {
                Ok(octets) => Ok(octets),
                // One that a snapshot has made dispensable meanwhile is no damage.
                Err((id, _)) if !shared.segments.is_in_log(id) => Ok(0),
                Err((id, error)) => Err((id, error)),
            };
            (found, log)
        });
        let (found, log) = read.await.map_err(|error| Some(stopped(&error)))?;
        let mut problems = Vec::new();
        match found {
            Ok(found) => {
                let octets = found.map_or(0, |snapshot| snapshot.octets);
                self.say(ScrubEvent::Progress(octets)).await?;
            }
            Err(StorageError::Damaged(problem)) => {
                problems.push(("snapshot", snapshot::SNAPSHOT_FILE.to_owned(), problem));
            }
            Err(error) => return Err(Some(error)),
        }
        match log {
            Ok(octets) => self.say(ScrubEvent::Progress(octets)).await?,
            Err((id, StorageError::Damaged(problem))) => {
                problems.push(("log", file_name(id), problem));
            }
            Err((_, error)) => return Err(Some(error)),
        }
        if problems.is_empty() {
            return Ok(());
        }
        // A new snapshot needs neither the old one nor the log before it.
        let mended = self.commits.renew().await;
        for (kind, name, problem) in problems {
            self.say(damage(kind, None, name, problem, mended)).await?;
        }
        Ok(())
    }

    /// The headers of all segments.
    fn segments(&self) -> Result<(), Option<StorageError>> {
        for id in self.shared.segments.all() {
            match self.shared.segments.mend_header(id) {
                Ok(true) => {}
                Ok(false) => {
                    let problem = "one copy of its header was damaged".to_owned();
                    self.say_blocking(damage("segment", None, file_name(id), problem, true))?;
                }
                Err(StorageError::Damaged(problem)) => {
                    self.say_blocking(damage("segment", None, file_name(id), problem, false))?;
                }
                Err(error) => return Err(Some(error)),
            }
        }
        Ok(())
    }

    /// Every body that has a link.
    fn bodies(&self) -> Result<(), Option<StorageError>> {
        let mut after = None;
        loop {
            let spaces = self.shared.read(|rows| reads::spaces(rows, after, SPACES))?;
            let Some(last) = spaces.last() else { return Ok(()) };
            after = Some(*last);
            for space in spaces {
                self.bodies_of(space)?;
            }
        }
    }

    fn bodies_of(&self, space: Space) -> Result<(), Option<StorageError>> {
        let (mut start, end) = key::links(space);
        let mut seen = HashSet::new();
        loop {
            let mut links: Vec<(String, BodyRef)> = Vec::new();
            let mut last = Vec::new();
            self.shared.read(|rows| {
                links.clear();
                rows.visit(&start, &end, &mut |raw, stored| {
                    let link: LinkRow = row::decode(raw, row::payload(raw, stored)?)?;
                    let body = BodyRef { key: link.body, size: link.size, digest: link.digest };
                    links.push((key::link_name(space, raw), body));
                    last = raw.to_vec();
                    Ok(if links.len() < LINKS {
                        ControlFlow::Continue(())
                    } else {
                        ControlFlow::Break(())
                    })
                })
            })?;
            if links.is_empty() {
                return Ok(());
            }
            start = [&last[..], &[0]].concat();
            for (name, body) in links {
                if seen.insert(body.key) {
                    self.body(space, name, &body)?;
                }
            }
        }
    }

    fn body(&self, space: Space, name: String, body: &BodyRef) -> Result<(), Option<StorageError>> {
        match self.shared.read_body(space, body, 0, u64::MAX) {
            // It went meanwhile.
            Ok(_) | Err(StorageError::Conflict) => {
                self.say_blocking(ScrubEvent::Progress(body.size))
            }
            Err(StorageError::Damaged(problem)) => {
                self.say_blocking(damage("body", Some(space), name, problem, false))
            }
            Err(error) => Err(Some(error)),
        }
    }

    async fn say(&self, event: ScrubEvent) -> Result<(), Option<StorageError>> {
        self.tell.send(event).await.map_err(|_| None)
    }

    fn say_blocking(&self, event: ScrubEvent) -> Result<(), Option<StorageError>> {
        self.tell.blocking_send(event).map_err(|_| None)
    }
}

/// What is said of something that is not as it was written.
fn damage(
    kind: &'static str,
    space: Option<Space>,
    name: String,
    problem: String,
    mended: bool,
) -> ScrubEvent {
    let account = match space {
        Some(Space::Account(account)) => Some(account),
        Some(Space::Directory) | None => None,
    };
    ScrubEvent::Damage(Damage { kind, account, name, problem, mended })
}

fn stopped(error: &tokio::task::JoinError) -> StorageError {
    StorageError::Unavailable(format!("a blocking thread has stopped: {error}"))
}
