//! Values of fledge.toml that mean another thing than the examples of [`super::fledge`] have.

use super::fledge::{INITRAMFS, LEAST, NO_AGENT, converted};
use super::*;
use crate::model::Init;

/// The note of a file without manifest.toml.
const NO_MANIFEST: Note = ("run: without manifest.toml", "[run]");

#[test]
fn agents_inits_and_bases() {
    let sum = "2".repeat(64);
    let agent_put =
        |source: &str| format!("[[step]]\n{source}\nto = '/bin/kestrel'\nmode = '0755'\n");
    #[rustfmt::skip]
    let cases: &[(&str, String, &[Note])] = &[
        ("",                                                    String::new(), &[NO_AGENT, NO_MANIFEST]),
        ("[init]",                                              String::new(), &[NO_AGENT, NO_MANIFEST]),
        ("[init]\nnone = false\npath = ''",                     String::new(), &[NO_AGENT, NO_MANIFEST]),
        ("[agent]\nsource_strategy = 'local'\npath = './kestrel'", agent_put("put = 'kestrel'"), &[NO_MANIFEST, ("agent (line 3): the agent is", "nothing starts it")]),
        ("[agent]\nsource_strategy = 'http'\nurl = 'http://a/k'",  String::new(), &[NO_MANIFEST, ("agent.url (line 5): left out", "no checksum")]),
        (&format!("[agent]\nsource_strategy = 'http'\nurl = 'http://a/k'\nchecksum = '{sum}'"), agent_put(&format!("url = 'http://a/k'\nsha256 = '{sum}'")), &[NO_MANIFEST, ("agent (line 3): the agent is", "")]),
        ("[source]\nimage = 'alpine:3.20'",                     "from.oci = 'alpine:3.20'".into(), &[NO_AGENT, NO_MANIFEST]),
        ("[source]\nimage = ''\ncontext = '.'",                 String::new(), &[NO_AGENT, NO_MANIFEST, ("source.context (line 5): means nothing", "")]),
        ("[source]\nbusybox_sha256 = 'x'",                      String::new(), &[NO_AGENT, NO_MANIFEST, ("source.busybox_sha256 (line 4): means nothing", "")]),
        ("[filesystem]\ntype = 'ext4'",                         String::new(), &[NO_AGENT, NO_MANIFEST, ("filesystem (line 3): ", "oci_rootfs only")]),
    ];
    for (lines, expected, notes) in cases {
        let converted = converted(&format!("{LEAST}{lines}\n"), None);
        let output = "[[output]]\nfile = 'plugin.cpio.gz'\ncompress = 'gzip:9'";
        let expected = format!(
            "{INITRAMFS}{expected}
{output}"
        );
        assert_is(&converted, &expected);
        assert_notes(&converted, notes);
    }
}

#[test]
fn what_is_pid_1() {
    const OUTSIDE: &str = "it is PID 1 itself";
    #[rustfmt::skip]
    let cases: &[(&str, Option<Init>, &[&str])] = &[
        ("[init]\nnone = true\n[mappings]\n'a' = '/init'", Some(Init::None), &[]),
        ("[init]\nnone = true",                            Some(Init::None), &["nothing is mapped to /init"]),
        ("[init]\npath = './my-init'",                     Some(Init::File("my-init".into())), &[OUTSIDE]),
        ("[mappings]\n'a' = '/init'",                     Some(Init::None), &["mapped to /init is PID 1"]),
        ("[init]\npath = 'b'\n[mappings]\n'a' = '/init'", Some(Init::None), &["mapped to /init is PID 1", OUTSIDE]),
        // The example of fledge's guide names the path in the image.
        ("[init]\npath = '/sbin/x'\n[mappings]\n'b/x.sh' = '/sbin/x'", Some(Init::File("b/x.sh".into())), &[OUTSIDE]),
        ("[init]\npath = '/srv/x'",                        Some(Init::File("srv/x".into())), &[OUTSIDE, "copy it there, to srv/x"]),
    ];
    for (lines, init, notes) in cases {
        let converted = converted(&format!("{LEAST}{lines}\n"), None);
        assert_eq!(&converted.recipe.init, init, "{lines}");
        let fits = converted.notes.iter().zip(*notes).all(|(note, part)| note.contains(part));
        assert!(fits && converted.notes.len() == notes.len(), "{lines}\n{:#?}", converted.notes);
    }
}

#[test]
fn a_busybox_without_a_sum_is_left_out_and_named() {
    let url = "https://a.example/busybox";
    let converted = converted(&format!("{LEAST}[source]\nbusybox_url = '{url}'"), None);
    assert_eq!(converted.recipe.busybox, None);
    assert!(converted.notes[2].contains("sha256sum"), "{:#?}", converted.notes);
}

#[test]
fn disks() {
    #[rustfmt::skip]
    let cases: &[(&str, &str, &[&str])] = &[
        ("",                                                "file = 'plugin.squashfs'\nformat = 'squashfs'\ncompress = 'zstd:15'", &[]),
        ("[filesystem]",                                    "file = 'plugin.squashfs'\nformat = 'squashfs'\ncompress = 'zstd:15'", &[]),
        ("[filesystem]\ntype = ''\ncompression_level = 0",  "file = 'plugin.squashfs'\nformat = 'squashfs'\ncompress = 'zstd:15'", &[]),
        ("[filesystem]\ncompression_level = 1",             "file = 'plugin.squashfs'\nformat = 'squashfs'\ncompress = 'zstd:1'", &[]),
        ("[filesystem]\ntype = 'ext4'",                     "file = 'plugin.ext4'\nformat = 'ext4'\nslack = '25%'", &[]),
        ("[filesystem]\ntype = 'ext4'\nsize_buffer_mb = 100\npreallocate = false\noverlay_size = '1G'", "file = 'plugin.ext4'\nformat = 'ext4'\nslack = '25%'", &["slack", "squashfs only"]),
        ("[filesystem]\ntype = 'btrfs'\npreallocate = true\ncompression_level = 3", "file = 'plugin.btrfs'\nformat = 'btrfs'\nslack = '25%'", &["fallocate", "squashfs only"]),
        ("[filesystem]\ntype = 'xfs'\nsize_buffer_mb = 0", "file = 'plugin.xfs'\nformat = 'xfs'\nslack = '25%'", &[]),
    ];
    for (lines, output, notes) in cases {
        let text = format!(
            "version = '1'\nstrategy = 'oci_rootfs'\nsource = {{ image = 'nginx' }}\n{lines}\n"
        );
        let converted = converted(&text, None);
        assert_is(&converted, &format!("version = 1\nfrom.oci = 'nginx'\n[[output]]\n{output}"));
        assert_eq!(converted.notes.len(), notes.len(), "{:#?}", converted.notes);
        for note in *notes {
            let is_there = converted.notes.iter().any(|found| found.contains(note));
            assert!(is_there, "{note}\n{:#?}", converted.notes);
        }
    }
}
