//! Names of the virtio-serial ports of a session.

use alloc::string::String;

use crate::text::compose;

/// The name of a port of session `number`. `stream` is `stdin`, `stdout`, `stderr` or
/// `control`.
#[must_use]
pub fn port_name(number: u32, stream: &str) -> String {
    // The guest writes all numbers as one type.
    let number = u64::from(number);
    compose(format_args!("virtinit.{number}.{stream}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_named_after_their_session() {
        assert_eq!(port_name(3, "stdout"), "virtinit.3.stdout");
    }
}
