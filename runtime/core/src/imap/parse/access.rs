//! The commands about the connection: LOGIN, AUTHENTICATE, ID, ENABLE.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use winnow::token::take_while;

use crate::imap::command::{CommandBody, MAX_ID_PAIRS, MAX_WORDS, SecretOctets};

use super::input::{
    Failure, Input, Parsed, accept, expect, listed_or_empty, place, separated, space,
};
use super::token::{astring, atom, string};

/// LOGIN.
pub(super) fn login(input: &mut Input<'_>) -> Parsed<CommandBody> {
    space(input)?;
    let (at, expected) = (place(input), "a user name in UTF-8");
    let user = String::from_utf8(astring(input, expected)?.into_owned());
    let user = user.map_err(|_| Failure::syntax(at, expected))?;
    space(input)?;
    let password = SecretOctets(astring(input, "a password")?.into_owned());
    Ok(CommandBody::Login { user, password })
}

/// AUTHENTICATE, perhaps with an initial response (RFC 4959).
pub(super) fn authenticate(input: &mut Input<'_>) -> Parsed<CommandBody> {
    space(input)?;
    let mechanism = atom(input, "a SASL mechanism")?.to_ascii_uppercase();
    if !accept(input, " ") {
        return Ok(CommandBody::Authenticate { mechanism, initial: None });
    }
    let (at, expected) = (place(input), "an initial response in base64");
    // RFC 4959 §3: "=" is the empty response. Nothing at all is the same by the grammar of base64.
    let base64 = take_while(0.., |c: u8| c.is_ascii_graphic());
    let base64: &[u8] = expect(input, expected, base64)?;
    let base64 = if base64 == b"=" { b"" } else { base64 };
    let octets = STANDARD.decode(base64).map_err(|_| Failure::syntax(at, expected))?;
    Ok(CommandBody::Authenticate { mechanism, initial: Some(SecretOctets(octets)) })
}

/// ID (RFC 2971).
pub(super) fn id(input: &mut Input<'_>) -> Parsed<CommandBody> {
    space(input)?;
    if accept(input, "NIL") {
        return Ok(CommandBody::Id(None));
    }
    let pairs = listed_or_empty(input, (MAX_ID_PAIRS, "pairs"), |input| {
        let key = text(input, "a field name in quotes")?;
        space(input)?;
        let value = match accept(input, "NIL") {
            true => None,
            false => Some(text(input, "a value in quotes, or NIL")?),
        };
        Ok((key, value))
    })?;
    Ok(CommandBody::Id(Some(pairs)))
}

fn text(input: &mut Input<'_>, expected: &'static str) -> Parsed<String> {
    // For the log only: what is no UTF-8 may lose its form.
    string(input, expected).map(|octets| String::from_utf8_lossy(&octets).into_owned())
}

/// ENABLE (RFC 5161).
pub(super) fn enable(input: &mut Input<'_>) -> Parsed<CommandBody> {
    space(input)?;
    let words = separated(input, " ", (MAX_WORDS, "capabilities"), |input| {
        atom(input, "a capability").map(|word| word.to_ascii_uppercase())
    })?;
    Ok(CommandBody::Enable(words))
}
