//! Words, numbers, strings and literals.

use std::borrow::Cow;
use std::num::{NonZeroU32, NonZeroU64};
use std::str::FromStr;

use winnow::Parser;
use winnow::ascii::line_ending;
use winnow::combinator::{alt, delimited, eof, opt, repeat};
use winnow::token::{one_of, take, take_while};

use crate::imap::command::{
    LiteralHeader, MAX_SET_RANGES, MAX_TAG_OCTETS, SequenceSet, SetNumber, SetRange, Tag,
    is_tag_char,
};
use crate::types::ModSeq;

use super::input::{Failure, Input, Parsed, accept, comes, expect, place, separated};

/// The largest mod-sequence and octet count: RFC 7162 §7 and RFC 9051 §4.1 keep them in 63 bits.
const MAX_63_BITS: u64 = i64::MAX as u64;

/// Octets of an atom: RFC 9051 §9 `ATOM-CHAR`.
pub(super) fn is_atom_char(c: u8) -> bool {
    c.is_ascii_graphic() && !b"(){%*\"\\]".contains(&c)
}

/// The octets are ASCII by the rule that took them.
fn ascii(octets: &[u8]) -> String {
    octets.iter().map(|&c| char::from(c)).collect()
}

/// A tag. One that is too long is none: half of it must not be sent back.
pub(super) fn tag(input: &mut Input<'_>) -> Parsed<Tag> {
    let octets = take_while(1.., is_tag_char);
    let octets = octets.verify(|octets: &[u8]| octets.len() <= MAX_TAG_OCTETS);
    expect(input, "a tag", octets).map(|octets: &[u8]| Tag(ascii(octets)))
}

/// A word of letters, digits, dots and hyphens, in upper case: names of commands and items.
pub(super) fn word(input: &mut Input<'_>, expected: &'static str) -> Parsed<String> {
    let letter = |c: u8| c.is_ascii_alphanumeric() || c == b'.' || c == b'-';
    let word: &[u8] = expect(input, expected, take_while(1.., letter))?;
    Ok(ascii(word).to_ascii_uppercase())
}

/// An atom as written.
pub(super) fn atom(input: &mut Input<'_>, expected: &'static str) -> Parsed<String> {
    expect(input, expected, take_while(1.., is_atom_char)).map(|octets: &[u8]| ascii(octets))
}

/// Digits of a number that fits its type.
pub(super) fn number<T: FromStr>(input: &mut Input<'_>, expected: &'static str) -> Parsed<T> {
    let digits = take_while(1.., |c: u8| c.is_ascii_digit());
    expect(input, expected, digits.verify_map(|digits: &[u8]| ascii(digits).parse().ok()))
}

/// A count of octets: RFC 9051 §9 `number64`.
pub(super) fn octet_count(input: &mut Input<'_>) -> Parsed<u64> {
    let (at, expected) = (place(input), "a number of octets");
    let count = number(input, expected)?;
    if count <= MAX_63_BITS { Ok(count) } else { Err(Failure::syntax(at, expected)) }
}

/// As [`octet_count`], not zero.
pub(super) fn positive_octet_count(input: &mut Input<'_>) -> Parsed<NonZeroU64> {
    let at = place(input);
    let count = octet_count(input)?;
    NonZeroU64::new(count).ok_or_else(|| Failure::syntax(at, "a number of octets above zero"))
}

/// RFC 7162 §7 `mod-sequence-valzer`. Zero is taken everywhere: it means "since ever".
pub(super) fn modseq(input: &mut Input<'_>) -> Parsed<ModSeq> {
    let (at, expected) = (place(input), "a mod-sequence");
    let number = number(input, expected)?;
    if number <= MAX_63_BITS { Ok(ModSeq(number)) } else { Err(Failure::syntax(at, expected)) }
}

/// A sequence set; `$` (SEARCHRES) is not offered and not taken.
pub(super) fn sequence_set(input: &mut Input<'_>) -> Parsed<SequenceSet> {
    let limit = (MAX_SET_RANGES, "ranges in a sequence set");
    separated(input, ",", limit, set_range).map(SequenceSet)
}

