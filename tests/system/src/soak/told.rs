//! What the report says of versions of the store component: what became of each, what clients' commands took
//! while one took over and while nothing happened, what nodes have of the machine.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::fault::Fault;
use super::report::short;
use super::swap::{Trial, Trials};
use super::waits::{Times, Waits};

/// How a command did: while nothing happened, and while versions took over.
type Sides<'a> = BTreeMap<&'a str, [Option<&'a Times>; 2]>;

fn sides(waits: &Waits) -> Sides<'_> {
    let mut sides = Sides::new();
    for (side, fault) in [Fault::Calm, Fault::Swap].into_iter().enumerate() {
        let commands = waits.0.get(&fault).into_iter().flat_map(|met| &met.commands);
        for (command, times) in commands {
            sides.entry(command).or_default()[side] = Some(times);
        }
    }
    sides
}

/// As tables; nothing where no version was deployed.
pub fn text(waits: &Waits, trials: &Trials) -> String {
    let mut text = String::new();
    if trials.told.is_empty() {
        return text;
    }
    told(&mut text, trials);
    if trials.told.iter().any(|trial| trial.fault == Fault::Swap) {
        commands(&mut text, &sides(waits));
    }
    memory(&mut text, trials);
    text
}

fn told(text: &mut String, trials: &Trials) {
    let mut by_fault: BTreeMap<Fault, Vec<&Trial>> = BTreeMap::new();
    trials.told.iter().for_each(|trial| by_fault.entry(trial.fault).or_default().push(trial));
    let _ = writeln!(
        text,
        "\n{:<16}{:<12} {:>8} {:>8} {:>8}  why",
        "version", "outcome", "ended", "served", "all same"
    );
    for (fault, trials) in by_fault {
        // Of those that go well one line says enough.
        let shown = if fault == Fault::Swap { 1 } else { trials.len() };
        for trial in &trials[..shown] {
            let Trial { outcome, line, ended, served, same, .. } = trial;
            let served = served.map_or_else(|| "-".to_owned(), short);
            let (ended, same) = (short(*ended), short(*same));
            let name = fault.name();
            let _ =
                writeln!(text, "{name:<16}{outcome:<12} {ended:>8} {served:>8} {same:>8}  {line}");
        }
        if trials.len() > shown {
            let mut all: Vec<Duration> = trials.iter().map(|trial| trial.ended).collect();
            all.sort();
            let (middle, most) = (all[all.len() / 2], all[all.len() - 1]);
            let (count, middle, most) = (trials.len(), short(middle), short(most));
            let _ = writeln!(text, "{:<16}{count} in all, half within {middle}, all {most}", "");
        }
    }
    let _ = writeln!(
        text,
        "ended: from the command to its end on record; served: of that, on some node; all same: until every node \
         said and served the same."
    );
}

fn commands(text: &mut String, sides: &Sides<'_>) {
    let _ = writeln!(
        text,
        "\n{:<16}{:>38}   {:>38}\n{:<16}{}   {}   p99.9",
        "",
        "without a swap",
        "with a swap under way",
        "command",
        heads(),
        heads(),
    );
    for (command, [calm, swap]) in sides {
        let ratio = match (calm, swap) {
            (Some(calm), Some(swap)) if !calm.permille(999).is_zero() => {
                let ratio = swap.permille(999).as_secs_f64() / calm.permille(999).as_secs_f64();
                format!("{ratio:.2}x")
            }
            _ => "-".to_owned(),
        };
        let _ = writeln!(text, "{command:<16}{}   {}   {ratio:>5}", row(*calm), row(*swap));
    }
}

fn heads() -> String {
    format!("{:>7}{:>7}{:>8}{:>8}{:>8}", "calls", "p50", "p99", "p99.9", "longest")
}

fn row(times: Option<&Times>) -> String {
    let Some(times) = times else { return format!("{:>38}", "-") };
    let [half, most, nearly] = [500, 990, 999].map(|permille| short(times.permille(permille)));
    let (count, longest) = (times.count, short(times.longest));
    format!("{count:>7}{half:>7}{most:>8}{nearly:>8}{longest:>8}")
}

fn memory(text: &mut String, trials: &Trials) {
    let _ = writeln!(
        text,
        "\n{:<8}{:<6}{:>14}{:>10}{:>9}",
        "swaps", "node", "resident", "mappings", "threads"
    );
    for memory in &trials.memory {
        let mib = memory.resident_kib / 1024;
        let _ = writeln!(
            text,
            "{:<8}{:<6}{mib:>10} MiB{:>10}{:>9}",
            memory.swaps, memory.node, memory.mappings, memory.threads
        );
    }
}

/// For programs.
pub fn json(waits: &Waits, trials: &Trials) -> Value {
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let times = |times: Option<&Times>| {
        times.map(|times| {
            json!({
                "calls": times.count,
                "p50_ms": millis(times.permille(500)),
                "p99_ms": millis(times.permille(990)),
                "p999_ms": millis(times.permille(999)),
                "longest_ms": millis(times.longest),
            })
        })
    };
    let command = |(command, [calm, swap]): (&&str, &[Option<&Times>; 2])| json!({ "command": command, "without": times(*calm), "with": times(*swap) });
    let told = |trial: &Trial| {
        json!({
            "version": trial.fault.name(),
            "outcome": trial.outcome,
            "why": trial.line,
            "ended_ms": millis(trial.ended),
            "served_ms": trial.served.map(millis),
            "all_same_ms": millis(trial.same),
        })
    };
    let memory = trials.memory.iter().map(|memory| {
        json!({
            "swaps": memory.swaps,
            "node": memory.node,
            "resident_kib": memory.resident_kib,
            "mappings": memory.mappings,
            "threads": memory.threads,
        })
    });
    json!({
        "permanent": trials.permanent,
        "deployments": trials.told.iter().map(told).collect::<Vec<_>>(),
        "commands": sides(waits).iter().map(command).collect::<Vec<_>>(),
        "memory": memory.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_stand_beside_each_other() {
        let (mut waits, mut trials) = (Waits::default(), Trials::default());
        assert_eq!(text(&waits, &trials), "", "a run without swaps says nothing of them");
        for (fault, millis) in [(Fault::Calm, 10), (Fault::Swap, 30), (Fault::Kill, 900)] {
            let times = waits.of(fault).commands.entry("APPEND".to_owned()).or_default();
            times.add(Duration::from_millis(millis));
        }
        let trial = Trial {
            fault: Fault::Swap,
            outcome: "permanent".to_owned(),
            line: String::new(),
            ended: Duration::from_secs(4),
            served: None,
            same: Duration::ZERO,
        };
        trials.told = vec![trial.clone(), trial];
        let text = text(&waits, &trials);
        let row = text.lines().find(|line| line.starts_with("APPEND")).expect("a row");
        assert!(row.contains("10 ms") && row.contains("30 ms") && row.ends_with("3.00x"), "{row}");
        assert!(text.contains("2 in all, half within 4.00 s"), "{text}");
        let json = json(&waits, &trials);
        assert_eq!(json["commands"][0]["without"]["calls"], 1);
    }
}
