//! Registers of the machine's devices, by which the guest shows what it listens to.
//!
//! Interface: the command `i` of QEMU's monitor (QEMU doc: system/monitor), which reads a port of
//! x86, sent through QMP.

use anyhow::Result;

use crate::process::qmp::Qmp;

/// A bit of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisterBit {
    /// Port of the register.
    pub port: u16,
    /// Size of the register. A read of more ports would read other registers, which may change
    /// by that.
    pub width: Width,
    /// Mask of the bit.
    pub mask: u16,
}

/// Size of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Word,
}

impl RegisterBit {
    /// Asks QEMU for the register. Returns the number of the question.
    ///
    /// # Errors
    /// QEMU has ended.
    pub fn ask(self, qmp: &mut Qmp) -> Result<u64> {
        let letter = match self.width {
            Width::Byte => 'b',
            Width::Word => 'h',
        };
        qmp.send_monitor(&format!("i /{letter}x {:#x}", self.port))
    }

    /// Whether the guest has set the bit, according to QEMU's `answer`; `None` if the answer has
    /// no value.
    #[must_use]
    pub fn is_set(self, answer: &str) -> Option<bool> {
        let absent = match self.width {
            Width::Byte => 0xff,
            Width::Word => 0xffff,
        };
        let value = value(answer)?;
        // All bits are set at a port without a device.
        Some(value != absent && value & self.mask != 0)
    }
}

/// The value in an answer such as `portb[0x03f9] = 0x05`.
fn value(answer: &str) -> Option<u16> {
    let (_, hex) = answer.trim().rsplit_once("= 0x")?;
    u16::from_str_radix(hex, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_read_from_answers() {
        let byte = RegisterBit { port: 0x3f9, width: Width::Byte, mask: 1 };
        let word = RegisterBit { port: 0x602, width: Width::Word, mask: 0x100 };
        for (bit, answer, expected) in [
            (byte, "portb[0x03f9] = 0x05\r\n", Some(true)),
            (byte, "portb[0x03f9] = 0x00\r\n", Some(false)),
            (byte, "portb[0x03f9] = 0xff\r\n", Some(false)),
            (word, "portw[0x0602] = 0x0120", Some(true)),
            (word, "portw[0x0602] = 0x0020", Some(false)),
            (word, "portw[0x0602] = 0xffff", Some(false)),
            (word, "unknown command: 'i'\r\n", None),
            (word, "", None),
        ] {
            assert_eq!(bit.is_set(answer), expected, "{answer:?}");
        }
    }
}
