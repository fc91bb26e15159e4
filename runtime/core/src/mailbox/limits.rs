//! The named maxima of accounts and mailboxes. Each bounds memory, a commit or the work of one call.

/// Most mailboxes in one account: bounds LIST and what is in memory of an account in use.
pub const MAX_MAILBOXES: usize = 10_000;
/// Most subscribed names of one account.
pub const MAX_SUBSCRIPTIONS: usize = 10_000;
/// Most messages in one mailbox: its index takes 64 octets for each.
pub const MAX_MESSAGES: u32 = 4_000_000;
/// Most octets of one message: what storage takes as one body.
pub const MAX_MESSAGE_OCTETS: u64 = 256 << 20;
/// Most different keywords in use in one mailbox at a time: a bit each in its index.
pub const MAX_KEYWORDS: usize = 64;
/// Most octets of properties of one mailbox's messages that are held in memory: as much as the index
/// of a mailbox of a million messages.
pub const MAX_EXTRA_OCTETS: usize = 64 << 20;
/// Most messages that one APPEND adds in its one commit.
pub const MAX_APPEND_MESSAGES: usize = 1_000;
/// Most messages whose flags change, or that are removed or moved, in one commit; longer operations
/// go on in the next one.
pub const MAX_BATCH_MESSAGES: usize = 16_384;
/// Most messages that one COPY takes: it is one commit, all or none.
pub const MAX_COPY_MESSAGES: usize = 65_536;
/// Most rows in the answer to one question for changes; the rest is told by the next one. What a
/// single commit has changed of known messages is never parted.
pub const MAX_CHANGED_ROWS: usize = 65_536;
/// Tombstones that a mailbox keeps for clients that come back (RFC 7162 QRESYNC); older ones are
/// forgotten and the mailbox's low-water mark rises.
pub const MAX_TOMBSTONES: u64 = 100_000;
/// Removed messages that are kept in memory of one mailbox for sessions that have not told their
/// clients: some 40 MiB. Above it the session that is most behind loses the mailbox. As many as
/// sixteen commits remove, so that only a client that does not listen, or one that removes more than
/// this with one command, gets there.
pub const MAX_GHOSTS: usize = 16 * MAX_BATCH_MESSAGES;
/// The largest mod-sequence (RFC 7162 §7: 63 bits).
pub const MAX_MODSEQ: u64 = i64::MAX as u64;
