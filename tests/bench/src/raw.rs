//! The limit that the disk sets: append and fdatasync of the same octets, batched the same way (all
//! that wait are written and synced together).

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::{Duration, Instant};

use crate::mail;

/// Messages a second that so many threads append durably, one after the other each.
pub fn appends(folder: &Path, writers: usize, time: Duration) -> anyhow::Result<f64> {
    let path = folder.join("raw");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.append(true).create_new(true).mode(0o600).open(&path)?;
    let body = mail::message(0);
    let start = Instant::now();
    let done = std::thread::scope(|scope| {
        let (requests, waiting) = mpsc::sync_channel(writers);
        let threads: Vec<_> = (0..writers)
            .map(|_| {
                let requests = requests.clone();
                scope.spawn(move || writer(&requests, start, time))
            })
            .collect();
        // From here on only writers keep the queue open: it ends when they do.
        drop(requests);
        sync_groups(waiting, |messages| {
            file.write_all(&body.repeat(messages))?;
            file.sync_data()
        })?;
        anyhow::Ok(threads.into_iter().map(|thread| thread.join().expect("no panic")).sum::<u64>())
    })?;
    let rate = done as f64 / start.elapsed().as_secs_f64();
    std::fs::remove_file(&path)?;
    Ok(rate)
}

/// Takes whatever waits, makes it durable together, answers all of it; after an error nobody is
/// answered any more.
fn sync_groups(
    waiting: Receiver<SyncSender<()>>,
    mut make_durable: impl FnMut(usize) -> std::io::Result<()>,
) -> std::io::Result<()> {
    while let Ok(first) = waiting.recv() {
        let group: Vec<_> = std::iter::once(first).chain(waiting.try_iter()).collect();
        make_durable(group.len())?;
        // A writer waits for its answer and for nothing else.
        group.iter().for_each(|answer| answer.send(()).expect("the writer waits"));
    }
    Ok(())
}

fn writer(requests: &SyncSender<SyncSender<()>>, start: Instant, time: Duration) -> u64 {
    let mut done = 0;
    while start.elapsed() < time {
        let (answer, answered) = mpsc::sync_channel(1);
        // Fails when the disk did; whoever syncs says so.
        if requests.send(answer).is_err() || answered.recv().is_err() {
            break;
        }
        done += 1;
    }
    done
}
