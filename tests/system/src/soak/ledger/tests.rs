//! Planted records: the checker tells each kind of wrong apart, and finds nothing in sound ones.

use super::*;

const INBOX: Mailbox = "INBOX";
const WORK: Mailbox = "Work";

fn found(attempt: &str, place: Place) -> Found {
    Found { place, attempt: attempt.to_owned(), flagged: false }
}

fn appended(ledger: &mut Ledger, attempt: &str, uid: u32) {
    let before = ledger.begin(attempt, INBOX);
    ledger.put(attempt, (INBOX, uid), before);
}

/// What is there in the end is held against what `told` was; exactly these sentences contain these words.
fn check(told: impl FnOnce(&mut Ledger), there: &[(&str, Place)], wrong: &[&str]) -> Count {
    let mut ledger = Ledger::default();
    told(&mut ledger);
    let there: Vec<Found> = there.iter().map(|(attempt, place)| found(attempt, *place)).collect();
    let (count, found) = ledger.check(&there);
    assert_eq!(found.len(), wrong.len(), "{found:#?}");
    for (sentence, word) in found.iter().zip(wrong) {
        assert!(sentence.contains(word), "{sentence} lacks {word}");
    }
    count
}

#[test]
fn sound_records_have_nothing_wrong() {
    let count = check(
        |ledger| {
            appended(ledger, "a", 1);
            ledger.begin("b", INBOX);
            ledger.delivered("b");
            ledger.seen("b", (INBOX, 2));
            // Copied, then moved away.
            let before = ledger.begin("b", WORK);
            ledger.put("b", (WORK, 1), before);
            let before = ledger.begin("b", WORK);
            ledger.removing("b", (INBOX, 2));
            ledger.put("b", (WORK, 2), before);
            ledger.removed("b", (INBOX, 2));
            // Delivered, seen by nobody.
            ledger.begin("c", INBOX);
            ledger.delivered("c");
            // Never answered: one is there, the other is not.
            ledger.begin("d", INBOX);
            ledger.unknown("d");
            ledger.begin("e", INBOX);
            ledger.unknown("e");
            ledger.begin("g", INBOX);
            ledger.unknown_delivery("g");
            // Its removal was never answered.
            appended(ledger, "f", 9);
            ledger.removing("f", (INBOX, 9));
        },
        &[
            ("a", (INBOX, 1)),
            ("b", (WORK, 1)),
            ("b", (WORK, 2)),
            ("c", (INBOX, 3)),
            ("d", (INBOX, 4)),
            ("g", (INBOX, 5)),
        ],
        &[],
    );
    let expected = Count {
        attempts: 7,
        acknowledged: 6,
        present: 4,
        removed: 1,
        perhaps_removed: 1,
        unacknowledged_present: 1,
        unacknowledged_deliveries: 1,
    };
    assert_eq!(count, expected);
}

#[test]
fn what_is_lost_is_told() {
    check(|ledger| appended(ledger, "a", 1), &[], &["a at (\"INBOX\", 1) is lost"]);
    let delivered = |ledger: &mut Ledger| {
        ledger.begin("a", INBOX);
        ledger.delivered("a");
    };
    check(delivered, &[], &["a was delivered and is lost"]);
    // Seen once, never removed.
    let seen = |ledger: &mut Ledger| {
        ledger.begin("a", INBOX);
        ledger.unknown("a");
        ledger.seen("a", (INBOX, 4));
    };
    check(seen, &[], &["is lost"]);
    // Moved: it is neither here nor there.
    let moved = |ledger: &mut Ledger| {
        appended(ledger, "a", 1);
        let before = ledger.begin("a", WORK);
        ledger.removing("a", (INBOX, 1));
        ledger.put("a", (WORK, 1), before);
        ledger.removed("a", (INBOX, 1));
    };
    check(moved, &[], &["a at (\"Work\", 1) is lost"]);
}

#[test]
fn what_is_doubled_is_told() {
    let both = [("a", (INBOX, 1)), ("a", (INBOX, 2))];
    check(|ledger| appended(ledger, "a", 1), &both, &["more often than it was sent"]);
    let unanswered = |ledger: &mut Ledger| {
        ledger.begin("a", INBOX);
        ledger.unknown("a");
    };
    check(unanswered, &both, &["more often than it was sent"]);
    // Seen elsewhere before its answer came.
    let late = |ledger: &mut Ledger| {
        let before = ledger.begin("a", INBOX);
        ledger.seen("a", (INBOX, 1));
        ledger.put("a", (INBOX, 2), before);
    };
    check(late, &both, &["more often than it was sent"]);
}

#[test]
fn a_uid_that_is_used_again_or_out_of_order_is_told() {
    let again = |ledger: &mut Ledger| {
        let (first, second) = (ledger.begin("a", INBOX), ledger.begin("b", INBOX));
        ledger.put("a", (INBOX, 1), first);
        ledger.put("b", (INBOX, 1), second);
    };
    check(again, &[("b", (INBOX, 1))], &["means a and b"]);
    let lower = |ledger: &mut Ledger| {
        appended(ledger, "a", 5);
        appended(ledger, "b", 4);
    };
    check(lower, &[("b", (INBOX, 4)), ("a", (INBOX, 5))], &["b got UID (\"INBOX\", 4) after 5"]);
    let other = [("b", (INBOX, 1))];
    let found = |ledger: &mut Ledger| {
        appended(ledger, "a", 1);
        ledger.begin("b", INBOX);
    };
    check(found, &other, &["means a and b"]);
}

#[test]
fn what_was_removed_stays_away_and_flags_stay() {
    let removed = |ledger: &mut Ledger| {
        appended(ledger, "a", 1);
        ledger.removed("a", (INBOX, 1));
    };
    check(removed, &[("a", (INBOX, 1))], &["was removed and is there"]);
    let flagged = |ledger: &mut Ledger| {
        appended(ledger, "a", 1);
        ledger.flagged("a", (INBOX, 1), Some(true));
    };
    check(flagged, &[("a", (INBOX, 1))], &["\\Flagged should be true"]);
    let unknown = |ledger: &mut Ledger| {
        appended(ledger, "a", 1);
        ledger.flagged("a", (INBOX, 1), None);
    };
    check(unknown, &[("a", (INBOX, 1))], &[]);
}

#[test]
fn a_message_of_nobody_is_told() {
    check(|_| {}, &[("x", (INBOX, 1))], &["was never sent"]);
}

#[test]
fn at_most_so_many_sentences_are_kept() {
    let mut ledger = Ledger::default();
    (0..=MAX_WRONG).for_each(|n| ledger.wrong(n.to_string()));
    let (_, wrong) = ledger.check(&[]);
    assert_eq!(wrong.len(), MAX_WRONG + 1);
    assert_eq!(wrong[MAX_WRONG], "and 1 more");
}
