//! Compiler, target and linker with which `/init` is linked against musl.
//!
//! Every Rust toolchain has `core` and `alloc` for the host's glibc target; those for the
//! musl target have to be installed. The guest needs no `std`, so `/init` is built for
//! either target and linked against musl.
//!
//! For another architecture than the host's, there are two routes, too: the musl target of the
//! toolchain in use, or the glibc target of Debian's own compiler, whose libraries are packages of
//! that architecture. `scripts/setup ARCH` gets the second one: it installs the packages, or
//! unpacks them below `target/cross`. Both link with Debian's cross compiler.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use machine::host::find_program;
use machine::plan::architecture::HOST;
use machine::toolchain::{MUSL_LINKER, has_target, host_triple, musl_target, rustc};

use crate::workspace;

/// A route to a static `/init`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// The compiler.
    pub(crate) rustc: OsString,
    /// Rust's target.
    pub(crate) target: String,
    /// The linker; `None` stands for that of the target.
    pub(crate) linker: Option<&'static str>,
    /// Libraries of the distribution for that target; `None` if the target brings its own.
    pub(crate) libraries: Option<Libraries>,
}

/// Rust's library with glibc, and musl, as packages of the distribution have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Libraries {
    /// The directory `usr` with both.
    usr: PathBuf,
    /// Name of the directory of musl in `usr/lib`.
    musl_dir: &'static str,
    /// Input of the linker with names that musl lacks; `None` if no crate asks for them.
    names: Option<PathBuf>,
}

/// Place of the libraries that the distribution has installed.
const INSTALLED: &str = "/usr";

/// Tools for an architecture that is not the host's.
struct CrossTools {
    /// Name of the architecture (`uname -m`).
    arch: &'static str,
    /// Rust's target with musl.
    musl: &'static str,
    /// Rust's target with glibc.
    glibc: &'static str,
    /// The cross compiler.
    linker: &'static str,
    /// Name of the directory of musl.
    musl_dir: &'static str,
    /// Code that makes the system calls of rustix.
    calls: Calls,
}

/// Code that makes the system calls of rustix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Calls {
    /// rustix itself.
    Own,
    /// The C library.
    CLibrary,
}

#[rustfmt::skip]
const CROSS: &[CrossTools] = &[
    CrossTools { arch: "aarch64", musl: "aarch64-unknown-linux-musl",     glibc: "aarch64-unknown-linux-gnu",     linker: "aarch64-linux-gnu-gcc",     musl_dir: "aarch64-linux-musl",     calls: Calls::Own },
    CrossTools { arch: "riscv64", musl: "riscv64gc-unknown-linux-musl",   glibc: "riscv64gc-unknown-linux-gnu",   linker: "riscv64-linux-gnu-gcc",     musl_dir: "riscv64-linux-musl",     calls: Calls::Own },
    CrossTools { arch: "ppc64le", musl: "powerpc64le-unknown-linux-musl", glibc: "powerpc64le-unknown-linux-gnu", linker: "powerpc64le-linux-gnu-gcc", musl_dir: "powerpc64le-linux-musl", calls: Calls::CLibrary },
    CrossTools { arch: "s390x",   musl: "s390x-unknown-linux-musl",       glibc: "s390x-unknown-linux-gnu",       linker: "s390x-linux-gnu-gcc",       musl_dir: "s390x-linux-musl",       calls: Calls::CLibrary },
];

/// Compiler of the distribution.
const SYSTEM_RUSTC: &str = "/usr/bin/rustc";

impl Route {
    /// The route to `/init` for the architecture `arch`.
    ///
    /// # Errors
    /// A tool is missing.
    pub(crate) fn to(arch: &str) -> Result<Self> {
        match arch {
            HOST => Self::native(),
            _ => Self::cross(arch),
        }
    }

    fn native() -> Result<Self> {
        let musl_target = musl_target();
        let installed = has_target(&rustc(), &musl_target)?.then_some(musl_target);
        let route = native(&host_triple()?, installed);
        if let Some(linker) = route.linker {
            ensure!(
                find_program(OsStr::new(linker)).is_some(),
                "{linker} not found: install it with `scripts/setup build` (Debian: musl-tools)"
            );
        }
        Ok(route)
    }

    fn cross(arch: &str) -> Result<Self> {
        let tools = CROSS.iter().find(|tools| tools.arch == arch).with_context(|| {
            let known: Vec<_> = CROSS.iter().map(|tools| tools.arch).collect();
            format!("--target {arch}: /init is built for {HOST} and {}", known.join(", "))
        })?;
        let CrossTools { musl, linker, .. } = tools;
        let linker = Some(*linker);
        let route = if has_target(&rustc(), musl)? {
            Self { rustc: rustc(), target: (*musl).into(), linker, libraries: None }
        } else {
            let libraries = tools.libraries(&workspace::root()?).with_context(|| {
                format!(
                    "--target {arch}: no Rust library for it is installed: run `scripts/setup \
                     {arch}`, or `rustup target add {musl}`"
                )
            })?;
            let rustc = SYSTEM_RUSTC.into();
            Self { rustc, target: tools.glibc.into(), linker, libraries: Some(libraries) }
        };
        let linker = tools.linker;
        ensure!(
            find_program(OsStr::new(linker)).is_some(),
            "--target {arch}: {linker} not found: run `scripts/setup {arch}`"
        );
        Ok(route)
    }

    /// Flags for rustc that belong to this route.
    pub(crate) fn flags(&self) -> Vec<String> {
        let linker = self.linker.map(|linker| format!("-Clinker={linker}"));
        let libraries = self.libraries.iter().flat_map(Libraries::flags);
        linker.into_iter().chain(libraries).collect()
    }
}

