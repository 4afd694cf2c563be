//! Saving a machine, and starting it again.
//!
//! Interfaces: `migrate` and `migrate-incoming` of QMP with the capability `x-ignore-shared`
//! (QEMU doc: interop/qemu-qmp-ref): QEMU transfers the state of the devices alone. The memory is
//! a file of chrootvm.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use files::memory::new_memory_file;
use serde_json::{Value, json};

use crate::plan::machine_plan::MachinePlan;
use crate::process::qmp::Qmp;
use crate::template::footer::STATE_MAX;

/// Time for a transfer of the state, which takes milliseconds.
const LIMIT: Duration = Duration::from_secs(10);

/// Time between two questions whether a transfer is over.
const PAUSE: Duration = Duration::from_micros(500);

/// QEMU's name for the socket of a transfer.
const SOCKET: &str = "state";

/// A file of the size of the memory of `plan`, without contents.
///
/// # Errors
/// Errors of memfd_create(2) and ftruncate(2).
pub(in crate::running) fn empty_memory(plan: &MachinePlan) -> Result<File> {
    let file = new_memory_file()?;
    file.set_len(plan.memory << 20).context("make the memory of the machine")?;
    Ok(file)
}

/// Stops the machine and returns the state of its devices. It stands still afterwards.
///
/// # Errors
/// QEMU cannot save the machine.
pub(in crate::running) fn save(qmp: &mut Qmp) -> Result<Vec<u8>> {
    qmp.execute("stop", &json!({}), None)?;
    let mut socket = connect(qmp)?;
    qmp.execute("migrate", &json!({ "uri": format!("fd:{SOCKET}") }), None)?;
    let mut state = Vec::new();
    let read = (&mut socket).take(STATE_MAX + 1).read_to_end(&mut state);
    read.context("read the state of the machine")?;
    ensure!(state.len() as u64 <= STATE_MAX, "the state of the machine exceeds {STATE_MAX} bytes");
    wait(qmp)?;
    Ok(state)
}

/// Gives a QEMU that waits for it the `state` of a saved machine.
///
/// # Errors
/// QEMU cannot use the state.
pub(in crate::running) fn load(qmp: &mut Qmp, state: &[u8]) -> Result<()> {
    let mut socket = connect(qmp)?;
    qmp.execute("migrate-incoming", &json!({ "uri": format!("fd:{SOCKET}") }), None)?;
    socket.write_all(state).context("hand over the state of the machine")?;
    drop(socket);
    wait(qmp)
}

/// Makes a socket that QEMU knows as [`SOCKET`].
fn connect(qmp: &mut Qmp) -> Result<UnixStream> {
    let capability = json!({ "capability": "x-ignore-shared", "state": true });
    qmp.execute("migrate-set-capabilities", &json!({ "capabilities": [capability] }), None)?;
    let (ours, qemus) = UnixStream::pair().context("make a socket")?;
    ours.set_read_timeout(Some(LIMIT)).and_then(|()| ours.set_write_timeout(Some(LIMIT)))?;
    qmp.execute("getfd", &json!({ "fdname": SOCKET }), Some(&qemus))?;
    Ok(ours)
}

/// Waits until the transfer is over.
fn wait(qmp: &mut Qmp) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let answer = qmp.execute("query-migrate", &json!({}), None)?;
        match answer.get("status").and_then(Value::as_str) {
            Some("completed") => return Ok(()),
            Some("failed" | "cancelled") => {
                let why = answer.get("error-desc").and_then(Value::as_str);
                bail!("QEMU cannot transfer the state: {}", why.unwrap_or("it does not say why"));
            }
            _ => ensure!(Instant::now() < deadline, "QEMU does not finish the transfer"),
        }
        std::thread::sleep(PAUSE);
    }
}
