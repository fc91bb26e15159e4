//! Response codes: the part of a status response that a program reads.

use crate::imap::object_id;
use crate::types::{Keyword, MailboxId, ModSeq, Uid, UidSet, UidValidity};

use super::text::{astring, mailbox_flags, number_set, put};

/// A response code (RFC 9051 §7.1 where nothing else is said).
#[derive(Clone, Debug, PartialEq)]
pub enum Code {
    /// ALERT: every client shows the text to its user.
    Alert,
    /// ALREADYEXISTS: the name is taken.
    AlreadyExists,
    /// APPENDUID: where APPEND put its messages (RFC 4315).
    AppendUid {
        /// Of the mailbox.
        uid_validity: UidValidity,
        /// In the order of the messages; at least one.
        uids: Vec<Uid>,
    },
    /// AUTHENTICATIONFAILED: user or password is wrong.
    AuthenticationFailed,
    /// AUTHORIZATIONFAILED: the user may not act as the one named.
    AuthorizationFailed,
    /// BADCHARSET: these are the charsets that SEARCH knows.
    BadCharset(&'static [&'static str]),
    /// CANNOT: can never be done, whoever asks.
    Cannot,
    /// CAPABILITY: sent along to save a round trip.
    Capability(Vec<&'static str>),
    /// CLIENTBUG: the client does what no client should.
    ClientBug,
    /// CLOSED: the mailbox selected before is left (RFC 7162 §3.2.11).
    Closed,
    /// CONTACTADMIN: somebody must look at it.
    ContactAdmin,
    /// COPYUID: where COPY and MOVE put which message (RFC 4315). The sets have the same size.
    CopyUid {
        /// Of the target.
        uid_validity: UidValidity,
        /// In the source.
        from: UidSet,
        /// In the target, in the same order.
        to: UidSet,
    },
    /// CORRUPTION: stored data is damaged.
    Corruption,
    /// EXPUNGEISSUED: somebody else has removed messages meanwhile.
    ExpungeIssued,
    /// HIGHESTMODSEQ: of the mailbox (RFC 7162 §3.1.2.1); not zero.
    HighestModSeq(ModSeq),
    /// INUSE: in the way of somebody else at the moment.
    InUse,
    /// LIMIT: a limit of this server is reached.
    Limit,
    /// MAILBOXID: of the mailbox (RFC 8474).
    MailboxId(MailboxId),
    /// MODIFIED: messages that a conditional STORE left alone (RFC 7162 §3.1.3), ascending,
    /// numbered as the command numbers them.
    Modified(Vec<u32>),
    /// NONEXISTENT: there is no such mailbox.
    NonExistent,
    /// NOMODSEQ: the mailbox keeps no mod-sequences (RFC 7162 §3.1.2.2).
    NoModSeq,
    /// NOPERM: this user may not.
    NoPerm,
    /// OVERQUOTA: the account is full.
    OverQuota,
    /// PERMANENTFLAGS of a mailbox that can be written: all system flags, these keywords, and any
    /// new keyword (`\*`).
    PermanentFlags(Vec<Keyword>),
    /// PERMANENTFLAGS of a mailbox that cannot be written: none.
    NoPermanentFlags,
    /// PRIVACYREQUIRED: not without TLS.
    PrivacyRequired,
    /// READ-ONLY
    ReadOnly,
    /// READ-WRITE
    ReadWrite,
    /// SERVERBUG: the server does what no server should.
    ServerBug,
    /// TOOBIG: the message is larger than this server takes (RFC 4469 §4.2).
    TooBig,
    /// TRYCREATE: the target does not exist, and CREATE may help.
    TryCreate,
    /// UIDNEXT
    UidNext(Uid),
    /// UIDNOTSTICKY: UIDs of the mailbox do not last.
    UidNotSticky,
    /// UIDVALIDITY
    UidValidity(UidValidity),
    /// UNAVAILABLE: a part of the server is away at the moment.
    Unavailable,
    /// UNSEEN: sequence number of the first message without `\Seen`.
    Unseen(u32),
    /// USEATTR: the special use is not supported, or is another mailbox's (RFC 6154 §3).
    UseAttr,
}

