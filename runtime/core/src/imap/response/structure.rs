//! ENVELOPE, BODY and BODYSTRUCTURE (RFC 9051 §7.5.2).

use crate::mime::{Address, Content, Disposition, Envelope, Octets, Param, Structure};

use super::text::{nstring, put, string};

/// Whether a structure is written with its extension data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// BODY
    Basic,
    /// BODYSTRUCTURE
    Extended,
}

/// Writes an envelope in parentheses.
pub(super) fn envelope(out: &mut Vec<u8>, envelope: &Envelope) {
    out.push(b'(');
    optional(out, envelope.date.as_ref());
    out.push(b' ');
    optional(out, envelope.subject.as_ref());
    let Envelope { from, sender, reply_to, to, cc, bcc, .. } = envelope;
    for list in [from, sender, reply_to, to, cc, bcc] {
        out.push(b' ');
        addresses(out, list);
    }
    out.push(b' ');
    optional(out, envelope.in_reply_to.as_ref());
    out.push(b' ');
    optional(out, envelope.message_id.as_ref());
    out.push(b')');
}

fn optional(out: &mut Vec<u8>, text: Option<&Octets>) {
    nstring(out, text.map(AsRef::as_ref));
}

fn addresses(out: &mut Vec<u8>, list: &[Address]) {
    if list.is_empty() {
        out.extend_from_slice(b"NIL");
        return;
    }
    out.push(b'(');
    for address in list {
        let Address { name, route, mailbox, host } = address;
        for (i, text) in [name, route, mailbox, host].into_iter().enumerate() {
            out.push(if i == 0 { b'(' } else { b' ' });
            optional(out, text.as_ref());
        }
        out.push(b')');
    }
    out.push(b')');
}

/// Writes a body structure in parentheses. Nested as deep as the structure is, which
/// `mime::MAX_DEPTH` bounds.
pub(super) fn structure(out: &mut Vec<u8>, part: &Structure, detail: Detail) {
    out.push(b'(');
    match &part.content {
        Content::Multipart(parts) => {
            parts.iter().for_each(|part| structure(out, part, detail));
            out.push(b' ');
            string(out, &part.subtype);
            if detail == Detail::Extended {
                out.push(b' ');
                parameters(out, &part.params);
            }
        }
        Content::Message(message) => {
            single(out, part);
            out.push(b' ');
            envelope(out, &message.envelope);
            out.push(b' ');
            structure(out, &message.structure, detail);
            put!(out, " {}", part.lines);
        }
        Content::Single => {
            single(out, part);
            if part.is_text() {
                put!(out, " {}", part.lines);
            }
        }
    }
    if detail == Detail::Extended {
        extension(out, part);
    }
    out.push(b')');
}

/// Type and `body-fields` of what is no multipart.
fn single(out: &mut Vec<u8>, part: &Structure) {
    string(out, &part.media_type);
    out.push(b' ');
    string(out, &part.subtype);
    out.push(b' ');
    parameters(out, &part.params);
    out.push(b' ');
    optional(out, part.id.as_ref());
    out.push(b' ');
    optional(out, part.description.as_ref());
    out.push(b' ');
    string(out, &part.encoding);
    put!(out, " {}", part.octets());
}

/// The extension data but for a multipart's parameters: MD5 (not of a multipart), disposition,
/// language, location.
fn extension(out: &mut Vec<u8>, part: &Structure) {
    if !matches!(part.content, Content::Multipart(_)) {
        out.push(b' ');
        optional(out, part.md5.as_ref());
    }
    out.push(b' ');
    disposition(out, part.disposition.as_ref());
    out.push(b' ');
    languages(out, &part.language);
    out.push(b' ');
    optional(out, part.location.as_ref());
}

fn parameters(out: &mut Vec<u8>, params: &[Param]) {
    if params.is_empty() {
        out.extend_from_slice(b"NIL");
        return;
    }
    for (i, param) in params.iter().enumerate() {
        out.push(if i == 0 { b'(' } else { b' ' });
        string(out, &param.name);
        out.push(b' ');
        string(out, &param.value);
    }
    out.push(b')');
}

fn disposition(out: &mut Vec<u8>, disposition: Option<&Disposition>) {
    let Some(disposition) = disposition else {
        out.extend_from_slice(b"NIL");
        return;
    };
    out.push(b'(');
    string(out, &disposition.kind);
    out.push(b' ');
    parameters(out, &disposition.params);
    out.push(b')');
}

