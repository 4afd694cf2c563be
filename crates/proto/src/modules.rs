//! Names of kernel modules.

/// Whether two names mean the same module: `-` and `_` are the same (modprobe(8)).
#[must_use]
pub fn is_same(one: &[u8], other: &[u8]) -> bool {
    let fold = |byte: &u8| if *byte == b'-' { b'_' } else { *byte };
    one.iter().map(fold).eq(other.iter().map(fold))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hyphens_and_underscores_are_the_same() {
        assert!(is_same(b"usb-storage_x", b"usb_storage-x"));
        assert!(!is_same(b"usb", b"usb_") && !is_same(b"USB", b"usb"));
    }
}
