//! Who idles: it has to be told of what comes, wherever it was delivered.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::client::{Client, Ended};

/// How long it idles at a time, when nothing comes.
const IDLE: Duration = Duration::from_secs(2);
/// By when it must have been told of what was acknowledged: the longest that a take-over may last, twice.
const TOLD_AFTER: Duration = Duration::from_secs(12);
/// How often it idles before it leaves and comes again.
const TIMES: usize = 60;

/// One connection of it.
pub fn life(client: &mut Client) -> Result<(), Ended> {
    let account = client.random.below(client.load.accounts.len() as u64) as usize;
    let mut imap = client.select(account)?;
    // Of what is there already it is told as it selects.
    let last = client.recent(1);
    let mut from = 1 + match client.look(&mut imap, last)? {
        Some(found) => found.iter().map(|message| message.place.1).max().unwrap_or(0),
        None => return Err(Ended::Refused),
    };
    // What has been acknowledged and not yet told: since when it could have been.
    let mut known = BTreeSet::new();
    for _ in 0..TIMES {
        if client.is_over() {
            break;
        }
        let (mut own_node_was_hit, then) = (false, client.load.now());
        let (began, told) = client.idle(&mut imap, IDLE + TOLD_AFTER * 2, |client, began| {
            own_node_was_hit |= client.load.now().node == Some(client.node);
            let now = Instant::now();
            let waits = began.elapsed() < IDLE || is_untold(client, (began, now), &known);
            client.load.is_over() || !waits || is_untold(client, (began, now - TOLD_AFTER), &known)
        })?;
        own_node_was_hit |= client.load.now().node == Some(client.node);
        let ended = Instant::now();
        if told.is_none() && !client.command(&mut imap, "NOOP")?.is_ok() {
            continue;
        }
        let Some(found) = client.look(&mut imap, from)? else { continue };
        for message in found.iter().filter(|message| message.place.1 >= from) {
            known.insert(message.attempt.clone());
            let at = client.load.acknowledged_at(account, &message.attempt);
            let Some(at) = at.filter(|at| *at > began) else { continue };
            match told {
                // A node that stands still tells nobody.
                Some(_) if own_node_was_hit => {}
                Some(told) => {
                    let time = told.saturating_duration_since(at);
                    client.load.note_since(then, |met| met.told.add(time));
                }
                None if ended > at + TOLD_AFTER && !own_node_was_hit => {
                    let (attempt, time) = (&message.attempt, ended - at);
                    client.wrong(format!("idled, and was not told of {attempt} for {time:.1?}"));
                }
                None => {}
            }
        }
        let largest = found.iter().map(|message| message.place.1 + 1).max();
        from = largest.unwrap_or(from).max(from);
    }
    client.command(&mut imap, "LOGOUT")?;
    Ok(())
}

/// Whether something was acknowledged between two moments of which it does not know.
fn is_untold(client: &Client, (from, to): (Instant, Instant), known: &BTreeSet<String>) -> bool {
    let acknowledged = client.load.acknowledged_between(client.account, from, to);
    acknowledged.iter().any(|attempt| !known.contains(attempt))
}
