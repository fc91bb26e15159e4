//! One group of commits: planned one after the other against what the earlier ones leave, appended to
//! the commit log, which makes it durable, then seen in the rows.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use postroom_core::types::{Epoch, Slot};
use tokio::sync::oneshot;

use super::index::{Index, begin};
use super::log::{AppendError, Log, Placing};
use super::rows::{ROWS, TableRows, apply, guarded, said};
use super::shared::Shared;
use super::snapshot::is_full;
use crate::commit::{Change, SegmentWork, plan, plan_claim, plan_release, plan_segments};
use crate::{Claimant, Commit, Committed, Fence, Space, StorageError, Write, reads};

/// What a caller wants written.
pub enum Work {
    /// A commit.
    Commit(Commit),
    /// A claim.
    Claim {
        /// The slot.
        slot: Slot,
        /// By whom.
        claimant: Claimant,
        /// The epoch of the claim that the caller has seen.
        previous: Option<Epoch>,
    },
    /// A release of the claim with this fence.
    Release(Fence),
    /// A change to the rows about segments.
    Segments(SegmentWork),
}

/// Work with whom to answer. A caller that has gone away does not hinder it.
pub struct Job {
    /// What.
    pub work: Work,
    /// Octets that it counts for.
    pub octets: usize,
    /// To whom.
    pub reply: oneshot::Sender<Result<Done, StorageError>>,
}

/// What became of work that took effect.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// Of a commit.
    pub committed: Option<Committed>,
    /// Of a claim.
    pub fence: Option<Fence>,
    /// Bodies that have links from now on.
    pub linked: Vec<[u8; 16]>,
    /// Body segments of which less than half is in use from now on.
    pub thinned: Vec<u64>,
}

/// What became of each member.
pub type Members = Vec<Result<Done, StorageError>>;

/// Why a group was not made durable, or perhaps not.
pub enum Failure {
    /// Before anything could have become durable.
    Before(String),
    /// Before anything could have become durable, because the disk has no room for it.
    Full(String),
    /// Before anything could have become durable, by damage that the work of this number met.
    Damage(usize, String),
    /// While it was being made durable; what each member would have been told.
    During(String, Members),
}

impl Failure {
    fn refused(error: &io::Error) -> Self {
        match is_full(error) {
            true => Self::Full(error.to_string()),
            false => Self::Before(error.to_string()),
        }
    }
}

/// Plans, writes and commits a group.
pub fn write(
    index: &Index,
    shared: &Shared,
    log: &mut Log,
    jobs: &[Job],
) -> Result<Members, Failure> {
    let at = log.next(&shared.segments).map_err(|error| Failure::refused(&error))?;
    let placing = Placing::new(&shared.unlinked, at);
    let before = |why: String| {
        index.fail(&why);
        Failure::Before(why)
    };
    let write = match catch_unwind(AssertUnwindSafe(|| begin(index.database()))) {
        Ok(Ok(write)) => write,
        Ok(Err(error)) => return Err(before(error.to_string())),
        Err(panic) => return Err(before(said(&*panic))),
    };
    let filled = catch_unwind(AssertUnwindSafe(|| fill(&write, index, (shared, &placing), jobs)));
    let (members, changes) = match filled.unwrap_or_else(|panic| Err(before(said(&*panic)))) {
        Ok(filled) => filled,
        Err(failure) => {
            abort(index, write);
            return Err(failure);
        }
    };
    if members.iter().all(Result::is_err) {
        abort(index, write);
        return Ok(members);
    }
    if let Err(error) = log.append(&shared.segments, &placing.into_bodies(), &changes) {
        abort(index, write);
        return Err(match error {
            AppendError::Refused(error) => Failure::refused(&error),
            AppendError::Uncertain(error) => {
                // Nobody reads what may turn out otherwise until the log has gone on elsewhere.
                index.fail(&error.to_string());
                Failure::During(error.to_string(), members)
            }
        });
    }
    let during = |why: String, members| {
        index.fail(&why);
        Err(Failure::During(why, members))
    };
    match catch_unwind(AssertUnwindSafe(|| write.commit())) {
        Ok(Ok(())) => Ok(members),
        Ok(Err(error)) => during(error.to_string(), members),
        Err(panic) => during(said(&*panic), members),
    }
}

fn abort(index: &Index, write: redb::WriteTransaction) {
    match catch_unwind(AssertUnwindSafe(|| write.abort())) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => index.fail(&error.to_string()),
        Err(panic) => index.fail(&said(&*panic)),
    }
}

