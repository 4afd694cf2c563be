//! Keys of `[from]`, `[build]`, `[init]` and `[busybox]`.

use crate::table::Form::{Map, Named, Number, Text, Texts, True, Truth, TruthOrTexts};
use crate::table::Need::{May, Must, MustWith, Verb, With};
use crate::table::{Key, Table, rule};

/// Kinds of bases that have a platform.
const OCI: &[&str] = &["oci", "oci-layout", "oci-archive", "docker-archive"];

/// Keys of `[from]`.
#[rustfmt::skip]
pub(super) const FROM: Table = Table { name: "[from]", example: "[from]", keys: &[
    Key { name: "oci",            need: Verb, form: Text(rule::LINE),         about: "OCI image of a registry, such as debian:12-slim" },
    Key { name: "oci-layout",     need: Verb, form: Text(rule::LINE),         about: "OCI image layout: a directory, with :TAG or @DIGEST after it" },
    Key { name: "oci-archive",    need: Verb, form: Text(rule::LINE),         about: "Archive of an OCI image layout" },
    Key { name: "docker-archive", need: Verb, form: Text(rule::LINE),         about: "Archive of docker save" },
    Key { name: "image",          need: Verb, form: Text(rule::HOST_PATH),    about: "Image file: cpio, tar, EROFS, ext4 or squashfs" },
    Key { name: "dir",            need: Verb, form: Text(rule::HOST_PATH),    about: "Directory of the host" },
    Key { name: "tar",            need: Verb, form: Text(rule::HOST_PATH),    about: "Tar archive, compressed or not" },
    Key { name: "recipe",         need: Verb, form: Text(rule::PACKAGE_PATH), about: "Another recipe of the package, whose tree is taken" },
    Key { name: "platform", need: With(OCI), form: Text(rule::PLATFORM), about: "Platform of the OCI image, such as linux/arm64; the host's by default" },
    Key { name: "digest",   need: With(&["image", "tar"]), form: Text(rule::SHA256_DIGEST), about: "SHA-256 of the file, as sha256:HEX" },
] };

/// Keys of `[build]`.
#[rustfmt::skip]
pub(super) const BUILD: Table = Table { name: "[build]", example: "[build]", keys: &[
    Key { name: "network",   need: May, form: Text(rule::NETWORK),              about: "Network of steps that do not choose one: none (default) or user" },
    Key { name: "timeout",   need: May, form: Text(rule::DURATION),             about: "Time limit of each command step that does not choose one; 1h by default" },
    Key { name: "memory",    need: May, form: Text(rule::MEMORY),               about: "Memory of the machine; without a suffix in MiB" },
    Key { name: "cpus",      need: May, form: Number(1, u32::MAX),              about: "Number of processors of the machine" },
    Key { name: "disk",      need: May, form: Text(rule::SIZE),                 about: "What all steps may write; 16G by default" },
    Key { name: "hostname",  need: May, form: Text(rule::HOST),                 about: "Host name during the build; localhost by default" },
    Key { name: "env",       need: May, form: Map(rule::VARIABLE, rule::ANY),   about: "Environment of all command steps" },
    Key { name: "secrets",   need: May, form: Named(rule::SECRET, &SECRET),     about: "Secrets by name; a step that names one finds it at /run/secrets/NAME" },
    Key { name: "cache",     need: May, form: Texts(rule::GUEST_PATH),          about: "Directories that are kept between builds and are not in the image" },
    Key { name: "volumes",   need: May, form: Named(rule::GUEST_PATH, &VOLUME), about: "Directories of the host by the path at which steps see them" },
    Key { name: "normalise", need: May, form: TruthOrTexts(rule::NORMALISATION), about: "What is made equal in all builds: true (default) for everything, false, or a list" },
    Key { name: "time",      need: May, form: Number(0, u32::MAX),              about: "Latest time of a file and time of the image, in seconds since 1970; SOURCE_DATE_EPOCH by default, else the newest time of a file of the base" },
] };

/// Keys of one secret.
#[rustfmt::skip]
const SECRET: Table = Table { name: "a secret", example: "secrets.npm = { env = \"NPM_TOKEN\" }", keys: &[
    Key { name: "env",  need: Verb, form: Text(rule::VARIABLE),  about: "Variable of the builder's environment" },
    Key { name: "file", need: Verb, form: Text(rule::HOST_PATH), about: "File of the host" },
] };

/// Keys of one volume of the build.
#[rustfmt::skip]
const VOLUME: Table = Table { name: "a volume", example: "volumes = { \"/srv/src\" = { path = \"../src\" } }", keys: &[
    Key { name: "path",     need: Must, form: Text(rule::HOST_PATH), about: "Directory of the host" },
    Key { name: "writable", need: May,  form: Truth,                 about: "Steps may write to it; false by default" },
] };

/// Keys of `[init]`.
#[rustfmt::skip]
pub(super) const INIT: Table = Table { name: "[init]", example: "[init]", keys: &[
    Key { name: "builtin", need: Verb, form: True,                     about: "The /init of this project" },
    Key { name: "file",    need: Verb, form: Text(rule::PACKAGE_PATH), about: "File of the package" },
    Key { name: "image",   need: Verb, form: Text(rule::GUEST_PATH),   about: "Program of the image" },
    Key { name: "none",    need: Verb, form: True,                     about: "Nothing is added" },
] };

/// Keys of `[busybox]`.
#[rustfmt::skip]
pub(super) const BUSYBOX: Table = Table { name: "[busybox]", example: "[busybox]", keys: &[
    Key { name: "path",    need: Verb, form: Text(rule::PACKAGE_PATH), about: "File of the package" },
    Key { name: "url",     need: Verb, form: Text(rule::URL),          about: "Address to download it from" },
    Key { name: "sha256",  need: MustWith(&["url"]), form: Text(rule::SHA256), about: "SHA-256 of the download" },
    Key { name: "to",      need: May,  form: Text(rule::GUEST_PATH),   about: "Path in the image; /bin/busybox by default" },
    Key { name: "applets", need: May,  form: Texts(rule::APPLET),      about: "Names of the links beside it; by default all common applets that it has" },
] };
