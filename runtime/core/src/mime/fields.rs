//! Values of MIME's own fields (RFC 2045 §5.1, RFC 2183, RFC 3282), kept as they are written.

use super::budget::Budget;
use super::header::unfold;
use super::{Disposition, MAX_PARAMS, Octets, Param};

/// A valid Content-Type.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ContentType {
    pub(super) media_type: Octets,
    pub(super) subtype: Octets,
    pub(super) params: Vec<Param>,
}

/// RFC 2045 §5.1. `None` when it is syntactically invalid, for which §5.2 has a default.
pub(super) fn content_type(value: &[u8], budget: &mut Budget) -> Option<ContentType> {
    let value = unfold(value);
    let mut scanner = Scanner { rest: &value };
    let media_type = scanner.token()?;
    if !scanner.special(b'/') {
        return None;
    }
    let subtype = scanner.token()?;
    let (media_type, subtype) = (budget.value(media_type)?, budget.value(subtype)?);
    Some(ContentType { media_type, subtype, params: scanner.params(budget) })
}

/// RFC 2183 §2. A field without a valid type is an attachment, as §2.8 has it for unknown types.
pub(super) fn disposition(value: &[u8], budget: &mut Budget) -> Option<Disposition> {
    let value = unfold(value);
    let mut scanner = Scanner { rest: &value };
    let kind = budget.value(scanner.token().unwrap_or(b"attachment"))?;
    Some(Disposition { kind, params: scanner.params(budget) })
}

/// A field that holds one token, such as Content-Transfer-Encoding; `None` when there is none.
pub(super) fn token(value: &[u8], budget: &mut Budget) -> Option<Octets> {
    let value = unfold(value);
    Scanner { rest: &value }.token().and_then(|token| budget.value(token))
}

/// A field that holds tokens parted by commas, such as Content-Language.
pub(super) fn tokens(value: &[u8], budget: &mut Budget) -> Vec<Octets> {
    let value = unfold(value);
    let token = |item: &[u8]| Scanner { rest: item }.token().map(<[u8]>::to_vec);
    let tokens = value.split(|c| *c == b',').filter_map(token);
    tokens.take(MAX_PARAMS).map_while(|token| budget.value(&token)).collect()
}

/// A field that holds any text; `None` when it is empty.
pub(super) fn text(value: &[u8], budget: &mut Budget) -> Option<Octets> {
    let value = unfold(value);
    if value.is_empty() { None } else { budget.value(&value) }
}

/// RFC 2045 §5.1 `tspecials`, white space, and control characters end a token. Octets beyond ASCII
/// are no part of one either, so that a media type is always ASCII.
fn is_token_char(c: u8) -> bool {
    c.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&c)
}

/// Where white space is followed by a name and an equals sign: the beginning of a parameter that
/// lacks its semicolon.
fn next_param(value: &[u8]) -> Option<usize> {
    let mut name_start = None;
    for (at, c) in value.iter().enumerate() {
        match (c, name_start) {
            (b' ' | b'\t', _) => name_start = Some(at),
            (b'=', Some(start)) if start + 1 < at => return Some(start),
            (c, Some(_)) if !is_token_char(*c) => name_start = None,
            _ => {}
        }
    }
    None
}