/// `n` or `n:m`
fn set_range(input: &mut Input<'_>) -> Parsed<SetRange> {
    let first = set_number(input)?;
    let last = if accept(input, ":") { set_number(input)? } else { first };
    Ok(SetRange { first, last })
}

fn set_number(input: &mut Input<'_>) -> Parsed<SetNumber> {
    if accept(input, "*") {
        return Ok(SetNumber::Largest);
    }
    number(input, "a sequence set").map(|n: NonZeroU32| SetNumber::Number(n))
}

/// A quoted string. Octets above 127 are taken, as IMAP4rev2 has them and many clients send them.
fn quoted<'a>(input: &mut Input<'a>) -> Parsed<Cow<'a, [u8]>> {
    let plain = || take_while(1.., |c: u8| !matches!(c, 0 | b'\r' | b'\n' | b'"' | b'\\'));
    let escaped = ('\\', one_of([b'"', b'\\'])).take().map(|pair: &[u8]| &pair[1..]);
    let pieces = repeat(0.., alt((plain(), escaped))).fold(
        || Cow::Borrowed(&[][..]),
        |mut whole: Cow<'a, [u8]>, piece: &'a [u8]| {
            if whole.is_empty() {
                return Cow::Borrowed(piece);
            }
            whole.to_mut().extend_from_slice(piece);
            whole
        },
    );
    expect(input, "a string that is closed on its line", delimited('"', pieces, '"'))
}

/// The announcement of a literal, whose line end may be missing at the end of the input.
pub(super) fn literal_header(input: &mut Input<'_>) -> Parsed<LiteralHeader> {
    let binary = accept(input, "~");
    let header = literal_count(input)?;
    expect(input, "the end of the line", alt((line_ending, eof)))?;
    Ok(LiteralHeader { binary, ..header })
}

/// `{n}` or `{n+}`
fn literal_count(input: &mut Input<'_>) -> Parsed<LiteralHeader> {
    expect(input, "a literal", "{".void())?;
    let digits = take_while(1.., |c: u8| c.is_ascii_digit());
    let octets: &[u8] = expect(input, "a number of octets", digits)?;
    // A number beyond 64 bits is refused like any other that is too large: by the session's limit.
    let octets = ascii(octets).parse().unwrap_or(u64::MAX);
    let non_sync = accept(input, "+");
    expect(input, "\"}\"", "}")?;
    Ok(LiteralHeader { octets, non_sync, binary: false })
}

/// A literal, of which all octets are there.
fn literal<'a>(input: &mut Input<'a>) -> Parsed<Cow<'a, [u8]>> {
    let at = place(input);
    let header = literal_count(input)?;
    expect(input, "the end of the line", line_ending)?;
    let octets = usize::try_from(header.octets).unwrap_or(usize::MAX);
    let octets: &[u8] = expect(input, "the octets of the literal", take(octets))?;
    match octets.contains(&0) {
        // RFC 9051 §4.3: only a literal8 may hold NUL, and no command here takes one.
        true => Err(Failure::syntax(at, "a literal without NUL")),
        false => Ok(Cow::Borrowed(octets)),
    }
}

/// A string: quoted or a literal.
pub(super) fn string<'a>(input: &mut Input<'a>, expected: &'static str) -> Parsed<Cow<'a, [u8]>> {
    if comes(input, "\"") {
        quoted(input)
    } else if comes(input, "{") {
        literal(input)
    } else {
        Err(Failure::syntax(place(input), expected))
    }
}

/// An astring: an atom (in which `]` may stand) or a string.
pub(super) fn astring<'a>(input: &mut Input<'a>, expected: &'static str) -> Parsed<Cow<'a, [u8]>> {
    string_or(input, expected, |c| is_atom_char(c) || c == b']')
}

/// A string, or a run of these octets.
pub(super) fn string_or<'a>(
    input: &mut Input<'a>,
    expected: &'static str,
    plain: fn(u8) -> bool,
) -> Parsed<Cow<'a, [u8]>> {
    let taken: Parsed<Option<&[u8]>> = opt(take_while(1.., plain)).parse_next(input);
    match taken? {
        Some(octets) => Ok(Cow::Borrowed(octets)),
        None => string(input, expected),
    }
}
