//! A place on the loopback where programs of several machines wait for each other.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Time limit for all programs to come: the boots of two machines on a busy host.
const LIMIT: Duration = Duration::from_secs(300);

/// Pause between two looks for another program.
const PAUSE: Duration = Duration::from_millis(10);

/// HTTP server that answers nobody until all have asked.
pub(super) struct Meeting {
    /// Its address, for a program in a machine.
    pub(super) url: String,
    server: JoinHandle<Result<()>>,
}

impl Meeting {
    /// A meeting of `count` programs.
    pub(super) fn of(count: usize) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
        listener.set_nonblocking(true)?;
        // The host, for QEMU's user network (QEMU doc: system/devices/net).
        let url = format!("http://10.0.2.2:{}/", listener.local_addr()?.port());
        Ok(Self { url, server: std::thread::spawn(move || serve(&listener, count)) })
    }

    /// Fails unless all have come.
    pub(super) fn end(self) -> Result<()> {
        self.server.join().ok().context("the server has panicked")?
    }
}

fn serve(listener: &TcpListener, count: usize) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    let mut waiting: Vec<TcpStream> = Vec::new();
    while waiting.len() < count {
        match listener.accept() {
            Ok((mut connection, _)) => {
                connection.set_nonblocking(false)?;
                // A closed connection that is not read to its end would lose the answer.
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    connection.read_exact(&mut byte).context("read a request")?;
                    head.extend(byte);
                }
                waiting.push(connection);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if Instant::now() >= deadline {
                    bail!("{} of {count} have come in {} s", waiting.len(), LIMIT.as_secs());
                }
                sleep(PAUSE);
            }
            Err(error) => return Err(error).context("accept"),
        }
    }
    for mut connection in waiting {
        connection.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nmet\n")?;
    }
    Ok(())
}
