//! QEMU's user network and published ports, in Debian and in busybox. No packet leaves this
//! host.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;

use anyhow::{Context, Result, ensure};

use crate::harness::processes::{PATIENCE, eventually};
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("debian_has_a_network",             debian_has_a_network),
    ("port_is_forwarded",                port_is_forwarded),
    ("taken_port_is_an_error",           taken_port_is_an_error),
    ("resolv_conf_is_missing",           |bed| has_a_name_server(bed, None)),
    ("resolv_conf_is_an_absolute_link",  |bed| has_a_name_server(bed, Some("/mnt/wsl/resolv.conf"))),
    ("resolv_conf_is_a_relative_link",   |bed| has_a_name_server(bed, Some("../run/systemd/x.conf"))),
    ("rw_without_resolv_conf_warns",     rw_without_resolv_conf_warns),
];

/// The guest has QEMU's name server, whether /etc/resolv.conf of the root is missing or a
/// link, and the root does not change.
fn has_a_name_server(bed: &Bed, link: Option<&str>) -> Result<()> {
    let run = bed.sh("cat /etc/resolv.conf; cat /etc/kept")?.options(&["--net", "user"]);
    let etc = run.machine.root().join("etc");
    fs::create_dir(&etc)?;
    fs::write(etc.join("kept"), "kept\n")?;
    if let Some(target) = link {
        symlink(target, etc.join("resolv.conf"))?;
    }
    let machine = run.finish()?.is(0, "nameserver 10.0.2.3\nkept\n", "")?;
    let names = fs::read_dir(machine.root().join("etc"))?.count();
    ensure!(names == 1 + usize::from(link.is_some()), "{names} names in etc");
    Ok(())
}

/// `chrootvm` makes no file in a directory of the host, and warns even without `--verbose`.
fn rw_without_resolv_conf_warns(bed: &Bed) -> Result<()> {
    let run = bed.sh("cat /etc/resolv.conf 2>/dev/null; exit 3")?;
    fs::create_dir(run.machine.root().join("etc"))?;
    let run = run.options(&["--net", "user", "--rw"]);
    run.finish()?.says(3, "", &["warning: no name resolution", "/etc/resolv.conf"]).map(drop)
}

fn debian_has_a_network(bed: &Bed) -> Result<()> {
    let script =
        "cat /etc/resolv.conf; hostname -I | cut -d' ' -f1; cut -d. -f1 /etc/debian_version
                  read -r _ < /proc/net/route; awk '$2 == \"00000000\" {print $3}' /proc/net/route";
    let run = bed.debian(script)?.options(&["--net", "user"]);
    // /proc/net/route shows the gateway 10.0.2.2 in hexadecimal, in the order of the host.
    run.finish()?.is(0, "nameserver 10.0.2.3\n10.0.2.15\n12\n0202000A\n", "").map(drop)
}

/// A client on the host connects, and the command ends with the connection.
fn port_is_forwarded(bed: &Bed) -> Result<()> {
    // The port was free a moment ago, and the system does not hand it out again at once.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let run = bed.sh("echo from the guest | nc -l -p 7 > /tmp/got; cat /tmp/got; exit 8")?;
    fs::create_dir(run.machine.root().join("etc"))?;
    let live = run.options(&["--publish", &format!("{port}:7")]).start()?;
    // QEMU accepts a connection at once, and closes it if no program listens in the guest.
    let heard =
        eventually("the guest answers", || Ok(talk(port).ok().filter(|heard| !heard.is_empty())))?;
    ensure!(heard == "from the guest\n", "{heard}");
    live.finish()?.is(8, "from the host\n", "").map(drop)
}

/// Connects to a port of the host, and returns the answer.
fn talk(port: u16) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"from the host\n")?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut heard = String::new();
    stream.read_to_string(&mut heard)?;
    Ok(heard)
}

/// The message names the owner of the port.
fn taken_port_is_an_error(bed: &Bed) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
    let port = listener.local_addr()?.port();
    let run = bed.sh("echo not reached")?.options(&["-p", &format!("{port}:80")]);
    let taken = format!("error: --publish {port}:80: port {port} of 127.0.0.1 is taken by ");
    run.finish()?.says(125, "", &[&taken, "; give another HOST port\n"]).map(drop)
}
