//! The smallest program that can tell how far a machine has come: an ELF file of
//! one segment, without a libc that would have to start first.
//!
//! It writes three little-endian 64-bit words to standard output: the processor's
//! time stamp counter (under QEMU's `-icount` the nanoseconds of the guest since
//! reset), then `CLOCK_MONOTONIC` in seconds and nanoseconds.
//!
//! Formats: System V ABI, ELF-64 object file; Intel SDM volume 2; syscall(2).

use std::time::Duration;

/// Size of the output in bytes.
const OUTPUT: usize = 24;

#[rustfmt::skip]
const CODE: &[u8] = &[
    0x0f, 0x31,                   // rdtsc
    0x48, 0xc1, 0xe2, 0x20,       // shl rdx, 32
    0x48, 0x09, 0xd0,             // or rax, rdx
    0x50, 0x50, 0x50,             // push rax, three times: room for the output
    0x48, 0x8d, 0x74, 0x24, 0x08, // lea rsi, [rsp + 8]
    0x6a, 0x01, 0x5f,             // push 1; pop rdi: CLOCK_MONOTONIC
    0xb8, 0xe4, 0x00, 0x00, 0x00, // mov eax, 228: clock_gettime
    0x0f, 0x05,                   // syscall
    0x48, 0x89, 0xe6,             // mov rsi, rsp
    0xba, 0x18, 0x00, 0x00, 0x00, // mov edx, 24
    0x89, 0xf8,                   // mov eax, edi: 1 is write, and standard output
    0x0f, 0x05,                   // syscall
    0x31, 0xff,                   // xor edi, edi
    0xb8, 0x3c, 0x00, 0x00, 0x00, // mov eax, 60: exit
    0x0f, 0x05,                   // syscall
];

/// Address of the file in memory.
const ADDRESS: u64 = 0x40_0000;
/// Size in bytes of the file header and of the one program header.
const HEADERS: u64 = 64 + 56;

/// Makes the program's file.
#[must_use]
pub fn program() -> Vec<u8> {
    let size = HEADERS + CODE.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([2, 0, 62, 0]); // ET_EXEC, EM_X86_64
    file.extend(1_u32.to_le_bytes()); // version
    file.extend([ADDRESS + HEADERS, 64, 0].map(u64::to_le_bytes).as_flattened()); // entry, headers
    file.extend(0_u32.to_le_bytes()); // flags
    file.extend([64_u16, 56, 1, 0, 0, 0].map(u16::to_le_bytes).as_flattened()); // sizes and counts
    file.extend([1_u32, 5].map(u32::to_le_bytes).as_flattened()); // PT_LOAD, readable, executable
    file.extend([0, ADDRESS, ADDRESS, size, size, 0x1000].map(u64::to_le_bytes).as_flattened());
    file.extend(CODE);
    file
}

/// Reads the time stamp counter and the kernel's clock from the program's output.
///
/// `None` if the program did not write `output`.
#[must_use]
pub fn read(output: &[u8]) -> Option<(u64, Duration)> {
    let words: [u8; OUTPUT] = output.try_into().ok()?;
    let mut words = words.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
    let (counter, seconds, nanos) = (words.next()?, words.next()?, words.next()?);
    Some((counter, Duration::new(seconds, u32::try_from(nanos).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn it_runs_and_is_understood() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("counter");
        std::fs::write(&file, program()).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
        let read = || {
            let output = Command::new(&file).output().unwrap();
            assert!(output.status.success());
            super::read(&output.stdout).unwrap()
        };
        let (first, second) = (read(), read());
        assert!(first.0 < second.0 && first.1 < second.1, "{first:?} {second:?}");
        assert_eq!(super::read(b"short"), None);
    }
}