impl Code {
    /// Appends the code without its brackets.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::AppendUid { uid_validity, uids } => {
                put!(out, "APPENDUID {uid_validity} ");
                number_set(out, uids.iter().map(|uid| uid.get()));
            }
            Self::BadCharset(charsets) => {
                out.extend_from_slice(b"BADCHARSET (");
                for (i, charset) in charsets.iter().enumerate() {
                    out.extend_from_slice(if i == 0 { b"" } else { b" " });
                    astring(out, charset.as_bytes());
                }
                out.push(b')');
            }
            Self::Capability(words) => put!(out, "CAPABILITY {}", words.join(" ")),
            Self::CopyUid { uid_validity, from, to } => {
                put!(out, "COPYUID {uid_validity} {from} {to}");
            }
            Self::HighestModSeq(modseq) => put!(out, "HIGHESTMODSEQ {modseq}"),
            Self::MailboxId(id) => put!(out, "MAILBOXID ({})", object_id::mailbox_id(*id)),
            Self::Modified(numbers) => {
                out.extend_from_slice(b"MODIFIED ");
                number_set(out, numbers.iter().copied());
            }
            Self::PermanentFlags(keywords) => {
                out.extend_from_slice(b"PERMANENTFLAGS ");
                mailbox_flags(out, keywords, " \\*");
            }
            Self::NoPermanentFlags => out.extend_from_slice(b"PERMANENTFLAGS ()"),
            Self::UidNext(uid) => put!(out, "UIDNEXT {uid}"),
            Self::UidValidity(validity) => put!(out, "UIDVALIDITY {validity}"),
            Self::Unseen(number) => put!(out, "UNSEEN {number}"),
            word => out.extend_from_slice(word.word().as_bytes()),
        }
    }

    /// The first word of the code.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Alert => "ALERT",
            Self::AlreadyExists => "ALREADYEXISTS",
            Self::AppendUid { .. } => "APPENDUID",
            Self::AuthenticationFailed => "AUTHENTICATIONFAILED",
            Self::AuthorizationFailed => "AUTHORIZATIONFAILED",
            Self::BadCharset(_) => "BADCHARSET",
            Self::Cannot => "CANNOT",
            Self::Capability(_) => "CAPABILITY",
            Self::ClientBug => "CLIENTBUG",
            Self::Closed => "CLOSED",
            Self::ContactAdmin => "CONTACTADMIN",
            Self::CopyUid { .. } => "COPYUID",
            Self::Corruption => "CORRUPTION",
            Self::ExpungeIssued => "EXPUNGEISSUED",
            Self::HighestModSeq(_) => "HIGHESTMODSEQ",
            Self::InUse => "INUSE",
            Self::Limit => "LIMIT",
            Self::MailboxId(_) => "MAILBOXID",
            Self::Modified(_) => "MODIFIED",
            Self::NonExistent => "NONEXISTENT",
            Self::NoModSeq => "NOMODSEQ",
            Self::NoPerm => "NOPERM",
            Self::OverQuota => "OVERQUOTA",
            Self::PermanentFlags(_) | Self::NoPermanentFlags => "PERMANENTFLAGS",
            Self::PrivacyRequired => "PRIVACYREQUIRED",
            Self::ReadOnly => "READ-ONLY",
            Self::ReadWrite => "READ-WRITE",
            Self::ServerBug => "SERVERBUG",
            Self::TooBig => "TOOBIG",
            Self::TryCreate => "TRYCREATE",
            Self::UidNext(_) => "UIDNEXT",
            Self::UidNotSticky => "UIDNOTSTICKY",
            Self::UidValidity(_) => "UIDVALIDITY",
            Self::Unavailable => "UNAVAILABLE",
            Self::Unseen(_) => "UNSEEN",
            Self::UseAttr => "USEATTR",
        }
    }
}
