//! Responses as a client reads them: `imap-codec`, written by others, finds in them what was put in.

use bytes::Bytes;
use imap_codec::ResponseCodec;
use imap_codec::decode::Decoder;
use imap_codec::imap_types::IntoStatic;
use imap_codec::imap_types::body::{BasicFields, BodyStructure, Disposition, SpecificFields};
use imap_codec::imap_types::core::{IString, NString};
use imap_codec::imap_types::envelope::{Address as TheirAddress, Envelope as TheirEnvelope};
use imap_codec::imap_types::fetch::MessageDataItem as Item;
use imap_codec::imap_types::mailbox::Mailbox;
use imap_codec::imap_types::response::{Data, Response, Status as TheirStatus};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::imap::command::{Section, SectionText, Tag};
use crate::imap::utf7;
use crate::mime::part::Message;
use crate::mime::{Address, Content, Envelope, Octets, Param, Part, Span};
use crate::types::{Flag, Flags, Keyword, MailboxName, ModSeq, SystemFlag, Timestamp, Uid};

/// The one response that the text is.
fn read(text: &[u8]) -> Result<Response<'static>, TestCaseError> {
    let shown = String::from_utf8_lossy(text).into_owned();
    match ResponseCodec::new().decode(text) {
        Ok(([], response)) => Ok(response.into_static()),
        other => Err(TestCaseError::fail(format!("{other:?} of {shown:?}"))),
    }
}

fn octets() -> impl Strategy<Value = Octets> {
    prop_oneof!["[ -~]{0,10}".prop_map(Octets::from), vec(1u8.., 0..10).prop_map(Octets::from)]
}

fn address() -> impl Strategy<Value = Address> {
    (option::of(octets()), option::of(octets()), option::of(octets()), option::of(octets()))
        .prop_map(|(name, route, mailbox, host)| Address { name, route, mailbox, host })
}

fn envelope() -> impl Strategy<Value = Envelope> {
    let texts = [(); 4].map(|()| option::of(octets()));
    let lists = [(); 6].map(|()| vec(address(), 0..3));
    (texts, lists).prop_map(|(texts, lists)| {
        let [date, subject, in_reply_to, message_id] = texts;
        let [from, sender, reply_to, to, cc, bcc] = lists;
        Envelope { date, subject, from, sender, reply_to, to, cc, bcc, in_reply_to, message_id }
    })
}

fn params() -> impl Strategy<Value = Vec<Param>> {
    vec((octets(), octets()).prop_map(|(name, value)| Param { name, value }), 0..3)
}

/// A part but for its content.
fn bare_part() -> impl Strategy<Value = Part> {
    let disposition =
        (octets(), params()).prop_map(|(kind, params)| crate::mime::Disposition { kind, params });
    let types = select(vec![("text", "plain"), ("TEXT", "x"), ("image", "png"), ("a", "b")]);
    let texts = [(); 4].map(|()| option::of(octets()));
    let rest = (octets(), option::of(disposition), vec(octets(), 0..3), params());
    (types, texts, rest, any::<(u32, u32)>()).prop_map(|((kind, subtype), texts, rest, numbers)| {
        let [id, description, md5, location] = texts;
        let (encoding, disposition, language, params) = rest;
        Part {
            body: Span { start: 0, end: numbers.0 },
            lines: numbers.1,
            media_type: Octets::from(kind),
            subtype: Octets::from(subtype),
            params,
            id,
            description,
            encoding,
            md5,
            disposition,
            language,
            location,
            ..Part::default()
        }
    })
}

fn part() -> impl Strategy<Value = Part> {
    bare_part().prop_recursive(4, 12, 3, |inner| {
        let message =
            (bare_part(), envelope(), inner.clone()).prop_map(|(part, envelope, inner)| {
                let content = Content::Message(Box::new(Message { envelope, structure: inner }));
                let (media_type, subtype) = (Octets::from("message"), Octets::from("RFC822"));
                Part { media_type, subtype, content, ..part }
            });
        let multipart = (bare_part(), vec(inner, 1..4))
            .prop_map(|(part, parts)| Part { content: Content::Multipart(parts), ..part });
        prop_oneof![message, multipart]
    })
}

fn same(ours: &Octets, theirs: &IString<'_>) -> bool {
    *ours == theirs.clone().into_inner()[..]
}

fn same_or_nil(ours: &Option<Octets>, theirs: &NString<'_>) -> bool {
    match (ours, &theirs.0) {
        (Some(ours), Some(theirs)) => same(ours, theirs),
        (None, None) => true,
        _ => false,
    }
}

fn same_params(ours: &[Param], theirs: &[(IString<'_>, IString<'_>)]) -> bool {
    ours.len() == theirs.len()
        && ours.iter().zip(theirs).all(|(o, t)| same(&o.name, &t.0) && same(&o.value, &t.1))
}

