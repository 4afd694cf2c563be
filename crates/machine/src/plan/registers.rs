//! Registers of a machine's devices, by which the guest shows what it listens to.
//!
//! Interface: the commands `i` and `xp` of QEMU's monitor (QEMU doc: system/monitor), which read
//! a port of x86 and an address of physical memory.

/// A bit of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisterBit {
    /// Place of the register.
    pub at: Register,
    /// Size of the register. A read of more bytes would read other registers, which may change
    /// by that.
    pub width: Width,
    /// Mask of the bit.
    pub mask: u32,
}

/// Place of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// A port of x86.
    Port(u16),
    /// A physical address.
    Memory(u64),
}

/// Size of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Half,
    /// 32 bits.
    Word,
}

impl RegisterBit {
    /// The command of the monitor that reads the register.
    #[must_use]
    pub fn question(self) -> String {
        let letter = match self.width {
            Width::Byte => 'b',
            Width::Half => 'h',
            Width::Word => 'w',
        };
        match self.at {
            Register::Port(port) => format!("i /{letter}x {port:#x}"),
            Register::Memory(address) => format!("xp /1{letter}x {address:#x}"),
        }
    }

    /// Whether the guest has set the bit, according to QEMU's `answer`; `None` if the answer has
    /// no value.
    #[must_use]
    pub fn is_set(self, answer: &str) -> Option<bool> {
        let absent = match self.width {
            Width::Byte => 0xff,
            Width::Half => 0xffff,
            Width::Word => u32::MAX,
        };
        let value = value(answer)?;
        // All bits are set at a port without a device.
        Some(value != absent && value & self.mask != 0)
    }
}

/// The value in an answer such as `portb[0x03f9] = 0x05` or `0000000009000038: 0x00000050`.
fn value(answer: &str) -> Option<u32> {
    let (_, hex) = answer.trim().rsplit_once(" 0x")?;
    u32::from_str_radix(hex, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_read_from_answers() {
        let byte = RegisterBit { at: Register::Port(0x3f9), width: Width::Byte, mask: 1 };
        let half = RegisterBit { at: Register::Port(0x602), width: Width::Half, mask: 0x100 };
        let at = Register::Memory(0x900_0038);
        let word = RegisterBit { at, width: Width::Word, mask: 0x10 };
        for (bit, answer, expected) in [
            (byte, "portb[0x03f9] = 0x05\r\n", Some(true)),
            (byte, "portb[0x03f9] = 0x00\r\n", Some(false)),
            (byte, "portb[0x03f9] = 0xff\r\n", Some(false)),
            (half, "portw[0x0602] = 0x0120", Some(true)),
            (half, "portw[0x0602] = 0x0020", Some(false)),
            (half, "portw[0x0602] = 0xffff", Some(false)),
            (half, "unknown command: 'i'\r\n", None),
            (half, "", None),
            (word, "0000000009000038: 0x00000050\r\n", Some(true)),
            (word, "0000000009000038: 0x00000000\r\n", Some(false)),
            (word, "0000000009000038: Cannot access memory\r\n", None),
        ] {
            assert_eq!(bit.is_set(answer), expected, "{answer:?}");
        }
    }

    #[test]
    fn questions_name_size_and_place() {
        let port = RegisterBit { at: Register::Port(0x602), width: Width::Half, mask: 1 };
        assert_eq!(port.question(), "i /hx 0x602");
        let at = Register::Memory(0x900_0038);
        let memory = RegisterBit { at, width: Width::Word, mask: 1 };
        assert_eq!(memory.question(), "xp /1wx 0x9000038");
    }
}
