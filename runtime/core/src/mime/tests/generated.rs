//! Random input: octets, lines that look like mail, and mails of which the structure is known.
//! proptest prints the seed of what fails, and keeps it.

use mail_parser::{MessageParser, PartType};
use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn any_octets_are_sound(octets in prop::collection::vec(any::<u8>(), 0..2000)) {
        check_sound(&octets);
    }

    #[test]
    fn any_lines_that_look_like_mail_are_sound(message in mail_like()) {
        check_sound(message.as_bytes());
    }

    #[test]
    fn a_generated_mail_has_the_structure_it_was_made_with(entity in entity(), crlf in any::<bool>()) {
        check_generated(&entity, if crlf { "\r\n" } else { "\n" });
    }

    #[test]
    fn encoded_words_are_read_as_they_were_meant(text in "[^\\p{C}]{1,20}", base64 in any::<bool>()) {
        let word = encoded(&text, base64);
        prop_assert_eq!(&text::decode_header(word.as_bytes()), &text);
        let message = format!("Subject: {word}\r\n\r\n");
        let oracle = MessageParser::default().parse(&message).unwrap();
        prop_assert_eq!(oracle.subject().unwrap(), &text);
    }

    #[test]
    fn well_formed_addresses_are_read_as_mail_parser_reads_them(
        list in prop::collection::vec(("[A-Za-z,.;:<>() ]{0,12}", "[a-z]{1,8}", "[a-z]{1,8}\\.org"), 1..5)
    ) {
        let quoted = |(name, local, domain): &(String, String, String)| match name.trim() {
            "" => format!("{local}@{domain}"),
            name => format!("\"{name}\" <{local}@{domain}>"),
        };
        let field = list.iter().map(quoted).collect::<Vec<_>>().join(", ");
        let message = format!("To: {field}\r\n\r\n");
        let oracle = MessageParser::default().parse(&message).unwrap();
        let expected: Vec<String> = oracle.to().unwrap().iter().map(|a| match a.name() {
            Some(name) => format!("{name} <{}>", a.address().unwrap()),
            None => a.address().unwrap().to_owned(),
        }).collect();
        prop_assert_eq!(check_sound(message.as_bytes()).to, expected);
    }
}

/// An RFC 2047 word.
fn encoded(text: &str, base64: bool) -> String {
    use ::base64::Engine as _;
    if base64 {
        return format!("=?utf-8?B?{}?=", ::base64::prelude::BASE64_STANDARD.encode(text));
    }
    let octets: String = text.bytes().map(|octet| format!("={octet:02X}")).collect();
    format!("=?utf-8?Q?{octets}?=")
}

/// Lines from which headers, parts and their ends come together in every order.
fn mail_like() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just("".to_owned()),
        Just("--a".to_owned()),
        Just("--b".to_owned()),
        Just("--a--".to_owned()),
        Just("--b--".to_owned()),
        Just("Content-Type: multipart/mixed; boundary=a".to_owned()),
        Just("Content-Type: multipart/digest; boundary=\"b\"".to_owned()),
        Just("Content-Type: message/rfc822".to_owned()),
        Just("Content-Type: text/html; charset=utf-16".to_owned()),
        Just("Content-Transfer-Encoding: base64".to_owned()),
        Just("Content-Transfer-Encoding: quoted-printable".to_owned()),
        Just("Content-Disposition: attachment; filename*0=\"x".to_owned()),
        "(From|To|Cc|Reply-To|Sender): [ -~]{0,40}",
        "(Subject|Date|Message-ID|References|In-Reply-To): [ -~\u{e4}]{0,40}",
        "[ \t][ -~]{0,20}",
        "[ -~]{0,20}",
    ];
    let ended =
        (line, prop_oneof![4 => Just("\r\n"), 2 => Just("\n"), 1 => Just("\r"), 1 => Just("")]);
    let ended = ended.prop_map(|(line, end)| line + end);
    prop::collection::vec(ended, 0..60).prop_map(|lines| lines.concat())
}

