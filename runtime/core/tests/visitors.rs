//! The owner's registry of other nodes' sessions: cases, random orders against a plain list, and what a
//! million of them take. The last is why this is a program of its own: it looks at the memory of its process.

use std::collections::{BTreeMap, BTreeSet};

use postroom_core::cluster::limits::MAX_VISITORS_OF_A_NODE;
use postroom_core::cluster::{NodeId, Visitor, Visitors};
use postroom_core::types::{AccountId, Epoch, MailboxId, SessionId, TransactionId};
use proptest::prelude::*;

fn id(name: &str) -> NodeId {
    name.parse().unwrap()
}

fn mailbox(number: u8) -> MailboxId {
    MailboxId([number; 16])
}

/// What a session has active by the call of this number.
fn has(number: u8, epoch: u64, under: u8) -> Visitor {
    Visitor {
        local: SessionId(u64::from(under)),
        account: AccountId([number; 16]),
        mailbox: mailbox(number),
        epoch: Epoch(epoch),
        under: TransactionId([under; 16]),
    }
}

#[test]
fn e5_a_mailbox_stays_active_until_the_last_session_on_any_node_leaves() {
    let (mut visitors, a, b) = (Visitors::default(), id("a"), id("b"));
    visitors.attached(&a, SessionId(1), has(1, 1, 1));
    visitors.attached(&b, SessionId(1), has(1, 1, 2));
    assert_eq!(visitors.watchers(mailbox(1)).collect::<Vec<_>>(), [&a, &b]);
    let left = visitors.left(&a, SessionId(1), TransactionId([1; 16]));
    assert_eq!(left.visitors, [(SessionId(1), has(1, 1, 1))]);
    assert_eq!(left.untold, [(mailbox(1), Epoch(1))], "a hears of it no more");
    assert_eq!(visitors.left(&a, SessionId(1), TransactionId([1; 16])), Default::default());
    assert!(visitors.is_active(mailbox(1)), "b has it still");
    visitors.left(&b, SessionId(1), TransactionId([2; 16]));
    assert!(!visitors.is_active(mailbox(1)) && visitors.is_empty());
}

#[test]
fn e4_any_number_of_sessions_on_any_node_have_a_mailbox_active() {
    let mut visitors = Visitors::default();
    for node in 0..20 {
        for session in 0..50 {
            visitors.attached(&id(&format!("n{node}")), SessionId(session), has(1, 1, 1));
        }
    }
    assert_eq!((visitors.len(), visitors.watchers(mailbox(1)).count()), (1000, 20));
    assert_eq!(visitors.nodes_with(|account| account == AccountId([1; 16])).count(), 20);
    assert_eq!(visitors.nodes_with(|account| account != AccountId([1; 16])).count(), 0);
}

#[test]
fn e8_the_sessions_of_a_node_that_is_gone_are_dropped() {
    let (mut visitors, a, b) = (Visitors::default(), id("a"), id("b"));
    visitors.attached(&a, SessionId(1), has(1, 1, 1));
    visitors.attached(&a, SessionId(2), has(2, 1, 2));
    visitors.attached(&b, SessionId(1), has(2, 1, 3));
    let gone = visitors.gone(&a);
    assert_eq!(gone.visitors, [(SessionId(1), has(1, 1, 1)), (SessionId(2), has(2, 1, 2))]);
    assert_eq!(gone.untold, [(mailbox(1), Epoch(1)), (mailbox(2), Epoch(1))]);
    assert!(!visitors.is_active(mailbox(1)) && visitors.is_active(mailbox(2)), "b has it");
    assert_eq!(visitors.gone(&a), Default::default());
}

#[test]
fn e8_a_session_that_its_node_does_not_name_twice_in_a_row_is_dropped() {
    let (mut visitors, a) = (Visitors::default(), id("a"));
    visitors.attached(&a, SessionId(1), has(1, 1, 1));
    visitors.attached(&a, SessionId(2), has(2, 1, 2));
    let both = [SessionId(1), SessionId(2)];
    assert_eq!(visitors.named(&a, &both[1..]), Default::default(), "once may be by chance");
    assert_eq!(visitors.named(&a, &both), Default::default());
    assert_eq!(visitors.named(&a, &both[1..]), Default::default());
    let (left, unknown) = visitors.named(&a, &[SessionId(2), SessionId(9)]);
    assert_eq!(left.visitors, [(SessionId(1), has(1, 1, 1))]);
    assert_eq!(unknown, [SessionId(9)], "it has to attach again");
    assert_eq!(visitors.len(), 1);
    assert_eq!(visitors.named(&id("b"), &both), (Default::default(), both.to_vec()));
}

#[test]
fn a_session_has_one_mailbox_and_only_under_the_claim_that_it_knows() {
    let (mut visitors, a) = (Visitors::default(), id("a"));
    visitors.attached(&a, SessionId(1), has(1, 1, 1));
    assert_eq!(visitors.known(&a, SessionId(1), Epoch(1)), Some(SessionId(1)));
    assert_eq!(visitors.known(&a, SessionId(1), Epoch(2)), None);
    // The slot was away and has come back: the mailbox is told of under the new claim.
    let before = visitors.attached(&a, SessionId(1), has(1, 3, 2));
    assert_eq!(before.untold, [(mailbox(1), Epoch(1))]);
    // The same once more, by another call: nothing ends.
    let before = visitors.attached(&a, SessionId(1), has(1, 3, 3));
    assert_eq!((before.visitors.len(), before.untold), (1, vec![]));
    // What it left was of an earlier call.
    assert_eq!(visitors.left(&a, SessionId(1), TransactionId([2; 16])), Default::default());
    assert_eq!(visitors.known(&a, SessionId(1), Epoch(3)), Some(SessionId(3)));
}

