//! Kernel modules: which files a name needs, and in which order they load.
//!
//! A module takes this way, from the option `--module` to the initrd:
//! [`resolve`] asks [`dir`] for each name and lists what loads, [`dir`] reads the
//! listed files, and [`strip`] makes them smaller. `/init` loads them in that order.
//!
//! | Module | What it does |
//! |---|---|
//! | [`name`] | derives a module's name from a file's path |
//! | [`dependencies`] | holds what one module needs |
//! | [`index`] | parses modules.dep, modules.order and modules.softdep |
//! | [`alias`] | parses modules.alias and modules.builtin.modinfo |
//! | [`mod@file`] | unpacks one module file and reads its `.modinfo` |
//! | [`resolve`] | decides what loads and in which order, without I/O |
//! | [`dir`] | looks names up in a modules directory |
//! | [`trace`] | removes calls of the function tracer from a module |
//! | [`strip`] | removes debugging information, BTF and signatures from a module |
//!
//! Formats: those of depmod(8), those of the kernel's build (kernel doc:
//! kbuild/kbuild.rst), and ELF with the section `.modinfo`.

pub mod alias;
pub mod dependencies;
pub mod dir;
pub mod file;
pub mod index;
pub mod name;
pub mod resolve;
pub mod strip;
pub mod trace;