fn languages(out: &mut Vec<u8>, languages: &[Octets]) {
    if languages.is_empty() {
        out.extend_from_slice(b"NIL");
        return;
    }
    for (i, language) in languages.iter().enumerate() {
        out.push(if i == 0 { b'(' } else { b' ' });
        string(out, language);
    }
    out.push(b')');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mime::Span;
    use crate::mime::part::Message;

    fn text(text: &'static str) -> Octets {
        Octets::from_static(text.as_bytes())
    }

    fn param(name: &'static str, value: &'static str) -> Param {
        Param { name: text(name), value: text(value) }
    }

    fn check(part: &Structure, basic: &str, extended: &str) {
        for (detail, wire) in [(Detail::Basic, basic), (Detail::Extended, extended)] {
            let mut out = Vec::new();
            structure(&mut out, part, detail);
            assert_eq!(String::from_utf8(out).unwrap(), wire);
        }
    }

    fn plain() -> Structure {
        Structure { body: Span { start: 10, end: 1162 }, lines: 23, ..Structure::default() }
    }

    fn envelope_of(subject: &'static str) -> Envelope {
        let terry = Address {
            name: Some(text("Terry \"G\" Gray")),
            route: None,
            mailbox: Some(text("gray")),
            host: Some(text("cac.washington.edu")),
        };
        Envelope {
            date: Some(text("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)")),
            subject: Some(text(subject)),
            from: vec![terry.clone(), terry],
            message_id: Some(text("<B27397@x>")),
            ..Envelope::default()
        }
    }

    const ENVELOPE: &str = r#"("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)" "Hi" (("Terry \"G\" Gray" NIL "gray" "cac.washington.edu")("Terry \"G\" Gray" NIL "gray" "cac.washington.edu")) NIL NIL NIL NIL NIL NIL "<B27397@x>")"#;

    #[test]
    fn an_envelope_has_ten_fields() {
        let mut out = Vec::new();
        envelope(&mut out, &envelope_of("Hi"));
        assert_eq!(String::from_utf8(out).unwrap(), ENVELOPE);
        let mut out = Vec::new();
        envelope(&mut out, &Envelope { subject: Some(text("é")), ..Envelope::default() });
        let wire = "(NIL {2}\r\né NIL NIL NIL NIL NIL NIL NIL NIL)";
        assert_eq!(String::from_utf8(out).unwrap(), wire);
    }

    #[test]
    fn a_text_has_lines_and_an_image_has_not() {
        let basic = r#"("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1152 23"#;
        check(&plain(), &format!("{basic})"), &format!("{basic} NIL NIL NIL NIL)"));
        let image = Structure {
            media_type: text("IMAGE"),
            subtype: text("gif"),
            params: vec![],
            id: Some(text("<1@x>")),
            description: Some(text("a cat")),
            encoding: text("base64"),
            md5: Some(text("Q2hlY2s=")),
            disposition: Some(Disposition {
                kind: text("attachment"),
                params: vec![param("filename", "cat.gif"), param("size", "9")],
            }),
            language: vec![text("de"), text("en")],
            location: Some(text("http://x/")),
            ..plain()
        };
        let basic = r#"("IMAGE" "gif" NIL "<1@x>" "a cat" "base64" 1152"#;
        let more = r#""Q2hlY2s=" ("attachment" ("filename" "cat.gif" "size" "9")) ("de" "en") "http://x/")"#;
        check(&image, &format!("{basic})"), &format!("{basic} {more}"));
    }

    #[test]
    fn multiparts_and_messages_nest() {
        let inner = Box::new(Message { envelope: envelope_of("Hi"), structure: plain() });
        let message = Structure {
            media_type: text("message"),
            subtype: text("rfc822"),
            params: vec![],
            content: Content::Message(inner),
            ..plain()
        };
        let mixed = Structure {
            subtype: text("mixed"),
            params: vec![param("boundary", "b")],
            content: Content::Multipart(vec![plain(), message]),
            ..plain()
        };
        let part = r#""text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1152 23"#;
        let message = r#""message" "rfc822" NIL NIL NIL "7bit" 1152"#;
        let nil = "NIL NIL NIL NIL";
        check(
            &mixed,
            &format!(r#"(({part})({message} {ENVELOPE} ({part}) 23) "mixed")"#),
            &format!(
                r#"(({part} {nil})({message} {ENVELOPE} ({part} {nil}) 23 {nil}) "mixed" ("boundary" "b") NIL NIL NIL)"#
            ),
        );
    }
}
