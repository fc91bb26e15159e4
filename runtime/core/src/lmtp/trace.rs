//! The header fields that a delivery adds (RFC 5321 §4.4): `Return-Path`, `Delivered-To`,
//! `Received`.
//!
//! Core has no clock. The driver says once, when it accepts the connection, what time it is
//! ([`super::Peer::accepted`]); each input carries the milliseconds since, and the sum is the time
//! of arrival.

use std::fmt::Write;
use std::net::IpAddr;

use super::path::Address;
use crate::types::Timestamp;

/// What the trace fields tell of how a message came.
#[derive(Clone, Debug)]
pub struct Arrival<'a> {
    /// As the client named itself.
    pub client: &'a str,
    /// Where it connected from.
    pub address: IpAddr,
    /// This server's name.
    pub server: &'a str,
    /// Whether under TLS.
    pub tls: bool,
    /// When.
    pub at: Timestamp,
}

/// The fields of one recipient: who sent it, and to which address it was delivered.
pub fn personal(sender: Option<&Address>, recipient: &Address) -> String {
    let sender = sender.map(Address::to_string).unwrap_or_default();
    format!("Return-Path: <{sender}>\r\nDelivered-To: {recipient}\r\n")
}

/// The field that all recipients share. `only` is the recipient when there is just one: with more,
/// naming them would tell each of the others (RFC 5321 §7.2).
pub fn received(arrival: &Arrival<'_>, only: Option<&Address>) -> String {
    let client_address = match arrival.address.to_canonical() {
        IpAddr::V4(v4) => format!("[{v4}]"),
        IpAddr::V6(v6) => format!("[IPv6:{v6}]"),
    };
    // RFC 3848: LMTP, LMTPS under TLS.
    let protocol = if arrival.tls { "LMTPS" } else { "LMTP" };
    let mut field = format!(
        "Received: from {} ({client_address})\r\n\tby {} with {protocol}",
        arrival.client, arrival.server
    );
    if let Some(recipient) = only {
        // Writing to a String cannot fail.
        let _ = write!(field, "\r\n\tfor <{recipient}>");
    }
    format!("{field};\r\n\t{}\r\n", date(arrival.at))
}

/// RFC 5322 §3.3.
fn date(at: Timestamp) -> String {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    // A clock that is set to the year 10,000 gets the beginning of time.
    let local = at.local().unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let (hours, minutes, _) = local.offset().as_hms();
    let sign = if local.offset().is_negative() { '-' } else { '+' };
    format!(
        "{}, {:02} {} {:04} {:02}:{:02}:{:02} {sign}{:02}{:02}",
        DAYS[usize::from(local.weekday().number_days_from_monday())],
        local.day(),
        MONTHS[usize::from(u8::from(local.month())) - 1],
        local.year(),
        local.hour(),
        local.minute(),
        local.second(),
        hours.unsigned_abs(),
        minutes.unsigned_abs(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        super::super::path::parse(text).unwrap().0.unwrap()
    }

    #[test]
    fn the_received_field_tells_how_the_message_came() {
        let arrival = Arrival {
            client: "mta.example",
            address: "::ffff:192.0.2.1".parse().unwrap(),
            server: "mail.example",
            tls: true,
            at: Timestamp { seconds: 1_445_412_480, offset_minutes: -90 },
        };
        let tail =
            "\tby mail.example with LMTPS\r\n\tfor <a@b>;\r\n\tWed, 21 Oct 2015 05:58:00 -0130\r\n";
        let expected = format!("Received: from mta.example ([192.0.2.1])\r\n{tail}");
        assert_eq!(received(&arrival, Some(&address("<a@b>"))), expected);
        let many = received(&Arrival { address: "2001:db8::1".parse().unwrap(), ..arrival }, None);
        assert!(many.contains("([IPv6:2001:db8::1])") && !many.contains("for <"), "{many}");
    }

    #[test]
    fn the_personal_fields_name_the_sender_even_when_there_is_none() {
        let fields = personal(None, &address("<anna>"));
        assert_eq!(fields, "Return-Path: <>\r\nDelivered-To: anna\r\n");
        let fields = personal(Some(&address("<\"x y\"@z>")), &address("<a@b>"));
        assert_eq!(fields, "Return-Path: <\"x y\"@z>\r\nDelivered-To: a@b\r\n");
    }
}
