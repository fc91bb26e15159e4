//! Address lists, kept as they are written.
//!
//! `mail-parser` has a parser for addresses, but it decodes RFC 2047 words and forgets comments and
//! routes; ENVELOPE wants names as they stand in the message (RFC 9051 §7.5.2: the phrase "after
//! removing quoting", and nothing else removed). Hence one of our own, for RFC 5322 §3.4 with the
//! obsolete forms of §4.4, and for what else is found in real headers.

use super::budget::Budget;
use super::header::unfold;
use super::{Address, Octets, text};

/// The addresses and groups of some fields' values, in order.
pub(super) fn parse<'a>(
    values: impl Iterator<Item = &'a [u8]>,
    budget: &mut Budget,
) -> Vec<Address> {
    let mut list = List { found: Vec::new(), in_group: false, budget };
    for value in values {
        list.read(&unfold(value));
    }
    list.found
}

/// The addresses as people read them, decoded, one string each: `name <local@domain>`; groups give
/// their members.
pub(super) fn displayed(addresses: &[Address]) -> Vec<String> {
    addresses.iter().filter(|a| !a.is_group_marker()).map(display).collect()
}

fn display(address: &Address) -> String {
    let octets = |part: &Option<Octets>| text::decode_header(part.as_deref().unwrap_or(b""));
    let (local, domain) = (octets(&address.mailbox), octets(&address.host));
    let at = if domain.is_empty() { "" } else { "@" };
    match &address.name {
        Some(name) => format!("{} <{local}{at}{domain}>", text::decode_header(name)),
        None => format!("{local}{at}{domain}"),
    }
}

/// A lexical unit of an address list.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    kind: Kind,
    /// Text without quotes and backslashes; of a special, the character.
    text: Vec<u8>,
    /// White space stands before it.
    spaced: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Atoms with dots, RFC 2047 words, domain literals, quoted strings.
    Word,
    /// `(…)`, which old mailers put the name in.
    Comment,
    /// One of `<>,;:@`
    Special(u8),
}

/// Reads tokens from left to right.
struct Lexer<'a> {
    rest: &'a [u8],
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let trimmed = self.rest.trim_ascii_start();
        let spaced = trimmed.len() < self.rest.len();
        let (kind, text, length) = match trimmed {
            [] => return None,
            [b'(', ..] => {
                let (text, length) = nested(trimmed);
                (Kind::Comment, text, length)
            }
            [b'"', ..] => {
                let (text, length) = quoted(trimmed);
                (Kind::Word, text, length)
            }
            [c, ..] if is_special(*c) => (Kind::Special(*c), vec![*c], 1),
            _ => {
                let length = atom(trimmed);
                (Kind::Word, trimmed[..length].to_vec(), length)
            }
        };
        self.rest = &trimmed[length..];
        Some(Token { kind, text, spaced })
    }
}

fn is_special(c: u8) -> bool {
    b"<>,;:@".contains(&c)
}

/// A quoted string: its text, and the octets it takes. A missing end quote is forgiven.
fn quoted(octets: &[u8]) -> (Vec<u8>, usize) {
    let (mut text, mut at) = (Vec::new(), 1);
    while let Some(c) = octets.get(at) {
        match (c, octets.get(at + 1)) {
            (b'"', _) => return (text, at + 1),
            (b'\\', Some(escaped)) => {
                text.push(*escaped);
                at += 1;
            }
            _ => text.push(*c),
        }
        at += 1;
    }
    (text, octets.len())
}

/// A comment, nested ones included: its text, and the octets it takes.
fn nested(octets: &[u8]) -> (Vec<u8>, usize) {
    let (mut text, mut at, mut depth) = (Vec::new(), 0, 0usize);
    while let Some(c) = octets.get(at) {
        at += 1;
        match (c, octets.get(at)) {
            (b'(', _) => depth += 1,
            (b')', _) => depth -= 1,
            (b'\\', Some(escaped)) => {
                text.push(*escaped);
                at += 1;
                continue;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
        // The outermost parentheses are no part of the text.
        if at > 1 {
            text.push(*c);
        }
    }
    (text, at)
}

/// Octets of a run of atoms and dots, of an RFC 2047 word, or of a domain literal.
fn atom(octets: &[u8]) -> usize {
    if let Some(length) = text::encoded_word(octets) {
        return length;
    }
    if octets[0] == b'[' {
        return octets.iter().position(|c| *c == b']').map_or(octets.len(), |at| at + 1);
    }
    let ends = |c: &u8| c.is_ascii_whitespace() || is_special(*c) || b"(\"".contains(c);
    octets.iter().position(ends).unwrap_or(octets.len()).max(1)
}

/// The list as far as it has been read.
struct List<'b> {
    found: Vec<Address>,
    in_group: bool,
    budget: &'b mut Budget,
}

impl List<'_> {
    /// One field's value, unfolded. A group that it leaves open ends with it.
    fn read(&mut self, value: &[u8]) {
        let mut one = One::default();
        for token in (Lexer { rest: value }) {
            match token.kind {
                Kind::Comment => one.comment = Some(token.text),
                Kind::Special(b',') if one.is_complete_at_comma() => {
                    self.push(std::mem::take(&mut one));
                }
                Kind::Special(b';') => {
                    self.push(std::mem::take(&mut one));
                    self.end_group();
                }
                Kind::Special(b':') if !self.in_group && !one.in_angle => {
                    self.begin_group(std::mem::take(&mut one));
                }
                Kind::Special(b'<') => one.in_angle = true,
                Kind::Special(b'>') => one.closed = one.in_angle,
                _ => one.take(token),
            }
        }
        self.push(one);
        self.end_group();
    }

    fn push(&mut self, one: One) {
        let Some(parsed) = one.parsed() else { return };
        if !self.budget.address() {
            return;
        }
        let mut keep = |octets: Vec<u8>| self.budget.value(&octets);
        let address = Address {
            name: parsed.name.and_then(&mut keep),
            route: parsed.route.and_then(&mut keep),
            mailbox: keep(parsed.mailbox),
            host: keep(parsed.host),
        };
        // Half an address would be a group's mark.
        if address.mailbox.is_some() && address.host.is_some() {
            self.found.push(address);
        }
    }

    fn begin_group(&mut self, one: One) {
        if !self.budget.address() {
            return;
        }
        let name = joined(&one.words).or(one.comment).unwrap_or_default();
        if let Some(mailbox) = self.budget.value(&name) {
            self.found.push(Address { mailbox: Some(mailbox), ..Address::default() });
            self.in_group = true;
        }
    }

    fn end_group(&mut self) {
        if std::mem::take(&mut self.in_group) {
            self.found.push(Address::default());
        }
    }
}

