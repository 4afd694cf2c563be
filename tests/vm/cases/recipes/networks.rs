//! Networks of steps: none, or the user network of QEMU.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

use anyhow::{Context, Result, ensure};

use super::site::{Site, output, run};
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("steps_have_no_network",     steps_have_no_network),
    ("user_network_reaches_host", user_network_reaches_host),
];

/// Programs that ask for names and connections fail at once: timeout(1) would kill them with
/// status 143. Loopback works, and has its name.
const WITHOUT: &str = "
timeout 5 nslookup example.com 10.0.2.3 >/dev/null 2>&1 && exit 9; test $? = 1
timeout 5 wget -q -O /dev/null http://10.0.2.2:1/ 2>/dev/null && exit 9; test $? = 1
timeout 5 wget -q -O /dev/null http://example.com/ 2>/dev/null && exit 9; test $? = 1
echo hello | nc -l -p 5 127.0.0.1 & until nc localhost 5 < /dev/null > /got; do :; done; wait
ls /sys/class/net > /interfaces";

/// A server on the host's loopback that answers one request with the line `host`.
pub(crate) struct OneAnswer {
    pub(crate) port: u16,
    thread: JoinHandle<std::io::Result<()>>,
}

impl OneAnswer {
    /// Starts it.
    pub(crate) fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let thread = std::thread::spawn(move || {
            let (mut connection, _) = listener.accept()?;
            let mut request = [0; 4];
            connection.read_exact(&mut request)?;
            connection.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhost\n")
        });
        Ok(Self { port, thread })
    }

    /// Waits until it has answered.
    pub(crate) fn finish(self) -> Result<()> {
        Ok(self.thread.join().ok().context("the server has panicked")??)
    }
}

fn steps_have_no_network(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    // The network of another step is none of this one.
    let user = run("true").replace("[[step]]\n", "[[step]]\nnetwork = \"user\"\n");
    let text =
        [output("o.tar"), run(WITHOUT), user, run(WITHOUT), run("wget -q http://10.0.2.2:1/")];
    let built = site.build(&text.concat(), &[])?;
    ensure!(built.ran() == [1, 2, 3, 4], "{built}");
    let says =
        ["step 4 (run wget", "exit status 1; it had no network (network = \"user\" gives it one)"];
    built.is(1, &says)?;
    let text = [output("o.tar"), run(WITHOUT)].concat();
    site.build(&text, &[])?.is(0, &["(kept)"])?;
    ensure!(site.text("o.tar", "/got")? == "hello\n");
    Ok(())
}

fn user_network_reaches_host(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    std::fs::write(site.path("root/etc/hosts"), "127.0.0.1 of-the-image\n")?;
    let server = OneAnswer::start()?;
    let port = server.port;
    let script = format!(
        "wget -q -O /got http://10.0.2.2:{port}/; cat /etc/resolv.conf > /seen; cat /etc/hosts >> /seen"
    );
    let failing = "wget -q -O - http://10.0.2.2:1/";
    let text = format!("build.network = \"user\"\n{}{}", output("o.tar"), run(&script));
    let built = site.build(&format!("{text}{}", run(failing)), &[])?;
    built.is(1, &["step 2", "failed: exit status 1\n"])?.lacks("it had no network")?;
    server.finish()?;
    site.build(&text, &[])?.is(0, &["(kept)"])?;
    ensure!(site.text("o.tar", "/got")? == "host\n");
    let seen = site.text("o.tar", "/seen")?;
    ensure!(seen == "nameserver 10.0.2.3\n127.0.0.1 of-the-image\n", "{seen}");
    let archive = site.archive("o.tar")?;
    ensure!(!archive.contains_key("etc/resolv.conf"), "resolv.conf of the build is in the image");
    ensure!(site.text("o.tar", "/etc/hosts")? == "127.0.0.1 of-the-image\n");
    Ok(())
}
