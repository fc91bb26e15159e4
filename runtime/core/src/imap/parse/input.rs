//! What every rule of the grammar is made of: the input, its failures, lists.
//!
//! The grammar needs no backtracking: one or two octets tell which way to go. So the first failure
//! is the one to report, and each rule says at once what it expected.

use std::borrow::Cow;

use winnow::Parser;
use winnow::ascii::Caseless;
use winnow::combinator::{eof, opt};
use winnow::error::ParserError;
use winnow::stream::{LocatingSlice, Location};
use winnow::token::literal;

use super::Fault;

/// A command's octets, with the place reached.
pub(super) type Input<'a> = LocatingSlice<&'a [u8]>;

/// What a rule returns.
pub(super) type Parsed<T> = Result<T, Failure>;

/// Why a rule failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// Octets from the beginning.
    pub(super) at: usize,
    pub(super) fault: Fault,
    pub(super) expected: Cow<'static, str>,
}

impl Failure {
    /// The octets at `at` are not what the grammar wants there.
    pub(super) fn syntax(at: usize, expected: &'static str) -> Self {
        Self { at, fault: Fault::Syntax, expected: expected.into() }
    }

    /// There are more of something than this server takes.
    pub(super) fn limit(at: usize, most: usize, what: &str) -> Self {
        Self { at, fault: Fault::Limit, expected: format!("at most {most} {what}").into() }
    }
}

impl<'a> ParserError<Input<'a>> for Failure {
    type Inner = Self;

    fn from_input(input: &Input<'a>) -> Self {
        Self::syntax(place(input), "something else")
    }

    fn into_inner(self) -> Result<Self, Self> {
        Ok(self)
    }
}

/// Octets read so far.
pub(super) fn place(input: &Input<'_>) -> usize {
    input.current_token_start()
}

/// Runs a parser; when it fails, `expected` is what was expected where it began.
pub(super) fn expect<'a, T>(
    input: &mut Input<'a>,
    expected: &'static str,
    mut parser: impl Parser<Input<'a>, T, Failure>,
) -> Parsed<T> {
    let at = place(input);
    parser.parse_next(input).map_err(|_| Failure::syntax(at, expected))
}

/// Takes `text`, in any case, if it comes next.
pub(super) fn accept(input: &mut Input<'_>, text: &'static str) -> bool {
    let taken: Parsed<_> = opt(literal(Caseless(text))).parse_next(input);
    taken.is_ok_and(|taken| taken.is_some())
}

/// Whether `text`, in any case, comes next.
pub(super) fn comes(input: &Input<'_>, text: &'static str) -> bool {
    accept(&mut input.clone(), text)
}

/// One space.
pub(super) fn space(input: &mut Input<'_>) -> Parsed<()> {
    expect(input, "a space", " ".void())
}

/// `(`
pub(super) fn open(input: &mut Input<'_>) -> Parsed<()> {
    expect(input, "\"(\"", "(".void())
}

/// `)`
pub(super) fn close(input: &mut Input<'_>) -> Parsed<()> {
    expect(input, "\")\"", ")".void())
}

/// The end of the command, with or without its line end.
pub(super) fn end(input: &mut Input<'_>) -> Parsed<()> {
    expect(input, "the end of the command", (opt("\r\n"), opt("\n"), eof).void())
}

/// Items parted by `separator`: one at least, `most` at most.
pub(super) fn separated<'a, T>(
    input: &mut Input<'a>,
    separator: &'static str,
    (most, what): (usize, &str),
    mut item: impl FnMut(&mut Input<'a>) -> Parsed<T>,
) -> Parsed<Vec<T>> {
    let mut items = vec![item(input)?];
    while accept(input, separator) {
        if items.len() == most {
            return Err(Failure::limit(place(input), most, what));
        }
        items.push(item(input)?);
    }
    Ok(items)
}

/// `(item item …)`: one item at least.
pub(super) fn listed<'a, T>(
    input: &mut Input<'a>,
    limit: (usize, &str),
    item: impl FnMut(&mut Input<'a>) -> Parsed<T>,
) -> Parsed<Vec<T>> {
    open(input)?;
    let items = separated(input, " ", limit, item)?;
    close(input)?;
    Ok(items)
}

/// `(item item …)` or `()`.
pub(super) fn listed_or_empty<'a, T>(
    input: &mut Input<'a>,
    limit: (usize, &str),
    item: impl FnMut(&mut Input<'a>) -> Parsed<T>,
) -> Parsed<Vec<T>> {
    if accept(input, "()") {
        return Ok(Vec::new());
    }
    listed(input, limit, item)
}
