//! FETCH responses, item by item.

use bytes::Bytes;

use crate::imap::command::{Section, SectionText};
use crate::imap::object_id;
use crate::mime::{Envelope, Structure};
use crate::types::{Flags, MessageId, ModSeq, ThreadId, Timestamp, Uid};

use super::output::Output;
use super::structure::{self, Detail};
use super::text::{astring, date_time, flag_list, put};

/// One FETCH response in the making: `* n FETCH (…)`. Begin it with [`FetchLine::begin`], add items,
/// close it with [`FetchLine::end`].
#[derive(Debug)]
#[must_use = "a response that is not ended breaks the connection's protocol"]
pub struct FetchLine<'a> {
    out: &'a mut Output,
    any: bool,
}

impl<'a> FetchLine<'a> {
    /// Begins a response about the message of this sequence number.
    pub fn begin(out: &'a mut Output, sequence: u32) -> Self {
        put!(out.text(), "* {sequence} FETCH (");
        Self { out, any: false }
    }

    /// UID
    pub fn uid(&mut self, uid: Uid) {
        put!(self.item("UID "), "{uid}");
    }

    /// FLAGS; `recent` adds `\Recent`.
    pub fn flags(&mut self, flags: &Flags, recent: bool) {
        flag_list(self.item("FLAGS "), flags, recent);
    }

    /// MODSEQ
    pub fn modseq(&mut self, modseq: ModSeq) {
        put!(self.item("MODSEQ "), "({modseq})");
    }

    /// INTERNALDATE
    pub fn internal_date(&mut self, moment: Timestamp) {
        date_time(self.item("INTERNALDATE "), moment);
    }

    /// RFC822.SIZE, in octets.
    pub fn size(&mut self, octets: u64) {
        put!(self.item("RFC822.SIZE "), "{octets}");
    }

    /// EMAILID
    pub fn email_id(&mut self, id: MessageId) {
        put!(self.item("EMAILID "), "({})", object_id::email_id(id));
    }

    /// THREADID
    pub fn thread_id(&mut self, id: ThreadId) {
        put!(self.item("THREADID "), "({})", object_id::thread_id(id));
    }

    /// ENVELOPE
    pub fn envelope(&mut self, envelope: &Envelope) {
        structure::envelope(self.item("ENVELOPE "), envelope);
    }

    /// BODY: the structure without extension data.
    pub fn body(&mut self, part: &Structure) {
        structure::structure(self.item("BODY "), part, Detail::Basic);
    }

    /// BODYSTRUCTURE
    pub fn body_structure(&mut self, part: &Structure) {
        structure::structure(self.item("BODYSTRUCTURE "), part, Detail::Extended);
    }

    /// `BODY[section]<origin>`. `None`: the message has no such section. Octets go out as they are
    /// stored, also NUL, which the grammar of a literal excludes: a client that asks for a message
    /// gets that message.
    pub fn section(&mut self, section: &Section, origin: Option<u64>, octets: Option<Bytes>) {
        let text = self.item("BODY[");
        section_name(text, section);
        text.push(b']');
        if let Some(origin) = origin {
            put!(text, "<{origin}>");
        }
        text.push(b' ');
        self.literal(octets);
    }

    /// RFC822
    pub fn rfc822(&mut self, octets: Option<Bytes>) {
        self.item("RFC822 ");
        self.literal(octets);
    }

    /// RFC822.HEADER
    pub fn rfc822_header(&mut self, octets: Option<Bytes>) {
        self.item("RFC822.HEADER ");
        self.literal(octets);
    }

    /// RFC822.TEXT
    pub fn rfc822_text(&mut self, octets: Option<Bytes>) {
        self.item("RFC822.TEXT ");
        self.literal(octets);
    }

    /// Ends the response.
    pub fn end(self) {
        self.out.text().extend_from_slice(b")\r\n");
    }

    /// Begins an item and gives the text to which its value is appended.
    fn item(&mut self, name: &str) -> &mut Vec<u8> {
        let space = if std::mem::replace(&mut self.any, true) { " " } else { "" };
        put!(self.out.text(), "{space}{name}");
        self.out.text()
    }

