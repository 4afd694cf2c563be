//! QEMU's user network and published ports, in a whole distribution and in
//! busybox. Nothing leaves this host.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::Case;
use crate::harness::Bed;

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("debian_has_a_network", debian_has_a_network),
    ("a_port_is_forwarded",  a_port_is_forwarded),
    ("a_port_is_taken",      a_port_is_taken),
    ("names_without_a_file", |bed| names(bed, None)),
    ("names_by_a_link",      |bed| names(bed, Some("/mnt/wsl/resolv.conf"))),
    ("names_by_systemd",     |bed| names(bed, Some("../run/systemd/x.conf"))),
    ("no_names_with_rw",     no_names_with_rw),
];

/// The guest has its name server whatever is in the root, and nothing in the root
/// changes.
fn names(bed: &Bed, link: Option<&str>) -> Result<()> {
    let run = bed.sh("cat /etc/resolv.conf; cat /etc/kept")?.options(&["--net", "user"]);
    let etc = run.guest.root().join("etc");
    fs::create_dir(&etc)?;
    fs::write(etc.join("kept"), "kept\n")?;
    if let Some(target) = link {
        symlink(target, etc.join("resolv.conf"))?;
    }
    let guest = run.finish()?.is(0, "nameserver 10.0.2.3\nkept\n", "")?;
    let names = fs::read_dir(guest.root().join("etc"))?.count();
    ensure!(names == 1 + usize::from(link.is_some()), "{names} names in etc");
    Ok(())
}

/// Nothing is made in a directory of the host unasked; the warning is not for
/// `--verbose` alone.
fn no_names_with_rw(bed: &Bed) -> Result<()> {
    let run = bed.sh("cat /etc/resolv.conf 2>/dev/null; exit 3")?;
    fs::create_dir(run.guest.root().join("etc"))?;
    let run = run.options(&["--net", "user", "--rw"]);
    run.finish()?.says(3, "", &["warning: no name resolution", "/etc/resolv.conf"]).map(drop)
}

/// How long a server in the guest may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

fn debian_has_a_network(bed: &Bed) -> Result<()> {
    let script =
        "cat /etc/resolv.conf; hostname -I | cut -d' ' -f1; cut -d. -f1 /etc/debian_version
                  read -r _ < /proc/net/route; awk '$2 == \"00000000\" {print $3}' /proc/net/route";
    let run = bed.debian(script)?.options(&["--net", "user"]);
    // The gateway is 10.0.2.2, its bytes as the kernel has them.
    run.finish()?.is(0, "nameserver 10.0.2.3\n10.0.2.15\n12\n0202000A\n", "").map(drop)
}

/// The command ends with the connection, which a client of the host makes.
fn a_port_is_forwarded(bed: &Bed) -> Result<()> {
    // Free a moment ago, and no system hands it out again at once.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let run = bed.sh("echo from the guest | nc -l -p 7 > /tmp/got; cat /tmp/got; exit 8")?;
    fs::create_dir(run.guest.root().join("etc"))?;
    let live = run.options(&["--publish", &format!("{port}:7")]).start()?;
    let deadline = Instant::now() + PATIENCE;
    let heard = loop {
        // QEMU accepts at once, and closes if nobody listens in the guest.
        if let Ok(heard) = talk(port)
            && !heard.is_empty()
        {
            break heard;
        }
        ensure!(Instant::now() < deadline, "no answer; {:?}", live.finish()?);
        std::thread::sleep(Duration::from_millis(50));
    };
    ensure!(heard == "from the guest\n", "{heard}");
    live.finish()?.is(8, "from the host\n", "").map(drop)
}

fn talk(port: u16) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"from the host\n")?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut heard = String::new();
    stream.read_to_string(&mut heard)?;
    Ok(heard)
}

/// The reason is QEMU's.
fn a_port_is_taken(bed: &Bed) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
    let port = listener.local_addr()?.port();
    let run = bed.sh("echo not reached")?.options(&["-p", &format!("{port}:80")]);
    let reason = format!("127.0.0.1:{port}-");
    let words = ["error: QEMU failed", "Could not set up host forwarding rule", &reason];
    run.finish()?.says(125, "", &words).map(drop)
}
