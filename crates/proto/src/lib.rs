//! The protocol between the host and the guest of a virtinitrd machine.
//!
//! The host (`chrootvm`, `mkvirtinitrd`) starts a machine whose PID 1 is `/init`. Both
//! sides use this crate, so that each format has one definition. Everything here is pure:
//! it turns values into bytes and bytes into values, and does no I/O. No input makes it
//! panic.
//!
//! # The ways between host and guest
//!
//! | Way | Carries | Module |
//! |---|---|---|
//! | kernel command line | kind of the root, shares, `init=`, the payload's arguments | [`words`], [`parameters`], [`etc`] |
//! | run file `/virtinit.run` in the initramfs | a command and its settings: host name, volumes, network | [`settings`] |
//! | file `/etc/virtinit/run` in the root | the command of an image, and its [user] | [`settings`] |
//! | ports of a session | standard streams, control messages | [`port`], [`control`] |
//! | console | messages of `/init` | [`console`] |
//! | virtiofs | shares, by their tags | [`tag`], [`access`] |
//! | first bytes of a disk | type, UUID and label of a file system | [`superblock`] |
//!
//! # The run file
//!
//! The kernel cuts its command line at 2,048 bytes on x86, and the line cannot hold quotes
//! or newlines. So a command and its settings travel in a file: records `KEY=VALUE`, each
//! ended by NUL, which no argument can contain. Records may come in any order; the words of
//! a command, environment variables and volumes keep theirs. A key that the reader does not
//! know is an error.
//!
//! | Record | Meaning |
//! |---|---|
//! | `arg=WORD` | one more word of the command |
//! | `env=NAME=VALUE` | an environment variable of the command |
//! | `cwd=PATH` | working directory of the command; it must exist |
//! | `make-cwd=PATH` | working directory of the command; if it is missing, it is made with mode 0755 for root |
//! | `user=USER` | `NAME`, `UID`, `NAME:GROUP` or `UID:GID` |
//! | `before=WORD` | first word of one more command that runs before the command of an image |
//! | `before-arg=WORD` | one more word of the last of those commands |
//! | `restart=WHEN` | `no`, `on-failure` or `always`: start the command of an image again |
//! | `restart-max=NUMBER` | most starts of the command of an image after the first one |
//! | `restart-backoff=FIRST LONGEST` | first and longest pause before it starts again, in milliseconds |
//! | `stop-signal=NUMBER` | signal that asks the command to end, instead of SIGTERM (15): 1 to 31, or 34 to 64 for real-time signals |
//! | `stop-timeout=MILLISECONDS` | time for the command of an image to end after that signal |
//! | `image-volume=PATH` | directory of the root that is writable, even if the root is read-only |
//! | `no-health=1` | the records `health-arg` before this one do not count |
//! | `health-arg=WORD` | one more word of the health check of the command |
//! | `health=TIMES RETRIES` | interval, time limit, start period and interval in the start period, each in milliseconds, and the number of failures |
//! | `health-on-failure=ACTION` | `none`, `restart` or `poweroff`: what happens if the command of an image is unhealthy |
//! | `terminal=ROWS COLUMNS` | give the command a terminal of this size; without a command, the console is one |
//! | `hostname=NAME` | host name of the guest |
//! | `volume=ro\|rw TAG PATH` | mount a virtiofs tag at a path of the root |
//! | `file-volume=ro\|rw TAG PATH` | mount the file [`file`](volume::VOLUME_FILE) of a virtiofs tag at a path of the root |
//! | `network=user` | set up QEMU's user network |
//! | `alone=1` | power off after the command: no host waits for its status |
//! | `workload=1` | the command is a workload; without words of its own, it is that of the image |
//! | `words=WORDS` | words of the kernel command line that only this run has |
//! | `time=NANOSECONDS` | time of day, since 1970 |
//! | `seed=BYTES` | random bytes for the kernel |
//!
//! Those above `terminal` describe a [command](settings::Command), and are all that an image's
//! `/etc/virtinit/run` may have. `SIGRTMIN+N` of an image is the number 34+N, as
//! [`signal`] reads it. The host writes records, and the guest reads them:
//!
//! ```
//! use virtinitrd_proto::settings::{Record, Settings, encode};
//!
//! let text = encode(&[Record::Arg(b"ls"), Record::Arg(b"-l"), Record::Hostname(b"box")]);
//! assert_eq!(text, b"arg=ls\0arg=-l\0hostname=box\0");
//!
//! let settings = Settings::parse(&text).unwrap();
//! assert_eq!(settings.command.args, [c"ls", c"-l"]);
//! assert_eq!(settings.hostname, Some(&b"box"[..]));
//! ```
//!
//! # Sessions
//!
//! A session is one command of the host with its streams and its exit status. Session 0 is
//! the command of the run file; its end is the end of the machine. The host may ask for
//! more sessions while the machine runs (`chrootvm exec`). Each session N has four
//! virtio-serial ports:
//!
//! | Port | Direction | Carries |
//! |---|---|---|
//! | `virtinit.N.stdin` | to the guest | standard input |
//! | `virtinit.N.stdout` | to the host | standard output, or the terminal's output |
//! | `virtinit.N.stderr` | to the host | standard error |
//! | `virtinit.N.control` | both | lines of text: a word and its numbers |
//!
//! Lines of the host ([`control::ToGuest`]):
//!
//! | Line | Meaning |
//! |---|---|
//! | `request LENGTH` | LENGTH bytes of records follow: the command of session N > 0, or the orders of a machine that is `ready` |
//! | `resize ROWS COLUMNS` | the terminal has a new size |
//! | `signal NUMBER` | send a signal to the command |
//! | `close STREAM` | nobody reads stream 1 or 2 any more |
//! | `session NUMBER` | serve one more session (on the control channel of session 0) |
//! | `restart` | end the workload of session 0, and start it again |
//!
//! Lines of the guest ([`control::ToHost`]):
//!
//! | Line | Meaning |
//! |---|---|
//! | `ready` | the machine waits for its orders (session 0 with `virtinit.orders` on the kernel command line) |
//! | `started INIT NOW` | the command runs; microseconds since the kernel's start |
//! | `workload PHASE HEALTH RESTARTS STATUS MILLISECONDS` | the state of the workload of session 0 has changed ([`workload::WorkloadState`]) |
//! | `killed COUNT` | during the session, the kernel killed this many processes for lack of memory |
//! | `full NAME` | a file system in memory has no room left: `overlay` or `tmp` |
//! | `exited STATUS OUTPUT ERROR` | the command has ended after this many bytes of output |
//! | `failed STATUS MESSAGE` | the command could not be started |
//!
//! ```
//! use virtinitrd_proto::control::{Lines, ToHost};
//!
//! let mut lines = Lines::default();
//! lines.push(b"exited 0 12");
//! assert_eq!(lines.next_line(), None); // the line has not ended yet
//! lines.push(b" 0\n");
//! let line = lines.next_line().unwrap();
//! let exited = ToHost::Exited { status: 0, output: 12, error: 0 };
//! assert_eq!(ToHost::parse(&line), Some(exited));
//! ```
//!
//! # Orders
//!
//! A machine can be saved and started again any number of times, if its kernel command line has
//! [`virtinit.orders`](parameters::ORDERS), and neither its command line nor its initrd has
//! anything of one run. `/init` loads the modules, says `ready` on the control channel of
//! session 0, and reads its orders there: the records of the run file, with `words`, `time` and
//! `seed`. Devices of the run may be plugged in before that.
//!
//! # Other modules
//!
//! [`status`] has the exit statuses of virtinitrd itself. [`modules`] compares names of kernel
//! modules, for the packager and for `/init`. [`text`] and [`error`] make messages for people.

#![no_std]
// The guest's PID 1 parses with this crate, and does not panic on input.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod access;
pub mod console;
pub mod control;
pub mod error;
pub mod etc;
pub mod modules;
pub mod parameters;
pub mod port;
pub mod settings;
pub mod signal;
pub mod status;
pub mod superblock;
pub mod tag;
pub mod text;
pub mod user;
pub mod volume;
pub mod words;
pub mod workload;
