//! The proxy before one node's links.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, JoinSet};

use super::Net;
use super::carry::{Flow, carry};

/// Where the other nodes reach one.
pub struct LinkProxy {
    /// What the node advertises.
    pub address: SocketAddr,
    target: usize,
    upstream: SocketAddr,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

impl LinkProxy {
    /// For node number `target`, whose links listen at `upstream`. Takes no connections yet.
    pub fn new(target: usize, upstream: SocketAddr) -> Result<Self> {
        let address = crate::cluster::free_address()?;
        Ok(Self { address, target, upstream, accepting: Mutex::new(None) })
    }

    /// Takes connections.
    pub fn open(&self, runtime: &Runtime, net: &Arc<Net>) -> Result<()> {
        let mut accepting = self.accepting.lock().unwrap_or_else(PoisonError::into_inner);
        if accepting.is_none() {
            let listener = runtime.block_on(TcpListener::bind(self.address))?;
            let (net, target, upstream) = (net.clone(), self.target, self.upstream);
            *accepting = Some(runtime.spawn(accept(listener, net, target, upstream)));
        }
        Ok(())
    }

    /// Refuses connections, from when this comes back; those that there are end with their process.
    pub fn close(&self, runtime: &Runtime) {
        let accepting = self.accepting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = accepting {
            task.abort();
            // It says that it was ended.
            let _ = runtime.block_on(task);
        }
    }
}

async fn accept(listener: TcpListener, net: Arc<Net>, target: usize, upstream: SocketAddr) {
    // Ends with this task: when the process behind is gone, nothing is left to carry.
    let mut connections = JoinSet::new();
    loop {
        // Out of descriptors, or a client that has gone: the next one may do better.
        let Ok((stream, from)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let (net, to) = (net.clone(), listener.local_addr());
        connections.spawn(async move {
            let Ok(to) = to else { return };
            let found = net.clone();
            let source = tokio::task::spawn_blocking(move || found.source(from, to)).await;
            // Whoever has gone already is nobody.
            if let Ok(Some(source)) = source {
                connection(stream, upstream, (&net, source, target)).await;
            }
        });
    }
}

async fn connection(
    mut near: TcpStream,
    upstream: SocketAddr,
    (net, source, target): (&Net, usize, usize),
) {
    let (there, back) = (net.way(source, target), net.way(target, source));
    let is_cut = [&there, &back].iter().any(|way| *way.borrow() == Flow::Cut);
    let far = match is_cut {
        true => None,
        false => TcpStream::connect(upstream).await.ok(),
    };
    let Some(mut far) = far else {
        // Fails only where it has gone.
        let _ = near.set_zero_linger();
        return;
    };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let done = {
        let ((near_in, near_out), (far_in, far_out)) = (near.split(), far.split());
        tokio::try_join!(carry(near_in, far_out, there), carry(far_in, near_out, back))
    };
    if done.is_err() {
        let _ = (near.set_zero_linger(), far.set_zero_linger());
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use super::super::Proxies;
    use super::*;

    /// This process is node 0; node 1 echoes one octet after the other.
    fn check(work: impl FnOnce(&Proxies, SocketAddr)) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let echo = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut octet = [0];
                    while stream.read_exact(&mut octet).is_ok() {
                        if stream.write_all(&octet).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        let proxies = Proxies::start(&[echo, echo], &[], std::path::Path::new("/")).unwrap();
        proxies.runs(0, std::process::id());
        proxies.opens(1).unwrap();
        work(&proxies, proxies.address(1));
    }

    fn ask(stream: &mut TcpStream) -> std::io::Result<()> {
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0])
    }

    #[test]
    fn what_passes_is_delayed_and_halted_and_goes_on() {
        check(|proxies, address| {
            let mut stream = TcpStream::connect(address).unwrap();
            ask(&mut stream).unwrap();
            proxies.way(1, 0, Flow::Delay(Duration::from_millis(120)));
            let began = Instant::now();
            ask(&mut stream).unwrap();
            assert!(began.elapsed() >= Duration::from_millis(120));
            // One way only: the question does not arrive, and is not lost.
            proxies.around(1, Flow::Pass);
            proxies.way(0, 1, Flow::Halt);
            stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            assert_eq!(ask(&mut stream).unwrap_err().kind(), ErrorKind::WouldBlock);
            proxies.way(0, 1, Flow::Pass);
            stream.set_read_timeout(Some(crate::eventually::PATIENCE)).unwrap();
            stream.read_exact(&mut [0]).unwrap();
        });
    }

    #[test]
    fn a_cut_resets_what_there_is_and_what_comes_and_a_closed_one_refuses() {
        check(|proxies, address| {
            let mut stream = TcpStream::connect(address).unwrap();
            ask(&mut stream).unwrap();
            proxies.way(1, 0, Flow::Cut);
            assert!(ask(&mut stream).is_err());
            let mut other = TcpStream::connect(address).unwrap();
            assert!(ask(&mut other).is_err());
            proxies.around(1, Flow::Pass);
            ask(&mut TcpStream::connect(address).unwrap()).unwrap();
            proxies.ends(1);
            assert_eq!(
                TcpStream::connect(address).unwrap_err().kind(),
                ErrorKind::ConnectionRefused
            );
            proxies.opens(1).unwrap();
            ask(&mut TcpStream::connect(address).unwrap()).unwrap();
        });
    }

    #[test]
    fn a_process_that_is_no_node_is_not_let_in() {
        check(|proxies, address| {
            proxies.runs(0, 1);
            assert!(ask(&mut TcpStream::connect(address).unwrap()).is_err());
        });
    }
}
