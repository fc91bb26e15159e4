//! The module as a whole: a table of mails, the bounds, and random input.

mod bounds;
mod generated;
mod table;

use std::ops::Range;

use bytes::Bytes;

use super::*;

/// Checks what must be true of whatever octets: every span lies where it must, the sections of the
/// message put together are the message, stored rows come back, and nothing panics.
fn check_sound(octets: &[u8]) -> Derived {
    let derived = derive(octets);
    let root = &derived.structure;
    assert_eq!((root.header.start, root.body.end), (0, u32::try_from(octets.len()).unwrap()));
    let mut parts = 0;
    check_part(octets, root, 0..octets.len(), 0, &mut parts);
    assert!(parts <= MAX_PARTS + 1, "{parts} parts");

    let shared = Bytes::copy_from_slice(octets);
    let cut = |text| section(&shared, &derived, &Section { part: Vec::new(), text });
    let (header, text) = (cut(SectionText::Header).unwrap(), cut(SectionText::Text).unwrap());
    assert_eq!([header.as_ref(), text.as_ref()].concat(), octets);
    assert_eq!(cut(SectionText::All).unwrap(), octets);
    assert_eq!(cut(SectionText::HeaderFieldsNot(Vec::new())).unwrap(), header);

    let row = postcard::to_stdvec(&derived).unwrap();
    assert_eq!(postcard::from_bytes::<Derived>(&row).unwrap(), derived);

    assert!(!text::any_header_text(octets, &derived, &mut |_| false));
    text::header_values(octets, &derived, "subject");
    assert!(!text::any_body_text(octets, &derived, &mut |_| false));
    assert!(thread::candidates(&derived).len() <= MAX_REFERENCES + 2);
    check_envelope(&derived.envelope);
    derived
}

fn check_part(octets: &[u8], part: &Part, within: Range<usize>, depth: usize, parts: &mut usize) {
    *parts += 1;
    assert!(depth <= MAX_DEPTH);
    assert_eq!(part.header.end, part.body.start);
    assert!(within.start <= part.header.range().start && part.body.range().end <= within.end);
    for text in [&part.media_type, &part.subtype, &part.encoding] {
        assert!(!text.is_empty() && text.iter().all(u8::is_ascii_graphic));
    }
    let line_ends = part.body.of(octets).unwrap().iter().filter(|c| **c == b'\n').count();
    let is_kind = |kind: &str| part.media_type.eq_ignore_ascii_case(kind.as_bytes());
    match &part.content {
        Content::Single => {
            assert!(!is_kind("multipart"));
            assert_eq!(part.lines as usize, if part.is_text() { line_ends } else { 0 });
        }
        Content::Multipart(inner) => {
            assert!(is_kind("multipart") && !inner.is_empty());
            let mut at = part.body.range().start;
            for child in inner {
                assert!(at <= child.header.range().start);
                check_part(octets, child, part.body.range(), depth + 1, parts);
                at = child.body.range().end;
            }
        }
        Content::Message(message) => {
            assert!(is_kind("message"));
            assert_eq!(part.lines as usize, line_ends);
            let inner = &message.structure;
            assert_eq!((inner.header.start, inner.body.end), (part.body.start, part.body.end));
            check_envelope(&message.envelope);
            check_part(octets, inner, part.body.range(), depth + 1, parts);
        }
    }
}

/// No NUL, no line end, and every group that begins ends.
fn check_envelope(envelope: &Envelope) {
    let lists = [&envelope.from, &envelope.sender, &envelope.reply_to];
    for list in lists.into_iter().chain([&envelope.to, &envelope.cc, &envelope.bcc]) {
        let mut in_group = false;
        for address in list.iter() {
            let parts = [&address.name, &address.route, &address.mailbox, &address.host];
            parts.into_iter().for_each(check_text);
            if address.is_group_marker() {
                assert_eq!(in_group, address.mailbox.is_none(), "{list:?}");
                in_group = !in_group;
            }
        }
        assert!(!in_group, "{list:?}");
    }
    let texts = [&envelope.date, &envelope.subject, &envelope.in_reply_to, &envelope.message_id];
    texts.into_iter().for_each(check_text);
}

fn check_text(text: &Option<Octets>) {
    let clean = |text: &Octets| !text.iter().any(|c| matches!(c, 0 | b'\r' | b'\n'));
    assert!(text.as_ref().is_none_or(clean), "{text:?}");
}

/// A part tree in one line: `text/plain;charset=us-ascii 7bit 5/1` (octets/lines),
/// `mixed(… …)`, `message(subject: …)`.
fn shown(part: &Part) -> String {
    let text = |octets: &Octets| String::from_utf8_lossy(octets).into_owned();
    let params = |params: &[Param]| -> String {
        params.iter().map(|p| format!(";{}={}", text(&p.name), text(&p.value))).collect()
    };
    let disposition = part.disposition.as_ref();
    let disposition =
        disposition.map_or(String::new(), |d| format!(" {}{}", text(&d.kind), params(&d.params)));
    let kind = format!("{}/{}", text(&part.media_type), text(&part.subtype));
    match &part.content {
        Content::Single => format!(
            "{kind}{} {} {}/{}{disposition}",
            params(&part.params),
            text(&part.encoding),
            part.octets(),
            part.lines
        ),
        Content::Multipart(parts) => {
            let parts: Vec<String> = parts.iter().map(shown).collect();
            format!("{}({}){disposition}", text(&part.subtype), parts.join(" "))
        }
        Content::Message(message) => {
            let subject = message.envelope.subject.as_ref().map_or("~".to_owned(), text);
            let (octets, lines) = (part.octets(), part.lines);
            format!(
                "message[{subject}] {octets}/{lines}({}){disposition}",
                shown(&message.structure)
            )
        }
    }
}