/// Reads an unfolded value from left to right.
struct Scanner<'a> {
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    /// Passes over white space and comments, nested ones too.
    fn skip_space(&mut self) {
        let mut depth = 0usize;
        while let [c, rest @ ..] = self.rest {
            let mut next = rest;
            match (c, depth) {
                (b'(', _) => depth += 1,
                (b')', 1..) => depth -= 1,
                (b'\\', 1..) => next = rest.get(1..).unwrap_or_default(),
                (_, 1..) => {}
                (c, 0) if c.is_ascii_whitespace() => {}
                (_, 0) => return,
            }
            self.rest = next;
        }
    }

    /// Passes over one special character; whether it was there.
    fn special(&mut self, c: u8) -> bool {
        self.skip_space();
        let rest = self.rest.strip_prefix(&[c]);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// A token.
    fn token(&mut self) -> Option<&'a [u8]> {
        self.skip_space();
        let end = self.rest.iter().position(|c| !is_token_char(*c)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!token.is_empty()).then_some(token)
    }

    /// All parameters. Rubbish between them is passed over, and a missing semicolon forgiven.
    fn params(&mut self, budget: &mut Budget) -> Vec<Param> {
        let mut params = Vec::new();
        while !self.rest.is_empty() {
            let named = self.token().filter(|_| self.special(b'='));
            let Some(name) = named else {
                self.skip_to_semicolon();
                continue;
            };
            let value = self.value();
            if params.len() == MAX_PARAMS {
                budget.truncated = true;
                break;
            }
            let (Some(name), Some(value)) = (budget.value(name), budget.value(&value)) else {
                break;
            };
            params.push(Param { name, value });
        }
        params
    }

    fn skip_to_semicolon(&mut self) {
        // After a token without `=`, another may follow at once: `text/html charset=utf-8`.
        let at_token = self.rest.first().is_some_and(|c| is_token_char(*c));
        if !at_token {
            let semicolon = self.rest.iter().position(|c| matches!(c, b';' | b' ' | b'\t'));
            self.rest = semicolon.map_or(&[][..], |at| &self.rest[at + 1..]);
        }
    }

    /// A parameter's value: a quoted string, or whatever stands before the next semicolon. The
    /// standard ends an unquoted value at the first space, but file names come unquoted with spaces
    /// and parentheses; only a parenthesis behind a space begins a comment, and only something like
    /// `name=` behind one begins a parameter.
    fn value(&mut self) -> Vec<u8> {
        self.skip_space();
        if let Some(quoted) = self.rest.strip_prefix(b"\"") {
            self.rest = quoted;
            return self.quoted();
        }
        let semicolon = memchr::memchr(b';', self.rest).unwrap_or(self.rest.len());
        let end = next_param(&self.rest[..semicolon]).unwrap_or(semicolon);
        let (value, rest) = self.rest.split_at(end);
        self.rest = rest;
        let comment = memchr::memmem::find(value, b" (").unwrap_or(value.len());
        value[..comment].trim_ascii().to_vec()
    }

    /// The rest of a quoted string, without backslashes; it may lack its closing quote.
    fn quoted(&mut self) -> Vec<u8> {
        let mut value = Vec::new();
        while let [c, rest @ ..] = self.rest {
            self.rest = rest;
            match (c, rest) {
                (b'"', _) => break,
                (b'\\', [escaped, rest @ ..]) => {
                    value.push(*escaped);
                    self.rest = rest;
                }
                _ => value.push(*c),
            }
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `media/sub|name=value|…`, or `-` for none.
    fn shown(found: Option<ContentType>) -> String {
        let Some(found) = found else { return "-".to_owned() };
        let text = |octets: &Octets| String::from_utf8_lossy(octets).into_owned();
        let param = |p: &Param| format!("|{}={}", text(&p.name), text(&p.value));
        let params: String = found.params.iter().map(param).collect();
        format!("{}/{}{params}", text(&found.media_type), text(&found.subtype))
    }

    fn check(value: &str, expected: &str) {
        let found = content_type(value.as_bytes(), &mut Budget::new());
        assert_eq!(shown(found), expected, "{value:?}");
    }

    #[test]
    fn content_types_are_kept_as_written() {
        check("text/plain", "text/plain");
        check(" TEXT/Plain; Charset=\"UTF-8\"", "TEXT/Plain|Charset=UTF-8");
        check("text/plain; charset=us-ascii (Plain text)", "text/plain|charset=us-ascii");
        check("text (a (nested) one) / plain", "text/plain");
        check("a/b; x=\"q \\\" ; r\"; y=z", "a/b|x=q \" ; r|y=z");
        check("a/b;\r\n\tname*0*=utf-8''%e2;\r\n name*1*=x", "a/b|name*0*=utf-8''%e2|name*1*=x");
    }

    #[test]
    fn common_mistakes_in_parameters_are_forgiven() {
        check("text/html charset=utf-8", "text/html|charset=utf-8");
        check("text/html;;; charset = utf-8 ;", "text/html|charset=utf-8");
        check("a/b; name=my file (1).pdf; x=y", "a/b|name=my file|x=y");
        check("a/b; name=my_file(1).pdf", "a/b|name=my_file(1).pdf");
        check("a/b; x=y\r\n z=\"q\" w=v", "a/b|x=y|z=q|w=v");
        check("a/b; name=a =b", "a/b|name=a =b");
        check("a/b; name=\"unclosed", "a/b|name=unclosed");
        check("a/b; rubbish; =x; c=d", "a/b|c=d");
        check("a/b; boundary=----=_Part_1", "a/b|boundary=----=_Part_1");
        check("a/b; c=", "a/b|c=");
    }

    #[test]
    fn invalid_content_types_are_none() {
        for value in
            ["", "text", "text/", "/plain", "te xt/plain", "text;charset=x", "(a/b", "\u{e9}/x"]
        {
            check(value, "-");
        }
    }

    #[test]
    fn a_disposition_without_a_type_is_an_attachment() {
        let found = disposition(b"; filename=a", &mut Budget::new()).unwrap();
        assert_eq!((&found.kind[..], found.params.len()), (&b"attachment"[..], 1));
    }

    #[test]
    fn languages_are_tokens_parted_by_commas() {
        let found = tokens(b"en, de-AT (Austrian),, ,fr", &mut Budget::new());
        assert_eq!(found, [&b"en"[..], b"de-AT", b"fr"]);
    }

    #[test]
    fn parameters_beyond_the_bound_are_left_out() {
        let value = format!("a/b{}", "; x=y".repeat(MAX_PARAMS + 1));
        let mut budget = Budget::new();
        let found = content_type(value.as_bytes(), &mut budget).unwrap();
        assert_eq!((found.params.len(), budget.truncated), (MAX_PARAMS, true));
    }
}
