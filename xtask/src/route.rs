//! Compiler, target and linker with which `/init` is linked against musl.
//!
//! Every Rust toolchain has `core` and `alloc` for the host's glibc target; those for the
//! musl target have to be installed. The guest needs no `std`, so `/init` is built for
//! either target and linked against musl.
//!
//! For another architecture than the host's, there are two routes, too: the musl target of the
//! toolchain in use, or the glibc target of Debian's own compiler, whose libraries are packages of
//! that architecture. `scripts/setup ARCH` installs the second one. Both link with Debian's cross
//! compiler.

use std::env::consts::ARCH;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use machine::host::find_program;
use machine::toolchain::{MUSL_LINKER, has_target, host_triple, musl_target, rustc};

/// A route to a static `/init`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// The compiler.
    pub(crate) rustc: OsString,
    /// Rust's target.
    pub(crate) target: String,
    /// The linker; `None` stands for that of the target.
    pub(crate) linker: Option<&'static str>,
    /// Specs of gcc with which the linker takes musl instead of its own libc; `None` if it takes
    /// musl anyway.
    pub(crate) specs: Option<&'static Path>,
}

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
    /// Specs of gcc that come with musl.
    specs: &'static str,
}

#[rustfmt::skip]
const CROSS: &[CrossTools] = &[
    CrossTools { arch: "aarch64", musl: "aarch64-unknown-linux-musl", glibc: "aarch64-unknown-linux-gnu", linker: "aarch64-linux-gnu-gcc", specs: "/usr/lib/aarch64-linux-musl/musl-gcc.specs" },
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
            ARCH => Self::native(),
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
            format!("--target {arch}: /init is built for {ARCH} and {}", known.join(", "))
        })?;
        let CrossTools { musl, glibc, linker, specs, .. } = tools;
        let remedy = format!("run `scripts/setup {arch}`, or `rustup target add {musl}`");
        let linker = Some(*linker);
        let route = if has_target(&rustc(), musl)? {
            Self { rustc: rustc(), target: (*musl).into(), linker, specs: None }
        } else {
            let rustc = OsString::from(SYSTEM_RUSTC);
            let is_there = Path::new(specs).is_file() && has_target(&rustc, glibc).unwrap_or(false);
            ensure!(is_there, "--target {arch}: no Rust library for it is installed: {remedy}");
            Self { rustc, target: (*glibc).into(), linker, specs: Some(Path::new(specs)) }
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
        let specs = self.specs.into_iter().flat_map(|specs| {
            // Rust's own library for this processor asks the C library for the processor's
            // features, and comes behind it.
            [format!("-Clink-arg=-specs={}", specs.display()), "-Clink-arg=-l:libc.a".into()]
        });
        linker.into_iter().chain(specs).collect()
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
    Route { rustc: rustc(), target, linker, specs: None }
}

/// Path of the built `/init` for the architecture `arch` in the source tree `root`.
#[must_use]
pub(crate) fn init_path(root: &Path, arch: &str) -> PathBuf {
    root.join(target_dir(arch)).join("init")
}

/// Directory for the build of `/init` for the architecture `arch`, below the source tree.
#[must_use]
pub(crate) fn target_dir(arch: &str) -> String {
    if arch == ARCH { "target/guest".to_owned() } else { format!("target/guest-{arch}") }
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
            assert_eq!((&*route.target, route.linker, route.specs), (target, linker, None));
        }
    }

    #[test]
    fn an_architecture_without_tools_is_an_error() {
        let error = Route::to("vax").unwrap_err().to_string();
        assert!(error.starts_with("--target vax: /init is built for "), "{error}");
    }

    #[test]
    fn a_foreign_libc_comes_behind_the_libraries_of_rust() {
        let specs = Some(Path::new("/s"));
        let linker = Some("x-gcc");
        let route = Route { rustc: "rustc".into(), target: "x".into(), linker, specs };
        let flags = ["-Clinker=x-gcc", "-Clink-arg=-specs=/s", "-Clink-arg=-l:libc.a"];
        assert_eq!(route.flags(), flags);
        assert_eq!(Route { specs: None, ..route }.flags(), flags[..1]);
    }

    #[test]
    fn each_architecture_has_its_directory() {
        let root = Path::new("/r");
        assert_eq!(init_path(root, ARCH), Path::new("/r/target/guest/init"));
        assert_eq!(init_path(root, "vax"), Path::new("/r/target/guest-vax/init"));
    }
}
