//! Hooks before and after a delivery (E18): what they are told, what they may answer, and which
//! header fields they may put in front of a message. What is promised to them stands in
//! `wit/store.wit`; node asks them.

use bytes::Bytes;

use crate::types::{MailboxId, MailboxName, MessageId, Uid, UidValidity};

/// Most fields that one hook may add: a mail filter adds some ten.
pub const MAX_FIELDS: usize = 32;
/// Most octets of them together, as they stand in the message: what is in front of a message is read
/// whenever its header is.
pub const MAX_FIELDS_OCTETS: usize = 16 << 10;
/// Longest name of a field, in octets: a folded line (RFC 5322 §2.1.1) with its colon.
pub const MAX_FIELD_NAME_OCTETS: usize = FOLDED_OCTETS - 1;
/// Longest line of a header, in octets without its end (RFC 5322 §2.1.1).
const MAX_LINE_OCTETS: usize = 998;
/// Lines are folded to this many octets where white space lets them (RFC 5322 §2.1.1).
const FOLDED_OCTETS: usize = 78;
/// Fields of which a message has one at most (RFC 5322 §3.6, RFC 5321 §4.4, RFC 2045 §4): with a
/// second one in front nobody could say what it means. So it is with all that begin with `Content-`.
const ONCE: [&str; 13] = [
    "Return-Path",
    "Date",
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Bcc",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Subject",
    "MIME-Version",
];

/// A message on its way to one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The envelope's sender, without angle brackets; `None`: nobody (`<>`).
    pub sender: Option<String>,
    /// The user who gets it.
    pub user: String,
    /// Where it goes.
    pub mailbox: MailboxName,
    /// Its octets.
    pub size: u64,
}

/// What a hook says of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on, with these changes.
    Accept(Changes),
    /// It is refused for good; the text is for the sender.
    Refuse(String),
}

/// What a hook changes of a delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Into this mailbox, which is made if need be; `None`: where it goes anyway.
    pub mailbox: Option<MailboxName>,
    /// In front of the message.
    pub fields: Fields,
}

/// What has become of a delivery, once it is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// As the hooks have left it.
    pub delivery: Delivery,
    /// Where it is.
    pub mailbox: MailboxId,
    /// Of the mailbox.
    pub uid_validity: UidValidity,
    /// Its number there.
    pub uid: Uid,
    /// Identity of its content.
    pub message_id: MessageId,
}

/// Header fields as they stand in a message: folded, each with its line end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<u8>);

/// Why fields cannot be put in front of a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFields {
    /// More than [`MAX_FIELDS`].
    #[error("more than {MAX_FIELDS} header fields")]
    TooMany,
    /// More than [`MAX_FIELDS_OCTETS`].
    #[error("header fields of more than {MAX_FIELDS_OCTETS} octets")]
    TooLarge,
    /// Not a name (RFC 5322 §3.6.8), or one longer than [`MAX_FIELD_NAME_OCTETS`].
    #[error(
        "a header field's name is not 1 to {MAX_FIELD_NAME_OCTETS} printable ASCII characters without colon and space"
    )]
    Name,
    /// A message has it once at most.
    #[error("header field {0}, of which a message has one at most")]
    Once(String),
    /// Nothing, or something else than printable ASCII (RFC 5322 §3.2.5), such as a line end.
    #[error(
        "the value of header field {0} is not printable ASCII that begins and ends with a visible character"
    )]
    Value(String),
    /// A word in it makes a line too long.
    #[error("the value of header field {0} cannot be folded to lines of {MAX_LINE_OCTETS} octets")]
    Line(String),
}

