//! Targets for the readers of `/init`: the kernel command line, the records of a run, the
//! messages of a session, and the first bytes of disks and programs.

use anyhow::{Result, ensure};
use proto::control::{Lines, ToGuest, ToHost};
use proto::settings::health::Schedule;
use proto::settings::{Command, Record, Settings, encode};
use proto::superblock;
use proto::tag::Tag;
use proto::words::Words;
use virtinitrd_init::cmdline::Config;
use virtinitrd_init::cmdline::device::PartitionId;
use virtinitrd_init::cmdline::fail::Fail;
use virtinitrd_init::cmdline::module_parameters;
use virtinitrd_init::disk::partitions;
use virtinitrd_init::run::interpreter;

use super::input::Answer;

/// Words of a kernel command line, so that damaged lines get past the first check.
#[rustfmt::skip]
pub(super) const LINE_WORDS: &[&str] = &[
    "rootfs", "root", "rootfstype", "rootflags", "rootwait", "rootdelay", "ro", "rw", "mount",
    "mount-ro", "init", "debug", "virtinit.debug", "virtinit.etc", "virtinit.fail", "virtinit.mount",
    "virtinit.orders", "virtinit.overlay", "virtinit.wait", "--", "=", "\"", " ", "\n", "\t", "-", "_", ".", "/", "..",
    "a", "virtiofs", "/dev/vda", "é", "\0", "module.param", "virtinit.", "reboot", "5", "4294967296",
    "0123456789012345678901234567890123456", ":/", "LABEL=", "PARTUUID=", "tmpfs", "nofail",
];

/// Seeds of command lines.
pub(super) fn lines() -> Vec<Vec<u8>> {
    let lines = [
        "",
        "console=ttyS0 quiet rootfstype=virtiofs root=rootfs ro mount=mnt0 init=/run/mnt/mnt0/x",
        "root=PARTUUID=11223344-5566-7788-99aa-bbccddeeff00 rootfstype=ext4,xfs rootflags=noatime \
         rootwait=3 rootdelay=1 rw virtinit.overlay=50%",
        "virtinit.mount=LABEL=a:b:/data:ext4:ro,nofail virtinit.etc=overlay virtinit.wait=7 \
         virtinit.fail=shell loop.max_loop=3 usb-storage.quirks=\"a b\"",
        "mount=a mount-ro=\"b c\" init=/bin/sh -- -c \"echo a; echo b\" X=\"y z\" -- debug",
    ];
    lines.iter().map(|line| line.as_bytes().to_vec()).collect()
}

/// Rules for every command line.
pub(super) fn check_line(line: &[u8]) -> Result<Answer> {
    let words: Vec<_> = Words::new(line).collect();
    let length: usize = words.iter().map(|word| word.param.len()).sum();
    ensure!(length <= line.len(), "words are longer than the line");
    let blank = [line, b" \n"].concat();
    let same = Words::new(&blank).collect::<Vec<_>>() == words;
    // Inside an open quote the blank is part of the last word.
    ensure!(same || line.contains(&b'"'), "white space at the end changes the words");

    let fail = Fail::parse(line);
    ensure!(
        fail == Fail::parse(&[line, b" -- virtinit.fail=panic"].concat()) || line.contains(&b'"'),
        "a payload's argument is taken for a parameter"
    );

    let Ok(config) = Config::parse(line) else { return Ok(Answer::Refused) };
    for (index, share) in config.shares.iter().enumerate() {
        ensure!(Tag::parse(share.tag.as_bytes()).is_ok(), "a bad tag came through");
        let twice = config.shares.iter().skip(index + 1).any(|other| other.tag == share.tag);
        ensure!(!twice, "a tag is mounted twice");
    }
    ensure!(!config.init.is_empty(), "an empty init=");
    ensure!(config.args.len() <= words.len(), "more arguments than words");
    let parameters = module_parameters::of_module(&config.module_words, b"loop");
    ensure!(parameters.len() <= 2 * line.len(), "parameters of a module are longer than the line");
    Ok(Answer::Accepted)
}

/// Keys of records.
pub(super) const RECORD_WORDS: &[&str] = &[
    "arg=",
    "env=",
    "cwd=",
    "user=",
    "restart=",
    "make-cwd=",
    "stop-signal=",
    "image-volume=",
    "health-arg=",
    "health=",
    "30000 30000 0 5000 3",
    "37",
    "terminal=",
    "hostname=",
    "volume=",
    "network=",
    "alone=",
    "no",
    "on-failure",
    "always",
    "\0",
    "=",
    "/",
    ":",
    "24 80",
    "rw ",
    "ro ",
    "PATH=/bin",
];

/// Seeds of records.
pub(super) fn records() -> Vec<Vec<u8>> {
    let records = [
        &[Record::Arg(b"/bin/sh"), Record::Arg(b"-c"), Record::Arg(b"echo \"a b\"\n")][..],
        &[Record::Arg(b"x"), Record::Env(b"A=b"), Record::Cwd(b"/tmp"), Record::User(b"12:34")],
        &[Record::Hostname(b"guest")],
        &[Record::Arg(b"x"), Record::MakeCwd(b"/srv"), Record::ImageVolume(b"/data")],
        &[Record::Arg(b"x"), Record::StopSignal(37), Record::HealthArg(b"check")],
        &[Record::Arg(b"x"), Record::Health(Schedule::default())],
    ];
    let more = b"terminal=24 80\0network=\0alone=\0volume=rw tag /data\0restart=always\0";
    records.iter().map(|records| encode(records)).chain([more.to_vec()]).collect()
}