    fn literal(&mut self, octets: Option<Bytes>) {
        let Some(octets) = octets else {
            self.out.text().extend_from_slice(b"NIL");
            return;
        };
        put!(self.out.text(), "{{{}}}\r\n", octets.len());
        self.out.octets(octets);
    }
}

/// Writes a section as a client names it, without brackets.
pub(super) fn section_name(out: &mut Vec<u8>, section: &Section) {
    for (i, number) in section.part.iter().enumerate() {
        put!(out, "{}{number}", if i == 0 { "" } else { "." });
    }
    let dot = if section.part.is_empty() { "" } else { "." };
    match &section.text {
        SectionText::All => {}
        SectionText::Header => put!(out, "{dot}HEADER"),
        SectionText::Text => put!(out, "{dot}TEXT"),
        SectionText::Mime => put!(out, "{dot}MIME"),
        SectionText::HeaderFields(names) => {
            put!(out, "{dot}HEADER.FIELDS ");
            field_names(out, names);
        }
        SectionText::HeaderFieldsNot(names) => {
            put!(out, "{dot}HEADER.FIELDS.NOT ");
            field_names(out, names);
        }
    }
}

fn field_names(out: &mut Vec<u8>, names: &[String]) {
    out.push(b'(');
    for (i, name) in names.iter().enumerate() {
        out.extend_from_slice(if i == 0 { b"" } else { b" " });
        astring(out, name.as_bytes());
    }
    out.push(b')');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Flag;

    fn check(write: impl FnOnce(&mut FetchLine<'_>), items: &str) {
        let mut out = Output::default();
        let mut line = FetchLine::begin(&mut out, 7);
        write(&mut line);
        line.end();
        let octets = out.take().concat();
        assert_eq!(String::from_utf8(octets).unwrap(), format!("* 7 FETCH ({items})\r\n"));
    }

    #[test]
    fn items_are_parted_by_one_space() {
        let write = |line: &mut FetchLine<'_>| {
            line.uid(Uid::new(5).unwrap());
            line.flags(&Flags::of(Flag::parse("\\Seen")), true);
            line.modseq(ModSeq(9));
            line.size(3);
            line.internal_date(Timestamp::utc(0));
        };
        let items = "UID 5 FLAGS (\\Seen \\Recent) MODSEQ (9) RFC822.SIZE 3 \
                     INTERNALDATE \" 1-Jan-1970 00:00:00 +0000\"";
        check(write, items);
        let id = "00000000000000000000000000000001";
        check(|line| line.email_id(MessageId::from_u128(1)), &format!("EMAILID (M{id})"));
        check(|line| line.thread_id(ThreadId::from_u128(1)), &format!("THREADID (T{id})"));
    }

    #[test]
    fn sections_are_named_as_they_were_asked_for() {
        let section = |part: &[u32], text| Section {
            part: part.iter().map(|n| (*n).try_into().unwrap()).collect(),
            text,
        };
        let ok = || Some(Bytes::from_static(b"ok"));
        let fields = SectionText::HeaderFields(vec!["From".into(), "X-\"".into()]);
        check(
            |line| line.section(&section(&[1, 2], fields), None, ok()),
            "BODY[1.2.HEADER.FIELDS (From \"X-\\\"\")] {2}\r\nok",
        );
        let fields = SectionText::HeaderFieldsNot(vec!["To".into()]);
        check(
            |line| line.section(&section(&[], fields), Some(0), ok()),
            "BODY[HEADER.FIELDS.NOT (To)]<0> {2}\r\nok",
        );
        check(|line| line.section(&section(&[], SectionText::All), Some(9), None), "BODY[]<9> NIL");
        check(
            |line| line.section(&section(&[3], SectionText::Mime), None, Some(Bytes::new())),
            "BODY[3.MIME] {0}\r\n",
        );
        check(|line| line.rfc822_text(ok()), "RFC822.TEXT {2}\r\nok");
    }
}
