//! A directory of users over HTTP, as somebody else would run it: one thread, one request a
//! connection.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use postroom_guest::User;
use serde_json::{Value, json};

/// What it answers, whatever it is asked: status and body.
type Answer = Option<(u16, &'static str)>;

pub struct Directory {
    address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    stopped: Mutex<Option<JoinHandle<()>>>,
}

impl Directory {
    /// Serves these users until [`stop`](Self::stop).
    pub fn start(users: Vec<User>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let answer: Arc<Mutex<Answer>> = Arc::default();
        let users = users.into_iter().map(|user| (user.name.clone(), user)).collect();
        let serve = {
            let answer = answer.clone();
            move || {
                for connection in listener.incoming() {
                    let fixed = *answer.lock().expect("nobody panics with it");
                    let connection = connection.expect("a connection");
                    if !serve(connection, &users, fixed) {
                        return;
                    }
                }
            }
        };
        let stopped = Mutex::new(Some(std::thread::spawn(serve)));
        Self { address, answer, stopped }
    }

    /// What the store is told.
    pub fn url(&self) -> String {
        format!("http://{}/directory", self.address)
    }

    /// From now on it answers this; `None`: what is true.
    pub fn answer(&self, answer: Answer) {
        *self.answer.lock().expect("nobody panics with it") = answer;
    }

    /// Takes no more connections; returns when that is so.
    pub fn stop(&self) {
        let thread = self.stopped.lock().expect("nobody panics with it").take();
        if let Some(thread) = thread {
            let mut last = TcpStream::connect(self.address).expect("it still listens");
            last.write_all(b"STOP / HTTP/1.1\r\n\r\n").expect("a request");
            thread.join().expect("the thread ends");
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Answers one request; whether to go on.
fn serve(connection: TcpStream, users: &BTreeMap<String, User>, fixed: Answer) -> bool {
    let mut reader = BufReader::new(connection);
    let mut request = String::new();
    reader.read_line(&mut request).expect("a request line");
    let mut line = String::new();
    while reader.read_line(&mut line).expect("a header") > 2 {
        line.clear();
    }
    let mut words = request.split(' ');
    if words.next() == Some("STOP") {
        return false;
    }
    let (status, body) = match fixed {
        Some((status, body)) => (status, body.to_owned()),
        None => match answer(words.next().unwrap_or_default(), users) {
            Some(value) => (200, value.to_string()),
            None => (404, String::new()),
        },
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    let mut connection = reader.into_inner();
    // A client that has heard enough may have gone.
    let _ = connection.write_all(format!("{head}{body}").as_bytes());
    let _ = connection.shutdown(std::net::Shutdown::Write);
    let _ = connection.read(&mut [0; 1]);
    true
}

fn answer(target: &str, users: &BTreeMap<String, User>) -> Option<Value> {
    let path = target.strip_prefix("/directory/users")?;
    if let Some(name) = path.strip_prefix('/') {
        return users.get(&decoded(name)).map(entry);
    }
    let query = path.strip_prefix('?')?;
    let pairs: BTreeMap<&str, &str> =
        query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let limit: usize = pairs.get("limit")?.parse().ok()?;
    let after = pairs.get("after").map(|name| decoded(name));
    let mut rest = users.values().filter(|user| Some(&user.name) > after.as_ref());
    let page: Vec<Value> = rest.by_ref().take(limit).map(entry).collect();
    Some(json!({ "users": page, "more": rest.next().is_some() }))
}

fn entry(user: &User) -> Value {
    json!({ "name": user.name, "password": user.password, "quota_octets": user.quota_octets })
}

/// Percent-decoding.
fn decoded(text: &str) -> String {
    let mut octets = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = (*first == b'%' && tail.len() >= 2).then(|| {
            let digits = std::str::from_utf8(&tail[..2]).expect("ASCII");
            u8::from_str_radix(digits, 16).expect("hexadecimal")
        });
        octets.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8(octets).expect("UTF-8")
}