#[test]
fn numbers_are_given_once_and_only_to_so_many() {
    let (mut visitors, a, b) = (Visitors::default(), id("a"), id("b"));
    let numbers: BTreeSet<_> = (0..100).map(|n| visitors.number(&a, SessionId(n))).collect();
    assert_eq!(numbers.len(), 100);
    let number = visitors.number(&a, SessionId(7)).unwrap();
    visitors.attached(&a, SessionId(7), Visitor { local: number, ..has(1, 1, 1) });
    assert_eq!(visitors.number(&a, SessionId(7)), Some(number), "it is known already");
    assert_ne!(visitors.number(&b, SessionId(7)), Some(number));
    for session in 0..MAX_VISITORS_OF_A_NODE as u64 {
        visitors.attached(&b, SessionId(session), has(1, 1, 1));
    }
    assert_eq!(visitors.number(&b, SessionId(u64::MAX)), None);
    assert!(visitors.number(&b, SessionId(7)).is_some());
    assert!(visitors.number(&a, SessionId(8)).is_some());
}

proptest! {
    #[test]
    fn it_says_what_a_plain_list_says(
        steps in prop::collection::vec((0..7_u8, 0..3_u8, 0..3_usize, 1..3_u64, 0..3_u64, 0..4_u8), 1..150),
    ) {
        let names = ["a", "b", "c"].map(id);
        let mut visitors = Visitors::default();
        // By node and session: what it has, and how often it was not named.
        let mut plain = BTreeMap::<(usize, u64), (Visitor, u8)>::new();
        let mut told = BTreeSet::new();
        for (step, number, node, epoch, session, under) in steps {
            let name = &names[node];
            let untold = match step {
                0..=2 => {
                    let visitor = has(number, epoch, under);
                    plain.insert((node, session), (visitor, 0));
                    visitors.attached(name, SessionId(session), visitor).untold
                }
                3 | 4 => {
                    let by_it = |(it, _): &(Visitor, u8)| it.under == TransactionId([under; 16]);
                    if plain.get(&(node, session)).is_some_and(by_it) {
                        plain.remove(&(node, session));
                    }
                    visitors.left(name, SessionId(session), TransactionId([under; 16])).untold
                }
                5 => {
                    plain.retain(|(n, _), _| *n != node);
                    visitors.gone(name).untold
                }
                _ => {
                    for ((n, s), (_, missed)) in &mut plain {
                        if *n == node {
                            *missed = if *s == session { 0 } else { *missed + 1 };
                        }
                    }
                    plain.retain(|_, (_, missed)| *missed < 2);
                    let (left, unknown) = visitors.named(name, &[SessionId(session)]);
                    prop_assert_eq!(unknown.is_empty(), plain.contains_key(&(node, session)));
                    left.untold
                }
            };
            // What is told begins with who comes, and ends as it is said.
            untold.iter().for_each(|(mailbox, epoch)| {
                assert!(told.remove(&(node, *mailbox, *epoch)), "it was told");
            });
            told.extend(plain.iter().map(|((n, _), (it, _))| (*n, it.mailbox, it.epoch)));
            let all = plain.iter().map(|((n, _), (it, _))| (*n, it.mailbox, it.epoch));
            prop_assert_eq!(&told, &all.collect::<BTreeSet<_>>());
            prop_assert_eq!(visitors.len(), plain.len());
            for b in 0..3 {
                let active = plain.values().any(|(it, _)| it.mailbox == mailbox(b));
                prop_assert_eq!(visitors.is_active(mailbox(b)), active);
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

/// Run it alone to see the figures by themselves: the other tests of this program are small beside it. Each
/// session has a mailbox of its own, which is the most that it can take.
#[test]
fn a_million_sessions_take_less_than_three_hundred_octets_each() {
    const FIGURES: [u64; 3] = [10_000, 100_000, 1_000_000];
    let mut visitors = Visitors::default();
    let nodes: Vec<NodeId> = (0..20).map(|node| id(&format!("n{node}"))).collect();
    let before = resident();
    let mut each = 0.0;
    for number in 0..FIGURES[2] {
        // Spread as ids are: an odd factor permutes the numbers of 64 bits.
        let spread = u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64;
        let visitor = Visitor { mailbox: MailboxId::from_u128(spread), ..has(1, 1, 1) };
        visitors.attached(&nodes[(number % 20) as usize], SessionId(number), visitor);
        if FIGURES.contains(&(number + 1)) {
            let octets = resident().saturating_sub(before);
            each = octets as f64 / (number + 1) as f64;
            eprintln!("{} sessions: {octets} octets, {each:.1} each", visitors.len());
        }
    }
    assert!((112.0..300.0).contains(&each), "{each}");
}
