//! The limit that the disk sets: append and fdatasync of the same octets, batched the same way (all
//! that wait are written and synced together).

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

#[derive(Default)]
struct Queue {
    /// Writers that wait, by ticket.
    waiting: u64,
    /// Tickets that are durable.
    durable: u64,
    stop: bool,
}

/// Messages a second that `writers` threads append durably.
pub fn appends(
    folder: &Path,
    octets: usize,
    writers: usize,
    time: Duration,
) -> anyhow::Result<f64> {
    let path = folder.join("raw");
    let mut file = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
    let shared = Arc::new((Mutex::new(Queue::default()), Condvar::new()));
    let start = Instant::now();
    let threads: Vec<_> = (0..writers)
        .map(|_| {
            let shared = shared.clone();
            std::thread::spawn(move || writer(&shared, start, time))
        })
        .collect();
    let body = vec![b'x'; octets];
    loop {
        let (from, upto) = {
            let mut queue = shared.0.lock().expect("no writer panics");
            while queue.waiting == queue.durable && !queue.stop {
                queue = shared.1.wait(queue).expect("no writer panics");
            }
            (queue.durable, queue.waiting)
        };
        if from == upto {
            break;
        }
        file.write_all(&body.repeat((upto - from) as usize))?;
        file.sync_data()?;
        shared.0.lock().expect("no writer panics").durable = upto;
        shared.1.notify_all();
        if start.elapsed() >= time {
            shared.0.lock().expect("no writer panics").stop = true;
        }
    }
    let done: u64 = threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();
    let rate = done as f64 / start.elapsed().as_secs_f64();
    std::fs::remove_file(&path)?;
    Ok(rate)
}

fn writer(shared: &(Mutex<Queue>, Condvar), start: Instant, time: Duration) -> u64 {
    let mut done = 0;
    while start.elapsed() < time {
        let mut queue = shared.0.lock().expect("no panic");
        if queue.stop {
            break;
        }
        queue.waiting += 1;
        let ticket = queue.waiting;
        shared.1.notify_all();
        while queue.durable < ticket {
            queue = shared.1.wait(queue).expect("no panic");
        }
        done += 1;
    }
    // Wakes the syncing thread for the last time.
    shared.0.lock().expect("no panic").stop = true;
    shared.1.notify_all();
    done
}
