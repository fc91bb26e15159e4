//! Untagged data about the server and the selected mailbox.

use crate::imap::command::{Numbering, Tag};
use crate::types::name::DELIMITER;
use crate::types::{Keyword, ModSeq};

use super::text::{mailbox_flags, number_set, put, string};

/// `* n EXISTS`
pub fn exists(out: &mut Vec<u8>, messages: u32) {
    put!(out, "* {messages} EXISTS\r\n");
}

/// `* n RECENT`
pub fn recent(out: &mut Vec<u8>, messages: u32) {
    put!(out, "* {messages} RECENT\r\n");
}

/// `* n EXPUNGE`: the numbers above it go down by one.
pub fn expunge(out: &mut Vec<u8>, sequence: u32) {
    put!(out, "* {sequence} EXPUNGE\r\n");
}

/// FLAGS: the flags that messages of the mailbox can have.
pub fn flags(out: &mut Vec<u8>, keywords: &[Keyword]) {
    out.extend_from_slice(b"* FLAGS ");
    mailbox_flags(out, keywords, "");
    out.extend_from_slice(b"\r\n");
}

/// ENABLED (RFC 5161).
pub fn enabled(out: &mut Vec<u8>, words: &[&str]) {
    out.extend_from_slice(b"* ENABLED");
    words.iter().for_each(|word| put!(out, " {word}"));
    out.extend_from_slice(b"\r\n");
}

/// ID (RFC 2971): what this server says of itself.
pub fn id(out: &mut Vec<u8>, pairs: &[(&str, &str)]) {
    if pairs.is_empty() {
        out.extend_from_slice(b"* ID NIL\r\n");
        return;
    }
    out.extend_from_slice(b"* ID (");
    for (i, (key, value)) in pairs.iter().enumerate() {
        out.extend_from_slice(if i == 0 { b"" } else { b" " });
        string(out, key.as_bytes());
        out.push(b' ');
        string(out, value.as_bytes());
    }
    out.extend_from_slice(b")\r\n");
}

/// NAMESPACE (RFC 2342): one personal namespace, no others.
pub fn namespace(out: &mut Vec<u8>) {
    put!(out, "* NAMESPACE ((\"\" \"{DELIMITER}\")) NIL NIL\r\n");
}

/// The plain SEARCH response; `modseq` is the highest one of what was found, when the command asked
/// for mod-sequences and found something (RFC 7162 §3.1.5).
pub fn search(out: &mut Vec<u8>, numbers: &[u32], modseq: Option<ModSeq>) {
    out.extend_from_slice(b"* SEARCH");
    numbers.iter().for_each(|number| put!(out, " {number}"));
    if let Some(modseq) = modseq {
        put!(out, " (MODSEQ {modseq})");
    }
    out.extend_from_slice(b"\r\n");
}

/// The extended SEARCH response (RFC 4731). What is `None` is not said.
#[derive(Clone, Debug)]
pub struct Esearch<'a> {
    /// Of the command.
    pub tag: &'a Tag,
    /// What the numbers are.
    pub numbering: Numbering,
    /// MIN; not said when nothing was found.
    pub min: Option<u32>,
    /// MAX; not said when nothing was found.
    pub max: Option<u32>,
    /// ALL, ascending; not said when empty.
    pub all: Option<&'a [u32]>,
    /// COUNT
    pub count: Option<u32>,
    /// MODSEQ (RFC 7162 §3.1.5).
    pub modseq: Option<ModSeq>,
}

/// Writes the extended SEARCH response.
pub fn esearch(out: &mut Vec<u8>, found: &Esearch<'_>) {
    // A tag has neither quotes nor backslashes.
    put!(out, "* ESEARCH (TAG \"{}\")", found.tag);
    if found.numbering == Numbering::Uid {
        out.extend_from_slice(b" UID");
    }
    let numbers = [("MIN", found.min), ("MAX", found.max), ("COUNT", found.count)];
    for (word, number) in numbers {
        if let Some(number) = number {
            put!(out, " {word} {number}");
        }
    }
    if let Some(all) = found.all.filter(|all| !all.is_empty()) {
        out.extend_from_slice(b" ALL ");
        number_set(out, all.iter().copied());
    }
    if let Some(modseq) = found.modseq {
        put!(out, " MODSEQ {modseq}");
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(write: impl FnOnce(&mut Vec<u8>), wire: &str) {
        let mut out = Vec::new();
        write(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), format!("{wire}\r\n"));
    }

    #[test]
    fn mailbox_data_is_written_as_the_rfc_says() {
        check(|out| exists(out, 23), "* 23 EXISTS");
        check(|out| recent(out, 0), "* 0 RECENT");
        check(|out| expunge(out, 44), "* 44 EXPUNGE");
        let keywords = [Keyword::new("$Junk").unwrap()];
        let wire = "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Junk)";
        check(|out| flags(out, &keywords), wire);
        check(|out| enabled(out, &["CONDSTORE"]), "* ENABLED CONDSTORE");
        check(|out| enabled(out, &[]), "* ENABLED");
        check(|out| id(out, &[("name", "Post\"room")]), "* ID (\"name\" \"Post\\\"room\")");
        check(|out| id(out, &[]), "* ID NIL");
        check(namespace, "* NAMESPACE ((\"\" \"/\")) NIL NIL");
    }

    #[test]
    fn search_results_come_in_both_forms() {
        check(|out| search(out, &[], None), "* SEARCH");
        check(|out| search(out, &[2, 5], Some(ModSeq(9))), "* SEARCH 2 5 (MODSEQ 9)");
        let tag = Tag::new("a1").unwrap();
        let mut found = Esearch {
            tag: &tag,
            numbering: Numbering::Uid,
            min: Some(1),
            max: Some(4),
            all: Some(&[1, 2, 4]),
            count: Some(3),
            modseq: Some(ModSeq(8)),
        };
        let wire = "* ESEARCH (TAG \"a1\") UID MIN 1 MAX 4 COUNT 3 ALL 1:2,4 MODSEQ 8";
        check(|out| esearch(out, &found), wire);
        found =
            Esearch { min: None, max: None, all: Some(&[]), count: Some(0), modseq: None, ..found };
        found.numbering = Numbering::Sequence;
        check(|out| esearch(out, &found), "* ESEARCH (TAG \"a1\") COUNT 0");
    }
}
