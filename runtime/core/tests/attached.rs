//! The owner's registry of active mailboxes: cases, random orders against a plain list, and what a million
//! entries take. The last is why this is a program of its own: it looks at the memory of its process.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use postroom_core::cluster::attached::{Attached, NotAttached};
use postroom_core::cluster::{Generation, NodeId};
use postroom_core::types::{MailboxId, SessionId, Slot};
use proptest::prelude::*;

const SLOT: Slot = Slot(9);
const LEASE: Duration = Duration::from_secs(30);

fn id(name: &str) -> NodeId {
    name.parse().unwrap()
}

fn mailbox(number: u8) -> MailboxId {
    MailboxId([number; 16])
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn e5_a_mailbox_stays_open_until_the_last_session_on_any_node_leaves() {
    let (mut attached, a, b) = (Attached::default(), id("a"), id("b"));
    let (a, b) = ((&a, Generation(1)), (&b, Generation(1)));
    assert_eq!(attached.attach(SLOT, mailbox(1), a, SessionId(1), at(0)), Ok(true));
    assert_eq!(attached.attach(SLOT, mailbox(1), b, SessionId(1), at(0)), Ok(true));
    assert_eq!(attached.watchers(SLOT, mailbox(1)), [a.0, b.0].into());
    assert!(!attached.detach(SLOT, mailbox(1), a, SessionId(1)), "b has it still");
    assert!(!attached.detach(SLOT, mailbox(1), a, SessionId(1)), "it has left before");
    assert!(attached.is_active(SLOT, mailbox(1)) && !attached.is_idle(SLOT));
    assert!(attached.detach(SLOT, mailbox(1), b, SessionId(1)));
    assert!(attached.is_idle(SLOT) && attached.is_empty());
}

#[test]
fn e4_any_number_of_sessions_on_any_node_have_a_mailbox_active() {
    let mut attached = Attached::default();
    for node in 0..20 {
        for session in 0..50 {
            let from = (&id(&format!("n{node}")), Generation(3));
            attached.attach(SLOT, mailbox(1), from, SessionId(session), at(0)).unwrap();
        }
    }
    assert_eq!(attached.sessions(SLOT, mailbox(1)).count(), 1000);
    assert_eq!(attached.nodes_of(SLOT).len(), 20);
    assert!(attached.is_idle(Slot(8)) && attached.is_idle(Slot(10)));
}

#[test]
fn e8_the_sessions_of_a_node_that_is_gone_or_started_again_are_dropped() {
    let (mut attached, a, b) = (Attached::default(), id("a"), id("b"));
    attached.attach(SLOT, mailbox(1), (&a, Generation(1)), SessionId(1), at(0)).unwrap();
    attached.attach(SLOT, mailbox(2), (&a, Generation(1)), SessionId(2), at(0)).unwrap();
    attached.attach(SLOT, mailbox(2), (&b, Generation(1)), SessionId(1), at(0)).unwrap();
    assert_eq!(attached.node_gone(&a, Generation(1)), [(SLOT, mailbox(1))], "b has the other");
    attached.attach(SLOT, mailbox(1), (&a, Generation(2)), SessionId(1), at(0)).unwrap();
    assert_eq!(attached.node_gone(&a, Generation(1)), [], "the news is old");
    let late = attached.attach(SLOT, mailbox(3), (&a, Generation(1)), SessionId(9), at(0));
    assert_eq!(late, Err(NotAttached::Outdated));
    attached.attach(SLOT, mailbox(3), (&a, Generation(3)), SessionId(1), at(0)).unwrap();
    assert!(!attached.is_active(SLOT, mailbox(1)), "what the generation before had");
    assert!(!attached.detach(SLOT, mailbox(3), (&a, Generation(2)), SessionId(1)));
}

#[test]
fn e8_a_session_that_is_not_asserted_again_is_dropped_when_its_lease_is_over() {
    let (mut attached, a) = (Attached::default(), id("a"));
    let a = (&a, Generation(1));
    attached.attach(SLOT, mailbox(1), a, SessionId(1), at(100)).unwrap();
    attached.attach(SLOT, mailbox(2), a, SessionId(2), at(100)).unwrap();
    assert_eq!(attached.attach(SLOT, mailbox(2), a, SessionId(2), at(120)), Ok(false));
    assert_eq!(attached.expire(at(130), LEASE), []);
    assert_eq!(attached.expire(at(131), LEASE), [(SLOT, mailbox(1))]);
    assert_eq!(attached.len(), 1);
}

#[test]
fn what_makes_no_sense_changes_nothing() {
    let (mut attached, a) = (Attached::default(), id("a"));
    let odd = attached.attach(Slot(4096), mailbox(1), (&a, Generation(1)), SessionId(1), at(0));
    assert_eq!(odd, Err(NotAttached::NoSlot));
    assert!(attached.is_empty());
    assert!(!attached.detach(SLOT, mailbox(1), (&a, Generation(1)), SessionId(1)));
}

proptest! {
    #[test]
    fn it_says_what_a_plain_list_says(
        steps in prop::collection::vec((0..6_u8, 0..3_u8, 0..3_usize, 1..3_u64, 0..3_u64, 0..9_u64), 1..150),
    ) {
        let names = ["a", "b", "c"];
        let mut attached = Attached::default();
        let mut plain = BTreeMap::<(u8, usize, u64), (u64, u64)>::new();
        let mut now = 0;
        for (step, box_number, node, generation, session, time) in steps {
            let name = id(names[node]);
            let from = (&name, Generation(generation));
            let known = plain.iter().find(|((_, n, _), _)| *n == node).map(|(_, (g, _))| *g);
            match step {
                0..=2 => {
                    let done = attached.attach(SLOT, mailbox(box_number), from, SessionId(session), at(now));
                    if known.is_some_and(|known| known > generation) {
                        prop_assert_eq!(done, Err(NotAttached::Outdated));
                    } else {
                        plain.retain(|(_, n, _), (g, _)| *n != node || *g == generation);
                        let is_new = plain.insert((box_number, node, session), (generation, now)).is_none();
                        prop_assert_eq!(done, Ok(is_new));
                    }
                }
                3 => {
                    let was = plain.get(&(box_number, node, session)).is_some_and(|(g, _)| *g == generation);
                    if was {
                        plain.remove(&(box_number, node, session));
                    }
                    let last = was && !plain.keys().any(|(b, _, _)| *b == box_number);
                    prop_assert_eq!(attached.detach(SLOT, mailbox(box_number), from, SessionId(session)), last);
                }
                4 => {
                    let before: BTreeSet<u8> = plain.keys().map(|(b, _, _)| *b).collect();
                    plain.retain(|(_, n, _), (g, _)| *n != node || *g > generation);
                    let after: BTreeSet<u8> = plain.keys().map(|(b, _, _)| *b).collect();
                    let left: Vec<_> = (&before - &after).into_iter().map(|b| (SLOT, mailbox(b))).collect();
                    prop_assert_eq!(attached.node_gone(&name, Generation(generation)), left);
                }
                _ => {
                    now += time * 10;
                    plain.retain(|_, (_, asserted)| *asserted >= now.saturating_sub(30));
                    attached.expire(at(now), LEASE);
                }
            }
            prop_assert_eq!(attached.len(), plain.len());
            for b in 0..3 {
                prop_assert_eq!(attached.is_active(SLOT, mailbox(b)), plain.keys().any(|(x, _, _)| *x == b));
            }
        }
    }
}

/// Octets that the process has in memory.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").expect("this test needs Linux's /proc");
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS is there");
    let digits: String = line.chars().filter(char::is_ascii_digit).collect();
    digits.parse::<usize>().unwrap() * 1024
}

/// Run it alone to see the figures by themselves: the other tests of this program are small beside it.
#[test]
fn a_million_entries_take_less_than_a_hundred_octets_each() {
    const FIGURES: [u64; 3] = [10_000, 100_000, 1_000_000];
    let (mut attached, name) = (Attached::default(), id("a"));
    let before = resident();
    let mut each = 0.0;
    for number in 0..FIGURES[2] {
        // Spread as ids are: an odd factor permutes the numbers of 64 bits.
        let spread = u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (slot, mailbox) = (Slot((spread % 4096) as u16), MailboxId::from_u128(spread << 64));
        attached.attach(slot, mailbox, (&name, Generation(1)), SessionId(number), at(0)).unwrap();
        if FIGURES.contains(&(number + 1)) {
            let octets = resident().saturating_sub(before);
            each = octets as f64 / (number + 1) as f64;
            eprintln!("{} entries: {octets} octets, {each:.1} each", attached.len());
        }
    }
    assert!((28.0..100.0).contains(&each), "{each}");
}
