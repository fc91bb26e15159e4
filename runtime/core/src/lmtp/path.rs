//! Forward and reverse paths (RFC 5321 §4.1.2).
//!
//! Parsed here and not by `smtp-proto`, which refuses `<anna>` (a local user without a domain, as
//! LMTP recipients often are), cannot tell `<postmaster>` from `<>`, and drops quotes so that a
//! quoted name could not be written back.

use std::fmt;

/// Longest local part in octets. RFC 5321 §4.5.3.1.1 says 64, but bounce-tracking senders (SRS,
/// VERP) are longer in practice.
pub const MAX_LOCAL_OCTETS: usize = 255;
/// Longest domain in octets (RFC 5321 §4.5.3.1.2).
pub const MAX_DOMAIN_OCTETS: usize = 255;
/// Longest label of a domain in octets (RFC 1035 §2.3.4).
const MAX_LABEL_OCTETS: usize = 63;

/// A mail address in printable ASCII.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Without quotes and escapes.
    local: String,
    /// A name or a literal in brackets; `None`: of this server.
    domain: Option<String>,
}

/// A text is no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPath;

/// Takes a path in angle brackets off the front of a text: the address (`None` for `<>`), and what
/// follows the bracket. A source route (`@a,@b:`) is accepted and ignored (RFC 5321 §4.1.1.3).
pub fn parse(text: &str) -> Result<(Option<Address>, &str), NoPath> {
    let inside = text.strip_prefix('<').ok_or(NoPath)?;
    if let Some(rest) = inside.strip_prefix('>') {
        return Ok((None, rest));
    }
    let inside = match inside.starts_with('@') {
        true => inside.split_once(':').ok_or(NoPath)?.1,
        false => inside,
    };
    let (local, rest) = match inside.strip_prefix('"') {
        Some(quoted) => quoted_string(quoted)?,
        None => plain_local(inside)?,
    };
    let (domain, rest) = match rest.strip_prefix('@') {
        Some(rest) => {
            let (domain, rest) = rest.split_once('>').ok_or(NoPath)?;
            (Some(checked_domain(domain)?), rest)
        }
        None => (None, rest.strip_prefix('>').ok_or(NoPath)?),
    };
    if local.len() > MAX_LOCAL_OCTETS {
        return Err(NoPath);
    }
    Ok((Some(Address { local, domain }), rest))
}

/// Dot-string, but with dots anywhere: some providers gave out addresses like `a..b`.
fn plain_local(text: &str) -> Result<(String, &str), NoPath> {
    let end = text.find(|c| !is_atext(c) && c != '.').ok_or(NoPath)?;
    match end {
        0 => Err(NoPath),
        _ => Ok((text[..end].to_owned(), &text[end..])),
    }
}

/// The rest of a quoted string after its first quote.
fn quoted_string(text: &str) -> Result<(String, &str), NoPath> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => value.push(chars.next().filter(|(_, c)| is_printable(*c)).ok_or(NoPath)?.1),
            c if is_printable(c) => value.push(c),
            _ => return Err(NoPath),
        }
    }
    Err(NoPath)
}

fn checked_domain(text: &str) -> Result<String, NoPath> {
    let literal = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let valid = match literal {
        Some(inner) => {
            !inner.is_empty()
                && inner.chars().all(|c| c.is_ascii_alphanumeric() || ".:-".contains(c))
        }
        None => text.split('.').all(|label| {
            (1..=MAX_LABEL_OCTETS).contains(&label.len())
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        }),
    };
    (valid && text.len() <= MAX_DOMAIN_OCTETS).then(|| text.to_owned()).ok_or(NoPath)
}

/// Whether a text may stand for the client's name: a domain or an address literal.
pub fn is_host(text: &str) -> bool {
    checked_domain(text.strip_suffix('.').unwrap_or(text)).is_ok()
}

fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c)
}

fn is_printable(c: char) -> bool {
    c == ' ' || c.is_ascii_graphic()
}

impl Address {
    /// `local@domain` or `local` for the directory of users; `None` when the local part has
    /// characters that no user name has, or that would make the address mean another one.
    pub fn lookup(&self) -> Option<String> {
        let plain = self.local.chars().all(|c| is_atext(c) || c == '.') && !self.local.is_empty();
        plain.then(|| match &self.domain {
            Some(domain) => format!("{}@{domain}", self.local),
            None => self.local.clone(),
        })
    }
}

/// As it stands between angle brackets, quoted where it must be.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = !self.local.is_empty() && self.local.chars().all(|c| is_atext(c) || c == '.');
        if plain {
            f.write_str(&self.local)?;
        } else {
            let quoted = self.local.replace('\\', "\\\\").replace('"', "\\\"");
            write!(f, "\"{quoted}\"")?;
        }
        self.domain.as_ref().map_or(Ok(()), |domain| write!(f, "@{domain}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(&str, &str), NoPath>) {
        let parsed = parse(text).map(|(address, rest)| {
            (address.map_or_else(|| "<>".to_owned(), |address| address.to_string()), rest)
        });
        assert_eq!(parsed.as_ref().map(|(a, rest)| (a.as_str(), *rest)).map_err(|e| *e), expected);
    }

    #[test]
    fn a_path_is_read_and_written_back_as_it_was() {
        check("<a@b.example>", Ok(("a@b.example", "")));
        check("<anna> SIZE=1", Ok(("anna", " SIZE=1")));
        check("<Postmaster>", Ok(("Postmaster", "")));
        check("<>", Ok(("<>", "")));
        check("<a+b/c@[127.0.0.1]>", Ok(("a+b/c@[127.0.0.1]", "")));
        check("<a@[IPv6:2001:db8::1]>", Ok(("a@[IPv6:2001:db8::1]", "")));
        check("<a..b.@c>", Ok(("a..b.@c", "")));
        check("<\"a b\"@c>", Ok(("\"a b\"@c", "")));
        check("<\"a\\\"\\\\@x>\"@c>", Ok(("\"a\\\"\\\\@x>\"@c", "")));
        check("<@r.example,@s.example:a@b>", Ok(("a@b", "")));
        check("<\"plain\"@c>", Ok(("plain@c", "")));
    }

    #[test]
    fn rubbish_is_no_path() {
        let long = format!("<{}@b>", "x".repeat(MAX_LOCAL_OCTETS + 1));
        let label = format!("<a@{}.example>", "x".repeat(64));
        let domain = format!("<a@{}>", ["x"; 200].join("."));
        let cases = ["", "a@b", "<a@b", "<@b>", "<a@>", "<a@b c>", "<a b@c>", "<a@b..c>", "<a@.b>"];
        let more = ["<<a@b>>", "<a@b@c>", "<\"a@b>", "<@r:>", "<\u{e4}@b>", "<a@[]>", "<a@[x y]>"];
        for text in cases.into_iter().chain(more).chain([&*long, &*label, &*domain]) {
            check(text, Err(NoPath));
        }
    }

    #[test]
    fn a_quoted_name_never_means_another_address() {
        let lookup = |text| parse(text).unwrap().0.unwrap().lookup();
        assert_eq!(lookup("<Anna+box@B>").as_deref(), Some("Anna+box@B"));
        assert_eq!(lookup("<\"anna\"@b>").as_deref(), Some("anna@b"));
        assert_eq!(lookup("<\"anna@b\">"), None);
        assert_eq!(lookup("<\"\"@b>"), None);
    }
}
