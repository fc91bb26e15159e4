//! Normal mails, and mails as they should not be, with their structure.

use super::*;

fn check(message: &str, expected: &str) {
    let derived = check_sound(message.as_bytes());
    assert_eq!(shown(&derived.structure), expected, "{message:?}");
    assert!(!derived.truncated, "{message:?}");
}

/// The envelope: date, subject, lists of addresses, In-Reply-To, Message-ID.
fn check_envelope_of(header: &str, expected: [&str; 10]) {
    let text = |text: &Option<Octets>| match text {
        Some(octets) => String::from_utf8_lossy(octets).into_owned(),
        None => "~".to_owned(),
    };
    let list = |list: &Vec<Address>| {
        let one =
            |a: &Address| format!("{}<{}@{}>", text(&a.name), text(&a.mailbox), text(&a.host));
        list.iter().map(one).collect::<Vec<_>>().join(" ")
    };
    let e = check_sound(header.as_bytes()).envelope;
    let found = [
        text(&e.date),
        text(&e.subject),
        list(&e.from),
        list(&e.sender),
        list(&e.reply_to),
        list(&e.to),
        list(&e.cc),
        list(&e.bcc),
        text(&e.in_reply_to),
        text(&e.message_id),
    ];
    assert_eq!(found.each_ref().map(String::as_str), expected, "{header:?}");
}

#[test]
fn plain_messages_are_one_text() {
    check("", "text/plain;charset=us-ascii 7bit 0/0");
    check("\r\n", "text/plain;charset=us-ascii 7bit 0/0");
    check("Subject: a\r\n\r\none\r\ntwo", "text/plain;charset=us-ascii 7bit 8/1");
    check("Subject: a\n\none\ntwo\n", "text/plain;charset=us-ascii 7bit 8/2");
    check(
        "Content-Type: TEXT/html; charset=\"utf-8\"\r\nContent-Transfer-Encoding: 8BIT\r\n\r\nx\r\n",
        "TEXT/html;charset=utf-8 8BIT 3/1",
    );
    check(
        "Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n",
        "image/png base64 6/0",
    );
}

#[test]
fn without_a_valid_content_type_a_message_is_plain_text() {
    for header in ["Content-Type: text", "Content-Type:", "Content-Type: /", "X: y"] {
        let message = format!("{header}\r\n\r\nx");
        check(&message, "text/plain;charset=us-ascii 7bit 1/0");
    }
}

#[test]
fn a_multipart_has_its_parts() {
    check(
        "Content-Type: multipart/mixed; boundary=\"a b\"\r\n\r\npreamble\r\n--a b\r\n\r\none\r\n\
         --a b  \r\nContent-Type: application/pdf; name=x.pdf\r\n\
         Content-Disposition: attachment; filename=\"x y.pdf\"; size=3\r\n\
         Content-Transfer-Encoding: base64\r\n\r\nAAAA\r\n\r\n--a b--\r\nepilogue",
        "mixed(text/plain;charset=us-ascii 7bit 3/0 \
         application/pdf;name=x.pdf base64 6/0 attachment;filename=x y.pdf;size=3)",
    );
}

#[test]
fn multiparts_nest_and_an_outer_boundary_ends_inner_ones() {
    check(
        "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n\
         Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n\
         --a\r\n\r\nthree\r\n--b\r\nnot b's\r\n--a--\r\n",
        "mixed(alternative(text/plain;charset=us-ascii 7bit 3/0 text/plain;charset=us-ascii 7bit 3/0) \
         text/plain;charset=us-ascii 7bit 19/2)",
    );
}

#[test]
fn a_boundary_may_be_the_beginning_of_another() {
    check(
        "Content-Type: multipart/mixed; boundary=p\r\n\r\n--p\r\n\
         Content-Type: multipart/mixed; boundary=p1\r\n\r\n--p1\r\n\r\none\r\n--p1--\r\n--p--",
        "mixed(mixed(text/plain;charset=us-ascii 7bit 3/0))",
    );
}

#[test]
fn a_digest_s_parts_are_messages() {
    check(
        "Content-Type: multipart/digest; boundary=d\r\n\r\n--d\r\n\r\nSubject: one\r\n\r\nx\r\n\
         --d\r\nContent-Type: text/plain\r\n\r\ny\r\n--d\r\nContent-Type: rubbish\r\n\r\nz\r\n--d--",
        "digest(message[one] 17/2(text/plain;charset=us-ascii 7bit 1/0) \
         text/plain 7bit 1/0 text/plain;charset=us-ascii 7bit 1/0)",
    );
}

#[test]
fn a_message_within_a_message_has_envelope_and_structure() {
    check(
        "Content-Type: message/rfc822\r\n\r\nSubject: in\r\nContent-Type: text/html\r\n\r\nx\r\n",
        "message[in] 43/4(text/html 7bit 3/1)",
    );
    check(
        "Content-Type: MESSAGE/RFC822\r\n\r\n",
        "message[~] 0/0(text/plain;charset=us-ascii 7bit 0/0)",
    );
}

#[test]
fn encoded_messages_are_not_looked_into() {
    check(
        "Content-Type: message/rfc822; name=x\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA",
        "application/octet-stream base64 4/0",
    );
}

#[test]
fn a_multipart_without_parts_is_a_text_to_read() {
    let expected = "text/plain;charset=us-ascii 7bit 3/0";
    check("Content-Type: multipart/mixed\r\n\r\none", expected);
    check("Content-Type: multipart/mixed; boundary=\"\"\r\n\r\none", expected);
    check("Content-Type: multipart/mixed; boundary=x\r\n\r\none", expected);
    let expected = "text/plain;charset=us-ascii 7bit 5/0";
    check("Content-Type: multipart/mixed; boundary=x\r\n\r\n--x--", expected);
}