/// What has been read of one address.
#[derive(Default)]
struct One {
    /// Before `<`, or all when there is none; `@` as a word of its own kind.
    words: Vec<Token>,
    /// Between `<` and `>`.
    angle: Vec<Token>,
    in_angle: bool,
    closed: bool,
    /// The last comment.
    comment: Option<Vec<u8>>,
}

/// Its parts.
struct Parsed {
    name: Option<Vec<u8>>,
    route: Option<Vec<u8>>,
    mailbox: Vec<u8>,
    host: Vec<u8>,
}

impl One {
    /// A comma parts addresses, except within a source route: `<@a,@b:joe@c>`.
    fn is_complete_at_comma(&self) -> bool {
        let is_route = self.angle.first().is_some_and(|t| t.kind == Kind::Special(b'@'))
            && !self.angle.iter().any(|t| t.kind == Kind::Special(b':'));
        !self.in_angle || self.closed || !is_route
    }

    /// A word, an `@`, or something that belongs into angle brackets.
    fn take(&mut self, token: Token) {
        match (self.in_angle, self.closed) {
            (true, false) => self.angle.push(token),
            (false, _) => self.words.push(token),
            // What follows `>` is neither name nor address.
            (true, true) => {}
        }
    }

    fn parsed(mut self) -> Option<Parsed> {
        if !self.in_angle {
            return self.parsed_without_angle();
        }
        let is_colon = |t: &Token| t.kind == Kind::Special(b':');
        let route = self.angle.iter().position(is_colon).map(|colon| {
            let mut route: Vec<Token> = self.angle.drain(..=colon).collect();
            route.pop();
            concatenated(&route)
        });
        let (mailbox, host) = match last_at(&self.angle) {
            Some(at) => (concatenated(&self.angle[..at]), concatenated(&self.angle[at + 1..])),
            None => (concatenated(&self.angle), Vec::new()),
        };
        let name = joined(&self.words).or(self.comment);
        Some(Parsed { name, route: route.filter(|r| !r.is_empty()), mailbox, host })
    }

    /// `joe@host`, `joe@host (Joe)`, `joe`; and `Joe joe@host` without its brackets.
    fn parsed_without_angle(mut self) -> Option<Parsed> {
        let Some(at) = last_at(&self.words) else {
            let mailbox = joined(&self.words)?;
            return Some(Parsed { name: self.comment, route: None, mailbox, host: Vec::new() });
        };
        let mut behind = self.words.split_off(at + 1);
        self.words.truncate(at);
        let host_length = run(&behind);
        let rest = behind.split_off(host_length);
        let local_length = run_backwards(&self.words);
        let local = self.words.split_off(self.words.len() - local_length);
        let name = joined(&self.words).or(self.comment).or_else(|| joined(&rest));
        Some(Parsed {
            name,
            route: None,
            mailbox: concatenated(&local),
            host: concatenated(&behind),
        })
    }
}

fn last_at(tokens: &[Token]) -> Option<usize> {
    tokens.iter().rposition(|t| t.kind == Kind::Special(b'@'))
}

/// How many tokens from the first on belong together: parted by nothing, or by a dot (RFC 5322
/// §4.4 allows white space around dots).
fn run(tokens: &[Token]) -> usize {
    let parted = |pair: &[Token]| pair[1].spaced && !is_dotted(&pair[0], &pair[1]);
    tokens.windows(2).position(parted).map_or(tokens.len(), |at| at + 1)
}

