//! `postroom store logs`: what a store's components print on a node, and what happens to them there.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::args::NodeDoor;
use super::deploy::STORE;
use super::output::Output;
use super::remote::{Remote, Silence};
use crate::front::admin::stores::{StoreLine, StoreLog};

/// How often `--follow` looks.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);

/// How far it was read.
#[derive(Default)]
struct Place {
    /// Which journal, by its begin.
    began_ms: i64,
    /// The last line of it that was seen.
    after: u64,
}

/// What is new in an answer.
#[derive(Debug, PartialEq, Eq)]
enum News {
    /// The node was started anew: its journal begins again.
    Anew,
    /// So many lines were forgotten before they were read.
    Forgotten(u64),
    Line(StoreLine),
}

impl Place {
    /// What an answer has that was not seen yet, and where to go on.
    fn read(&mut self, log: StoreLog) -> Vec<News> {
        let mut news = Vec::new();
        let (first, anew) = (self.began_ms == 0, self.began_ms != log.began_ms);
        if anew && !first {
            news.push(News::Anew);
        }
        if anew && self.after > 0 {
            // It was asked for what follows a number of another journal: the next answer has all.
            *self = Self { began_ms: log.began_ms, after: 0 };
            return news;
        }
        if log.forgotten > 0 && !first {
            news.push(News::Forgotten(log.forgotten));
        }
        *self = Self { began_ms: log.began_ms, after: log.last };
        news.extend(log.lines.into_iter().map(News::Line));
        news
    }
}

/// A line as it is printed in JSON: those of several nodes may end up in one file.
#[derive(Serialize)]
struct Told<'a> {
    node: &'a str,
    #[serde(flatten)]
    line: &'a StoreLine,
}

/// `postroom store logs`.
pub fn logs(
    store: &str,
    node: Option<&str>,
    follow: bool,
    door: &NodeDoor,
    output: &Output,
) -> Result<()> {
    let remote = Remote::of(door)?;
    let (mut place, mut silence) = (Place::default(), Silence::default());
    loop {
        match asked(&remote, store, place.after) {
            Ok(log) => {
                silence.ends();
                let here = log.node.clone();
                ensure!(
                    node.is_none_or(|node| node == here),
                    "the node at --admin is {here}: each node remembers what its own components print"
                );
                for news in place.read(log) {
                    tell(&here, news, output)?;
                }
            }
            Err(_) if follow && place.began_ms != 0 && silence.is_bearable() => {}
            Err(error) => return Err(error),
        }
        if !follow {
            return Ok(());
        }
        std::thread::sleep(FOLLOW_EVERY);
    }
}

fn asked(remote: &Remote, store: &str, after: u64) -> Result<StoreLog> {
    let after = after.to_string();
    remote
        .get("/v1/stores/logs", &[(STORE, store), ("after", after.as_str())])
        .context("the journal")
}

fn tell(node: &str, news: News, output: &Output) -> Result<()> {
    match news {
        News::Anew => output.warn(&format!("node {node} was started anew")),
        News::Forgotten(count) => {
            output.warn(&format!("{count} lines were forgotten before they were read"));
        }
        News::Line(line) => {
            output.result(&Told { node, line: &line }, || shown(node, &line))?;
        }
    }
    Ok(())
}

fn shown(node: &str, line: &StoreLine) -> String {
    let generation = match line.generation {
        Some(number) => format!(" (generation {number})"),
        None if line.instance.is_some() => " (not serving)".to_owned(),
        None => String::new(),
    };
    let instance = line.instance.map_or(String::new(), |number| format!(" instance {number}"));
    let (at, version, what, text) = (utc(line.at_ms), &line.version, &line.what, &line.text);
    format!("{at} {node} {version}{generation}{instance} {what}: {text}")
}

fn utc(ms: i64) -> String {
    let time = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000);
    let format = time::macros::format_description!(
        "[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:3]Z"
    );
    time.ok().and_then(|time| time.format(format).ok()).unwrap_or_else(|| ms.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u64) -> StoreLine {
        StoreLine {
            number,
            at_ms: 1_700_000_000_123,
            version: "keyed 1".into(),
            generation: Some(2),
            instance: None,
            what: "event".into(),
            text: format!("line {number}"),
        }
    }

    fn log(began_ms: i64, numbers: &[u64], forgotten: u64, last: u64) -> StoreLog {
        let lines = numbers.iter().map(|number| line(*number)).collect();
        StoreLog { store: "mail".into(), node: "a".into(), began_ms, lines, forgotten, last }
    }

    #[test]
    fn each_line_is_told_once_also_when_the_node_starts_anew() {
        let mut place = Place::default();
        // What was forgotten before anybody looked is no news.
        assert_eq!(place.read(log(5, &[8, 9], 7, 9)), [News::Line(line(8)), News::Line(line(9))]);
        assert_eq!(place.read(log(5, &[], 0, 9)), []);
        let late = place.read(log(5, &[20], 10, 20));
        assert_eq!(late, [News::Forgotten(10), News::Line(line(20))]);
        assert_eq!(place.read(log(6, &[], 0, 3)), [News::Anew]);
        assert_eq!((place.after, place.began_ms), (0, 6));
        assert_eq!(place.read(log(6, &[1], 0, 1)), [News::Line(line(1))]);
    }

    #[test]
    fn a_line_says_when_where_and_of_which_version() {
        let text = shown("a", &line(1));
        assert_eq!(text, "2023-11-14 22:13:20.123Z a keyed 1 (generation 2) event: line 1");
    }
}
