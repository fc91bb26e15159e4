//! A blunt LMTP client.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::eventually::PATIENCE;

/// One LMTP connection.
pub struct LmtpClient {
    stream: BufReader<TcpStream>,
}

impl LmtpClient {
    /// Connects, reads the greeting, says LHLO.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut client = Self { stream: BufReader::new(stream) };
        client.reply()?;
        client.command("LHLO test.example")?;
        Ok(client)
    }

    /// How long it waits for whatever it reads.
    pub fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.stream.get_ref().set_read_timeout(Some(patience))
    }

    /// Sends a line and reads the reply to it.
    pub fn command(&mut self, line: &str) -> io::Result<String> {
        self.send(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    /// Delivers one message and returns the reply for each recipient, in their order: the reply to
    /// RCPT where that refused, else the one after the data.
    pub fn deliver(&mut self, recipients: &[&str], body: &[u8]) -> io::Result<Vec<String>> {
        self.command("MAIL FROM:<sender@example.org>")?;
        let mut replies = Vec::new();
        for recipient in recipients {
            replies.push(self.command(&format!("RCPT TO:<{recipient}>"))?);
        }
        if !replies.iter().any(|reply| reply.starts_with('2')) {
            self.command("RSET")?;
            return Ok(replies);
        }
        self.command("DATA")?;
        let mut data = Vec::with_capacity(body.len() + 5);
        for line in body.split_inclusive(|&octet| octet == b'\n') {
            if line.starts_with(b".") {
                data.push(b'.');
            }
            data.extend_from_slice(line);
        }
        data.extend_from_slice(b".\r\n");
        self.send(&data)?;
        for reply in replies.iter_mut().filter(|reply| reply.starts_with('2')) {
            *reply = read_reply(&mut self.stream)?;
        }
        Ok(replies)
    }

    /// Sends octets as they are.
    pub fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(octets)
    }

    /// Reads one reply, all its lines.
    pub fn reply(&mut self) -> io::Result<String> {
        read_reply(&mut self.stream)
    }
}

fn read_reply(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut reply = String::new();
    loop {
        let start = reply.len();
        if stream.read_line(&mut reply)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if reply.as_bytes().get(start + 3) != Some(&b'-') {
            return Ok(reply.trim_end().to_owned());
        }
    }
}
