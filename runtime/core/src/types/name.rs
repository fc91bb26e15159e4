//! Mailbox names: UTF-8 in normalisation form C inside, modified UTF-7 only at IMAP's edge.

use std::fmt;

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

/// Longest name in octets of UTF-8: bounds keys and rows.
pub const MAX_NAME_OCTETS: usize = 1024;
/// Deepest hierarchy: bounds LIST.
pub const MAX_NAME_LEVELS: usize = 32;
/// The hierarchy delimiter of every mailbox.
pub const DELIMITER: char = '/';

/// Why a text is no mailbox name; the text is what a client is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailboxNameError {
    /// Nothing, or nothing between two delimiters.
    #[error("a mailbox name has no empty level")]
    EmptyLevel,
    /// Longer than [`MAX_NAME_OCTETS`] or deeper than [`MAX_NAME_LEVELS`].
    #[error("a mailbox name has at most 1024 octets in 32 levels")]
    TooLong,
    /// Control characters, or IMAP's list wildcards.
    #[error("a mailbox name has no control characters and no * or %")]
    Forbidden,
}

/// A mailbox name: levels parted by `/`, NFC, without control characters and wildcards. The first
/// level `INBOX` is the same in any case (RFC 9051 §5.1) and is kept as `INBOX`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MailboxName(String);

impl MailboxName {
    /// Normalises and checks a name.
    pub fn new(text: &str) -> Result<Self, MailboxNameError> {
        if text.len() > MAX_NAME_OCTETS {
            return Err(MailboxNameError::TooLong);
        }
        let mut name: String = text.nfc().collect();
        if name.len() > MAX_NAME_OCTETS || name.split(DELIMITER).count() > MAX_NAME_LEVELS {
            return Err(MailboxNameError::TooLong);
        }
        if name.split(DELIMITER).any(str::is_empty) {
            return Err(MailboxNameError::EmptyLevel);
        }
        if name.chars().any(|c| c.is_control() || c == '*' || c == '%') {
            return Err(MailboxNameError::Forbidden);
        }
        let first = name.split(DELIMITER).next().map_or(0, str::len);
        if name[..first].eq_ignore_ascii_case("INBOX") {
            name.replace_range(..first, "INBOX");
        }
        Ok(Self(name))
    }

    /// `INBOX`, which every account has.
    pub fn inbox() -> Self {
        Self("INBOX".to_owned())
    }

    /// Whether this is INBOX itself (not a mailbox below it).
    pub fn is_inbox(&self) -> bool {
        self.0 == "INBOX"
    }

    /// The name in UTF-8.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name one level up; `None` at the top.
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once(DELIMITER).map(|(parent, _)| Self(parent.to_owned()))
    }

    /// Whether this name lies below `other` (and is not `other` itself).
    pub fn is_below(&self, other: &Self) -> bool {
        self.0.strip_prefix(&other.0).is_some_and(|rest| rest.starts_with(DELIMITER))
    }

    /// This name with the leading `from` replaced by `to`; `None` when it neither is `from` nor
    /// lies below it. Fails when the new name would be too long.
    pub fn moved(&self, from: &Self, to: &Self) -> Option<Result<Self, MailboxNameError>> {
        let rest = self.0.strip_prefix(&from.0)?;
        let fits = rest.is_empty() || rest.starts_with(DELIMITER);
        fits.then(|| Self::new(&format!("{}{rest}", to.0)))
    }
}

impl fmt::Display for MailboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for MailboxName {
    type Error = MailboxNameError;

    fn try_from(text: String) -> Result<Self, MailboxNameError> {
        Self::new(&text)
    }
}

impl From<MailboxName> for String {
    fn from(name: MailboxName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, MailboxNameError>) {
        let name = MailboxName::new(text);
        assert_eq!(name.as_ref().map(MailboxName::as_str).map_err(|e| *e), expected, "{text:?}");
    }

    #[test]
    fn inbox_is_the_same_in_any_case_and_only_as_the_first_level() {
        check("inbox", Ok("INBOX"));
        check("InBoX/Work", Ok("INBOX/Work"));
        check("Work/inbox", Ok("Work/inbox"));
        check("inboxes", Ok("inboxes"));
    }

    #[test]
    fn names_are_kept_in_normalisation_form_c() {
        check("Entwu\u{308}rfe", Ok("Entw\u{fc}rfe"));
    }

    #[test]
    fn names_that_no_client_could_address_are_refused() {
        check("", Err(MailboxNameError::EmptyLevel));
        check("/a", Err(MailboxNameError::EmptyLevel));
        check("a//b", Err(MailboxNameError::EmptyLevel));
        check("a/", Err(MailboxNameError::EmptyLevel));
        check("a*", Err(MailboxNameError::Forbidden));
        check("a\u{0}b", Err(MailboxNameError::Forbidden));
        check(&"x".repeat(1025), Err(MailboxNameError::TooLong));
        check(&["x"; 33].join("/"), Err(MailboxNameError::TooLong));
    }

    #[test]
    fn moved_takes_the_whole_branch_along() {
        let name = |text| MailboxName::new(text).unwrap();
        assert_eq!(name("a/b").moved(&name("a"), &name("x/y")), Some(Ok(name("x/y/b"))));
        assert_eq!(name("ab").moved(&name("a"), &name("x")), None);
    }
}
