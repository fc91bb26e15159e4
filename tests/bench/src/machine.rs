//! What the figures were made on, and what the system knows of its processes (`/proc`).

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

/// Processor, kernel and file system, in one line.
pub fn description(folder: &Path) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, name)| name);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let (kernel, files) = (read("/proc/sys/kernel/osrelease"), file_system(folder));
    format!("{processors} × {model}, Linux {}, {files}", kernel.trim())
}

/// The type of the file system of a folder.
pub fn file_system(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mount = |line: &str| {
        let (place, files) = line.split_once(" - ")?;
        let point = place.split(' ').nth(4)?;
        let kind = files.split(' ').next()?;
        folder.starts_with(point).then(|| (point.len(), kind.to_owned()))
    };
    // The longest mount point that the folder lies under; of the same one, the last.
    let found = mounts.lines().filter_map(mount).max_by_key(|(length, _)| *length);
    found.map_or("unknown file system".into(), |(_, kind)| kind)
}

/// Proportional set size of a process, in KiB.
pub fn pss(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&path).context(path)?;
    figure(&text, "Pss:").context("no Pss")
}

/// Octets that a process and those of its children that have ended have handed to the medium's
/// cache, whole pages: what the system will write, its own journal apart.
pub fn written(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/io");
    let text = std::fs::read_to_string(&path).context(path)?;
    figure(&text, "write_bytes:").context("no write_bytes")
}

fn figure(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// A process and all below it.
pub fn tree(root: u32) -> Vec<u32> {
    let parents = parents();
    let mut tree = vec![root];
    let mut at = 0;
    while let Some(parent) = tree.get(at).copied() {
        tree.extend(parents.iter().filter(|(_, p)| **p == parent).map(|(pid, _)| pid));
        at += 1;
    }
    tree
}

/// The parent of each process.
fn parents() -> BTreeMap<u32, u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| Some((pid, parent(pid)?))).collect()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may have anything in it; after it: state, parent.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Time that all threads of a process have been on a processor, those that have ended too.
pub fn processor_time(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).context(path)?;
    let rest = stat.rsplit_once(')').context("no name")?.1;
    // After the state: eleven numbers, then user and system time, in hundredths of a second.
    let ticks = rest.split_ascii_whitespace().skip(11).take(2);
    let ticks: Vec<u64> = ticks.map(str::parse).collect::<Result<_, _>>()?;
    Ok(Duration::from_millis(10 * ticks.iter().sum::<u64>()))
}

/// Time that this thread has been on a processor.
pub fn thread_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|text| text.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

/// Files that this process, and the servers that it starts, may have open.
pub fn open_files() -> u64 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    figure(&limits, "Max open files").map_or(u64::MAX, |limit| limit as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_knows_this_process() {
        let own = std::process::id();
        assert!(pss(own).unwrap() > 100.0);
        assert!(written(own).unwrap() >= 0.0);
        assert_eq!(tree(own).first(), Some(&own));
        assert!(tree(parent(own).unwrap()).contains(&own));
        assert!(open_files() > 0);
        assert_ne!(file_system(Path::new("/proc/self")), file_system(Path::new("/")));
    }
}
