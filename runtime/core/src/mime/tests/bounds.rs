//! Mails made to hurt: every bound holds, and says so.

use super::*;

const DEEP: usize = 50_000;

/// How deep the tree is, and how many parts it has.
fn depth_and_parts(part: &Part) -> (usize, usize) {
    let inner: Vec<&Part> = match &part.content {
        Content::Single => Vec::new(),
        Content::Multipart(parts) => parts.iter().collect(),
        Content::Message(message) => vec![&message.structure],
    };
    inner
        .into_iter()
        .map(depth_and_parts)
        .fold((0, 1), |(depth, parts), (d, p)| (depth.max(d + 1), parts + p))
}

fn check(message: &str, depth: usize, parts: usize) {
    let derived = check_sound(message.as_bytes());
    assert!(derived.truncated);
    assert_eq!(depth_and_parts(&derived.structure), (depth, parts));
}

#[test]
fn messages_nested_without_end_are_opaque_at_the_bound() {
    check(&"Content-Type: message/rfc822\r\n\r\n".repeat(DEEP), MAX_DEPTH, MAX_DEPTH + 1);
}

#[test]
fn multiparts_nested_without_end_are_opaque_at_the_bound() {
    let message: String = (0..DEEP)
        .map(|n| format!("Content-Type: multipart/mixed; boundary={n}\r\n\r\n--{n}\r\n"))
        .collect();
    check(&message, MAX_DEPTH, MAX_DEPTH + 1);
}

#[test]
fn digests_nested_without_end_are_parts_of_the_outermost() {
    // They all have one boundary: each part is a message in a message/rfc822, two parts.
    let digest = "Content-Type: multipart/digest; boundary=a\r\n\r\n--a\r\n\r\n";
    let derived = check_sound(digest.repeat(DEEP).as_bytes());
    assert!(derived.truncated);
    let Content::Multipart(parts) = &derived.structure.content else { panic!("no multipart") };
    assert_eq!(parts.len(), MAX_PARTS / 2);
}

#[test]
fn parts_without_end_are_left_out() {
    let message = format!(
        "Content-Type: multipart/mixed; boundary=a\r\n\r\n{}",
        "--a\r\n\r\nx\r\n".repeat(DEEP)
    );
    check(&message, 1, MAX_PARTS);
}

#[test]
fn a_multipart_of_which_no_part_fits_is_opaque() {
    let message = format!(
        "Content-Type: multipart/mixed; boundary=a\r\n\r\n{}--a\r\n\
         Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nlate\r\n--b--\r\n--a--",
        "--a\r\n\r\nx\r\n".repeat(MAX_PARTS - 2)
    );
    let derived = check_sound(message.as_bytes());
    let Content::Multipart(parts) = &derived.structure.content else { panic!("no multipart") };
    assert_eq!(parts.len(), MAX_PARTS - 1);
    assert_eq!(shown(&parts[MAX_PARTS - 2]), "application/octet-stream 7bit 18/0");
}

#[test]
fn addresses_without_end_are_left_out() {
    let header = format!("To: {}\r\n\r\n", "a@b,".repeat(MAX_ADDRESSES * 2));
    let derived = check_sound(header.as_bytes());
    assert!(derived.truncated);
    assert_eq!(derived.to.len(), MAX_ADDRESSES);
}

#[test]
fn groups_without_end_end() {
    let header = format!("To: {}\r\n\r\n", "a:b@c;".repeat(MAX_ADDRESSES));
    let derived = check_sound(header.as_bytes());
    assert!(derived.truncated);
    assert_eq!(derived.to.len(), MAX_ADDRESSES / 2);
}

#[test]
fn a_header_without_end_is_read_up_to_the_bound_and_cut_whole() {
    let message = format!("{}To: late@x\r\n\r\nbody", "From: a@x\r\n".repeat(200_000));
    let derived = check_sound(message.as_bytes());
    assert!(derived.truncated && derived.to.is_empty());
    let names = SectionText::HeaderFields(vec!["to".to_owned()]);
    let wanted = Section { part: Vec::new(), text: names };
    let octets = Bytes::from(message);
    assert_eq!(section(&octets, &derived, &wanted).unwrap(), "To: late@x\r\n\r\n");
}

#[test]
fn a_value_without_end_is_cut_off() {
    let subject = "x".repeat(MAX_VALUE_OCTETS + 1);
    let derived = check_sound(format!("Subject: {subject}\r\n\r\n").as_bytes());
    assert!(derived.truncated);
    assert_eq!(derived.envelope.subject.unwrap().len(), MAX_VALUE_OCTETS);
}

#[test]
fn what_is_derived_stays_small_whatever_the_message() {
    // Values of almost the longest length, in as many parts as there may be.
    let part = format!(
        "--a\r\nContent-Type: message/rfc822\r\n\r\nSubject: {}\r\n\r\n",
        "x".repeat(MAX_VALUE_OCTETS - 100)
    );
    let header = "Content-Type: multipart/mixed; boundary=a\r\n\r\n";
    let derived = check_sound(format!("{header}{}", part.repeat(40)).as_bytes());
    assert!(derived.truncated);
    let row = postcard::to_stdvec(&derived).unwrap();
    assert!(row.len() < 2 * MAX_DERIVED_OCTETS, "{} octets", row.len());
}

#[test]
fn rubbish_of_every_kind_costs_little() {
    // Each is a form that a careless parser takes quadratic time for, or a deep stack.
    let size = 1 << 20;
    for piece in [
        "(",
        "\"",
        "\\",
        "<",
        ":",
        ";",
        ",",
        "@",
        "[",
        "=?",
        "=?a?q?",
        "=?utf-8?q?=C3?= ",
        "\r\n ",
        "a:b;",
        "(a",
        "<a@",
        ".",
        "\0",
        "=",
        "\u{308}",
        "--a\r\n",
        "a=b;",
        "a=\"b\";",
    ] {
        let rubbish = piece.repeat(size / piece.len());
        for field in ["To: ", "Subject: ", "Content-Type: a/b;", "References: ", "Date: "] {
            check_sound(format!("{field}{rubbish}\r\n\r\nbody").as_bytes());
        }
        check_sound(rubbish.as_bytes());
        let multipart = "Content-Type: multipart/mixed; boundary=a\r\n\r\n";
        check_sound(format!("{multipart}{rubbish}").as_bytes());
    }
}
