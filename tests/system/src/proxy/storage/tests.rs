//! A node that is three messages and a server that is one answer: where a commit is caught, and let go.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use super::*;
use crate::eventually::{PATIENCE, eventually};

/// How long something is looked for that must not come.
const NEVER: Duration = Duration::from_millis(150);
/// Most messages that the server notes.
const MAX_NOTED: usize = 64;

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

fn read(stream: &mut UnixStream) -> std::io::Result<u8> {
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let length = u32::from_be_bytes(head[1..].try_into().expect("four octets"));
    stream.read_exact(&mut vec![0; length as usize - 4])?;
    Ok(head[0])
}

/// The proxy, a connection through it that has prepared a commit, and the kinds of messages that have
/// reached the server, which answers each Sync with `answer`.
fn check(answer: Vec<u8>, work: impl FnOnce(&StorageProxy, UnixStream, Receiver<u8>)) {
    let folder = crate::scratch();
    let server = folder.path().join("server");
    let listener = UnixListener::bind(&server).unwrap();
    let (note, noted) = sync_channel(MAX_NOTED);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, note, answer) = (stream.unwrap(), note.clone(), answer.clone());
            std::thread::spawn(move || {
                // The first message has no kind: a length of eight and four octets more.
                if stream.read_exact(&mut [0; 8]).is_err() {
                    return;
                }
                while let Ok(kind) = read(&mut stream) {
                    let told = note.send(kind).is_ok();
                    if !told || (kind == b'S' && stream.write_all(&answer).is_err()) {
                        return;
                    }
                }
            });
        }
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let inside = runtime.enter();
    let proxy = StorageProxy::start(&folder.path().join("node"), &server).unwrap();
    drop(inside);
    let mut node = UnixStream::connect(proxy.folder().join(SOCKET)).unwrap();
    node.set_read_timeout(Some(PATIENCE)).unwrap();
    let text = b"s1\0WITH x AS (y) SELECT 1 / (CASE WHEN true THEN 1 ELSE 0 END)\0\0\0";
    let startup = [&8_u32.to_be_bytes()[..], &196_608_u32.to_be_bytes()].concat();
    node.write_all(&[startup, message(b'P', text)].concat()).unwrap();
    assert_eq!(noted.recv_timeout(PATIENCE), Ok(b'P'));
    work(&proxy, node, noted);
}

fn commit(node: &mut UnixStream) {
    node.write_all(&[message(b'B', b"\0s1\0\0\0"), message(b'S', b"")].concat()).unwrap();
}

#[test]
fn a_statement_is_held_back_and_its_answer_is_told() {
    let refused = message(b'E', b"SERROR\0C22012\0Mdivision by zero\0\0");
    for (answer, verdict) in [
        (refused, Verdict::Refused("22012".to_owned())),
        (message(b'C', b"SELECT 1\0"), Verdict::Done),
    ] {
        check(answer, |proxy, mut node, noted| {
            proxy.arm(Trap::Statement);
            commit(&mut node);
            eventually("it is caught", || proxy.has_caught().then_some(()));
            assert!(noted.recv_timeout(NEVER).is_err(), "it has reached the server");
            assert_eq!(proxy.verdict(), None);
            proxy.release();
            assert_eq!(noted.recv_timeout(PATIENCE), Ok(b'B'));
            assert_eq!(eventually("a verdict", || proxy.verdict()), verdict);
            read(&mut node).unwrap();
            // The next one is not caught.
            commit(&mut node);
            read(&mut node).unwrap();
        });
    }
}

#[test]
fn an_answer_is_held_back_when_the_server_has_all_of_the_statement() {
    check(message(b'C', b"SELECT 1\0"), |proxy, mut node, noted| {
        proxy.arm(Trap::Answer);
        commit(&mut node);
        assert_eq!(noted.recv_timeout(PATIENCE), Ok(b'B'));
        assert_eq!(noted.recv_timeout(PATIENCE), Ok(b'S'));
        eventually("it is caught", || proxy.has_caught().then_some(()));
        node.set_read_timeout(Some(NEVER)).unwrap();
        assert!(read(&mut node).is_err(), "the answer has come back");
        node.set_read_timeout(Some(PATIENCE)).unwrap();
        proxy.release();
        assert_eq!(read(&mut node).unwrap(), b'C');
    });
}

#[test]
fn a_way_is_cut_and_opened_again_and_rubbish_ends_only_its_own_connection() {
    check(message(b'C', b"SELECT 1\0"), |proxy, mut node, _noted| {
        proxy.set(Flow::Cut);
        assert!(read(&mut node).is_err());
        proxy.set(Flow::Pass);
        let again = || UnixStream::connect(proxy.folder().join(SOCKET)).unwrap();
        let mut rubbish = again();
        rubbish.set_read_timeout(Some(PATIENCE)).unwrap();
        rubbish.write_all(&[0xff; 64]).unwrap();
        assert!(matches!(rubbish.read(&mut [0]), Ok(0) | Err(_)));
        let mut node = again();
        let startup = [&8_u32.to_be_bytes()[..], &196_608_u32.to_be_bytes()].concat();
        node.write_all(&[startup, message(b'S', b"")].concat()).unwrap();
        assert_eq!(read(&mut node).unwrap(), b'C');
    });
}
