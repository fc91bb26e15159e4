//! One command line and what it means. The grammar of verbs and parameters is `smtp-proto`'s; what
//! it accepts is bounded here: printable ASCII only, paths by [`super::path`], numbers of at most
//! 20 digits (its sizes wrap beyond), no arguments where none belong, no parameter of an extension
//! that is not offered.

use smtp_proto::request::parser::Rfc5321Parser;
use smtp_proto::{Error, MAIL_BODY_7BIT, MAIL_BODY_8BITMIME, MailFrom, RcptTo, Request};

use super::path::{self, Address};
use super::reply::{self, Reply};

/// Most digits of a number (RFC 1870 §3).
const MAX_DIGITS: usize = 20;
/// Verbs of other protocols that a web browser can be made to send.
const FOREIGN: &[&str] = &["GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "PATCH"];

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// LHLO with the client's name.
    Lhlo(String),
    /// MAIL; the sender is `None` for `<>`.
    Mail {
        /// Who gets the bounces.
        from: Option<Address>,
        /// Octets announced (RFC 1870); 0: not announced.
        size: u64,
    },
    /// RCPT.
    Rcpt(Address),
    /// DATA.
    Data,
    /// BDAT, which is not offered: its octets are passed over, never read as commands.
    Bdat(u64),
    /// STARTTLS.
    StartTls,
    /// RSET.
    Rset,
    /// NOOP.
    Noop,
    /// VRFY.
    Vrfy,
    /// HELP.
    Help,
    /// QUIT.
    Quit,
    /// The first line of an HTTP request: close.
    Foreign,
}

/// Reads a line without its line end.
pub fn parse(line: &[u8]) -> Result<Command, Reply> {
    let verb_octets = line.iter().position(|&octet| octet == b' ').unwrap_or(line.len());
    let verb = String::from_utf8_lossy(&line[..verb_octets]).to_ascii_uppercase();
    let Some(text) = printable(line) else {
        return Err(match verb.as_str() {
            "MAIL" | "RCPT" if !line.is_ascii() => reply::ADDRESS_NOT_ASCII,
            _ => reply::NOT_ASCII,
        });
    };
    let arguments = text[verb_octets..].trim_matches(' ');
    match verb.as_str() {
        "MAIL" => mail(arguments),
        "RCPT" => rcpt(arguments),
        "DATA" | "RSET" | "QUIT" | "STARTTLS" if !arguments.is_empty() => Err(reply::NO_ARGUMENTS),
        verb if FOREIGN.contains(&verb) => Ok(Command::Foreign),
        _ => other(text),
    }
}

fn printable(line: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(line).ok()?;
    text.bytes().all(|octet| octet == b' ' || octet.is_ascii_graphic()).then_some(text)
}

/// Commands whose grammar is `smtp-proto`'s alone.
fn other(text: &str) -> Result<Command, Reply> {
    if has_long_number(text) {
        return Err(reply::BAD_PARAMETER);
    }
    let line = format!("{text}\n");
    match Request::parse(&mut line.as_bytes().iter()).map_err(refusal)? {
        Request::Lhlo { host } if path::is_host(&host) => Ok(Command::Lhlo(host.into_owned())),
        Request::Lhlo { .. } => Err(reply::BAD_HOST),
        Request::Ehlo { .. } | Request::Helo { .. } => Err(reply::NOT_SMTP),
        Request::Data => Ok(Command::Data),
        Request::Bdat { chunk_size, .. } => Ok(Command::Bdat(chunk_size as u64)),
        Request::StartTls => Ok(Command::StartTls),
        Request::Rset => Ok(Command::Rset),
        Request::Noop { .. } => Ok(Command::Noop),
        Request::Vrfy { .. } => Ok(Command::Vrfy),
        Request::Help { .. } => Ok(Command::Help),
        Request::Quit => Ok(Command::Quit),
        Request::Auth { .. }
        | Request::Expn { .. }
        | Request::Etrn { .. }
        | Request::Atrn { .. }
        | Request::Burl { .. } => Err(reply::NOT_OFFERED),
        // Both were taken out before.
        Request::Mail { .. } | Request::Rcpt { .. } => Err(reply::SYNTAX),
    }
}

