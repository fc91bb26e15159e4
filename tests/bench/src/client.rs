//! The measuring IMAP client: reads large answers with few copies and no allocation for a response,
//! so that it is the server that is measured. It counts what came, and looks at nothing else.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;

use anyhow::{Context, ensure};
use memchr::memchr;
use postroom_system::eventually::PATIENCE;
use postroom_system::imap::literal;

/// Octets of the buffer of a new connection: idle ones are many.
const SMALL_BUFFER: usize = 4 << 10;
/// Octets that a buffer grows to when the server fills it: some bodies in one read.
const LARGE_BUFFER: usize = 1 << 20;

/// What came in answer to one command.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The tagged response without its tag.
    pub tagged: String,
    /// Untagged responses.
    pub responses: u64,
    /// Octets of everything.
    pub octets: u64,
}

/// One connection.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Where the octets begin that were not looked at yet.
    at: usize,
    /// Where they end.
    end: usize,
    received: u64,
    tag: u64,
}

impl Client {
    /// Connects and reads the greeting.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let buffer = vec![0; SMALL_BUFFER];
        let mut client = Self { stream, buffer, at: 0, end: 0, received: 0, tag: 0 };
        client.line()?;
        Ok(client)
    }

    /// Connects and logs in.
    pub fn log_in(address: SocketAddr, user: &str, password: &str) -> anyhow::Result<Self> {
        let mut client = Self::connect(address).context("connect")?;
        client.command(&format!("LOGIN {user} {password}"))?;
        Ok(client)
    }

    /// A command without literals, which must end OK.
    pub fn command(&mut self, command: &str) -> anyhow::Result<Answer> {
        let tag = self.next_tag();
        self.stream.write_all(format!("{tag}{command}\r\n").as_bytes())?;
        let answer = self.answer(&tag).with_context(|| command.to_owned())?;
        ensure!(answer.tagged.starts_with("OK"), "{command}: {}", answer.tagged);
        Ok(answer)
    }

    /// APPEND with a non-synchronising literal.
    pub fn append(&mut self, mailbox: &str, body: &[u8]) -> anyhow::Result<()> {
        let tag = self.send_append(mailbox, body)?;
        self.appended(&tag)
    }

    /// Sends an APPEND and returns its tag.
    pub fn send_append(&mut self, mailbox: &str, body: &[u8]) -> anyhow::Result<String> {
        let tag = self.next_tag();
        let head = format!("{tag}APPEND {mailbox} {{{}+}}\r\n", body.len());
        self.stream.write_all(&[head.as_bytes(), body, b"\r\n"].concat())?;
        Ok(tag)
    }

    /// Waits for the OK of an APPEND.
    pub fn appended(&mut self, tag: &str) -> anyhow::Result<()> {
        let answer = self.answer(tag).context("APPEND")?;
        ensure!(answer.tagged.starts_with("OK"), "APPEND: {}", answer.tagged);
        Ok(())
    }

    /// Sends IDLE and waits for the server's go-ahead.
    pub fn idle(&mut self) -> anyhow::Result<()> {
        let tag = self.next_tag();
        self.stream.write_all(format!("{tag}IDLE\r\n").as_bytes())?;
        loop {
            let line = self.line()?;
            let line = &self.buffer[line];
            ensure!(!line.starts_with(tag.as_bytes()), "IDLE was refused");
            if line.starts_with(b"+") {
                return Ok(());
            }
        }
    }

    /// Waits, in IDLE, for an EXISTS.
    pub fn exists(&mut self) -> io::Result<()> {
        loop {
            let line = self.line()?;
            if self.buffer[line].ends_with(b" EXISTS\r\n") {
                return Ok(());
            }
        }
    }

    fn next_tag(&mut self) -> String {
        self.tag += 1;
        format!("t{} ", self.tag)
    }

    /// Octets that were looked at.
    fn consumed(&self) -> u64 {
        self.received - (self.end - self.at) as u64
    }

    fn answer(&mut self, tag: &str) -> io::Result<Answer> {
        let (before, mut responses) = (self.consumed(), 0);
        loop {
            let mut line = self.line()?;
            if let Some(tagged) = self.buffer[line.clone()].strip_prefix(tag.as_bytes()) {
                let tagged = String::from_utf8_lossy(tagged).trim_end().to_owned();
                return Ok(Answer { tagged, responses, octets: self.consumed() - before });
            }
            responses += 1;
            while let Some(octets) = literal(&self.buffer[line]) {
                self.skip(octets)?;
                line = self.line()?;
            }
        }
    }

    /// One line with its end, as a part of the buffer: valid until the next read.
    fn line(&mut self) -> io::Result<Range<usize>> {
        let mut searched = 0;
        loop {
            let waiting = &self.buffer[self.at..self.end];
            if let Some(found) = memchr(b'\n', &waiting[searched..]) {
                let line = self.at..self.at + searched + found + 1;
                self.at = line.end;
                return Ok(line);
            }
            searched = waiting.len();
            self.read()?;
        }
    }

    fn skip(&mut self, mut octets: usize) -> io::Result<()> {
        loop {
            let here = octets.min(self.end - self.at);
            self.at += here;
            octets -= here;
            if octets == 0 {
                return Ok(());
            }
            self.read()?;
        }
    }

    /// Reads more, after what waits.
    fn read(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.at..self.end, 0);
        self.end -= self.at;
        self.at = 0;
        if self.end == self.buffer.len() {
            self.buffer.resize(self.end * 2, 0);
        }
        let room = self.buffer.len() - self.end;
        let read = loop {
            match self.stream.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => break done?,
            }
        };
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.end += read;
        self.received += read as u64;
        if read == room && self.buffer.len() < LARGE_BUFFER {
            self.buffer.resize(self.buffer.len() * 4, 0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that says all of `said` and hears what it hears.
    fn client(said: Vec<u8>) -> Client {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&said).unwrap();
            // Until the client goes away.
            let _ = stream.read_to_end(&mut Vec::new());
        });
        Client::connect(address).unwrap()
    }

    #[test]
    fn responses_and_octets_are_counted_over_literals_of_any_size() {
        let mut said = b"* OK hello\r\n".to_vec();
        let body = vec![b'\n'; 3 << 20];
        let mut answer = format!("* 1 FETCH (BODY[] {{{}}}\r\n", body.len()).into_bytes();
        answer.extend(&body);
        answer.extend(b" FLAGS ())\r\n* 2 FETCH (BODY[] {3}\r\nt1  FLAGS ())\r\n* 3 EXISTS\r\n");
        answer.extend(b"t1 OK done\r\n");
        said.extend(&answer);
        said.extend(b"t2 NO never\r\n");
        let mut client = client(said);
        let got = client.command("FETCH").unwrap();
        assert_eq!((got.responses, got.tagged.as_str()), (3, "OK done"));
        assert_eq!(got.octets, answer.len() as u64);
        assert!(client.command("SELECT").is_err(), "NO is an error");
    }
}
