//! The network of RUN: that of the host's user, or none.

use anyhow::{Result, ensure};

use super::site::{build, ran};
use crate::harness::{Bed, Case};
use crate::recipes::networks::OneAnswer;
use crate::recipes::site::Site;

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("run_has_a_network_or_none", run_has_a_network_or_none),
];

/// Programs that ask for names and connections fail at once: timeout(1) would kill them with
/// status 143. Loopback works.
const WITHOUT: &str =
    "timeout 5 nslookup example.com 10.0.2.3 >/dev/null 2>&1 && exit 9; test $? = 1 || exit 8
timeout 5 wget -q -O /dev/null http://10.0.2.2:1/ 2>/dev/null && exit 9; test $? = 1 || exit 8
echo hello | nc -l -p 5 127.0.0.1 & until nc localhost 5 < /dev/null > /got; do :; done; wait
ls /sys/class/net > /interfaces";

fn run_has_a_network_or_none(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let server = OneAnswer::start()?;
    let port = server.port;
    let text = format!(
        "FROM base\n\
         RUN --network=none <<EOF\n{WITHOUT}\nEOF\n\
         RUN wget -q -O /host http://10.0.2.2:{port}/; cat /etc/resolv.conf > /seen\n\
         RUN --network=default wget -q -O - http://10.0.2.2:1/ || echo $? > /refused\n\
         RUN --network=none <<EOF\n{WITHOUT}\nEOF\n"
    );
    let built = build(&site, &text, &["-o", "o.tar"])?.is(0, &[])?;
    server.finish()?;
    ensure!(ran(&built).len() == 4, "{built}");
    for (path, expected) in [
        ("/got", "hello\n"),
        ("/host", "host\n"),
        ("/seen", "nameserver 10.0.2.3\n"),
        ("/refused", "1\n"),
    ] {
        let found = site.text("o.tar", path)?;
        ensure!(found == expected, "{path}: {found}");
    }
    ensure!(!site.archive("o.tar")?.contains_key("etc/resolv.conf"), "resolv.conf is in the image");

    let text = format!("FROM base\nRUN <<EOF\n{WITHOUT}\nEOF\nRUN wget -q http://10.0.2.2:1/\n");
    let hint = "failed: exit status 1; it had no network (RUN --network=none and --network none take it away)";
    let built = build(&site, &text, &["--network", "none", "-o", "x.tar"])?;
    built.is(1, &["step 2/2 (RUN wget", hint]).map(drop)
}