fn mail(arguments: &str) -> Result<Command, Reply> {
    let path = after_keyword(arguments, "FROM:").ok_or(reply::BAD_SENDER)?;
    let (from, rest) = path::parse(path).map_err(|path::NoPath| reply::BAD_SENDER)?;
    let line = parameter_line(rest, reply::BAD_SENDER)?;
    let mut octets = line.as_bytes().iter();
    let parameters = Rfc5321Parser::new(&mut octets).mail_from_parameters("".into());
    let size = offered_of_mail(&parameters.map_err(refusal)?)?;
    Ok(Command::Mail { from, size })
}

fn rcpt(arguments: &str) -> Result<Command, Reply> {
    let path = after_keyword(arguments, "TO:").ok_or(reply::BAD_RECIPIENT)?;
    let (to, rest) = path::parse(path).map_err(|path::NoPath| reply::BAD_RECIPIENT)?;
    let line = parameter_line(rest, reply::BAD_RECIPIENT)?;
    let mut octets = line.as_bytes().iter();
    let parameters = Rfc5321Parser::new(&mut octets).rcpt_to_parameters("".into());
    let parameters = parameters.map_err(refusal)?;
    let none = RcptTo { address: "".into(), orcpt: None, rrvs: 0, flags: 0 };
    if parameters != none {
        return Err(reply::UNKNOWN_PARAMETER);
    }
    to.map(Command::Rcpt).ok_or(reply::NULL_RECIPIENT)
}

fn after_keyword<'a>(arguments: &'a str, keyword: &str) -> Option<&'a str> {
    let (head, rest) = arguments.split_at_checked(keyword.len())?;
    // Many clients write a space after the colon; RFC 5321 §4.1.1.11 frowns and servers take it.
    head.eq_ignore_ascii_case(keyword).then(|| rest.trim_start_matches(' '))
}

/// What follows a path, as the parameter parser wants it; `glued` when no space parts them.
fn parameter_line(rest: &str, glued: Reply) -> Result<String, Reply> {
    if !rest.is_empty() && !rest.starts_with(' ') {
        return Err(glued);
    }
    if has_long_number(rest) {
        return Err(reply::BAD_PARAMETER);
    }
    Ok(format!("{}\n", rest.trim_matches(' ')))
}

fn has_long_number(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() > MAX_DIGITS)
}

/// Refuses parameters of extensions that LHLO does not name; the size announced.
fn offered_of_mail(parameters: &MailFrom<std::borrow::Cow<'_, str>>) -> Result<u64, Reply> {
    let offered = MailFrom {
        address: "".into(),
        flags: parameters.flags & (MAIL_BODY_7BIT | MAIL_BODY_8BITMIME),
        size: parameters.size,
        trans_id: None,
        by: 0,
        env_id: None,
        solicit: None,
        mtrk: None,
        auth: None,
        hold_for: 0,
        hold_until: 0,
        mt_priority: 0,
    };
    if *parameters == offered { Ok(parameters.size as u64) } else { Err(reply::UNKNOWN_PARAMETER) }
}

