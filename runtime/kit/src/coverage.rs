//! Which promise has a case, and why one has none.

use std::collections::BTreeSet;

use crate::cases::{Case, messages, records};
use crate::promises::promises;
use crate::verdict::whole_id;

/// The interfaces of the four kinds of record.
pub const INTERFACES: [&str; 4] = ["domains", "users", "mailboxes", "messages"];

/// Promises without a case, each with what holds it instead. `*` stands for any word.
pub const WITHOUT_CASE: &[(&str, &str)] = &[
    ("storage.space.*", "the host's: node's tests of storage"),
    ("storage.scan-page.*", "the host's: node's tests of storage; assumed by every list case"),
    ("storage.view.1", "the host's: node's tests of storage"),
    ("storage.view.3", "the host's: node's tests of storage"),
    ("storage.get-many.*", "the host's: node's tests of storage"),
    ("storage.scan.*", "the host's: node's tests of storage"),
    ("storage.get-body.*", "the host's: node's tests of storage"),
    ("storage.txn.1", "the host's: node's tests of storage"),
    ("storage.txn.5", "the host's: node's tests of storage"),
    ("storage.put.*", "the host's: node's tests of storage"),
    ("storage.delete.*", "the host's: node's tests of storage"),
    ("storage.delete-range.*", "the host's: node's tests of storage"),
    ("storage.put-body.1", "the host's: node's tests of storage"),
    ("storage.put-body.3", "the host's: node's tests of storage"),
    ("storage.body.*", "the host's: node's tests of storage"),
    ("storage.read.*", "the host's: node's tests of storage"),
    ("store.rule.9", "the host's: it checks before it calls"),
    ("types.call.1", "the host's: node's tests of hosting"),
    ("types.call.2", "the host's: its rules of deployments"),
    ("types.message.1", "the host's: its generator of names"),
    ("types.message.2", "the host's: its ledger of UIDs"),
    ("settings.get.*", "the host's: node's tests of hosting"),
    ("messages.outside.3", "the host's: its queue of what is to be settled"),
    ("messages.settle.4", "the host's: it knows who reads"),
    ("hooks.*.*", "the host's: node's tests of delivery and of the fields that hooks add"),
    ("messages.insert.3", "the host's: its ledger of UIDs and its generator of names"),
];

/// The cases of an interface.
pub fn cases(interface: &str) -> &'static [Case] {
    match interface {
        "messages" => messages::CASES,
        _ => records::CASES,
    }
}

/// The whole ids of the promises that a case covers for an interface.
pub fn covered(interface: &str, case: &Case) -> Vec<String> {
    case.covers.iter().map(|id| whole_id(id, interface)).collect()
}

/// A table of promises without a case.
type Reasons<'a> = &'a [(&'a str, &'a str)];

/// Why this promise has no case.
pub fn reason(id: &str) -> Option<&'static str> {
    reason_in(WITHOUT_CASE, id)
}

fn reason_in<'a>(reasons: Reasons<'a>, id: &str) -> Option<&'a str> {
    reasons.iter().find(|(pattern, _)| matches(pattern, id)).map(|(_, reason)| *reason)
}

/// The promises that bind a store of these interfaces and have a case.
pub fn binding(interfaces: &[&str]) -> BTreeSet<String> {
    let kept = |interface: &&str| interfaces.contains(interface);
    let of = |interface: &str| {
        cases(interface).iter().flat_map(|case| covered(interface, case)).collect::<Vec<_>>()
    };
    INTERFACES.iter().filter(|i| kept(i)).flat_map(|interface| of(interface)).collect()
}

fn matches(pattern: &str, id: &str) -> bool {
    pattern.split('.').zip(id.split('.')).all(|(pattern, word)| pattern == "*" || pattern == word)
}

/// What is wrong with the tables of cases and reasons: promises without either or with both, and ids
/// that the WIT does not have.
pub fn gaps() -> Vec<String> {
    let promised = promises().into_iter().map(|promise| promise.id).collect();
    gaps_in(&promised, &binding(&INTERFACES), WITHOUT_CASE)
}

fn gaps_in(
    promised: &BTreeSet<String>,
    covered: &BTreeSet<String>,
    reasons: Reasons<'_>,
) -> Vec<String> {
    let mut gaps = Vec::new();
    for id in promised {
        match (covered.contains(id), reason_in(reasons, id)) {
            (false, None) => gaps.push(format!("[{id}] has neither a case nor a reason")),
            (true, Some(_)) => gaps.push(format!("[{id}] has a case, and a reason for none")),
            (true, None) | (false, Some(_)) => {}
        }
    }
    let unknown = covered.iter().filter(|id| !promised.contains(*id));
    gaps.extend(unknown.map(|id| format!("a case names [{id}], which is promised nowhere")));
    let stale = reasons.iter().filter(|(p, _)| !promised.iter().any(|id| matches(p, id)));
    gaps.extend(stale.map(|(pattern, _)| format!("[{pattern}] is promised nowhere")));
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_promise_has_a_case_or_a_reason() {
        assert_eq!(gaps(), Vec::<String>::new());
        assert!(promises().len() > 100, "only {} promises were found", promises().len());
    }

    #[test]
    fn gaps_of_every_kind_are_told() {
        let set = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
        let promised = set(&["a.b.1", "a.b.2", "a.c.1", "a.d.1"]);
        let covered = set(&["a.b.1", "a.d.1", "x.y.1"]);
        assert_eq!(
            gaps_in(&promised, &covered, &[("a.b.*", "why"), ("z.z.1", "why")]),
            [
                "[a.b.1] has a case, and a reason for none",
                "[a.c.1] has neither a case nor a reason",
                "a case names [x.y.1], which is promised nowhere",
                "[z.z.1] is promised nowhere",
            ]
        );
    }

    #[test]
    fn names_of_cases_are_unique() {
        for interface in INTERFACES {
            let names: BTreeSet<_> = cases(interface).iter().map(|case| case.name).collect();
            assert_eq!(names.len(), cases(interface).len(), "{interface}");
        }
    }
}