fn same_addresses(ours: &[Address], theirs: &[TheirAddress<'_>]) -> bool {
    ours.len() == theirs.len()
        && ours.iter().zip(theirs).all(|(o, t)| {
            same_or_nil(&o.name, &t.name)
                && same_or_nil(&o.route, &t.adl)
                && same_or_nil(&o.mailbox, &t.mailbox)
                && same_or_nil(&o.host, &t.host)
        })
}

fn same_envelope(ours: &Envelope, theirs: &TheirEnvelope<'_>) -> bool {
    let texts = [
        (&ours.date, &theirs.date),
        (&ours.subject, &theirs.subject),
        (&ours.in_reply_to, &theirs.in_reply_to),
        (&ours.message_id, &theirs.message_id),
    ];
    let lists = [
        (&ours.from, &theirs.from),
        (&ours.sender, &theirs.sender),
        (&ours.reply_to, &theirs.reply_to),
        (&ours.to, &theirs.to),
        (&ours.cc, &theirs.cc),
        (&ours.bcc, &theirs.bcc),
    ];
    texts.iter().all(|(o, t)| same_or_nil(o, t)) && lists.iter().all(|(o, t)| same_addresses(o, t))
}

fn same_basic(ours: &Part, theirs: &BasicFields<'_>) -> bool {
    same_params(&ours.params, &theirs.parameter_list)
        && same_or_nil(&ours.id, &theirs.id)
        && same_or_nil(&ours.description, &theirs.description)
        && same(&ours.encoding, &theirs.content_transfer_encoding)
        && ours.octets() == theirs.size
}

/// Disposition, language and location.
fn same_tail(ours: &Part, theirs: &Disposition<'_>) -> bool {
    let disposition = match (&ours.disposition, &theirs.disposition) {
        (Some(o), Some((kind, params))) => same(&o.kind, kind) && same_params(&o.params, params),
        (None, None) => true,
        _ => false,
    };
    let language = theirs.tail.as_ref().unwrap();
    disposition
        && ours.language.len() == language.language.len()
        && ours.language.iter().zip(&language.language).all(|(o, t)| same(o, t))
        && same_or_nil(&ours.location, &language.tail.as_ref().unwrap().location)
}

/// Whether they see the part that we wrote; `extended` with its extension data.
fn same_part(ours: &Part, theirs: &BodyStructure<'_>, extended: bool) -> bool {
    match (&ours.content, theirs) {
        (Content::Multipart(parts), BodyStructure::Multi { bodies, subtype, extension_data }) => {
            let extension = extension_data.as_ref();
            extension.is_some() == extended
                && extension.is_none_or(|e| {
                    same_params(&ours.params, &e.parameter_list)
                        && same_tail(ours, e.tail.as_ref().unwrap())
                })
                && same(&ours.subtype, subtype)
                && parts.len() == bodies.as_ref().len()
                && parts.iter().zip(bodies.as_ref()).all(|(o, t)| same_part(o, t, extended))
        }
        (content, BodyStructure::Single { body, extension_data }) => {
            let specific = match (&body.specific, content) {
                (SpecificFields::Text { subtype, number_of_lines }, Content::Single) => {
                    ours.is_text() && same(&ours.subtype, subtype) && ours.lines == *number_of_lines
                }
                (SpecificFields::Basic { r#type, subtype }, Content::Single) => {
                    same(&ours.media_type, r#type) && same(&ours.subtype, subtype)
                }
                (
                    SpecificFields::Message { envelope, body_structure, number_of_lines },
                    Content::Message(message),
                ) => {
                    same_envelope(&message.envelope, envelope)
                        && same_part(&message.structure, body_structure, extended)
                        && ours.lines == *number_of_lines
                }
                _ => false,
            };
            let extension = extension_data.as_ref();
            specific
                && same_basic(ours, &body.basic)
                && extension.is_some() == extended
                && extension.is_none_or(|e| {
                    same_or_nil(&ours.md5, &e.md5) && same_tail(ours, e.tail.as_ref().unwrap())
                })
        }
        _ => false,
    }
}

/// The items of the FETCH response that `write` makes.
fn fetched(write: impl FnOnce(&mut FetchLine<'_>)) -> Result<Vec<Item<'static>>, TestCaseError> {
    let mut out = Output::default();
    let mut line = FetchLine::begin(&mut out, 7);
    write(&mut line);
    line.end();
    match read(&out.take().concat())? {
        Response::Data(Data::Fetch { seq, items }) if seq.get() == 7 => Ok(items.into_inner()),
        other => Err(TestCaseError::fail(format!("{other:?}"))),
    }
}

fn codes() -> Vec<Code> {
    let uid = |n| Uid::new(n).unwrap();
    vec![
        Code::Alert,
        Code::AppendUid { uid_validity: crate::types::UidValidity(uid(3).0), uids: vec![uid(4)] },
        Code::BadCharset(&["UTF-8", "US-ASCII"]),
        Code::Capability(vec!["IMAP4rev1", "LITERAL+", "AUTH=PLAIN"]),
        Code::HighestModSeq(ModSeq(1)),
        Code::Modified(vec![1, 2, 9]),
        Code::NonExistent,
        Code::PermanentFlags(vec![Keyword::new("$Junk").unwrap()]),
        Code::NoPermanentFlags,
        Code::ReadOnly,
        Code::TryCreate,
        Code::UidNext(uid(9)),
        Code::Unseen(4),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn structures_and_envelopes_arrive_as_they_are(part in part(), envelope in envelope()) {
        let items = fetched(|line| {
            line.envelope(&envelope);
            line.body(&part);
            line.body_structure(&part);
        })?;
        match items.as_slice() {
            [Item::Envelope(e), Item::Body(basic), Item::BodyStructure(extended)] => {
                prop_assert!(same_envelope(&envelope, e), "{e:?}");
                prop_assert!(same_part(&part, basic, false), "{basic:?}");
                prop_assert!(same_part(&part, extended, true), "{extended:?}");
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn facts_and_bodies_arrive_as_they_are(
        system in 0u8..32,
        words in vec("[a-zA-Z$]{1,8}", 0..3),
        recent: bool,
        // Years 1 to 9998, so that no zone leads out of four digits.
        seconds in -62_100_000_000i64..253_300_000_000,
        offset_minutes in -1439i16..=1439,
        body in option::of(vec(1u8.., 0..5000)),
        uid in 1u32..,
    ) {
        let flags = Flags::from_parts(system, words.iter().filter_map(|word| Keyword::new(word)));
        let moment = Timestamp { seconds, offset_minutes };
        let part = vec![2.try_into().unwrap()];
        let section = Section { part, text: SectionText::HeaderFields(vec!["To".into()]) };
        let items = fetched(|line| {
            line.uid(Uid::new(uid).unwrap());
            line.flags(&flags, recent);
            line.internal_date(moment);
            line.section(&section, Some(5), body.clone().map(Bytes::from));
            line.modseq(ModSeq(8));
        })?;
        let [Item::Uid(u), Item::Flags(f), Item::InternalDate(date), Item::BodyExt { data, .. }, Item::ModSeq(_)] =
            items.as_slice()
        else {
            return Err(TestCaseError::fail(format!("{items:?}")));
        };
        prop_assert_eq!(u.get(), uid);
        prop_assert_eq!(f.len(), flags.iter().count() + usize::from(recent));
        prop_assert_eq!(date.as_ref().timestamp(), seconds);
        let offset = date.as_ref().offset().local_minus_utc();
        prop_assert_eq!(offset, i32::from(offset_minutes) * 60);
        let data = data.0.as_ref().map(|data| data.clone().into_inner().into_owned());
        prop_assert_eq!(data, body);
    }

    #[test]
    fn names_arrive_in_list_as_they_are(
        name in any::<String>().prop_filter_map("no name", |t| MailboxName::new(&t).ok()),
    ) {
        let mut text = Vec::new();
        let attributes = [ListAttribute::NonExistent, ListAttribute::HasChildren];
        let line = ListLine { attributes: &attributes, name: &name, subscribed_below: false };
        list(&mut text, &line);
        let Response::Data(Data::List { mailbox, items, .. }) = read(&text)? else {
            return Err(TestCaseError::fail("no LIST"));
        };
        prop_assert_eq!(items.len(), 2);
        let read = match &mailbox {
            Mailbox::Inbox => Some("INBOX".to_owned()),
            Mailbox::Other(other) => utf7::decode(other.as_ref()),
        };
        prop_assert_eq!(read.as_deref(), Some(name.as_str()));
    }

    #[test]
    fn no_text_breaks_a_status_line(text: String, code in option::of(select(codes()))) {
        let tag = Tag::new("a.1").unwrap();
        for status in [Status::Ok, Status::No, Status::Bad] {
            let mut out = Vec::new();
            tagged(&mut out, &tag, status, code.as_ref(), &text);
            match read(&out)? {
                Response::Status(TheirStatus::Tagged(tagged)) => {
                    prop_assert_eq!(tagged.tag.inner(), "a.1");
                    prop_assert_eq!(tagged.body.code.is_some(), code.is_some());
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
        let mut out = Vec::new();
        continuation(&mut out, &text);
        prop_assert_eq!(out.iter().filter(|&&c| c == b'\n').count(), 1);
    }

    #[test]
    fn found_numbers_arrive_as_they_are(numbers in vec(1u32.., 0..20), modseq in 1u64..1 << 63) {
        let mut out = Vec::new();
        search(&mut out, &numbers, Some(ModSeq(modseq)));
        let Response::Data(Data::Search(found, highest)) = read(&out)? else {
            return Err(TestCaseError::fail("no SEARCH"));
        };
        let found: Vec<u32> = found.into_iter().map(|n| n.get()).collect();
        prop_assert_eq!(found, numbers);
        prop_assert_eq!(highest.map(|n| n.get()), Some(modseq));
    }
}

#[test]
fn flags_of_a_mailbox_arrive() {
    let mut out = Vec::new();
    flags(&mut out, &[Keyword::new("$Junk").unwrap()]);
    let Ok(Response::Data(Data::Flags(read))) = read(&out) else { panic!("no FLAGS") };
    let mut names: Vec<String> = read.iter().map(ToString::to_string).collect();
    assert_eq!(names.pop().as_deref(), Some("$Junk"));
    let system = SystemFlag::ALL.map(Flag::System);
    assert_eq!(names, system.map(|flag| flag.to_string()));
}
