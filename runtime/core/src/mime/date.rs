//! The Date header.
//!
//! Read here and not by `mail-parser`, which takes any three letters for some month and refuses
//! full names of months and dates without a zone. SENTBEFORE and its kin only ask for the day, so it
//! pays to understand whatever names one.

use crate::types::Timestamp;

use super::header::unfold;

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// RFC 5322 §4.3: the zones that have names, in hours east of UTC. All others are UTC.
const ZONES: [(&str, i16); 8] = [
    ("EST", -5),
    ("EDT", -4),
    ("CST", -6),
    ("CDT", -5),
    ("MST", -7),
    ("MDT", -6),
    ("PST", -8),
    ("PDT", -7),
];

/// When a message says that it was sent (RFC 5322 §3.3, §4.3); `None` when that is no date. Its
/// words may come in any order (ctime's is common); without a clock time it is midnight, without a
/// zone UTC.
pub(super) fn parse(value: &[u8]) -> Option<Timestamp> {
    let value = unfold(value);
    let text = without_comments(&String::from_utf8_lossy(&value));
    let mut found = Found::default();
    for word in text.split(|c: char| c.is_whitespace() || c == ',') {
        found.take(word);
    }
    found.moment()
}

fn without_comments(text: &str) -> String {
    let mut depth = 0usize;
    let outside = |c: &char| {
        let inside = depth > 0 || *c == '(';
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        !inside
    };
    text.chars().filter(outside).collect()
}

/// What the words have given so far.
#[derive(Default)]
struct Found {
    day: Option<u8>,
    month: Option<time::Month>,
    year: Option<i32>,
    clock: Option<time::Time>,
    offset_minutes: Option<i16>,
}

impl Found {
    fn take(&mut self, word: &str) {
        let is_number = !word.is_empty() && word.bytes().all(|c| c.is_ascii_digit());
        if is_number {
            self.take_number(word);
        } else if word.contains(':') && self.clock.is_none() {
            self.clock = clock(word);
        } else if word.starts_with(['+', '-']) {
            self.offset_minutes = self.offset_minutes.or_else(|| offset(word));
        } else if word.contains('-') {
            // 7-Feb-1994
            word.split('-').filter(|part| !part.is_empty()).for_each(|part| self.take(part));
        } else if let Some((_, hours)) = ZONES.iter().find(|(n, _)| n.eq_ignore_ascii_case(word)) {
            self.offset_minutes = self.offset_minutes.or(Some(hours * 60));
        } else {
            self.month = self.month.or_else(|| month(word));
        }
    }

    fn take_number(&mut self, word: &str) {
        let Ok(number) = word.parse::<i32>() else { return };
        match u8::try_from(number) {
            Ok(day) if self.day.is_none() && word.len() <= 2 => self.day = Some(day),
            _ if self.year.is_none() => self.year = Some(year(word.len(), number)),
            _ => {}
        }
    }

    fn moment(self) -> Option<Timestamp> {
        let date = time::Date::from_calendar_date(self.year?, self.month?, self.day?).ok()?;
        let clock = self.clock.unwrap_or(time::Time::MIDNIGHT);
        let local = time::PrimitiveDateTime::new(date, clock).assume_utc().unix_timestamp();
        let offset_minutes = self.offset_minutes.unwrap_or(0);
        Some(Timestamp { seconds: local - i64::from(offset_minutes) * 60, offset_minutes })
    }
}

/// RFC 5322 §4.3: years of two digits and three.
fn year(digits: usize, number: i32) -> i32 {
    match (digits, number) {
        (..=2, ..=49) => number + 2000,
        (..=3, ..=999) => number + 1900,
        _ => number,
    }
}

/// `Feb` or `February`.
fn month(word: &str) -> Option<time::Month> {
    let name = word.get(..3)?.to_ascii_lowercase();
    let index = MONTHS.iter().position(|month| **month == name)?;
    time::Month::try_from(u8::try_from(index + 1).ok()?).ok()
}

/// `21:52` or `21:52:25`. A leap second is the second before it: a Unix time has no name for it.
fn clock(word: &str) -> Option<time::Time> {
    let mut parts = word.split([':', '.']).map(|part| part.parse::<u8>().ok());
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = parts.next().flatten().unwrap_or(0);
    time::Time::from_hms(hour, minute, second.min(59)).ok()
}

/// `+0530`
fn offset(word: &str) -> Option<i16> {
    let number: i16 = word.get(1..)?.replace(':', "").parse().ok()?;
    let minutes = number / 100 * 60 + number % 100;
    let fits = (0..24 * 60).contains(&minutes) && word.len() >= 5;
    fits.then_some(if word.starts_with('-') { -minutes } else { minutes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, expected: Option<&str>) {
        let shown = parse(value.as_bytes()).map(|moment| {
            let local = moment.local().unwrap();
            let (date, clock) = (local.date(), local.time());
            format!("{date} {:02}:{:02} {}", clock.hour(), clock.minute(), moment.offset_minutes)
        });
        assert_eq!(shown.as_deref(), expected, "{value:?}");
    }

    #[test]
    fn dates_keep_their_own_zone() {
        check("Mon, 7 Feb 1994 21:52:25 -0800 (PST)", Some("1994-02-07 21:52 -480"));
        check("7 Feb 1994 21:52 +0530", Some("1994-02-07 21:52 330"));
        check("Mon,\r\n 07 Feb 1994 21:52:25 GMT", Some("1994-02-07 21:52 0"));
        check("7 Feb 94 21:52:25 EST", Some("1994-02-07 21:52 -300"));
        check("31 Dec 1998 23:59:60 +0000", Some("1998-12-31 23:59 0"));
        check("Mon, 7 Feb 1994 21 (comment (nested)) 21:52:25 -0000", Some("1994-02-07 21:52 0"));
    }

    #[test]
    fn unusual_dates_are_understood() {
        check("Mon, 7 Feb 1994 21:52:25", Some("1994-02-07 21:52 0"));
        check("Mon Feb  7 21:52:25 1994", Some("1994-02-07 21:52 0"));
        check("7-Feb-1994 21:52:25 +0100", Some("1994-02-07 21:52 60"));
        check("Monday, 7 February 1994", Some("1994-02-07 00:00 0"));
        check("7 Feb 101 21:52 +0000", Some("2001-02-07 21:52 0"));
        check("7 Feb 03 21:52:25.123 Z", Some("2003-02-07 21:52 0"));
    }

    #[test]
    fn what_is_no_date_is_none() {
        for value in [
            "",
            "yesterday",
            "30 Feb 2000 00:00:00 +0000",
            "1 Foo 2000 00:00:00 +0000",
            "Feb 2000",
            "99999999999 Feb 99999999999",
        ] {
            check(value, None);
        }
    }
}
