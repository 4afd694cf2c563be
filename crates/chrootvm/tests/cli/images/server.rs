//! A registry on loopback that serves one layout by the OCI distribution specification ("Pull"),
//! to a user with a password if there is one.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

/// A request that ends the server.
const END: &str = "/end";

/// First byte of a TLS connection (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// The server; it ends when it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    requests: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

struct Site {
    dir: PathBuf,
    login: Option<String>,
}

impl Server {
    /// Serves the layout `dir` as every repository; `login` is `USER:PASSWORD`.
    pub(crate) fn start(dir: &Path, login: Option<&str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let login = login.map(|login| format!("Basic {}", BASE64_STANDARD.encode(login)));
        let site = Arc::new(Site { dir: dir.to_path_buf(), login });
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&requests);
        let serve = move || {
            for connection in listener.incoming() {
                let (site, counter) = (Arc::clone(&site), Arc::clone(&counter));
                let connection = connection.unwrap();
                if site.answer(&connection, &counter).is_none() {
                    return;
                }
            }
        };
        Self { address, requests, thread: Some(std::thread::spawn(serve)) }
    }

    /// The number of requests so far.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(mut connection) = TcpStream::connect(self.address) {
            let _ = write!(connection, "GET {END} HTTP/1.1\r\n\r\n"); // the thread may be gone
        }
        let _ = self.thread.take().map(JoinHandle::join); // the test has failed already
    }
}

impl Site {
    /// Answers one request; `None` for the one that ends the server.
    fn answer(&self, mut connection: &TcpStream, counter: &AtomicUsize) -> Option<()> {
        // A client that tries TLS first sends a record, which has no lines.
        let mut start = [0];
        if connection.peek(&mut start).is_err() || start == [TLS_HANDSHAKE] {
            return Some(());
        }
        let mut lines = BufReader::new(connection).lines().map_while(Result::ok);
        let first = lines.next().unwrap_or_default();
        let headers: HashMap<String, String> = lines
            .take_while(|line| !line.is_empty())
            .filter_map(|line| {
                let (name, value) = line.split_once(": ")?;
                Some((name.to_ascii_lowercase(), value.to_owned()))
            })
            .collect();
        let mut words = first.split(' ');
        let (method, path) = (words.next()?, words.next().unwrap_or_default());
        if path == END {
            return None;
        }
        counter.fetch_add(1, Ordering::SeqCst);
        let is_known = self.login.is_none() || headers.get("authorization") == self.login.as_ref();
        let (status, kind, body) = match (is_known, self.find(path)) {
            (false, _) => ("401 Unauthorized", String::new(), Vec::new()),
            (true, None) => ("404 Not Found", String::new(), Vec::new()),
            (true, Some((kind, body))) => ("200 OK", kind, body),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Type: {kind}\r\n\
             WWW-Authenticate: Basic realm=\"test\"\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let _ = connection.write_all(head.as_bytes()); // the client may have gone
        if method != "HEAD" {
            let _ = connection.write_all(&body); // the client may have gone
        }
        Some(())
    }

    /// Media type and bytes of what a path names.
    fn find(&self, path: &str) -> Option<(String, Vec<u8>)> {
        let octets = "application/octet-stream".to_owned();
        if path.trim_end_matches('/') == "/v2" {
            return Some((octets, Vec::new()));
        }
        let (rest, name) = path.rsplit_once('/')?;
        let index = std::fs::read(self.dir.join("index.json")).ok()?;
        let index: Value = serde_json::from_slice(&index).ok()?;
        let mut entries = index["manifests"].as_array()?.iter();
        let entry = entries.find(|entry| {
            let tag = &entry["annotations"]["org.opencontainers.image.ref.name"];
            tag == name || entry["digest"] == name
        });
        let (kind, digest) = match rest.rsplit_once('/')?.1 {
            "manifests" => {
                let entry = entry?;
                (entry["mediaType"].as_str()?.to_owned(), entry["digest"].as_str()?)
            }
            _ => (octets, name),
        };
        let path = self.dir.join("blobs").join(digest.replace(':', "/"));
        Some((kind, std::fs::read(path).ok()?))
    }
}
