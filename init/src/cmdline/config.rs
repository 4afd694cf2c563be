//! The kernel command line as a value: [`Config`].
//!
//! `--` ends the parameters (kernel doc: admin-guide/kernel-parameters.rst). If a parameter
//! is given twice, the last one wins, as with the kernel's own `init=` and `root=`.
//!
//! Invariant: nothing here does I/O, and no bytes make it panic. Bytes need not be UTF-8.

use alloc::{string::String, vec::Vec};
use core::time::Duration;

use proto::access::Access;
use proto::error::{Error, Result};
use proto::etc::Etc;
use proto::tag::Tag;
use proto::text::{compose, show};
use proto::words::{Word, Words, number, text};

use crate::cmdline::extra_mount::ExtraMount;
use crate::cmdline::fail::Fail;
use crate::cmdline::root::{Root, RootWords};

/// Path of the payload without `init=`.
pub const DEFAULT_INIT: &[u8] = b"/bin/sh";

/// Virtiofs tag of the root if no parameter names a root.
pub const DEFAULT_ROOT_TAG: &[u8] = b"rootfs";

/// One `mount=TAG` or `mount-ro=TAG`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share<'a> {
    /// The tag, which also names the directory below `/run/mnt`.
    pub tag: Tag<'a>,
    /// Read-only for `mount-ro=`.
    pub access: Access,
}

/// A time limit without an end: `rootwait`.
pub const FOREVER: Duration = Duration::MAX;

/// All parameters of the command line, with defaults for the missing ones.
#[derive(Debug, PartialEq, Eq)]
pub struct Config<'a> {
    /// The root.
    pub root: Root<'a>,
    /// Access to the root: `ro` or `rw`, or the default of its kind.
    pub root_access: Access,
    /// Time limit of the wait for the root's device: [`FOREVER`] after `rootwait`.
    pub root_wait: Duration,
    /// Time to sleep before the first look for the root's device (`rootdelay=`).
    pub root_delay: Duration,
    /// Shares for `/run/mnt`, in the order given, each tag once.
    pub shares: Vec<Share<'a>>,
    /// More file systems for the root, in the order given (`virtinit.mount=`).
    pub mounts: Vec<ExtraMount<'a>>,
    /// File system that makes `/etc` writable (`virtinit.etc=`).
    pub etc: Option<Etc>,
    /// Path of the payload in the root.
    pub init: &'a [u8],
    /// Whether `init=` was given.
    pub has_init: bool,
    /// The words after `--`: arguments of the payload from `argv[1]` on.
    pub args: Vec<Vec<u8>>,
    /// Whether the machine waits for orders (`virtinit.orders`).
    pub orders: bool,
    /// Whether `debug` or `virtinit.debug` was given.
    pub debug: bool,
    /// Size of the tmpfs of an overlay over the root, as tmpfs(5) writes sizes; empty for
    /// the default size (`virtinit.overlay[=SIZE]`).
    pub overlay: Option<&'a [u8]>,
    /// Time limit of the wait for a missing tag or device (`virtinit.wait=`).
    pub wait: Duration,
    /// Parameters of modules: words of the form `MODULE.PARAM[=VALUE]`, in order.
    pub module_words: Vec<Word<'a>>,
    /// Messages about harmless mistakes, for the caller to log.
    pub warnings: Vec<String>,
}

/// The known words of the form `virtinit.KEY`, for a message.
const OUR_WORDS: &str = "virtinit.debug, virtinit.etc=tmpfs|overlay, \
     virtinit.fail=poweroff|reboot|panic|shell, virtinit.mount=SOURCE:PATH[:TYPE[:OPTIONS]], \
     virtinit.overlay[=SIZE], virtinit.wait=SECONDS";

/// Time limit of the wait for a missing tag or device without `virtinit.wait=`.
const DEFAULT_WAIT: Duration = Duration::from_secs(5);