impl Fields {
    /// Fields of these names and values, the first one first. Values are folded here: unfolded again
    /// they are what was given.
    ///
    /// # Errors
    /// When a message cannot have them.
    pub fn new<'a>(
        fields: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, BadFields> {
        let mut octets = Vec::new();
        for (count, (name, value)) in fields.into_iter().enumerate() {
            if count >= MAX_FIELDS {
                return Err(BadFields::TooMany);
            }
            check_name(name)?;
            check_value(name, value)?;
            // Folding adds two octets for each white space at most.
            if octets.len() + name.len() + value.len() > MAX_FIELDS_OCTETS {
                return Err(BadFields::TooLarge);
            }
            fold(name, value, &mut octets)?;
        }
        match octets.len() <= MAX_FIELDS_OCTETS {
            true => Ok(Self(octets)),
            false => Err(BadFields::TooLarge),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The message with these fields in front of it.
    pub fn before(&self, message: &[u8]) -> Bytes {
        [&self.0, message].concat().into()
    }
}

/// RFC 5322 §3.6.8: `field-name`.
fn check_name(name: &str) -> Result<(), BadFields> {
    let plain = name.bytes().all(|octet| octet.is_ascii_graphic() && octet != b':');
    if !plain || !(1..=MAX_FIELD_NAME_OCTETS).contains(&name.len()) {
        return Err(BadFields::Name);
    }
    let once = ONCE.iter().any(|known| known.eq_ignore_ascii_case(name));
    let content = name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("Content-"));
    match once || content {
        true => Err(BadFields::Once(name.to_owned())),
        false => Ok(()),
    }
}

/// Printable ASCII in one line; letters of other scripts come as encoded words (RFC 2047).
fn check_value(name: &str, value: &str) -> Result<(), BadFields> {
    let printable = value.bytes().all(|octet| octet.is_ascii_graphic() || is_blank(octet));
    let visible = |octet: Option<&u8>| octet.is_some_and(u8::is_ascii_graphic);
    let octets = value.as_bytes();
    match printable && visible(octets.first()) && visible(octets.last()) {
        true => Ok(()),
        false => Err(BadFields::Value(name.to_owned())),
    }
}

fn is_blank(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

/// Writes a field, with line ends before white space where its lines would be long (RFC 5322 §2.2.3).
fn fold(name: &str, value: &str, out: &mut Vec<u8>) -> Result<(), BadFields> {
    out.extend_from_slice(format!("{name}: ").as_bytes());
    let mut line = name.len() + 2;
    for word in words(value.as_bytes()) {
        if is_blank(word[0]) && line + word.len() > FOLDED_OCTETS {
            out.extend_from_slice(b"\r\n");
            line = 0;
        }
        out.extend_from_slice(word);
        line += word.len();
        if line > MAX_LINE_OCTETS {
            return Err(BadFields::Line(name.to_owned()));
        }
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// The words of a value, each with the white space before it.
fn words(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = value;
    std::iter::from_fn(move || {
        let start = rest.iter().position(|octet| !is_blank(*octet))?;
        let length = rest[start..].iter().position(|octet| is_blank(*octet));
        let (word, left) = rest.split_at(length.map_or(rest.len(), |length| start + length));
        rest = left;
        Some(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(name: &str, value: &str, expected: Result<&str, BadFields>) {
        let made = Fields::new([(name, value)]);
        let text = made.map(|fields| String::from_utf8(fields.0).expect("ASCII"));
        assert_eq!(text.as_deref(), expected.as_deref());
    }

    #[test]
    fn fields_stand_in_front_in_their_order() {
        let fields = Fields::new([("X-Spam-Flag", "YES"), ("X-Spam-Score", "7.5 (of 5)")]).unwrap();
        let message = fields.before(b"Subject: x\r\n\r\nbody");
        let expected = b"X-Spam-Flag: YES\r\nX-Spam-Score: 7.5 (of 5)\r\nSubject: x\r\n\r\nbody";
        assert_eq!(&message[..], expected);
        let none = Fields::new([]).unwrap();
        assert!(none.is_empty());
        assert_eq!(&none.before(b"body")[..], b"body");
    }

    #[test]
    fn a_value_is_one_line_of_printable_ascii() {
        let bad = || Err(BadFields::Value("X-A".into()));
        for value in ["a\r\nBcc: b", "a\nb", "a\rb", "a\r\n b", "\r\n", "a\0b", "a\u{7f}", "ä"] {
            check("X-A", value, bad());
        }
        for value in ["", " ", "\t", " a", "a ", "a\t"] {
            check("X-A", value, bad());
        }
        check("X-A", "a \t b: c", Ok("X-A: a \t b: c\r\n"));
    }

    #[test]
    fn a_name_is_printable_ascii_without_colon_and_space() {
        for name in ["", "X A", "X:A", "X-A\r\nBcc", "X-Ä", "X\tA", &"x".repeat(78)] {
            check(name, "a", Err(BadFields::Name));
        }
        let name = "x".repeat(MAX_FIELD_NAME_OCTETS);
        check(&name, "a", Ok(&format!("{name}: a\r\n")));
        check(
            "X!#$%&'*+.^_`{|}~/=?@[]\"()<>,;\\",
            "a",
            Ok("X!#$%&'*+.^_`{|}~/=?@[]\"()<>,;\\: a\r\n"),
        );
    }

    #[test]
    fn fields_that_a_message_has_once_are_refused() {
        for name in ["from", "SUBJECT", "Message-Id", "mime-version", "Content-Type", "content-x"] {
            check(name, "a", Err(BadFields::Once(name.into())));
        }
        for name in ["Received", "Content", "X-From", "Delivered-To"] {
            check(name, "a", Ok(&format!("{name}: a\r\n")));
        }
    }

    #[test]
    fn long_values_are_folded_at_white_space_and_words_are_left_whole() {
        let (a, b) = ("a".repeat(60), "b".repeat(60));
        check("X-A", &format!("{a} {b}"), Ok(&format!("X-A: {a}\r\n {b}\r\n")));
        let word = "c".repeat(993);
        check("X-A", &word, Ok(&format!("X-A: {word}\r\n")));
        check("X-A", &format!("{word}c"), Err(BadFields::Line("X-A".into())));
        let word = "c".repeat(998);
        check("X-A", &format!("a {word}"), Err(BadFields::Line("X-A".into())));
        check("X-A", &format!("a {}", &word[1..]), Ok(&format!("X-A: a\r\n {}\r\n", &word[1..])));
    }

    #[test]
    fn there_are_limits() {
        let many = |count| Fields::new(vec![("X-A", "a"); count]).map(|_| ());
        assert_eq!(many(MAX_FIELDS), Ok(()));
        assert_eq!(many(MAX_FIELDS + 1), Err(BadFields::TooMany));
        let large = "a ".repeat(MAX_FIELDS_OCTETS / 2) + "a";
        check("X-A", &large, Err(BadFields::TooLarge));
        // Within the limit until it is folded.
        let blanks = "a".to_owned() + &format!("{}a", " ".repeat(77)).repeat(208);
        check("X-A", &blanks, Err(BadFields::TooLarge));
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_reads_back_as_it_was_given(
            name in "[ -~]{1,20}", value in "[ -~\t\r\n]{0,400}",
        ) {
            let Ok(fields) = Fields::new([(&*name, &*value)]) else { return Ok(()) };
            let text = String::from_utf8(fields.0).expect("ASCII");
            let lines: Vec<_> = text.strip_suffix("\r\n").expect("an end").split("\r\n").collect();
            prop_assert!(lines.iter().all(|line| line.len() <= MAX_LINE_OCTETS && !line.trim().is_empty()));
            prop_assert!(lines[1..].iter().all(|line| line.starts_with([' ', '\t'])));
            prop_assert_eq!(lines.concat(), format!("{}: {}", name, value));
        }
    }
}
