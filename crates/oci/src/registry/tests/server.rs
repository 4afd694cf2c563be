//! A small server for tests: scripted answers over real connections on this machine.
//!
//! Protocol: HTTP/1.1 (RFC 9112), one request for each connection. The kernel chooses the port.
//! An answer can break off or stall. A server without TLS answers a handshake by closing the
//! connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A request that the server has read.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: String,
    /// Path and query.
    pub(super) path: String,
    headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Seen {
    /// The value of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|header| header.0.eq_ignore_ascii_case(name));
        found.map(|header| header.1.as_str())
    }

    /// The first byte that the request asks for.
    pub(super) fn offset(&self) -> usize {
        let range = self.header("range").and_then(|range| range.strip_prefix("bytes="));
        range.map_or(0, |range| range.trim_end_matches('-').parse().unwrap())
    }
}

/// How the body of an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// As announced.
    Whole,
    /// After this number of bytes.
    CutAt(usize),
    /// It does not: after this number of bytes nothing comes any more, for as long as the server
    /// is there.
    StallAt(usize),
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    end: End,
    is_length_told: bool,
}

impl Reply {
    pub(super) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self { status, headers: Vec::new(), body, end: End::Whole, is_length_told: true }
    }

    pub(super) fn with(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    pub(super) fn ending(self, end: End) -> Self {
        Self { end, ..self }
    }

    /// The end of the connection is the end of the body.
    pub(super) fn without_length(self) -> Self {
        Self { is_length_told: false, ..self }
    }

    /// The part of `all` that a request asks for.
    pub(super) fn part(all: &[u8], seen: &Seen) -> Self {
        let (start, size) = (seen.offset(), all.len());
        match start {
            0 => Self::new(200, all),
            start => Self::new(206, &all[start..])
                .with("Content-Range", format!("bytes {start}-{}/{size}", size - 1)),
        }
    }
}

type Handler = dyn Fn(&Seen) -> Reply + Send + Sync;

/// What the threads of a server share.
struct Shared {
    handler: Box<Handler>,
    tls: Option<Arc<ServerConfig>>,
    seen: Mutex<Vec<Seen>>,
    is_over: AtomicBool,
    /// Set with `is_over`, for connections that stall.
    over: (Mutex<bool>, Condvar),
}

/// A server that runs as long as this exists.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

/// Longest time in which a test's request has to come.
const READ_TIME: Duration = Duration::from_secs(30);

impl Server {
    /// Starts a server that answers by `handler`.
    pub(super) fn start(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen("127.0.0.1:0", None, handler)
    }

    /// Starts a server that speaks TLS.
    pub(super) fn start_tls(
        config: Arc<ServerConfig>,
        handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::listen("127.0.0.1:0", Some(config), handler)
    }

    /// Starts a server at `address`, with or without TLS.
    pub(super) fn listen(
        address: &str,
        tls: Option<Arc<ServerConfig>>,
        handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            tls,
            seen: Mutex::default(),
            is_over: AtomicBool::new(false),
            over: (Mutex::new(false), Condvar::new()),
        });
        let of_acceptor = Arc::clone(&shared);
        let acceptor = thread::spawn(move || {
            let mut connections = Vec::new();
            for stream in listener.incoming() {
                if of_acceptor.is_over.load(Ordering::SeqCst) {
                    break;
                }
                let shared = Arc::clone(&of_acceptor);
                // A client that goes away is no error of the server.
                connections.push(thread::spawn(move || {
                    let _ = stream.and_then(|stream| serve(stream, &shared));
                }));
            }
            for connection in connections {
                connection.join().unwrap();
            }
        });
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// Host and port.
    pub(super) fn authority(&self) -> String {
        self.address.to_string()
    }

    /// All requests so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Number of requests whose path begins with `start`.
    pub(super) fn count(&self, start: &str) -> usize {
        self.seen().iter().filter(|seen| seen.path.starts_with(start)).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        let (over, condition) = &self.shared.over;
        *over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        condition.notify_all();
        // Wakes the acceptor.
        let woken = TcpStream::connect(self.address);
        if let (Ok(_), Some(acceptor)) = (woken, self.acceptor.take()) {
            let joined = acceptor.join();
            assert!(joined.is_ok() || thread::panicking(), "a handler panicked");
        }
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_read_timeout(Some(READ_TIME))?;
    match &shared.tls {
        Some(config) => {
            let connection = ServerConnection::new(Arc::clone(config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            answer(&mut stream, shared)?;
            stream.conn.send_close_notify();
            stream.flush()
        }
        None => answer(&mut { stream }, shared),
    }
}

fn answer(stream: &mut (impl Read + Write), shared: &Shared) -> std::io::Result<()> {
    let mut reader = BufReader::new(&mut *stream);
    // A TLS handshake begins with 22 (RFC 8446 §5.1).
    if reader.fill_buf()?.first() == Some(&22) {
        return Ok(());
    }
    let Some(seen) = read(&mut reader)? else { return Ok(()) };
    shared.seen.lock().unwrap().push(seen.clone());
    let reply = (shared.handler)(&seen);
    let mut head = vec![format!("HTTP/1.1 {} Scripted", reply.status)];
    head.push("Connection: close".to_owned());
    head.extend(reply.headers.iter().map(|(name, value)| format!("{name}: {value}")));
    if reply.is_length_told {
        head.push(format!("Content-Length: {}", reply.body.len()));
    }
    let head = head.join("\r\n");
    stream.write_all(format!("{head}\r\n\r\n").as_bytes())?;
    if seen.method == "HEAD" {
        return Ok(());
    }
    match reply.end {
        End::Whole => stream.write_all(&reply.body),
        End::CutAt(at) => stream.write_all(&reply.body[..at]),
        End::StallAt(at) => {
            stream.write_all(&reply.body[..at])?;
            let (over, condition) = &shared.over;
            let over = over.lock().unwrap();
            drop(condition.wait_while(over, |over| !*over).unwrap());
            Ok(())
        }
    }
}

fn read(reader: &mut impl BufRead) -> std::io::Result<Option<Seen>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut words = lines[0].split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let header = |line: &String| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_owned(), value.trim().to_owned())
    };
    let headers: Vec<_> = lines[1..].iter().map(header).collect();
    let mut seen = Seen { method, path, headers, body: String::new() };
    let length = seen.header("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    seen.body = String::from_utf8(body).unwrap();
    Ok(Some(seen))
}