impl<'a> Config<'a> {
    /// Reads a command line, as `/proc/cmdline` has it.
    ///
    /// # Errors
    /// A value is invalid and has no sensible default, such as a tag with a `/`.
    pub fn parse(line: &'a [u8]) -> Result<Self> {
        let mut config = Config {
            root: Root::Virtiofs(Tag::parse(DEFAULT_ROOT_TAG)?),
            root_access: Access::ReadOnly,
            root_wait: DEFAULT_WAIT,
            root_delay: Duration::ZERO,
            shares: Vec::new(),
            mounts: Vec::new(),
            etc: None,
            init: DEFAULT_INIT,
            has_init: false,
            args: Vec::new(),
            orders: false,
            debug: false,
            overlay: None,
            wait: DEFAULT_WAIT,
            module_words: Vec::new(),
            warnings: Vec::new(),
        };
        let (mut root, mut root_access, mut root_wait) = (RootWords::default(), None, None);

        let mut words = Words::new(line);
        while let Some(word) = words.next() {
            // An empty value means "not given", as in osbuild/initrd. A parameter that takes
            // no value is unknown if it has one, as in the kernel (`__setup("ro", …)`).
            let is_bare = word.value.is_none();
            let value = word.value.filter(|value| !value.is_empty());
            match (text(word.param), value) {
                ("--", _) if is_bare => {
                    for word in words.by_ref() {
                        config.args.push(word.to_argument());
                    }
                }
                ("rootfs", Some(value)) => root.tag = Some(value),
                ("root", Some(value)) => root.root = Some(value),
                ("rootfstype", Some(value)) => root.kind = Some(value),
                ("rootflags", Some(value)) => root.options = value,
                ("rootwait", _) if is_bare => root_wait = Some(FOREVER),
                (key @ "rootwait", value) => {
                    let seconds = config.seconds(key, value.unwrap_or_default());
                    root_wait = seconds.or(root_wait);
                }
                (key @ "rootdelay", Some(value)) => {
                    config.root_delay = config.seconds(key, value).unwrap_or(config.root_delay);
                }
                ("ro", _) if is_bare => root_access = Some(Access::ReadOnly),
                ("rw", _) if is_bare => root_access = Some(Access::ReadWrite),
                ("mount", Some(value)) => config.share(value, Access::ReadWrite)?,
                ("mount-ro", Some(value)) => config.share(value, Access::ReadOnly)?,
                ("init", Some(value)) => (config.init, config.has_init) = (value, true),
                // The kernel accepts `debug` with any value (`early_param()`).
                ("debug", _) => config.debug = true,
                ("virtinit.debug", _) if is_bare => config.debug = true,
                (proto::parameters::ORDERS, _) if is_bare => config.orders = true,
                ("virtinit.fail", value) => config.check_fail(value.unwrap_or_default()),
                ("virtinit.overlay", value) => {
                    let size = value.unwrap_or_default();
                    check_overlay_size(size)?;
                    config.overlay = Some(size);
                }
                ("virtinit.mount", value) => {
                    config.mounts.push(ExtraMount::parse(value.unwrap_or_default())?);
                }
                ("virtinit.etc", value) => {
                    config.etc = Some(Etc::parse(value.unwrap_or_default())?);
                }
                (key @ "virtinit.wait", value) => {
                    let seconds = config.seconds(key, value.unwrap_or_default());
                    config.wait = seconds.unwrap_or(config.wait);
                }
                _ if word.param.starts_with(b"virtinit.") => {
                    config.warnings.push(compose(format_args!(
                        "unknown parameter \"{}\" ignored; known: {OUR_WORDS}",
                        show(&word.to_argument())
                    )));
                }
                _ if word.param.contains(&b'.') => config.module_words.push(word),
                _ => {}
            }
        }
        if let Some(root) = root.choose(&mut config.warnings)? {
            config.root = root;
        }
        config.root_wait = root_wait.unwrap_or(config.wait);
        config.root_access = root_access.unwrap_or(config.root.default_access());
        Ok(config)
    }

    fn share(&mut self, tag: &'a [u8], access: Access) -> Result<(), Error> {
        let tag = Tag::parse(tag)?;
        match self.shares.iter_mut().find(|share| share.tag == tag) {
            Some(share) => {
                share.access = access;
                self.warnings.push(compose(format_args!(
                    "virtiofs tag {tag} given twice; the last one wins"
                )));
            }
            None => self.shares.push(Share { tag, access }),
        }
        Ok(())
    }

    fn seconds(&mut self, key: &str, value: &[u8]) -> Option<Duration> {
        let seconds = number(value).and_then(|seconds| u32::try_from(seconds).ok());
        if seconds.is_none() {
            self.warnings.push(compose(format_args!(
                "{key}={} ignored: the value must be a number of seconds",
                show(value)
            )));
        }
        seconds.map(|seconds| Duration::from_secs(seconds.into()))
    }

    fn check_fail(&mut self, value: &[u8]) {
        if Fail::from_value(value).is_none() {
            self.warnings.push(compose(format_args!(
                "virtinit.fail={} ignored: the value must be one of poweroff, reboot, panic, shell",
                show(value)
            )));
        }
    }
}

/// Checks the value of `virtinit.overlay=` before anything is mounted.
///
/// # Errors
/// The size has a comma, which would start another option of tmpfs.
fn check_overlay_size(size: &[u8]) -> Result<()> {
    match size.contains(&b',') {
        true => Err(Error::new(
            format_args!("virtinit.overlay={}", show(size)),
            "a size of tmpfs has no comma",
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_brings_no_other_option() {
        assert!(check_overlay_size(b"512m").is_ok() && check_overlay_size(b"50%").is_ok());
        assert!(check_overlay_size(b"1m,huge=always").is_err());
    }
}