fn fill(
    write: &redb::WriteTransaction,
    index: &Index,
    (shared, placing): (&Shared, &Placing<'_>),
    jobs: &[Job],
) -> Result<(Members, Vec<Change>), Failure> {
    let failed = |why: String| {
        index.fail(&why);
        Failure::Before(why)
    };
    let mut table = write.open_table(ROWS).map_err(|error| failed(error.to_string()))?;
    let (mut members, mut all_changes) = (Vec::with_capacity(jobs.len()), Vec::new());
    for (number, job) in jobs.iter().enumerate() {
        let mark = placing.mark();
        // Planning only reads: what it meets is its own affair, unless the file itself fails.
        let planned = guarded(|| plan_one(&TableRows(&table), (shared, placing), &job.work));
        let member = match planned {
            Ok((mut changes, done)) => {
                let all = || changes.iter().try_for_each(|change| apply(&mut table, change));
                match catch_unwind(AssertUnwindSafe(all)) {
                    Ok(Ok(())) => {
                        all_changes.append(&mut changes);
                        Ok(done)
                    }
                    Ok(Err(redb::Error::Corrupted(why))) => {
                        return Err(Failure::Damage(number, why));
                    }
                    Ok(Err(error)) => return Err(failed(error.to_string())),
                    Err(panic) => {
                        // In the middle of a change: nothing is known of what it left in memory.
                        let why = said(&*panic);
                        index.fail(&why);
                        return Err(Failure::Damage(number, why));
                    }
                }
            }
            Err(StorageError::Unavailable(why)) => return Err(failed(why)),
            Err(refusal) => {
                placing.take_back(mark);
                Err(refusal)
            }
        };
        members.push(member);
    }
    Ok((members, all_changes))
}

fn plan_one(
    rows: &impl crate::rows::Rows,
    (shared, placing): (&Shared, &Placing<'_>),
    work: &Work,
) -> Result<(Vec<Change>, Done), StorageError> {
    match work {
        Work::Commit(commit) => {
            if shared.is_unresolved(commit.space) {
                return Err(StorageError::UnknownOutcome(
                    "an earlier commit to this space: read it again".to_owned(),
                ));
            }
            let plan = plan(rows, placing, commit)?;
            let committed = Some(Committed { head: plan.head });
            let done = Done { committed, fence: None, linked: plan.linked, thinned: plan.thinned };
            Ok((plan.changes, done))
        }
        Work::Claim { slot, claimant, previous } => {
            let (change, fence) = plan_claim(rows, *slot, claimant, *previous)?;
            Ok((vec![change], Done { fence: Some(fence), ..Done::default() }))
        }
        Work::Release(fence) => {
            let changes = plan_release(rows, *fence)?.into_iter().collect();
            Ok((changes, Done::default()))
        }
        Work::Segments(work) => {
            let plan = plan_segments(rows, work)?;
            Ok((plan.changes, Done { thinned: plan.thinned, ..Done::default() }))
        }
    }
}

/// Whether a group whose commit failed is there all the same. All of it is or none: one commit or
/// claim that would have been told of success is enough to look for. Work on segments, and releases,
/// are repeatable: a group of nothing else counts as not there.
pub fn took_effect(
    rows: &impl crate::rows::Rows,
    jobs: &[Job],
    members: &Members,
) -> Result<bool, StorageError> {
    for (job, member) in jobs.iter().zip(members) {
        let Ok(done) = member else { continue };
        match (&job.work, done) {
            // Heads and epochs only rise, and nothing was written after this group.
            (Work::Commit(commit), Done { committed: Some(committed), .. }) => {
                return Ok(reads::head(rows, commit.space)? >= committed.head);
            }
            (Work::Claim { slot, .. }, Done { fence: Some(fence), .. }) => {
                let claimed = reads::claimed(rows, *slot)?;
                return Ok(claimed.is_some_and(|(epoch, _)| epoch >= fence.epoch));
            }
            (Work::Commit(_) | Work::Claim { .. } | Work::Release(_) | Work::Segments(_), _) => {}
        }
    }
    Ok(false)
}

impl Work {
    /// Whether it takes links of bodies away.
    pub fn unlinks(&self) -> bool {
        let takes = |write: &Write| matches!(write, Write::UnlinkBody { .. });
        matches!(self, Self::Commit(commit) if commit.writes.iter().any(takes))
    }

    /// The space whose outcome is unknown when this fails in the middle.
    pub fn space(&self) -> Option<Space> {
        match self {
            Self::Commit(commit) => Some(commit.space),
            Self::Claim { .. } | Self::Release(_) | Self::Segments(_) => None,
        }
    }
}