fn refusal(error: Error) -> Reply {
    match error {
        Error::UnknownCommand => reply::UNKNOWN,
        Error::InvalidSenderAddress => reply::BAD_SENDER,
        Error::InvalidRecipientAddress => reply::BAD_RECIPIENT,
        Error::SyntaxError { .. } => reply::SYNTAX,
        Error::InvalidParameter { .. } => reply::BAD_PARAMETER,
        Error::UnsupportedParameter { .. } => reply::UNKNOWN_PARAMETER,
        // The line was whole and short, so these are rubbish that ran over its end.
        Error::NeedsMoreData { .. } | Error::ResponseTooLong | Error::InvalidResponse { .. } => {
            reply::SYNTAX
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(line: &str, expected: Result<Command, Reply>) {
        assert_eq!(parse(line.as_bytes()), expected, "{line:?}");
    }

    fn address(text: &str) -> Address {
        path::parse(&format!("<{text}>")).unwrap().0.unwrap()
    }

    #[test]
    fn commands_are_read_in_any_case_and_with_loose_spaces() {
        check("LHLO a.example", Ok(Command::Lhlo("a.example".into())));
        check("lhlo [127.0.0.1]", Ok(Command::Lhlo("[127.0.0.1]".into())));
        check("mail from:<a@b> size=7", Ok(Command::Mail { from: Some(address("a@b")), size: 7 }));
        check("MAIL FROM: <>  BODY=8BITMIME ", Ok(Command::Mail { from: None, size: 0 }));
        check("RCPT TO:<anna>", Ok(Command::Rcpt(address("anna"))));
        check("RCPT TO:<postmaster>", Ok(Command::Rcpt(address("postmaster"))));
        check("quit ", Ok(Command::Quit));
        check("NOOP \"", Ok(Command::Noop));
        check("BDAT 1000 LAST", Ok(Command::Bdat(1000)));
    }

    #[test]
    fn an_announced_size_of_any_length_never_wraps() {
        let size = |digits: &str| format!("MAIL FROM:<a@b> SIZE={digits}");
        let ok = |size| Ok(Command::Mail { from: Some(address("a@b")), size });
        check(&size("9999999999999999999"), ok(9_999_999_999_999_999_999));
        check(&size("00000000000000000001"), ok(1));
        // smtp-proto reads this one as 0.
        check(&size("184467440737095516160"), Err(reply::BAD_PARAMETER));
        check(&size("99999999999999999999"), Err(reply::BAD_PARAMETER));
        check(&size("-1"), Err(reply::BAD_PARAMETER));
        check(&size(""), Err(reply::BAD_PARAMETER));
    }

    #[test]
    fn what_is_not_offered_is_refused_by_its_own_code() {
        check("EHLO a", Err(reply::NOT_SMTP));
        check("HELO a", Err(reply::NOT_SMTP));
        check("AUTH PLAIN", Err(reply::NOT_OFFERED));
        check("MAIL FROM:<a@b> SMTPUTF8", Err(reply::UNKNOWN_PARAMETER));
        check("MAIL FROM:<a@b> BODY=BINARYMIME", Err(reply::UNKNOWN_PARAMETER));
        check("MAIL FROM:<a@b> RET=FULL", Err(reply::UNKNOWN_PARAMETER));
        check("MAIL FROM:<a@b> AUTH=<>", Err(reply::UNKNOWN_PARAMETER));
        check("MAIL FROM:<a@b> FROBNICATE=1", Err(reply::UNKNOWN_PARAMETER));
        check("RCPT TO:<a@b> NOTIFY=NEVER", Err(reply::UNKNOWN_PARAMETER));
        check("FROBNICATE", Err(reply::UNKNOWN));
        check("", Err(reply::UNKNOWN));
        check("GET / HTTP/1.1", Ok(Command::Foreign));
    }

    #[test]
    fn rubbish_is_refused() {
        check("LHLO", Err(reply::SYNTAX));
        check("LHLO <script>", Err(reply::BAD_HOST));
        check("MAIL", Err(reply::BAD_SENDER));
        check("MAIL FROM", Err(reply::BAD_SENDER));
        check("MAIL FROM:a@b", Err(reply::BAD_SENDER));
        check("MAIL FROM:<a@b>SIZE=1", Err(reply::BAD_SENDER));
        check("RCPT TO:<>", Err(reply::NULL_RECIPIENT));
        check("RCPT FROM:<a>", Err(reply::BAD_RECIPIENT));
        check("RCPT TO:<\u{e4}@b>", Err(reply::ADDRESS_NOT_ASCII));
        check("DATA now", Err(reply::NO_ARGUMENTS));
        check("NOOP \u{7}", Err(reply::NOT_ASCII));
        check("NOOP \u{e4}", Err(reply::NOT_ASCII));
    }

    proptest! {
        #[test]
        fn any_line_has_an_answer(line in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&line);
        }

        #[test]
        fn any_line_that_begins_well_has_an_answer(
            start in prop::sample::select(vec!["MAIL FROM:<a@b> ", "RCPT TO:<a> ", "LHLO ", "BDAT ", "AUTH "]),
            rest in "[ -~]{0,60}",
        ) {
            let _ = parse(format!("{start}{rest}").as_bytes());
        }
    }
}
