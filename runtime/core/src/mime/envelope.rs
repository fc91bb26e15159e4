//! ENVELOPE (RFC 3501 §7.4.2, RFC 9051 §7.5.2): the main headers, still encoded.

use serde::{Deserialize, Serialize};

use super::Octets;
use super::address;
use super::budget::Budget;
use super::header::{Known, Name, unfold};

/// A message's envelope. Sender and Reply-To have their defaults (From) filled in. An address list
/// that is empty is NIL; `None` is NIL, an empty text is `""`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Date as written.
    pub date: Option<Octets>,
    /// Subject.
    pub subject: Option<Octets>,
    /// From.
    pub from: Vec<Address>,
    /// Sender, or From.
    pub sender: Vec<Address>,
    /// Reply-To, or From.
    pub reply_to: Vec<Address>,
    /// To.
    pub to: Vec<Address>,
    /// Cc.
    pub cc: Vec<Address>,
    /// Bcc.
    pub bcc: Vec<Address>,
    /// In-Reply-To as written.
    pub in_reply_to: Option<Octets>,
    /// Message-ID as written.
    pub message_id: Option<Octets>,
}

impl Envelope {
    /// From a header's fields. Several fields of addresses are read as one; of the others the first
    /// counts.
    pub(super) fn of(header: &Known<'_>, budget: &mut Budget) -> Self {
        let mut text = |name| header.first(name).and_then(|value| budget.value(&unfold(value)));
        let (date, subject) = (text(Name::Date), text(Name::Subject));
        let (in_reply_to, message_id) = (text(Name::InReplyTo), text(Name::MessageId));
        let mut addresses = |name| address::parse(header.all(name), budget);
        let from = addresses(Name::From);
        let (sender, reply_to) = (addresses(Name::Sender), addresses(Name::ReplyTo));
        // RFC 9051 §7.5.2: absent or empty, the server fills them in from From.
        let or_from = |list: Vec<Address>| if list.is_empty() { from.clone() } else { list };
        Self {
            date,
            subject,
            sender: or_from(sender),
            reply_to: or_from(reply_to),
            to: addresses(Name::To),
            cc: addresses(Name::Cc),
            bcc: addresses(Name::Bcc),
            from,
            in_reply_to,
            message_id,
        }
    }
}

/// An address structure: `(name route mailbox host)`. A group is a start (host NIL, mailbox its
/// name), its members, and an end (both NIL); an address without a domain has an empty host, so that
/// it is no group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Display name, unquoted, still encoded (RFC 2047).
    pub name: Option<Octets>,
    /// Source route (obsolete).
    pub route: Option<Octets>,
    /// Local part, unquoted.
    pub mailbox: Option<Octets>,
    /// Domain.
    pub host: Option<Octets>,
}

impl Address {
    /// Whether this starts a group or ends one, and so is no address.
    pub fn is_group_marker(&self) -> bool {
        self.host.is_none()
    }
}
