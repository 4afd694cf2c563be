//! Registers of the machine's devices, by which the guest shows what it listens to.
//!
//! Interface: the command `i` of QEMU's monitor (QEMU doc: system/monitor), which reads a port of
//! x86, sent through QMP.

use anyhow::{Context, Result};

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
    /// Whether the guest has set the bit.
    ///
    /// # Errors
    /// QEMU does not answer, or refuses the command.
    pub fn is_set(self, qmp: &mut Qmp) -> Result<bool> {
        // `absent` is the value of a port without a device.
        let (letter, absent) = match self.width {
            Width::Byte => ('b', 0xff),
            Width::Word => ('h', 0xffff),
        };
        let answer = qmp.monitor(&format!("i /{letter}x {:#x}", self.port))?;
        let value = value(&answer).with_context(|| format!("QEMU reads a port: {answer}"))?;
        Ok(value != absent && value & self.mask != 0)
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
    fn values_are_read_from_answers() {
        for (answer, expected) in [
            ("portb[0x03f9] = 0x05\r\n", Some(5)),
            ("portw[0x0602] = 0xffff", Some(0xffff)),
            ("unknown command: 'i'\r\n", None),
            ("", None),
        ] {
            assert_eq!(value(answer), expected, "{answer:?}");
        }
    }
}
