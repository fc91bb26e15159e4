//! A blunt IMAP client: sends what it is told, returns what came.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::eventually::PATIENCE;

/// What the server said to one command.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Untagged responses with their literals in place, without the last CRLF.
    pub untagged: Vec<Vec<u8>>,
    /// The tagged response without its tag.
    pub tagged: String,
}

impl Answer {
    /// Whether it was tagged OK.
    pub fn is_ok(&self) -> bool {
        self.tagged.starts_with("OK")
    }

    /// Untagged responses as text, what is no UTF-8 replaced.
    pub fn lines(&self) -> Vec<String> {
        self.untagged.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect()
    }

    /// The numbers of an APPENDUID or COPYUID code: everything after its name.
    pub fn code(&self, name: &str) -> Option<Vec<String>> {
        let all = self.lines().join("\n") + "\n" + &self.tagged;
        let rest = all.split_once(&format!("[{name} "))?.1;
        let inside = rest.split_once(']')?.0;
        Some(inside.split(' ').map(str::to_owned).collect())
    }
}

/// One IMAP connection.
pub struct ImapClient {
    stream: BufReader<TcpStream>,
    tag: u64,
}

impl ImapClient {
    /// Connects and reads the greeting.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut client = Self { stream: BufReader::new(stream), tag: 0 };
        client.response()?;
        Ok(client)
    }

    /// How long it waits for whatever it reads.
    pub fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.stream.get_ref().set_read_timeout(Some(patience))
    }

    /// Connects and logs in.
    pub fn log_in(address: SocketAddr, user: &str, password: &str) -> io::Result<Self> {
        let mut client = Self::connect(address)?;
        let answer = client.command(&format!("LOGIN {user} {password}"))?;
        if !answer.is_ok() {
            return Err(io::Error::other(answer.tagged));
        }
        Ok(client)
    }

    /// Sends a command without literals and reads until its tagged response.
    pub fn command(&mut self, command: &str) -> io::Result<Answer> {
        let tag = self.next_tag();
        self.send(format!("{tag} {command}\r\n").as_bytes())?;
        self.until(&tag)
    }

    /// APPEND with a non-synchronising literal.
    pub fn append(&mut self, mailbox: &str, arguments: &str, body: &[u8]) -> io::Result<Answer> {
        let tag = self.next_tag();
        let head = format!("{tag} APPEND {mailbox} {arguments}{{{}+}}\r\n", body.len());
        self.send(&[head.as_bytes(), body, b"\r\n"].concat())?;
        self.until(&tag)
    }

    /// Sends octets as they are.
    pub fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(octets)
    }

    /// Reads one response, literals included, without its last CRLF.
    pub fn response(&mut self) -> io::Result<Vec<u8>> {
        let mut response = Vec::new();
        loop {
            let before = response.len();
            if self.stream.read_until(b'\n', &mut response)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if !response.ends_with(b"\r\n") {
                return Err(io::Error::other("a line without CRLF"));
            }
            let Some(octets) = literal(&response[before..]) else { break };
            let start = response.len();
            response.resize(start + octets, 0);
            self.stream.read_exact(&mut response[start..])?;
        }
        response.truncate(response.len() - 2);
        Ok(response)
    }

    /// As [`response`](Self::response), or `None` where none begins within a time. What has begun is read to
    /// its end with `patience`.
    pub fn response_within(
        &mut self,
        time: Duration,
        patience: Duration,
    ) -> io::Result<Option<Vec<u8>>> {
        self.set_patience(time)?;
        let begun = self.stream.fill_buf().map(|octets| octets.len());
        self.set_patience(patience)?;
        match begun {
            Ok(_) => self.response().map(Some),
            // A signal to this process is no news either.
            Err(error) if is_timeout(&error) || error.kind() == io::ErrorKind::Interrupted => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads responses until the tagged one.
    pub fn until(&mut self, tag: &str) -> io::Result<Answer> {
        let mut answer = Answer::default();
        loop {
            let response = self.response()?;
            if let Some(rest) = response.strip_prefix(format!("{tag} ").as_bytes()) {
                answer.tagged = String::from_utf8_lossy(rest).into_owned();
                return Ok(answer);
            }
            answer.untagged.push(response);
        }
    }

    fn next_tag(&mut self) -> String {
        self.tag += 1;
        format!("t{}", self.tag)
    }
}

/// Whether an error says that nothing came in time.
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// The octets of the literal that a line announces at its end.
pub fn literal(line: &[u8]) -> Option<usize> {
    let line = line.strip_suffix(b"}\r\n")?;
    let open = line.iter().rposition(|&octet| octet == b'{')?;
    std::str::from_utf8(&line[open + 1..]).ok()?.parse().ok()
}

/// A command that must end OK; its untagged responses.
pub fn ok(client: &mut ImapClient, command: &str) -> Vec<String> {
    let answer = client.command(command).unwrap_or_else(|error| panic!("{command}: {error}"));
    assert!(answer.is_ok(), "{command}: {}", answer.tagged);
    answer.lines()
}