/// As [`run`], from the last token backwards.
fn run_backwards(tokens: &[Token]) -> usize {
    let parted = |pair: &[Token]| pair[1].spaced && !is_dotted(&pair[0], &pair[1]);
    tokens.windows(2).rposition(parted).map_or(tokens.len(), |at| tokens.len() - 1 - at)
}

fn is_dotted(before: &Token, after: &Token) -> bool {
    before.text.ends_with(b".") || after.text.starts_with(b".")
}

fn concatenated(tokens: &[Token]) -> Vec<u8> {
    tokens.iter().flat_map(|t| t.text.iter().copied()).collect()
}

/// A phrase: words parted by one space where there was any; `None` when there are none.
fn joined(tokens: &[Token]) -> Option<Vec<u8>> {
    let mut phrase = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        if i > 0 && token.spaced {
            phrase.push(b' ');
        }
        phrase.extend_from_slice(&token.text);
    }
    (!phrase.is_empty()).then_some(phrase)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name|route|mailbox|host` an address, `~` for NIL, addresses parted by ` / `.
    fn check(value: &str, expected: &str) {
        let part = |part: &Option<Octets>| match part {
            Some(octets) => String::from_utf8(octets.to_vec()).unwrap(),
            None => "~".to_owned(),
        };
        let one = |a: &Address| [&a.name, &a.route, &a.mailbox, &a.host].map(part).join("|");
        let found = parse([value.as_bytes()].into_iter(), &mut Budget::new());
        assert_eq!(found.iter().map(one).collect::<Vec<_>>().join(" / "), expected, "{value:?}");
    }

    #[test]
    fn addresses_with_and_without_names() {
        check("joe@x.org", "~|~|joe|x.org");
        check("<joe@x.org>", "~|~|joe|x.org");
        check("Joe Q. Public <joe@x.org>", "Joe Q. Public|~|joe|x.org");
        check("\"Public, Joe \\\"Q\\\"\" <joe@x.org>", "Public, Joe \"Q\"|~|joe|x.org");
        check("Joe \"Q\" Public<joe@x.org>", "Joe Q Public|~|joe|x.org");
        check("joe@x.org (Joe (Q) Public)", "Joe (Q) Public|~|joe|x.org");
        check("a@x, b@y ,c@z", "~|~|a|x / ~|~|b|y / ~|~|c|z");
        check("\"joe smith\"@x.org", "~|~|joe smith|x.org");
        check("joe@[192.0.2.1]", "~|~|joe|[192.0.2.1]");
        check("a(comment)@x(comment).org", "comment|~|a|x.org");
    }

    #[test]
    fn names_stay_encoded() {
        check(
            "=?utf-8?Q?J=C3=B6?= =?utf-8?Q?rg?= <j@x>",
            "=?utf-8?Q?J=C3=B6?= =?utf-8?Q?rg?=|~|j|x",
        );
        check("=?utf-8?Q?Smith,_Joe?= <j@x>", "=?utf-8?Q?Smith,_Joe?=|~|j|x");
        check("J\u{f6}rg <j@x>", "J\u{f6}rg|~|j|x");
    }

    #[test]
    fn groups_have_a_start_and_an_end() {
        check("undisclosed-recipients:;", "~|~|undisclosed-recipients|~ / ~|~|~|~");
        check(
            "A Group: Joe <j@x>, k@y; l@z",
            "~|~|A Group|~ / Joe|~|j|x / ~|~|k|y / ~|~|~|~ / ~|~|l|z",
        );
        check("open: j@x", "~|~|open|~ / ~|~|j|x / ~|~|~|~");
    }

    #[test]
    fn obsolete_forms_are_understood() {
        check("<@a.org,@b.org:joe@c.org>, k@x", "~|@a.org,@b.org|joe|c.org / ~|~|k|x");
        check("joe . smith @ x . org", "~|~|joe.smith|x.org");
        check(",, a@x ,,", "~|~|a|x");
    }

    #[test]
    fn what_is_no_address_is_shown_as_well_as_can_be() {
        check("root", "~|~|root|");
        check("Joe Public", "~|~|Joe Public|");
        check("MAILER-DAEMON <>", "MAILER-DAEMON|~||");
        check("Joe joe@x.org", "Joe|~|joe|x.org");
        check("joe@x.org Joe", "Joe|~|joe|x.org");
        check("Joe <joe@x.org", "Joe|~|joe|x.org");
        check("Joe <joe@x.org> trailing, k@y", "Joe|~|joe|x.org / ~|~|k|y");
        check("a@x; b@y", "~|~|a|x / ~|~|b|y");
        check("\"Joe\" <\"joe\"@x>", "Joe|~|joe|x");
        check("a@b@c.org", "~|~|a@b|c.org");
        check("", "");
        check("(only a comment)", "");
        check("\"", "");
    }

    #[test]
    fn rows_show_decoded_names() {
        let list = b"g: =?iso-8859-1?Q?J=F6rg?= <j@x>, k@y;, root".as_slice();
        let found = parse([list].into_iter(), &mut Budget::new());
        assert_eq!(displayed(&found), ["J\u{f6}rg <j@x>", "k@y", "root"]);
    }
}