impl CrossTools {
    /// Finds the libraries that the distribution has installed, or that `scripts/setup` has
    /// unpacked in the source tree `root`.
    fn libraries(&self, root: &Path) -> Option<Libraries> {
        let names = match self.calls {
            Calls::Own => None,
            Calls::CLibrary => Some(root.join("init/libc64.ld")),
        };
        let unpacked = root.join("target/cross").join(self.arch).join("usr");
        [PathBuf::from(INSTALLED), unpacked]
            .map(|usr| Libraries { usr, musl_dir: self.musl_dir, names: names.clone() })
            .into_iter()
            .find(|libraries| {
                let rust = libraries.usr.join("lib/rustlib").join(self.glibc).join("lib");
                libraries.specs().is_file() && rust.is_dir()
            })
    }
}

impl Libraries {
    /// Specs of gcc with which the linker takes musl instead of its own libc.
    fn specs(&self) -> PathBuf {
        self.usr.join("lib").join(self.musl_dir).join("musl-gcc.specs")
    }

    fn flags(&self) -> Vec<String> {
        let mut flags = vec![format!("-Clink-arg=-specs={}", self.specs().display())];
        if self.usr != Path::new(INSTALLED) {
            flags.push(format!("--sysroot={}", self.usr.display()));
        }
        flags.extend(self.names.iter().map(|file| format!("-Clink-arg={}", file.display())));
        // Rust's own library for this processor asks the C library for the processor's
        // features, and comes behind it.
        flags.push("-Clink-arg=-l:libc.a".into());
        flags
    }
}

/// The route on this host, whose target is `host`, if `musl_target` is installed.
fn native(host: &str, musl_target: Option<String>) -> Route {
    let (target, linker) = match musl_target {
        Some(target) => (target, None),
        // On Alpine, the target of the host uses musl.
        None if host.ends_with("musl") => (host.to_owned(), None),
        None => (host.to_owned(), Some(MUSL_LINKER)),
    };
    Route { rustc: rustc(), target, linker, libraries: None }
}

/// Path of the built `/init` for the architecture `arch` in the source tree `root`.
#[must_use]
pub(crate) fn init_path(root: &Path, arch: &str) -> PathBuf {
    root.join(target_dir(arch)).join("init")
}

/// Directory for the build of `/init` for the architecture `arch`, below the source tree.
#[must_use]
pub(crate) fn target_dir(arch: &str) -> String {
    if arch == HOST { "target/guest".to_owned() } else { format!("target/guest-{arch}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_musl_target_is_used_if_it_is_installed() {
        let musl = Some("x86_64-unknown-linux-musl".to_owned());
        for (host, installed, target, linker) in [
            ("x86_64-unknown-linux-gnu", None, "x86_64-unknown-linux-gnu", Some("musl-gcc")),
            ("x86_64-unknown-linux-gnu", musl, "x86_64-unknown-linux-musl", None),
            ("x86_64-alpine-linux-musl", None, "x86_64-alpine-linux-musl", None),
        ] {
            let route = native(host, installed);
            assert_eq!((&*route.target, route.linker, route.libraries), (target, linker, None));
        }
    }

    #[test]
    fn an_architecture_without_tools_is_an_error() {
        let error = Route::to("vax").unwrap_err().to_string();
        assert!(error.starts_with("--target vax: /init is built for "), "{error}");
    }

    #[test]
    fn a_foreign_libc_comes_behind_the_libraries_of_rust() {
        let linker = Some("x-gcc");
        let route = |usr: &str, names: Option<&str>| {
            let libraries =
                Libraries { usr: usr.into(), musl_dir: "x-musl", names: names.map(PathBuf::from) };
            Route { rustc: "rustc".into(), target: "x".into(), linker, libraries: Some(libraries) }
        };
        let (gcc, libc) = ("-Clinker=x-gcc", "-Clink-arg=-l:libc.a");
        let specs = "-Clink-arg=-specs=/usr/lib/x-musl/musl-gcc.specs";
        assert_eq!(route("/usr", None).flags(), [gcc, specs, libc]);
        let specs = "-Clink-arg=-specs=/r/usr/lib/x-musl/musl-gcc.specs";
        let expected = [gcc, specs, "--sysroot=/r/usr", "-Clink-arg=/n.ld", libc];
        assert_eq!(route("/r/usr", Some("/n.ld")).flags(), expected);
        assert_eq!(Route { libraries: None, ..route("/usr", None) }.flags(), [gcc]);
    }

    #[test]
    fn libraries_are_installed_or_unpacked_whole() {
        let root = tempfile::tempdir().unwrap();
        let tools = CrossTools { arch: "vax", glibc: "vax-gnu", musl_dir: "vax-musl", ..CROSS[2] };
        let usr = root.path().join("target/cross/vax/usr");
        std::fs::create_dir_all(usr.join("lib/rustlib/vax-gnu/lib")).unwrap();
        assert_eq!(tools.libraries(root.path()), None);
        std::fs::create_dir_all(usr.join("lib/vax-musl")).unwrap();
        std::fs::write(usr.join("lib/vax-musl/musl-gcc.specs"), "").unwrap();
        let names = Some(root.path().join("init/libc64.ld"));
        let expected = Libraries { usr, musl_dir: "vax-musl", names };
        assert_eq!(tools.libraries(root.path()), Some(expected));
    }

    #[test]
    fn each_architecture_has_its_directory() {
        let root = Path::new("/r");
        assert_eq!(init_path(root, HOST), Path::new("/r/target/guest/init"));
        assert_eq!(init_path(root, "vax"), Path::new("/r/target/guest-vax/init"));
    }
}
