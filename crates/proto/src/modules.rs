//! Names of kernel modules: `-` and `_` are the same (modprobe(8)).

use alloc::string::String;

/// The name with `_` only, as the kernel lists it.
#[must_use]
pub fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// Whether two names mean the same module.
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
        assert_eq!(canonical("usb-storage_x"), "usb_storage_x");
        assert!(is_same(b"usb-storage_x", b"usb_storage-x"));
        assert!(!is_same(b"usb", b"usb_") && !is_same(b"USB", b"usb"));
    }
}
