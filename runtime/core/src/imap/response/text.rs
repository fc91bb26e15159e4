//! Strings, names and numbers on the wire.

use crate::imap::utf7;
use crate::types::{Flags, Keyword, MailboxName, SystemFlag, Timestamp};

/// Longest string that is written in quotes; longer ones, and ones with octets that quotes cannot
/// hold, become literals.
const QUOTED_OCTETS: usize = 1024;

/// The twelve months of RFC 9051's `date-month`.
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Appends formatted text.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => {
        // Writing into a Vec cannot fail.
        std::io::Write::write_fmt($out, format_args!($($arg)*)).expect("a Vec takes everything")
    };
}
pub(super) use put;

/// Writes a `string`: quoted where that is safe in IMAP4rev1 (7 bits, no control characters), else
/// as a literal. NUL octets, which neither form may hold, are left out.
pub fn string(out: &mut Vec<u8>, text: &[u8]) {
    if text.len() <= QUOTED_OCTETS && text.iter().all(|c| matches!(c, b' '..=b'~')) {
        quoted(out, text);
        return;
    }
    let octets = text.iter().copied().filter(|&c| c != 0);
    put!(out, "{{{}}}\r\n", octets.clone().count());
    out.extend(octets);
}

/// Writes an `nstring`: a string or NIL.
pub fn nstring(out: &mut Vec<u8>, text: Option<&[u8]>) {
    match text {
        Some(text) => string(out, text),
        None => out.extend_from_slice(b"NIL"),
    }
}

/// Writes an `astring`: an atom where possible, else a string.
pub fn astring(out: &mut Vec<u8>, text: &[u8]) {
    // "NIL" would be an atom, but some readers take it for no string.
    let plain = |c: &u8| c.is_ascii_graphic() && !b"(){%*\"\\]".contains(c);
    if !text.is_empty() && text.iter().all(plain) && !text.eq_ignore_ascii_case(b"NIL") {
        out.extend_from_slice(text);
    } else {
        string(out, text);
    }
}

/// Writes a mailbox name in modified UTF-7.
pub fn mailbox(out: &mut Vec<u8>, name: &MailboxName) {
    astring(out, utf7::encode(name.as_str()).as_bytes());
}

/// Writes ascending numbers as a `sequence-set`: `1:3,7`. No numbers write nothing.
pub fn number_set(out: &mut Vec<u8>, numbers: impl IntoIterator<Item = u32>) {
    let mut numbers = numbers.into_iter().peekable();
    let mut comma = "";
    while let Some(first) = numbers.next() {
        let mut last = first;
        while let Some(next) = numbers.next_if(|next| Some(*next) == last.checked_add(1)) {
            last = next;
        }
        match first == last {
            true => put!(out, "{comma}{first}"),
            false => put!(out, "{comma}{first}:{last}"),
        }
        comma = ",";
    }
}

/// Writes flags in parentheses, `\Recent` behind the system flags.
pub(super) fn flag_list(out: &mut Vec<u8>, flags: &Flags, recent: bool) {
    let system = flags.iter().take_while(|f| matches!(f, crate::types::Flag::System(_)));
    let mut words: Vec<String> = system.map(|f| f.to_string()).collect();
    words.extend(recent.then(|| "\\Recent".to_owned()));
    words.extend(flags.keywords().iter().map(|k| k.as_str().to_owned()));
    put!(out, "({})", words.join(" "));
}

/// Writes the flags of a mailbox in parentheses: all system flags, its keywords, `more`.
pub(super) fn mailbox_flags(out: &mut Vec<u8>, keywords: &[Keyword], more: &str) {
    out.push(b'(');
    let system = SystemFlag::ALL.map(SystemFlag::name);
    put!(out, "{}", system.join(" "));
    keywords.iter().for_each(|keyword| put!(out, " {}", keyword.as_str()));
    put!(out, "{more})");
}

