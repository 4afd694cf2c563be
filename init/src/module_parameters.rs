//! The words of the kernel command line that are for modules.
//!
//! Source: kernel doc admin-guide/kernel-parameters.rst; finit_module(2).

use alloc::vec::Vec;

use virtinitrd_proto::words::Word;

/// The parameters for `module`, as finit_module(2) takes them: each of `words` that has
/// the form `MODULE.PARAM=VALUE`, without `MODULE.`. In the name of a module `-` and
/// `_` are the same.
#[must_use]
pub fn of_module(words: &[Word<'_>], module: &[u8]) -> Vec<u8> {
    let mut parameters = Vec::new();
    for word in words {
        let mut parts = word.param.splitn(2, |&byte| byte == b'.');
        let (Some(name), Some(parameter)) = (parts.next(), parts.next()) else { continue };
        if !same_module(name, module) {
            continue;
        }
        let quote: &[u8] = match word.value {
            Some(value) if value.iter().any(u8::is_ascii_whitespace) => b"\"",
            _ => b"",
        };
        let separator: &[u8] = if parameters.is_empty() { b"" } else { b" " };
        parameters.extend_from_slice(separator);
        parameters.extend_from_slice(parameter);
        if let Some(value) = word.value {
            for part in [b"=", quote, value, quote] {
                parameters.extend_from_slice(part);
            }
        }
    }
    parameters
}

/// Names of one module: `-` and `_` are the same (modprobe(8)).
fn same_module(a: &[u8], b: &[u8]) -> bool {
    let canonical = |byte: &u8| if *byte == b'-' { b'_' } else { *byte };
    a.iter().map(canonical).eq(b.iter().map(canonical))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::Config;
    use alloc::string::String;

    #[test]
    fn modules_get_their_parameters() {
        let line = b"loop.max_loop=3 usb-storage.quirks=\"a b\" loop.flag x.y=1 loop=2 l.oop.a=1";
        let config = Config::parse(line).unwrap();
        let parameters = |name: &str| {
            String::from_utf8(of_module(&config.module_words, name.as_bytes())).unwrap()
        };
        assert_eq!(parameters("loop"), "max_loop=3 flag");
        assert_eq!(parameters("usb_storage"), "quirks=\"a b\"");
        assert_eq!(parameters("l"), "oop.a=1");
        assert_eq!(parameters("virtio"), "");
    }
}
