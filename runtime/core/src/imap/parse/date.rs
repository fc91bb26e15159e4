//! Dates and times (RFC 9051 §9 `date`, `date-time`).

use winnow::token::take_while;

use crate::types::Timestamp;

use super::input::{Failure, Input, Parsed, accept, expect, place};

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// What a `date` looks like, for people.
const DATE: &str = "a date such as 1-Feb-1994";
/// What a `date-time` looks like, for people.
const DATE_TIME: &str = "a date and time such as \" 1-Feb-1994 21:52:25 -0800\"";

/// A day of SEARCH, in quotes or not.
pub(super) fn date(input: &mut Input<'_>) -> Parsed<time::Date> {
    let at = place(input);
    let quoted = accept(input, "\"");
    let date = day_month_year(input).ok_or_else(|| Failure::syntax(at, DATE))?;
    if quoted && !accept(input, "\"") {
        return Err(Failure::syntax(place(input), "the closing quote of the date"));
    }
    Ok(date)
}

/// INTERNALDATE of APPEND. Years that cannot be written back in the same zone are refused.
pub(super) fn date_time(input: &mut Input<'_>) -> Parsed<Timestamp> {
    let at = place(input);
    moment(input).ok_or_else(|| Failure::syntax(at, DATE_TIME))
}

fn moment(input: &mut Input<'_>) -> Option<Timestamp> {
    accept(input, "\"").then_some(())?;
    // `date-day-fixed` has two places, the first of which may be a space.
    accept(input, " ");
    let date = day_month_year(input)?;
    let time = clock(input)?;
    accept(input, " ").then_some(())?;
    let sign = if accept(input, "-") { -1 } else { accept(input, "+").then_some(1)? };
    let (hours, minutes) = (digits(input, 2..=2)?, digits(input, 2..=2)?);
    accept(input, "\"").then_some(())?;
    let offset_minutes = (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes))?;
    let local = time::PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp();
    let seconds = local - i64::from(offset_minutes) * 60;
    let moment = Timestamp { seconds, offset_minutes: i16::try_from(offset_minutes).ok()? };
    moment.local().map(|_| moment)
}

/// ` hh:mm:ss`
fn clock(input: &mut Input<'_>) -> Option<time::Time> {
    accept(input, " ").then_some(())?;
    let hour = two_digits(input)?;
    accept(input, ":").then_some(())?;
    let minute = two_digits(input)?;
    accept(input, ":").then_some(())?;
    // A leap second is the last one before it, as in Unix time.
    let second = two_digits(input).filter(|second| *second <= 60)?.min(59);
    time::Time::from_hms(hour, minute, second).ok()
}

/// `d-Mon-yyyy`
fn day_month_year(input: &mut Input<'_>) -> Option<time::Date> {
    let day = u8::try_from(digits(input, 1..=2)?).ok()?;
    accept(input, "-").then_some(())?;
    let month = MONTHS.iter().position(|month| accept(input, month))?;
    accept(input, "-").then_some(())?;
    let year = digits(input, 4..=4)?;
    let month = time::Month::try_from(u8::try_from(month + 1).ok()?).ok()?;
    time::Date::from_calendar_date(year, month, day).ok()
}

fn two_digits(input: &mut Input<'_>) -> Option<u8> {
    u8::try_from(digits(input, 2..=2)?).ok()
}

fn digits(input: &mut Input<'_>, places: std::ops::RangeInclusive<usize>) -> Option<i32> {
    let taken: &[u8] =
        expect(input, "digits", take_while(places, |c: u8| c.is_ascii_digit())).ok()?;
    Some(taken.iter().fold(0, |number, digit| number * 10 + i32::from(digit - b'0')))
}
