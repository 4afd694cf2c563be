//! Mistakes in the files, and their places.

use super::*;

/// The least that buildfs takes.
const BUILDFS: &str =
    "[filesystem]\nsize_mib = 8\n[container]\nimage = { name = 'a', tag = 'b' }\n";

/// The least that fledge takes.
const FLEDGE: &str = "version = '1'\nstrategy = 'initramfs'\n";

#[test]
fn mistakes_in_build_toml() {
    let with = |rest: &str| format!("{BUILDFS}{rest}");
    #[rustfmt::skip]
    let cases: &[(String, usize, usize, &str)] = &[
        ("a = ".into(),                                                1, 5,  ""),
        ("[filesystem]\nsize_mib = 1".into(),                          1, 1,  "container is missing"),
        ("[container]".into(),                                         1, 1,  "filesystem is missing"),
        ("filesystem = 1".into(),                                      1, 14, "filesystem must be a table"),
        ("[filesystem]\n[container]".into(),                           1, 2,  "filesystem.size_mib is missing"),
        ("[filesystem]\nsize_mib = 0".into(),                          2, 12, "filesystem.size_mib must be a number from 1 to 4294967295"),
        ("[filesystem]\nsize_mib = -1".into(),                         2, 12, "number"),
        ("[filesystem]\nsize_mib = 1\ntype = 'ext4'".into(),           3, 8,  "filesystem.type must be one of Ext4, Btrfs, Squashfs, Vfat, Xfs"),
        ("[filesystem]\nsize_mib = 1\nmkfs_args = [1]".into(),         3, 14, "filesystem.mkfs_args[0] must be a text"),
        ("[filesystem]\nsize_mib = 1\n[container]\nimage = {}".into(), 4, 1,  "container.image.name is missing"),
        (with("env = { A = 1 }"),                                      5, 13, "container.env.A must be a text"),
        (with("volumes = { a = 'b/../c' }"),                           5, 17, "without \"..\""),
        (with("volumes = { a = '/v', b = 'v' }"),                      5, 27, "another volume"),
        (with("env = { A = \"\\u0000\" }"),                            5, 13, "NUL"),
        (with("[[commands]]"),                                         5, 1,  "commands[0] must have exactly one of command, script_inline, script_path"),
        (with("[[commands]]\ncommand = 'a'\nscript_path = 'b'"),       5, 1,  "exactly one"),
        (with("[[commands]]\ncommand = ' '"),                          6, 11, "must name a program"),
        (with("[[commands]]\ncommand = ['a']"),                        6, 11, "must be a text"),
        (with("[[commands]]\ncommand = 'a'\nuid = 1.5"),               7, 7,  "number"),
        (with("[[commands]]\nscript_path = ''"),                       6, 15, "path of a file"),
        (with("[[commands]]\ncommand = 'a'\nworking_dir = '/a/..'"),   7, 15, "without \"..\""),
        (with("[[overlays]]\nsource = 'a'"),                           5, 1,  "overlays[0].destination is missing"),
        (with("[[overlays]]\ndestination = '/a'"),                     5, 1,  "exactly one of source, source_inline"),
        (with("[[overlays]]\ndestination = '/a'\nsource = 'b'\nsource_inline = 'c'"), 5, 1, "exactly one"),
        (with("[[overlays]]\ndestination = '/a'\nsource_inline = 'c'\nis_directory = true"), 5, 1, "source"),
        (with("[[overlays]]\ndestination = ''\nsource = 'c'"),         6, 15, "path of the image"),
        (with("[export.files]\ninclude = '/a'"),                       6, 11, "must be a list"),
        (with("[export.files]\ncreate = ['/a/../b']"),                 6, 11, "without"),
        (format!("# {}", "x".repeat(1 << 20)),                         1, 1,  "more than 1048576 bytes"),
    ];
    for (text, line, column, message) in cases {
        let mistake = buildfs(text).expect_err(text);
        assert!(mistake.message.contains(message), "{mistake}\n{text}");
        let place = Position { line: *line, column: *column };
        assert_eq!(mistake.position, place, "{mistake}\n{text}");
    }
}