/// Writes a `date-time` in quotes, in the zone in which the moment was given.
pub(super) fn date_time(out: &mut Vec<u8>, moment: Timestamp) {
    let in_four_digits = |t: &time::OffsetDateTime| (0..=9999).contains(&t.year());
    // The parser lets no other year in; a store may have made one up.
    let local = moment.local().filter(in_four_digits).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let minutes = local.offset().whole_minutes();
    let sign = if minutes < 0 { '-' } else { '+' };
    let zone = minutes.unsigned_abs() / 60 * 100 + minutes.unsigned_abs() % 60;
    let month = MONTHS[usize::from(u8::from(local.month())) - 1];
    put!(out, "\"{:2}-{month}-{:04} ", local.day(), local.year());
    put!(out, "{:02}:{:02}:{:02} ", local.hour(), local.minute(), local.second());
    put!(out, "{sign}{zone:04}\"");
}

fn quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for &c in text {
        if c == b'"' || c == b'\\' {
            out.push(b'\\');
        }
        out.push(c);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Flag;

    fn check(write: impl FnOnce(&mut Vec<u8>), wire: &str) {
        let mut out = Vec::new();
        write(&mut out);
        assert_eq!(String::from_utf8_lossy(&out), wire);
    }

    #[test]
    fn a_string_takes_the_form_that_can_hold_it() {
        check(|out| string(out, b""), "\"\"");
        check(|out| string(out, b"a \"b\" \\"), "\"a \\\"b\\\" \\\\\"");
        check(|out| string(out, b"a\r\nb"), "{4}\r\na\r\nb");
        check(|out| string(out, "é".as_bytes()), "{2}\r\né");
        check(|out| string(out, b"a\0b"), "{2}\r\nab");
        check(|out| nstring(out, None), "NIL");
        let long = "x".repeat(QUOTED_OCTETS + 1);
        check(|out| string(out, long.as_bytes()), &format!("{{1025}}\r\n{long}"));
    }

    #[test]
    fn an_astring_is_an_atom_if_it_can() {
        check(|out| astring(out, b"INBOX/a.b"), "INBOX/a.b");
        check(|out| astring(out, b"a b"), "\"a b\"");
        check(|out| astring(out, b""), "\"\"");
        check(|out| astring(out, b"nil"), "\"nil\"");
        check(|out| astring(out, b"a]"), "\"a]\"");
        let name = MailboxName::new("Entwürfe & mehr").unwrap();
        check(|out| mailbox(out, &name), "\"Entw&APw-rfe &- mehr\"");
    }

    #[test]
    fn numbers_in_a_row_become_ranges() {
        check(|out| number_set(out, [1, 2, 3, 7, 9, 10]), "1:3,7,9:10");
        check(|out| number_set(out, [u32::MAX - 1, u32::MAX]), "4294967294:4294967295");
        check(|out| number_set(out, []), "");
    }

    #[test]
    fn recent_stands_between_system_flags_and_keywords() {
        let flags = Flags::of(["\\Seen", "$Junk"].map(|f| Flag::parse(f).unwrap()));
        check(|out| flag_list(out, &flags, true), "(\\Seen \\Recent $Junk)");
        check(|out| flag_list(out, &Flags::default(), false), "()");
    }

    #[test]
    fn a_date_is_written_in_its_own_zone() {
        let at = |seconds, offset_minutes| Timestamp { seconds, offset_minutes };
        check(|out| date_time(out, at(837_596_665, -420)), "\"17-Jul-1996 02:44:25 -0700\"");
        check(|out| date_time(out, at(0, 330)), "\" 1-Jan-1970 05:30:00 +0530\"");
        check(|out| date_time(out, at(0, -30)), "\"31-Dec-1969 23:30:00 -0030\"");
        check(|out| date_time(out, at(i64::MAX, 0)), "\" 1-Jan-1970 00:00:00 +0000\"");
        check(|out| date_time(out, at(-90_000_000_000, 0)), "\" 1-Jan-1970 00:00:00 +0000\"");
    }
}
