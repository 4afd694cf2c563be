//! A proxy for tests. Every host that it is asked for is one server on this machine, so that a
//! test reaches names that do not exist.
//!
//! Protocol: CONNECT (RFC 9110 §9.3.6).

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// A proxy that runs as long as this exists.
pub(super) struct Tunnel {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    is_over: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Tunnel {
    /// Starts a proxy that leads to `target`.
    pub(super) fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, is_over) =
            (Arc::<Mutex<Vec<String>>>::default(), Arc::new(AtomicBool::new(false)));
        let (of_acceptor, over) = (Arc::clone(&asked), Arc::clone(&is_over));
        let acceptor = thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    break;
                }
                let asked = Arc::clone(&of_acceptor);
                // Ends with the connection; an error there is one of the client's.
                thread::spawn(move || stream.and_then(|stream| lead(stream, target, &asked)));
            }
        });
        Self { address, asked, is_over, acceptor: Some(acceptor) }
    }

    /// The address for a variable.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The hosts and ports that were asked for.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        let woken = TcpStream::connect(self.address);
        if let (Ok(_), Some(acceptor)) = (woken, self.acceptor.take()) {
            let joined = acceptor.join();
            assert!(joined.is_ok() || thread::panicking(), "the proxy panicked");
        }
    }
}

fn lead(client: TcpStream, target: SocketAddr, asked: &Mutex<Vec<String>>) -> std::io::Result<()> {
    // The client says nothing after its request before it has an answer.
    let mut reader = BufReader::new(client.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let host = line.strip_prefix("CONNECT ").unwrap_or_default();
    let host = host.split(' ').next().unwrap_or_default().to_owned();
    while line.trim_end() != "" {
        line.clear();
        reader.read_line(&mut line)?;
    }
    let mut client = client;
    asked.lock().unwrap().push(host.clone());
    if host.starts_with("refused.") {
        return client.write_all(b"HTTP/1.1 403 No\r\n\r\n");
    }
    let mut server = TcpStream::connect(target)?;
    client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let up = thread::spawn(move || {
        let copied = std::io::copy(&mut from_client, &mut to_server);
        to_server.shutdown(Shutdown::Write).and(copied)
    });
    let copied = std::io::copy(&mut server, &mut client);
    client.shutdown(Shutdown::Both)?;
    // The other direction ends by that.
    let _ = up.join();
    copied.map(|_| ())
}