#[test]
fn mistakes_in_fledge_toml() {
    let with = |rest: &str| format!("{FLEDGE}{rest}");
    #[rustfmt::skip]
    let cases: &[(String, usize, usize, &str)] = &[
        ("version = '1'\nversion = '1'".into(),                     2, 1,  "duplicate"),
        ("strategy = 'initramfs'".into(),                           1, 1,  "version is missing"),
        ("version = 1\nstrategy = 'initramfs'".into(),              1, 11, "version must be a text"),
        ("version = '2'\nstrategy = 'initramfs'".into(),            1, 11, "must be \"1\""),
        ("version = '1'".into(),                                    1, 1,  "strategy is missing"),
        ("version = '1'\nstrategy = 'x'".into(),                    2, 12, "must be \"initramfs\" or \"oci_rootfs\""),
        (with("[agent]"),                                           3, 2,  "agent.source_strategy is missing"),
        (with("[agent]\nsource_strategy = 'x'"),                    4, 19, "\"release\", \"local\" or \"http\""),
        (with("[agent]\nsource_strategy = 'local'"),                3, 2,  "agent.path is missing"),
        (with("[agent]\nsource_strategy = 'http'\nurl = 'ftp://x'"), 5, 7, "http:// or https://"),
        (with("[agent]\nsource_strategy = 'http'\nurl = 'http://x'\nchecksum = 'ab'"), 6, 12, "64 hexadecimal digits"),
        (with("[source]\nimage = 'a'\ndockerfile = 'b'"),           5, 14, "must not be there beside source.image"),
        (with("[source]\nbusybox_url = 'file:///x'"),               4, 15, "http:// or https://"),
        (with("[source]\nbusybox_url = 'http://x'\nbusybox_sha256 = 'ä'"), 5, 18, "64 hexadecimal digits"),
        (with("[init]\nnone = true\npath = 'x'"),                   5, 8,  "must not be there beside init.none"),
        (with("[init]\nnone = 'yes'"),                              4, 8,  "true or false"),
        (with("[mappings]\na = 'b'"),                               4, 5,  "mappings.a must begin with /"),
        (with("[mappings]\na = '/b/../c'"),                         4, 5,  "without \"..\""),
        (with("[mappings]\na = 1"),                                 4, 5,  "must be a text"),
        (with("[mappings]\n'' = '/a'"),                             4, 6,  "path of a file"),
        (with("[mappings]\n\"\\u0000\" = '/a'"),                    4, 12, "NUL"),
        ("version = '1'\nstrategy = 'oci_rootfs'\nfilesystem.type = 'zfs'".into(), 3, 19, "squashfs, ext4, xfs, btrfs"),
        ("version = '1'\nstrategy = 'oci_rootfs'\nfilesystem.compression_level = 23".into(), 3, 32, "from 0 to 22"),
        (format!("# {}", "x".repeat(1 << 20)),                      1, 1,  "more than 1048576 bytes"),
    ];
    for (text, line, column, message) in cases {
        let mistake = fledge(text, None).expect_err(text);
        assert!(mistake.message.contains(message), "{mistake}\n{text}");
        let place = Position { line: *line, column: *column };
        assert_eq!(mistake.position, place, "{mistake}\n{text}");
    }
}

#[test]
fn mistakes_in_manifest_toml() {
    #[rustfmt::skip]
    let cases: &[(String, usize, usize, &str)] = &[
        ("name = ".into(),                                    1, 8,  "manifest.toml: "),
        ("schema_version = 'v2'".into(),                      1, 18, "manifest.toml: schema_version must be \"v1\""),
        ("[resources]\ncpu_cores = 0".into(),                 2, 13, "resources.cpu_cores must be a number"),
        ("[resources]\nmemory_mb = 'a'".into(),               2, 13, "resources.memory_mb must be a number"),
        ("[workload]\nentrypoint = 1".into(),                 2, 14, "workload.entrypoint must be a text"),
        ("[workload]\nargs = 'a'".into(),                     2, 8,  "workload.args must be a list"),
        ("[network]\nmode = 'bridge'".into(),                 2, 8,  "\"bridged\", \"vsock\" or \"dhcp\""),
        ("[[network.expose]]\nport = 0".into(),               2, 8,  "network.expose[0].port must be a number from 1 to 65535"),
        ("[[network.expose]]\nport = 1\nprotocol = 'sctp'".into(), 1, 1, "network.expose[0] must have \"tcp\" or \"udp\""),
        ("[[network.expose]]\nport = 1\nhost_port = 65536".into(), 3, 13, "network.expose[0].host_port must be a number from 0"),
        (format!("# {}", "x".repeat(1 << 20)),                1, 1,  "manifest.toml: the file has more than"),
    ];
    for (text, line, column, message) in cases {
        let mistake = fledge(FLEDGE, Some(text)).expect_err(text);
        assert!(mistake.message.contains(message), "{mistake}\n{text}");
        let place = Position { line: *line, column: *column };
        assert_eq!(mistake.position, place, "{mistake}\n{text}");
    }
}
