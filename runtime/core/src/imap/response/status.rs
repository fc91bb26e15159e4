//! Status responses: OK, NO, BAD, BYE, PREAUTH and the request to go on.

use crate::imap::command::Tag;

use super::code::Code;
use super::text::put;

/// How a status response begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done, or information.
    Ok,
    /// Could not be done.
    No,
    /// Was not understood.
    Bad,
}

impl Status {
    /// The word on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::No => "NO",
            Self::Bad => "BAD",
        }
    }
}

/// Writes the answer that ends a command. The text may be anything: what the wire cannot hold
/// becomes `?`.
pub fn tagged(out: &mut Vec<u8>, tag: &Tag, status: Status, code: Option<&Code>, text: &str) {
    put!(out, "{tag} ");
    line(out, status.word(), code, text);
}

/// Writes an untagged status.
pub fn untagged(out: &mut Vec<u8>, status: Status, code: Option<&Code>, text: &str) {
    out.extend_from_slice(b"* ");
    line(out, status.word(), code, text);
}

/// Writes the farewell.
pub fn bye(out: &mut Vec<u8>, code: Option<&Code>, text: &str) {
    out.extend_from_slice(b"* ");
    line(out, "BYE", code, text);
}

/// Writes `+ text`: the client is to go on. For a SASL challenge, `text` is its base64, and may be
/// empty.
pub fn continuation(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(b"+ ");
    human(out, text);
    out.extend_from_slice(b"\r\n");
}

/// Writes the CAPABILITY response.
pub fn capability(out: &mut Vec<u8>, words: &[&str]) {
    put!(out, "* CAPABILITY {}\r\n", words.join(" "));
}

fn line(out: &mut Vec<u8>, word: &str, code: Option<&Code>, text: &str) {
    put!(out, "{word} ");
    if let Some(code) = code {
        out.push(b'[');
        code.write(out);
        out.extend_from_slice(b"] ");
    }
    // A text that begins with '[' would be read as a code; one that is empty is no text.
    let text = if code.is_none() { text.trim_start_matches('[') } else { text };
    human(out, if text.is_empty() { "." } else { text });
    out.extend_from_slice(b"\r\n");
}

/// IMAP4rev1's TEXT-CHAR has seven bits and no line ends; control characters help nobody.
fn human(out: &mut Vec<u8>, text: &str) {
    out.extend(text.chars().map(|c| if matches!(c, ' '..='~') { c as u8 } else { b'?' }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Keyword, MailboxId, ModSeq, Uid, UidSet, UidValidity};

    fn check(code: Code, wire: &str) {
        let mut out = Vec::new();
        untagged(&mut out, Status::Ok, Some(&code), "x");
        assert_eq!(String::from_utf8(out).unwrap(), format!("* OK [{wire}] x\r\n"));
        assert!(wire.starts_with(code.word()));
    }

    fn uid(n: u32) -> Uid {
        Uid::new(n).unwrap()
    }

    #[test]
    fn every_code_with_data_is_written_as_its_rfc_says() {
        let uid_validity = UidValidity(7.try_into().unwrap());
        check(Code::AppendUid { uid_validity, uids: vec![uid(3), uid(4)] }, "APPENDUID 7 3:4");
        let (from, to) = (UidSet::range(uid(1), uid(2)), UidSet::range(uid(8), uid(9)));
        check(Code::CopyUid { uid_validity, from, to }, "COPYUID 7 1:2 8:9");
        check(Code::BadCharset(&["UTF-8", "US-ASCII"]), "BADCHARSET (UTF-8 US-ASCII)");
        check(Code::Capability(vec!["IMAP4rev1", "IDLE"]), "CAPABILITY IMAP4rev1 IDLE");
        check(Code::HighestModSeq(ModSeq(5)), "HIGHESTMODSEQ 5");
        let id = MailboxId::from_u128(1);
        check(Code::MailboxId(id), "MAILBOXID (F00000000000000000000000000000001)");
        check(Code::Modified(vec![1, 2, 5]), "MODIFIED 1:2,5");
        check(
            Code::PermanentFlags(vec![Keyword::new("$Junk").unwrap()]),
            "PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Junk \\*)",
        );
        check(Code::NoPermanentFlags, "PERMANENTFLAGS ()");
        check(Code::UidNext(uid(9)), "UIDNEXT 9");
        check(Code::UidValidity(uid_validity), "UIDVALIDITY 7");
        check(Code::Unseen(3), "UNSEEN 3");
        check(Code::ReadOnly, "READ-ONLY");
    }

    #[test]
    fn a_text_cannot_break_its_line_or_pretend_to_be_a_code() {
        let mut out = Vec::new();
        let tag = Tag::new("a1").unwrap();
        tagged(&mut out, &tag, Status::No, None, "[ALERT] é\r\n* BYE");
        tagged(&mut out, &tag, Status::Bad, None, "");
        bye(&mut out, Some(&Code::Unavailable), "[later]");
        continuation(&mut out, "");
        capability(&mut out, &["IMAP4rev1"]);
        let wire = "a1 NO ALERT] ???* BYE\r\na1 BAD .\r\n* BYE [UNAVAILABLE] [later]\r\n\
                    + \r\n* CAPABILITY IMAP4rev1\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), wire);
    }
}
