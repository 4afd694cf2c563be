//! The programs as users run them: each test starts chrootvm or mkvirtinitrd.
//!
//! All tests are in one binary, which is linked once. They run at the same time, as threads of one
//! process, so no test changes the environment, the current directory or the umask of its own
//! process, and every descriptor that a test opens closes when another test starts a program.
//!
//! | Module | Content |
//! |---|---|
//! | `attributes` | extended attributes from a source to every format |
//! | `cache` | `chrootvm cache` |
//! | `chrootvm` | exit statuses, messages, closed streams |
//! | `coming_from` | the words in the table of `docs/coming-from.md` |
//! | `command_line` | words that are taken and refused |
//! | `completions` | scripts for shells |
//! | `config` | configuration files |
//! | `doctor` | `--doctor` |
//! | `formats` | every format as a source and as an output |
//! | `help` | `-h` and `--help` |
//! | `images` | `chrootvm image` |
//! | `kernel` | `chrootvm kernel` |
//! | `logs` | `chrootvm logs` |
//! | `machines` | machines that boot for ever: `ps`, `stop`, `restart`, `--detach` |
//! | `modules` | kernels and modules that do not suffice |
//! | `report` | `--report` without a machine |
//! | `script` | scripts that stand for other programs |
//! | `volumes` | paths of volumes that the guest lacks |

mod attributes;
mod cache;
mod chrootvm;
mod coming_from;
mod command_line;
mod completions;
mod config;
mod doctor;
mod formats;
mod help;
mod images;
mod kernel;
mod logs;
mod machines;
mod modules;
mod report;
mod script;
mod volumes;