/// Rules for the records of a run, which come from the host or from a root.
pub(super) fn check_records(text: &[u8]) -> Result<Answer> {
    let of_root = Command::parse(text);
    let Ok(settings) = Settings::parse(text) else { return Ok(Answer::Refused) };
    let args = settings.command.args.iter().chain(&settings.command.env);
    let length: usize = args.map(|arg| arg.to_bytes().len()).sum();
    ensure!(length <= text.len(), "words are longer than the text");
    if let Ok(request) = of_root {
        ensure!(request.args == settings.command.args, "host and root read different words");
    }
    Ok(Answer::Accepted)
}

/// Words of control messages.
pub(super) const MESSAGE_WORDS: &[&str] = &[
    "request ",
    "resize ",
    "signal ",
    "close ",
    "session ",
    "started ",
    "exited ",
    "failed ",
    "\n",
    " ",
    "0",
    "255",
    "256",
    "-1",
    "18446744073709551616",
    "65536",
    "125 ",
];

/// Seeds of messages of both sides.
pub(super) fn messages() -> Vec<Vec<u8>> {
    let of_host = b"request 100\nresize 24 80\nsignal 15\nclose 1\nsession 7\n";
    let of_guest = b"started 1000 2000\nexited 3 100 0\nfailed 127 execute x: not found\n";
    vec![of_host.to_vec(), of_guest.to_vec()]
}

/// Rules for messages, which arrive in pieces of any size.
pub(super) fn check_messages(bytes: &[u8]) -> Result<Answer> {
    /// Limit for the bytes of an unfinished line; it is above the longest valid line.
    const HELD_MAX: usize = 16 << 10;
    let mut answer = Answer::Refused;
    let mut taken = Vec::new();
    let size = bytes.first().map_or(1, |byte| usize::from(*byte) % 61 + 1);
    let mut lines = Lines::default();
    for piece in bytes.chunks(size) {
        lines.push(piece);
        while let Some(line) = lines.next_line() {
            ensure!(!line.contains(&b'\n'), "a line with a newline in it");
            if let Some(message) = ToGuest::parse(&line) {
                let again = message.to_string();
                let again = ToGuest::parse(again.trim_end().as_bytes());
                ensure!(again == Some(message), "{message:?} is read as {again:?}");
                answer = Answer::Accepted;
            }
            if let Some(message) = ToHost::parse(&line) {
                let again = message.to_line();
                let read = ToHost::parse(again.strip_suffix(b"\n").unwrap_or_default());
                ensure!(read.is_some(), "{message:?} is not read again");
                answer = Answer::Accepted;
            }
            taken.push(line);
        }
    }
    ensure!(lines.take_rest().len() <= HELD_MAX, "an unfinished line is kept beyond the limit");
    let all: usize = taken.iter().map(|line| line.len() + 1).sum();
    ensure!(all <= bytes.len(), "lines have more bytes than the input");
    Ok(answer)
}

/// Seeds for the first bytes of disks and programs.
pub(super) fn heads() -> Vec<Vec<u8>> {
    let mut gpt = vec![0; 2 << 10];
    gpt[510..512].copy_from_slice(b"\x55\xaa");
    gpt[446 + 4] = 0xee;
    gpt[512..520].copy_from_slice(b"EFI PART");
    // `HeaderSize`, `PartitionEntryLBA`, `NumberOfPartitionEntries` and
    // `SizeOfPartitionEntry` (UEFI specification, section 5.3.2).
    for (at, number) in [(524, 92_u32), (584, 2), (592, 128), (596, 128)] {
        gpt[at..at + 4].copy_from_slice(&number.to_le_bytes());
    }
    let mut ext4 = vec![0; 2 << 10];
    ext4[1080..1082].copy_from_slice(b"\x53\xef");
    ext4[1128..1144].copy_from_slice(&[7; 16]);
    ext4[1144..1149].copy_from_slice(b"label");
    let script = b"#! /bin/sh -x\necho\n".to_vec();
    let elf = super::kernels::program();
    vec![gpt, ext4, script, elf]
}

/// Rules for the bytes that identify a root's device, or the program that is the
/// payload.
pub(super) fn check_head(bytes: &[u8]) -> Result<Answer> {
    let mut answer = Answer::Refused;
    if let Some(found) = superblock::identify(bytes) {
        ensure!(found.label.len() <= 256, "a label of {} bytes", found.label.len());
        answer = Answer::Accepted;
    }
    let number = PartitionId::Number { signature: 0, number: 1 };
    for wanted in [number, PartitionId::Guid([0; 16]), PartitionId::Label(b"x")] {
        let _ = partitions::find_in_mbr(&wanted, bytes); // every answer is allowed
        for block in [512, partitions::BLOCK_MAX] {
            if let Some(entries) = partitions::gpt(bytes, block) {
                ensure!(entries.length <= 255 * 128, "{} bytes of entries", entries.length);
                let _ = partitions::find_in_gpt(&wanted, bytes); // every answer is allowed
                answer = Answer::Accepted;
            }
        }
    }
    if let Ok(Some(interpreter)) = interpreter::interpreter(bytes) {
        ensure!(interpreter.len() <= bytes.len(), "an interpreter longer than its program");
        answer = Answer::Accepted;
    }
    Ok(answer)
}
