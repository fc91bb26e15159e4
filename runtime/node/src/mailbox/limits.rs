//! The named maxima of open accounts. Each bounds memory or how long somebody waits.

use std::time::Duration;

use crate::guest::MAX_ANSWER_TIME;

/// Most accounts in memory at a time; a call for one more is refused as busy while none is idle.
pub const MAX_OPEN_ACCOUNTS: usize = 20_000;
/// Most calls that wait for one account's writer; more are refused as busy.
pub const MAX_QUEUED_CALLS: usize = 256;
/// Most operations in one batch, which is one commit.
pub const MAX_BATCH_OPS: usize = 64;
/// Most octets of bodies in one batch before it is closed; one larger operation goes alone.
pub const MAX_BATCH_OCTETS: u64 = 16 << 20;
/// Mailboxes of one account that stay open with no session, the last used ones.
pub const MAX_IDLE_MAILBOXES: usize = 4;
/// Records in one call of a store component: bounds what it has to hold.
pub const GUEST_PAGE: u32 = 1_000;
/// Messages that are settled with one commit.
pub const SETTLE_PAGE: usize = 2_048;
/// Rows of the ledger in one scan.
pub const LEDGER_PAGE: usize = 10_000;
/// Octets of one scan of the ledger.
pub const LEDGER_PAGE_OCTETS: usize = 4 << 20;
/// Messages in one step of a check.
pub const CHECK_PAGE: u32 = 200;
/// Bodies that one call reads or looks up at a time.
pub const PARALLEL_READS: usize = 8;
/// Octets of large bodies that are remembered after they were read, in the whole node: one message
/// of the default largest size, or many usual ones with attachments.
pub const RECENT_BODIES_OCTETS: usize = 64 << 20;
/// Smaller bodies are read again: that costs little, and clients fetch them at once.
pub const MIN_RECENT_OCTETS: usize = 256 << 10;
/// How long one call of storage may take.
pub const STEP_DEADLINE: Duration = Duration::from_secs(30);
/// How long one call of a store component may take: longer than any of them may be set up to take,
/// so that this is only for those that do not keep their own deadlines.
pub const GUEST_DEADLINE: Duration = MAX_ANSWER_TIME.saturating_add(Duration::from_secs(5));
/// How long a caller waits for its answer, queueing included.
pub const CALL_DEADLINE: Duration = Duration::from_secs(90);
/// An account without sessions and calls is closed after this long.
pub const IDLE_ACCOUNT: Duration = Duration::from_secs(60);
/// What waits to be settled gets a commit of its own when no other came for this long.
pub const SETTLE_AFTER: Duration = Duration::from_secs(1);
/// Settling that failed is not tried again for this long, not even with a commit that is made anyway.
pub const SETTLE_PAUSE: Duration = Duration::from_secs(10);
/// Pauses between attempts to find out what became of a commit.
pub const RESOLVE_PAUSES: [Duration; 4] = [
    Duration::from_millis(10),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
];
