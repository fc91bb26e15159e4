//! User names and recipients' addresses, as the directory keeps them.

use postroom_core::error::StoreError;

use super::super::limits::MAX_ADDRESS_OCTETS;

/// What parts a local part from its folder (RFC 5233 §1).
const DETAIL: char = '+';

/// A user name or an address, parsed: lower case, without a trailing dot of the domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The local part, lower case.
    pub local: String,
    /// The local part as it was given, for the folder in it.
    given: String,
    /// The domain, if any.
    pub domain: Option<String>,
}

impl Address {
    /// Parses `local@domain` or `local`.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        let invalid = |why: &str| StoreError::Invalid(format!("not a user or address: {why}"));
        if text.len() > MAX_ADDRESS_OCTETS {
            return Err(invalid("it is too long"));
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '<' || c == '>') {
            return Err(invalid("it has blanks, angle brackets or control characters"));
        }
        let (local, domain) = match text.rsplit_once('@') {
            Some((local, domain)) => (local, Some(domain)),
            None => (text, None),
        };
        let domain = domain.map(domain_name).transpose()?;
        match local.is_empty() {
            true => Err(invalid("there is nothing before the @")),
            false => Ok(Self { local: local.to_lowercase(), given: local.to_owned(), domain }),
        }
    }

    /// The local part without the folder, and the folder as it was given; `None` without one.
    pub fn detail(&self) -> Option<(String, &str)> {
        let (user, folder) = self.given.split_once(DETAIL)?;
        (!user.is_empty() && !folder.is_empty()).then(|| (user.to_lowercase(), folder))
    }

    /// The name under which a user of this local part is kept.
    pub fn user(local: &str, domain: Option<&str>) -> String {
        domain.map_or_else(|| local.to_owned(), |domain| format!("{local}@{domain}"))
    }
}

/// A domain's name as it is kept.
///
/// # Errors
/// `Invalid`.
pub fn domain_name(text: &str) -> Result<String, StoreError> {
    let name = text.strip_suffix('.').unwrap_or(text).to_lowercase();
    let fits = |label: &str| {
        let edge = label.starts_with('-') || label.ends_with('-');
        let chars = label.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_');
        !label.is_empty() && label.len() <= 63 && !edge && chars
    };
    // An address literal ([127.0.0.1]) is a domain of its own.
    let literal = name.len() > 2 && name.starts_with('[') && name.ends_with(']');
    match name.len() <= 255 && (literal || name.split('.').all(fits)) {
        true => Ok(name),
        false => Err(StoreError::Invalid(format!("not a domain: {text}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(&str, Option<&str>)>) {
        let parsed = Address::parse(text).ok();
        let parts = parsed.as_ref().map(|a| (a.local.as_str(), a.domain.as_deref()));
        assert_eq!(parts, expected, "{text:?}");
    }

    #[test]
    fn addresses_are_kept_in_lower_case() {
        check("Bob@Example.ORG.", Some(("bob", Some("example.org"))));
        check("bob", Some(("bob", None)));
        check("\"a@b\"@c.de", Some(("\"a@b\"", Some("c.de"))));
        check("bob@[127.0.0.1]", Some(("bob", Some("[127.0.0.1]"))));
    }

    #[test]
    fn rubbish_is_refused() {
        for text in ["", "@x", "a@", "a b", "a@x..y", "a@-x", "a\r\n", "<a>", "a@x/y"] {
            check(text, None);
        }
        check(&"a".repeat(321), None);
    }

    #[test]
    fn the_folder_keeps_its_case() {
        let address = Address::parse("Bob+Lists+x@example.org").unwrap();
        assert_eq!(address.detail(), Some(("bob".to_owned(), "Lists+x")));
        assert_eq!(Address::parse("+x@y").unwrap().detail(), None);
        assert_eq!(Address::parse("x+@y").unwrap().detail(), None);
    }
}