/// A mail of known structure.
#[derive(Clone, Debug)]
enum Entity {
    Text(Vec<String>),
    Multipart(Vec<Entity>),
    Message(Box<Entity>),
}

fn entity() -> impl Strategy<Value = Entity> {
    let text = prop::collection::vec("[a-z]{0,10}", 0..4).prop_map(Entity::Text);
    text.prop_recursive(5, 30, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Entity::Multipart),
            inner.prop_map(|inner| Entity::Message(Box::new(inner))),
        ]
    })
}

/// Writes a mail, and notes the body of every part in the order in which they begin.
fn write(entity: &Entity, eol: &str, boundaries: &mut u32, bodies: &mut Vec<String>) -> String {
    let (at, header) = (bodies.len(), |kind: &str| format!("Content-Type: {kind}{eol}{eol}"));
    bodies.push(String::new());
    let (kind, body) = match entity {
        Entity::Text(lines) => ("text/plain".to_owned(), lines.join(eol)),
        Entity::Message(inner) => {
            ("message/rfc822".to_owned(), write(inner, eol, boundaries, bodies))
        }
        Entity::Multipart(inner) => {
            *boundaries += 1;
            // Boundaries that are beginnings of one another: `=1`, `=12` …
            let boundary = format!("={boundaries}");
            let parts: String = inner
                .iter()
                .map(|part| {
                    format!("--{boundary}{eol}{}{eol}", write(part, eol, boundaries, bodies))
                })
                .collect();
            (format!("multipart/mixed; boundary=\"{boundary}\""), format!("{parts}--{boundary}--"))
        }
    };
    bodies[at].clone_from(&body);
    header(&kind) + &body
}

/// Bodies of all parts, in the order in which they begin.
fn collect(message: &str, part: &Part, bodies: &mut Vec<String>) {
    bodies.push(message[part.body.range()].to_owned());
    match &part.content {
        Content::Single => {}
        Content::Multipart(parts) => parts.iter().for_each(|p| collect(message, p, bodies)),
        Content::Message(inner) => collect(message, &inner.structure, bodies),
    }
}

fn check_generated(entity: &Entity, eol: &str) {
    let mut expected = Vec::new();
    let message = write(entity, eol, &mut 10, &mut expected);
    let derived = check_sound(message.as_bytes());
    let mut found = Vec::new();
    collect(&message, &derived.structure, &mut found);
    assert_eq!(found, expected, "{message:?}");
    if !has_message_in_message(entity) {
        let oracle = MessageParser::default().parse(&message).unwrap();
        check_oracle(&derived.structure, &oracle, 0);
    }
}

/// mail-parser 0.11 fails an assertion of its own at a message that is nothing but a message, in a
/// multipart.
fn has_message_in_message(entity: &Entity) -> bool {
    match entity {
        Entity::Text(_) => false,
        Entity::Multipart(inner) => inner.iter().any(has_message_in_message),
        Entity::Message(inner) => {
            matches!(**inner, Entity::Message(_)) || has_message_in_message(inner)
        }
    }
}

/// mail-parser sees the same tree with headers and texts in the same places. Where multiparts and
/// messages end it counts otherwise (epilogues, line ends), so that is not compared.
fn check_oracle(part: &Part, oracle: &mail_parser::Message<'_>, id: u32) {
    let theirs = &oracle.parts[id as usize];
    assert_eq!((part.header.start, part.body.start), (theirs.offset_header, theirs.offset_body));
    match (&part.content, &theirs.body) {
        (Content::Single, PartType::Text(_)) => {}
        (Content::Multipart(parts), PartType::Multipart(ids)) => {
            assert_eq!(parts.len(), ids.len());
            parts.iter().zip(ids).for_each(|(part, id)| check_oracle(part, oracle, *id));
        }
        (Content::Message(message), PartType::Message(inner)) => {
            check_oracle(&message.structure, inner, 0);
        }
        (ours, theirs) => panic!("{ours:?} is no {theirs:?}"),
    }
}
