//! The orders for a machine that waits for them: its devices, and the records of its run.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use proto::settings::Record;
use serde_json::json;

use super::saved;
use crate::plan::devices::Plugging;
use crate::plan::machine_plan::MachinePlan;
use crate::process::qmp::Qmp;
use crate::running::outcome;
use crate::session::control::CommandSession;
use crate::template::TemplateUse;

/// Number of random bytes for the guest's kernel, twice the size of its key.
const SEED: usize = 64;

/// Number of times that a machine gets its orders: it is started again at most once. The guest is
/// not trusted, and may ask without end.
const TIMES: u8 = 2;

/// Orders for one machine.
#[derive(Debug)]
pub struct Orders {
    pluggings: Vec<Plugging>,
    /// Sockets to the daemons of the shares.
    sockets: Vec<OwnedFd>,
    /// The records of the run, each with its NUL.
    records: Vec<u8>,
    /// The template that the machine becomes before its orders.
    saving: Option<Saving>,
    /// Whether the devices are plugged in.
    is_plugged: bool,
    /// Number of times that the orders may still be given.
    left: u8,
}

/// A machine that becomes a template.
#[derive(Debug)]
pub(in crate::running) struct Saving {
    /// The template.
    pub(in crate::running) template: TemplateUse,
    /// Memory of the machine.
    pub(in crate::running) memory: File,
}

impl Orders {
    /// The orders of `plan`, with the `words` of its run. `sockets` lead to the daemons of the
    /// shares, and QEMU opens the disks by the paths `disk_files`.
    #[must_use]
    pub(in crate::running) fn new(
        plan: &MachinePlan,
        words: &OsStr,
        sockets: Vec<OwnedFd>,
        disk_files: &[String],
        saving: Option<Saving>,
    ) -> Self {
        let words = Record::Words(words.as_bytes()).to_bytes();
        let records = plan.records.iter().chain([&words]);
        let records = records.flat_map(|record| record.iter().chain(&[0])).copied().collect();
        let pluggings = plan.pluggings(disk_files);
        Self { pluggings, sockets, records, saving, is_plugged: false, left: TIMES }
    }

    /// Plugs the devices in, if that has not been done.
    ///
    /// # Errors
    /// QEMU refuses a device.
    pub fn plug(&mut self, qmp: &mut Qmp) -> Result<()> {
        if self.is_plugged {
            return Ok(());
        }
        for Plugging { commands, share } in &self.pluggings {
            let mut socket = share.and_then(|number| self.sockets.get(number));
            for command in commands {
                let fd = socket.take().map(|socket| socket as &dyn AsRawFd);
                if let Err(error) = qmp.execute(command.name, &command.arguments, fd) {
                    let words = format!("{error:#}");
                    bail!("plug in a device: {words}{}", outcome::hint(&words));
                }
            }
        }
        // QEMU has its own descriptors of them now, and must be the only one.
        self.sockets.clear();
        self.is_plugged = true;
        Ok(())
    }

    /// Gives the orders to the machine, which runs. Before that, the machine stands still and
    /// becomes a template, if it should. After two times, nothing happens.
    ///
    /// # Errors
    /// QEMU refuses a device, or the machine must become a template and cannot.
    pub fn give(&mut self, qmp: &mut Qmp, session: &mut CommandSession) -> Result<()> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(()) };
        self.left = left;
        let saving = self.saving.take();
        let stands_still = saving.is_some();
        saving.map(|saving| saving.save(qmp)).transpose()?;
        self.plug(qmp)?;
        session.request(&self.of_now()?);
        if stands_still {
            go_on(qmp)?;
        }
        Ok(())
    }

    /// The records, with the time and random bytes.
    fn of_now(&self) -> Result<Vec<u8>> {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let seed = seed().context("read /dev/urandom")?;
        let further = [Record::Time(time).to_bytes(), Record::Seed(&seed).to_bytes()];
        let further = further.iter().flat_map(|record| record.iter().chain(&[0])).copied();
        Ok(self.records.iter().copied().chain(further).collect())
    }
}

/// Lets the machine go on.
///
/// # Errors
/// QEMU refuses.
pub(in crate::running) fn go_on(qmp: &mut Qmp) -> Result<()> {
    qmp.execute("cont", &json!({}), None).map(drop)
}

impl Saving {
    /// Saves the machine, which stands still afterwards.
    fn save(self, qmp: &mut Qmp) -> Result<()> {
        let TemplateUse { store, key, is_required } = self.template;
        let saved = saved::save(qmp).and_then(|state| store.keep(&key, &self.memory, &state));
        match saved {
            Err(error) if is_required => Err(error.context("--warm always: save the machine")),
            Err(error) => {
                log::debug!("the machine cannot be saved for later runs: {error:#}");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

/// Random bytes, none of them NUL, because NUL ends a record.
fn seed() -> std::io::Result<Vec<u8>> {
    let mut seed = Vec::with_capacity(SEED);
    let mut file = File::open("/dev/urandom")?;
    while seed.len() < SEED {
        let mut bytes = [0; SEED];
        file.read_exact(&mut bytes)?;
        let left = SEED - seed.len();
        seed.extend(bytes.into_iter().filter(|&byte| byte != 0).take(left));
    }
    Ok(seed)
}
