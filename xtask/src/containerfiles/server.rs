//! A server of Debian packages on this host's loopback.
//!
//! apt(8) uses it as its proxy: it asks for `http://debian.invalid/debian/…`, and the server
//! answers with the file `debian/…` of a directory, whatever the host in the address is. So the
//! Containerfiles use the addresses that people use.
//!
//! Interface: HTTP/1.1 (RFC 9112), GET and HEAD, persistent connections, requests without a body.
//! The kernel chooses the port.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};

/// Most bytes of the head of a request.
const HEAD_MAX: u64 = 64 << 10;

/// A server that runs until this program ends.
#[derive(Debug)]
pub(super) struct Server {
    address: SocketAddr,
}

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    /// The file at this path below the directory, with or without its bytes.
    File(PathBuf, Answer),
    /// Something that the server does not know, or must not answer.
    Refused,
}

/// Whether the client wants the bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Whole,
    HeadOnly,
}

impl Server {
    /// Starts to serve the files of `directory`.
    ///
    /// # Errors
    /// The loopback has no free port.
    pub(super) fn start(directory: &Path) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("listen on 127.0.0.1")?;
        let address = listener.local_addr().context("read the server's port")?;
        let directory: Arc<Path> = directory.into();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let directory = Arc::clone(&directory);
                // A client that goes away has no use for an error.
                std::thread::spawn(move || serve(&client, &directory).ok());
            }
        });
        Ok(Self { address })
    }

    /// The port on 127.0.0.1.
    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }
}

/// Answers the requests of one client.
fn serve(client: &TcpStream, directory: &Path) -> Result<()> {
    let (mut reader, mut writer) = (BufReader::new(client), client);
    while let Some(head) = head(&mut reader)? {
        let found = match request(&head) {
            Request::File(path, answer) => open(&directory.join(path)).map(|file| (file, answer)),
            Request::Refused => None,
        };
        let Some(((file, size), answer)) = found else {
            writer.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
            continue;
        };
        write!(writer, "HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n")?;
        if answer == Answer::Whole {
            std::io::copy(&mut file.take(size), &mut writer)?;
        }
    }
    Ok(())
}

/// A regular file and its size in bytes.
fn open(path: &Path) -> Option<(File, u64)> {
    let file = File::open(path).ok()?;
    let meta = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    Some((file, meta.len()))
}

/// The head of the next request, up to its empty line; `None` at the end of the connection.
fn head(reader: &mut impl BufRead) -> Result<Option<String>> {
    let mut head = Vec::new();
    let mut reader = reader.take(HEAD_MAX);
    loop {
        let before = head.len();
        reader.read_until(b'\n', &mut head)?;
        match head.get(before..) {
            Some([] | [.., 0..=9 | 11..]) | None => return Ok(None),
            Some(b"\r\n" | b"\n") => return Ok(Some(String::from_utf8_lossy(&head).into_owned())),
            Some(_) => {}
        }
    }
}

/// Reads the first line of a head, such as `GET http://debian.invalid/debian/x HTTP/1.1`.
fn request(head: &str) -> Request {
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let answer = match words.next() {
        Some("GET") => Answer::Whole,
        Some("HEAD") => Answer::HeadOnly,
        _ => return Request::Refused,
    };
    let target = words.next().unwrap_or_default();
    let path = match target.strip_prefix("http://") {
        Some(rest) => rest.split_once('/').map_or("", |(_, path)| path),
        None => target.trim_start_matches('/'),
    };
    let path = decoded(path).map(PathBuf::from);
    let is_inside =
        |path: &PathBuf| path.components().all(|part| matches!(part, Component::Normal(_)));
    match path.filter(is_inside) {
        Some(path) => Request::File(path, answer),
        None => Request::Refused,
    }
}

/// Undoes the percent-encoding (RFC 3986 §2.1); `None` if the text has a bad one.
fn decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines_are_read() {
        let file = |path: &str, answer| Request::File(path.into(), answer);
        for (line, expected) in [
            ("GET http://debian.invalid/debian/a HTTP/1.1", file("debian/a", Answer::Whole)),
            ("HEAD /debian/a%253a1.deb HTTP/1.1", file("debian/a%3a1.deb", Answer::HeadOnly)),
            ("GET /debian/../../etc/passwd HTTP/1.1", Request::Refused),
            ("GET /%2e%2e/x HTTP/1.1", Request::Refused),
            ("GET http://h//etc/passwd HTTP/1.1", Request::Refused),
            ("GET /a%zz HTTP/1.1", Request::Refused),
            ("GET /a% HTTP/1.1", Request::Refused),
            ("CONNECT debian.invalid:443 HTTP/1.1", Request::Refused),
            ("", Request::Refused),
        ] {
            assert_eq!(request(&format!("{line}\r\nHost: h\r\n\r\n")), expected, "{line}");
        }
    }

    #[test]
    fn one_connection_serves_several_requests() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "first").unwrap();
        std::fs::write(dir.path().join("b"), "second").unwrap();
        let server = Server::start(dir.path()).unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        for (name, expected) in [
            ("GET http://h/a", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst"),
            ("HEAD /a", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
            ("GET /missing", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
            ("GET /", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
            ("GET /b", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond"),
        ] {
            write!(client, "{name} HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
            let mut answer = vec![0; expected.len()];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(String::from_utf8_lossy(&answer), expected, "{name}");
        }
    }
}
