//! The one table that turns store errors into IMAP responses (RFC 5530).

use crate::error::StoreError;
use crate::imap::command::Tag;
use crate::imap::response::Code;

use super::flow::Done;

/// The NO that answers a command that failed so.
pub(super) fn done(tag: Tag, error: &StoreError) -> Done {
    Done::no(tag, text(error)).with(code(error))
}

/// RFC 5530: what a program can make of it.
fn code(error: &StoreError) -> Code {
    match error {
        StoreError::NotFound(_) => Code::NonExistent,
        StoreError::AlreadyExists(_) => Code::AlreadyExists,
        StoreError::AuthenticationFailed => Code::AuthenticationFailed,
        StoreError::Denied(_) | StoreError::Refused(_) => Code::NoPerm,
        StoreError::Invalid(_) | StoreError::Unsupported(_) => Code::Cannot,
        StoreError::Limit(_) => Code::Limit,
        StoreError::OverQuota => Code::OverQuota,
        StoreError::Busy(_)
        | StoreError::Unavailable(_)
        | StoreError::Fenced
        | StoreError::UnknownOutcome => Code::Unavailable,
        StoreError::Broken(_) => Code::ServerBug,
        StoreError::Damaged(_) => Code::Corruption,
    }
}

/// What a human can make of it. What is wrong inside the server is for its operator, who finds it
/// in the log, and not for its clients.
fn text(error: &StoreError) -> String {
    match error {
        StoreError::Busy(_) => "too much at once, try again in a moment".to_owned(),
        StoreError::Unavailable(_) | StoreError::Fenced => {
            "not available at the moment, try again later".to_owned()
        }
        StoreError::UnknownOutcome => "it is not known yet whether this was done".to_owned(),
        StoreError::Broken(_) => {
            "an error within the server, its operator can look it up".to_owned()
        }
        StoreError::Damaged(_) => "stored data is damaged, the operator must look at it".to_owned(),
        StoreError::NotFound(_)
        | StoreError::AlreadyExists(_)
        | StoreError::AuthenticationFailed
        | StoreError::Denied(_)
        | StoreError::Refused(_)
        | StoreError::Invalid(_)
        | StoreError::Limit(_)
        | StoreError::OverQuota
        | StoreError::Unsupported(_) => error.to_string(),
    }
}