#[test]
fn an_unclosed_multipart_ends_with_its_body() {
    check(
        "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n\r\none\r\n",
        "mixed(text/plain;charset=us-ascii 7bit 5/1)",
    );
    check(
        "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a",
        "mixed(text/plain;charset=us-ascii 7bit 0/0)",
    );
}

#[test]
fn the_line_end_before_a_delimiter_is_no_empty_line() {
    let message = "Content-Type: multipart/mixed; boundary=a\r\n\r\n\
                   --a\r\nContent-Type: text/html\r\n\r\n--a--\r\n";
    check(message, "mixed(text/html 7bit 0/0)");
    let derived = derive(message.as_bytes());
    let Content::Multipart(parts) = &derived.structure.content else { panic!("no multipart") };
    let header = parts[0].header.of(message.as_bytes()).unwrap();
    assert_eq!(header, b"Content-Type: text/html\r\n");
}

#[test]
fn lines_that_end_in_lf_alone_are_lines() {
    check(
        "Content-Type: multipart/mixed; boundary=a\n\n--a\n\none\n\n--a\n\ntwo\n--a--\n",
        "mixed(text/plain;charset=us-ascii 7bit 4/1 text/plain;charset=us-ascii 7bit 3/0)",
    );
}

#[test]
fn all_of_mime_s_fields_are_kept_as_written() {
    let part = check_sound(
        b"Content-ID: <a@x>\r\nContent-Description: =?utf-8?Q?=C3=A4?=\r\n folded\r\n\
          Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==\r\nContent-Language: de, en\r\n\
          Content-Location: http://x/\r\nContent-Disposition: INLINE\r\n\
          Content-Transfer-Encoding: x-odd (comment)\r\n\r\n",
    )
    .structure;
    assert_eq!(part.id.unwrap(), "<a@x>");
    assert_eq!(part.description.unwrap(), "=?utf-8?Q?=C3=A4?= folded");
    assert_eq!(part.md5.unwrap(), "Q2hlY2sgSW50ZWdyaXR5IQ==");
    assert_eq!(part.language, ["de", "en"]);
    assert_eq!(part.location.unwrap(), "http://x/");
    assert_eq!(part.disposition.unwrap().kind, "INLINE");
    assert_eq!(part.encoding, "x-odd");
}

#[test]
fn envelopes_are_the_header_s_text() {
    check_envelope_of(
        "Date: Mon, 7 Feb 1994 21:52:25 -0800\r\nSubject: =?utf-8?Q?a?=\r\n b\r\n\
         From: Fred <fred@x>\r\nSender: s@x\r\nReply-To: r@x\r\nTo: a@x, \"B, C\" <b@x>\r\n\
         Cc: g: c@x;\r\nBcc: d@x\r\nIn-Reply-To: <1@x>\r\nMessage-ID: <2@x>\r\n\r\n",
        [
            "Mon, 7 Feb 1994 21:52:25 -0800",
            "=?utf-8?Q?a?= b",
            "Fred<fred@x>",
            "~<s@x>",
            "~<r@x>",
            "~<a@x> B, C<b@x>",
            "~<g@~> ~<c@x> ~<~@~>",
            "~<d@x>",
            "<1@x>",
            "<2@x>",
        ],
    );
}

#[test]
fn sender_and_reply_to_are_from_where_they_are_missing_or_empty() {
    let expected = ["~", "~", "~<f@x>", "~<f@x>", "~<f@x>", "", "", "", "~", "~"];
    check_envelope_of("From: f@x\r\n\r\n", expected);
    check_envelope_of("Sender:\r\nFrom: f@x\r\nReply-To: \r\nTo:\r\n\r\n", expected);
}

#[test]
fn empty_fields_are_empty_and_missing_ones_nil() {
    check_envelope_of("", ["~", "~", "", "", "", "", "", "", "~", "~"]);
    check_envelope_of(
        "Subject:\r\nDate: \r\nMessage-ID:\r\nIn-Reply-To:\r\n",
        ["", "", "", "", "", "", "", "", "", ""],
    );
}

#[test]
fn of_doubled_fields_the_first_counts_and_address_lists_are_joined() {
    check_envelope_of(
        "Subject: one\r\nSubject: two\r\nTo: a@x\r\nTo: b@x\r\n\r\n",
        ["~", "one", "", "", "", "~<a@x> ~<b@x>", "", "", "~", "~"],
    );
}

#[test]
fn raw_octets_and_nul_do_no_harm() {
    let derived =
        check_sound(b"Subject: \xff\x00\xc3\xa4\rx\r\nFrom: \x00\"\xe9\x00\" <a@b>\r\n\r\n\0");
    assert_eq!(derived.envelope.subject.unwrap(), b"\xff\xc3\xa4x"[..]);
    assert_eq!(derived.from, ["\u{e9} <a@b>"]);
}

#[test]
fn rows_get_addresses_as_people_read_them() {
    let derived = check_sound(
        b"From: =?utf-8?B?SsO2cmc=?= <j@x>\r\nTo: friends: a@x, B <b@x>;\r\nCc: root\r\n\
          Bcc: h@x\r\nDate: 7 Feb 1994 21:52:25 -0800\r\n\r\n",
    );
    assert_eq!(derived.from, ["J\u{f6}rg <j@x>"]);
    assert_eq!(derived.to, ["a@x", "B <b@x>"]);
    assert_eq!((derived.cc, derived.bcc), (vec!["root".to_owned()], vec!["h@x".to_owned()]));
    assert_eq!(derived.sent, Some(Timestamp { seconds: 760_686_745, offset_minutes: -480 }));
}
