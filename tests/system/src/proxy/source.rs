//! Whose connection it is: the kernel says which socket has an address, and which process has a socket.

use std::fs;
use std::net::{IpAddr, SocketAddr};

/// The inode of the socket of this machine that is bound to `local` and connected to `remote` (IPv4).
pub fn socket(local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    find(&fs::read_to_string("/proc/net/tcp").ok()?, local, remote)
}

/// Looks for it in the text of `/proc/net/tcp`.
fn find(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    let (local, remote) = (written(local)?, written(remote)?);
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let ours = fields.get(1) == Some(&&*local) && fields.get(2) == Some(&&*remote);
        ours.then(|| fields.get(9)?.parse().ok())?
    })
}

/// An address as the kernel writes it: the octets as a number of this machine, the port.
fn written(address: SocketAddr) -> Option<String> {
    let IpAddr::V4(ip) = address.ip() else { return None };
    Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port()))
}

/// Whether a process has this socket open.
pub fn holds(pid: u32, inode: u64) -> bool {
    let wanted = format!("socket:[{inode}]");
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut targets = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.any(|target| target.as_os_str() == &*wanted)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_is_found_and_this_process_has_it() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let there = listener.local_addr().unwrap();
        let stream = TcpStream::connect(there).unwrap();
        let here = stream.local_addr().unwrap();
        let inode = socket(here, there).expect("it is in the table");
        assert!(holds(std::process::id(), inode));
        assert!(!holds(std::process::id(), u64::MAX));
        drop(stream);
        assert_eq!(socket(there, there), None);
    }
}
